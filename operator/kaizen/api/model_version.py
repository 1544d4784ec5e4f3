"""ModelVersion: one packaged, registered, immutable version of a model."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from kaizen.api.base import (
    BaseStatus,
    Digest,
    EngineChoice,
    GateResults,
    Metrics,
    Model,
    ModelName,
    ObjectName,
    Status,
    rules,
    unchanged,
)

IMMUTABLE = "a ModelVersion cannot be changed: a different model is another version"


class VersionSource(Model):
    """Where the version comes from."""

    training_job_name: ObjectName


class ModelVersionSpec(Model):
    """Which version this is."""

    model_config = ConfigDict(json_schema_extra=rules(*unchanged("model", "source", "digest", message=IMMUTABLE)))

    model: ModelName
    source: VersionSource
    digest: Digest
    """sha256 of the version's manifest."""


class Lineage(Status):
    """What the version was made from."""

    training_job: Annotated[str, Field(max_length=253)]
    data_digest: Annotated[str, Field(max_length=71)] | None = None
    code_digest: Annotated[str, Field(max_length=71)] | None = None
    """Of Kaizen's code and packages, and the user's own."""
    parent_version: int | None = None
    """What served when this one was trained."""
    trigger: Annotated[str, Field(max_length=64)] | None = None
    """Manual, or why an InferenceService started the training."""
    trained_until: Annotated[str, Field(max_length=64)] | None = None


class ModelVersionStatus(BaseStatus):
    """What is known of the version."""

    version: int | None = None
    stage: Literal["Candidate", "Production", "Archived", "Rejected"] | None = None
    uri: Annotated[str, Field(max_length=2048)] | None = None
    model_digest: Annotated[str, Field(max_length=71)] | None = None
    """Of the engine's arrays: the same fit, the same digest."""
    size_bytes: int | None = None
    metrics: Metrics | None = None
    gates: GateResults | None = None
    engine: EngineChoice | None = None
    lineage: Lineage | None = None
