"""Counters of the server and their Prometheus text.

Not prometheus_client: its locks and labels cost more than answering a row does.  One process, one thread, plain integers;
several workers each count for themselves and publish their numbers as words, which their parent adds up.
Names are those of MLServer (model_infer_…, rest_server_…) and KServe (request_predict_seconds), so that their dashboards work.
"""

import resource
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CONTENT_TYPE", "WORDS", "Metrics"]

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

BUCKETS_SECONDS = (*(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),)
STATUSES = range(100, 600)
NANOSECONDS = 1_000_000_000

_OF_THE_MODEL = {
    "succeeded": ("model_infer_request_success_total", "Inference requests answered."),
    "failed": ("model_infer_request_failure_total", "Inference requests refused."),
    "rows": ("kaizen_server_rows_total", "Rows answered."),
}
_COUNTERS = {
    "shed": ("kaizen_server_shed_total", "Requests and connections refused because too much was waiting."),
    "unauthorized": ("kaizen_server_unauthorized_total", "Requests without a known token."),
    "tls_reloads": ("kaizen_server_tls_reloads_total", "Times that a changed certificate was put to use, by each worker."),
    "token_reloads": ("kaizen_server_token_reloads_total", "Times that changed tokens were put to use, by each worker."),
    "observed_rows": ("kaizen_server_observed_rows_total", "Rows counted into windows."),
    "dropped_rows": ("kaizen_server_dropped_rows_total", "Rows answered and not counted."),
    "windows_written": ("kaizen_server_windows_written_total", "Windows written to the bucket."),
    "windows_lost": ("kaizen_server_windows_lost_total", "Windows given up."),
    "labels_taken": ("kaizen_server_labels_taken_total", "Labels taken as feedback."),
    "labels_written": ("kaizen_server_labels_written_total", "Labels written to the bucket."),
    "labels_lost": ("kaizen_server_labels_lost_total", "Labels taken and given up."),
    "captured_rows": ("kaizen_server_captured_rows_total", "Rows captured."),
    "capture_dropped_rows": ("kaizen_server_capture_dropped_rows_total", "Rows answered that there was no room to capture."),
    "capture_files_written": ("kaizen_server_capture_files_written_total", "Files of captured rows written to the bucket."),
    "capture_files_lost": ("kaizen_server_capture_files_lost_total", "Files of captured rows given up."),
}
_GAUGES = {
    "connections": ("kaizen_server_connections", "Open connections of the public port."),
    "waiting": ("kaizen_server_waiting", "Requests that have begun and are not answered."),
    "backlog": ("kaizen_server_backlog", "Connections of the public port that wait to be accepted."),
}
_SCALARS = (*_OF_THE_MODEL, *_COUNTERS, *_GAUGES)
WORDS = len(_SCALARS) + 3 + len(BUCKETS_SECONDS) + 1 + len(STATUSES)
"""Of Metrics.words()."""


def _zeros() -> list[int]:
    return [0] * (len(BUCKETS_SECONDS) + 1)


@dataclass
class Metrics:
    """What happened in this process."""

    model: str = ""
    version: str = ""
    digest: str = ""
    engine: str = ""
    reason: str = ""
    """Why it is this engine; empty for the compiled one."""
    ready: bool = False
    succeeded: int = 0
    """Inference requests that were answered."""
    failed: int = 0
    """Inference requests that were refused or broke."""
    rows: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    """Answers of the public port by status."""
    predict_buckets: list[int] = field(default_factory=_zeros)
    predict_seconds: float = 0.0
    shed: int = 0
    """Requests and connections that were answered 503 because of too much work."""
    unauthorized: int = 0
    """Requests that were answered 401."""
    tls_reloads: int = 0
    token_reloads: int = 0
    observed_rows: int = 0
    dropped_rows: int = 0
    windows_written: int = 0
    windows_lost: int = 0
    labels_taken: int = 0
    labels_written: int = 0
    labels_lost: int = 0
    captured_rows: int = 0
    capture_dropped_rows: int = 0
    capture_files_written: int = 0
    capture_files_lost: int = 0
    connections: int = 0
    """Open now, on the public port."""
    waiting: int = 0
    """Requests that are not answered yet."""
    backlog: int = 0
    """Connections that wait to be accepted."""
    workers: int = 1
    """Processes that answer now."""
    restarts: int = 0
    """Workers that were replaced."""
    others_cpu_seconds: float = 0.0
    """CPU time of other processes, whose words were added."""
    started: float = field(default_factory=time.time)

    def describe(self, model: str, version: int | None, digest: str, engine: str, reason: str) -> None:
        """What is served."""
        self.model, self.version, self.digest = model, "" if version is None else str(version), digest
        self.engine, self.reason = engine, reason

    def predicted(self, rows: int, seconds: float) -> None:
        """An inference request was answered in this time, from its parsed body to its rendered answer."""
        self.succeeded += 1
        self.rows += rows
        self.predict_seconds += seconds
        self.predict_buckets[bisect_left(BUCKETS_SECONDS, seconds)] += 1

    def count(self, counter: str, units: int) -> None:
        """Add to a counter, by its name among the fields."""
        setattr(self, counter, getattr(self, counter) + units)

    def answered(self, status: int) -> None:
        """The public port sent an answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def words(self) -> list[int]:
        """All that can be added up, WORDS of them."""
        scalars = [getattr(self, name) for name in _SCALARS]
        more = [int(self.ready), int(self.predict_seconds * NANOSECONDS), time.process_time_ns()]
        return [*scalars, *more, *self.predict_buckets, *(self.statuses.get(status, 0) for status in STATUSES)]

    def add(self, words: Sequence[int], *, living: bool) -> None:
        """Add what another process counted; of one that has ended, without its open connections."""
        values = iter(words)
        for name in _SCALARS:
            value = next(values)
            if living or name not in _GAUGES:
                setattr(self, name, getattr(self, name) + value)
        self.ready = bool(next(values) and living) or self.ready
        self.predict_seconds += next(values) / NANOSECONDS
        self.others_cpu_seconds += next(values) / NANOSECONDS
        self.predict_buckets = [count + next(values) for count in self.predict_buckets]
        for status, count in zip(STATUSES, values, strict=True):
            if count:
                self.statuses[status] = self.statuses.get(status, 0) + count

    def text(self, pids: Iterable[int] = ()) -> bytes:
        """All of it, in the text format of Prometheus; `pids` are further processes whose memory is added."""
        return ("\n".join(self._lines(pids)) + "\n").encode()

    def _lines(self, pids: Iterable[int]) -> Iterator[str]:
        labels = {"model": self.model, "version": self.version}
        for attribute, (name, about) in _OF_THE_MODEL.items():
            yield from _one(name, "counter", about, getattr(self, attribute), labels)
        yield from self._histogram()
        yield from _head("rest_server_requests_total", "counter", "Answers of the public port, by status.")
        for status, count in sorted(self.statuses.items()):
            yield _sample("rest_server_requests_total", count, {"status_code": str(status)})
        what = {**labels, "digest": self.digest, "engine": self.engine, "reason": self.reason}
        yield from _one("kaizen_server_model_info", "gauge", "The model that is served, by which engine and why.", 1, what)
        yield from _one("kaizen_server_ready", "gauge", "1 while requests should be sent here.", int(self.ready))
        for attribute, (name, about) in _GAUGES.items():
            yield from _one(name, "gauge", about, getattr(self, attribute))
        for attribute, (name, about) in _COUNTERS.items():
            yield from _one(name, "counter", about, getattr(self, attribute))
        yield from _one("kaizen_server_workers", "gauge", "Processes that answer.", self.workers)
        yield from _one("kaizen_server_worker_restarts_total", "counter", "Workers that were replaced.", self.restarts)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        seconds = usage.ru_utime + usage.ru_stime + self.others_cpu_seconds
        yield from _one("process_cpu_seconds_total", "counter", "CPU time.", seconds)
        yield from _one("process_resident_memory_bytes", "gauge", "Resident memory.", _resident_bytes(pids))
        yield from _one("process_start_time_seconds", "gauge", "Start of the process since 1970.", self.started)

    def _histogram(self) -> Iterator[str]:
        name, labels = "request_predict_seconds", {"model_name": self.model, "model_version": self.version}
        yield from _head(name, "histogram", "Time from a parsed request to its rendered answer.")
        total = 0
        for limit, count in zip((*map(str, BUCKETS_SECONDS), "+Inf"), self.predict_buckets, strict=True):
            total += count
            yield _sample(f"{name}_bucket", total, {**labels, "le": limit})
        yield _sample(f"{name}_sum", self.predict_seconds, labels)
        yield _sample(f"{name}_count", total, labels)


def _one(name: str, kind: str, about: str, value: float, labels: Mapping[str, str] | None = None) -> Iterator[str]:
    yield from _head(name, kind, about)
    yield _sample(name, value, labels or {})


def _head(name: str, kind: str, about: str) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, value: float, labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inner}}} {value}" if inner else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _resident_bytes(pids: Iterable[int]) -> int:
    """Of this process; with others, what all have in memory, shared pages once."""
    if others := list(pids):
        return sum(map(_proportional_bytes, ("self", *map(str, others))))
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:  # not Linux
        return 0


def _proportional_bytes(process: str) -> int:
    with suppress(OSError):  # it has just ended
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
