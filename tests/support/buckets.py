"""Buckets for reconciles that must not need one."""

from collections.abc import Callable
from typing import NoReturn

from kaizen.core.plan import Bucket


class UsableBucket:
    """A bucket that nobody asks for anything."""

    def state(self) -> Bucket:
        return Bucket(usable=True)

    def bucket(self) -> NoReturn:
        raise AssertionError("nothing of the bucket is needed")

    async def in_thread(self, work: Callable[[], object]) -> NoReturn:
        raise AssertionError("nothing of the bucket is needed")

    def workload_keys(self) -> dict[str, str]:
        return {}
