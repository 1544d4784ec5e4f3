"""Windows, labels and captured rows on their way to the bucket: what is due, and writing it in a thread, one at a time.

Labels wait a few seconds for company, because each file costs a request, and captured rows as long as a window.  They leave
their buffers only when there is room in the outbox: a client hears that its labels were taken when they are sure to be kept,
and 503 otherwise.
"""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial

from kaizen.serving.watching.capture import Capture
from kaizen.serving.watching.feedback import Feedback
from kaizen.serving.watching.metrics import Metrics
from kaizen.serving.watching.outbox import WAITING, Item, Outbox, Write

__all__ = ["CAPTURES", "LABELS", "WINDOWS", "Delivery"]

WINDOWS = "window"
LABELS = "labels"
CAPTURES = "captures"
LABEL_SECONDS = 5.0
"""How long labels wait for company."""
WAITING_CAPTURES = 8
"""Files of captured rows that could not be written yet: they are the largest, and worth the least each."""
AGAIN_SECONDS = 10.0
"""Until the bucket is tried again after a failure."""

Told = Callable[[str, str, Item], None]
"""Hears of kind, what happened, and to which item."""


class Delivery:
    """What one process has for the bucket.  `write` is for a thread, everything else for the event loop's."""

    def __init__(
        self,
        metrics: Metrics,
        write: Write | None,
        *,
        service: str,
        source: str,
        feedback: Feedback | None = None,
        capture: Capture | None = None,
        told: Told = lambda kind, what, item: None,
        rest: Iterable[tuple[str, Item]] = (),
    ) -> None:
        """`rest` is what a process that died had still to write."""
        self._metrics, self._feedback, self._capture = metrics, feedback, capture
        self._service, self._source = service, source
        left = list(rest)

        def outbox(kind: str, counted: str, most: int = WAITING) -> Outbox:
            return Outbox(
                kind,
                write,
                written=partial(metrics.count, f"{counted}_written"),
                lost=partial(metrics.count, f"{counted}_lost"),
                told=lambda what, item: told(kind, what, item),
                waiting=[item for other, item in left if other == kind],
                most=most,
            )

        self.windows = outbox(WINDOWS, "windows")
        self.labels = outbox(LABELS, "labels")
        self.captures = outbox(CAPTURES, "capture_files", WAITING_CAPTURES)
        self._files = self._capture_files = 0
        self._capture_due = False
        self._taken = 0
        """Labels that left the buffer."""
        self._labels_due = 0.0
        self._again = 0.0

    def due(self, now: float) -> bool:
        """Whether to write; `now` is time.monotonic()."""
        self._metrics.labels_taken = self._feedback.accepted if self._feedback else 0
        if now < self._again:
            return False
        if self._feedback and self._feedback.waiting:
            self._labels_due = self._labels_due or now + LABEL_SECONDS
        self._capture_due = self._capture is not None and not self.captures.full and self._capture.due(now)
        return self._waits or self._capture_due or bool(self._labels_due and now >= self._labels_due)

    @property
    def pending(self) -> bool:
        """Whether there is anything left."""
        labels = bool(self._feedback and self._feedback.waiting)
        return labels or bool(self._capture and self._capture.waiting) or self._waits

    def write(self) -> None:
        """Write everything that can be and is due."""
        self._labels_due = 0.0
        if self._feedback and self._feedback.waiting and not self.labels.full:
            self._pack(self._feedback)
        if self._capture and self._capture_due:
            self._pack_captures(self._capture)
        # One kind may be refused for reasons of its own: the others are tried all the same.
        done = [box.write() for box in (self.windows, self.labels, self.captures)]
        self._again = 0.0 if all(done) else time.monotonic() + AGAIN_SECONDS

    def finish(self) -> None:
        """Write everything, due or not; twice where there was no room for all of it."""
        for _ in range(2):
            self._capture_due = not self.captures.full
            self.write()
            if self._again or not self.pending:
                break

    @property
    def _waits(self) -> bool:
        return self.windows.pending or self.labels.pending or self.captures.pending

    def _pack(self, feedback: Feedback) -> None:
        taken = feedback.accepted
        body = feedback.take()
        if body is None:
            return
        self._files += 1
        units, self._taken = max(0, taken - self._taken), max(self._taken, taken)
        self.labels.add(Item(self._key("labels", self._files), body, "application/gzip", {"labels": units}, units))

    def _pack_captures(self, capture: Capture) -> None:
        self._capture_due = False
        body = capture.take()
        if body is None:
            return
        self._capture_files += 1
        self.captures.add(Item(self._key("captures", self._capture_files), body, "application/gzip", {}, 1))

    def _key(self, place: str, number: int) -> str:
        date = datetime.now(UTC).date().isoformat()
        return f"{place}/{self._service}/{date}/{self._source}-{number}.jsonl.gz"
