"""InferenceService: serve a model's versions, watch them, and train the next one when the data have changed."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from kaizen.api.base import (
    AS_SET,
    BaseStatus,
    ColumnName,
    Digest,
    EngineChoice,
    Model,
    ModelName,
    PodSettings,
    Seconds,
    Status,
    by_key,
    rules,
    unchanged,
)
from kaizen.api.capture import Capture
from kaizen.api.endpoint import TLS, Authentication, Endpoint
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
    block_seconds: Annotated[int, Field(ge=86_400, le=315_360_000)] | None = None
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
        (
            "self.drift.spanSeconds >= 86400 || has(self.drift.blockSeconds)",
            "monitoring.drift.spanSeconds must be at least 86400: parts of a day always differ from whole days; for a replay that"
            " is faster than real time give monitoring.drift.blockSeconds",
        ),
    ))  # fmt: skip

    window_seconds: Annotated[int, Field(ge=5, le=86_400)] = 300
    """Requests are counted in windows of this length."""
    drift: Drift = Drift()


class Training(Model):
    """When and how the next version is trained."""

    model_config = ConfigDict(json_schema_extra=rules(
        (
            "!('DataDrift' in self.triggers) || has(self.template.data.timestamp) || self.minimumNewRows == 0",
            "training.minimumNewRows needs training.template.data.timestamp, which tells new rows from old: name that column, or"
            " set minimumNewRows to 0",
        ),
    ))  # fmt: skip

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
    """Time between the starts of two TrainingJobs; a changed template need not wait for it after a failure."""
    stop_after_failures: Annotated[int, Field(ge=1, le=100)] = 3
    """So many failures in a row of the same template start nothing more until it is changed."""
    suspend: bool = False
    """Start nothing; what runs goes on."""


class InferenceServiceSpec(Model):
    """What to serve."""

    model_config = ConfigDict(json_schema_extra=rules(
        *unchanged("model", message="spec.model cannot be changed: create another InferenceService"),
    ))  # fmt: skip

    model: ModelName
    version: Annotated[int, Field(ge=1, le=2_147_483_647)] | None = None
    """Serve just this version; when omitted, the newest one that may serve."""
    replicas: Replicas = Replicas()
    workers: Annotated[int, Field(ge=1, le=32)] = 1
    """Server processes in each Pod; they share the model's memory."""
    pod: PodSettings = PodSettings()
    authentication: Authentication | None = None
    tls: TLS | None = None
    endpoint: Endpoint = Endpoint()
    capture: Capture | None = None
    """Absent: no row is kept."""
    monitoring: Monitoring = Monitoring()
    training: Training | None = None


class StableVersion(Status):
    """The version that answers."""

    version: int
    digest: Digest
    since: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    engine: EngineChoice | None = None
    replicas: int
    ready_replicas: int


class FeatureDrift(Status):
    """How far a feature of the requests lies from the training data."""

    name: ColumnName
    distance: float
    threshold: float
    """What the distance had to exceed: the floor, or more where the training data themselves vary more."""
    drifted: bool
    acknowledged: bool
    """Beyond the threshold, and a successor was already trained on that; counts again when it has grown by half."""
    context: bool
    """Reported without a vote."""


class MonitoringStatus(Status):
    """The verdict on the newest span."""

    verdict: Literal["NotEnoughData", "Stable", "Drifted"]
    span_end: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    rows: int
    drifted_in_a_row: int = 0
    """Spans in a row that drifted, counted up to training.consecutiveWindows."""
    prediction_distance: float | None = None
    """Of the predictions from those on held-out rows; reported without a vote."""
    drifted: Annotated[str, Field(max_length=512)] | None = None
    """The drifted features, for `kubectl get`."""
    features: Annotated[list[FeatureDrift], Field(max_length=64, json_schema_extra=by_key("name"))] = []
    """The farthest ones."""


class TrainingStatus(Status):
    """What retraining does."""

    last_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    last_trigger: Annotated[str, Field(max_length=64)] | None = None
    last_training_job_name: Annotated[str, Field(max_length=63)] | None = None
    failures_in_a_row: int = 0
    blocked_by: Annotated[str, Field(max_length=64)] | None = None
    """Why nothing is started although there is a reason to."""
    new_rows: int | None = None
    """Labelled rows newer than what the serving version learned from, when last counted."""


class HistoryEntry(Status):
    """A promotion."""

    version: int
    time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    reason: Annotated[str, Field(max_length=1024)]


History = Annotated[list[HistoryEntry], Field(max_length=10, json_schema_extra={"x-kubernetes-list-type": "atomic"})]


class InferenceServiceStatus(BaseStatus):
    """What answers, and how it is."""

    url: Annotated[str, Field(max_length=512)] | None = None
    """Where requests go, inside the cluster."""
    stable: StableVersion | None = None
    monitoring: MonitoringStatus | None = None
    training: TrainingStatus | None = None
    history: History | None = None
    """The newest promotions, the last one last."""
