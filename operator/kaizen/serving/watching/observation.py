"""What the server saw, counted off the request path into the frozen bins that the model brings.

A request only leaves its row in a buffer, or its columns.  As soon as that holds a slice, it is counted between two turns of
the event loop; the rest a few times a second.  A slice is small enough that no request waits for it noticeably.  A window that
is over is closed and put into the outbox.  Memory is bounded everywhere: rows beyond the buffer and windows beyond the outbox
are given up, and counted as such.  So is work: distributions are judged by thousands of rows, so a server that answers tens of
thousands a second counts a sample of them.
"""

import json
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaizen.monitoring import windows
from kaizen.monitoring.counting import Counting
from kaizen.monitoring.reference import Reference
from kaizen.monitoring.windows import Window
from kaizen.serving.engine.base import Prepared, some_rows
from kaizen.serving.watching.metrics import Metrics
from kaizen.serving.watching.outbox import Item, Outbox

__all__ = ["Cells", "Observer", "item", "source"]

BUFFERED_ROWS = 65_536
ROWS_A_SECOND = 5_000
"""Counted for any length of time; after a quiet time SPARED_ROWS at once.  What is more is answered and not counted."""
SPARED_ROWS = 2 * ROWS_A_SECOND
SLICE_VALUES = 32_768
"""Counted at once: a third of a millisecond, and up to one more where they are lists of a large request.  Less would cost more
a row: what is counted takes the caches from what answers."""
LEAST_ROWS = 32
"""Counted at once, however many columns there are: fewer would cost many times as much a row."""


def source(pod_uid: str) -> str:
    """<pod uid>-<boot id>: with a worker's number behind it, a name that no other process ever has.

    A restarted container gets another boot id.
    """
    return f"{pod_uid or 'terminal'}-{secrets.token_hex(4)}"


class Cells:
    """The cells of one model's windows, and a window of them as words that another process can read."""

    def __init__(
        self, reference: Reference, service: str, version: int, window_seconds: int, inputs: Sequence[str] | None = None
    ) -> None:
        """`inputs` are the model's; None: the columns of the reference."""
        self.counting = Counting([feature.bins for feature in reference.features], reference.prediction.bins, inputs)
        self.service, self.version, self.seconds = service, version, window_seconds

    @property
    def words(self) -> int:
        """Of Observer.words()."""
        return self.counting.cells + 4

    def start(self, now: float) -> int:
        """Of the window in which a moment lies."""
        return int(now // self.seconds * self.seconds)

    def window(self, words: NDArray[np.int64], source: str, end: int | None = None) -> Window:
        """The window of Observer.words(); with the end that it has when nothing happens to its process."""
        start, rows, rejected, _ = words[:4].tolist()
        *columns, prediction = self.counting.split(words[4:])
        return Window(
            service=self.service,
            version=self.version,
            start=start,
            end=start + self.seconds if end is None else end,
            source=source,
            rows=rows,
            counts={bins.name: tuple(counts.tolist()) for bins, counts in zip(self.counting.columns, columns, strict=True)},
            prediction=tuple(prediction.tolist()),
            rejected=rejected,
        )


def item(window: Window) -> Item:
    """A window as an object of the bucket."""
    key = windows.key(window.service, window.start, window.version, window.source)
    about = {"start": window.start, "end": window.end, "rows": window.rows}
    return Item(key, json.dumps(windows.to_json(window)).encode(), "application/json", about, 1)


class Observer:
    """Counts the rows of one process.  Everything runs in the event loop's thread."""

    def __init__(
        self,
        cells: Cells,
        metrics: Metrics,
        outbox: Outbox,
        *,
        source: str,
        now: float,
        soon: Callable[[Callable[[], None]], object] = lambda turn: None,
    ) -> None:
        """`now` is the time since 1970; `soon` calls something between two turns of the event loop."""
        self._cells, self._metrics, self._outbox, self._soon = cells, metrics, outbox, soon
        self.source = source
        self._slice = max(LEAST_ROWS, SLICE_VALUES // (len(cells.counting.columns) + 1))
        self._counting = cells.counting
        self._read = bytearray()
        """Rows of requests that are no more than a slice."""
        self._large: deque[tuple[Prepared, Sequence[Any], int]] = deque()
        """All others: columns, predictions and how many rows both have."""
        self._buffered = 0
        """Rows in both."""
        self._counted = 0
        """Rows of the first large one."""
        self._awaited = False
        self._allowed = float(SPARED_ROWS)
        """Rows that may be counted now; a request is taken whole or not at all."""
        self._allowed_since = now
        self._open(now)

    def offer(self, columns: Prepared, predictions: Sequence[Any], rows: int) -> None:
        """Rows that were answered, as the engine took them; what is given must not change afterwards."""
        if self._allowed <= 0.0:
            self._give_up(rows)
            return
        buffered = self._buffered + rows
        if buffered >= self._slice and not self._has_room(buffered, rows):
            return
        self._allowed -= rows
        self._buffered = buffered
        if type(columns) is tuple:
            self._read += self._counting.row(columns, predictions[0])
        elif rows <= self._slice:  # at once: what is kept as it came makes the next requests use memory that is cold
            self._read += self._counting.table(columns, predictions, rows)
        else:
            self._large.append((columns, predictions, rows))

    def _has_room(self, buffered: int, rows: int) -> bool:
        """Give up the rows that came last when they are too many, but not for themselves; else see to it that a slice is
        counted soon."""
        if buffered > BUFFERED_ROWS and buffered != rows:
            self._give_up(rows)
            return False
        if not self._awaited:
            self._awaited = True
            self._soon(self._turn)
        return True

    def _give_up(self, rows: int) -> None:
        self._rejected += rows
        self._metrics.dropped_rows += rows

    def count(self) -> bool:
        """Count one slice of the buffer; False when there was nothing."""
        counting = self._counting
        read = self._read[: self._slice * counting.row_bytes]
        del self._read[: len(read)]
        rows = len(read) // counting.row_bytes
        while self._large and rows < self._slice:
            rows += self._read_next(read, self._slice - rows)
        if not rows:
            return False
        self._counts += counting.count(read)
        self._buffered -= rows
        self._rows += rows
        self._metrics.observed_rows += rows
        return True

    def _read_next(self, read: bytearray, most: int) -> int:
        """Read rows of the first large request, and say how many; it comes in as many slices as many small ones."""
        columns, predictions, rows = self._large[0]
        first, last = self._counted, min(rows, self._counted + most)
        self._counted = last
        if last == rows:
            self._large.popleft()
            self._counted = 0
        part: Any = some_rows(columns, first, last)
        read += self._counting.table(part, predictions[first:last], last - first)
        return last - first

    def _turn(self) -> None:
        # The buffer must not grow while many clients ask in each turn.  One large request can wait.
        for _ in range(max(1, len(self._read) // (2 * self._slice * self._counting.row_bytes))):
            self.count()
        self._awaited = self._buffered >= self._slice
        if self._awaited:
            self._soon(self._turn)

    def tick(self, now: float) -> None:
        """Close the window when its time is over, and allow more rows to be counted; some times a second."""
        more = max(0.0, now - self._allowed_since) * ROWS_A_SECOND
        self._allowed, self._allowed_since = min(self._allowed + more, SPARED_ROWS), now
        if now >= self._end:
            self._close(self._end)
            self._open(now)

    def close(self, now: float) -> None:
        """Close the window before its time.

        Only once, when no request can come any more: a second window with this start would lie under the same key.
        """
        while self.count():
            pass
        self._close(int(now))
        self._open(now)

    def words(self) -> NDArray[np.int64]:
        """The window as it is now, for Cells.window: start, rows, rejected rows, buffered rows, cells."""
        return np.concatenate((np.array((self._start, self._rows, self._rejected, self._buffered), dtype=np.int64), self._counts))

    def report(self) -> dict[str, Any]:
        """What GET /observations tells."""
        return {
            "service": self._cells.service,
            "version": self._cells.version,
            "source": self.source,
            "windowSeconds": self._cells.seconds,
            **self._outbox.report(),
            "current": windows.to_json(self._cells.window(self.words(), self.source)),
            "buffered": self._buffered,
        }

    def _open(self, now: float) -> None:
        self._start = self._cells.start(now)
        self._end = self._start + self._cells.seconds
        self._rows = self._rejected = 0
        self._counts = np.zeros(self._cells.counting.cells, dtype=np.int64)

    def _close(self, end: int) -> None:
        if self._rows or self._rejected:
            self._outbox.add(item(self._cells.window(self.words(), self.source, end)))
