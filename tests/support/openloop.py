"""Load that does not wait for answers: so many requests a second, whether or not the server keeps up.

    PYTHONPATH=operator:. python -m tests.support.openloop PORT TARGET BODY RATE SECONDS [CONNECTIONS]

A client that waits for its answer before it asks again slows down with the server and hides what overload does.
"""

import asyncio
import sys
from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

import uvloop

__all__ = ["Result", "load", "request"]

TICK_SECONDS = 0.001
SETTLE_SECONDS = 1.0
"""How long a server may take to notice that too much comes."""


@dataclass
class Result:
    """What came back."""

    milliseconds: dict[int, list[float]] = field(default_factory=dict)
    """From the sending of a request to the end of its answer, by status."""
    unsent: int = 0
    """Requests for which no connection was free: all were waiting for answers."""
    lost: Counter[str] = field(default_factory=Counter)

    def percentile(self, status: int, share: float) -> float:
        """Of the milliseconds of one status."""
        values = sorted(self.milliseconds.get(status, ()))
        return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")

    def __str__(self) -> str:
        parts = [
            f"{status}: {len(found)} (p50 {self.percentile(status, 0.5):.1f}, p99 {self.percentile(status, 0.99):.1f}, "
            f"max {max(found):.1f} ms)"
            for status, found in sorted(self.milliseconds.items())
        ]
        return "; ".join([*parts, f"unsent {self.unsent}", *(f"{what}: {count}" for what, count in self.lost.items())])


class _Client(asyncio.Protocol):
    """One connection, with one request on its way at most."""

    def __init__(self, free: list["_Client"], result: Result) -> None:
        self._free, self._result = free, result
        self._sent = 0.0
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._free.append(self)

    def send(self, data: bytes) -> None:
        self._sent = perf_counter()
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        data = self._received + data
        head, end, body = data.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            self._received = data
            return
        self._received = b""
        status = int(data[9:12])
        self._result.milliseconds.setdefault(status, []).append((perf_counter() - self._sent) * 1000)
        self._free.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._result.lost[type(error).__name__ if error else "ended"] += 1
        if self in self._free:
            self._free.remove(self)


def request(target: str, body: bytes) -> bytes:
    """A request that stays the same."""
    return f"POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def load(port: int, data: bytes, rate: float, seconds: float, connections: int = 256) -> Result:
    """Send a request so many times a second, evenly, and collect what comes back after SETTLE_SECONDS."""
    loop = asyncio.get_running_loop()
    result, free = Result(), list[_Client]()
    for _ in range(connections):
        await loop.create_connection(lambda: _Client(free, result), "127.0.0.1", port)
    everybody = tuple(free)
    began, sent, settled = perf_counter(), 0, False
    while (now := perf_counter()) < began + SETTLE_SECONDS + seconds:
        if not settled and now > began + SETTLE_SECONDS:
            settled = True
            result.milliseconds.clear()
            result.unsent = 0
        due = int((now - began) * rate) - sent
        sent += due
        ready = min(due, len(free))
        result.unsent += due - ready
        chosen, free[:ready] = free[:ready], []  # whoever has been idle for longest
        for client in chosen:
            client.send(data)
        await asyncio.sleep(TICK_SECONDS)
    await asyncio.sleep(1.0)
    result.lost.clear()
    for client in everybody:
        client.transport.abort()
    return result


def main(port: str, target: str, body: str, rate: str, seconds: str, connections: str = "256") -> None:
    """Print what came back."""
    print(uvloop.run(load(int(port), request(target, body.encode()), float(rate), float(seconds), int(connections))))


if __name__ == "__main__":
    main(*sys.argv[1:])
