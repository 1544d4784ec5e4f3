"""How a server is loaded: by wrk as fast as it answers, and by a pacer at a rate of one's own.

wrk sends the next request of a connection when the last is answered, so it finds the saturation rate, and its times at that rate
say little.  The pacer sends at times that were drawn before (a Poisson process), whether or not earlier requests are
answered, and counts each request's time from when it should have been sent: a pause of the server shows in all the requests that
fell into it.
"""

import gc
import json
import os
import random
import select
import socket
import subprocess
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.serving.install import Tools
    from bench.serving.servers import Server

__all__ = ["Load", "pace", "parse", "percentile", "wrk"]

SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Load:
    """What a loader saw."""

    rate: float
    """Answers a second."""
    p50_ms: float
    p99_ms: float
    worst_ms: float
    failed: int
    """Answers that were not 2xx or 3xx, and requests without an answer."""
    cpu_us: float = 0.0
    """The server's CPU time for one request."""


def parse(output: str) -> Load:
    """What wrk.lua printed at the end.  Raises ValueError when it is not there."""
    line = next((line for line in reversed(output.splitlines()) if line.startswith("{")), None)
    if line is None:
        raise ValueError(f"wrk printed no result: {output.strip()[-300:]}")
    found = json.loads(line)
    rate = found["requests"] / (found["microseconds"] / 1e6)
    return Load(rate, found["p50"] / 1e3, found["p99"] / 1e3, found["worst"] / 1e3, found["failed"])


def wrk(server: "Server", bodies: Path, connections: int, seconds: float, tools: "Tools") -> Load:
    """Load a server with one thread of wrk for whole seconds, one at least."""
    whole = max(1, round(seconds))
    words = [tools.wrk, "--threads", "1", "--connections", str(connections), "--duration", f"{whole}s", "--script", SCRIPT]
    words += [f"http://127.0.0.1:{server.port}{server.path}", "--", bodies]
    words += [server.authorization] if server.authorization else []
    before = server.cpu_seconds()
    done = subprocess.run(
        [str(word) for word in words], env={**os.environ, **tools.environment}, capture_output=True, text=True, timeout=whole + 30
    )
    if done.returncode != 0:
        raise RuntimeError(f"wrk failed: {done.stderr.strip()[-300:]}")
    load = parse(done.stdout)
    requests = max(1.0, load.rate * whole)
    return Load(load.rate, load.p50_ms, load.p99_ms, load.worst_ms, load.failed, (server.cpu_seconds() - before) / requests * 1e6)


def percentile(sorted_values: list[float], share: float) -> float:
    """The smallest value that so large a share of all does not exceed."""
    return sorted_values[min(len(sorted_values) - 1, max(0, -int(-len(sorted_values) * share // 1) - 1))]


def pace(server: "Server", bodies: Path, connections: int, seconds: float, rate: float) -> Load:
    """Send requests at a rate, each on a connection that waits for no other answer."""
    requests = [_request(server, body) for body in bodies.read_bytes().splitlines()]
    clients = [_Client(server.port) for _ in range(connections)]
    idle, by_number = deque(clients), {client.number: client for client in clients}
    poll = select.epoll()
    for client in clients:
        poll.register(client.number, select.EPOLLIN)
    draw = random.Random(1).expovariate
    took: list[float] = []
    failed = sent = 0
    clock = time.perf_counter
    before = server.cpu_seconds()
    gc.disable()
    try:
        began = clock()
        due, end = began, began + seconds
        while due < end or len(idle) < connections:
            now = clock()
            if now > end + 10:
                failed += connections - len(idle)
                break
            while due <= now and due < end and idle:
                idle.popleft().send(requests[sent % len(requests)], due)
                sent += 1
                due += draw(rate)
            # To the microsecond, where epoll itself waits for milliseconds.
            select.select([poll], [], [], max(0.0, due - clock()) if due < end else 0.01)
            for number, _ in poll.poll(0):
                client = by_number[number]
                if (good := client.receive()) is None:
                    continue
                failed += not good
                took.append(clock() - client.due)
                idle.append(client)
        lasted = clock() - began
    finally:
        gc.enable()
        poll.close()
        for client in clients:
            client.close()
    took.sort()
    cpu = (server.cpu_seconds() - before) / max(1, len(took)) * 1e6
    return Load(len(took) / lasted, percentile(took, 0.5) * 1e3, percentile(took, 0.99) * 1e3, took[-1] * 1e3, failed, cpu)


def _request(server: "Server", body: bytes) -> bytes:
    authorization = f"Authorization: {server.authorization}\r\n" if server.authorization else ""
    head = (
        f"POST {server.path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
        f"{authorization}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Client:
    """One connection with at most one request on its way."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = self._socket.fileno()
        self.due = 0.0
        self._got = b""

    def send(self, request: bytes, due: float) -> None:
        self.due, self._got = due, b""
        self._socket.sendall(request)

    def receive(self) -> bool | None:
        """Whether the answer is good; None while it is not complete."""
        piece = self._socket.recv(65536)
        if not piece:
            raise RuntimeError("the server closed a connection")
        self._got += piece
        head, separator, body = self._got.partition(b"\r\n\r\n")
        if not separator:
            return None
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return self._got.startswith(b"HTTP/1.1 200") if len(body) >= length else None

    def close(self) -> None:
        self._socket.close()
