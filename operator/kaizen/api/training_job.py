"""TrainingJob: train a model on data, judge it, and package it as a new version."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from kaizen.api.base import (
    ANY_OBJECT,
    AS_SET,
    BaseStatus,
    ColumnName,
    GateResults,
    Metrics,
    Model,
    ModelName,
    ObjectName,
    PodSettings,
    Seconds,
    Status,
    by_key,
    rules,
    unchanged,
)

CLASSIFICATION_METRICS = ("log_loss", "brier", "calibration_gap", "roc_auc", "accuracy")
REGRESSION_METRICS = ("rmse", "mae", "r2")
MUTABLE_FIELDS = ("suspend", "ttlSecondsAfterFinished")
IMMUTABLE = "a TrainingJob cannot be changed except suspend and ttlSecondsAfterFinished: create a new TrainingJob"


class DataSource(Model):
    """Files that become one table."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
    """The table's name in the query."""
    uri: Annotated[str, Field(min_length=1, max_length=1024, pattern="^s3://[^/]+/.+$")]
    """A file, a prefix ending in / or a glob: s3://bucket/path."""
    format: Literal["Parquet", "CSV"] | None = None
    """From the files' suffix when omitted."""
    secret_name: ObjectName | None = None
    """Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and optionally AWS_ENDPOINT_URL_S3; else the Pod's own identity."""


class Features(Model):
    """Which columns of the query the model sees."""

    exclude: Annotated[list[ColumnName], Field(max_length=256, json_schema_extra=AS_SET)] = []
    """Columns that are not features, besides target, timestamp and keys."""


class Split(Model):
    """How rows are held out for judging the model."""

    model_config = ConfigDict(json_schema_extra=rules(
        ("self.testShare >= 0.01 && self.testShare <= 0.5", "data.split.testShare must be from 0.01 to 0.5"),
    ))  # fmt: skip

    method: Literal["Temporal", "Random"] | None = None
    """Temporal holds out the newest rows, Random a stable share; when omitted, Temporal if there is a timestamp."""
    test_share: Annotated[float, Field(ge=0, le=1)] = 0.2


class Data(Model):
    """Where the rows come from and what their columns mean."""

    model_config = ConfigDict(json_schema_extra=rules(
        ("size(self.sources) == 1 || has(self.query)", "several sources need a query that joins them: write data.query"),
        (
            "!has(self.split.method) || self.split.method != 'Temporal' || has(self.timestamp)",
            "split.method Temporal needs data.timestamp: name the column that orders the rows",
        ),
        ("!has(self.timestamp) || self.timestamp != self.target", "data.timestamp and data.target must be different columns"),
        ("!(self.target in self.features.exclude)", "data.target is never a feature: remove it from features.exclude"),
    ))  # fmt: skip

    sources: Annotated[list[DataSource], Field(min_length=1, max_length=16, json_schema_extra=by_key("name"))]
    query: Annotated[str, Field(min_length=1, max_length=16384)] | None = None
    """DuckDB SQL over the sources; optional with one source."""
    target: ColumnName
    """The column to predict."""
    target_missing: Literal["Fail", "Drop"] = "Fail"
    """What happens to rows without a target."""
    timestamp: ColumnName | None = None
    """The column that orders rows in time; not a feature."""
    keys: Annotated[list[ColumnName], Field(max_length=16, json_schema_extra=AS_SET)] = []
    """Columns that identify a row; never features."""
    window_seconds: Seconds | None = None
    """Train on the newest rows only, counted back from the newest row; everything when omitted."""
    features: Features = Features()
    minimum_rows: Annotated[int, Field(ge=10, le=1_000_000_000)] = 1000
    split: Split = Split()


class Estimator(Model):
    """A scikit-learn estimator by its class name."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z][A-Za-z0-9]*$")]
    """LogisticRegression, Ridge, RandomForestClassifier, HistGradientBoostingRegressor, ..."""
    parameters: Annotated[dict[str, Any], Field(json_schema_extra=ANY_OBJECT)] = {}
    """The constructor's parameters."""


class AgainstProduction(Model):
    """Comparison with the version that serves, on rows it never saw."""

    worse_by_at_most: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    """How much worse than production the metric may be, in the metric's own unit; 0 when omitted."""
    not_comparable: Literal["Pass", "Fail"] | None = None
    """The result when too few rows are new to the serving version; Pass when omitted."""


class Gate(Model):
    """A condition that a new version must meet before it may serve."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    metric: Annotated[str, Field(min_length=1, max_length=64)]
    against_production: AgainstProduction


class Recipe(Model):
    """How a model is made: a TrainingJob's spec without whose it is and when, and what an InferenceService retrains by."""

    task: Literal["Classification", "Regression"]
    data: Data
    estimator: Estimator
    refit: Literal["Automatic", "None"] = "Automatic"
    """Fit the judged pipeline again on all rows; Automatic does so when the split is temporal."""
    gates: Annotated[list[Gate], Field(max_length=16, json_schema_extra=by_key("name"))] = []
    pod: PodSettings = PodSettings()
    backoff_limit: Annotated[int, Field(ge=0, le=20)] = 2
    """Retries after failures that a retry can mend."""
    active_deadline_seconds: Seconds | None = None


def _metric_rule(task: str, metrics: tuple[str, ...]) -> tuple[str, str]:
    listed = ", ".join(f"'{metric}'" for metric in metrics)
    return (
        f"self.task != '{task}' || self.gates.all(gate, gate.metric in [{listed}])",
        f"gates[].metric must be one of {', '.join(metrics)} for task {task}",
    )


METRIC_RULES = (
    _metric_rule("Classification", CLASSIFICATION_METRICS),
    _metric_rule("Regression", REGRESSION_METRICS),
)


class TrainingJobSpec(Recipe):
    """What to train."""

    model_config = ConfigDict(json_schema_extra=rules(
        *METRIC_RULES,
        *unchanged(
            "model", "task", "data", "estimator", "refit", "gates", "pod", "backoffLimit", "activeDeadlineSeconds",
            message=IMMUTABLE,
        ),
    ))  # fmt: skip

    model: ModelName
    """Success adds a version to this model."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=315_360_000)] | None = None
    """Delete the finished job after this time; not for jobs kept in Git, which would be made again."""
    suspend: bool = False


class JobProgress(Status):
    """How many steps of the run are done."""

    done: int
    total: int


class DataSummary(Status):
    """What the run read."""

    digest: Annotated[str, Field(max_length=71)]
    """Of the files' content and the query: the same data, the same digest."""
    rows: int
    trained_until: Annotated[str, Field(max_length=64)] | None = None
    """The newest moment in the data."""


class JobFailure(Status):
    """Why a run did not succeed."""

    step: Annotated[str, Field(max_length=64)] | None = None
    code: Annotated[str, Field(max_length=128)]
    message: Annotated[str, Field(max_length=2048)]
    exit_code: int | None = None


class TrainingJobStatus(BaseStatus):
    """How far the training is and what it gave."""

    step: Annotated[str, Field(max_length=64)] | None = None
    progress: JobProgress | None = None
    metrics: Metrics | None = None
    gates: GateResults | None = None
    data: DataSummary | None = None
    model_version_name: Annotated[str, Field(max_length=63)] | None = None
    """The version that this run became."""
    run_uri: Annotated[str, Field(max_length=2048)] | None = Field(default=None, alias="runURI")
    """Where the run's files are."""
    start_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    completion_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    failure: JobFailure | None = None


class TrainingJobTemplate(Recipe):
    """A TrainingJob's spec without the model, and without what only a person decides on a single job."""

    model_config = ConfigDict(json_schema_extra=rules(*METRIC_RULES))
