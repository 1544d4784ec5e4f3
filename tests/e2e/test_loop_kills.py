"""The whole loop under kills of operator, trainers and servers: trained, served, drifted, retrained, replaced, as without."""

from pathlib import Path
from typing import Any

from kaizen.registry import audit, production, record, versions
from tests.support import chaos, service_stories, traffic, training
from tests.support.cluster import Cluster, Rejected
from tests.support.service_stories import SERVICE, WEEK, Lake, fresh_model, serves, service, windy
from tests.support.wait import until

SEED = 20261121
OPERATOR_KILLS = 20
END_SECONDS = 420


def test_kills_of_everything_change_nothing_of_the_end(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    model = fresh_model()
    storm = windy(training.table(4 * WEEK, seed=2, start=training.START + 12 * WEEK * training.HOUR))
    killer = chaos.Killer(lambda: chaos.kill_operator_pod(cluster), times=OPERATOR_KILLS, seed=SEED, shortest=1.0, longest=5.0)
    with service_stories.lake(cluster, namespace, tmp_path) as lake:
        killer.start()
        cluster.apply(service(model, training=service_stories.retraining(lake, cooldownSeconds=5)), namespace=namespace)
        _kill_running(cluster, namespace, "mlops.kaizen.dev/training-job")
        _wait_serves(cluster, namespace, 1)
        lake.add("second", storm)
        with traffic.flowing(cluster, namespace, SERVICE, model, storm, 40):
            _kill_running(cluster, namespace, f"mlops.kaizen.dev/service={SERVICE}")
            _kill_running(cluster, namespace, f"mlops.kaizen.dev/training-job={model}-auto-2", seconds=END_SECONDS)
            _wait_serves(cluster, namespace, 2)
        for _ in range(2):
            _kill_running(cluster, namespace, f"mlops.kaizen.dev/service={SERVICE}")
        killer.finish()
        cluster.wait_ready("kaizen-operator")
        _wait_serves(cluster, namespace, 2)
        assert killer.killed == OPERATOR_KILLS
        until("all is recorded", lambda: _end(lake, namespace, model) == CALM, 90, lambda: str(_end(lake, namespace, model)))
    names = sorted(body["metadata"]["name"] for body in cluster.list("trainingjob", namespace))
    assert names == [f"{model}-auto-1", f"{model}-auto-2"]
    trained = [
        body["metadata"]["name"] for body in cluster.list("job", namespace) if not body["metadata"]["name"].endswith("-rows")
    ]
    assert sorted(trained) == names
    assert sorted(body["metadata"]["name"] for body in cluster.list("modelversion", namespace)) == [f"{model}-v1", f"{model}-v2"]


CALM: dict[str, Any] = {
    "versions": [(1, "Committed"), (2, "Committed")],
    "serves": 2,
    "history": [1, 2],
    "audit": ["Registered", "PromotionIntended", "Promoted"] * 2,
    "broken": None,
    "jobs": (3, None, 2, 0, ["wind"]),
}
"""The end of the same story without kills."""


def _end(lake: Lake, namespace: str, model: str) -> dict[str, Any]:
    """What the bucket says, without what differs between any two runs."""
    pointer, known = production.read(lake.bucket, namespace, model, SERVICE), record.read(lake.bucket, namespace, model)
    return {
        "versions": [(one.version, one.state) for one in versions.list_versions(lake.bucket, namespace, model)],
        "serves": pointer.version if pointer else None,
        "history": [one.version for one in pointer.history] if pointer else [],
        "audit": [one.action for one in audit.records(lake.bucket, namespace, model)],
        "broken": audit.verify(audit.chain(lake.bucket, namespace, model)),
        "jobs": (
            known.next_job,
            known.open,
            known.last.number if known.last else None,
            known.failures_in_a_row,
            sorted(known.acknowledged),
        ),
    }


def _kill_running(cluster: Cluster, namespace: str, selector: str, seconds: float = 120) -> None:
    """Remove the first running Pod with these labels, without grace."""

    def running() -> dict[str, Any] | None:
        pods = cluster.list("pod", namespace, selector)
        return next((pod for pod in pods if pod["status"].get("phase") == "Running"), None)

    try:
        chaos.kill_pod(cluster, until(f"a running Pod of {selector}", running, seconds))
    except Rejected:
        return  # it ended by itself in this moment


def _wait_serves(cluster: Cluster, namespace: str, version: int) -> None:
    until(
        f"version {version} serves",
        lambda: serves(cluster, namespace, version),
        END_SECONDS,
        lambda: cluster.dump("inferenceservice", SERVICE, namespace),
    )
