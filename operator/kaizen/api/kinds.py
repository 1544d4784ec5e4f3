"""The three kinds: names, columns, and the rules that concern an object as a whole."""

from dataclasses import dataclass

from kaizen.api.base import DNS_LABEL, BaseStatus, Model
from kaizen.api.inference_service import InferenceServiceSpec, InferenceServiceStatus
from kaizen.api.model_version import ModelVersionSpec, ModelVersionStatus
from kaizen.api.training_job import TrainingJobSpec, TrainingJobStatus


@dataclass(frozen=True)
class Column:
    """A printer column: what `kubectl get` shows."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    """0 always shown, 1 only with `-o wide`."""


@dataclass(frozen=True)
class Kind:
    """A custom resource as the API server knows it."""

    name: str
    plural: str
    short_name: str
    description: str
    spec: type[Model]
    status: type[BaseStatus]
    columns: tuple[Column, ...]
    rules: tuple[tuple[str, str], ...] = ()
    """CEL over the whole object; of metadata only the name is visible there."""


def _condition(kind: str, field: str = "status") -> str:
    return f".status.conditions[?(@.type=='{kind}')].{field}"


def _name(longest: int, what: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"size(self.metadata.name) <= {longest}", f"metadata.name must have at most {longest} characters, {what}"),
        (
            f"self.metadata.name.matches('{DNS_LABEL}')",
            "metadata.name must start with a lower-case letter and have only lower-case letters, digits and dashes",
        ),
    )


AGE = Column("Age", ".metadata.creationTimestamp", "date")
READY = Column("Ready", _condition("Ready"))
REASON = Column("Reason", _condition("Ready", "reason"))
WHY = Column("Reason", _condition("Succeeded", "reason"), priority=1)

TRAINING_JOB = Kind(
    name="TrainingJob",
    plural="trainingjobs",
    short_name="ktj",
    description="Trains a model on data, judges it, and packages it as a new version.",
    spec=TrainingJobSpec,
    status=TrainingJobStatus,
    columns=(
        Column("Model", ".spec.model"),
        Column("Step", ".status.step"),
        Column("Metric", ".status.metric"),
        Column("Version", ".status.modelVersionName"),
        Column("Succeeded", _condition("Succeeded")),
        WHY,
        AGE,
    ),
    rules=_name(50, "so that its Job's Pods can be named after it"),
)

MODEL_VERSION = Kind(
    name="ModelVersion",
    plural="modelversions",
    short_name="kmv",
    description="One packaged, registered, immutable version of a model.",
    spec=ModelVersionSpec,
    status=ModelVersionStatus,
    columns=(
        Column("Model", ".spec.model"),
        Column("Version", ".status.version", "integer"),
        Column("Stage", ".status.stage"),
        Column("Engine", ".status.engine.name"),
        READY,
        REASON,
        AGE,
    ),
    rules=_name(52, "the model's name and its version"),
)

INFERENCE_SERVICE = Kind(
    name="InferenceService",
    plural="inferenceservices",
    short_name="kis",
    description="Serves a model's versions, watches them, and trains the next one when the data have changed.",
    spec=InferenceServiceSpec,
    status=InferenceServiceStatus,
    columns=(
        Column("Model", ".spec.model"),
        Column("Version", ".status.stable.version", "integer"),
        READY,
        REASON,
        Column("Drift", ".status.monitoring.verdict"),
        Column("Last Trained", ".status.training.lastTime", "date"),
        Column("Drifted", ".status.monitoring.drifted", priority=1),
        Column("Engine", ".status.stable.engine.name", priority=1),
        Column("URL", ".status.url", priority=1),
        AGE,
    ),
    rules=(
        *_name(50, "so that its versions' Services can be named after it"),
        (
            "!self.metadata.name.matches('-v[0-9]+$')",
            "metadata.name must not end in -v and a number: such names belong to the services of single versions",
        ),
    ),
)

KINDS = (TRAINING_JOB, MODEL_VERSION, INFERENCE_SERVICE)
