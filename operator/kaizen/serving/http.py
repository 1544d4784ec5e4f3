"""HTTP/1.1 on asyncio: one small protocol class around httptools' parser, since a framework costs more than a prediction.

Requests of one connection are answered in order, one at a time, also when pipelined.  What a client sends is bounded in
every direction: header and body bytes, time for each, time between requests, unfinished requests, bytes held for all
clients together.  One sweep a second looks at all deadlines; no request has timers of its own.

A connection is never just closed after an answer: the sending side is closed first and what still arrives is read and
thrown away for a moment, because a reset would take the answer away from a client that is still sending.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from typing import cast

import httptools

from kaizen.serving.answers import error
from kaizen.serving.messages import Handler, Request, Response, rendered, without_offer
from kaizen.serving.settings import Limits

__all__ = ["Connection", "Host"]

log = logging.getLogger(__name__)


class Host:
    """What the connections of one port share."""

    def __init__(self, handler: Handler, limits: Limits, answered: Callable[[int], None] = lambda status: None) -> None:
        self.handler = handler
        self.limits = limits
        self.answered = answered
        self.connections: set[Connection] = set()
        self.buffered = 0
        """Bytes of the bodies of unfinished requests."""
        self.closing = False
        """Every answer ends its connection."""

    def connection(self) -> "Connection":
        """For loop.create_server."""
        return Connection(self)

    def sweep(self, now: float) -> None:
        """End what took too long; to be called once a second."""
        for connection in tuple(self.connections):
            connection.look_at_the_clock(now)

    def close_idle(self, now: float, seconds: float) -> None:
        """End the connections on which nothing has happened for so long; on a new one the first request may be on its way."""
        for connection in tuple(self.connections):
            if not connection.busy and connection.idle_seconds(now) >= seconds:
                connection.finish()

    def abort(self) -> None:
        """End all at once."""
        for connection in tuple(self.connections):
            connection.abort()


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._limits = host.limits
        self._transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._deadline = inf
        self._now: Callable[[], float] = asyncio.get_running_loop().time
        # The request that is being read:
        self._reading = False
        self._headers_done = False
        self._raw = 0
        """Bytes, without those of the piece in which the request began."""
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._header_count = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._expects = False
        self._again = b""
        """The head of a request that is to be read once more."""
        # The end:
        self._last = False
        """What is read from now on is not looked at."""
        self._lingering = False
        self._full = False
        """The client does not read its answers."""
        self._paused = False

    # Of asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._host.connections.add(self)
        self._deadline = self._now() + self._limits.idle_seconds

    def connection_lost(self, error: Exception | None) -> None:
        self._host.connections.discard(self)
        self._drop_body()
        for request in self._queue:
            self._host.buffered -= len(request.body)
        self._queue.clear()
        self._last = True
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        while data and not self._last:
            self._raw += len(data)
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._parser = httptools.HttpRequestParser(self)
                data = self._again + data[upgrade.args[0] :]
                self._again = b""
                continue
            except httptools.HttpParserError as problem:
                if not self._last:
                    self._refuse(400, f"this is not HTTP/1.1: {problem}")
            break
        if self._queue and self._task is None and not self._full:
            self._continue()  # only while the host is closing, where the last of several requests ends the connection
        if self._reading and not self._last:
            # The parser tells of a header when it has all of it, and joins what comes in pieces.
            most = 4 * self._limits.header_bytes + self._body_bytes if self._headers_done else self._limits.header_bytes
            if self._raw - self._body_bytes > most:
                self._refuse(431, self._too_long())

    def eof_received(self) -> bool:
        if self._task is None and not self._queue:
            return False
        self._last = True  # the client has sent all it will, and waits for its answers
        return True

    def pause_writing(self) -> None:
        self._full = True
        self._deadline = self._now() + self._limits.body_seconds
        self._pause()

    def resume_writing(self) -> None:
        self._full = False
        self._deadline = self._now() + self._limits.linger_seconds if self._lingering else inf
        self._resume()
        self._continue()

    # Of httptools

    def on_message_begin(self) -> None:
        if self._last:
            return
        self._reading, self._headers_done, self._expects, self._raw = True, False, False, 0
        self._url, self._headers, self._header_bytes, self._header_count = b"", {}, 0, 0
        self._deadline = self._now() + self._limits.header_seconds

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._header_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value
        self._header_bytes += len(name) + len(value) + 4
        self._header_count += 1
        if (self._header_bytes > self._limits.header_bytes or self._header_count > self._limits.headers) and not self._last:
            self._refuse(431, self._too_long())

    def on_headers_complete(self) -> None:
        if self._last:
            return
        self._headers_done = True
        limits, headers = self._limits, self._headers
        length = int(headers.get(b"content-length", 0))  # httptools has checked it
        if length > limits.body_bytes:
            self._refuse(
                413, f"the body has {length} bytes; it must not have more than {limits.body_bytes}; send fewer rows at a time"
            )
            return
        if length or b"transfer-encoding" in headers:
            self._deadline = self._now() + limits.body_seconds
        if expected := headers.get(b"expect"):
            if expected.lower() != b"100-continue":
                self._refuse(417, "the header Expect can only be 100-continue")
                return
            self._expects = True
            self._encourage()

    def on_body(self, body: bytes) -> None:
        if self._last:
            return
        self._body_bytes += len(body)
        self._host.buffered += len(body)
        self._body.append(body)
        if self._body_bytes > self._limits.body_bytes:
            self._refuse(413, f"the body has more than {self._limits.body_bytes} bytes; send fewer rows at a time")
        elif self._host.buffered > self._limits.buffered_bytes:
            self._refuse(503, "too many large requests at once; try again in a second")

    def on_message_complete(self) -> None:
        if self._last:
            return
        if self._parser.should_upgrade() and (b"transfer-encoding" in self._headers or b"content-length" in self._headers):
            # Java's client offers HTTP/2 with its first request.  The parser then leaves its body alone, so it is read anew
            # as what it is without the offer.
            self._again = without_offer(self._parser.get_method(), self._url, self._headers)
            return
        self._reading = False
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body, self._body_bytes = [], 0
        old = self._parser.get_http_version() == "1.0"
        method = self._parser.get_method()
        keep_alive = self._parser.should_keep_alive() and method != b"CONNECT"
        request = Request(method, self._url, self._headers, body, keep_alive, old)
        if not keep_alive:
            self._last = True
        self._deadline = inf
        self._queue.append(request)
        if self._task is None and not self._full and len(self._queue) == 1 and not self._host.closing:
            self._continue()
        elif len(self._queue) >= self._limits.pipelined:
            self._pause()

    # Our own

    @property
    def busy(self) -> bool:
        """Whether a request has begun and is not yet answered."""
        return not self._lingering and (self._reading or self._task is not None or bool(self._queue))

    def idle_seconds(self, now: float) -> float:
        """How long ago the connection was made or its last answer sent; only while it is not busy."""
        return now - (self._deadline - self._limits.idle_seconds)

    def look_at_the_clock(self, now: float) -> None:
        """End what took too long."""
        if now < self._deadline:
            return
        if self._lingering or self._full:
            self._transport.abort()
        elif self._reading and not self._last:
            part = "body" if self._headers_done else "headers"
            seconds = self._limits.body_seconds if self._headers_done else self._limits.header_seconds
            self._refuse(408, f"the request's {part} did not arrive within {seconds:g} s")
        else:
            self.finish()

    def finish(self) -> None:
        """Close the sending side; the client's close, or the clock, ends the connection."""
        self._last = True
        if self._lingering or self._transport.is_closing():
            return
        self._lingering = True
        unread = self._transport.get_write_buffer_size()
        self._deadline = self._now() + (self._limits.body_seconds if unread else self._limits.linger_seconds)
        self._transport.write_eof()
        self._resume()

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()

    def _refuse(self, status: int, message: str) -> None:
        """Answer what has been read so far, after what is still to be answered, and read no more."""
        self._last, self._reading = True, False
        self._drop_body()
        headers = b"Retry-After: 1\r\n" if status == 503 else b""
        request = Request(b"", self._url, {}, keep_alive=False, refused=Response(error(message), status, headers))
        self._deadline = inf
        self._queue.append(request)
        if self._task is None and not self._full and len(self._queue) == 1:
            self._continue()

    def _drop_body(self) -> None:
        self._host.buffered -= self._body_bytes
        self._body, self._body_bytes = [], 0

    def _encourage(self) -> None:
        """Answer `Expect: 100-continue`, once everything before it is answered."""
        if self._expects and self._task is None and not self._queue:
            self._expects = False
            if not self._body_bytes:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _continue(self) -> None:
        """Answer what waits, until an answer has to be waited for."""
        queue = self._queue
        while queue and self._task is None and not self._full:
            request = queue[0]
            answer = request.refused or self._ask(request)
            if isinstance(answer, Response):
                self._sent(request, answer)
            else:
                self._task = asyncio.ensure_future(self._later(request, answer))
        if self._task is None and not queue and not self._lingering:
            self._encourage()
            if self._last:
                self.finish()
            elif not self._reading:
                self._deadline = self._now() + self._limits.idle_seconds
        if len(queue) < self._limits.pipelined and not self._full:
            self._resume()

    def _pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def _ask(self, request: Request) -> Response | Awaitable[Response]:
        try:
            return self._host.handler(request)
        except Exception:
            return _broken(request)

    async def _later(self, request: Request, answer: Awaitable[Response]) -> None:
        try:
            response = await answer
        except Exception:
            response = _broken(request)
        self._task = None
        self._sent(request, response)
        self._continue()

    def _sent(self, request: Request, response: Response) -> None:
        self._queue.popleft()
        self._host.buffered -= len(request.body)
        self._host.answered(response.status)
        if self._host.closing and not self._queue and not self._reading:
            request.keep_alive = False
            self._last = True
        self._transport.write(rendered(request, response))

    def _too_long(self) -> str:
        limits = self._limits
        return f"the request line and headers must not have more than {limits.header_bytes} bytes and {limits.headers} headers"


def _broken(request: Request) -> Response:
    log.exception("%s %s broke", request.method.decode("ascii", "replace"), request.target[:200].decode("ascii", "replace"))
    return Response(error("the server failed to answer; its log says why"), 500)
