"""How long the real server takes to answer one row: `kaizen serve` as a child process, asked over a kept-alive socket.

Five runs after a warm-up, and the median of the five: one run in five that a neighbour disturbed does not count.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaizen.api.training_gates import Gate
from kaizen.training.errors import Failure
from kaizen.training.judge.intervals import Interval
from kaizen.training.judge.judged import STEP, Detail, GateResult, Limits, decided, unjudged

__all__ = ["SERVER_PACKAGES", "Latency", "latency", "measure_latency"]

SERVER_PACKAGES = ("msgspec", "uvloop")
"""What the server imports beyond the trainer's other packages."""
PROGRAM = """\
import argparse, sys
from kaizen.serving.cli import add_commands
parser = argparse.ArgumentParser()
add_commands(parser.add_subparsers())
parsed = parser.parse_args()
sys.exit(parsed.run(parsed))
"""
"""`kaizen serve`, without the other commands, which the trainer's image lacks."""
RUNS = 5
REQUESTS = 1000
FEWEST_REQUESTS = 100
RUN_SECONDS = 4.0
"""A run ends after so long, with at least FEWEST_REQUESTS."""
WARM_UP = 200
WARM_UP_SECONDS = 5.0
START_SECONDS = 60.0
ANSWER_SECONDS = 30.0
QUANTILES: Mapping[str, float] = {"latency_p50_seconds": 0.5, "latency_p99_seconds": 0.99}


@dataclass(frozen=True)
class Latency:
    """What was measured: a list per run, in seconds, without the warm-up."""

    runs: tuple[tuple[float, ...], ...]

    def quantile(self, share: float) -> Interval:
        """The median of the runs' quantiles, between their least and greatest."""
        found = [float(np.quantile(run, share)) for run in self.runs]
        return Interval(float(np.median(found)), min(found), max(found))


def latency(gate: Gate, measured: Latency | None) -> GateResult:
    """The result of a latency gate; `measured` is None where the model cannot be packaged here."""
    if measured is None:
        return unjudged(gate, f"{gate.metric} needs a packaged model, and there is none")
    found = measured.quantile(QUANTILES[gate.metric])
    limits = Limits.of(gate, bound=False)
    passed = limits.kept(found)
    message = (
        f"{gate.metric} is {_time(found.value)} ({_time(found.low)} to {_time(found.high)} in {len(measured.runs)} runs) over"
        f" {sum(map(len, measured.runs))} requests of one row to the server process here: {limits.wanted()}"
    )
    share = QUANTILES[gate.metric]
    details = [
        Detail(f"run {place}", float(np.quantile(run, share)), rows=len(run)) for place, run in enumerate(measured.runs, 1)
    ]
    return decided(gate, passed, found.value, limits.shown(found), message, found, details=details)


def measure_latency(directory: Path) -> Latency:
    """Serve this model directory and ask it for one row at a time.

    Raises:
        Failure: ServerPackagesMissing, this image lacks what the server imports; ServerUnusable, it does not start or answer.
    """
    if missing := [name for name in SERVER_PACKAGES if importlib.util.find_spec(name) is None]:
        listed = ", ".join(missing)
        raise Failure(
            STEP, "ServerPackagesMissing", f"latency is measured in the real server, which needs {listed}: install kaizen[server]"
        )
    name, requests = _requests(directory)
    with _server(directory) as port, _connect(port) as connection:
        asked = [_post(f"/v2/models/{name}/infer", body) for body in requests]
        _run(connection, asked, WARM_UP, WARM_UP_SECONDS)
        return Latency(tuple(_run(connection, asked, REQUESTS, RUN_SECONDS) for _ in range(RUNS)))


def _run(connection: socket.socket, asked: Sequence[bytes], count: int, seconds: float) -> tuple[float, ...]:
    begun = time.perf_counter()
    found: list[float] = []
    while len(found) < count and (len(found) < FEWEST_REQUESTS or time.perf_counter() - begun < seconds):
        request = asked[len(found) % len(asked)]
        before = time.perf_counter()
        connection.sendall(request)
        status, body = _response(connection)
        found.append(time.perf_counter() - before)
        if status != 200:
            raise Failure(STEP, "ServerUnusable", f"the server answers an example of the model with {status}: {body[:300]!r}")
    return tuple(found)


def _requests(directory: Path) -> tuple[str, list[bytes]]:
    """The model's name, and each of its examples as a request of one row."""
    from kaizen.serving.bodies import examples
    from kaizen.serving.engine import runtime

    document = examples.read(directory)
    if not document or not document["rows"]:
        raise Failure(STEP, "ServerUnusable", "the packaged model has no examples to ask it with")
    inputs = runtime.load(directory).inputs
    bodies = [examples.body(inputs, document["columns"], slice(row, row + 1)) for row in range(document["rows"])]
    return str(json.loads((directory / "manifest.json").read_bytes())["model"]), bodies


@contextmanager
def _server(directory: Path) -> Iterator[int]:
    """The port of a server with this model, which is ended afterwards."""
    port = _free_port()
    command = [sys.executable, "-P", "-c", PROGRAM, "serve", str(directory), "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "KAIZEN_LOG_LEVEL": "warning"}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment)
        try:
            _await_ready(process, port, said)
            yield port
        except OSError as problem:
            raise Failure(STEP, "ServerUnusable", f"the server stopped answering: {problem}{_last(said)}") from problem
        finally:
            process.kill()
            process.wait()


def _await_ready(process: "subprocess.Popen[bytes]", port: int, said: Any) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with _connect(port) as connection:
                connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if _response(connection)[0] == 200:
                    return
        except OSError:
            pass
        try:
            code = process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        raise Failure(STEP, "ServerUnusable", f"the server ended with exit code {code}{_last(said)}")
    raise Failure(STEP, "ServerUnusable", f"the server was not ready after {START_SECONDS:g} s{_last(said)}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _response(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body; the server always says how long the body is."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _more(connection)
    head = data[:end].decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    body = data[end + 4 :]
    while len(body) < int(headers.get("content-length", 0)):
        body += _more(connection)
    return int(head[0].split()[1]), body


def _more(connection: socket.socket) -> bytes:
    found = connection.recv(1 << 16)
    if not found:
        raise ConnectionError("the connection was closed")
    return found


def _last(said: Any) -> str:
    """The last line of what a process said."""
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1][:300]}" if lines else ""


def _time(seconds: float) -> str:
    return f"{seconds:.6f}"
