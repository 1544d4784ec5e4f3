"""TrainingJob: train a model on data, judge it, and package it as a new version."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from kaizen.api.base import (
    ANY_OBJECT,
    AS_ATOM,
    BRIEF,
    BaseStatus,
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
from kaizen.api.metrics import FAIRNESS_METRICS, LATENCY_METRICS, model_metrics
from kaizen.api.training_data import Data
from kaizen.api.training_gates import Gate
from kaizen.api.training_search import Search

MUTABLE_FIELDS = ("suspend", "ttlSecondsAfterFinished")
IMMUTABLE = "a TrainingJob cannot be changed except suspend and ttlSecondsAfterFinished: create a new TrainingJob"


class Estimator(Model):
    """A scikit-learn estimator by its class name."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z][A-Za-z0-9]*$")]
    """Any scikit-learn classifier or regressor, LGBMClassifier, XGBRegressor, ..., or Auto."""
    parameters: Annotated[dict[str, Any], Field(json_schema_extra=ANY_OBJECT)] = {}
    """The constructor's parameters."""


class Code(Model):
    """The user's own Python function, which returns an unfitted scikit-learn estimator."""

    model_config = ConfigDict(json_schema_extra=rules(
        (
            "has(self.revision) == has(self.path) && (has(self.path) || !self.uri.endsWith('.git'))",
            "code.revision and code.path belong to a git repository, which needs both: a commit, tag or branch, and a file in it",
        ),
    ))  # fmt: skip

    uri: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^(s3://[^/]+/.+\.py|https://[^/]+/.+|pvc://[^/]+/.+)$")]
    """A .py file: s3://BUCKET/PATH, pvc://CLAIM/PATH or https://HOST/PATH; or a git repository: https://HOST/PATH.git."""
    revision: Annotated[str, Field(min_length=1, max_length=256, pattern="^[A-Za-z0-9][A-Za-z0-9._/-]*$")] | None = None
    """Of a git repository: a commit, tag or branch."""
    path: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*\.py$")] | None = None
    """Of a git repository: the file in it."""
    function: Annotated[str, Field(min_length=1, max_length=128, pattern="^[A-Za-z_][A-Za-z0-9_]*$")] = "build_pipeline"
    """Called with the parameters by name."""
    parameters: Annotated[dict[str, Any], Field(json_schema_extra=ANY_OBJECT)] = {}
    secret_name: ObjectName | None = None
    """As of a data source."""


class Container(Model):
    """The user's own image, which trains a model in its own way (docs/containers.md)."""

    image: Annotated[str, Field(min_length=1, max_length=512)]
    command: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=64)] = []
    args: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=64)] = []
    parameters: Annotated[dict[str, Any], Field(json_schema_extra=ANY_OBJECT)] = {}
    """In KAIZEN_PARAMETERS as JSON, and one variable each: KAIZEN_PARAMETER_<NAME>."""
    replicas: Annotated[int, Field(ge=1, le=256)] = 1
    """More than 1: Pods with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; the one of rank 0 leaves the model."""


class DecisionCost(Model):
    """What a wrong answer costs."""

    false_positive: Annotated[float, Field(ge=0, le=1_000_000_000)]
    false_negative: Annotated[float, Field(ge=0, le=1_000_000_000)]


class Decision(Model):
    """Where the probability of the second of two classes becomes that class."""

    model_config = ConfigDict(json_schema_extra=rules(
        (
            "(has(self.maximise) ? 1 : 0) + (has(self.threshold) ? 1 : 0) + (has(self.cost) ? 1 : 0) == 1",
            "decision needs exactly one of maximise, threshold, cost",
        ),
    ))  # fmt: skip

    maximise: Literal["accuracy", "balanced_accuracy", "f1", "matthews"] | None = None
    """The threshold that is best by this metric on inner folds."""
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    cost: DecisionCost | None = None
    """The threshold that costs least on inner folds."""


class Explain(Model):
    """How the model is explained in its report."""

    method: Literal["Permutation", "SHAP", "None"] = "Permutation"


class MLflow(Model):
    """A tracking server that is told of the run as well."""

    uri: Annotated[str, Field(min_length=1, max_length=1024, pattern="^https?://.+$")]
    experiment: Annotated[str, Field(min_length=1, max_length=256)] = "Default"
    secret_name: ObjectName | None = None
    """Secret with token, or with username and password."""


class Tracking(Model):
    """Who else is told of the run."""

    mlflow: MLflow


class Recipe(Model):
    """How a model is made: a TrainingJob's spec without whose it is and when, and what an InferenceService retrains by."""

    task: Literal["Classification", "Regression"]
    data: Data
    estimator: Estimator | None = None
    code: Code | None = None
    container: Container | None = None
    search: Search | None = None
    calibration: Literal["Automatic", "None"] = "Automatic"
    """Probabilities are calibrated on inner folds where that lowers the Brier score there."""
    decision: Decision | None = None
    explain: Explain = Explain()
    refit: Literal["Automatic", "None"] = "Automatic"
    """Fit the judged pipeline again on all rows; Automatic does so when the split is temporal."""
    gates: Annotated[list[Gate], Field(max_length=16, json_schema_extra=by_key("name"))] = []
    tracking: Tracking | None = None
    pod: PodSettings = PodSettings()
    pod_template: Annotated[dict[str, Any], Field(json_schema_extra=ANY_OBJECT)] | None = None
    """Any other field of a Pod template, merged under Kaizen's own."""
    backoff_limit: Annotated[int, Field(ge=0, le=20)] = 2
    """Retries after failures that a retry can mend."""
    active_deadline_seconds: Seconds | None = None


def _metric_rule(task: str) -> tuple[str, str]:
    metrics = (*model_metrics(task), *(FAIRNESS_METRICS if task == "Classification" else ()), *LATENCY_METRICS)
    listed = ", ".join(f"'{metric}'" for metric in metrics)
    return (
        f"self.task != '{task}' || self.gates.all(gate, gate.metric in [{listed}])",
        f"gates[].metric must be one of {', '.join(metrics)} for task {task}",
    )


def _objective_rule(task: str) -> tuple[str, str]:
    listed = ", ".join(f"'{metric}'" for metric in model_metrics(task))
    return (
        f"self.task != '{task}' || !has(self.search) || !has(self.search.objective)"
        f" || self.search.objective.metric in [{listed}]",
        f"search.objective.metric must be one of {', '.join(model_metrics(task))} for task {task}",
    )


RECIPE_RULES = (
    _metric_rule("Classification"),
    _metric_rule("Regression"),
    _objective_rule("Classification"),
    _objective_rule("Regression"),
    (
        "(has(self.estimator) ? 1 : 0) + (has(self.code) ? 1 : 0) + (has(self.container) ? 1 : 0) == 1",
        "exactly one of estimator, code, container must be given",
    ),
    ("!has(self.search) || !has(self.container)", "search tunes an estimator or code; a container tunes itself"),
    (
        "!has(self.search) || size(self.search.space) > 0 || (has(self.estimator) && self.estimator.name == 'Auto')",
        "search.space must name at least one parameter; only estimator Auto brings its own",
    ),
    (
        "!has(self.search) || !has(self.estimator) || self.estimator.name != 'Auto'"
        " || (size(self.search.space) == 0 && self.search.sampler in ['TPE', 'Random'])",
        "search with estimator Auto takes no space, for Auto brings its own, and sampler TPE or Random",
    ),
    ("!has(self.decision) || self.task == 'Classification'", "decision is for task Classification"),
    (
        "!has(self.data.split.method) || self.data.split.method != 'Stratified' || self.task == 'Classification'",
        "split.method Stratified is for task Classification",
    ),
)


class TrainingJobSpec(Recipe):
    """What to train."""

    model_config = ConfigDict(json_schema_extra=rules(
        *RECIPE_RULES,
        *unchanged(
            "model", "task", "data", "estimator", "code", "container", "search", "calibration", "decision", "explain", "refit",
            "gates", "tracking", "pod", "podTemplate", "backoffLimit", "activeDeadlineSeconds", message=IMMUTABLE,
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
    eta_seconds: int | None = None
    """Of a search: how long the remaining trials will take, by those so far."""


class BestTrial(Status):
    """The trial that is ahead."""

    value: float
    parameters: Annotated[str, Field(max_length=2048)]
    """As JSON."""


class SearchSummary(Status):
    """How many trials have ended, and how."""

    finished: int
    """Also those that were pruned or failed."""
    pruned: int
    failed: int
    best: BestTrial | None = None


class Anomaly(Status):
    """Something about the data that was not expected."""

    code: Annotated[str, Field(max_length=64)]
    """Stable, e.g. ENUM_TYPE_UNEXPECTED_STRING_VALUES."""
    severity: Annotated[str, Field(max_length=16)]
    """Error stops the run, Warning does not."""
    column: Annotated[str, Field(max_length=128)] | None = None
    message: Annotated[str, Field(max_length=1024)]


class DataSummary(Status):
    """What the run read."""

    digest: Annotated[str, Field(max_length=71)]
    """Of the files' content and the query: the same data, the same digest."""
    rows: int
    columns: int | None = None
    trained_until: Annotated[str, Field(max_length=64)] | None = None
    """The newest moment in the data."""
    anomalies: Annotated[list[Anomaly], Field(max_length=32, json_schema_extra=AS_ATOM)] | None = None


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
    search: SearchSummary | None = None
    metric: Annotated[str, Field(max_length=128)] | None = None
    """The figure to look at first, e.g. log_loss=0.412: on test rows, and during a search the best trial's."""
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
    """A TrainingJob's spec without the model, and without what only a person decides on a single job; see it for the fields."""

    model_config = ConfigDict(json_schema_extra={**rules(*RECIPE_RULES), BRIEF: True})
