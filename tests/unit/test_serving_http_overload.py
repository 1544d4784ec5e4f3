"""More clients and more requests than a server can have: who is refused, who is not, and what that costs others."""

import asyncio
import json
from collections.abc import Awaitable
from pathlib import Path
from socket import SHUT_WR, create_connection
from time import monotonic

import pytest

from kaizen.serving.settings import Limits, Settings
from kaizen.serving.transport import connection as connections
from kaizen.serving.transport import http
from kaizen.serving.transport.http import Host
from kaizen.serving.transport.messages import Request, Response
from kaizen.serving.transport.overload import FULL, LATE_SECONDS, PATIENCE_SECONDS, SHED, SPARE, Turns
from tests.support import sockets
from tests.support.models import flights, make_model
from tests.support.rawhttp import ask
from tests.support.server_process import server_process
from tests.support.serving import answers, connect
from tests.support.sockets import echo, serving, talk
from tests.support.wait import until

POST = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
PROBE = b"GET /v2/health/ready HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSING = POST.replace(b"Host: a", b"Host: a\r\nConnection: close")


def statuses(received: bytes | bytearray) -> list[int]:
    return [status for status, _, _ in answers(received)]


def refused(turns: Turns, began: float, *after: float, computing: float = 1.0) -> list[bool]:
    """A turn, and requests so many seconds after its beginning, of which the thread was computing this share."""
    turns.begin(began, 7.0)
    return [turns.refuses(began + seconds, 7.0 + seconds * computing) for seconds in after if seconds > LATE_SECONDS]


def test_a_turn_may_be_late_now_and_then() -> None:
    turns = Turns()
    for began in range(100, 110):
        assert refused(turns, began, 0.03, 0.1, 0.19) == [False] * 3


def test_one_turn_may_not_take_too_long() -> None:
    assert refused(Turns(), 100.0, 0.1, PATIENCE_SECONDS - 0.001, PATIENCE_SECONDS + 0.001) == [False, False, True]


def test_when_each_turn_is_late_whoever_comes_late_is_refused() -> None:
    turns, now = Turns(), 100.0
    found: list[bool] = []
    for _ in range(10):
        found += refused(turns, now, 0.03, 0.04)
        now += 0.041
    assert found == [False] * 9 + [True] * 11  # from 0.2 s on
    now += 0.1  # in which nobody waited
    assert refused(turns, now, 0.03) == [False]


def test_whoever_waited_for_the_processor_alone_is_answered() -> None:
    turns, now = Turns(), 100.0
    for _ in range(20):  # a Pod whose limit lets it run for a tenth of the time
        assert refused(turns, now, 0.03, 0.09, computing=0.1) == [False, False]
        now += 0.1


def test_the_refusals_that_are_made_once_are_answers() -> None:
    for whole, connection in ((SHED, None), (FULL, "close")):
        ((status, headers, body),) = answers(whole)
        assert (status, headers["retry-after"], headers.get("connection")) == (503, "1", connection)
        assert json.loads(body)["error"].endswith("; try again in a second")


class Clock:
    """Time as a test says it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_late_requests_are_refused_and_probes_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for name in ("monotonic", "thread_time"):
        monkeypatch.setattr(connections, name, clock)
    monkeypatch.setattr(http, "thread_time", clock)

    def slow(request: Request) -> Response:
        clock.now += 0.01
        return Response(b"")

    async def story() -> None:
        counted: list[int] = []
        host = Host(slow, Limits(), counted.append)
        clients = [connect(host) for _ in range(8)]
        for _ in range(10):
            for client, _ in clients:
                client.data_received(POST)
            await asyncio.sleep(0)
        found = [statuses(transport.written) for _, transport in clients]
        assert found[:3] == [[200] * 10] * 3  # within the first 20 ms
        assert all(each[:2] == [200, 200] and each[-6:] == [503] * 6 for each in found[3:])
        assert not any(transport.ended for _, transport in clients)
        assert host.shed == sum(each.count(503) for each in found) == counted.count(503)
        for client, _ in clients:
            client.data_received(PROBE)
        assert [statuses(transport.written)[-1] for _, transport in clients] == [200] * 8
        # HEAD has no body, and a client of HTTP/1.0 has to be told that its connection stays open.
        (head, heard), (old, told) = (connect(host) for _ in range(2))
        head.data_received(POST.replace(b"POST", b"HEAD"))
        assert heard.written.endswith(b"\r\n\r\n")
        assert answers(heard.written, heads=(0,))[0][0] == 503
        old.data_received(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        ((status, headers, _),) = answers(told.written)
        assert (status, headers["connection"], headers["retry-after"]) == (503, "keep-alive", "1")
        await asyncio.sleep(0)
        clock.now += 1
        clients[7][0].data_received(POST)
        assert statuses(clients[7][1].written)[-1] == 200

    asyncio.run(story())


def test_too_many_unfinished_requests() -> None:
    async def story() -> None:
        host = Host(echo, Limits(waiting=2))
        later = POST.replace(b"/echo", b"/later")
        (first, one), (second, two), (third, three), (probe, four), (large, five) = (connect(host) for _ in range(5))
        first.data_received(later)
        second.data_received(later)
        assert host.waiting == 2
        third.data_received(POST)
        third.data_received(POST)
        probe.data_received(PROBE)
        # A large body is not even waited for.
        large.data_received(POST[:-3])
        assert [statuses(transport.written) for transport in (one, two, three, four, five)] == [[], [], [503, 503], [200], [503]]
        assert five.ended
        assert not three.ended
        first.connection_lost(None)
        for _ in range(3):
            await asyncio.sleep(0)
        assert host.waiting == 1
        third.data_received(POST)
        assert statuses(three.written) == [503, 503, 200]
        await asyncio.sleep(0.05)
        assert statuses(two.written) == [200]
        assert (host.waiting, host.shed) == (0, 3)

    asyncio.run(story())


def test_too_many_connections() -> None:
    with serving(limits=Limits(connections=3, linger_seconds=1.0)) as served, sockets.idle(served.port, 3, POST):
        assert statuses(talk(served.port, POST + POST)) == [503]
        assert statuses(talk(served.port, POST[:-1])) == [503]
        assert statuses(talk(served.port, PROBE)) == [200]  # and ends: a spare connection is for one question
        assert talk(served.port, b"") == b""
        with sockets.idle(served.port, SPARE):
            received = talk(served.port, b"")
            assert received == FULL
        until("spare connections end", lambda: len(served.host.connections) == 3, 5)
        assert statuses(talk(served.port, PROBE)) == [200]
        assert served.host.shed == 3


def test_who_connects_while_turns_are_long_is_let_in() -> None:
    """uvloop takes one new connection in a turn: a probe would wait for as many turns as there are others before it."""

    def slow(request: Request) -> Response:
        if request.target == b"/echo":
            end = monotonic() + 0.02
            while monotonic() < end:
                pass
        return Response(b"")

    with serving(slow) as served, sockets.idle(served.port, 4) as busy:
        for each in busy.sockets:
            each.sendall(POST * 8)
        with sockets.idle(served.port, 50):
            began = monotonic()
            assert statuses(talk(served.port, PROBE + CLOSING)[:12] + b"\r\n\r\n") == [200]
            assert monotonic() - began < 4


def test_clients_that_misbehave_keep_nobody_waiting() -> None:
    limits = Limits(header_seconds=0.5, body_seconds=0.5, idle_seconds=30.0, linger_seconds=0.2)
    large = POST.replace(b"/echo", b"/large")

    def handler(request: Request) -> Response | Awaitable[Response]:
        return Response(b"x" * 100_000) if request.target == b"/large" else echo(request)

    with (
        serving(handler, limits) as served,
        create_connection(("127.0.0.1", served.port), 5) as client,
        sockets.idle(served.port, 100),
        sockets.slow_head(served.port, 50) as heads,
        sockets.slow_body(served.port, 50) as bodies,
        sockets.vanished(served.port, 50, POST[:-1]),
        sockets.never_reading(served.port, 20, large, seconds=0.3),
    ):
        longest, deadline = 0.0, monotonic() + 2.0
        while monotonic() < deadline:
            began = monotonic()
            client.sendall(POST)
            assert client.recv(1000).endswith(b"hello")
            longest = max(longest, monotonic() - began)
            heads.drip(b"a")
            bodies.drip(b"a")
        assert longest < 1.0
        until("all but the idle ones are let go", lambda: len(served.host.connections) == 101, 5)
        assert served.host.buffered == 0


def test_what_nobody_reads_is_bounded() -> None:
    large = Response(b"x" * 100_000)
    with serving(lambda request: large, Limits(body_bytes=1_000_000, buffered_bytes=3_000_000, body_seconds=30.0)) as served:
        with sockets.never_reading(served.port, 100, POST, seconds=1.0):
            until("some are ended", lambda: len(served.host.connections) < 100, 5, lambda: str(served.host.buffered))
            assert served.host.buffered <= 3_000_000
        until("all is given back", lambda: served.host.buffered == 0, 5)


def test_half_closed_clients_that_do_not_read_are_let_go() -> None:
    """What is unsent is too little for the connection to be full, and too much for it to end."""
    answer = Response(b"x" * 1_000)
    with (
        serving(lambda request: answer, Limits(body_seconds=0.5, idle_seconds=30.0, linger_seconds=0.2)) as served,
        create_connection(("127.0.0.1", served.port), 5) as client,
    ):
        client.settimeout(0.2)
        get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

        def unsent() -> int:
            found = [each._transport.get_write_buffer_size() for each in tuple(served.host.connections)]
            return sum(found)

        for _ in range(20_000):
            if unsent():
                break
            client.sendall(get)
        until("answers wait", unsent, 5)
        client.shutdown(SHUT_WR)
        until("it is let go", lambda: not served.host.connections, 5)


def test_a_body_of_any_size_that_is_allowed_finds_room() -> None:
    """Its answer does, too."""
    size = 70 << 20
    limits = Settings.from_environment({"KAIZEN_MODEL_URI": "m", "KAIZEN_BODY_BYTES": str(80 << 20)}).limits
    with serving(limits=limits) as served, create_connection(("127.0.0.1", served.port), 10) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
        piece = b"x" * (1 << 20)
        for _ in range(size >> 20):
            client.sendall(piece)
        head = client.recv(1 << 16)
        assert head.startswith(b"HTTP/1.1 200")
        got = len(head.partition(b"\r\n\r\n")[2])
        while part := client.recv(1 << 20):
            got += len(part)
        assert got >= size


def test_an_answer_may_wait_for_its_reader() -> None:
    large = Response(b"x" * 5_000_000)
    with serving(lambda request: large) as served, create_connection(("127.0.0.1", served.port), 5) as client:
        client.sendall(CLOSING)
        until("the answer waits", lambda: served.host.buffered > 0, 5)
        received = b"".join(iter(lambda: client.recv(1 << 20), b""))
        assert [len(body) for _, _, body in answers(received)] == [5_000_000]
        until("nothing is kept", lambda: served.host.buffered == 0, 5)


def test_idle_connections_cost_little(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", "ridge")
    with server_process(model.directory) as server:
        before = sockets.memory_bytes(server.process.pid)
        with sockets.idle(server.port, 500), sockets.slow_head(server.port, 500), sockets.slow_body(server.port, 500):
            until("all are there", lambda: server.metric("kaizen_server_connections") == 1500, 5)
            assert (sockets.memory_bytes(server.process.pid) - before) / 1500 < 4096
            assert ask(server.port, "/v2/models/flight-delay/infer", model.request(flights(1))).status == 200
