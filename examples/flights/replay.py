"""Sends flights to a served model as they happened, keeps what became of them, and says how good the answers were.

    python examples/flights/replay.py http://localhost:8080 --data examples/flights/data --from 2013-03-20 --to 2013-04-01

Open Inference Protocol v2 over HTTP, rows in the order of time.  Needs numpy and pyarrow only, nothing of Kaizen: this is
how any client would ask.
"""

import argparse
import http.client
import json
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

LATE_MINUTES = 15
ROWS_A_REQUEST = 64
TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = 0.3
AWAY = (502, 503, 504)
"""Statuses of a server that is starting, ending or out of reach."""
SMALLEST = 1e-15

Numbers = npt.NDArray[np.float64]
Answer = TypeVar("Answer")


@dataclass
class Report:
    """What came back; it may be read while it grows."""

    rows: list[int] = field(default_factory=list)
    """Which flights were answered."""
    probabilities: list[float] = field(default_factory=list)
    """That the flight is late, for each answered row."""
    late: list[bool] = field(default_factory=list)
    """Whether it was."""
    versions: Counter[str] = field(default_factory=Counter)
    """Rows answered, by the version that answered them."""
    errors: Counter[str] = field(default_factory=Counter)
    """Requests that were not answered, by what was said instead."""
    seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def figures(self) -> dict[str, float]:
        """Log loss, calibration gap and AUC of the answers; predicted and true share of late flights."""
        return figures(np.array(self.probabilities), np.array(self.late, dtype=np.bool_))

    def add(self, other: "Report") -> None:
        """Take in another part of the same replay."""
        with self._lock:
            self.rows += other.rows
            self.probabilities += other.probabilities
            self.late += other.late
            self.versions += other.versions
            self.errors += other.errors


class Client:
    """One kept-alive connection to one model."""

    def __init__(self, url: str, model: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the URL must be like http://localhost:8080, not {url}")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)
        self._path = f"{parts.path.rstrip('/')}/v2/models/{model}"

    def describe(self) -> dict[str, Any]:
        """The model's metadata: its inputs above all.  Raises ValueError when there is no such model."""
        status, document, _ = self._ask("GET", self._path, None)
        if status != 200:
            raise ValueError(f"there is no model to ask: {status} {document.get('error', '')}")
        return document

    def infer(self, inputs: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any], str]:
        """Status, answer and the version that made it."""
        return self._ask("POST", f"{self._path}/infer", json.dumps({"inputs": inputs}).encode())

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, dict[str, Any], str]:
        headers = {"Content-Type": "application/json"} if body else {}
        for last in (False, True):
            try:
                self._connection.request(method, path, body, headers)
                answer = self._connection.getresponse()
                content = answer.read()
            except (ConnectionError, http.client.HTTPException):
                # A server may close a connection that it kept alive, just before we use it again.
                self._connection.close()
                if last:
                    raise
                continue
            except OSError:
                self._connection.close()
                raise
            try:
                document = json.loads(content)
            except ValueError:
                document = {"error": content[:200].decode(errors="replace")}
            return answer.status, document, answer.headers.get("X-Model-Version") or str(document.get("model_version", ""))
        raise AssertionError


def read_flights(data: Path, since: str, until: str) -> pa.Table:
    """Flights that took off from `since` to before `until` (UTC), by time.  Raises ValueError when there are none."""
    tables = [pq.read_table(path) for path in sorted(data.glob("*.parquet"))]
    if not tables:
        raise ValueError(f"there are no Parquet files in {data}: examples/flights/lake.py writes them")
    table = pa.concat_tables(tables)
    kind = table.schema.field("time_hour").type
    first, end = (pa.scalar(np.datetime64(text, "us").item(), pa.timestamp("us")).cast(kind) for text in (since, until))
    times = table["time_hour"]
    wanted = pc.and_(pc.and_(pc.greater_equal(times, first), pc.less(times, end)), pc.is_valid(table["dep_delay"]))
    table = table.filter(wanted).sort_by([("time_hour", "ascending"), ("flight", "ascending")])
    if not table.num_rows:
        raise ValueError(f"no flight of {data} took off from {since} to {until}")
    return table


def replay(
    url: str,
    model: str,
    flights: pa.Table,
    *,
    connections: int = 1,
    rows_a_second: float | None = None,
    patience: float = 0.0,
    stop: threading.Event | None = None,
    report: Report | None = None,
) -> Report:
    """Send all flights, in requests of up to 64 rows.  Raises OSError without the server, ValueError without the model.

    Args:
        url: of the server.
        model: its name.
        flights: as read_flights gives them.
        connections: at once; with one, the answers are in the order of the flights.
        rows_a_second: the pace; as fast as the server answers when omitted.
        patience: seconds for which a request is tried again while nobody answers it.
        stop: ends the replay early when it is set.
        report: is added to while the replay runs.
    """
    with closing(Client(url, model)) as client:
        wanted = _patiently(client.describe, patience)["inputs"]
    batches = [flights.slice(start, ROWS_A_REQUEST) for start in range(0, flights.num_rows, ROWS_A_REQUEST)]
    begun = time.monotonic()
    report = report or Report()

    def work(number: int) -> None:
        with closing(Client(url, model)) as client:
            for position in range(number, len(batches), connections):
                if rows_a_second:
                    pause(begun + position * ROWS_A_REQUEST / rows_a_second - time.monotonic())
                if stop and stop.is_set():
                    return
                report.add(_send(client, wanted, batches[position], position * ROWS_A_REQUEST, patience))

    with ThreadPoolExecutor(connections) as threads:
        for _ in threads.map(work, range(connections)):
            pass
    report.seconds += time.monotonic() - begun
    return report


def pause(seconds: float) -> None:
    """Keep to the pace."""
    if seconds > 0:
        time.sleep(seconds)  # noqa: TID251 -- this is a clock, not a poll


class _Unanswered(OSError):
    """The server is there, and says that it cannot answer now."""


def _patiently(ask: Callable[[], Answer], patience: float) -> Answer:
    """Ask again until somebody answers, or patience is over."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return ask()
        except (OSError, http.client.HTTPException):
            if time.monotonic() + RETRY_SECONDS > deadline:
                raise
        pause(RETRY_SECONDS)


def _send(client: Client, wanted: Sequence[Mapping[str, Any]], batch: pa.Table, first: int, patience: float) -> Report:
    inputs = [
        {"name": one["name"], "datatype": one["datatype"], "shape": [batch.num_rows], "data": batch[one["name"]].to_pylist()}
        for one in wanted
    ]

    def ask() -> tuple[int, dict[str, Any], str]:
        status, document, version = client.infer(inputs)
        if status in AWAY:
            raise _Unanswered(f"{status} {document.get('error', '')}")
        return status, document, version

    try:
        status, document, version = _patiently(ask, patience)
    except (OSError, http.client.HTTPException) as problem:
        return Report(errors=Counter({f"no answer: {problem}": 1}))
    if status != 200:
        return Report(errors=Counter({f"{status} {document.get('error', '')}": 1}))
    return Report(
        rows=list(range(first, first + batch.num_rows)),
        probabilities=_late_probabilities(document),
        late=[delay > LATE_MINUTES for delay in batch["dep_delay"].to_pylist()],
        versions=Counter({version: batch.num_rows}),
    )


def _late_probabilities(document: Mapping[str, Any]) -> list[float]:
    output = next(one for one in document["outputs"] if one["name"] == "predict_proba")
    classes = output["shape"][1]
    values: list[float] = output["data"]
    return values[classes - 1 :: classes]


def figures(probabilities: Numbers, late: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Log loss, calibration gap and AUC, and both shares; AUC by ranks, ties counting half."""
    of_truth = np.clip(np.where(late, probabilities, 1 - probabilities), SMALLEST, 1)
    predicted, true = float(probabilities.mean()), float(late.mean())
    found = {"log_loss": float(-np.log(of_truth).mean()), "calibration_gap": abs(predicted - true)}
    positives, negatives = int(late.sum()), int((~late).sum())
    if positives and negatives:
        _, inverse, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
        ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
        found["roc_auc"] = float((ranks[late].sum() - positives * (positives + 1) / 2) / (positives * negatives))
    return {**found, "predicted_share": predicted, "true_share": true}


def lines(report: Report) -> Iterator[str]:
    """The report for a person."""
    answered = len(report.late)
    if answered:
        found = report.figures()
        by = ", ".join(f"version {version or '(unnamed)'}: {rows}" for version, rows in sorted(report.versions.items()))
        yield f"{answered} flights answered in {report.seconds:.1f} s ({by})"
        yield f"  late flights      predicted {found['predicted_share']:.1%}, true {found['true_share']:.1%}"
        for name in ("log_loss", "calibration_gap", "roc_auc"):
            if name in found:
                yield f"  {name:<17} {found[name]:.4f}"
    for error, requests in report.errors.most_common(5):
        yield f"  {requests} requests failed: {error}"


def main() -> int:
    """Replay and print; 0 when every request was answered."""
    parser = argparse.ArgumentParser(description="Replay flights of 2013 to a served model and say how good its answers are.")
    parser.add_argument("url", help="of the server: http://localhost:8080")
    parser.add_argument("--model", default="flight-delay")
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "data", help="the directory that lake.py wrote")
    parser.add_argument("--from", dest="since", default="2013-03-01", metavar="DATE")
    parser.add_argument("--to", dest="until", default="2013-04-01", metavar="DATE")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--rows-a-second", type=float, help="the pace; as fast as the server answers when omitted")
    parser.add_argument("--patience", type=float, default=0.0, help="seconds for which an unanswered request is tried again")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parsed = parser.parse_args()
    try:
        flights = read_flights(parsed.data, parsed.since, parsed.until)
        report = replay(
            parsed.url,
            parsed.model,
            flights,
            connections=parsed.connections,
            rows_a_second=parsed.rows_a_second,
            patience=parsed.patience,
        )
    except (OSError, ValueError, http.client.HTTPException) as problem:
        print(f"replay: {problem}", file=sys.stderr)
        return 1
    if parsed.output == "json":
        document = {"rows": len(report.late), "versions": report.versions, "errors": report.errors, "seconds": report.seconds}
        print(json.dumps({**document, **(report.figures() if report.late else {})}))
    else:
        print("\n".join(lines(report)))
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main())
