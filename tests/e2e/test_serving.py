"""An InferenceService in the cluster: a version answers under one address, the next one takes over without a lost request."""

import json
import urllib.error
from typing import Any

import pytest

from kaizen.registry import audit, layout, production
from kaizen.registry.store import Bucket
from tests.support import chaos, client_pod, service_stories, traffic, training
from tests.support.cluster import Cluster, condition_of
from tests.support.service_stories import READY_SECONDS, SERVICE, TRAINING_SECONDS, Lake, fresh_model, job, serves, service
from tests.support.wait import until

EXAMPLE = {"inputs": [
    {"name": "distance", "datatype": "INT64", "shape": [1], "data": [1500]},
    {"name": "wind", "datatype": "FP64", "shape": [1], "data": [10.0]},
    {"name": "carrier", "datatype": "BYTES", "shape": [1], "data": ["UA"]},
    {"name": "weekend", "datatype": "BOOL", "shape": [1], "data": [True]},
]}  # fmt: skip


def train(cluster: Cluster, namespace: str, model: str, lake: Lake, name: str, **changes: Any) -> dict[str, Any]:
    """A version, by a TrainingJob of this name."""
    cluster.apply(job(name, model, lake, **changes), namespace=namespace)
    return cluster.wait_for("trainingjob", name, namespace, "Succeeded", "True", seconds=TRAINING_SECONDS)


def wait_serves(cluster: Cluster, namespace: str, version: int, seconds: float = READY_SECONDS) -> dict[str, Any]:
    return until(
        f"version {version} serves",
        lambda: serves(cluster, namespace, version),
        seconds,
        lambda: cluster.dump("inferenceservice", SERVICE, namespace),
    )


def stage(cluster: Cluster, namespace: str, model: str, version: int) -> str:
    body = cluster.get("modelversion", f"{model}-v{version}", namespace)
    return str((body or {}).get("status", {}).get("stage"))


def actions(bucket: Bucket, namespace: str, model: str) -> list[str]:
    return [record.action for record in audit.records(bucket, namespace, model)]


def test_version_answers_under_one_address_and_the_next_takes_over(cluster: Cluster, namespace: str, lake: Lake) -> None:
    model = fresh_model()
    cluster.apply(service(model), namespace=namespace)
    cluster.wait_for("inferenceservice", SERVICE, namespace, "Ready", "Unknown", reason="WaitingForVersion")
    train(cluster, namespace, model, lake, "one")
    cluster.wait_for("inferenceservice", SERVICE, namespace, "Ready", "True", reason="Serving", seconds=READY_SECONDS)
    stable = wait_serves(cluster, namespace, 1)["status"]["stable"]
    with cluster.port_forward(f"service/{SERVICE}", 80, namespace) as url:
        answer, headers = traffic.ask(f"{url}/v2/models/{model}/infer", json.dumps(EXAMPLE).encode())
        assert answer["model_version"] == headers["X-Model-Version"] == "1"
        assert headers["X-Model-Digest"] == stable["digest"]
        assert {"predict", "predict_proba"} <= {output["name"] for output in answer["outputs"]}
        with pytest.raises(urllib.error.HTTPError, match="400"):
            traffic.ask(f"{url}/v2/models/{model}/infer", b'{"inputs": []}')
    until("version 1 is in production", lambda: stage(cluster, namespace, model, 1) == "Production", 20)

    gate = {"name": "no-worse", "metric": "log_loss", "againstProduction": {"worseByAtMost": 0.5}}
    lake.add("second", training.table(1000, seed=1, start=training.START + 3000 * training.HOUR))
    with client_pod.load(
        cluster, namespace, SERVICE, f"/v2/models/{model}/infer", json.dumps(EXAMPLE).encode(), a_second=100
    ) as report:
        second = train(cluster, namespace, model, lake, "two", gates=[gate])
        body = wait_serves(cluster, namespace, 2)
        until(
            "version 1 is gone",
            lambda: not cluster.get("deployment", f"{SERVICE}-v1", namespace),
            90,
            lambda: cluster.dump("inferenceservice", SERVICE, namespace),
        )
        until("its Pods are gone", lambda: not _pods(cluster, namespace, 1), 60)
    assert second["status"]["gates"][0]["outcome"] == "Passed"
    assert report.problems == []
    assert set(report.answers) == {"200 1 1", "200 2 2"}, report.answers
    assert report.total > 1000
    assert [(one["version"], one["reason"].split(",")[0]) for one in body["status"]["history"]] == [
        (1, "the newest version that may serve"),
        (2, "the newest version that may serve"),
    ]
    until("version 1 is archived", lambda: stage(cluster, namespace, model, 1) == "Archived", 20)
    pointer = production.read(lake.bucket, namespace, model, SERVICE)
    assert pointer is not None
    assert (pointer.version, pointer.digest) == (2, body["status"]["stable"]["digest"])
    assert actions(lake.bucket, namespace, model).count("Promoted") == 2

    cluster.apply(service(model, version=1), namespace=namespace)
    wait_serves(cluster, namespace, 1)
    cluster.wait_for("inferenceservice", SERVICE, namespace, "Ready", "True", reason="Serving")
    cluster.apply(service(model, version=9), namespace=namespace)
    missing = cluster.wait_for("inferenceservice", SERVICE, namespace, "Ready", "Unknown", reason="WaitingForVersion")
    condition = condition_of(missing, "Ready")
    assert condition is not None
    assert condition["message"] == f"Waiting for version 9 of model {model}."
    assert serves(cluster, namespace, 1)


def test_changed_file_is_refused_and_stable_serves_on(cluster: Cluster, namespace: str, lake: Lake) -> None:
    model = fresh_model()
    train(cluster, namespace, model, lake, "one")
    lake.add("second", training.table(1000, seed=1, start=training.START + 3000 * training.HOUR))
    train(cluster, namespace, model, lake, "two")
    cluster.apply(service(model, version=1), namespace=namespace)
    wait_serves(cluster, namespace, 1)
    key = f"{layout.version(namespace, model, 2)}engine.json"
    whole, _ = lake.bucket.get(key)
    lake.bucket.put(key, whole.replace(b"0", b"1", 1))
    cluster.apply(service(model, version=2), namespace=namespace)
    refused = cluster.wait_for(
        "inferenceservice", SERVICE, namespace, "Ready", "False", reason="DigestMismatch", seconds=READY_SECONDS
    )
    condition = condition_of(refused, "Ready")
    assert condition is not None
    assert "engine.json" in condition["message"]
    assert refused["status"]["stable"]["version"] == 1
    version = cluster.wait_for("modelversion", f"{model}-v2", namespace, "Ready", "False", reason="DigestMismatch")
    assert version["status"]["stage"] == "Candidate"
    (record,) = [record for record in audit.records(lake.bucket, namespace, model) if record.action == "Refused"]
    assert record.details["version"] == 2
    assert "engine.json" in record.details["reason"]
    with cluster.port_forward(f"service/{SERVICE}", 80, namespace) as url:
        assert traffic.ask(f"{url}/v2/models/{model}/infer", json.dumps(EXAMPLE).encode())[0]["model_version"] == "1"
    # Put right again, the pinned version starts by itself and is forgiven.
    lake.bucket.put(key, whole)
    for pod in _pods(cluster, namespace, 2):
        chaos.kill_pod(cluster, pod)
    wait_serves(cluster, namespace, 2, seconds=120)
    cluster.wait_for("modelversion", f"{model}-v2", namespace, "Ready", "True", reason="Registered")


def test_everything_is_gone_within_a_minute_of_its_namespace(cluster: Cluster, namespace: str, lake: Lake) -> None:
    model = fresh_model()
    cluster.apply(service(model, training=service_stories.retraining(lake)), namespace=namespace)
    wait_serves(cluster, namespace, 1, seconds=TRAINING_SECONDS + READY_SECONDS)
    cluster.kubectl("delete", "namespace", namespace, "--timeout=60s", seconds=65)
    cluster.kubectl("create", "namespace", namespace)


def test_spec_changes_reach_the_pods_and_a_version_name_taken_is_said(cluster: Cluster, namespace: str, lake: Lake) -> None:
    model = fresh_model()
    train(cluster, namespace, model, lake, "one")
    foreign = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": f"{SERVICE}-v1"},
        "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}},
    }  # fmt: skip
    cluster.apply(foreign, namespace=namespace)
    cluster.apply(service(model), namespace=namespace)
    cluster.wait_for("inferenceservice", SERVICE, namespace, "Ready", "False", reason="NameTaken")
    cluster.delete("service", f"{SERVICE}-v1", namespace)
    wait_serves(cluster, namespace, 1, seconds=90)
    cluster.apply(service(model, replicas={"minimum": 2}), namespace=namespace)
    until("two Pods", lambda: len(_pods(cluster, namespace, 1)) == 2, READY_SECONDS)
    (before,) = {_image_and_limit(pod) for pod in _pods(cluster, namespace, 1)}
    assert before[1] == "1Gi"
    limited = service(model, replicas={"minimum": 2}, pod={"resources": {"limits": {"memory": "256Mi"}}})
    cluster.apply(limited, namespace=namespace)
    until(
        "two Pods with the new limit",
        lambda: [_image_and_limit(pod)[1] for pod in _pods(cluster, namespace, 1)] == ["256Mi", "256Mi"],
        90,
    )


def _pods(cluster: Cluster, namespace: str, version: int) -> list[dict[str, Any]]:
    selector = f"mlops.kaizen.dev/service={SERVICE},mlops.kaizen.dev/version={version}"
    return cluster.list("pod", namespace, selector)


def _image_and_limit(pod: dict[str, Any]) -> tuple[str, str]:
    (container,) = pod["spec"]["containers"]
    return container["image"], container["resources"]["limits"]["memory"]
