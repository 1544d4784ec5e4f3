"""Who is told how far a run is: a terminal, a log, or the run's directory in the bucket."""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from kaizen.training.search.trials import SearchProgress

__all__ = ["STEPS", "BucketProgress", "LineProgress", "Progress", "TerminalProgress", "Told", "for_stream"]

STEPS = (
    "Ingest", "Validate", "Prepare", "Split", "Tuning", "Train", "Fit", "Evaluate", "Gates", "Refit", "Explain", "Package",
)  # fmt: skip
"""In their order; Tuning, Train (a user's own container) and Refit are not in every run."""

WIDTH = 24


class Progress(Protocol):
    """Is told of steps and figures as they happen."""

    def step(self, name: str, message: str = "") -> None:
        """A step of STEPS begins, or has something new to say."""

    def metric(self, name: str, value: float, dataset: str) -> None:
        """A figure of the model on test rows, or of the baseline."""

    def data(self, summary: Mapping[str, Any]) -> None:
        """What was read: digest, rows, columns, anomalies."""

    def search(self, progress: "SearchProgress") -> None:
        """A trial has ended."""


class LineProgress:
    """A line per step, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start = time.monotonic()
        self._said: set[str] = set()

    def step(self, name: str, message: str = "") -> None:
        """Print it."""
        print(
            f"[{time.monotonic() - self._start:6.1f} s] {name}{': ' if message else ''}{message}", file=self._stream, flush=True
        )

    def metric(self, name: str, value: float, dataset: str) -> None:
        """Nothing: figures are printed at the end."""

    def data(self, summary: Mapping[str, Any]) -> None:
        """Print what was not expected, each once."""
        for anomaly in summary["anomalies"]:
            said = f"{anomaly['code']}: {anomaly['message']}"
            if said not in self._said:
                self._said.add(said)
                self.step(anomaly["severity"], said)

    def search(self, progress: "SearchProgress") -> None:
        """Print how far it is."""
        self.step("Tuning", tuned(progress))


class TerminalProgress:
    """One line that is written over, with a bar."""

    def __init__(self, stream: TextIO, columns: int = 100) -> None:
        self._stream = stream
        self._columns = columns
        self._said: set[str] = set()

    def step(self, name: str, message: str = "") -> None:
        """Redraw the line."""
        done = STEPS.index(name) + 1 if name in STEPS else len(STEPS)
        full = WIDTH * done // len(STEPS)
        line = f"{'█' * full}{'░' * (WIDTH - full)} {name}{': ' if message else ''}{message}"
        self._write(line[: self._columns - 1])

    def metric(self, name: str, value: float, dataset: str) -> None:
        """Nothing: figures are printed at the end."""

    def data(self, summary: Mapping[str, Any]) -> None:
        """Leave what was not expected above the bar, each once."""
        for anomaly in summary["anomalies"]:
            said = f"{anomaly['severity']}: {anomaly['message']}"
            if said not in self._said:
                self._said.add(said)
                self._write(f"{said}\n")

    def search(self, progress: "SearchProgress") -> None:
        """Redraw the line."""
        self.step("Tuning", tuned(progress))

    def close(self) -> None:
        """Leave an empty line behind."""
        self._write("")

    def _write(self, line: str) -> None:
        self._stream.write(f"\r\x1b[2K{line}")
        self._stream.flush()


def for_stream(stream: TextIO = sys.stderr, columns: int = 100) -> LineProgress | TerminalProgress:
    """A bar on a terminal, lines otherwise."""
    return TerminalProgress(stream, columns) if stream.isatty() else LineProgress(stream)


class BucketProgress:
    """Writes a small document at most once in a while, from a thread of its own: a slow bucket never slows the training.

    A write that fails is repeated; the last one, in `close`, is waited for and tried three times.
    """

    def __init__(self, write: Callable[[bytes], None], every_seconds: float = 3.0, begun: str | None = None) -> None:
        """`write` puts the document where it belongs and may raise; `every_seconds` is the least time between two writes."""
        self._write = write
        self._every = every_seconds
        self._condition = threading.Condition()
        self._document: dict[str, Any] = {"format": 1, "step": "", "message": "", "done": 0, "total": len(STEPS), "metrics": []}
        self._document["startTime"] = begun or _now()
        self._changed = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def step(self, name: str, message: str = "") -> None:
        """Remember it for the next write."""
        done = STEPS.index(name) if name in STEPS else len(STEPS)
        self._update({"step": name, "message": message, "done": done})

    def metric(self, name: str, value: float, dataset: str) -> None:
        """Remember it for the next write."""
        with self._condition:
            metrics = [*self._document["metrics"], {"name": name, "value": value, "dataset": dataset}]
        self._update({"metrics": metrics})

    def data(self, summary: Mapping[str, Any]) -> None:
        """Remember it for the next write."""
        self._update({"data": dict(summary)})

    def search(self, progress: "SearchProgress") -> None:
        """Remember it for the next write."""
        best = None
        if progress.best_value is not None:
            best = {"value": progress.best_value, "parameters": progress.best_parameters}
        counts = {name: getattr(progress, name) for name in ("finished", "pruned", "failed", "total")}
        self._update({"search": {**counts, "best": best, "etaSeconds": progress.eta_seconds}, "message": tuned(progress)})

    def close(self, step: str | None = None) -> None:
        """Write the last state, if there is one that is not written yet."""
        if step is not None:
            self._update({"step": step, "message": "", "done": len(STEPS)})
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._thread.join(timeout=30)

    def _update(self, fields: dict[str, Any]) -> None:
        with self._condition:
            self._document = {**self._document, **fields, "time": _now()}
            self._changed = True
            self._condition.notify_all()

    def _run(self) -> None:
        last_tries = 3
        while last_tries:
            with self._condition:
                self._condition.wait_for(lambda: self._changed or self._closed)
                if not self._changed:
                    return
                document, self._changed = self._document, False
                last_tries -= self._closed
            try:
                self._write(json.dumps(document).encode())
            except Exception as problem:
                print(f"progress could not be written: {problem}", file=sys.stderr, flush=True)
                with self._condition:
                    self._changed = True
            with self._condition:
                self._condition.wait_for(lambda: self._closed, timeout=self._every)


class Told:
    """Tells the log, and the bucket once that is known, and knows the step."""

    def __init__(self, lines: LineProgress) -> None:
        self._all: list[Progress] = [lines]
        self._bucket: BucketProgress | None = None
        self.current = "Ingest"

    def add(self, bucket: BucketProgress) -> None:
        """Tell this one too, from now on."""
        self._bucket = bucket
        self._all.append(bucket)

    def step(self, name: str, message: str = "") -> None:
        """See Progress."""
        self.current = name if name in STEPS else self.current
        for one in self._all:
            one.step(name, message)

    def metric(self, name: str, value: float, dataset: str) -> None:
        """See Progress."""
        for one in self._all:
            one.metric(name, value, dataset)

    def data(self, summary: Mapping[str, Any]) -> None:
        """See Progress."""
        for one in self._all:
            one.data(summary)

    def search(self, progress: "SearchProgress") -> None:
        """See Progress."""
        for one in self._all:
            one.search(progress)

    def close(self, step: str | None = None) -> None:
        """See BucketProgress."""
        if self._bucket is not None:
            self._bucket.close(step)


def tuned(progress: "SearchProgress") -> str:
    """How far a search is, in a few words."""
    best = "" if progress.best_value is None else f", best {progress.best_value:.6g}"
    left = "" if progress.eta_seconds is None else f", {progress.eta_seconds} s left"
    return f"{progress.finished}/{progress.total}{best}{left}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
