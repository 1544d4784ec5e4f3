"""HTTP in both directions, without sockets: what a client sends in any pieces, what it gets, and when it is cut off."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaizen.serving.settings import Limits
from kaizen.serving.transport import connection as connections
from kaizen.serving.transport.http import MOST_UNSENT, Connection, Host
from kaizen.serving.transport.messages import Request, Response, dated
from tests.support.serving import FakeTransport, answers, connect

LIMITS = Limits(body_bytes=1000, buffered_bytes=1500, header_bytes=500, headers=10, pipelined=4)
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"


def echo(request: Request) -> Response | Awaitable[Response]:
    """Answers what was sent; /later a moment later, /broken never."""
    if request.target == b"/broken":
        raise RuntimeError("broken")
    answer = Response(request.method + b" " + request.target + b" " + request.body)
    if request.target != b"/later":
        return answer

    async def later() -> Response:
        await asyncio.sleep(0)
        return answer

    return later()


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story()

    asyncio.run(whole())


def talk(*pieces: bytes, limits: Limits = LIMITS, turns: int = 5) -> tuple[FakeTransport, Connection, Host]:
    """Send pieces, and let the loop turn a few times after each."""
    host = Host(echo, limits)
    made: list[tuple[Connection, FakeTransport]] = []

    async def story() -> None:
        made.append(connect(host))
        for piece in pieces:
            made[0][0].data_received(piece)
            for _ in range(turns):
                await asyncio.sleep(0)

    run(story)
    return made[0][1], made[0][0], host


def statuses(transport: FakeTransport) -> list[int]:
    return [status for status, _, _ in answers(transport.written)]


def test_one_request() -> None:
    transport, connection, _ = talk(POST)
    assert bytes(transport.written) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\nPOST /echo hello"
    )
    assert not transport.ended
    assert not connection.busy


def test_answers_say_when_they_were_made() -> None:
    async def story() -> bytes:
        host = Host(echo, LIMITS)
        host.sweep(0.0)
        connection, transport = connect(host)
        connection.data_received(POST)
        connection.data_received(b"no HTTP\r\n\r\n")
        return bytes(transport.written)

    for _, headers, _ in answers(asyncio.run(story())):
        assert abs(parsedate_to_datetime(headers["date"]) - datetime.now(UTC)) < timedelta(minutes=5)
    assert dated(784111777.0) == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"  # RFC 9110, section 5.6.7


@given(st.lists(st.integers(1, 3 * len(POST) - 1), max_size=6, unique=True))
def test_pieces_do_not_matter(places: list[int]) -> None:
    data, cuts = POST * 3, [0, *sorted(places), 3 * len(POST)]
    transport, _, _ = talk(*(data[first:last] for first, last in pairwise(cuts)), turns=0)
    assert [body for _, _, body in answers(transport.written)] == [b"POST /echo hello"] * 3


def test_pipelined_requests_are_answered_in_order_also_when_one_takes_longer() -> None:
    later = POST.replace(b"/echo", b"/later")
    transport, _, host = talk(POST + later + GET + later + POST, turns=20)
    bodies = [body for _, _, body in answers(transport.written)]
    assert bodies == [b"POST /echo hello", b"POST /later hello", b"GET /echo ", b"POST /later hello", b"POST /echo hello"]
    assert host.buffered == 0


def test_reading_pauses_while_an_answer_is_awaited_and_more_arrives() -> None:
    async def story() -> None:
        host = Host(echo, LIMITS)
        connection, transport = connect(host)
        connection.data_received(POST.replace(b"/echo", b"/later"))
        assert not transport.paused  # so that a client that goes away is noticed
        connection.data_received(POST + GET[:9])
        assert transport.paused
        assert host.buffered == len(b"hello") + len(POST) + 9
        for _ in range(5):
            await asyncio.sleep(0)
        assert not transport.paused
        assert statuses(transport) == [200, 200]
        connection.data_received(GET[9:])
        assert statuses(transport) == [200, 200, 200]
        assert host.buffered == 0

    run(story)


def test_a_client_with_many_requests_at_once_lets_others_in_between() -> None:
    async def story() -> None:
        connection, transport = connect(Host(echo, LIMITS))
        connection.data_received(POST * 5)
        connection.data_received(GET)
        assert statuses(transport) == [200] * LIMITS.pipelined
        await asyncio.sleep(0)
        bodies = [body for _, _, body in answers(transport.written)]
        assert bodies == [b"POST /echo hello"] * 5 + [b"GET /echo "]
        assert not transport.paused

    run(story)


def test_answers_of_a_turn_are_sent_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HELD_BACK_SECONDS", inf)

    async def story() -> None:
        host = Host(echo, LIMITS)
        clients = [connect(host) for _ in range(3)]
        for connection, _ in clients:
            connection.data_received(POST)
        assert [transport for transport, _ in host.unsent] == [transport for _, transport in clients]
        await asyncio.sleep(0)
        assert not host.unsent
        assert [statuses(transport) for _, transport in clients] == [[200]] * 3

    run(story)


def test_a_client_that_closes_its_side_at_once_gets_its_answers() -> None:
    async def story() -> None:
        host = Host(echo, LIMITS)
        connection, transport = connect(host)
        connection.data_received(POST * 2)
        assert host.unsent
        assert not connection.eof_received()
        assert not host.unsent
        assert statuses(transport) == [200, 200]

    run(story)


def test_no_answer_waits_for_many_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HELD_BACK_SECONDS", inf)

    async def story() -> None:
        host = Host(echo, LIMITS)
        for number in range(MOST_UNSENT + 1):
            connect(host)[0].data_received(POST)
            assert len(host.unsent) == (number + 1) % MOST_UNSENT

    run(story)


@pytest.mark.parametrize("slow", [False, True])
def test_an_answer_does_not_wait_for_a_large_request_nor_for_slow_ones(slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1.0]
    monkeypatch.setattr(connections, "monotonic", lambda: clock[0])
    unsent: list[int] = []

    def handler(request: Request) -> Response:
        unsent.append(len(host.unsent))
        clock[0] += 0.001 if slow else 0.0
        return Response(b"")

    host = Host(handler, Limits())
    body = b"x" * (10 if slow else connections.SMALL_BYTES + 1)

    async def story() -> None:
        connect(host)[0].data_received(POST)
        connect(host)[0].data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    run(story)
    assert unsent == [0, 0]


def test_who_waits_is_accepted_also_where_others_than_reading_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        accepted: list[None] = []
        host = Host(echo, LIMITS)
        monkeypatch.setattr(host, "_accept", lambda: accepted.append(None))
        for now in (1.0, 1.0005, 1.5):
            host.begin_turn(now)
            await asyncio.sleep(0)
        assert len(accepted) == 2

    run(story)


def test_head_has_no_body() -> None:
    transport, _, _ = talk(GET.replace(b"GET", b"HEAD") + GET)
    (_, headers, body), (_, _, second) = answers(transport.written, heads=(0,))
    assert (headers["content-length"], body, second) == ("11", b"", b"GET /echo ")


def test_chunked_bodies() -> None:
    chunked = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    transport, _, _ = talk(chunked + POST)
    assert [body for _, _, body in answers(transport.written)] == [b"POST /echo hello"] * 2


def test_expectations() -> None:
    head, body = POST.replace(b"Host: a", b"Host: a\r\nExpect: 100-continue").split(b"hello")[0], b"hello"
    transport, _, _ = talk(head)
    assert bytes(transport.written) == b"HTTP/1.1 100 Continue\r\n\r\n"
    transport, _, _ = talk(head, body)
    assert transport.written.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    transport, _, _ = talk(POST.replace(b"/echo", b"/later") + head, body, turns=20)
    assert transport.written.index(b"hello") < transport.written.index(b"100 Continue")


def test_old_and_closing_clients() -> None:
    old = b"GET /echo HTTP/1.0\r\n\r\n"
    transport, _, _ = talk(old + GET)
    assert [headers["connection"] for _, headers, _ in answers(transport.written)] == ["close"]
    assert transport.ended
    transport, _, _ = talk(old.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"))
    assert answers(transport.written)[0][1]["connection"] == "keep-alive"
    assert not transport.ended
    transport, _, _ = talk(GET.replace(b"Host: a", b"Host: a\r\nConnection: close") + GET)
    assert statuses(transport) == [200]
    assert transport.ended


def test_an_offer_of_http2_is_passed_over() -> None:
    offer = POST.replace(b"Host: a", b"Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM")
    transport, _, _ = talk(offer + POST + offer * 3)
    assert [body for _, _, body in answers(transport.written)] == [b"POST /echo hello"] * 5
    transport, _, _ = talk(*(bytes((byte,)) for byte in offer * 2), turns=0)
    assert [body for _, _, body in answers(transport.written)] == [b"POST /echo hello"] * 2


def test_a_broken_answer_is_a_500_and_the_connection_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    transport, _, _ = talk(GET.replace(b"/echo", b"/broken") + GET)
    assert statuses(transport) == [500, 200]
    assert "GET /broken broke" in caplog.text


def test_a_client_that_has_sent_all_gets_its_answers() -> None:
    async def story() -> None:
        connection, transport = connect(Host(echo, LIMITS))
        connection.data_received(POST.replace(b"/echo", b"/later") * 2)
        assert connection.eof_received()
        for _ in range(20):
            await asyncio.sleep(0)
        assert statuses(transport) == [200, 200]
        assert transport.ended
        assert not connection.eof_received()

    run(story)


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSED = {
    # what: (sent, status, what the sentence says)
    "1 GB announced": (
        POST.replace(b": 5", b": 1073741824"),
        413,
        "the body has 1073741824 bytes; it must not have more than 1000; send fewer rows at a time",
    ),
    "too much in chunks": (
        CHUNKED + b"200\r\n" + b"x" * 512 + b"\r\n" + b"200\r\n" + b"x" * 512,
        413,
        "the body has more than 1000 bytes; send fewer rows at a time",
    ),
    "a long header": (
        GET.replace(b"Host: a", b"A: " + b"a" * 600),
        431,
        "the request line and headers must not have more than 500",
    ),
    "a long path": (
        GET.replace(b"/echo", b"/" + b"a" * 600),
        431,
        "the request line and headers must not have more than 500 bytes",
    ),
    "many headers": (GET.replace(b"Host: a", b"A: b\r\n" * 11 + b"B: c"), 431, "and 10 headers"),
    "a header without end": ((GET[:-4] + b"a" * 600), 431, "must not have more than 500 bytes"),
    "many trailers": (CHUNKED + b"0\r\n" + b"A: b\r\n" * 11, 431, "must not have more than 500 bytes"),
    "long trailers": (CHUNKED + b"0\r\nA: " + b"b" * 600, 431, "must not have more than 500 bytes"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "this is not HTTP/1.1: "),
    "an expectation": (POST.replace(b"Host: a", b"Host: a\r\nExpect: tea"), 417, "Expect can only be 100-continue"),
}


@pytest.mark.parametrize(("sent", "status", "says"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("first", [b"", POST], ids=["alone", "behind another"])
def test_refused(sent: bytes, status: int, says: str, first: bytes) -> None:
    pieces = [first + sent] if len(sent) < 100 else [first, sent[:100], sent[100:], b"more" * 100]
    transport, connection, host = talk(*(piece for piece in pieces if piece))
    found = answers(transport.written)
    assert [each[0] for each in found] == [200] * bool(first) + [status]
    assert says in json.loads(found[-1][2])["error"]
    assert found[-1][1]["connection"] == "close"
    assert transport.ended
    assert not connection.busy
    assert host.buffered == 0


def test_all_clients_together_may_not_send_too_much() -> None:
    host = Host(echo, LIMITS)
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 800\r\n\r\n"

    async def story() -> None:
        (first, _), (second, refused), (third, served) = (connect(host) for _ in range(3))
        first.data_received(head + b"x" * 799)
        second.data_received(head + b"x" * 799)
        assert [(status, headers["retry-after"]) for status, headers, _ in answers(refused.written)] == [(503, "1")]
        first.connection_lost(None)
        assert host.buffered == 0
        third.data_received(head + b"x" * 800)
        assert statuses(served) == [200]

    run(story)


def test_nor_may_they_behind_requests_that_are_being_answered() -> None:
    async def story() -> None:
        host = Host(echo, LIMITS)
        clients = [connect(host) for _ in range(3)]
        for client, _ in clients:
            client.data_received(POST.replace(b"/echo", b"/later"))
            client.data_received(POST * 10)
        assert host.buffered <= 1500
        for _ in range(20):
            await asyncio.sleep(0)
        assert [statuses(transport) for _, transport in clients] == [[200] * 11, [200] * 11, [200]]
        assert [transport.ended for _, transport in clients] == [False, False, True]
        assert answers(clients[2][1].written)[0][1]["connection"] == "close"

    run(story)


def clocked(connection: Connection, seconds: float) -> None:
    connection.look_at_the_clock(asyncio.get_running_loop().time() + seconds)


def test_slow_clients_are_cut_off() -> None:
    async def story() -> None:
        for sent, limit, says in (
            (POST[:20], LIMITS.header_seconds, "the request's headers did not arrive within 10 s"),
            (POST[:-2], LIMITS.body_seconds, "the request's body did not arrive within 30 s"),
        ):
            connection, transport = connect(Host(echo, LIMITS))
            connection.data_received(sent)
            clocked(connection, limit - 1)
            assert not transport.written
            clocked(connection, limit + 1)
            ((status, _, body),) = answers(transport.written)
            assert (status, json.loads(body)) == (408, {"error": says})
            connection.data_received(b"more")
            clocked(connection, limit + LIMITS.linger_seconds + 1)
            assert transport.aborted

    run(story)


def test_a_slow_drip_is_cut_off_as_well() -> None:
    """A byte now and then must not move the deadline."""

    async def story() -> None:
        connection, transport = connect(Host(echo, LIMITS))
        for byte in POST[:20]:
            connection.data_received(bytes((byte,)))
        clocked(connection, LIMITS.header_seconds + 1)
        assert statuses(transport) == [408]

    run(story)


def test_idle_clients_are_let_go_without_a_word() -> None:
    async def story() -> None:
        connection, transport = connect(Host(echo, LIMITS))
        connection.data_received(POST)
        transport.written.clear()
        clocked(connection, LIMITS.idle_seconds - 1)
        assert not transport.ended
        clocked(connection, LIMITS.idle_seconds + 1)
        assert transport.ended
        assert not transport.written

    run(story)


def test_a_client_that_does_not_read_stops_being_read() -> None:
    async def story() -> None:
        connection, transport = connect(Host(echo, LIMITS))
        connection.pause_writing()
        assert transport.paused
        connection.data_received(POST * 2)
        assert not transport.written
        connection.resume_writing()
        assert statuses(transport) == [200, 200]
        assert not transport.paused
        connection.pause_writing()
        clocked(connection, LIMITS.body_seconds + 1)
        assert transport.aborted

    run(story)


def test_while_closing_every_answer_ends_its_connection() -> None:
    async def story() -> None:
        host = Host(echo, LIMITS)
        connection, transport = connect(host)
        connection.data_received(POST)
        host.closing = True
        connection.data_received(POST * 3)
        found = answers(transport.written)
        assert [status for status, _, _ in found] == [200] * 4
        assert [headers.get("connection") for _, headers, _ in found] == [None, None, None, "close"]
        assert transport.ended

    run(story)


def test_at_the_end_only_quiet_connections_are_closed() -> None:
    async def story() -> None:
        host = Host(echo, LIMITS)
        (_, quiet), (busy, kept) = connect(host), connect(host)
        busy.data_received(POST[:-1])
        now = asyncio.get_running_loop().time()
        host.close_idle(now, 1.0)
        assert not quiet.ended
        host.close_idle(now + 1.1, 1.0)
        assert quiet.ended
        assert not kept.ended
        busy.data_received(POST[-1:])
        assert statuses(kept) == [200]
        host.abort()
        assert kept.aborted

    run(story)


@given(st.lists(st.binary(max_size=60) | st.sampled_from([POST, GET, POST[:30], b"\r\n", b"0\r\n\r\n"]), max_size=6))
def test_bytes_never_break_a_connection(pieces: list[bytes]) -> None:
    transport, connection, host = talk(*pieces, turns=1)
    assert 500 not in statuses(transport)
    assert host.buffered >= 0
    connection.connection_lost(None)
    assert host.buffered == 0
    assert not host.connections


def test_no_limits_are_infinite() -> None:
    assert all(0 < value < inf for value in vars(Limits()).values())
