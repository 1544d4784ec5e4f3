"""What waits to be written to the bucket: the oldest first, again after failures, never without bound.

Whoever adds something never waits for the bucket: `write` is for a thread.  A worker tells its parent of everything that
goes in and out of its outboxes, so that the parent can say what lies where, and what a worker that died had still to write
is written by the next one.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Item", "Outbox", "Write"]

log = logging.getLogger(__name__)

WAITING = 64
"""Items that could not be written yet; control.monitoring looks as far back."""
REMEMBERED = 512
"""Written items whose keys are told to whoever asks."""

Write = Callable[[str, bytes, str], object]
"""Writes a key of the namespace's part of the bucket: key, content, content type; may raise anything."""
Told = Callable[[str, "Item"], None]
"""Hears of each item: waiting, written or lost."""


@dataclass(frozen=True)
class Item:
    """One object of the bucket."""

    key: str
    body: bytes = field(repr=False)
    content_type: str
    about: Mapping[str, Any]
    """What is told of it to whoever asks."""
    units: int
    """What it holds, in the unit of the counter of its kind: windows, labels, or files."""


class Outbox:
    """Items of one kind.  Everything but `write` runs in the event loop's thread."""

    def __init__(
        self,
        kind: str,
        write: Write | None,
        *,
        written: Callable[[int], None] = lambda units: None,
        lost: Callable[[int], None] = lambda units: None,
        told: Told = lambda what, item: None,
        waiting: Iterable[Item] = (),
        most: int = WAITING,
    ) -> None:
        """`kind` is for messages; without `write` items are only told to whoever asks.  `waiting` is somebody else's rest."""
        self.kind, self._most = kind, most
        self._write, self._count_written, self._count_lost, self._tell = write, written, lost, told
        self._waiting: deque[Item] = deque()
        self._written: deque[Item] = deque(maxlen=REMEMBERED)
        for item in waiting:
            self.add(item)

    @property
    def full(self) -> bool:
        """Whether the next item costs the oldest."""
        return len(self._waiting) >= self._most

    @property
    def pending(self) -> bool:
        """Whether there is something to write."""
        return bool(self._waiting)

    def add(self, item: Item) -> None:
        """One more, at the price of the oldest when there are too many."""
        if self._write is None:
            self._written.append(item)
            self._tell("written", item)
            return
        if self.full:
            oldest = self._waiting.popleft()
            log.warning("%s %s is given up: too many wait for the bucket", self.kind, oldest.key)
            self._count_lost(oldest.units)
            self._tell("lost", oldest)
        self._waiting.append(item)
        self._tell("waiting", item)

    def write(self) -> bool:
        """Write what waits; False when something cannot be.  For a thread, one call at a time."""
        for item in tuple(self._waiting):
            assert self._write is not None
            try:
                self._write(item.key, item.body, item.content_type)
            except Exception as error:
                log.warning("%s %s is not written yet: %s", self.kind, item.key, error)
                return False
            self._written.append(Item(item.key, b"", item.content_type, item.about, item.units))
            with suppress(ValueError):  # given up while it was being written
                self._waiting.remove(item)
            self._count_written(item.units)
            self._tell("written", item)
        return True

    def report(self) -> dict[str, list[dict[str, Any]]]:
        """What is written and what is not."""
        return {
            "written": [{"key": item.key, **item.about} for item in tuple(self._written)],
            "unwritten": [{"key": item.key, **item.about} for item in tuple(self._waiting)],
        }
