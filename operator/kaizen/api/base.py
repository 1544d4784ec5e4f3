"""What the three kinds share: the base model, names, conditions, and the rules that the API server checks.

A model here is the one source of its CRD schema (see crd.py).  Texts in `description` are what `kubectl explain` prints,
texts in `rules` are what `kubectl apply` answers.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

GROUP = "mlops.kaizen.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

DNS_LABEL = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""RFC 1035 label: the names that a Service may have."""


class Model(BaseModel):
    """A part of a resource: camelCase outside, snake_case inside, immutable, no unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid", use_attribute_docstrings=True
    )


class Status(BaseModel):
    """A part of a status.  Unknown fields are dropped, so that an older operator can read what a newer one wrote."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", use_attribute_docstrings=True
    )


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """Schema extension for (CEL expression that must hold, sentence shown when it does not)."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


def unchanged(*fields: str, message: str) -> tuple[tuple[str, str], ...]:
    """Transition rules: these fields of a model keep the value they were created with."""
    return tuple(
        (f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})", message)
        for name in fields
    )


def by_key(*keys: str) -> dict[str, Any]:
    """Schema extension for a list of objects that are told apart by these fields."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


BRIEF = "x-kaizen-brief"
"""Marks a model that is another one again: its fields are described there, and once is enough for a CRD's size."""
AS_ATOM: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
AS_SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}
ANY_OBJECT: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern="^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
ModelName = Annotated[str, Field(min_length=1, max_length=40, pattern=DNS_LABEL)]
ColumnName = Annotated[str, Field(min_length=1, max_length=128)]
Digest = Annotated[str, Field(max_length=71, pattern="^sha256:[0-9a-f]{64}$")]
Seconds = Annotated[int, Field(ge=1, le=315_360_000)]
Quantity = Annotated[
    int | str,
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$",
            "maxLength": 32,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
"""An amount as Kubernetes writes it: 2, 500m, 1.5Gi."""
Quantities = Annotated[dict[str, Quantity], Field(max_length=16)]
AnyValue = Annotated[str | int | float | bool, WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})]


class Condition(Status):
    """A condition as the Kubernetes API conventions define it."""

    type: Annotated[str, Field(min_length=1, max_length=64)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(min_length=1, max_length=128, pattern="^[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?$")]
    message: Annotated[str, Field(max_length=2048)]
    observed_generation: int
    """The generation of the object that this condition speaks of."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When `status` last changed."""


Conditions = Annotated[list[Condition], Field(max_length=16, json_schema_extra=by_key("type"))]


class BaseStatus(Status):
    """What every status has."""

    observed_generation: int = -1
    """The generation that this status answers; -1 until the operator has seen the object."""
    conditions: Conditions = []


class Metric(Status):
    """A measured value."""

    name: Annotated[str, Field(max_length=64)]
    value: float
    low: float | None = None
    high: float | None = None
    """Between low and high it lies by these rows."""
    dataset: Annotated[str, Field(max_length=64)]
    """The rows it was measured on."""


Metrics = Annotated[list[Metric], Field(max_length=64, json_schema_extra=AS_ATOM)]


class GateResult(Status):
    """How a gate ended."""

    name: Annotated[str, Field(max_length=63)]
    outcome: Annotated[str, Field(max_length=64)]
    """Passed, Failed, Skipped (nothing serves yet) or NotComparable (too few new rows)."""
    passed: bool | None = None
    required: bool | None = None
    """false: a failure is shown, and the version may serve all the same."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    """The ends of the value's interval."""
    limit: float | None = None
    against: Annotated[str, Field(max_length=64)] | None = None
    """What it was compared with, e.g. version 3."""
    message: Annotated[str, Field(max_length=1024)] | None = None


GateResults = Annotated[list[GateResult], Field(max_length=16, json_schema_extra=by_key("name"))]


class EngineChoice(Status):
    """What answers a version's requests."""

    name: Annotated[str, Field(max_length=64)]
    """compiled; sklearn where compiling would not be exact; onnx for a model that came as ONNX."""
    reason: Annotated[str, Field(max_length=1024)] | None = None
    """Why it is not compiled."""


class Resources(Model):
    """Requests and limits of the container: cpu, memory, ephemeral-storage, nvidia.com/gpu, ..."""

    requests: Quantities | None = None
    limits: Quantities | None = None


class EnvironmentVariable(Model):
    """A variable of the container."""

    model_config = ConfigDict(json_schema_extra=rules(
        ("has(self.value) != has(self.valueFrom)", "pod.env[] needs exactly one of value, valueFrom"),
        ("!self.name.startsWith('KAIZEN_')", "pod.env[].name must not start with KAIZEN_: those are Kaizen's own"),
    ))  # fmt: skip

    name: Annotated[str, Field(min_length=1, max_length=256, pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
    value: Annotated[str, Field(max_length=4096)] | None = None
    value_from: Annotated[dict[str, Any], Field(json_schema_extra=ANY_OBJECT)] | None = None
    """As in a Pod."""


class Toleration(Model):
    """As in a Pod."""

    key: Annotated[str, Field(max_length=316)] | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: Annotated[str, Field(max_length=63)] | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class PodSettings(Model):
    """The part of a Pod's settings that most people need."""

    resources: Resources | None = None
    node_selector: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)] = {}
    tolerations: Annotated[list[Toleration], Field(max_length=32, json_schema_extra=AS_ATOM)] = []
    service_account_name: ObjectName | None = None
    """kaizen-trainer in training, kaizen-server in serving when omitted."""
    env: Annotated[list[EnvironmentVariable], Field(max_length=64, json_schema_extra=by_key("name"))] = []
    priority_class_name: ObjectName | None = None
