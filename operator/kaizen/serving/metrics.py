"""Counters of the server and their Prometheus text.

Not prometheus_client: its locks and labels cost more than answering a row does.  One process, one thread, plain integers.
Names are those of MLServer (model_infer_…, rest_server_…) and KServe (request_predict_seconds), so that their dashboards work.
"""

import resource
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

BUCKETS_SECONDS = (*(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),)


def _zeros() -> list[int]:
    return [0] * (len(BUCKETS_SECONDS) + 1)


@dataclass
class Metrics:
    """What happened in this process."""

    model: str = ""
    version: str = ""
    digest: str = ""
    engine: str = ""
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
    connections: int = 0
    """Open now, on the public port."""
    observed_rows: int = 0
    dropped_rows: int = 0
    windows_written: int = 0
    windows_lost: int = 0
    started: float = field(default_factory=time.time)

    def predicted(self, rows: int, seconds: float) -> None:
        """An inference request was answered in this time, from its parsed body to its rendered answer."""
        self.succeeded += 1
        self.rows += rows
        self.predict_seconds += seconds
        self.predict_buckets[bisect_left(BUCKETS_SECONDS, seconds)] += 1

    def answered(self, status: int) -> None:
        """The public port sent an answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def text(self) -> bytes:
        """All of it, in the text format of Prometheus."""
        return ("\n".join(self._lines()) + "\n").encode()

    def _lines(self) -> Iterator[str]:
        labels = {"model": self.model, "version": self.version}
        yield from _one("model_infer_request_success_total", "counter", "Inference requests answered.", self.succeeded, labels)
        yield from _one("model_infer_request_failure_total", "counter", "Inference requests refused.", self.failed, labels)
        yield from _one("kaizen_server_rows_total", "counter", "Rows answered.", self.rows, labels)
        yield from self._histogram()
        yield from _head("rest_server_requests_total", "counter", "Answers of the public port, by status.")
        for status, count in sorted(self.statuses.items()):
            yield _sample("rest_server_requests_total", count, {"status_code": str(status)})
        yield from _one("kaizen_server_connections", "gauge", "Open connections of the public port.", self.connections)
        yield from _one("kaizen_server_ready", "gauge", "1 while requests should be sent here.", int(self.ready))
        what = {**labels, "digest": self.digest, "engine": self.engine}
        yield from _one("kaizen_server_model_info", "gauge", "The model that is served.", 1, what)
        yield from _one("kaizen_server_observed_rows_total", "counter", "Rows counted into windows.", self.observed_rows)
        yield from _one("kaizen_server_dropped_rows_total", "counter", "Rows answered and not counted.", self.dropped_rows)
        yield from _one("kaizen_server_windows_written_total", "counter", "Windows written to the bucket.", self.windows_written)
        yield from _one("kaizen_server_windows_lost_total", "counter", "Windows given up.", self.windows_lost)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield from _one("process_cpu_seconds_total", "counter", "CPU time.", usage.ru_utime + usage.ru_stime)
        yield from _one("process_resident_memory_bytes", "gauge", "Resident memory.", _resident_bytes())
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


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:  # not Linux
        return 0
