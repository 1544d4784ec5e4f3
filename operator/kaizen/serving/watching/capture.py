"""What the server answered, row by row, for whoever learns from it: sampled, and without what must not be kept.

A request only leaves what is there already.  Lines are made of that between two turns of the event loop, in slices so small
that no request waits for one noticeably; files are compressed and written by the thread that writes windows and labels.
Memory is bounded everywhere: rows beyond it are given up, and counted as such.  training.data.captures reads the lines.
"""

import logging
import random
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from kaizen.serving.bodies.protocol import Parsed
from kaizen.serving.engine.base import Answer
from kaizen.serving.watching.metrics import Metrics
from kaizen.serving.watching.pseudonyms import Pseudonyms

__all__ = ["RESERVED", "Capture"]

log = logging.getLogger(__name__)

BUFFERED_VALUES = 1 << 20
"""Of requests whose lines are not made yet; a single request may have more."""
SLICE_VALUES = 2_048
SLICE_ROWS = 64
"""Made into lines at once: a third of a millisecond."""
DIGEST_VALUES = 8
"""A digest costs as much as so many other values."""
LONGEST_LINE = 1 << 20
FILE_BYTES = 4 << 20
"""Of lines, before they are compressed: a file is due."""
BUFFERED_BYTES = 8 << 20
"""Of lines that wait for the bucket."""
LONGEST_SECONDS = 300.0
"""Until a file is due, however long the windows are."""
COMPRESSION = 1
"""The quickest: the best makes files smaller by a quarter, at five times the work."""
RESERVED = frozenset(
    {
        *("prediction_id", "prediction_time", "prediction_version", "prediction"),
        *("sampling_probability", "label", "label_time"),
    }
)
"""Names that the reader gives to columns of its own: never written where only a key or the timestamp has one."""

_encoder = msgspec.json.Encoder()


_Answered = tuple[Parsed, Answer, float]
"""A request, its answer, and when that was."""


class _Line(msgspec.Struct, gc=False):
    id: str
    time: str
    version: int
    probability: float
    inputs: dict[str, Any]
    outputs: dict[str, Any]


class Capture:
    """The captured rows of one process.  `take` is for any thread, everything else for the event loop's."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        version: int,
        inputs: Sequence[str],
        share: float,
        exclude: Sequence[str] = (),
        pseudonyms: Pseudonyms | None = None,
        seconds: float = LONGEST_SECONDS,
        soon: Callable[[Callable[[], None]], object] = lambda turn: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`inputs` are the model's; `soon` calls something between two turns of the event loop."""
        self._metrics, self._version, self._share, self._soon, self._chance = metrics, version, share, soon, chance
        self._inputs = frozenset(inputs)
        self._excluded = frozenset(exclude)
        self._pseudonyms = pseudonyms or Pseudonyms("", "", ())
        self._is_touched = bool(self._excluded or self._pseudonyms.columns)
        self._clock = _Clock()
        self._seconds = min(seconds, LONGEST_SECONDS)
        self._buffer: deque[_Answered] = deque()
        self._values = 0
        """In the buffer."""
        self._made = 0
        """Rows of the first in the buffer."""
        self._awaited = False
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._bytes = 0
        self._since = 0.0
        """When the oldest of the lines was made, by time.monotonic()."""

    @property
    def waiting(self) -> int:
        """Bytes of lines that were not taken yet."""
        return self._bytes

    def offer(self, parsed: Parsed, answer: Answer) -> None:
        """A request that was answered; what is given must not change afterwards."""
        rows = parsed.rows
        values = rows * parsed.width
        if self._values and self._values + values > BUFFERED_VALUES:
            self._metrics.capture_dropped_rows += rows
            return
        self._values += values
        self._buffer.append((parsed, answer, time.time()))
        if not self._awaited and (self._values >= SLICE_VALUES or len(self._buffer) >= SLICE_ROWS):
            self._awaited = True
            self._soon(self._turn)

    def make(self) -> bool:
        """Make one slice of the buffer into lines; False when there was nothing."""
        if not self._buffer:
            return False
        lines: list[_Line] = []
        left, values = SLICE_ROWS, SLICE_VALUES
        while self._buffer and left > 0 and values > 0:
            parsed = self._buffer[0][0]
            width, begin = parsed.width, self._made
            work = width + DIGEST_VALUES * len(self._pseudonyms.columns)
            end = min(parsed.rows, begin + min(left, max(1, values // max(1, work))))
            lines += self._chosen(self._buffer[0], begin, end)
            left -= end - begin
            values -= (end - begin) * work
            self._values -= (end - begin) * width
            self._made = end
            if end == parsed.rows:
                self._buffer.popleft()
                self._made = 0
        self._keep(lines)
        return True

    def finish(self) -> None:
        """Make lines of everything there is."""
        while self.make():
            pass

    def due(self, now: float) -> bool:
        """Whether there is enough for a file, or what there is has waited long enough; `now` is time.monotonic()."""
        return self._bytes >= FILE_BYTES or (self._bytes > 0 and now >= self._since + self._seconds)

    def take(self) -> bytes | None:
        """All lines that wait, as gzip; None when there are none.  They are then the caller's."""
        with self._lock:
            lines, self._lines, self._bytes = self._lines, [], 0
        if not lines:
            return None
        # Piece by piece: others may run while one is compressed, and nobody while pieces are joined.
        compressor = zlib.compressobj(COMPRESSION, wbits=31)
        return b"".join([*map(compressor.compress, lines), compressor.flush()])

    def _turn(self) -> None:
        self.make()
        self._awaited = self._values >= SLICE_VALUES or len(self._buffer) >= SLICE_ROWS
        if self._awaited:
            self._soon(self._turn)

    def _chosen(self, answered: _Answered, begin: int, end: int) -> list[_Line]:
        """The chosen ones of some rows of a request."""
        parsed, answer, moment = answered
        chosen: Sequence[int] = range(begin, end)
        if self._share < 1.0:
            chosen = [row for row in chosen if self._chance() < self._share]
        if not chosen:
            return []
        if self._bytes >= BUFFERED_BYTES:
            self._metrics.capture_dropped_rows += len(chosen)
            return []
        inputs = _rows(parsed.part(begin, end), [row - begin for row in chosen])
        if self._is_touched or parsed.width > len(self._inputs):
            for values in inputs:
                self._touch(values)
        id, when, labels, scores, classes = parsed.id, self._clock.text(moment), answer.labels, answer.scores, answer.classes
        lines = []
        for row, values in zip(chosen, inputs, strict=True):
            outputs: dict[str, Any] = {"predict": labels[row]}
            if scores is not None:
                outputs["predict_proba"] = scores[row * classes : (row + 1) * classes]
            lines.append(_Line(f"{id}-{row}", when, self._version, self._share, values, outputs))
        return lines

    def _touch(self, row: dict[str, Any]) -> None:
        """Take out what must not be written, and make of the rest what can be."""
        if len(row) > len(self._inputs):
            for name in [name for name in row if name not in self._inputs]:
                row[name] = _plain(row[name])
                if name in RESERVED:
                    del row[name]
        for name in self._excluded:
            row.pop(name, None)
        for name in self._pseudonyms.columns:
            if name in row:
                row[name] = self._pseudonyms.of(name, row[name])

    def _keep(self, lines: Sequence[_Line]) -> None:
        """One that cannot be written costs no other."""
        if not lines:
            return
        count = len(lines)
        try:
            text = _encoder.encode_lines(lines)
        except (ValueError, TypeError, OverflowError):
            text = b""
        if not text or len(text) > LONGEST_LINE:
            kept = [one for one in map(_encoded, lines) if one]
            text, count = b"".join(kept), len(kept)
        self._metrics.captured_rows += count
        self._metrics.capture_dropped_rows += len(lines) - count
        if text:
            with self._lock:
                self._since = self._since if self._bytes else time.monotonic()
                self._lines.append(text)
                self._bytes += len(text)


class _Clock:
    """Times as RFC 3339; most are in the second of the one before."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, moment: float) -> str:
        """A time since 1970, to the millisecond."""
        second = int(moment)
        if second != self._second:
            self._second, self._text = second, datetime.fromtimestamp(second, UTC).isoformat()[:-6]
        return f"{self._text}.{int((moment - second) * 1000):03d}Z"


def _rows(columns: Mapping[str, Any], chosen: Sequence[int]) -> list[dict[str, Any]]:
    """The chosen rows of columns."""
    if len(chosen) == 1:
        (row,) = chosen
        return [{name: values[row] if type(values) is list else values.item(row) for name, values in columns.items()}]
    names, parts = list(columns), [values if type(values) is list else values.tolist() for values in columns.values()]
    table = list(zip(*parts, strict=True))
    return [dict(zip(names, table[row], strict=True)) for row in chosen]


def _encoded(line: _Line) -> bytes:
    """Nothing for a row of which no line can be made that its reader would take."""
    try:
        text = _encoder.encode(line) + b"\n"
    except (ValueError, TypeError, OverflowError) as problem:
        log.warning("a row is not captured: %s", problem)
        return b""
    return text if len(text) <= LONGEST_LINE else b""


def _plain(value: Any) -> Any:
    """A value that nobody has checked, as one that a column can have."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str | int | float | bool) else None
