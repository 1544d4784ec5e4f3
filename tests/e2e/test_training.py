"""A TrainingJob in the cluster: from files in a bucket to a registered version, or to a sentence that says why not."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from kaizen.registry import layout, versions
from kaizen.registry.store import Bucket
from kaizen.training.progress import STEPS
from tests.support import chaos, training
from tests.support.cluster import Cluster, condition_of
from tests.support.objects import training_job
from tests.support.wait import until

MODEL = f"m-{uuid.uuid4().hex[:8]}"
"""Of this run of the tests alone: the registry keeps every version, also of namespaces that are gone."""
TRAINING_SECONDS = 120
"""One small training on a busy machine; it takes 5 s on a quiet one."""


@pytest.fixture
def lake(cluster: Cluster, namespace: str, tmp_path: Path) -> Bucket:
    """The embedded bucket, with two thousand rows where the namespace's own Pods may read."""
    bucket = cluster.bucket()
    rows = training.write(training.table(2000), tmp_path / "rows.parquet")
    bucket.put(f"workloads/{namespace}/lake/rows.parquet", rows.read_bytes())
    return bucket


def job(namespace: str, name: str = "first", **changes: Any) -> dict[str, Any]:
    body = training_job(name)
    return {**body, "spec": training.document(f"s3://kaizen/workloads/{namespace}/lake/", model=MODEL, **changes)}


def test_job_becomes_a_registered_version(cluster: Cluster, namespace: str, lake: Bucket) -> None:
    cluster.apply(job(namespace), namespace=namespace)
    body = cluster.wait_for("trainingjob", "first", namespace, "Succeeded", "True", reason="Registered", seconds=TRAINING_SECONDS)
    status = body["status"]
    assert status["modelVersionName"] == f"{MODEL}-v1"
    assert status["data"]["rows"] == 2000
    assert status["progress"] == {"done": len(STEPS), "total": len(STEPS)}
    figures = {(m["name"], m["dataset"]): m["value"] for m in status["metrics"]}
    assert figures["roc_auc", "test"] > 0.8
    assert figures["log_loss", "test"] < figures["log_loss", "baseline"]
    version = cluster.wait_for("modelversion", f"{MODEL}-v1", namespace, "Ready", "True", reason="Registered")
    assert version["status"]["engine"]["name"] == "compiled"
    assert version["status"]["stage"] == "Candidate"
    assert "ownerReferences" not in version["metadata"]
    found = versions.list_visible(lake, namespace, MODEL)
    assert [(v.version, v.digest) for v in found] == [(1, version["spec"]["digest"])]
    assert versions.find_mismatch(lake, namespace, MODEL, 1) is None


def test_version_outlives_its_job(cluster: Cluster, namespace: str, lake: Bucket) -> None:
    body = job(namespace)
    body["spec"]["ttlSecondsAfterFinished"] = 0
    cluster.apply(body, namespace=namespace)
    until(
        "the finished job is deleted",
        lambda: cluster.get("modelversion", f"{MODEL}-v1", namespace) and not cluster.get("trainingjob", "first", namespace),
        TRAINING_SECONDS,
        lambda: cluster.dump("trainingjob", "first", namespace),
    )
    cluster.wait_for("modelversion", f"{MODEL}-v1", namespace, "Ready", "True")


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "estimator": (
        {"estimator": {"name": "HistGradientBostingClassifier"}},
        "InvalidEstimator",
        "did you mean HistGradientBoostingClassifier",
    ),
    "target": ({"data": {"target": "latte"}}, "TargetNotFound", "did you mean late"),
    "nothing there": (
        {"data": {"sources": [{"name": "rows", "uri": "s3://kaizen/workloads/NS/nowhere/"}]}},
        "DataMissing",
        "nowhere",
    ),
}


@pytest.mark.parametrize(("changes", "reason", "sentence"), BAD.values(), ids=BAD)
def test_what_cannot_be_trained_is_said_in_one_sentence_and_not_retried(
    cluster: Cluster, namespace: str, lake: Bucket, changes: dict[str, Any], reason: str, sentence: str
) -> None:
    body = job(namespace, **json.loads(json.dumps(changes).replace("NS", namespace)))
    cluster.apply(body, namespace=namespace)
    failed = cluster.wait_for("trainingjob", "first", namespace, "Succeeded", "False", reason=reason, seconds=TRAINING_SECONDS)
    stalled = condition_of(failed, "Stalled")
    assert stalled is not None
    assert sentence in stalled["message"]
    assert failed["status"]["failure"]["exitCode"] == 10
    assert len(cluster.list("pod", namespace)) == 1
    assert versions.list_versions(lake, namespace, MODEL) == ()


def test_namespace_made_anew_gets_what_its_pods_need(cluster: Cluster, namespace: str) -> None:
    for _ in range(2):
        cluster.apply(training_job(), namespace=namespace)
        until("a training Pod is made", lambda: cluster.list("pod", namespace), 30)
        cluster.kubectl("delete", "namespace", namespace, "--timeout=60s", seconds=65)
        cluster.kubectl("create", "namespace", namespace)


def test_suspended_job_waits_and_goes_on(cluster: Cluster, namespace: str, lake: Bucket) -> None:
    body = job(namespace)
    body["spec"]["suspend"] = True
    cluster.apply(body, namespace=namespace)
    cluster.wait_for("trainingjob", "first", namespace, "Ready", "Unknown", reason="Suspended")
    assert cluster.list("pod", namespace) == []
    body["spec"]["suspend"] = False
    cluster.apply(body, namespace=namespace)
    cluster.wait_for("trainingjob", "first", namespace, "Succeeded", "True", seconds=TRAINING_SECONDS)


def test_killed_trainer_and_operator_leave_one_job_and_one_version(cluster: Cluster, namespace: str, lake: Bucket) -> None:
    cluster.apply(job(namespace), namespace=namespace)
    pod = until("a training Pod runs", lambda: _running(cluster, namespace), 60)
    chaos.crash_pod(cluster, pod)
    chaos.kill_operator_pod(cluster)
    until("a second attempt runs", lambda: _running(cluster, namespace, other_than=pod["metadata"]["uid"]), 90)
    chaos.kill_operator_pod(cluster)
    cluster.wait_for("trainingjob", "first", namespace, "Succeeded", "True", reason="Registered", seconds=TRAINING_SECONDS)
    assert len(cluster.list("job", namespace)) == 1
    assert [v.state for v in versions.list_versions(lake, namespace, MODEL)] == ["Committed"]
    assert len(cluster.list("modelversion", namespace)) == 1


def test_files_that_were_changed_after_the_run_never_become_a_version(cluster: Cluster, namespace: str, lake: Bucket) -> None:
    cluster.kubectl("scale", "deployment/kaizen-operator", "--replicas=1", "--namespace", "kaizen-system")
    slow = {"name": "HistGradientBoostingClassifier", "parameters": {"max_iter": 1500}}  # until the operator is gone
    cluster.apply(job(namespace, estimator=slow), namespace=namespace)
    uid = until("the job is there", lambda: cluster.get("trainingjob", "first", namespace), 10)["metadata"]["uid"]
    until("a training Pod runs", lambda: _running(cluster, namespace), 60)
    cluster.kubectl("scale", "deployment/kaizen-operator", "--replicas=0", "--namespace", "kaizen-system")
    try:
        until("the run is over", lambda: _outcome(lake, namespace, uid), TRAINING_SECONDS)
        outcome = _outcome(lake, namespace, uid)
        assert outcome is not None
        lake.put(f"{outcome['model']}engine.json", b"{}")
    finally:
        cluster.kubectl("scale", "deployment/kaizen-operator", "--replicas=1", "--namespace", "kaizen-system")
        cluster.wait_ready("kaizen-operator")
    failed = cluster.wait_for("trainingjob", "first", namespace, "Succeeded", "False", reason="RegistrationFailed", seconds=60)
    assert "engine.json" in failed["status"]["failure"]["message"]
    assert versions.list_visible(lake, namespace, MODEL) == ()


def _running(cluster: Cluster, namespace: str, other_than: str = "") -> dict[str, Any] | None:
    pods = cluster.list("pod", namespace)
    return next(
        (p for p in pods if p["status"].get("phase") in ("Running", "Succeeded") and p["metadata"]["uid"] != other_than), None
    )


def _outcome(bucket: Bucket, namespace: str, uid: str) -> dict[str, Any] | None:
    entries = [entry.key for entry in bucket.list(layout.run(namespace, uid))]
    if layout.run_outcome(namespace, uid) not in entries:
        return None
    return bucket.read(layout.run_outcome(namespace, uid))[0]
