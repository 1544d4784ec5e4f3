"""Twice as many requests as a server can answer, from clients of which some die: for as long as one likes."""

import asyncio
import os
import random
import signal
import socket
import statistics
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

import uvloop

from tests.soak.plan import Plan
from tests.soak.pods import Pod
from tests.soak.problems import Problem
from tests.soak.targets import Right
from tests.support.rawhttp import ask

__all__ = ["Figures", "overload"]

CONNECTIONS = 1000
FEW = 32
"""To find out what the server can do."""
TICK_SECONDS = 0.002
DYING_SHARE = 0.01
"""Of the requests: their clients die while they are on their way."""
DEATHS = (
    "resets after half a request",
    "resets after a request",
    "closes after half",
    "closes after all",
    "resets at the answer",
)
RESET = struct.pack("ii", 1, 0)
KILLS = 8
"""So many of them must be seen to say so."""
SAWTOOTH = 0.1
"""Where workers are killed, memory falls with each and rises again: by how much later peaks may be above earlier ones."""


@dataclass
class Figures:
    """What came back."""

    saturation: float = 0.0
    """Answers a second, when each client waits for its answer."""
    sent: int = 0
    seconds: float = 0.0
    unsent: int = 0
    """Requests for which no connection was free."""
    statuses: Counter[int] = field(default_factory=Counter)
    times: Counter[int] = field(default_factory=Counter)
    """Of accepted requests, in tenths of a millisecond."""
    died: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    """Connections that the server ended."""
    wrong: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    """Bytes, each second after the warm-up."""
    killed: int = 0

    @property
    def before_bytes(self) -> float:
        """Soon after the warm-up."""
        return statistics.median(self.memory[: max(1, len(self.memory) // 5)])

    @property
    def after_bytes(self) -> float:
        """At the end."""
        return statistics.median(self.memory[-max(1, len(self.memory) // 5) :])

    def percentile_ms(self, share: float) -> float:
        """Of the accepted requests."""
        left = share * sum(self.times.values())
        for tenths, count in sorted(self.times.items()):
            left -= count
            if left <= 0:
                return tenths / 10
        return float("nan")

    def __str__(self) -> str:
        statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(self.statuses.items()))
        return (
            f"saturation {self.saturation:,.0f}/s; {self.sent / max(self.seconds, 1e-9):,.0f}/s sent for {self.seconds:.0f} s, "
            f"{self.unsent:,} found no connection; answers {statuses}; accepted p50 {self.percentile_ms(0.5):.1f} ms, "
            f"p99 {self.percentile_ms(0.99):.1f} ms; {self.died.total():,} clients died; {self.killed} workers killed, "
            f"{self.lost} connections lost; memory {self.before_bytes / 2**20:.1f} → {self.after_bytes / 2**20:.1f} MiB"
        )


class _Client(asyncio.Protocol):
    """One connection with one request on its way at most; after it is lost there is another in its place."""

    def __init__(self, load: "_Load") -> None:
        self._load = load
        self._right: Right | None = None
        self._death = ""
        self._sent = 0.0
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._load.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        load = self._load
        if not self._death and not load.ending:
            load.figures.lost += 1
        load.replace(self)

    def data_received(self, data: bytes) -> None:
        if self._death:
            self._die(reset=True)
            return
        data = self._received + data
        head, end, body = data.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            self._received = data
            return
        right, self._right, self._received = self._right, None, b""
        self._load.answered(head, body, right, perf_counter() - self._sent)
        if b"Connection: close" not in head:
            self._load.free(self)

    def send(self, right: Right, death: str = "") -> None:
        self._right, self._death, self._sent = right, death, perf_counter()
        self._transport.write(right.sent if "half" not in death else right.sent[: len(right.sent) // 2])
        if death and death != DEATHS[-1]:
            self._die(reset=death.startswith("resets"))

    def abort(self) -> None:
        self._transport.abort()

    def _die(self, reset: bool) -> None:
        if reset and (own := self._transport.get_extra_info("socket")) is not None and not self._transport.is_closing():
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._transport.abort()
        else:
            self._transport.close()


class _Load:
    def __init__(self, port: int, rights: Sequence[Right], dying: float) -> None:
        self.figures = Figures()
        self.ending = False
        self._port, self._rights, self._dying = port, tuple(rights), dying
        self._free: list[_Client] = []
        self._everybody: set[_Client] = set()
        self._random = random.Random(6)
        self._connecting: set[asyncio.Task[None]] = set()
        self.closed_loop = False

    async def connect(self, connections: int) -> None:
        for _ in range(connections):
            await self._connect()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.ending:
            client = _Client(self)
            try:
                await loop.create_connection(lambda: client, "127.0.0.1", self._port)  # noqa: B023
            except OSError:
                await asyncio.sleep(0.01)
                continue
            self._everybody.add(client)
            return

    def replace(self, client: _Client) -> None:
        self._everybody.discard(client)
        if client in self._free:
            self._free.remove(client)
        if not self.ending:
            task = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def free(self, client: _Client) -> None:
        if self.closed_loop:
            client.send(self._random.choice(self._rights))
        else:
            self._free.append(client)

    def answered(self, head: bytes, body: bytes, right: Right | None, seconds: float) -> None:
        figures, status = self.figures, int(head[9:12])
        figures.statuses[status] += 1
        if right is None:
            figures.wrong.append(f"nobody asked for {head!r} {body!r}")
        elif status == 200:
            figures.times[round(seconds * 10_000)] += 1
            if body != right.answer:
                figures.wrong.append(f"{right.sent!r} is answered {body!r}")
        elif status != 503 or b"\r\nRetry-After: " not in head:
            figures.wrong.append(f"a good request is answered {head!r} {body!r}")

    def send(self, count: int) -> None:
        """Send so many requests, as far as there are connections."""
        ready = min(count, len(self._free))
        self.figures.unsent += count - ready
        self.figures.sent += ready
        chosen, self._free[:ready] = self._free[:ready], []  # whoever has been idle for longest
        for client in chosen:
            death = self._random.choice(DEATHS) if self._random.random() < self._dying else ""
            if death:
                self.figures.died[death] += 1
            client.send(self._random.choice(self._rights), death)

    def abort(self) -> None:
        self.ending = True
        for client in tuple(self._everybody):
            client.abort()


async def _saturation(port: int, rights: Sequence[Right], seconds: float) -> float:
    """Answers a second, when each client sends as soon as it has its answer."""
    load = _Load(port, rights, 0.0)
    load.closed_loop = True
    await load.connect(FEW)
    await asyncio.sleep(seconds / 4)
    before, began = load.figures.statuses[200], perf_counter()
    await asyncio.sleep(seconds)
    found = (load.figures.statuses[200] - before) / (perf_counter() - began)
    load.closed_loop = False
    load.abort()
    return found


async def _story(server: Pod, rights: Sequence[Right], plan: Plan) -> Figures:
    rate = await _saturation(server.port, rights, plan.saturation_seconds)
    load = _Load(server.port, rights, DYING_SHARE)
    figures = load.figures
    figures.saturation = rate
    await load.connect(CONNECTIONS)
    watching = asyncio.ensure_future(_watch(server, plan, figures))
    began, due_before = perf_counter(), 0
    while (spent := perf_counter() - began) < plan.overload_seconds and len(figures.wrong) < 10 and not watching.done():
        due = int(spent * 2 * rate)
        load.send(due - due_before)
        due_before = due
        await asyncio.sleep(TICK_SECONDS)
    figures.seconds = perf_counter() - began
    await watching
    # It ends while requests come.
    load.ending = True
    ended = asyncio.get_running_loop().run_in_executor(None, server.end)
    while not ended.done():
        load.send(max(1, int(rate * TICK_SECONDS)))
        await asyncio.sleep(TICK_SECONDS)
    await ended
    load.abort()
    return figures


async def _watch(server: Pod, plan: Plan, figures: Figures) -> None:
    """Look at memory and metrics once a second, and kill workers where there are several."""
    loop, began, chance = asyncio.get_running_loop(), perf_counter(), random.Random(7)
    kill_at = began + plan.kill_seconds
    while perf_counter() < began + plan.overload_seconds - 1.0:
        await asyncio.sleep(1.0)
        for port, path in (
            (server.metrics_port, "/metrics"),
            (server.metrics_port, "/healthz"),
            (server.admin_port, "/observations"),
        ):
            answer = await loop.run_in_executor(None, ask, port, path)
            if answer.status != 200:
                raise Problem(f"{path} is answered {answer.status}")
        if perf_counter() > began + plan.warm_seconds:
            figures.memory.append(await loop.run_in_executor(None, server.memory))
        if perf_counter() > kill_at and (workers := server.workers()):
            kill_at += plan.kill_seconds
            os.kill(chance.choice(workers), signal.SIGKILL)
            figures.killed += 1


def overload(server: Pod, rights: Sequence[Right], plan: Plan) -> Figures:
    """Load a server, and end it; raises Problem for what did not hold."""
    figures = uvloop.run(_story(server, rights, plan))
    if figures.wrong:
        raise Problem(f"{figures}: {figures.wrong[0][:3000]}")
    if _grows(figures, plan):
        raise Problem(f"memory grows: {figures}")
    if not figures.percentile_ms(0.99) < plan.p99_ms:
        raise Problem(f"accepted requests took too long: {figures}")
    if figures.lost and not figures.killed:
        raise Problem(f"the server ended connections: {figures}")
    if not figures.statuses[200]:
        raise Problem(f"nothing was accepted: {figures}")
    return figures


def _grows(figures: Figures, plan: Plan) -> bool:
    """Whether memory is not flat after the warm-up."""
    if not figures.killed:
        return figures.after_bytes > (1 + plan.growth) * figures.before_bytes
    if len(figures.memory) < KILLS * plan.kill_seconds:
        return False  # too few teeth
    half = len(figures.memory) // 2
    return max(figures.memory[half:]) > (1 + SAWTOOTH) * max(figures.memory[:half])
