"""A bucket for reconciles that are tried without one: in memory, and empty."""

from collections.abc import Callable
from typing import Any

from kaizen.core.plan import Bucket
from kaizen.registry import store
from tests.support.training import MemoryBucket


class EmptyBucket:
    """A bucket that can be used and has nothing in it."""

    def __init__(self) -> None:
        self._bucket = MemoryBucket()

    def state(self) -> Bucket:
        return Bucket(usable=True)

    def bucket(self) -> store.Bucket:
        return self._bucket.as_bucket()

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        return work()

    def workload_keys(self) -> dict[str, str]:
        return {}
