"""A queue owns when a run runs: a stand-in for Kueue admits and evicts, as its job reconciler does, and nobody fights it.

What Kueue does to a Job: it writes node selectors and labels into the Pod template and unsuspends in one update, and on
eviction it suspends, waits for the Pods to go, and takes back what it wrote.
"""

import json
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.support import training
from tests.support.cluster import Cluster, Rejected, condition_of
from tests.support.objects import training_job
from tests.support.wait import throughout, until

MODEL = f"m-{uuid.uuid4().hex[:8]}"
QUEUE = "kueue.x-k8s.io/queue-name"
LABELS = {QUEUE: "small", "kueue.x-k8s.io/priority-class": "low", "kueue.x-k8s.io/max-exec-time-seconds": "600"}
FLAVOUR = {"kubernetes.io/os": "linux"}
TRAINING_SECONDS = 180
LOOK_SECONDS = 0.3
QUIET_SECONDS = 5


class Queue:
    """Brings every Job with the queue's label to what `admitted` says, from a thread of its own."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.admitted = threading.Event()
        self.writes = 0
        """How often a Job's spec was changed here: what else changes its generation was somebody else."""
        self._cluster = cluster
        self._namespace = namespace
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue", daemon=True)

    def __enter__(self) -> "Queue":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            for job in self._cluster.list("jobs", self._namespace, selector=f"{QUEUE}=small"):
                self._reconcile(job)

    def _reconcile(self, job: dict[str, Any]) -> None:
        if any(one["type"] in ("Complete", "Failed") for one in job["status"].get("conditions", ()) if one["status"] == "True"):
            return
        suspended, template = job["spec"]["suspend"], job["spec"]["template"]["spec"]
        if self.admitted.is_set() and suspended:
            self._patch(job, {"suspend": False, "template": {"spec": {"nodeSelector": FLAVOUR}}})
        elif not self.admitted.is_set() and not suspended:
            self._patch(job, {"suspend": True})
        elif suspended and template.get("nodeSelector") and not job["status"].get("startTime"):
            self._patch(job, {"template": {"spec": {"nodeSelector": None}}})

    def _patch(self, job: dict[str, Any], spec: dict[str, Any]) -> None:
        metadata = job["metadata"]
        guarded = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "spec": spec}
        words = (
            "patch",
            "job",
            metadata["name"],
            "--namespace",
            self._namespace,
            "--type",
            "merge",
            "--patch",
            json.dumps(guarded),
        )
        try:
            self._cluster.kubectl(*words)
        except Rejected as problem:
            if "Conflict" not in str(problem) and "object has been modified" not in str(problem):
                raise
            return
        self.writes += 1


@pytest.fixture
def lake(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """Rows where the namespace's own Pods may read."""
    rows = training.write(training.table(2000), tmp_path / "rows.parquet")
    cluster.bucket().put(f"workloads/{namespace}/lake/rows.parquet", rows.read_bytes())


def queued(namespace: str) -> dict[str, Any]:
    body = training_job("queued")
    estimator = {"name": "HistGradientBoostingClassifier", "parameters": {"max_iter": 1500}}  # Long enough to be preempted.
    spec = training.document(f"s3://kaizen/workloads/{namespace}/lake/", model=MODEL, estimator=estimator)
    return {**body, "metadata": {"name": "queued", "labels": LABELS}, "spec": spec}


def pods(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    return cluster.list("pods", namespace, selector="mlops.kaizen.dev/training-job=queued")


def test_queue_decides_when_a_run_runs(cluster: Cluster, namespace: str, lake: None) -> None:
    with Queue(cluster, namespace) as queue:
        cluster.apply(queued(namespace), namespace=namespace)
        cluster.wait_for("trainingjob", "queued", namespace, "Suspended", "True", reason="Queued")
        job = cluster.get("job", "queued", namespace)
        assert job is not None
        assert LABELS.items() <= job["metadata"]["labels"].items()

        def let_go() -> str | None:
            found = cluster.get("job", "queued", namespace)
            still = found is not None and found["spec"]["suspend"] and found["metadata"]["generation"] == 1
            return None if still and not pods(cluster, namespace) else "somebody has changed the Job"

        throughout("only the queue lets it go", let_go, QUIET_SECONDS)

        queue.admitted.set()
        until(
            "a Pod runs where the queue said",
            lambda: [
                pod
                for pod in pods(cluster, namespace)
                if pod["status"]["phase"] == "Running" and FLAVOUR.items() <= pod["spec"].get("nodeSelector", {}).items()
            ],
            TRAINING_SECONDS,
            lambda: cluster.dump("trainingjob", "queued", namespace),
        )
        # Preempted in the middle of the run.
        queue.admitted.clear()
        cluster.wait_for("trainingjob", "queued", namespace, "Suspended", "True", reason="Queued", seconds=60)
        until("its Pods are gone", lambda: not pods(cluster, namespace), 60, lambda: cluster.dump("job", "queued", namespace))
        body = cluster.get("trainingjob", "queued", namespace)
        assert body is not None
        succeeded = condition_of(body, "Succeeded")
        assert succeeded is not None
        assert succeeded["status"] == "Unknown"

        queue.admitted.set()
        cluster.wait_for("trainingjob", "queued", namespace, "Succeeded", "True", reason="Registered", seconds=TRAINING_SECONDS)
        job = cluster.get("job", "queued", namespace)
        assert job is not None
        assert job["metadata"]["generation"] == 1 + queue.writes
        body = cluster.get("trainingjob", "queued", namespace)
        assert body is not None
        assert condition_of(body, "Suspended") is None


def test_person_who_suspends_a_queued_run_is_told_whose_it_is(cluster: Cluster, namespace: str, lake: None) -> None:
    with Queue(cluster, namespace) as queue:
        cluster.apply(queued(namespace), namespace=namespace)
        queue.admitted.set()
        until(
            "the run is admitted",
            lambda: not (cluster.get("job", "queued", namespace) or {"spec": {"suspend": True}})["spec"]["suspend"],
            60,
            lambda: cluster.dump("job", "queued", namespace),
        )
        cluster.kubectl(
            "patch",
            "trainingjob",
            "queued",
            "--namespace",
            namespace,
            "--type",
            "merge",
            "--patch",
            '{"spec": {"suspend": true}}',
        )
        cluster.wait_for("trainingjob", "queued", namespace, "Ready", "False", reason="SuspendOwnedByQueue")
        job = cluster.get("job", "queued", namespace)
        assert job is not None
        assert job["spec"]["suspend"] is False
