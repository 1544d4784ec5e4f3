"""A user's own image trains: what it leaves is judged and registered, and how it ended is told."""

from typing import Any

from kaizen.registry import layout, versions
from tests.support import chaos, service_stories, training_stories
from tests.support.cluster import Cluster
from tests.support.container_stories import EAT, GIVE_UP, MEET, RESUME, TRAIN, container
from tests.support.service_stories import Lake, fresh_model
from tests.support.wait import until

EPOCHS = 12


def run(cluster: Cluster, namespace: str, lake: Lake, wanted: dict[str, Any], **changes: Any) -> str:
    """Begin a run of the user's own container; returns its model."""
    model = fresh_model()
    body = service_stories.job("own", model, lake, container=wanted, **changes)
    del body["spec"]["estimator"]
    cluster.apply(body, namespace=namespace)
    return model


def test_what_the_container_leaves_becomes_a_version(cluster: Cluster, namespace: str, lake: Lake) -> None:
    model = run(cluster, namespace, lake, container(cluster, TRAIN))
    body = training_stories.ended_as(cluster, namespace, "own", "Registered")
    assert len(training_stories.pods(cluster, namespace, "own")) == 1
    figures = {(one["name"], one["dataset"]): one["value"] for one in body["status"]["metrics"]}
    assert figures["roc_auc", "test"] > 0.75
    document = training_stories.outcome(lake.bucket, namespace, body)
    steps, values = zip(*training_stories.over_time(document, "accuracy"), strict=True)
    assert steps == tuple(range(1, EPOCHS + 1))
    assert values[-1] > values[0]
    assert document["parameters"]["epochs"] == EPOCHS
    version = cluster.wait_for("modelversion", f"{model}-v1", namespace, "Ready", "True", reason="Registered")
    assert version["status"]["stage"] == "Candidate"
    assert versions.find_mismatch(lake.bucket, namespace, model, 1) is None


def test_code_that_gives_up_is_tried_again_and_its_last_words_are_told(cluster: Cluster, namespace: str, lake: Lake) -> None:
    run(cluster, namespace, lake, container(cluster, GIVE_UP), backoffLimit=1)
    body = training_stories.ended_as(cluster, namespace, "own", "ExitCode")
    failure = body["status"]["failure"]
    assert (failure["step"], failure["exitCode"]) == ("Train", 3)
    assert "exit code 3" in failure["message"]
    assert failure["message"].endswith("there are 7 gradients too few")
    assert len(cluster.list("pod", namespace)) == 2


def test_code_that_needs_too_much_memory_is_told_its_limit(cluster: Cluster, namespace: str, lake: Lake) -> None:
    limited = {"resources": {"limits": {"memory": "100Mi"}}}
    run(cluster, namespace, lake, container(cluster, EAT), pod=limited, backoffLimit=0)
    body = training_stories.ended_as(cluster, namespace, "own", "OOMKilled")
    failure = body["status"]["failure"]
    assert failure["step"] == "Train"
    assert failure["message"] == "The container needed more memory than its limit of 100Mi: raise pod.resources.limits.memory."


def test_killed_code_goes_on_from_its_checkpoint(cluster: Cluster, namespace: str, lake: Lake) -> None:
    model = run(cluster, namespace, lake, container(cluster, RESUME, TRAIN))
    job = until("the job is there", lambda: cluster.get("trainingjob", "own", namespace), 10)
    checkpoints = f"{layout.run(namespace, job['metadata']['uid'])}checkpoints/"
    until(
        "the checkpoint is safe",
        lambda: [entry for entry in lake.bucket.list(checkpoints) if entry.key == f"{checkpoints}0.json"],
        60,
        lambda: training_stories.explained(cluster, namespace, "own"),
    )
    pod = until("it runs", lambda: training_stories.running(cluster, namespace, "own", "training"), 30)
    chaos.kill_pod(cluster, pod)
    body = training_stories.ended_as(cluster, namespace, "own", "Registered")
    document = training_stories.outcome(lake.bucket, namespace, body)
    assert document["pod"] != pod["metadata"]["uid"]
    assert training_stories.over_time(document, "resumed") == [(0, 7)]
    assert [v.state for v in versions.list_versions(lake.bucket, namespace, model)] == ["Committed"]


def test_replicas_find_each_other_and_rank_0_leaves_the_model(cluster: Cluster, namespace: str, lake: Lake) -> None:
    # Both at once, on a node of two cores.
    resources = {"requests": {"cpu": "100m", "memory": "256Mi"}}
    further = {"spec": {"containers": [{"name": name, "resources": resources} for name in ("data", "trainer")]}}
    wanted = container(cluster, MEET, TRAIN, replicas=2)
    model = run(cluster, namespace, lake, wanted, pod={"resources": resources}, podTemplate=further)
    body = training_stories.ended_as(cluster, namespace, "own", "Registered")
    document = training_stories.outcome(lake.bucket, namespace, body)
    assert training_stories.over_time(document, "heard") == [(0, 1)]
    assert len(training_stories.over_time(document, "accuracy")) == EPOCHS
    assert [v.state for v in versions.list_versions(lake.bucket, namespace, model)] == ["Committed"]
    until("the members' Service is gone", lambda: not cluster.get("service", "own-workers", namespace), 20)
