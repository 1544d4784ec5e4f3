"""What the server saw, counted off the request path into the frozen bins that the model brings.

A request only leaves its columns in a buffer.  A few times a second the buffer is counted in slices, small enough that no
request waits for one noticeably; a window that is over is closed and written to the bucket in a thread.  Memory is
bounded everywhere: rows beyond the buffer and windows beyond the backlog are given up, and counted as such.
"""

import json
import logging
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaizen.monitoring import windows
from kaizen.monitoring.bins import Bins, count
from kaizen.monitoring.reference import Reference
from kaizen.monitoring.windows import Window
from kaizen.serving.metrics import Metrics

__all__ = ["Observer", "source"]

log = logging.getLogger(__name__)

BUFFERED_ROWS = 65_536
SLICE_ROWS = 256
BACKLOG = 64
"""Closed windows that could not be written yet."""
REMEMBERED = 512
"""Written windows whose keys are told to whoever asks."""

Columns = Mapping[str, list[Any]]
Write = Callable[[str, bytes], object]
"""Writes a key of the namespace's part of the bucket; may raise anything."""


def source(pod_uid: str) -> str:
    """A name that no other process ever has: <pod uid>-<boot id>-<worker>.  A restarted container gets another boot id."""
    return f"{pod_uid or 'terminal'}-{secrets.token_hex(4)}-0"


@dataclass(frozen=True)
class _Closed:
    key: str
    window: Window


class Observer:
    """Counts the rows of one server process.  Everything but `write` runs in the event loop's thread."""

    def __init__(
        self,
        reference: Reference,
        metrics: Metrics,
        *,
        service: str,
        version: int,
        source: str,
        window_seconds: int,
        now: float,
        write: Write | None,
    ) -> None:
        """`now` is the time since 1970; `write` may be None, and windows are then only told to whoever asks."""
        self._bins: tuple[Bins, ...] = tuple(feature.bins for feature in reference.features)
        self._prediction = reference.prediction.bins
        self._metrics = metrics
        self._service, self._version, self.source = service, version, source
        self._seconds = window_seconds
        self._write = write
        self._buffer: deque[tuple[Columns, list[Any], int]] = deque()
        self._buffered = 0
        self._unwritten: deque[_Closed] = deque()
        self._written: deque[_Closed] = deque(maxlen=REMEMBERED)
        self._open(now)

    def offer(self, columns: Columns, predictions: list[Any], rows: int) -> None:
        """Rows that were answered; the lists must not change afterwards."""
        if self._buffered + rows > BUFFERED_ROWS:
            self._rejected += rows
            self._metrics.dropped_rows += rows
            return
        self._buffered += rows
        self._buffer.append((columns, predictions, rows))

    def count(self) -> bool:
        """Count one slice of the buffer; False when there was nothing."""
        if not self._buffer:
            return False
        batch: list[tuple[Columns, list[Any], int]] = []
        rows = 0
        while self._buffer and rows < SLICE_ROWS:
            batch.append(self._buffer.popleft())
            rows += batch[-1][2]
        self._buffered -= rows
        for bins, total in zip(self._bins, self._counts, strict=True):
            total += _count(bins, [value for columns, _, _ in batch for value in columns[bins.name]])
        self._predicted += _count(self._prediction, [value for _, predictions, _ in batch for value in predictions])
        self._rows += rows
        self._metrics.observed_rows += rows
        return True

    def close_if_over(self, now: float) -> bool:
        """Close the window when its time is over; True when there is something to write."""
        if now >= self._end:
            self._close(self._end)
            self._open(now)
        return bool(self._unwritten) and self._write is not None

    def close(self, now: float) -> bool:
        """Close the window before its time; True when there is something to write.

        Only once, when no request can come any more: a second window with this start would lie under the same key.
        """
        while self.count():
            pass
        self._close(int(now))
        self._open(now)
        return bool(self._unwritten) and self._write is not None

    def write(self) -> bool:
        """Write closed windows, the oldest first; False when one cannot be.  For a thread, one call at a time."""
        assert self._write is not None
        for closed in tuple(self._unwritten):
            try:
                self._write(closed.key, json.dumps(windows.to_json(closed.window)).encode())
            except Exception as error:
                log.warning("the window %s is not written yet: %s", closed.key, error)
                return False
            self._written.append(closed)
            with suppress(ValueError):  # given up while it was being written
                self._unwritten.remove(closed)
            self._metrics.windows_written += 1
        return True

    def report(self) -> dict[str, Any]:
        """What GET /observations tells."""

        def told(closed: _Closed) -> dict[str, Any]:
            return {"key": closed.key, "start": closed.window.start, "end": closed.window.end, "rows": closed.window.rows}

        return {
            "service": self._service,
            "version": self._version,
            "source": self.source,
            "windowSeconds": self._seconds,
            "written": [told(closed) for closed in self._written],
            "unwritten": [told(closed) for closed in tuple(self._unwritten)],
            "current": windows.to_json(self._window(self._end)),
            "buffered": self._buffered,
        }

    def _open(self, now: float) -> None:
        self._start = int(now // self._seconds * self._seconds)
        self._end = self._start + self._seconds
        self._rows = self._rejected = 0
        self._counts = [np.zeros(bins.cells, dtype=np.int64) for bins in self._bins]
        self._predicted = np.zeros(self._prediction.cells, dtype=np.int64)

    def _close(self, end: int) -> None:
        if not self._rows and not self._rejected:
            return
        if len(self._unwritten) >= BACKLOG:
            lost = self._unwritten.popleft()
            self._metrics.windows_lost += 1
            log.warning("the window %s with %d rows is given up: too many wait for the bucket", lost.key, lost.window.rows)
        window = self._window(end)
        key = windows.key(self._service, self._start, self._version, self.source)
        closed = _Closed(key, window)
        (self._written if self._write is None else self._unwritten).append(closed)

    def _window(self, end: int) -> Window:
        return Window(
            service=self._service,
            version=self._version,
            start=self._start,
            end=end,
            source=self.source,
            rows=self._rows,
            counts={bins.name: tuple(total.tolist()) for bins, total in zip(self._bins, self._counts, strict=True)},
            prediction=tuple(self._predicted.tolist()),
            rejected=self._rejected,
        )


def _count(bins: Bins, values: list[Any]) -> Any:
    return count(bins, np.array(values, dtype=np.float64 if bins.kind == "Numeric" else object))
