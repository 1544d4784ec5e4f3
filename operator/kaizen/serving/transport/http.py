"""A port that speaks HTTP/1.1: what its connections share.

What clients send is bounded in every direction: header and body bytes, time for each, time between requests, connections,
unfinished requests, bytes held for all clients together.  One sweep a second looks at all deadlines; no request has timers
of its own.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from socket import socket
from ssl import SSLContext
from time import thread_time, time

from kaizen.serving.problems import error
from kaizen.serving.settings import Limits
from kaizen.serving.transport.connection import Connection
from kaizen.serving.transport.heads import Head, Heads
from kaizen.serving.transport.messages import Handler, Response, dated
from kaizen.serving.transport.overload import SPARE, Turns
from kaizen.serving.transport.sockets import BACKLOG

__all__ = ["Connection", "Door", "Host"]

log = logging.getLogger(__name__)

LONG_TURN_SECONDS = 0.001
MOST_UNSENT = 32
"""Answers that are sent together."""
LARGE_BYTES = 16 << 10
"""An answer that is sent at once."""
MOST_ACCEPTED = 64
"""Connections that are taken in one turn."""
PAUSE_SECONDS = 1.0
"""Before connections are taken again when there are too many files."""


@dataclass(frozen=True)
class Door:
    """What a port says to requests that do not get to its handler, or not yet."""

    refusal: Callable[[Head], Response | None] = lambda head: None
    """The answer to a request whose body is not worth waiting for."""
    lines: Callable[[Mapping[bytes, bytes]], bytes] = lambda headers: b""
    """Further header lines of the port's own answers to a request with these headers."""


class Host:
    """What the connections of one port share."""

    def __init__(
        self, handler: Handler, limits: Limits, answered: Callable[[int], None] = lambda status: None, door: Door | None = None
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.answered = answered
        self.door = door or Door()
        self.heads = Heads(limits)
        self.turns = Turns()
        self.connections: set[Connection] = set()
        self.waiting = 0
        """Requests whose answer takes longer than a turn of the loop."""
        self.shed = 0
        """Requests and connections that were answered 503 because of too much work."""
        self.buffered = 0
        """Bytes of unfinished requests, and of answers that clients do not read."""
        self.date = b""
        """The header line, to the second."""
        self.unsent: list[tuple[asyncio.Transport, bytes]] = []
        """Answers of this turn, which are sent together: to wake somebody costs as much as half of an answer."""
        self.unsent_since = 0.0
        """When the first of them was begun."""
        self.closing = False
        """Every answer ends its connection."""
        self._servers: list[asyncio.Server] = []
        self._listeners: list[socket] = []
        self._tls: SSLContext | None = None
        self.accepting: set[asyncio.Task[None]] = set()
        """Clients that are no connections yet, as a handshake comes before."""
        self._turn_before = 0.0

    async def listen(self, listeners: Sequence[socket], tls: SSLContext | None = None) -> None:
        """Serve who connects to these."""
        loop = asyncio.get_running_loop()
        self.date = dated(time())
        self._listeners, self._tls = list(listeners), tls
        if tls is None:
            self._servers = [await loop.create_server(self.connection, sock=one, backlog=BACKLOG) for one in listeners]
        else:  # the loop itself would tell of connections when their handshakes are done, and take any number before
            self._begin_accepting()

    def refuse(self) -> None:
        """No new clients."""
        for server in self._servers:
            server.close()
        if self._tls is not None:
            self._pause_accepting()
            for listener in self._listeners:
                listener.close()
        self._listeners = []

    def connection(self) -> Connection:
        """For loop.create_server."""
        return Connection(self)

    def begin_turn(self, now: float) -> None:
        """The first request of a turn is read."""
        loop = asyncio.get_running_loop()
        loop.call_soon(self._end_turn)  # which is when all sockets that were ready have been read
        if now - self._turn_before > LONG_TURN_SECONDS:  # whatever took so long, or nothing: then it costs little
            loop.call_soon(self._accept)
        self._turn_before = now
        self.turns.begin(now, thread_time())

    def send_soon(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send at the end of this turn at the latest, in order; much of it at once."""
        unsent = self.unsent
        if not unsent and not self.turns.began:
            asyncio.get_running_loop().call_soon(self.send)
        unsent.append((transport, data))
        if len(unsent) >= MOST_UNSENT or len(data) > LARGE_BYTES:
            self.send()

    def send(self) -> None:
        """Send what waits."""
        unsent, self.unsent = self.unsent, []
        for transport, data in unsent:
            if not transport.is_closing():
                transport.write(data)

    def sweep(self, now: float) -> None:
        """End what took too long; to be called once a second."""
        self.date = dated(time())
        for connection in tuple(self.connections):
            connection.look_at_the_clock(now)

    def close_idle(self, now: float, seconds: float) -> None:
        """End the connections on which nothing has happened for so long; on a new one the first request may be on its way."""
        for connection in tuple(self.connections):
            if not connection.busy and connection.idle_seconds(now) >= seconds:
                connection.finish()

    def count_shed(self) -> None:
        """A request or connection is answered 503."""
        self.shed += 1
        self.answered(503)

    def broken(self, head: Head, problem: BaseException) -> Response:
        """The answer to a request on which the server failed."""
        method, target = head.method.decode("ascii", "replace"), head.target[:200].decode("ascii", "replace")
        log.error("%s %s broke", method, target, exc_info=problem)
        return Response(error("the server failed to answer; its log says why"), 500)

    def abort(self) -> None:
        """End all at once."""
        for task in self.accepting:
            task.cancel()
        for connection in tuple(self.connections):
            connection.abort()

    def _end_turn(self) -> None:
        self.turns.began = 0.0
        self.send()

    def _begin_accepting(self) -> None:
        for listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept)

    def _pause_accepting(self) -> None:
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)

    def _accept(self) -> None:
        """Take who waits to be accepted: uvloop accepts one in a turn, and while turns are long nobody would get in, no probe
        either."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            try:
                for _ in range(MOST_ACCEPTED):
                    client, _ = listener.accept()
                    if self._tls and len(self.connections) + len(self.accepting) >= self.limits.connections + SPARE:
                        self.count_shed()
                        client.close()
                        continue
                    task = loop.create_task(self._connect(client))
                    self.accepting.add(task)
                    task.add_done_callback(self.accepting.discard)
            except BlockingIOError:
                continue  # nobody waits
            except OSError:  # too many files, which a listener that is ready would say for ever; or it was closed
                if self._tls is not None:
                    self._pause_accepting()
                    loop.call_later(PAUSE_SECONDS, self._begin_accepting)

    async def _connect(self, client: socket) -> None:
        client.setblocking(False)
        # To end TLS takes as long as the client takes to read what is unsent; those that have nothing unsent the sweep ends.
        begin, end = (self.limits.header_seconds, self.limits.body_seconds) if self._tls else (None, None)
        with suppress(OSError):  # the client is gone, or speaks no TLS
            await asyncio.get_running_loop().connect_accepted_socket(
                self.connection, client, ssl=self._tls, ssl_handshake_timeout=begin, ssl_shutdown_timeout=end
            )
