"""ModelVersion: one packaged, registered, immutable version of a model."""

from pydantic import ConfigDict

from kaizen.api.base import BaseStatus, Digest, Model, ModelName, ObjectName, rules, unchanged

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


class ModelVersionStatus(BaseStatus):
    """What is known of the version."""
