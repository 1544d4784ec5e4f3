"""One client's connection: HTTP/1.1 as a small protocol class of our own, since a framework costs more than a prediction.

Requests of one connection are answered in order, one at a time, also when pipelined: what arrives while an answer is being
made stays as bytes.

A connection is never just closed after an answer: the sending side is closed first and what still arrives is read and
thrown away for a moment, because a reset would take the answer away from a client that is still sending.
"""

import asyncio
from asyncio import Future
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from time import monotonic, thread_time
from typing import TYPE_CHECKING, cast

from kaizen.serving.problems import error
from kaizen.serving.transport.chunks import Chunks
from kaizen.serving.transport.heads import CHUNKED, Head, RefusedHead, hopeless, too_long
from kaizen.serving.transport.messages import Request, Response, rendered
from kaizen.serving.transport.overload import FULL, LATE_SECONDS, RETRY, SHED, SPARE, TOO_MANY, TOO_MUCH

if TYPE_CHECKING:
    from kaizen.serving.transport.http import Host

__all__ = ["Connection"]

UNSENT_BYTES = 16 << 10
"""Of answers; a client that does not read more gets no more, and what it asks for meanwhile is not read."""
HELD_BACK_SECONDS = 0.0005
"""Answers wait for others of their turn no longer than this and the next request take; nor for a request larger than this."""
SMALL_BYTES = 16 << 10
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# What a connection waits for; at the end nothing, and what is still read is thrown away.
_HEAD, _BODY, _ANSWER, _END = range(4)


class Connection(asyncio.Protocol):
    """One client."""

    __slots__ = (
        "_body", "_chunks", "_deadline", "_ended", "_full", "_head", "_held", "_host", "_kept", "_lingering", "_paused", "_phase",
        "_spare", "_task", "_transport", "_unsent",
    )  # fmt: skip

    def __init__(self, host: "Host") -> None:
        self._host = host
        self._transport = cast(asyncio.Transport, None)
        self._phase = _HEAD
        self._deadline = inf
        self._held = b""
        """What is not looked at yet: the beginning of a head, or what follows a request that is being answered."""
        self._kept = 0
        """Bytes in the host's account."""
        self._head: Head | None = None
        """Of the request that is being read or answered, unless that takes one piece and one turn."""
        self._body: bytes | bytearray = b""
        self._chunks: Chunks | None = None
        self._task: Future[Response] | None = None
        self._spare = False
        """Above the limit: only for probes."""
        self._full = False
        """The client does not read its answers."""
        self._unsent = 0
        """How many bytes of them are in the host's account."""
        self._paused = False
        self._ended = False
        """The client has sent all it will."""
        self._lingering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(UNSENT_BYTES)
        host = self._host
        host.connections.add(self)
        above = len(host.connections) - host.limits.connections
        self._spare = above > 0
        self._deadline = monotonic() + (host.limits.linger_seconds if self._spare else host.limits.idle_seconds)
        if above > SPARE:
            host.count_shed()
            self._phase = _END
            self._transport.write(FULL)  # nothing else was written before
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._host.connections.discard(self)
        self._phase = _END
        self._drop()
        self._count_unsent(0)
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase == _END:
            return
        if phase == _ANSWER or self._full:
            self._pause()
            self._held += data
            self._account()
        elif phase == _BODY:
            if rest := self._take(data):
                self._read(rest)
        elif held := self._held:
            self._drop()
            self._read(held + data, len(held))
        else:
            self._read(data)

    def eof_received(self) -> bool:
        waits = self._phase == _ANSWER or (self._full and bool(self._held))
        if waits and self._transport.can_write_eof():  # TLS knows no half of a connection
            self._ended = True
            return True
        self._host.send()
        self._lingering = True  # the transport closes once what it has is sent, for which there is no more time than this
        self._deadline = monotonic() + self._host.limits.body_seconds
        return False

    def pause_writing(self) -> None:
        self._full = True
        self._deadline = monotonic() + self._host.limits.body_seconds
        self._pause()
        self._count_unsent(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._full = False
        self._count_unsent(0)
        if self._lingering:
            self._deadline = monotonic() + self._host.limits.linger_seconds
            self._resume()
        elif self._task:
            self._deadline = inf
        else:
            self._go_on()

    @property
    def busy(self) -> bool:
        """Whether a request has begun and is not yet answered."""
        return not self._lingering and (self._phase != _HEAD or bool(self._held))

    def idle_seconds(self, now: float) -> float:
        """How long ago the connection was made or its last answer sent; only while it is not busy."""
        return now - (self._deadline - self._host.limits.idle_seconds)

    def look_at_the_clock(self, now: float) -> None:
        """End what took too long."""
        if now < self._deadline:
            return
        limits, transport = self._host.limits, self._transport
        if self._lingering and not transport.can_write_eof() and not transport.is_closing():
            self._deadline = now + limits.linger_seconds
            transport.close()  # TLS says goodbye
        elif self._lingering or self._full:
            transport.abort()
        elif self._phase == _BODY:
            self._refuse(408, f"the request's body did not arrive within {limits.body_seconds:g} s")
        elif self._held:
            self._refuse(408, f"the request's headers did not arrive within {limits.header_seconds:g} s")
        else:
            self.finish()

    def finish(self, *, unread: bool = False) -> None:
        """Close the sending side; the client's close, or the clock, ends it.  `unread`: the client may be sending more."""
        self._phase = _END
        self._drop()
        transport = self._transport
        if self._lingering or transport.is_closing():
            return
        self._host.send()
        self._lingering = True
        limits, plain = self._host.limits, transport.can_write_eof()
        slow = transport.get_write_buffer_size() > 0 or not (plain or unread)  # what TLS has not sent it does not tell
        self._deadline = monotonic() + (limits.body_seconds if slow else limits.linger_seconds)
        if plain:
            transport.write_eof()
        elif not unread:
            transport.close()  # TLS cannot close one side; it sends what is unsent before
        self._resume()

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()

    def _read(self, data: bytes, seen: int = 0) -> None:
        """Answer the requests in these bytes, of which so many were found before not to end a head."""
        host = self._host
        now = monotonic()
        if not host.turns.began:
            host.begin_turn(now)
        count, first, size = 0, 0, len(data)
        while True:
            end = data.find(b"\r\n\r\n", first + max(0, seen - 3)) + 4
            if end == 3:
                self._hold_head(data[first:], seen, now)
                return
            try:
                head = host.heads[data[first:end]]
            except RefusedHead as refused:
                self._refuse(refused.status, str(refused), refused.headers)
                return
            first = end + head.length
            if first > size or head.length == CHUNKED or self._spare:
                data = self._begin_body(head, data[end:], now)
                first, size = 0, len(data)
            else:
                self._answer(head, data[end:first], first < size, now)
            if first == size:
                break
            count, seen = count + 1, 0
            if not self._reads or count == host.limits.pipelined:
                self._set_aside(data[first:])
                return
            now = monotonic()
        if self._reads:
            self._rest(now)

    @property
    def _reads(self) -> bool:
        """Whether the next request can be answered."""
        return self._phase == _HEAD and not self._full

    def _hold_head(self, data: bytes, seen: int, now: float) -> None:
        limits = self._host.limits
        if len(data) > limits.header_bytes:
            self._refuse(431, too_long(limits))
        elif hopeless(data, seen):
            self._refuse(400, "this is not HTTP/1.1: lines must be visible characters, ended by CR LF")
        elif self._ended:
            self.finish()
        else:
            if not seen:  # a byte now and then must not move the deadline
                self._deadline = now + limits.header_seconds
            self._held = data
            self._account()

    def _begin_body(self, head: Head, data: bytes, now: float) -> bytes:
        """Read a body that does not come in one piece with its head; what follows the request."""
        limits, host = self._host.limits, self._host
        if head.length and (refusal := host.door.refusal(head)):
            self._end_with(refusal, head.headers, head.method)
            return b""
        if (self._spare or host.waiting >= limits.waiting) and not head.vital:
            host.shed += 1
            self._refuse(503, TOO_MANY if self._spare else TOO_MUCH, head.headers)
            return b""
        self._phase, self._head = _BODY, head
        self._deadline = now + limits.body_seconds
        self._chunks = Chunks(limits) if head.length == CHUNKED else None
        self._body = bytearray() if self._chunks is None else self._chunks.body
        if head.expects and not data:
            self._host.send_soon(self._transport, CONTINUE)
        return self._take(data)

    def _take(self, data: bytes) -> bytes:
        """Take a piece of a body; what follows the request."""
        head, chunks, rest = cast(Head, self._head), self._chunks, None
        if chunks is not None:
            try:
                rest = chunks.take(data)
            except RefusedHead as refused:
                self._refuse(refused.status, str(refused))
                return b""
        else:
            missing = head.length - len(self._body)
            self._body += data[:missing]
            if len(data) >= missing:
                rest = data[missing:]
        if rest is None:
            self._account()
            if self._ended:
                self.finish()
            return b""
        body = bytes(self._body)
        self._drop()
        self._phase = _HEAD
        now = monotonic()
        self._answer(head, body, bool(rest), now)
        if rest and not self._reads:
            self._set_aside(rest)
            return b""
        if self._reads and not rest:
            self._rest(now)
        return rest

    def _answer(self, head: Head, body: bytes, more: bool, now: float) -> None:
        """Answer one request, behind which are more bytes or none."""
        host = self._host
        late = now - host.turns.began > LATE_SECONDS and host.turns.refuses(now, thread_time())
        if (late or host.waiting >= host.limits.waiting) and not head.vital:
            self._shed(head, more)
            return
        if not host.unsent:
            host.unsent_since = now
        elif now - host.unsent_since > HELD_BACK_SECONDS or len(body) > SMALL_BYTES:
            host.send()
            host.unsent_since = now
        try:
            answer = host.handler(Request(head.method, head.target, head.headers, body))
        except Exception as problem:
            answer = host.broken(head, problem)
        if isinstance(answer, Response):
            self._send(head, answer, more)
            return
        self._phase, self._deadline = _ANSWER, inf
        host.waiting += 1
        self._task = asyncio.ensure_future(answer)
        self._task.add_done_callback(self._answered)
        self._head, self._body = head, body
        self._account()

    def _answered(self, task: Future[Response]) -> None:
        host = self._host
        host.waiting -= 1
        self._task, head = None, cast(Head, self._head)
        problem = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self._phase == _END:
            return
        self._phase = _HEAD
        self._send(head, task.result() if problem is None else host.broken(head, problem), bool(self._held))
        self._go_on()

    def _send(self, head: Head, response: Response, more: bool) -> None:
        host = self._host
        host.answered(response.status)
        keep_alive = head.keep_alive and not self._spare and (more or not (host.closing or self._ended))
        host.send_soon(self._transport, rendered(head.method, response, keep_alive=keep_alive, old=head.old, date=host.date))
        if self._full:
            host.send()
            self._count_unsent(self._transport.get_write_buffer_size())
        if not keep_alive:
            self.finish()

    def _shed(self, head: Head, more: bool) -> None:
        host = self._host
        page = b"origin" in head.headers
        if head.keep_alive and not head.old and not host.closing and head.method != b"HEAD" and not page:
            host.count_shed()
            host.send_soon(self._transport, SHED)
        else:
            host.shed += 1
            self._send(head, Response(error(TOO_MUCH), 503, RETRY + host.door.lines(head.headers)), more)

    def _refuse(self, status: int, message: str, headers: Mapping[bytes, bytes] | None = None) -> None:
        """Answer what has been read so far, and read no more; `headers` are the request's, where it is not the one at hand."""
        if headers is None:
            headers = self._head.headers if self._head else {}
        self._end_with(Response(error(message), status, RETRY if status == 503 else b""), headers)

    def _end_with(self, answer: Response, headers: Mapping[bytes, bytes], method: bytes = b"") -> None:
        host = self._host
        host.answered(answer.status)
        answer = replace(answer, headers=answer.headers + host.door.lines(headers))
        host.send_soon(self._transport, rendered(method, answer, keep_alive=False, old=False, date=host.date))
        self.finish(unread=True)

    def _set_aside(self, data: bytes) -> None:
        """Keep what follows until it can be looked at."""
        if self._phase == _END:
            return
        self._held = data
        self._account()
        if self._reads:
            self._phase = _ANSWER  # what arrives meanwhile comes behind it
            asyncio.get_running_loop().call_soon(self._go_on)  # other clients first

    def _go_on(self) -> None:
        """Look at what was set aside."""
        if self._phase == _END or self._full or self._task:
            return
        data, self._held = self._held, b""
        self._resume()
        if self._phase == _BODY:
            self._deadline = monotonic() + self._host.limits.body_seconds
            data = self._take(data)
        else:
            self._drop()
            self._phase = _HEAD
        if data:
            self._read(data)
        elif self._reads:
            self._rest(monotonic())

    def _rest(self, now: float) -> None:
        """Wait for another request."""
        self._deadline = now + self._host.limits.idle_seconds
        if self._ended:
            self.finish()

    def _account(self) -> None:
        """Have the host know how many bytes this connection keeps, and refuse what would be too much for all."""
        host, more = self._host, len(self._held) + len(self._body) - self._kept
        host.buffered += more
        self._kept += more
        if more <= 0 or host.buffered <= host.limits.buffered_bytes:
            return
        host.shed += 1
        if self._task:  # its answer is the last one of this connection
            self._held, self._ended = b"", True
            self._account()
        else:
            self._refuse(503, "too many large requests at once; try again in a second")

    def _count_unsent(self, size: int) -> None:
        """Have the host know how much a client does not read, and end it rather than to keep too much for all."""
        host = self._host
        most = host.limits.buffered_bytes
        if size and host.buffered - self._unsent + min(size, most // 2) > most:  # one answer may be larger than that
            self.abort()
            size = 0
        host.buffered += size - self._unsent
        self._unsent = size

    def _drop(self) -> None:
        self._host.buffered -= self._kept
        self._held, self._body, self._chunks, self._head, self._kept = b"", b"", None, None, 0

    def _pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()
