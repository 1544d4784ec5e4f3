"""What a run says of data and model: gates of every kind, anomalies, files to read, and that it was all done before."""

import re
from typing import Any

from kaizen.registry import layout, versions
from tests.support import service_stories, training_stories
from tests.support.cluster import Cluster, condition_of
from tests.support.service_stories import Lake, fresh_model

GATES: list[dict[str, Any]] = [
    {"name": "good", "metric": "roc_auc", "atLeast": 0.7},
    {"name": "each-carrier", "metric": "roc_auc", "atLeast": 0.5, "slices": ["carrier"], "minimumGroupRows": 50},
    {
        "name": "fair",
        "metric": "demographic_parity_difference",
        "sensitiveFeature": "weekend",
        "atMost": 0.9,
        "minimumGroupRows": 50,
    },
    {"name": "robust", "metric": "roc_auc", "perturbation": "MissingValues", "dropAtMost": 0.4},
    {"name": "fast", "metric": "latency_p99_seconds", "atMost": 1.0},
    {"name": "perfect", "metric": "accuracy", "atLeast": 0.999},
    {"name": "wish", "metric": "log_loss", "atMost": 0.001, "required": False},
]
REGISTERED = {"MLmodel", "README.md", "manifest.json", "model.skops", "pipeline.py", "report.html", "schema.json"}


def test_all_gates_are_judged_and_a_failed_required_one_rejects_the_version(cluster: Cluster, namespace: str, lake: Lake) -> None:
    model = fresh_model()
    wanted = {"gates": GATES, "data": {"query": "SELECT *, 1 AS constant FROM rows"}}
    cluster.apply(service_stories.job("first", model, lake, **wanted), namespace=namespace)
    body = training_stories.ended_as(cluster, namespace, "first", "GatesFailed")
    status = body["status"]

    # The gates, one by one.
    succeeded = condition_of(body, "Succeeded")
    assert succeeded is not None
    assert (succeeded["status"], succeeded["message"]) == (
        "True",
        "Version 1 is registered as rejected: gate perfect failed.",
    )
    gates = {gate["name"]: gate for gate in status["gates"]}
    assert {name: (gate["outcome"], gate["passed"], gate["required"]) for name, gate in gates.items()} == {
        **dict.fromkeys(("good", "each-carrier", "fair", "robust", "fast"), ("Passed", True, True)),
        "perfect": ("Failed", False, True),
        "wish": ("Failed", False, False),
    }
    assert {name: gate["limit"] for name, gate in gates.items()} == {
        "good": 0.7, "each-carrier": 0.5, "fair": 0.9, "robust": 0.4, "fast": 1.0, "perfect": 0.999, "wish": 0.001
    }  # fmt: skip
    for gate in gates.values():
        assert gate["low"] <= gate["value"] <= gate["high"], gate
        assert gate["message"], gate
    assert gates["good"]["value"] > 0.8
    assert gates["perfect"]["value"] < 0.999
    version = cluster.wait_for("modelversion", f"{model}-v1", namespace, "Ready", "True", reason="GatesFailed")
    assert version["status"]["stage"] == "Rejected"
    assert version["status"]["gates"] == status["gates"]

    # What was odd about the data.
    (anomaly,) = status["data"]["anomalies"]
    assert (anomaly["code"], anomaly["severity"], anomaly["column"]) == ("FEATURE_TYPE_LOW_UNIQUE", "Warning", "constant")
    assert "column constant is 1 in all 2016 rows" in anomaly["message"]

    # What is left in the bucket.
    prefix = layout.version(namespace, model, 1)
    assert {entry.key.removeprefix(prefix) for entry in lake.bucket.list(prefix)} >= REGISTERED
    assert versions.find_mismatch(lake.bucket, namespace, model, 1) is None
    manifest = training_stories.manifest(lake.bucket, namespace, model)
    assert manifest["dataDigest"] == status["data"]["digest"]
    document = training_stories.outcome(lake.bucket, namespace, body)
    assert document["codeDigest"] == manifest["codeDigest"]
    assert 0 < document["cpuSeconds"] < 120
    assert 0 < document["durationSeconds"] < 120
    assert 50 * 2**20 < document["peakMemoryBytes"] < 2**30
    dataset, _ = lake.bucket.read(f"{layout.dataset(namespace, status['data']['digest'])}croissant.json")
    assert dataset["conformsTo"] == "http://mlcommons.org/croissant/1.1"


def test_same_job_again_points_at_the_version_that_is_there(cluster: Cluster, namespace: str, lake: Lake) -> None:
    model = fresh_model()
    wanted = {"gates": GATES[:1]}
    cluster.apply(service_stories.job("first", model, lake, **wanted), namespace=namespace)
    first = training_stories.ended_as(cluster, namespace, "first", "Registered")
    cluster.apply(service_stories.job("second", model, lake, **wanted), namespace=namespace)
    second = training_stories.ended_as(cluster, namespace, "second", "AlreadyTrained")
    assert second["status"]["modelVersionName"] == f"{model}-v1"
    for name in ("metrics", "gates", "data"):
        assert second["status"][name] == first["status"][name]
    assert [v.version for v in versions.list_versions(lake.bucket, namespace, model)] == [1]


def test_row_that_breaks_an_expectation_ends_the_run(cluster: Cluster, namespace: str, lake: Lake) -> None:
    model = fresh_model()
    data = {"expectations": [{"column": "distance", "maximum": 2000}]}
    cluster.apply(service_stories.job("first", model, lake, data=data), namespace=namespace)
    body = training_stories.ended_as(cluster, namespace, "first", "IntTypeBigInt")
    succeeded, failure = condition_of(body, "Succeeded"), body["status"]["failure"]
    assert succeeded is not None
    assert succeeded["status"] == "False"
    assert (failure["step"], failure["exitCode"]) == ("Validate", 10)
    sentence = r"column distance is 2\d{3} in row \d+ \(time=2013-.*\), above data.expectations' maximum of 2000 \("
    assert re.match(sentence, failure["message"]), failure["message"]
    assert len(cluster.list("pod", namespace)) == 1
    assert versions.list_versions(lake.bucket, namespace, model) == ()
