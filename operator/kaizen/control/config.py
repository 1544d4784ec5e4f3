"""What the operator is told by its environment; the chart sets every variable."""

from collections.abc import Mapping
from dataclasses import dataclass

from kaizen.core.plan import Settings


@dataclass(frozen=True)
class Config:
    """Settings of one operator process."""

    namespace: str
    pod_name: str
    bucket_name: str
    bucket_prefix: str
    bucket_endpoint: str | None
    bucket_region: str
    bucket_secret: str | None
    """Secret in the operator's namespace with the bucket's credentials; None: the Pod's own identity."""
    bucket_embedded: bool
    """The bucket is on the chart's own S3 server: the operator makes its users, the bucket and its policy."""
    trainer_image: str
    server_image: str
    server_sklearn_image: str
    resync_seconds: float
    workers: int
    port: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Config":
        """Read KAIZEN_… variables; raises ValueError naming the first that is missing or not a number."""

        def needed(name: str) -> str:
            if not (value := environment.get(name, "")):
                raise ValueError(f"The environment variable {name} is not set; the chart's Deployment sets it.")
            return value

        def number(name: str, default: int) -> int:
            text = environment.get(name) or str(default)
            if not (text.isascii() and text.isdigit()) or int(text) < 1:
                raise ValueError(f"The environment variable {name} is {text!r}; it must be a whole number of at least 1.")
            return int(text)

        return cls(
            namespace=needed("KAIZEN_NAMESPACE"),
            pod_name=needed("KAIZEN_POD_NAME"),
            bucket_name=needed("KAIZEN_BUCKET_NAME"),
            bucket_prefix=environment.get("KAIZEN_BUCKET_PREFIX", ""),
            bucket_endpoint=environment.get("KAIZEN_BUCKET_ENDPOINT") or None,
            bucket_region=environment.get("KAIZEN_BUCKET_REGION") or "us-east-1",
            bucket_secret=environment.get("KAIZEN_BUCKET_SECRET") or None,
            bucket_embedded=environment.get("KAIZEN_BUCKET_EMBEDDED") == "true",
            trainer_image=environment.get("KAIZEN_TRAINER_IMAGE", ""),
            server_image=environment.get("KAIZEN_SERVER_IMAGE", ""),
            server_sklearn_image=environment.get("KAIZEN_SERVER_SKLEARN_IMAGE", ""),
            resync_seconds=number("KAIZEN_RESYNC_SECONDS", 300),
            workers=number("KAIZEN_WORKERS", 8),
            port=number("KAIZEN_PORT", 9091),
        )

    def settings(self) -> Settings:
        """What decisions depend on."""
        bucket = {
            "KAIZEN_BUCKET_NAME": self.bucket_name,
            "KAIZEN_BUCKET_PREFIX": self.bucket_prefix,
            "KAIZEN_BUCKET_ENDPOINT": self.bucket_endpoint or "",
            "KAIZEN_BUCKET_REGION": self.bucket_region,
        }
        return Settings(
            trainer_image=self.trainer_image,
            server_image=self.server_image,
            server_sklearn_image=self.server_sklearn_image,
            bucket_environment={name: value for name, value in bucket.items() if value},
        )
