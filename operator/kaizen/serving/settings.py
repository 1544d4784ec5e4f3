"""What a server is told: by its environment in a Pod, by the command line in a terminal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from kaizen.registry.settings import BucketSettings

__all__ = ["Capturing", "Limits", "Settings", "origins"]

LARGEST_PORT = 65_535
MOST_WORKERS = 64
EVERY_ORIGIN = "*"


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
    connections: int = 16_384
    """Open at once in one worker; further ones are answered 503 and closed."""
    waiting: int = 1_024
    """Unfinished requests of one worker; further ones are answered 503 at once."""


@dataclass(frozen=True)
class Capturing:
    """What is kept of the rows that are answered."""

    share: float
    """Of the rows; each is chosen by itself.  With 0 none is, and labels for earlier ones still come."""
    exclude: tuple[str, ...] = ()
    """Columns that are never written."""
    hash: tuple[str, ...] = ()
    """Columns of which digests are written."""


@dataclass(frozen=True)
class Settings:
    """Settings of one server.  Raises ValueError for what cannot be meant."""

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
    grpc_port: int | None = None
    """None: no gRPC, whose library is then not even loaded."""
    workers: int = 1
    """Processes that answer.  With more than one, another process loads the model, starts them and watches over them."""
    tokens_directory: Path | None = None
    """Each file is a bearer token of which a request must bring one; None: requests need none."""
    tls_directory: Path | None = None
    """With tls.crt and tls.key, for the public port and gRPC; None: plain HTTP."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may ask from a browser; `*` for all."""
    admin_token_file: Path | None = None
    """The bearer token for the admin port, read anew for each request; None: no token is asked for."""
    drain_seconds: float = 5.0
    """How long new connections are accepted after SIGTERM, while the routes to this Pod disappear."""
    finish_seconds: float = 15.0
    """How long requests and windows may take after that."""
    stall_seconds: float = 30.0
    """How long one of several workers may give no sign of life until it is replaced."""
    bucket: BucketSettings | None = None
    """Where windows go; None: nowhere."""
    capture: Capturing | None = None
    """None: no row is kept."""
    model_bucket: BucketSettings | None = None
    """Where an s3:// model is, its prefix included; None for a directory."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= MOST_WORKERS:
            raise ValueError(f"There cannot be {self.workers} workers; choose 1 to {MOST_WORKERS}.")
        ports = {"public": self.port, "gRPC": self.grpc_port, "metrics": self.metrics_port, "admin": self.admin_port}
        taken: dict[int, str] = {}
        for name, number in ports.items():
            if number in taken:
                raise ValueError(f"The {taken[number]} port and the {name} port are both {number}; give each its own number.")
            if number is not None:
                taken[number] = name

    @property
    def workload_prefix(self) -> str:
        """What precedes the keys of what this service writes to the bucket."""
        return f"workloads/{self.namespace}/"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """The settings of a Pod, from KAIZEN_… variables; raises ValueError naming the first that cannot be meant."""
        read = _Environment(environment)
        model = environment.get("KAIZEN_MODEL_URI", "")
        if not model:
            raise ValueError(
                "There is no model to serve: give a model directory, as in `kaizen serve DIR`, or set KAIZEN_MODEL_URI in a Pod."
            )
        digest = environment.get("KAIZEN_MODEL_DIGEST", "")
        if digest and not digest.startswith("sha256:"):
            raise ValueError(f"The environment variable KAIZEN_MODEL_DIGEST is {digest!r}; it must begin with sha256:.")
        plain = cls(model)
        body_bytes = read.number("KAIZEN_BODY_BYTES") or plain.limits.body_bytes
        return cls(
            model=model,
            name=environment.get("KAIZEN_MODEL_NAME", ""),
            version=read.number("KAIZEN_MODEL_VERSION"),
            digest=digest,
            service=environment.get("KAIZEN_SERVICE", ""),
            namespace=environment.get("KAIZEN_NAMESPACE", ""),
            pod_uid=environment.get("KAIZEN_POD_UID", ""),
            window_seconds=read.number("KAIZEN_WINDOW_SECONDS") or plain.window_seconds,
            host=environment.get("KAIZEN_HOST") or None,
            port=read.number("KAIZEN_PORT", most=LARGEST_PORT) or plain.port,
            metrics_port=read.port("KAIZEN_METRICS_PORT", plain.metrics_port),
            admin_port=read.port("KAIZEN_ADMIN_PORT", plain.admin_port),
            grpc_port=read.port("KAIZEN_GRPC_PORT", plain.grpc_port),
            workers=read.number("KAIZEN_WORKERS", most=MOST_WORKERS) or plain.workers,
            tokens_directory=read.path("KAIZEN_TOKENS_DIRECTORY"),
            tls_directory=read.path("KAIZEN_TLS_DIRECTORY"),
            cors_origins=read.origins("KAIZEN_CORS_ORIGINS"),
            admin_token_file=read.path("KAIZEN_ADMIN_TOKEN_FILE"),
            drain_seconds=_or(read.number("KAIZEN_DRAIN_SECONDS", least=0), plain.drain_seconds),
            bucket=_bucket(environment),
            capture=read.capture(),
            model_bucket=_model_bucket(model, environment),
            limits=Limits(
                body_bytes=body_bytes,
                buffered_bytes=max(plain.limits.buffered_bytes, 2 * body_bytes),  # else the largest would never find room
                connections=read.number("KAIZEN_CONNECTIONS") or plain.limits.connections,
                waiting=read.number("KAIZEN_WAITING") or plain.limits.waiting,
            ),
        )

    @classmethod
    def for_terminal(
        cls,
        model: str,
        environment: Mapping[str, str],
        *,
        host: str,
        port: int,
        metrics_port: int | None = None,
        grpc_port: int | None = None,
        workers: int = 1,
        tokens_directory: Path | None = None,
        tls_directory: Path | None = None,
        cors_origins: tuple[str, ...] = (),
    ) -> "Settings":
        """The settings of `kaizen serve MODEL`: no windows, no admin port, and an end as soon as it is asked for."""
        return cls(
            model=model,
            host=host,
            port=port,
            metrics_port=metrics_port,
            admin_port=None,
            grpc_port=grpc_port,
            workers=workers,
            tokens_directory=tokens_directory,
            tls_directory=tls_directory,
            cors_origins=cors_origins,
            drain_seconds=0.0,
            model_bucket=_model_bucket(model, environment),
        )


def origins(text: str) -> tuple[str, ...]:
    """The origins of a comma-separated list, or `*`.  Raises ValueError naming the first that is none."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in found:
        parts = urlsplit(origin)
        if origin != EVERY_ORIGIN and (not parts.scheme or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}"):
            raise ValueError(f"{origin!r} is no origin; write it as browsers do, like https://example.com, or * for every one")
    return found


class _Environment:
    """KAIZEN_… variables read as what they must be."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def number(self, name: str, least: int = 1, most: int | None = None) -> int | None:
        text = self._environment.get(name, "")
        if not text:
            return None
        if not (text.isascii() and text.isdigit()) or int(text) < least or (most is not None and int(text) > most):
            bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
            raise ValueError(f"The environment variable {name} is {text!r}; it must be a whole number {bounds}.")
        return int(text)

    def port(self, name: str, default: int | None) -> int | None:
        """0 is none."""
        found = self.number(name, least=0, most=LARGEST_PORT)
        return default if found is None else found or None

    def path(self, name: str) -> Path | None:
        text = self._environment.get(name, "")
        return Path(text) if text else None

    def capture(self) -> Capturing | None:
        """None without a share."""
        text = self._environment.get("KAIZEN_CAPTURE_SHARE", "")
        if not text:
            return None
        try:
            share = float(text)
        except ValueError:
            share = -1.0
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"The environment variable KAIZEN_CAPTURE_SHARE is {text!r}; it must be a number from 0 to 1.")
        return Capturing(share, self.names("KAIZEN_CAPTURE_EXCLUDE"), self.names("KAIZEN_CAPTURE_HASH"))

    def names(self, name: str) -> tuple[str, ...]:
        """A list of names as JSON: a column's name may have commas."""
        text = self._environment.get(name) or "[]"
        try:
            return tuple(msgspec.json.decode(text, type=list[str]))
        except msgspec.MsgspecError:
            message = f'The environment variable {name} is {text!r}; it must be a JSON list of names, like ["flight"].'
            raise ValueError(message) from None

    def origins(self, name: str) -> tuple[str, ...]:
        try:
            return origins(self._environment.get(name, ""))
        except ValueError as problem:
            raise ValueError(f"The environment variable {name} cannot be used: {problem}.") from None


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
