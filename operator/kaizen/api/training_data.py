"""Where a TrainingJob's rows come from, what is expected of them, and how they are held out."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from kaizen.api.base import AS_ATOM, AS_SET, ColumnName, Model, ObjectName, Seconds, by_key, rules

CAPTURED_COLUMNS = (
    "prediction_id", "prediction_time", "prediction_version", "prediction", "sampling_probability", "label", "label_time",
)  # fmt: skip
"""What captures bring beside the inputs and keys of a request; never features."""


class Captures(Model):
    """What a service captured of its requests, joined with the labels that came back."""

    inference_service_name: ObjectName
    labelled_share_at_least: Annotated[float, Field(ge=0, le=1)] | None = None
    """With fewer labels among the captured rows the run stops; 0.5 when omitted."""


class DataSource(Model):
    """Files, or what a service captured, that become one table."""

    model_config = ConfigDict(json_schema_extra=rules(
        ("has(self.uri) != has(self.captures)", "data.sources[] needs exactly one of uri and captures"),
        (
            "!has(self.captures) || !has(self.format) && !has(self.secretName)",
            "data.sources[].format and secretName go with uri: captures need neither",
        ),
    ))  # fmt: skip

    name: Annotated[str, Field(min_length=1, max_length=63, pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
    """The table's name in the query."""
    uri: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=1024,
                pattern=r"^(s3://[^/]+/.+|https://[^/]+/.+|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.*)$",
            ),
        ]
        | None
    ) = None
    """A file, a prefix ending in / or a glob: s3://BUCKET/PATH or pvc://CLAIM/PATH; or one file: https://HOST/PATH."""
    captures: Captures | None = None
    format: Literal["Parquet", "CSV", "JSONLines"] | None = None
    """From the files' suffix when omitted."""
    secret_name: ObjectName | None = None
    """Of s3: Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and optionally AWS_ENDPOINT_URL_S3; else the Pod's own
    identity.  Of https: Secret with token, or with username and password."""

    @property
    def where(self) -> str:
        """Where the rows come from, as a person would say it."""
        return f"captures of {self.captures.inference_service_name}" if self.captures else self.uri or ""


class Features(Model):
    """Which columns of the query the model sees."""

    exclude: Annotated[list[ColumnName], Field(max_length=256, json_schema_extra=AS_SET)] = []
    """Columns that are not features, besides target, timestamp and keys."""
    include: Annotated[list[ColumnName], Field(max_length=256, json_schema_extra=AS_SET)] = []
    """Of timestamp and sensitive, the columns that are features nevertheless."""


class Expectation(Model):
    """What must hold of a column; a violation stops the run."""

    model_config = ConfigDict(json_schema_extra=rules(
        (
            "has(self.minimum) || has(self.maximum) || has(self.missingShareAtMost) || has(self.allowed)",
            "data.expectations[] needs at least one of minimum, maximum, missingShareAtMost, allowed",
        ),
        (
            "!has(self.minimum) || !has(self.maximum) || self.minimum <= self.maximum",
            "data.expectations[].minimum must not be above maximum",
        ),
    ))  # fmt: skip

    column: ColumnName
    minimum: float | None = None
    maximum: float | None = None
    missing_share_at_most: Annotated[float, Field(ge=0, le=1)] | None = None
    allowed: Annotated[list[Annotated[str, Field(max_length=256)]], Field(min_length=1, max_length=256)] | None = None
    """The only values, as text."""


class Tolerated(Model):
    """An anomaly that is reported and does not stop the run."""

    code: Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Z][A-Z_]*$")]
    """As in status.data.anomalies, e.g. LABEL_LEAKAGE."""
    column: ColumnName | None = None
    """Any column when omitted."""


class Split(Model):
    """How rows are held out for judging the model."""

    model_config = ConfigDict(json_schema_extra=rules(
        ("self.testShare >= 0.01 && self.testShare <= 0.5", "data.split.testShare must be from 0.01 to 0.5"),
        (
            "(has(self.method) && self.method == 'Grouped') == (size(self.groups) > 0)",
            "data.split.groups, the columns whose equal values stay together, goes with split.method Grouped and only there",
        ),
    ))  # fmt: skip

    method: Literal["Temporal", "Random", "Stratified", "Grouped"] | None = None
    """Temporal holds out the newest rows, Random a stable share, Stratified a stable share of each class, Grouped a stable share
    of the groups; when omitted, Temporal if there is a timestamp."""
    test_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    groups: Annotated[list[ColumnName], Field(max_length=16, json_schema_extra=AS_SET)] = []
    """With Grouped: columns whose equal values stay on one side; never features."""


class Data(Model):
    """Where the rows come from and what their columns mean."""

    model_config = ConfigDict(json_schema_extra=rules(
        ("size(self.sources) == 1 || has(self.query)", "several sources need a query that joins them: write data.query"),
        (
            "!has(self.split.method) || self.split.method != 'Temporal' || has(self.timestamp)",
            "split.method Temporal needs data.timestamp: name the column that orders the rows",
        ),
        (
            "!has(self.windowSeconds) || has(self.timestamp)",
            "data.windowSeconds needs data.timestamp: name the column that orders the rows",
        ),
        ("!has(self.timestamp) || self.timestamp != self.target", "data.timestamp and data.target must be different columns"),
        ("!(self.target in self.features.exclude)", "data.target is never a feature: remove it from features.exclude"),
        (
            "self.features.include.all(name, name in self.sensitive || (has(self.timestamp) && name == self.timestamp))",
            "data.features.include names only data.timestamp and columns of data.sensitive: all others are features anyway",
        ),
    ))  # fmt: skip

    sources: Annotated[list[DataSource], Field(min_length=1, max_length=16, json_schema_extra=by_key("name"))]
    query: Annotated[str, Field(min_length=1, max_length=16384)] | None = None
    """DuckDB SQL over the sources; optional with one source."""
    target: ColumnName
    """The column to predict."""
    target_missing: Literal["Fail", "Drop"] = "Fail"
    """What happens to rows without a target."""
    timestamp: ColumnName | None = None
    """The column that orders rows in time; not a feature unless features.include names it."""
    keys: Annotated[list[ColumnName], Field(max_length=16, json_schema_extra=AS_SET)] = []
    """Columns that identify a row; never features."""
    sensitive: Annotated[list[ColumnName], Field(max_length=16, json_schema_extra=AS_SET)] = []
    """Columns for slices and fairness; not features unless features.include names them."""
    window_seconds: Seconds | None = None
    """Train on the newest rows only, counted back from the newest row; everything when omitted."""
    features: Features = Features()
    expectations: Annotated[list[Expectation], Field(max_length=64, json_schema_extra=by_key("column"))] = []
    tolerated: Annotated[list[Tolerated], Field(max_length=32, json_schema_extra=AS_ATOM)] = []
    """Anomalies that would stop the run, and shall not."""
    minimum_rows: Annotated[int, Field(ge=10, le=1_000_000_000)] = 1000
    split: Split = Split()
    snapshot: Literal["None", "References", "Copy"] = "References"
    """What an exact reproduction can go back to: nothing, the names and digests of the files, or a copy of the rows."""

    @property
    def apart(self) -> frozenset[str]:
        """Columns that the model does not learn from, besides target, timestamp and sensitive ones."""
        captured = CAPTURED_COLUMNS if any(source.captures for source in self.sources) else ()
        return frozenset({*self.keys, *self.split.groups, *self.features.exclude, *captured} - {self.target})
