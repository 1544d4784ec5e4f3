"""The queue of keys: each at most once, never two workers on one key, growing delay after failures.

`KeyQueue` is pure and takes the time as an argument; `waiting` adds the event loop.
"""

import asyncio
import heapq
from collections.abc import Callable

from kaizen.core.plan import Key

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 300.0


class KeyQueue:
    """Keys and when they are due, in seconds of any steadily growing clock."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._working: dict[Key, float | None] = {}
        self._failures: dict[Key, int] = {}

    def add(self, key: Key, at: float) -> None:
        """Make a key due at a time; an earlier due time wins."""
        if key in self._working:
            pending = self._working[key]
            self._working[key] = at if pending is None else min(pending, at)
        elif key not in self._due or at < self._due[key]:
            self._due[key] = at
            heapq.heappush(self._heap, (at, key))

    def take(self, now: float) -> Key | None:
        """The key that has been due the longest, now worked on; None when none is due."""
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                del self._due[key]
                self._working[key] = None
                return key
        return None

    def done(self, key: Key, again_at: float | None = None) -> None:
        """End the work on a key after a success; it is due again when it was added meanwhile, or at `again_at`."""
        self._failures.pop(key, None)
        self._end(key, again_at)

    def failed(self, key: Key, now: float) -> float:
        """End the work on a key after a failure; returns the delay after which it is due again, in seconds.

        An event may make it due earlier: a changed spec need not wait out the delay that an older one earned.
        """
        count = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(FIRST_DELAY_SECONDS * 2.0 ** min(count - 1, 20), LONGEST_DELAY_SECONDS)
        self._end(key, now + delay)
        return delay

    def next_due(self) -> float | None:
        """When the next key is due, or None."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def waiting(self, now: float) -> tuple[int, float]:
        """How many keys are due, and for how many seconds the oldest has been."""
        due = [at for at in self._due.values() if at <= now]
        return len(due), now - min(due) if due else 0.0

    def _end(self, key: Key, again_at: float | None) -> None:
        added = self._working.pop(key)
        times = [at for at in (added, again_at) if at is not None]
        if times:
            self.add(key, min(times))


class Queue:
    """A KeyQueue on the event loop's clock that workers can wait on."""

    def __init__(self) -> None:
        self.keys = KeyQueue()
        self._changed = asyncio.Event()

    @property
    def now(self) -> Callable[[], float]:
        """The clock of this queue."""
        return asyncio.get_running_loop().time

    def add(self, key: Key, after_seconds: float = 0.0) -> None:
        """Make a key due after a time."""
        self.keys.add(key, self.now() + after_seconds)
        self._changed.set()

    async def take(self) -> Key:
        """Wait for a key that is due."""
        while True:
            if key := self.keys.take(self.now()):
                return key
            self._changed.clear()
            due = self.keys.next_due()
            try:
                async with asyncio.timeout(None if due is None else max(due - self.now(), 0.0)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key, again_after_seconds: float | None = None) -> None:
        """End the work on a key after a success."""
        self.keys.done(key, None if again_after_seconds is None else self.now() + again_after_seconds)
        self._changed.set()

    def failed(self, key: Key) -> float:
        """End the work on a key after a failure; returns the delay in seconds."""
        self._changed.set()
        return self.keys.failed(key, self.now())
