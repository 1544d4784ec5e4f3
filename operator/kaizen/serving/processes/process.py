"""What every process of the server has: ports, a sweep of their clients, signals that end it, work in threads."""

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ssl import SSLContext
from typing import TypeVar

from kaizen.serving.settings import Limits
from kaizen.serving.transport.http import Door, Host
from kaizen.serving.transport.messages import Handler

__all__ = ["ENDING", "SWEEP_SECONDS", "Port", "Process"]

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
SWEEP_SECONDS = 1.0
ENDING = (signal.SIGTERM, signal.SIGINT)

T = TypeVar("T")


@dataclass
class Port:
    """A port and its clients."""

    host: Host
    sockets: list[socket.socket]


class Process:
    """To be made inside a running event loop."""

    def __init__(self, limits: Limits) -> None:
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.ports: list[Port] = []
        self.stop: asyncio.Future[signal.Signals] = self.loop.create_future()
        """The first signal to end."""
        self.hurry = asyncio.Event()
        """The second one."""
        for number in ENDING:
            self.loop.add_signal_handler(number, self.end, number)

    def end(self, number: signal.Signals) -> None:
        """What a signal does."""
        if self.stop.done():
            self.hurry.set()
        else:
            self.stop.set_result(number)

    async def listen(
        self,
        sockets: list[socket.socket],
        handler: Handler,
        answered: Callable[[int], None] = lambda status: None,
        ssl: SSLContext | None = None,
        door: Door | None = None,
    ) -> Port:
        """Answer on these listeners, which are the port's from now on."""
        host = Host(handler, self.limits, answered, door)
        port = Port(host, sockets)
        self.ports.append(port)
        await host.listen(sockets, ssl)
        return port

    async def keep_house(self) -> None:
        """Look at the clients' deadlines, and after everything else; for ever."""
        swept = 0.0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            try:
                if now >= swept + SWEEP_SECONDS:
                    swept = now
                    for port in self.ports:
                        port.host.sweep(now)
                    self.each_second()
                await self.each_tick(now)
            except Exception:
                log.exception("housekeeping broke")

    def each_second(self) -> None:
        """For the kinds of processes."""

    async def each_tick(self, now: float) -> None:
        """For the kinds of processes; `now` is time.monotonic()."""

    def abort(self) -> None:
        """End all clients."""
        for port in self.ports:
            port.host.refuse()
            port.host.abort()

    def in_thread(self, action: Callable[[], T]) -> "asyncio.Future[T]":
        """The result of a call in a thread that does not keep the process alive when it never returns."""
        future: asyncio.Future[T] = self.loop.create_future()

        def settle(result: Callable[[], None]) -> None:
            with suppress(RuntimeError):  # the loop has ended
                self.loop.call_soon_threadsafe(lambda: None if future.done() else result())

        def run() -> None:
            try:
                found = action()
            except Exception as problem:
                error = problem
                settle(lambda: future.set_exception(error))
            else:
                settle(lambda: future.set_result(found))

        threading.Thread(target=run, daemon=True).start()
        return future
