"""What one server process is told: by its environment in a Pod, by the command line in a terminal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kaizen.registry.settings import BucketSettings

__all__ = ["Limits", "Settings"]


@dataclass(frozen=True)
class Limits:
    """What one client may ask for before it is answered 408, 413, 431 or 503 instead."""

    body_bytes: int = 8 << 20
    """Of one request: 413.  Reading JSON needs about fifteen times as much for a moment."""
    buffered_bytes: int = 64 << 20
    """Of the bodies of all unfinished requests together: 503."""
    header_bytes: int = 16 << 10
    """Request line and headers: 431."""
    headers: int = 100
    """Header lines of one request: 431."""
    header_seconds: float = 10.0
    """From the first byte of a request to the end of its headers: 408."""
    body_seconds: float = 30.0
    """From there to the end of its body: 408."""
    idle_seconds: float = 620.0
    """Between two requests on one connection; longer than the load balancers of the large clouds keep theirs."""
    linger_seconds: float = 2.0
    """How long a client may take to notice that its connection is being closed."""
    pipelined: int = 32
    """Requests of one connection that wait for the one before; reading pauses above it."""


@dataclass(frozen=True)
class Settings:
    """Settings of one server process."""

    model: str
    """A directory, or s3://BUCKET/PREFIX of a version."""
    name: str = ""
    """The model's name in paths and answers; empty: the manifest's."""
    version: int | None = None
    """The model's version in paths, answers and windows; None: it has none, as in a terminal."""
    digest: str = ""
    """Expected sha256:… of the manifest; empty: any."""
    service: str = ""
    namespace: str = ""
    pod_uid: str = ""
    window_seconds: int = 300
    host: str | None = None
    """Address to listen on; None: all, IPv4 and IPv6."""
    port: int = 8080
    metrics_port: int | None = 9091
    """None: no metrics and no /healthz."""
    admin_port: int | None = 9090
    """None: nobody asks, and observations are kept only for the bucket."""
    admin_token_file: Path | None = None
    """The bearer token for the admin port, read anew for each request; None: no token is asked for."""
    drain_seconds: float = 5.0
    """How long new connections are accepted after SIGTERM, while the routes to this Pod disappear."""
    finish_seconds: float = 15.0
    """How long requests and windows may take after that."""
    bucket: BucketSettings | None = None
    """Where windows go; None: nowhere."""
    model_bucket: BucketSettings | None = None
    """Where an s3:// model is, its prefix included; None for a directory."""
    limits: Limits = field(default_factory=Limits)

    @property
    def windows_prefix(self) -> str:
        """What precedes the keys of windows in the bucket."""
        return f"workloads/{self.namespace}/"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """The settings of a Pod, from KAIZEN_… variables; raises ValueError naming the first that cannot be meant."""

        def number(name: str, default: int | None, least: int = 1) -> int | None:
            text = environment.get(name, "")
            if not text:
                return default
            if not (text.isascii() and text.isdigit()) or int(text) < least:
                raise ValueError(f"The environment variable {name} is {text!r}; it must be a whole number of at least {least}.")
            return int(text)

        def port(name: str, default: int) -> int | None:
            return number(name, default, least=0) or None

        model = environment.get("KAIZEN_MODEL_URI", "")
        if not model:
            raise ValueError(
                "There is no model to serve: give a model directory, as in `kaizen serve DIR`, or set KAIZEN_MODEL_URI in a Pod."
            )
        digest = environment.get("KAIZEN_MODEL_DIGEST", "")
        if digest and not digest.startswith("sha256:"):
            raise ValueError(f"The environment variable KAIZEN_MODEL_DIGEST is {digest!r}; it must begin with sha256:.")
        token = environment.get("KAIZEN_ADMIN_TOKEN_FILE", "")
        plain = cls(model)
        return cls(
            model=model,
            name=environment.get("KAIZEN_MODEL_NAME", ""),
            version=number("KAIZEN_MODEL_VERSION", None),
            digest=digest,
            service=environment.get("KAIZEN_SERVICE", ""),
            namespace=environment.get("KAIZEN_NAMESPACE", ""),
            pod_uid=environment.get("KAIZEN_POD_UID", ""),
            window_seconds=number("KAIZEN_WINDOW_SECONDS", None) or plain.window_seconds,
            host=environment.get("KAIZEN_HOST") or None,
            port=number("KAIZEN_PORT", None) or plain.port,
            metrics_port=port("KAIZEN_METRICS_PORT", 9091),
            admin_port=port("KAIZEN_ADMIN_PORT", 9090),
            admin_token_file=Path(token) if token else None,
            drain_seconds=_or(number("KAIZEN_DRAIN_SECONDS", None, least=0), plain.drain_seconds),
            bucket=_bucket(environment),
            model_bucket=_model_bucket(model, environment),
        )

    @classmethod
    def for_terminal(
        cls, model: str, host: str, port: int, metrics_port: int | None, environment: Mapping[str, str]
    ) -> "Settings":
        """The settings of `kaizen serve MODEL`: no windows, no admin port, and an end as soon as it is asked for."""
        return cls(
            model=model,
            host=host,
            port=port,
            metrics_port=metrics_port,
            admin_port=None,
            drain_seconds=0.0,
            model_bucket=_model_bucket(model, environment),
        )


def _or(found: int | None, default: float) -> float:
    return default if found is None else float(found)


def _bucket(environment: Mapping[str, str]) -> BucketSettings | None:
    name = environment.get("KAIZEN_BUCKET_NAME", "")
    return _at(name, environment.get("KAIZEN_BUCKET_PREFIX", ""), environment) if name else None


def _model_bucket(model: str, environment: Mapping[str, str]) -> BucketSettings | None:
    if not model.startswith("s3://"):
        return None
    name, _, prefix = model.removeprefix("s3://").partition("/")
    if not name or not prefix.strip("/"):
        raise ValueError(f"The model {model!r} names no prefix in a bucket; write s3://BUCKET/PREFIX.")
    return _at(name, prefix, environment)


def _at(name: str, prefix: str, environment: Mapping[str, str]) -> BucketSettings:
    """Credentials are not among these: boto3 finds them itself, renews them, and knows workload identities."""

    def first(*names: str) -> str | None:
        return next((found for name in names if (found := environment.get(name))), None)

    return BucketSettings(
        endpoint=first("KAIZEN_BUCKET_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        name=name,
        prefix=prefix,
        region=first("KAIZEN_BUCKET_REGION", "AWS_REGION", "AWS_DEFAULT_REGION") or "us-east-1",
        secret_name=environment.get("KAIZEN_BUCKET_SECRET", ""),
    )
