"""A service that watches its requests: what looks like the training data changes nothing, what does not is trained on."""

from typing import Any

from tests.support import service_stories, traffic, training
from tests.support.cluster import Cluster, condition_of
from tests.support.service_stories import (
    READY_SECONDS,
    SERVICE,
    TRAINING_SECONDS,
    WEEK,
    Lake,
    fresh_model,
    serves,
    service,
    windy,
)
from tests.support.wait import throughout, until

FIRST_SECONDS = TRAINING_SECONDS + READY_SECONDS
A_SECOND = 40
"""Rows: two weeks of the hourly table in a span of ten seconds or so."""


def apply(cluster: Cluster, namespace: str, model: str, lake: Lake, **changes: Any) -> None:
    """The service with its training; one YAML is enough."""
    cluster.apply(service(model, training=service_stories.retraining(lake, **changes)), namespace=namespace)


def wait_serves(cluster: Cluster, namespace: str, version: int, seconds: float = FIRST_SECONDS) -> dict[str, Any]:
    return until(
        f"version {version} serves",
        lambda: serves(cluster, namespace, version),
        seconds,
        lambda: cluster.dump("inferenceservice", SERVICE, namespace),
    )


def monitoring(cluster: Cluster, namespace: str) -> dict[str, Any]:
    body = cluster.get("inferenceservice", SERVICE, namespace)
    found: dict[str, Any] = (body or {}).get("status", {}).get("monitoring", {})
    return found


def test_drift_waits_for_data_and_then_replaces_the_model(cluster: Cluster, namespace: str, lake: Lake) -> None:
    model = fresh_model()
    apply(cluster, namespace, model, lake)
    wait_serves(cluster, namespace, 1)
    storm = windy(training.table(4 * WEEK, seed=2, start=training.START + 12 * WEEK * training.HOUR))
    with traffic.flowing(cluster, namespace, SERVICE, model, storm, A_SECOND):
        blocked = cluster.wait_for(
            "inferenceservice", SERVICE, namespace, "TrainingBlocked", "True", reason="WaitingForLabelledData", seconds=90
        )
        healthy = condition_of(blocked, "Healthy")
        assert healthy is not None
        assert (healthy["status"], healthy["reason"]) == ("False", "DataDrift")
        assert "wind (PSI" in healthy["message"]
        (wind,) = [one for one in blocked["status"]["monitoring"]["features"] if one["name"] == "wind"]
        assert wind["drifted"]
        assert wind["distance"] > wind["threshold"]
        condition = condition_of(blocked, "TrainingBlocked")
        assert condition is not None
        assert condition["message"].startswith("0 labelled rows are newer")
        assert [body["metadata"]["name"] for body in cluster.list("trainingjob", namespace)] == [f"{model}-auto-1"]
        lake.add("second", storm)
        body = wait_serves(cluster, namespace, 2, seconds=FIRST_SECONDS + 90)
        assert body["status"]["training"]["lastTrigger"] == "DataDrift"
        assert body["status"]["training"]["lastTrainingJobName"] == f"{model}-auto-2"
        answered = until(
            "a verdict on version 2",
            lambda: (found := monitoring(cluster, namespace)).get("verdict") == "Stable" and found,
            90,
            lambda: cluster.dump("inferenceservice", SERVICE, namespace),
        )
        # What the successor was trained on does not fire again.
        throughout("no third job", lambda: _jobs(cluster, namespace, model, 2), 15)
    (wind,) = [one for one in answered["features"] if one["name"] == "wind"]
    assert not wind["drifted"]
    assert [one["version"] for one in body["status"]["history"]] == [1, 2]


def test_replay_of_the_training_period_starts_nothing(cluster: Cluster, namespace: str, lake: Lake) -> None:
    model = fresh_model()
    apply(cluster, namespace, model, lake, minimumNewRows=0, consecutiveWindows=1)
    wait_serves(cluster, namespace, 1)
    seen: set[str] = set()

    def look() -> str | None:
        found = monitoring(cluster, namespace)
        if found:
            seen.add(f"{found['verdict']} {found['spanEnd']}")
        return f"a verdict says {found}" if found.get("verdict") == "Drifted" else _jobs(cluster, namespace, model, 1)

    # Twelve weeks, a week in five seconds.
    with traffic.flowing(cluster, namespace, SERVICE, model, training.table(12 * WEEK), WEEK / 5):
        throughout("nothing drifts", look, 65)

        def enough() -> bool:
            assert not (problem := look()), problem
            return len([one for one in seen if one.startswith("Stable")]) >= 8

        until("eight spans are stable", enough, 120, lambda: str(sorted(seen)))
    body = cluster.wait_for("inferenceservice", SERVICE, namespace, "Healthy", "True", reason="Stable")
    assert "TrainingBlocked" not in {condition["type"] for condition in body["status"]["conditions"]}


def test_failed_first_training_is_said_on_the_service_and_mended_by_an_edit(cluster: Cluster, namespace: str, lake: Lake) -> None:
    model = fresh_model()
    wrong = service_stories.retraining(lake, cooldownSeconds=3600)
    wrong["template"]["data"]["target"] = "latte"
    cluster.apply(service(model, training=wrong), namespace=namespace)
    body = cluster.wait_for("inferenceservice", SERVICE, namespace, "Ready", "Unknown", reason="WaitingForVersion", seconds=90)
    body = cluster.wait_for("inferenceservice", SERVICE, namespace, "TrainingBlocked", "True", seconds=FIRST_SECONDS)
    ready = condition_of(body, "Ready")
    assert ready is not None
    assert "TargetNotFound" in ready["message"]
    assert "did you mean late" in ready["message"]
    apply(cluster, namespace, model, lake)
    wait_serves(cluster, namespace, 1)


def _jobs(cluster: Cluster, namespace: str, model: str, most: int) -> str | None:
    """A problem when more TrainingJobs than these were made."""
    names = sorted(body["metadata"]["name"] for body in cluster.list("trainingjob", namespace))
    return None if names == [f"{model}-auto-{number}" for number in range(1, most + 1)] else f"there are {names}"
