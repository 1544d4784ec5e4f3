"""What stories about the registry share: a run's model directory, a process that dies at a request, how registries compare."""

import hashlib
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

import boto3

from kaizen.registry import audit, layout, production, versions
from kaizen.registry.settings import BucketSettings
from kaizen.registry.store import Bucket

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAMESPACE = "flights"
SERVICE = "flight-delay"
JOB = "0b7c"
RUN = layout.attempt(NAMESPACE, JOB, "pod-1") + "model/"
FILES = {"engine.json": b'{"format": 1}', "trees/0.bin": bytes(range(256)) * 40}
TIMES = frozenset({"createdAt", "since", "started", "time"})
Result = TypeVar("Result")
VARYING = TIMES | {"writer", "previous"}
"""What may differ between two registries that are the same: times, and what follows from them."""


def now() -> datetime:
    return datetime.now(UTC)


async def inline(work: Callable[[], Result], /) -> Result:
    """Instead of a thread: a death ends the caller too."""
    return work()


def ended(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of what waits for nothing, without an event loop: that would keep a death's connections open."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast(Result, end.value)
    raise AssertionError("it waits")


def manifest_of(files: Mapping[str, bytes]) -> bytes:
    listed = [
        {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for path, content in files.items()
    ]
    return json.dumps({"format": 1, "model": "flight-delay", "files": listed}, indent=1).encode()


def put_run(bucket: Bucket, prefix: str = RUN, files: Mapping[str, bytes] = FILES, manifest: bytes | None = None) -> None:
    """What a training Pod leaves."""
    for path, content in files.items():
        bucket.put(f"{prefix}{path}", content)
    bucket.put(f"{prefix}{layout.MANIFEST}", manifest_of(files) if manifest is None else manifest)


class Died(BaseException):
    """The process ended here: no `except Exception` runs, as none would."""


class MortalBucket(Bucket):
    """A bucket whose process dies just before or just after its n-th request, counted over all its clients."""

    def __init__(self, settings: BucketSettings, session: boto3.session.Session) -> None:
        self.requests = 0
        self._last: tuple[int, str] | None = None
        super().__init__(settings, session=session)

    @contextmanager
    def dying(self, at: int, when: str) -> Iterator[None]:
        """Requests are counted anew; `when` is before-send or response-received."""
        self.requests, self._last = 0, (at, when)
        try:
            yield
        finally:
            self._last = None

    def _connect(self, session: boto3.session.Session, attempts: int) -> "S3Client":
        client = super()._connect(session, attempts)
        client.meta.events.register("before-send.s3", self._before)
        client.meta.events.register("response-received.s3", self._after)
        return client

    def _before(self, **_: Any) -> None:
        self.requests += 1
        self._die("before-send")

    def _after(self, **_: Any) -> None:
        self._die("response-received")

    def _die(self, when: str) -> None:
        if self._last == (self.requests, when):
            raise Died(f"{when} {self.requests}")


class Story:
    """A run becomes a version and is served, as often as it is told: every time it does what is still missing."""

    def __init__(self, model: str, job: str = JOB, source: str = RUN, serving: int | None = None) -> None:
        self.model = model
        self.job = job
        self.source = source
        self.serving = serving
        """What the Service selects: it lives in the cluster, so it outlives the operator."""

    def tell(self, bucket: Bucket) -> int:
        version = versions.reserve(bucket, NAMESPACE, self.model, self.job, now=now())
        versions.register(bucket, NAMESPACE, self.model, version, self.source, now=now())
        promotion = production.intend(
            bucket, NAMESPACE, self.model, SERVICE, version, serving=self.serving, reason="NewestVersion", now=now()
        )
        self.serving = promotion.version
        production.finish(bucket, NAMESPACE, self.model, promotion, now=now())
        return version


def state(bucket: Bucket, model: str) -> dict[str, Any]:
    """Everything that the registry holds of a model, less what may vary; the files of versions byte for byte."""
    prefix = layout.registry(NAMESPACE, model)
    found: dict[str, Any] = {}
    for entry in bucket.list(prefix):
        body, _ = bucket.get(entry.key)
        key = entry.key.removeprefix(prefix)
        found[key] = body if key.startswith("versions/") else _steady(json.loads(body))
    return found


def check(bucket: Bucket, model: str) -> None:
    """What must hold at every moment: what is visible is whole, and the audit chain is sound and tells the truth."""
    for entry in versions.list_visible(bucket, NAMESPACE, model):
        assert versions.find_mismatch(bucket, NAMESPACE, model, entry.version) is None
    assert audit.verify(audit.chain(bucket, NAMESPACE, model)) is None
    serves = production.read(bucket, NAMESPACE, model, SERVICE)
    if serves:
        record = audit.records(bucket, NAMESPACE, model, serves.audit - 1)[0]
        assert (record.action, record.details["version"], record.digest) == (production.INTENDED, serves.version, serves.digest)


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _steady(item) for name, item in value.items() if name not in VARYING}
    return [_steady(item) for item in value] if isinstance(value, list) else value
