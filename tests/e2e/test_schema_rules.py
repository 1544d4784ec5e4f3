"""Every bound, pattern, enumeration and required field of the schemas, broken one at a time at the real API server.

The cases are read from the CRDs, so a new field cannot be forgotten; the rules in CEL are in test_bad_input.py.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from kaizen.api.crd import crd
from kaizen.api.kinds import INFERENCE_SERVICE, MODEL_VERSION, TRAINING_JOB, Kind
from kaizen.api.training_job import MUTABLE_FIELDS
from tests.support.cluster import Cluster, Rejected
from tests.support.objects import changed, inference_service, model_version, training_job

FULL_RECIPE: dict[str, Any] = {
    "task": "Classification",
    "data": {
        "sources": [{"name": "flights", "uri": "s3://lake/flights/", "format": "Parquet", "secretName": "lake"}],
        "query": "SELECT 1",
        "target": "delayed",
        "targetMissing": "Drop",
        "timestamp": "time_hour",
        "keys": ["flight"],
        "windowSeconds": 60,
        "features": {"exclude": ["tail"]},
        "minimumRows": 10,
        "split": {"method": "Temporal", "testShare": 0.2},
    },
    "estimator": {"name": "LogisticRegression", "parameters": {"C": 1.0}},
    "refit": "None",
    "gates": [{"name": "good", "metric": "log_loss", "againstProduction": {"worseByAtMost": 0.1, "notComparable": "Fail"}}],
    "pod": {"resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": "1Gi"}}},
    "backoffLimit": 1,
    "activeDeadlineSeconds": 60,
    "ttlSecondsAfterFinished": 60,
    "suspend": True,
}
TEMPLATE = {name: value for name, value in FULL_RECIPE.items() if name not in MUTABLE_FIELDS}
FULL: dict[str, tuple[Kind, dict[str, Any]]] = {
    "TrainingJob": (TRAINING_JOB, training_job(**FULL_RECIPE)),
    "ModelVersion": (MODEL_VERSION, model_version()),
    "InferenceService": (
        INFERENCE_SERVICE,
        inference_service(
            version=1,
            replicas={"minimum": 1},
            pod=FULL_RECIPE["pod"],
            monitoring={
                "windowSeconds": 10,
                "drift": {
                    "distance": "PSI", "floor": 0.1, "spanSeconds": 60, "blockSeconds": 86400, "minimumRows": 1,
                    "context": ["temp"],
                },
            },
            training={
                "template": TEMPLATE, "triggers": ["Initial"], "minimumNewRows": 1, "consecutiveWindows": 1,
                "cooldownSeconds": 1, "stopAfterFailures": 1, "suspend": True,
            },
        ),
    ),
}  # fmt: skip
Case = tuple[str, Any, str]
"""Dotted path, a value that breaks one rule (None: the field is left out), a part of the sentence."""


def cases(schema: dict[str, Any], path: str, value: Any) -> Iterator[Case]:
    """One case for each rule at and below a node whose good value is given."""
    yield from broken(schema, path, value)
    for name in schema.get("required", ()):
        yield f"{path}.{name}", None, "Required value"
    for name, child in schema.get("properties", {}).items():
        assert name in value, f"FULL has no {path}.{name}: add it, so that its rules are tested"
        yield from cases(child, f"{path}.{name}", value[name])
    if schema.get("type") == "array" and "items" in schema:
        yield from cases(schema["items"], f"{path}.0", value[0])


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
    if schema.get("x-kubernetes-list-type") in ("set", "map"):
        yield path, [*value, value[0]], "Duplicate value"
    if schema.get("type") == "object" and "properties" in schema:
        yield f"{path}.unheardOf", 1, "unknown field"
    if schema.get("type") in ("integer", "number", "boolean", "object", "array"):
        yield path, "text", "must be of type"


def all_cases() -> Iterator[Any]:
    for name, (kind, body) in FULL.items():
        schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        for path, value, sentence in cases(schema, "spec", body["spec"]):
            yield pytest.param(body, path, value, sentence, id=f"{name} {path} {sentence}")


@pytest.mark.parametrize("body", [body for _, body in FULL.values()], ids=FULL)
def test_the_object_itself_is_good(cluster: Cluster, body: dict[str, Any]) -> None:
    cluster.apply(body, namespace="default", dry_run=True)


@pytest.mark.parametrize(("body", "path", "value", "sentence"), list(all_cases()))
def test_broken_rule_is_named(cluster: Cluster, body: dict[str, Any], path: str, value: Any, sentence: str) -> None:
    with pytest.raises(Rejected) as rejected:
        cluster.apply(changed(body, path, value), namespace="default", dry_run=True)
    assert sentence in str(rejected.value)
    assert path.split(".")[-1 if not path.split(".")[-1].isdigit() else -2] in str(rejected.value)
