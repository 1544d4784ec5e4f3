"""A search in the cluster: several Pods that share the trials of one study, whoever of them dies."""

import re
from typing import Any

import pytest

from kaizen.registry import versions
from tests.support import chaos, service_stories, training_stories
from tests.support.cluster import Cluster, condition_of
from tests.support.service_stories import Lake, fresh_model
from tests.support.wait import until

TRIALS = 8
SPACE = [
    {"parameter": "max_iter", "type": "Integer", "low": 600, "high": 1200},
    {"parameter": "learning_rate", "type": "Float", "low": 0.01, "high": 0.3, "log": True},
]
"""Some seconds a trial."""
SEARCH = {"trials": TRIALS, "parallelism": 2, "sampler": "TPE", "pruner": "None", "space": SPACE}


def search(cluster: Cluster, namespace: str, lake: Lake, **changes: Any) -> str:
    """Begin a search; returns its model."""
    model = fresh_model()
    cluster.apply(service_stories.job("search", model, lake, search={**SEARCH, **changes}), namespace=namespace)
    return model


def told(cluster: Cluster, namespace: str, trials: int) -> dict[str, Any]:
    """The TrainingJob, while its status tells of at least so many ended trials."""

    def look() -> dict[str, Any] | None:
        body = cluster.get("trainingjob", "search", namespace)
        return body if body and (training_stories.tuned(body) or 0) >= trials else None

    return until(f"{trials} trials are told", look, 180, lambda: training_stories.explained(cluster, namespace, "search"))


def test_search_of_two_workers_is_shown_while_it_goes_on_and_counted_at_its_end(
    cluster: Cluster, namespace: str, lake: Lake
) -> None:
    model = search(cluster, namespace, lake)
    status = told(cluster, namespace, 1)["status"]
    assert re.search(rf"Tuning [1-{TRIALS}]/{TRIALS} +log_loss=0\.\d+", cluster.kubectl("get", "ktj", "--namespace", namespace))
    assert status["search"]["finished"] >= 1
    assert "max_iter" in status["search"]["best"]["parameters"]
    assert status["metric"] == f"log_loss={status['search']['best']['value']:.4g}"
    assert status["progress"]["etaSeconds"] >= 0
    assert {pod["spec"]["hostname"] for pod in training_stories.pods(cluster, namespace, "search")} == {"search-0", "search-1"}
    body = training_stories.ended_as(cluster, namespace, "search", "Registered")
    assert {name: body["status"]["search"][name] for name in ("finished", "pruned", "failed")} == {
        "finished": TRIALS,
        "pruned": 0,
        "failed": 0,
    }
    trials = training_stories.ended_trials(lake.bucket, namespace, body)
    assert [(number, state) for number, state, _ in trials] == [(number, "COMPLETE") for number in range(TRIALS)]
    best = min(value for _, _, value in trials if value is not None)
    assert body["status"]["search"]["best"]["value"] == pytest.approx(best, abs=1e-6)
    found = training_stories.manifest(lake.bucket, namespace, model)["search"]
    assert found["best"]["value"] == best
    assert found["finished"] == TRIALS
    points = training_stories.over_time(training_stories.outcome(lake.bucket, namespace, body), "search/log_loss")
    assert points == [(number, value) for number, _, value in trials]
    until("the workers' Service is gone", lambda: not cluster.get("service", "search-workers", namespace), 20)


def test_killed_worker_and_killed_index_0_cost_their_running_trials_only(cluster: Cluster, namespace: str, lake: Lake) -> None:
    shorter = {**SPACE[0], "low": 400, "high": 800}
    model = search(cluster, namespace, lake, space=[shorter, *SPACE[1:]])
    told(cluster, namespace, 1)
    worker = until("worker 1 runs", lambda: training_stories.running(cluster, namespace, "search", "trainer", 1), 30)
    crash(cluster, worker)
    body = told(cluster, namespace, 3)
    before = training_stories.ended_trials(lake.bucket, namespace, body)
    first = until("index 0 runs", lambda: training_stories.running(cluster, namespace, "search", "trainer", 0), 30)
    crash(cluster, first)
    body = training_stories.ended_as(cluster, namespace, "search", "Registered")
    after = training_stories.ended_trials(lake.bucket, namespace, body)
    assert len(before) >= 3
    assert set(before) <= set(after)
    assert [(number, state) for number, state, _ in after] == [(number, "COMPLETE") for number in range(TRIALS)]
    assert body["status"]["search"]["finished"] == TRIALS
    assert training_stories.outcome(lake.bucket, namespace, body)["pod"] != first["metadata"]["uid"]
    assert [v.state for v in versions.list_versions(lake.bucket, namespace, model)] == ["Committed"]
    assert len(cluster.list("modelversion", namespace)) == 1
    until("the workers' Service is gone", lambda: not cluster.get("service", "search-workers", namespace), 20)


def test_auto_with_little_time_ends_with_a_version(cluster: Cluster, namespace: str, lake: Lake) -> None:
    changes: dict[str, Any] = {"estimator": {"name": "Auto"}, "search": {"trials": 100, "timeoutSeconds": 10}}
    model = fresh_model()
    cluster.apply(service_stories.job("search", model, lake, **changes), namespace=namespace)
    body = training_stories.ended_as(cluster, namespace, "search", "Registered")
    assert 1 <= body["status"]["search"]["finished"] < 100
    assert "estimator" in body["status"]["search"]["best"]["parameters"]
    found = training_stories.manifest(lake.bucket, namespace, model)
    assert found["estimator"]["name"] != "Auto"
    figures = {(one["name"], one["dataset"]): one["value"] for one in body["status"]["metrics"]}
    assert figures["log_loss", "test"] < figures["log_loss", "baseline"]
    cluster.wait_for("modelversion", f"{model}-v1", namespace, "Ready", "True", reason="Registered")


def test_search_for_an_unknown_parameter_is_refused_once(cluster: Cluster, namespace: str, lake: Lake) -> None:
    search(cluster, namespace, lake, space=[{"parameter": "max_itr", "type": "Integer", "low": 10, "high": 20}])
    body = training_stories.ended_as(cluster, namespace, "search", "InvalidSearch")
    stalled = condition_of(body, "Stalled")
    assert stalled is not None
    assert "search.space names max_itr" in stalled["message"]
    assert "did you mean max_iter" in stalled["message"]
    assert body["status"]["failure"]["exitCode"] == 10
    job = cluster.get("job", "search", namespace)
    assert job is not None
    assert job["status"]["failed"] <= 2
    assert len(cluster.list("pod", namespace)) <= 2
    until("the workers' Service is gone", lambda: not cluster.get("service", "search-workers", namespace), 20)


def test_namespace_goes_while_a_search_runs(cluster: Cluster, namespace: str, lake: Lake) -> None:
    search(cluster, namespace, lake)
    until(
        "both run",
        lambda: all(training_stories.running(cluster, namespace, "search", "trainer", index) for index in (0, 1)),
        60,
        lambda: training_stories.explained(cluster, namespace, "search"),
    )
    cluster.kubectl("delete", "namespace", namespace, "--timeout=60s", seconds=65)
    cluster.kubectl("create", "namespace", namespace)


def crash(cluster: Cluster, pod: dict[str, Any]) -> None:
    """SIGKILL, and a Pod that is gone."""
    chaos.kill_process(cluster, pod)
    chaos.kill_pod(cluster, pod)
