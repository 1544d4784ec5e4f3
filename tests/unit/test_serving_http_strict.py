"""Bytes over a real socket that two servers in a row could read differently: one refusal, and no second answer."""

import asyncio
import json
from collections.abc import Iterable, Iterator

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaizen.serving.settings import Limits
from kaizen.serving.transport.heads import CHUNKED, Head, Heads, RefusedHead, hopeless
from kaizen.serving.transport.http import Host
from kaizen.serving.transport.messages import Request, Response
from tests.support.serving import answers, connect
from tests.support.sockets import Served, serving, talk

LIMITS = Limits(body_bytes=1000, idle_seconds=0.2, header_seconds=0.2, body_seconds=0.2, linger_seconds=0.1)
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
seen: list[bytes] = []


def remembering(request: Request) -> Response:
    """Answers with the request's body."""
    seen.append(request.target)
    return Response(request.method + b" " + request.target + b" " + request.body)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(remembering, LIMITS) as found:
        yield found


def request(*headers: bytes, body: bytes = b"", line: bytes = b"POST /echo HTTP/1.1") -> bytes:
    return b"\r\n".join((line, *headers, b"", b"")) + body


HOST, CHUNKS = b"Host: a", b"Transfer-Encoding: chunked"
WHOLE = b"5\r\nhello\r\n0\r\n\r\n"

REFUSED = {
    "Content-Length and Transfer-Encoding": request(HOST, b"Content-Length: 5", CHUNKS, body=WHOLE),
    "Transfer-Encoding and Content-Length": request(HOST, CHUNKS, b"Content-Length: 5", body=WHOLE),
    "two lengths": request(HOST, b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
    "two equal lengths": request(HOST, b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "a list of lengths": request(HOST, b"Content-Length: 5, 5", body=b"hello"),
    "a negative length": request(HOST, b"Content-Length: -5", body=b"hello"),
    "a signed length": request(HOST, b"Content-Length: +5", body=b"hello"),
    "a hexadecimal length": request(HOST, b"Content-Length: 0x5", body=b"hello"),
    "a length with a space": request(HOST, b"Content-Length: 5 0", body=b"hello"),
    "an empty length": request(HOST, b"Content-Length:", body=b"hello"),
    "a length beyond 64 bits": request(HOST, b"Content-Length: 18446744073709551621", body=b"hello"),
    "Transfer-Encoding twice": request(HOST, CHUNKS, CHUNKS, body=WHOLE),
    "chunked twice": request(HOST, b"Transfer-Encoding: chunked, chunked", body=WHOLE),
    "chunked first": request(HOST, b"Transfer-Encoding: chunked, identity", body=WHOLE),
    "gzip": request(HOST, b"Transfer-Encoding: gzip", body=WHOLE),
    "almost chunked": request(HOST, b"Transfer-Encoding: xchunked", body=WHOLE),
    "quoted": request(HOST, b'Transfer-Encoding: "chunked"', body=WHOLE),
    "chunked with a control character": request(HOST, b"Transfer-Encoding: \x0bchunked", body=WHOLE),
    "chunked in HTTP/1.0": request(HOST, CHUNKS, body=WHOLE, line=b"POST /echo HTTP/1.0"),
    "a space before the colon": request(HOST, b"Content-Length : 5", body=b"hello"),
    "a tab before the colon": request(HOST, b"Transfer-Encoding\t: chunked", body=WHOLE),
    "a folded header": request(HOST, b"X: b\r\n c"),
    "a folded length": request(HOST, b"Content-Length:\r\n 5", body=b"hello"),
    "a folded first header": request(b" Host: a"),
    "a bare line feed between headers": request(b"Host: a\nContent-Length: 5", body=b"hello"),
    "bare line feeds only": request(HOST).replace(b"\r\n", b"\n"),
    "a bare line feed at the end": b"GET /echo HTTP/1.1\r\nHost: a\r\n\n",
    "a bare carriage return": request(b"Host: a\rContent-Length: 5", body=b"hello"),
    "a carriage return too many": request(HOST, b"X: b\r", body=b""),
    "NUL in a value": request(HOST, b"X: a\0b"),
    "NUL in a name": request(HOST, b"X\0: a"),
    "NUL in the path": request(HOST, line=b"GET /\0 HTTP/1.1"),
    "an escape in a value": request(HOST, b"X: \x1b[2J"),
    "a header without a colon": request(HOST, b"X"),
    "a header without a name": request(HOST, b": x"),
    "a name with a space": request(HOST, b"X Y: x"),
    "a name that is not ASCII": request(HOST, b"X\xe9: x"),
    "no Host": request(),
    "two Hosts": request(HOST, HOST),
    "two Hosts in HTTP/1.0": request(HOST, b"Host: b", line=b"GET /echo HTTP/1.0"),
    "a list of Hosts": request(b"Host: a, b"),
    "a Host with a path": request(b"Host: a/b"),
    "a Host with a user": request(b"Host: b@a"),
    "two spaces in the request line": request(HOST, line=b"GET  /echo HTTP/1.1"),
    "a tab in the request line": request(HOST, line=b"GET\t/echo HTTP/1.1"),
    "a space behind the version": request(HOST, line=b"GET /echo HTTP/1.1 "),
    "a space in the path": request(HOST, line=b"GET /echo b HTTP/1.1"),
    "a path that is not ASCII": request(HOST, line="GET /é HTTP/1.1".encode()),
    "no version": request(HOST, line=b"GET /echo"),
    "HTTP/0.9": b"GET /echo\r\n\r\n",
    "HTTP/1.2": request(HOST, line=b"GET /echo HTTP/1.2"),
    "HTTP/1.10": request(HOST, line=b"GET /echo HTTP/1.10"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a small version": request(HOST, line=b"GET /echo http/1.1"),
    "another protocol": request(HOST, line=b"GET /echo ICY/1.1"),
    "no method": request(HOST, line=b"/echo HTTP/1.1"),
    "a method that is none": request(HOST, line=b"GE(T /echo HTTP/1.1"),
    "a target that is no path": request(HOST, line=b"GET echo HTTP/1.1"),
    "an asterisk": request(HOST, line=b"GET * HTTP/1.1"),
    "an authority": request(HOST, line=b"CONNECT a:443 HTTP/1.1"),
    "an absolute target of another kind": request(HOST, line=b"GET ftp://a/echo HTTP/1.1"),
    "an absolute target with a user": request(HOST, line=b"GET http://b@a/echo HTTP/1.1"),
    "two tokens": request(HOST, b"Authorization: Bearer a", b"Authorization: Bearer b"),
    "two types of content": request(HOST, b"Content-Type: a/b", b"Content-Type: c/d"),
    "two lengths of JSON": request(HOST, b"Inference-Header-Content-Length: 1", b"Inference-Header-Content-Length: 2"),
    "a chunk without a size": request(HOST, CHUNKS, body=b"\r\nhello\r\n0\r\n\r\n"),
    "a chunk size that is none": request(HOST, CHUNKS, body=b"g\r\nhello\r\n0\r\n\r\n"),
    "a negative chunk size": request(HOST, CHUNKS, body=b"-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk size in C": request(HOST, CHUNKS, body=b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a chunk size with an underscore": request(HOST, CHUNKS, body=b"0_5\r\nhello\r\n0\r\n\r\n"),
    "a chunk size beyond 64 bits": request(HOST, CHUNKS, body=b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "a space before a chunk size": request(HOST, CHUNKS, body=b" 5\r\nhello\r\n0\r\n\r\n"),
    "a space behind a chunk size": request(HOST, CHUNKS, body=b"5 \r\nhello\r\n0\r\n\r\n"),
    "a chunk that is too long": request(HOST, CHUNKS, body=b"4\r\nhello\r\n0\r\n\r\n"),
    "a chunk that is too short": request(HOST, CHUNKS, body=b"6\r\nhello\r\n0\r\n\r\n"),
    "a chunk without its line's end": request(HOST, CHUNKS, body=b"5\r\nhello0\r\n\r\n"),
    "a bare line feed behind a size": request(HOST, CHUNKS, body=b"5\nhello\r\n0\r\n\r\n"),
    "a bare line feed behind a chunk": request(HOST, CHUNKS, body=b"5\r\nhello\n0\r\n\r\n"),
    "a bare line feed in an extension": request(HOST, CHUNKS, body=b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "a carriage return in an extension": request(HOST, CHUNKS, body=b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    "a huge extension": request(HOST, CHUNKS, body=b"5;" + b"a" * 300 + b"\r\nhello\r\n0\r\n\r\n"),
    "a huge number of zeros": request(HOST, CHUNKS, body=b"0" * 300 + b"5\r\nhello\r\n0\r\n\r\n"),
    "a bare line feed in trailers": request(HOST, CHUNKS, body=b"0\r\nX: a\nY: b\r\n\r\n"),
    "a trailer without a colon": request(HOST, CHUNKS, body=b"0\r\nX\r\n\r\n"),
    "a folded trailer": request(HOST, CHUNKS, body=b"0\r\nX: a\r\n b\r\n\r\n"),
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_refused_once_and_closed(served: Served, sent: bytes) -> None:
    seen.clear()
    ((status, headers, body),) = answers(talk(served.port, sent + SMUGGLED))
    assert status == 400
    assert headers["connection"] == "close"
    assert json.loads(body)["error"]
    assert seen == []


UNENDED = {
    "a chunk size beyond the limit": (request(HOST, CHUNKS, body=b"ffffffff\r\nhello"), 413),
    "a length beyond the limit": (request(HOST, b"Content-Length: 1001", body=b"hello"), 413),
    "a body that never ends": (request(HOST, b"Content-Length: 500", body=b"hello"), 408),
    "a chunk that never ends": (request(HOST, CHUNKS, body=b"5\r\nhel"), 408),
    "a head that never ends": (b"POST /echo HTTP/1.1\r\nHost: a\r\n", 408),
}


@pytest.mark.parametrize(("sent", "status"), UNENDED.values(), ids=UNENDED)
def test_refused_before_its_end(served: Served, sent: bytes, status: int) -> None:
    assert [found for found, _, _ in answers(talk(served.port, sent))] == [status]


TAKEN = {
    # what: (sent, the answers' bodies)
    "an empty line before": (b"\r\n" + request(HOST), [b"POST /echo "]),
    "no Host in HTTP/1.0": (request(line=b"GET /echo HTTP/1.0"), [b"GET /echo "]),
    "an empty Host": (request(b"Host:"), [b"POST /echo "]),
    "an IPv6 Host": (request(b"Host: [::1]:8080"), [b"POST /echo "]),
    "an absolute target": (request(HOST, line=b"GET http://b:80/echo?a=b HTTP/1.1"), [b"GET /echo?a=b "]),
    "an absolute target without a path": (request(HOST, line=b"GET HTTP://b HTTP/1.1"), [b"GET / "]),
    "an asterisk of OPTIONS": (request(HOST, line=b"OPTIONS * HTTP/1.1"), [b"OPTIONS * "]),
    "another method": (request(HOST, line=b"BREW /echo HTTP/1.1"), [b"BREW /echo "]),
    "values without spaces": (request(b"Host:a", b"Content-Length:5", body=b"hello"), [b"POST /echo hello"]),
    "values with spaces": (request(b"Host: a \t", b"Content-Length:\t 5 ", body=b"hello"), [b"POST /echo hello"]),
    "an empty value": (request(HOST, b"X:"), [b"POST /echo "]),
    "a value that is not ASCII": (request(HOST, "X: é".encode()), [b"POST /echo "]),
    "leading zeros": (request(HOST, b"Content-Length: 005", body=b"hello"), [b"POST /echo hello"]),
    "CHUNKED": (request(HOST, b"TRANSFER-ENCODING: CHUNKED", body=WHOLE), [b"POST /echo hello"]),
    "extensions and trailers": (
        request(HOST, CHUNKS, body=b'3;a=b\r\nhel\r\n02 ;c="d e"\r\nlo\r\n000;x\r\nX: a\r\nHost: b\r\n\r\n'),
        [b"POST /echo hello"],
    ),
    "a body of GET": (request(HOST, b"Content-Length: 5", body=b"hello", line=b"GET /echo HTTP/1.1"), [b"GET /echo hello"]),
    "an offer of WebSocket": (request(HOST, b"Connection: Upgrade", b"Upgrade: websocket"), [b"POST /echo "]),
}


@pytest.mark.parametrize(("sent", "bodies"), TAKEN.values(), ids=TAKEN)
def test_taken(served: Served, sent: bytes, bodies: list[bytes]) -> None:
    found = answers(talk(served.port, sent, end=True))
    assert [(status, body) for status, _, body in found] == [(200, body) for body in bodies]


def test_chunks_in_any_pieces(served: Served) -> None:
    """The server reads them as they come; a trailing request is answered."""
    many = request(HOST, CHUNKS, body=b"".join(b"1\r\n%c\r\n" % byte for byte in b"hello") + b"0\r\n\r\n")
    received = talk(served.port, (many + SMUGGLED) * 3, end=True)
    assert [body for _, _, body in answers(received)] == [b"POST /echo hello", b"GET /smuggled "] * 3


def handled(pieces: Iterable[bytes]) -> tuple[list[bytes], list[int]]:
    """What a handler was asked, and the statuses of the answers."""

    async def story() -> tuple[list[bytes], list[int]]:
        seen.clear()
        connection, transport = connect(Host(remembering, LIMITS))
        for piece in pieces:
            connection.data_received(piece)
        return list(seen), [status for status, _, _ in answers(transport.written)]

    return asyncio.run(story())


def test_pieces_change_nothing() -> None:
    """A byte at a time leads to the same requests: nothing that is refused whole is taken in pieces, and no second answer."""
    for sent in (*REFUSED.values(), *(sent for sent, _ in TAKEN.values()), *(sent for sent, _ in UNENDED.values())):
        whole = sent + SMUGGLED
        assert handled(whole[place : place + 1] for place in range(len(whole))) == handled([whole]), sent


class Reader:
    """What llhttp makes of a head."""

    def __init__(self, raw: bytes) -> None:
        self.target, self.headers, self.keep_alive = b"", list[tuple[bytes, bytes]](), False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(raw)

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.keep_alive = self.parser.should_keep_alive()


LINES = st.sampled_from(
    [
        *(HOST, b"Host: b:80", CHUNKS, b"Content-Length: 5", b"Content-Length:6", b"content-length:", b"Expect: 100-continue"),
        *(b"Connection: close", b"Connection: keep-alive, x", b"X: a", b"X:\tb ", b"X : c", b" folded", b"Y:"),
        *(b"X: \xff", b"X: \x00", b"X: a\nY: b"),
    ]
)
STARTS = st.sampled_from(
    [b"GET / HTTP/1.1", b"POST /a?b HTTP/1.1", b"GET /a HTTP/1.0", b"PUT http://a/ HTTP/1.1", b"GET  / HTTP/1.1"]
)
HEADS = st.builds(
    lambda start, lines, place, byte: _changed(b"\r\n".join((start, *lines, b"", b"")), place, byte),
    STARTS, st.lists(LINES, max_size=5), st.integers(0, 400), st.binary(max_size=1),
)  # fmt: skip


def _changed(raw: bytes, place: int, byte: bytes) -> bytes:
    return raw[:place] + byte + raw[place:] if place < len(raw) - 4 else raw


@settings(max_examples=300, deadline=None, derandomize=True)
@given(HEADS)
def test_what_is_taken_is_what_another_parser_makes_of_it(raw: bytes) -> None:
    try:
        head: Head = Heads(LIMITS)[raw]
    except RefusedHead:
        return
    try:
        other = Reader(raw)
    except httptools.HttpParserInvalidMethodError:
        return  # it knows some methods only; the routes answer 405
    joined: dict[bytes, bytes] = {}
    for name, value in other.headers:
        joined[name] = joined[name] + b", " + value.strip(b" \t") if name in joined else value.strip(b" \t")
    assert head.method == other.parser.get_method()
    assert other.target.endswith(head.target)
    assert head.headers == joined
    assert head.keep_alive == other.keep_alive
    assert head.length == (CHUNKED if b"transfer-encoding" in joined else int(joined.get(b"content-length", b"0")))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(HEADS, st.integers(1, 400))
def test_hopeless_heads_are_refused_when_they_are_whole(raw: bytes, place: int) -> None:
    if hopeless(raw[:place]) or hopeless(raw[:place], place - 1):
        with pytest.raises(RefusedHead):
            Heads(LIMITS)[raw]


def test_few_heads_are_remembered() -> None:
    heads = Heads(Limits())
    for number in range(3000):
        heads[b"GET /%d HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % (number, number)]
    assert 0 < len(heads) <= 512
    assert heads[b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 2000 + b"\r\n\r\n"].target == b"/"
    assert all(len(raw) < 1100 for raw in heads)
