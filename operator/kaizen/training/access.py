"""Who reads which source: the run's own identity, or the Secret that the source names; and where claims are mounted."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kaizen.api.training_data import DataSource
from kaizen.registry.settings import BucketSettings
from kaizen.training.errors import Failure

if TYPE_CHECKING:
    from kaizen.registry.store import Bucket

__all__ = ["CLAIMS_DIRECTORY", "SECRETS_DIRECTORY", "Access", "bucket_from_environment"]

SECRETS_DIRECTORY = Path("/var/run/kaizen/secrets")
"""The Job mounts each Secret that a source names here, as a directory of its name with a file for each key."""

CLAIMS_DIRECTORY = Path("/var/run/kaizen/claims")
"""The Job mounts each PersistentVolumeClaim that a source names here, read-only, as a directory of its name."""


@dataclass(frozen=True)
class Access:
    """How the sources are reached."""

    endpoint: str | None
    """Where a Secret names none; None for AWS."""
    region: str = "us-east-1"
    secrets: Path = SECRETS_DIRECTORY
    claims: Path = CLAIMS_DIRECTORY
    pinned: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By source of s3: just these keys, each in this version, whatever is there now."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Of a training Pod: which bucket is Kaizen's own, and the namespace."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Access":
        """As AWS's own tools read it, and where nothing is said the registry's server."""
        return cls(
            endpoint=environment.get("AWS_ENDPOINT_URL_S3")
            or environment.get("AWS_ENDPOINT_URL")
            or environment.get("KAIZEN_BUCKET_ENDPOINT")
            or None,
            region=environment.get("AWS_REGION") or environment.get("KAIZEN_BUCKET_REGION") or "us-east-1",
            secrets=Path(environment.get("KAIZEN_SECRETS_DIR") or SECRETS_DIRECTORY),
            claims=Path(environment.get("KAIZEN_CLAIMS_DIR") or CLAIMS_DIRECTORY),
            environment=environment,
        )

    def open(self, source: DataSource, name: str) -> "Bucket":
        """The bucket of this name for one source; raises Failure when its Secret is not there or lacks a key."""
        from kaizen.registry.store import Bucket

        keys = self.secret(source.secret_name) if source.secret_name else {}
        for needed in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if source.secret_name else ():
            if not keys.get(needed):
                message = f"the Secret {source.secret_name} has no {needed}: add it"
                raise Failure("Ingest", "SecretIncomplete", message, retry=True)
        try:
            settings = BucketSettings(
                keys.get("AWS_ENDPOINT_URL_S3") or self.endpoint,
                name,
                region=keys.get("AWS_REGION") or self.region,
                access_key=keys.get("AWS_ACCESS_KEY_ID"),
                secret_key=keys.get("AWS_SECRET_ACCESS_KEY"),
                session_token=keys.get("AWS_SESSION_TOKEN"),
                secret_name=source.secret_name or "",
            )
        except ValueError as problem:
            raise Failure("Ingest", "InvalidSource", f"source {source.name}: {problem}") from problem
        return Bucket(settings, read_timeout_seconds=60.0)

    def own(self, source: DataSource) -> "tuple[Bucket, str]":
        """Kaizen's bucket and the namespace, for what services have captured; raises Failure where no environment names them."""
        try:
            return bucket_from_environment(self.environment), self.environment["KAIZEN_NAMESPACE"]
        except (ValueError, KeyError) as problem:
            message = (
                f"source {source.name} is what a service captured, which a TrainingJob's Pod can read: run it on the cluster"
            )
            raise Failure("Ingest", "InvalidSource", message) from problem

    def secret(self, name: str) -> dict[str, str]:
        """The values of a mounted Secret; raises Failure when it is not there."""
        directory = self.secrets / name
        if not directory.is_dir():
            raise Failure("Ingest", "SecretMissing", f"the Secret {name} is not mounted at {directory}", retry=True)
        return {path.name: path.read_text().strip() for path in directory.iterdir() if path.is_file()}


def bucket_from_environment(environment: Mapping[str, str]) -> "Bucket":
    """Kaizen's own bucket, as the operator's Job describes it; credentials by boto3's default chain.

    Raises ValueError naming the variable that is missing or wrong.
    """
    from kaizen.registry.store import Bucket

    if not (name := environment.get("KAIZEN_BUCKET_NAME")):
        raise ValueError("The environment variable KAIZEN_BUCKET_NAME is not set; the TrainingJob's Pod has it.")
    settings = BucketSettings(
        environment.get("KAIZEN_BUCKET_ENDPOINT") or None,
        name,
        environment.get("KAIZEN_BUCKET_PREFIX", ""),
        region=environment.get("KAIZEN_BUCKET_REGION") or "us-east-1",
        secret_name=environment.get("KAIZEN_BUCKET_SECRET", ""),
    )
    return Bucket(settings, read_timeout_seconds=60.0)
