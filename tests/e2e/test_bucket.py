"""The bucket in the cluster: who may do what on the embedded server, and what users see while it is away."""

import json

import pytest

from kaizen.registry.claim import CLAIM
from kaizen.registry.errors import Refused
from kaizen.registry.store import Bucket
from tests.support.cluster import SYSTEM, Cluster, condition_of
from tests.support.objects import inference_service, training_job
from tests.support.wait import until

RECOVERY_SECONDS = 90
"""The operator looks at its bucket every 30 s, and a Pod takes a while to come back."""


def test_workloads_write_their_part_and_read_the_registry(cluster: Cluster) -> None:
    operator, workload = _buckets(cluster)
    operator.put("registry/flights/m/index.json", b"[]")
    workload.put("workloads/flights/runs/1/progress.json", b"{}")
    assert workload.get("workloads/flights/runs/1/progress.json")[0] == b"{}"
    assert workload.get("registry/flights/m/index.json")[0] == b"[]"
    with pytest.raises(Refused):
        workload.put("registry/flights/m/index.json", b"forged")
    with pytest.raises(Refused):
        workload.put(CLAIM, b"forged")
    with pytest.raises(Refused):
        workload.call(lambda s3: s3.delete_object(Bucket="kaizen", Key="workloads/flights/runs/1/progress.json"), "object")
    assert operator.get("registry/flights/m/index.json")[0] == b"[]"
    for entry in (*operator.list("registry/flights/"), *operator.list("workloads/flights/")):
        operator.call(lambda s3, key=entry.key: s3.delete_object(Bucket="kaizen", Key=key), entry.key)  # type: ignore[misc]


def test_the_bucket_records_whose_it_is(cluster: Cluster) -> None:
    operator, _ = _buckets(cluster)
    document, _ = operator.read(CLAIM)
    system = json.loads(cluster.kubectl("get", "namespace", "kube-system", "--output", "json"))
    assert document["clusterUID"] == system["metadata"]["uid"]


def test_another_clusters_bucket_is_left_alone(cluster: Cluster, namespace: str) -> None:
    operator, _ = _buckets(cluster)
    system = json.loads(cluster.kubectl("get", "namespace", "kube-system", "--output", "json"))
    own = json.dumps({"clusterUID": system["metadata"]["uid"]}).encode()
    cluster.apply(training_job(suspend=True), namespace=namespace)
    try:
        operator.put(CLAIM, json.dumps({"clusterUID": "another"}).encode())
        body = cluster.wait_for(
            "trainingjob", "flights-q1", namespace, "Ready", "Unknown",
            reason="BucketBelongsToAnotherCluster", seconds=RECOVERY_SECONDS,
        )  # fmt: skip
        ready = condition_of(body, "Ready")
        assert ready is not None
        assert "set another prefix, or delete that file if that cluster is gone" in ready["message"]
    finally:
        operator.put(CLAIM, own)
    cluster.wait_for("trainingjob", "flights-q1", namespace, "Ready", "Unknown", reason="Suspended", seconds=RECOVERY_SECONDS)


def test_users_see_that_the_bucket_is_away_and_nothing_is_lost(cluster: Cluster, namespace: str) -> None:
    cluster.apply(inference_service(), namespace=namespace)
    cluster.wait_for("inferenceservice", "flight-delay", namespace, "Ready", "Unknown", reason="WaitingForVersion")
    try:
        cluster.kubectl("scale", "deployment/kaizen-s3", "--replicas=0", "--namespace", SYSTEM)
        body = cluster.wait_for(
            "inferenceservice", "flight-delay", namespace, "Ready", "Unknown",
            reason="BucketUnreachable", seconds=RECOVERY_SECONDS,
        )  # fmt: skip
        reconciling, ready = condition_of(body, "Reconciling"), condition_of(body, "Ready")
        assert reconciling is not None
        assert ready is not None
        assert "bucket kaizen at http://kaizen-s3" in ready["message"].lower()
        assert cluster.metrics()["kaizen_bucket_usable"] == 0
    finally:
        cluster.kubectl("scale", "deployment/kaizen-s3", "--replicas=1", "--namespace", SYSTEM)
        cluster.wait_ready("kaizen-s3")
    cluster.wait_for(
        "inferenceservice", "flight-delay", namespace, "Ready", "Unknown", reason="WaitingForVersion", seconds=RECOVERY_SECONDS
    )
    until("the metric says so, too", lambda: cluster.metrics()["kaizen_bucket_usable"] == 1, 10)


def _buckets(cluster: Cluster) -> tuple[Bucket, Bucket]:
    """The bucket as the operator and as a workload see it."""
    return cluster.bucket(), cluster.bucket("WORKLOAD")
