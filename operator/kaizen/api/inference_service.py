"""InferenceService: serve a model's versions, watch them, and train the next one when the data have changed."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from kaizen.api.base import AS_SET, BaseStatus, ColumnName, Model, ModelName, PodSettings, Seconds, rules, unchanged
from kaizen.api.training_job import TrainingJobTemplate


class Replicas(Model):
    """How many Pods answer."""

    minimum: Annotated[int, Field(ge=1, le=1000)] = 1


class Drift(Model):
    """When a feature counts as drifted."""

    distance: Literal["PSI"] = "PSI"
    """Population stability index over the bins frozen at training."""
    floor: Annotated[float, Field(ge=0, le=100)] = 0.1
    """A smaller distance is never drift, however significant."""
    span_seconds: Seconds = 604_800
    """Verdicts are made on the windows of this span."""
    block_seconds: Seconds | None = None
    """The span's length in the training data's own time, where that runs faster than the wall clock; the span when omitted."""
    minimum_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] = 500
    """Fewer rows in the span give no verdict."""
    context: Annotated[list[ColumnName], Field(max_length=256, json_schema_extra=AS_SET)] = []
    """Features such as season or weather: reported, without a vote."""


class Monitoring(Model):
    """What is watched in the requests."""

    model_config = ConfigDict(json_schema_extra=rules(
        (
            "self.drift.spanSeconds >= self.windowSeconds",
            "monitoring.drift.spanSeconds must be at least monitoring.windowSeconds",
        ),
    ))  # fmt: skip

    window_seconds: Annotated[int, Field(ge=5, le=86_400)] = 300
    """Requests are counted in windows of this length."""
    drift: Drift = Drift()


class Training(Model):
    """When and how the next version is trained."""

    template: TrainingJobTemplate
    triggers: Annotated[list[Literal["Initial", "DataDrift"]], Field(min_length=1, max_length=8, json_schema_extra=AS_SET)] = [
        "Initial",
        "DataDrift",
    ]
    """What starts a TrainingJob: Initial, DataDrift; both when omitted."""
    minimum_new_rows: Annotated[int, Field(ge=0, le=1_000_000_000)] = 1000
    """Rows newer than what the serving version was trained on that must exist first."""
    consecutive_windows: Annotated[int, Field(ge=1, le=100)] = 2
    """How many verdicts in a row must say drift."""
    cooldown_seconds: Annotated[int, Field(ge=0, le=31_536_000)] = 21_600
    """Time between two TrainingJobs."""
    suspend: bool = False


class InferenceServiceSpec(Model):
    """What to serve."""

    model_config = ConfigDict(json_schema_extra=rules(
        *unchanged("model", message="spec.model cannot be changed: create another InferenceService"),
    ))  # fmt: skip

    model: ModelName
    version: Annotated[int, Field(ge=1, le=2_147_483_647)] | None = None
    """Serve just this version; when omitted, the newest one that may serve."""
    replicas: Replicas = Replicas()
    pod: PodSettings = PodSettings()
    monitoring: Monitoring = Monitoring()
    training: Training | None = None


class InferenceServiceStatus(BaseStatus):
    """What answers, and how it is."""

    url: Annotated[str, Field(max_length=512)] | None = None
    """Where requests go, inside the cluster."""
