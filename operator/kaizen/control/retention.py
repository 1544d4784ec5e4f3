"""Captured rows are deleted when their retention is over: by the operator, whose identity alone may delete in the bucket.

A key says on which day its rows were written, so no object is read.  Keys come in the order of days, so those that are over
come first, and a round looks at few others.  A round that is cut off anywhere is continued by the next one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from pydantic import ValidationError

from kaizen.api.capture import Capture
from kaizen.core.plan import Object
from kaizen.registry import errors, layout
from kaizen.registry.store import Entry

__all__ = ["Retention", "expire"]

_log = logging.getLogger(__name__)

ROUND_SECONDS = 3600.0
FIRST_SECONDS = 60.0
"""After the start: there is more urgent work."""
AT_ONCE = 500
"""Keys of one listing."""
ROUNDS = 40
"""Listings of one service: more than its Pods write in an hour."""


class Bucket(Protocol):
    """What of the bucket is needed here."""

    def list(self, prefix: str, after: str = "", most: int | None = None) -> tuple[Entry, ...]: ...
    def delete(self, key: str) -> None: ...


class Keeper(Protocol):
    """The bucket as of the last check, and threads for it."""

    def bucket(self) -> Bucket: ...
    def in_thread(self, work: Callable[[], int]) -> Awaitable[int]: ...


@dataclass(frozen=True)
class _Service:
    namespace: str
    name: str
    seconds: int


class Retention:
    """Looks once an hour."""

    def __init__(self, keeper: Keeper, objects: Callable[[], Iterable[Object]]) -> None:
        """`objects` are all of Kaizen's in the cluster."""
        self._keeper, self._objects = keeper, objects

    async def keep(self) -> None:
        """Delete what is over, until cancelled."""
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            await self.round(datetime.now(UTC))
            await asyncio.sleep(ROUND_SECONDS)

    async def round(self, now: datetime) -> None:
        """Of every service that captures, or did."""
        for service in list(_services(self._objects())):
            try:
                bucket = self._keeper.bucket()
                deleted = await self._keeper.in_thread(lambda bucket=bucket, one=service: _expire(bucket, one, now))  # type: ignore[misc]
            except errors.BucketError as problem:
                _log.warning("what %s/%s captured is not looked at: %s", service.namespace, service.name, problem)
            except Exception:
                _log.exception("the retention of what %s/%s captured failed", service.namespace, service.name)
            else:
                if deleted:
                    _log.info(
                        "%d files that %s/%s captured are deleted: their time is over", deleted, service.namespace, service.name
                    )


def expire(bucket: Bucket, prefix: str, before: date) -> int:
    """Delete what was written on days before this one below a prefix; how many objects that were."""
    deleted, after = 0, ""
    for _ in range(ROUNDS):
        entries = bucket.list(prefix, after, AT_ONCE)
        over = [entry.key for entry in entries if _is_before(entry.key.removeprefix(prefix), before)]
        for key in over:
            bucket.delete(key)
        deleted += len(over)
        if not over or len(entries) < AT_ONCE:
            break
        after = entries[-1].key
    return deleted


def _expire(bucket: Bucket, service: _Service, now: datetime) -> int:
    before = (now - timedelta(seconds=service.seconds)).astimezone(UTC).date()
    return expire(bucket, layout.captures(service.namespace, service.name), before)


def _is_before(name: str, before: date) -> bool:
    """Whether a key's day is over; one that names none is somebody else's."""
    day, slash, _ = name.partition("/")
    try:
        written = date.fromisoformat(day)
    except ValueError:
        return False
    return bool(slash) and written.isoformat() == day and written < before  # Python 3.11 reads also "20260131xx"


def _services(objects: Iterable[Object]) -> Iterable[_Service]:
    for body in objects:
        given = body.get("spec", {}).get("capture") if body["kind"] == "InferenceService" else None
        if given is None:
            continue
        try:
            seconds = Capture.model_validate(given).retention_seconds
        except ValidationError:  # its status says so
            continue
        yield _Service(body["metadata"]["namespace"], body["metadata"]["name"], seconds)
