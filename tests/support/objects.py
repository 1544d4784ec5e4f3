"""The smallest good objects of our kinds, to be changed by each test."""

import copy
from collections.abc import Mapping
from typing import Any

from kaizen.api.base import API_VERSION
from kaizen.api.inference_service import InferenceServiceSpec
from kaizen.core.endpoint import service_ports
from kaizen.core.objects import NO_VERSION, stable_service
from kaizen.core.plan import Object, Observed

_RECIPE: dict[str, Any] = {
    "task": "Classification",
    "data": {"sources": [{"name": "flights", "uri": "s3://lake/flights/"}], "target": "delayed"},
    "estimator": {"name": "HistGradientBoostingClassifier", "parameters": {"max_iter": 50}},
}
_DIGEST = "sha256:" + "0" * 64


def training_job(name: str = "flights-q1", **spec: Any) -> dict[str, Any]:
    """A TrainingJob; keyword arguments replace fields of its spec."""
    return _object("TrainingJob", name, {"model": "flight-delay", **_RECIPE}, spec)


def model_version(name: str = "imported", **spec: Any) -> dict[str, Any]:
    """A ModelVersion."""
    base = {"model": "flight-delay", "source": {"trainingJobName": "flights-q1"}, "digest": _DIGEST}
    return _object("ModelVersion", name, base, spec)


def inference_service(name: str = "flight-delay", **spec: Any) -> dict[str, Any]:
    """An InferenceService."""
    return _object("InferenceService", name, {"model": "flight-delay"}, spec)


def recipe() -> dict[str, Any]:
    """What a TrainingJob and a training template have in common."""
    return copy.deepcopy(_RECIPE)


def address(observed: Observed, version: str = NO_VERSION) -> Object:
    """The Service of an InferenceService that is asked in plain HTTP."""
    return stable_service(observed, service_ports(InferenceServiceSpec(model="m")), version)


def changed(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of an object with the field at a dotted path set, or removed when the value is None."""
    result = copy.deepcopy(body)
    *parents, last = path.split(".")
    at: Any = result
    for part in parents:
        at = at[int(part)] if part.isdigit() else at.setdefault(part, {})
    if value is None:
        del at[last]
    elif last.isdigit():
        at[int(last)] = value
    else:
        at[last] = value
    return result


def edited(body: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with several fields set or removed, as by `changed`."""
    for path, value in changes.items():
        body = changed(body, path, value)
    return body


def _object(kind: str, name: str, base: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name},
        "spec": {**copy.deepcopy(base), **spec},
    }
