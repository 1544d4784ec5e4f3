"""Real sockets: a port served from a thread, and clients that behave badly, one or ten thousand of them.

The clients work on any server, in this process or not: soak runs use them with larger numbers than unit tests do.
"""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import IPPROTO_TCP, SHUT_WR, SO_RCVBUF, SO_SNDBUF, SOL_SOCKET, TCP_NODELAY, create_connection, socket
from time import monotonic
from types import TracebackType

import uvloop

from kaizen.serving.settings import Limits
from kaizen.serving.transport.http import Host
from kaizen.serving.transport.messages import Request, Response

__all__ = [
    "Crowd",
    "Served",
    "echo",
    "idle",
    "memory_bytes",
    "never_reading",
    "serving",
    "slow_body",
    "slow_head",
    "talk",
    "vanished",
]

HEAD = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n"


def echo(request: Request) -> Response | Awaitable[Response]:
    """Answers what was sent; /later a moment later."""
    answer = Response(request.method + b" " + request.target + b" " + request.body)
    if request.target != b"/later":
        return answer

    async def later() -> Response:
        await asyncio.sleep(0.01)
        return answer

    return later()


@dataclass(frozen=True)
class Served:
    """A port of this process."""

    port: int
    host: Host


@contextmanager
def serving(
    handler: Callable[[Request], Response | Awaitable[Response]] = echo,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    sweep_seconds: float = 0.05,
) -> Iterator[Served]:
    """Serve on a free port of the loopback, on uvloop in a thread."""
    loop = uvloop.new_event_loop()
    host = Host(handler, limits or Limits())

    def sweep() -> None:
        host.sweep(loop.time())
        loop.call_later(sweep_seconds, sweep)

    def stop() -> None:
        host.refuse()
        host.abort()
        loop.call_later(0.01, loop.stop)

    own = socket()
    own.bind(("127.0.0.1", 0))
    port = own.getsockname()[1]
    own.listen()
    own.setblocking(False)
    loop.run_until_complete(host.listen([own], tls))
    loop.call_soon(sweep)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Served(port, host)
    finally:
        loop.call_soon_threadsafe(stop)
        thread.join()
        loop.close()


def talk(port: int, sent: bytes, *, end: bool = False, seconds: float = 5.0) -> bytes:
    """Send bytes, and read until the server ends the connection or says nothing more; `end` closes the sending side."""
    with create_connection(("127.0.0.1", port), seconds) as client:
        client.sendall(sent)
        if end:
            client.shutdown(SHUT_WR)
        received = b""
        client.settimeout(seconds)
        while part := client.recv(1 << 16):
            received += part
        return received


class Crowd(AbstractContextManager["Crowd"]):
    """Connections that stay open until the end."""

    def __init__(self, sockets: Sequence[socket]) -> None:
        self.sockets = list(sockets)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for each in self.sockets:
            each.close()

    def drip(self, data: bytes) -> int:
        """Send a few bytes on each; on how many that was possible."""
        count = 0
        for each in self.sockets:
            try:
                each.send(data)
                count += 1
            except OSError:
                pass
        return count


def _crowd(port: int, count: int, sent: bytes, receive_bytes: int = 0) -> Crowd:
    found: list[socket] = []
    for _ in range(count):
        client = socket() if not receive_bytes else _small(receive_bytes)
        client.settimeout(10)
        client.connect(("127.0.0.1", port))
        client.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        if sent:
            client.sendall(sent)
        found.append(client)
    return Crowd(found)


def _small(receive_bytes: int) -> socket:
    client = socket()
    client.setsockopt(SOL_SOCKET, SO_RCVBUF, receive_bytes)
    client.setsockopt(SOL_SOCKET, SO_SNDBUF, receive_bytes)
    return client


def idle(port: int, count: int, request: bytes = b"") -> Crowd:
    """Connections on which nothing happens, or one request and then nothing; its answer is read."""
    crowd = _crowd(port, count, request)
    if request:
        for each in crowd.sockets:
            each.recv(1 << 16)
    return crowd


def slow_head(port: int, count: int) -> Crowd:
    """Connections whose heads never end; go on with `drip(b"a")`."""
    return _crowd(port, count, HEAD + b"X-Slow: ")


def slow_body(port: int, count: int, lines: bytes = b"") -> Crowd:
    """Connections whose bodies never end, with further header lines; go on with `drip(b"a")`."""
    return _crowd(port, count, HEAD + lines + b"\r\n")


def never_reading(port: int, count: int, request: bytes, seconds: float = 1.0) -> Crowd:
    """Connections that send requests for as long as the server takes them, and read no answer."""
    crowd = _crowd(port, count, b"", receive_bytes=4096)
    deadline, open_ones = monotonic() + seconds, list(crowd.sockets)
    for each in open_ones:
        each.setblocking(False)
    while open_ones and monotonic() < deadline:
        for each in tuple(open_ones):
            try:
                each.send(request * 16)
            except OSError:  # it is full, or the server has ended the connection
                open_ones.remove(each)
    return crowd


def vanished(port: int, count: int, sent: bytes) -> Crowd:
    """Connections whose sending side is closed in the middle of a request."""
    crowd = _crowd(port, count, sent)
    for each in crowd.sockets:
        each.shutdown(SHUT_WR)
    return crowd


def memory_bytes(process_id: int) -> int:
    """What a process has in memory for itself, shared pages by their part."""
    for line in Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"the process {process_id} has no figures about its memory")
