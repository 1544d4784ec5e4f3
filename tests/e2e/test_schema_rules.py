"""Every bound, pattern, enumeration and required field of the schemas, broken one at a time at the real API server.

The cases are read from the CRDs, so a new field cannot be forgotten; the rules in CEL are in test_bad_input.py.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from kaizen.api.crd import crd
from kaizen.api.kinds import INFERENCE_SERVICE, MODEL_VERSION, TRAINING_JOB, Kind
from tests.support.cluster import Cluster, Rejected
from tests.support.objects import changed, inference_service, model_version, training_job

POD: dict[str, Any] = {
    "resources": {"requests": {"cpu": 1}, "limits": {"memory": "1Gi"}},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [
        {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60},
    ],
    "serviceAccountName": "trainer",
    "env": [{"name": "A", "value": "a"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}],
    "priorityClassName": "low",
}
FULL_RECIPE: dict[str, Any] = {
    "task": "Classification",
    "data": {
        "sources": [
            {"name": "flights", "uri": "s3://lake/flights/", "format": "Parquet", "secretName": "lake"},
            {"name": "seen", "captures": {"inferenceServiceName": "delays", "labelledShareAtLeast": 0.5}},
        ],
        "query": "SELECT 1",
        "target": "delayed",
        "targetMissing": "Drop",
        "timestamp": "time_hour",
        "keys": ["flight"],
        "sensitive": ["carrier"],
        "windowSeconds": 60,
        "features": {"exclude": ["tail"], "include": ["carrier"]},
        "expectations": [
            {"column": "distance", "minimum": 0, "maximum": 9, "missingShareAtMost": 0.5},
            {"column": "origin", "allowed": ["JFK"]},
        ],
        "tolerated": [{"code": "LABEL_LEAKAGE", "column": "wind"}],
        "minimumRows": 10,
        "split": {"method": "Grouped", "testShare": 0.2, "groups": ["tail"]},
        "snapshot": "Copy",
    },
    "estimator": {"name": "LogisticRegression", "parameters": {"C": 1.0}},
    "search": {
        "trials": 5,
        "parallelism": 2,
        "timeoutSeconds": 60,
        "sampler": "TPE",
        "pruner": "None",
        "objective": {"metric": "log_loss", "direction": "Minimize"},
        "space": [
            {"parameter": "C", "type": "Float", "low": 0.1, "high": 10, "log": True},
            {"parameter": "max_iter", "type": "Integer", "low": 100, "high": 200, "step": 50},
            {"parameter": "solver", "type": "Categorical", "values": ["lbfgs"]},
        ],
    },
    "calibration": "None",
    "decision": {"maximise": "f1"},
    "explain": {"method": "SHAP"},
    "refit": "None",
    "gates": [
        {"name": "good", "metric": "log_loss", "againstProduction": {"worseByAtMost": 0.1, "notComparable": "Fail"}},
        {"name": "slices", "metric": "roc_auc", "atLeast": 0.6, "slices": ["carrier"], "minimumGroupRows": 50},
        {"name": "fair", "metric": "equalized_odds_ratio", "atLeast": 0.6, "sensitiveFeature": "carrier", "judge": "Bound"},
        {"name": "robust", "metric": "roc_auc", "perturbation": "Noise", "dropAtMost": 0.1, "required": False},
        {"name": "fast", "metric": "latency_p99_seconds", "atMost": 0.1},
    ],
    "tracking": {"mlflow": {"uri": "http://mlflow.mlops:5000", "experiment": "flights", "secretName": "mlflow"}},
    "pod": POD,
    "podTemplate": {"metadata": {"labels": {"team": "a"}}},
    "backoffLimit": 1,
    "activeDeadlineSeconds": 60,
}
CODE = {
    "uri": "https://git.example.com/models.git", "revision": "v1", "path": "a.py", "function": "build", "parameters": {"a": 1},
    "secretName": "git",
}  # fmt: skip
CONTAINER = {"image": "train:1", "command": ["train"], "args": ["--fast"], "parameters": {"a": 1}, "replicas": 2}
BY_CODE: dict[str, Any] = {"code": CODE, "decision": {"threshold": 0.5}}
BY_CONTAINER: dict[str, Any] = {"container": CONTAINER, "decision": {"cost": {"falsePositive": 1, "falseNegative": 5}}}
SERVICE = inference_service(
    version=1,
    replicas={"minimum": 1},
    workers=2,
    pod=POD,
    authentication={"secretName": "api-keys"},
    tls={"secretName": "certificate"},
    capture={"sampleShare": 0.5, "retentionSeconds": 86400, "exclude": ["tail"], "hash": ["flight"]},
    endpoint={
        "grpc": True, "corsOrigins": ["https://app.example.com", "http://[::1]:8000"], "bodyBytesAtMost": 1024,
        "connectionsAtMost": 1, "waitingAtMost": 1,
    },
    monitoring={
        "windowSeconds": 10,
        "drift": {
            "distance": "PSI", "floor": 0.1, "spanSeconds": 60, "blockSeconds": 86400, "minimumRows": 1, "context": ["temp"],
        },
    },
    training={
        "template": FULL_RECIPE, "triggers": ["Initial"], "minimumNewRows": 1, "consecutiveWindows": 1,
        "cooldownSeconds": 1, "stopAfterFailures": 1, "suspend": True,
    },
)  # fmt: skip
FULL: dict[str, tuple[Kind, dict[str, Any]]] = {
    "TrainingJob": (TRAINING_JOB, training_job(**FULL_RECIPE, ttlSecondsAfterFinished=60, suspend=True)),
    "TrainingJob by code": (TRAINING_JOB, changed(training_job(**BY_CODE), "spec.estimator", None)),
    "TrainingJob by container": (TRAINING_JOB, changed(training_job(**BY_CONTAINER), "spec.estimator", None)),
    "ModelVersion": (MODEL_VERSION, model_version()),
    "InferenceService": (INFERENCE_SERVICE, SERVICE),
}
"""Together they have every field; a field that excludes another is in another body or list entry."""
TOLD_ELSEWHERE = "spec.training.template."
"""The fields of a template are those of a TrainingJob, word for word: test_crd.py."""
Case = tuple[str, Any, str]
"""Dotted path, a value that breaks one rule (None: the field is left out), a part of the sentence."""


def cases(schema: dict[str, Any], path: str, value: Any) -> Iterator[Case]:
    """One case for each rule at and below a node whose good value is given."""
    yield from broken(schema, path, value)
    for name in schema.get("required", ()):
        yield f"{path}.{name}", None, "Required value"
    for name, child in schema.get("properties", {}).items():
        if name in value:
            yield from cases(child, f"{path}.{name}", value[name])
    if "items" in schema:
        for number, item in enumerate(value):
            yield from cases(schema["items"], f"{path}.{number}", item)
    if "additionalProperties" in schema:
        for name, child in value.items():
            yield from cases(schema["additionalProperties"], f"{path}.{name}", child)


def broken(schema: dict[str, Any], path: str, value: Any) -> Iterator[Case]:
    """One case for each rule of one node."""
    if "enum" in schema:
        yield path, "Nonsense", "Unsupported value"
    if "pattern" in schema:
        yield path, "/ not? this!", "should match"
    if "maximum" in schema:
        yield path, schema["maximum"] + 1, "should be less than or equal to"
    if "minimum" in schema:
        yield path, schema["minimum"] - 1, "should be greater than or equal to"
    if "maxLength" in schema and "enum" not in schema:
        yield path, "a" * (schema["maxLength"] + 1), "Too long"
    if schema.get("minLength"):
        yield path, "", "should be at least 1 chars long"
    if "maxItems" in schema:
        yield path, value * (schema["maxItems"] + 1), "must have at most"
    if "minItems" in schema:
        yield path, [], "should have at least"
    if "maxProperties" in schema:
        entry = next(iter(value.values()))
        yield path, {f"a{number}": entry for number in range(schema["maxProperties"] + 1)}, "must have at most"
    if schema.get("x-kubernetes-list-type") in ("set", "map"):
        yield path, [*value, value[0]], "Duplicate value"
    if schema.get("type") == "object" and "properties" in schema:
        yield f"{path}.unheardOf", 1, "unknown field"
    if schema.get("type") in ("integer", "number", "boolean", "object", "array"):
        yield path, "text", "must be of type"


def fields(schema: dict[str, Any], path: str) -> Iterator[str]:
    """All fields below a node; those of a list's entries have a 0."""
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from fields(child, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{path}.0")


def present(value: Any, path: str) -> Iterator[str]:
    """All fields of a good value, likewise."""
    yield path
    if isinstance(value, dict):
        for name, child in value.items():
            yield from present(child, f"{path}.{name}")
    if isinstance(value, list):
        for child in value:
            yield from present(child, f"{path}.0")


def schema_of(kind: Kind) -> dict[str, Any]:
    """Of its spec."""
    schema: dict[str, Any] = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def all_cases() -> Iterator[Any]:
    """Each rule once, by the first body and entry that has the field."""
    told: set[tuple[str, str, str]] = set()
    for name, (kind, body) in FULL.items():
        for path, value, sentence in cases(schema_of(kind), "spec", body["spec"]):
            identity = (kind.name, re.sub(r"\.\d+", ".0", path), sentence)
            if identity not in told and not path.startswith(TOLD_ELSEWHERE):
                told.add(identity)
                yield pytest.param(body, path, value, sentence, id=f"{name} {path} {sentence}")


@pytest.mark.parametrize("kind", [TRAINING_JOB, MODEL_VERSION, INFERENCE_SERVICE], ids=lambda kind: kind.name)
def test_no_field_is_forgotten(kind: Kind) -> None:
    known = {path for other, body in FULL.values() if other is kind for path in present(body["spec"], "spec")}
    wanted = {path for path in fields(schema_of(kind), "spec") if not path.startswith(TOLD_ELSEWHERE)}
    assert wanted - known == set(), "FULL has none of these: add them, so that their rules are tested"


@pytest.mark.parametrize("body", [body for _, body in FULL.values()], ids=FULL)
def test_the_object_itself_is_good(cluster: Cluster, body: dict[str, Any]) -> None:
    cluster.apply(body, namespace="default", dry_run=True)


@pytest.mark.parametrize(("body", "path", "value", "sentence"), list(all_cases()))
def test_broken_rule_is_named(cluster: Cluster, body: dict[str, Any], path: str, value: Any, sentence: str) -> None:
    with pytest.raises(Rejected) as rejected:
        cluster.apply(changed(body, path, value), namespace="default", dry_run=True)
    assert sentence in str(rejected.value)
    assert path.split(".")[-1 if not path.split(".")[-1].isdigit() else -2] in str(rejected.value)
