"""What stories about single TrainingJobs share: how one ends, what it left in the bucket, and which Pods it had."""

import re
import sqlite3
from contextlib import closing
from typing import Any

from kaizen.core.distributed import INDEX
from kaizen.core.jobs import TRAINING_JOB_LABEL
from kaizen.registry import layout
from kaizen.registry.errors import Missing
from kaizen.registry.store import Bucket
from tests.support.cluster import Cluster, Object, condition_of
from tests.support.wait import until

ENDED_SECONDS = 300
"""A story of two or three Pods on a busy machine; it takes 20 to 60 s on a quiet one."""
FINISHED = ("COMPLETE", "PRUNED", "FAIL")


def ended(cluster: Cluster, namespace: str, name: str, seconds: float = ENDED_SECONDS) -> Object:
    """The TrainingJob, once Succeeded is True or False."""

    def look() -> Object | None:
        body = cluster.get("trainingjob", name, namespace)
        succeeded = condition_of(body, "Succeeded") if body else None
        return body if succeeded and succeeded["status"] != "Unknown" else None

    return until(f"trainingjob/{name} ends", look, seconds, lambda: explained(cluster, namespace, name))


def ended_as(cluster: Cluster, namespace: str, name: str, reason: str, seconds: float = ENDED_SECONDS) -> Object:
    """The TrainingJob, which must have ended for this reason."""
    body = ended(cluster, namespace, name, seconds)
    succeeded = condition_of(body, "Succeeded")
    assert succeeded is not None
    assert succeeded["reason"] == reason, f"{succeeded}\n{explained(cluster, namespace, name)}"
    return body


def explained(cluster: Cluster, namespace: str, name: str) -> str:
    """All that can be read about a TrainingJob."""
    words = ("--all-containers", "--prefix", "--tail=30", "--ignore-errors")
    logs = cluster.kubectl("logs", "--namespace", namespace, "--selector", f"{TRAINING_JOB_LABEL}={name}", *words)
    return f"{cluster.dump('trainingjob', name, namespace)}\n--- its Pods\n{logs}"


def pods(cluster: Cluster, namespace: str, name: str, index: int | None = None) -> list[Object]:
    """The Pods of a TrainingJob that are not being deleted; of one index."""
    found = cluster.list("pod", namespace, f"{TRAINING_JOB_LABEL}={name}" + ("" if index is None else f",{INDEX}={index}"))
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def running(cluster: Cluster, namespace: str, name: str, container: str, index: int | None = None) -> Object | None:
    """A Pod of a TrainingJob in which this container runs."""
    for pod in pods(cluster, namespace, name, index):
        status = pod["status"]
        states = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
        if any(one["name"] == container and "running" in one["state"] for one in states):
            return pod
    return None


def outcome(bucket: Bucket, namespace: str, job: Object) -> dict[str, Any]:
    """The run.json of a TrainingJob that ended."""
    return bucket.read(layout.run_outcome(namespace, job["metadata"]["uid"]))[0]


def over_time(document: dict[str, Any], name: str) -> list[tuple[int, float]]:
    """A metric of run.json over time: step and value."""
    return [(point["step"], point["value"]) for point in document["metricsOverTime"] if point["name"] == name]


def manifest(bucket: Bucket, namespace: str, model: str, version: int = 1) -> dict[str, Any]:
    """The manifest of a registered version."""
    return bucket.read(layout.manifest(namespace, model, version))[0]


def ended_trials(bucket: Bucket, namespace: str, job: Object) -> list[tuple[int, str, float | None]]:
    """The trials of the study in the bucket that ended and count: number, state and value, by number; doubles twice."""
    try:
        content = bucket.get(f"{layout.run(namespace, job['metadata']['uid'])}study.sqlite")[0]
    except Missing:
        return []
    query = """
        SELECT CAST(numbered.value_json AS INTEGER), trials.state, trial_values.value FROM trials
        JOIN trial_user_attributes AS numbered ON numbered.trial_id = trials.trial_id AND numbered.key = 'number'
        LEFT JOIN trial_user_attributes AS lost ON lost.trial_id = trials.trial_id AND lost.key = 'lost'
        LEFT JOIN trial_values ON trial_values.trial_id = trials.trial_id
        WHERE lost.key IS NULL
    """
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(content)
        return sorted(row for row in connection.execute(query).fetchall() if row[1] in FINISHED)


def tuned(body: Object) -> int | None:
    """How many trials `status.step` says have ended; None when it says something else."""
    found = re.fullmatch(r"Tuning (\d+)/\d+", body.get("status", {}).get("step", ""))
    return int(found[1]) if found else None
