"""Who is let in, by which tokens, and what browsers may ask."""

import asyncio
import errno
import logging
from pathlib import Path

import pytest

from kaizen.serving.settings import Limits
from kaizen.serving.transport.authentication import Authentication, Tokens
from kaizen.serving.transport.cors import Cors
from kaizen.serving.transport.http import Door, Host
from kaizen.serving.transport.messages import Request, Response
from tests.support.certificates import mount
from tests.support.serving import answers, connect


def echo(request: Request) -> Response:
    return Response(request.body, headers=b"X-Model-Version: 1\r\n")


def test_tokens_are_known_by_their_clients_names(tmp_path: Path) -> None:
    mount(tmp_path / "tokens", {"shop": b"secret-1\n", "billing": b"  secret-2  ", "nobody": b" \n"})
    tokens = Tokens(tmp_path / "tokens")
    assert tokens.client(b"Bearer secret-1") == "shop"
    assert tokens.client(b"bearer  secret-2 ") == "billing"
    wrong = [b"", b"Bearer", b"Bearer ", b"Bearer secret", b"Bearer secret-11", b"Basic secret-1", b"secret-1", b"Bearer \xff"]
    assert not any(tokens.knows(header) for header in wrong)


def test_tokens_that_change_are_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    directory = tmp_path / "tokens"
    tokens = Tokens(directory)
    assert not tokens.usable
    assert tokens.problem == f"the directory {directory} has no tokens; put one into a file named by its client"
    assert not tokens.knows(b"Bearer ")
    mount(directory, {"shop": b"secret-1"})
    assert tokens.reload_if_changed()
    assert not tokens.reload_if_changed()
    assert tokens.knows(b"Bearer secret-1")
    assert not tokens.problem
    mount(directory, {"shop": b"secret-2", "other": b"secret-3"})
    assert tokens.reload_if_changed()
    assert [tokens.client(b"Bearer secret-%d" % number) for number in (1, 2, 3)] == [None, "shop", "other"]
    mount(directory, {})
    assert tokens.reload_if_changed()
    assert not tokens.knows(b"Bearer secret-2")
    assert "tokens are known of: other, shop" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("broken", ["iterdir", "read_bytes"])
def test_a_moment_without_files_loses_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    mount(tmp_path / "tokens", {"shop": b"secret-1"})
    tokens = Tokens(tmp_path / "tokens")
    mount(tmp_path / "tokens", {"shop": b"secret-1", "other": b"secret-2"})

    def full(self: Path) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as moment:
        moment.setattr(Path, broken, full)
        assert not tokens.reload_if_changed()
        assert tokens.knows(b"Bearer secret-1")
    assert tokens.reload_if_changed()
    assert tokens.knows(b"Bearer secret-2")


def test_requests_without_a_token_are_refused_but_not_probes(tmp_path: Path) -> None:
    refused: list[None] = []
    (tmp_path / "shop").write_bytes(b"secret")
    guard = Authentication(Tokens(tmp_path), echo, lambda: refused.append(None))

    def ask(path: bytes, header: bytes | None) -> Response:
        answer = guard(Request(b"POST", path, {} if header is None else {b"authorization": header}, b"hello"))
        assert isinstance(answer, Response)
        return answer

    assert ask(b"/v2/models/a/infer", b"Bearer secret").body == b"hello"
    assert ask(b"/v2/health/live", None).body == ask(b"/v2/health/ready", b"Bearer other").body == b"hello"
    assert ask(b"/v2/health/ready?verbose", None).body == ask(b"/docs/", None).body == b"hello"
    assert not refused
    for path in (
        b"/",
        b"/openapi.json",
        b"/v2/models/a/infer",
        b"/v2/models/a/ready",
        b"/V2/health/live",
        b"/v2/health/../docs",
        b"/healthz/",
    ):
        for header in (None, b"Bearer other"):
            answer = ask(path, header)
            assert (answer.status, answer.headers) == (401, b"WWW-Authenticate: Bearer\r\n")
    assert len(refused) == 14


def ask(cors: Cors, method: bytes = b"POST", **headers: bytes) -> Response:
    answer = cors(Request(method, b"/", {name.replace("_", "-").encode(): value for name, value in headers.items()}))
    if isinstance(answer, Response):
        return answer

    async def awaited() -> Response:
        return await answer

    return asyncio.run(awaited())


PREFLIGHT = {"access_control_request_method": b"POST", "access_control_request_headers": b"authorization,content-type"}
ALLOWED = b"Access-Control-Allow-Origin: https://a.example\r\n"


def test_pages_of_the_origins_may_ask() -> None:
    cors = Cors(("https://a.example", "https://b.example:8443"), echo)
    headers = ask(cors, origin=b"https://a.example").headers
    assert headers.startswith(b"X-Model-Version: 1\r\n" + ALLOWED)
    assert b"\r\nAccess-Control-Expose-Headers: X-Model-Version, X-Model-Digest, " in headers
    assert headers.endswith(b"\r\nVary: Origin\r\n")
    for other in (b"https://a.example.evil", b"http://a.example", b"null", b"https://b.example"):
        assert ask(cors, origin=other).headers == b"X-Model-Version: 1\r\nVary: Origin\r\n"
    assert ask(cors).headers == b"X-Model-Version: 1\r\nVary: Origin\r\n"


def test_browsers_may_ask_before_they_ask() -> None:
    guard = Authentication(Tokens(Path("/nowhere")), echo)
    cors = Cors(("https://a.example",), guard)
    answer = ask(cors, b"OPTIONS", origin=b"https://a.example", **PREFLIGHT)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers.startswith(ALLOWED)
    for line in (b"Methods: GET, HEAD, POST, OPTIONS", b"Headers: Authorization, Content-Type, "):
        assert b"\r\nAccess-Control-Allow-" + line in answer.headers
    assert b"\r\nAccess-Control-Max-Age: 7200\r\n" in answer.headers
    assert ask(cors, b"OPTIONS", origin=b"https://b.example", **PREFLIGHT).headers == b"Vary: Origin\r\n"
    refusal = ask(cors, origin=b"https://a.example")
    assert refusal.status == 401
    assert ALLOWED in refusal.headers  # so that the page can read why
    assert ask(cors, b"OPTIONS", origin=b"https://a.example").status == 401  # not a preflight


def test_every_origin() -> None:
    cors = Cors(("*",), echo)
    assert b"Access-Control-Allow-Origin: *\r\n" in ask(cors, origin=b"null").headers
    assert b"Vary" not in ask(cors, origin=b"null").headers
    assert ask(cors).headers == b"X-Model-Version: 1\r\n"
    assert b"Access-Control-Allow-Methods" in ask(cors, b"OPTIONS", origin=b"https://a.example", **PREFLIGHT).headers


def test_answers_that_come_later_may_be_read_too() -> None:
    async def later() -> Response:
        await asyncio.sleep(0)
        return Response(b"later")

    answer = ask(Cors(("https://a.example",), lambda request: later()), origin=b"https://a.example")
    assert answer.body == b"later"
    assert ALLOWED in answer.headers


ORIGIN = "access-control-allow-origin"
HEAD = b"POST /infer HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\n"


def told(door: Door, *pieces: bytes, limits: Limits | None = None) -> tuple[int, dict[str, str]]:
    """The status and the header lines of a port's answer to what comes in pieces."""

    async def story() -> bytes:
        host = Host(echo, limits or Limits(), door=door)
        connection, transport = connect(host)
        for piece in pieces:
            connection.data_received(piece)
            await asyncio.sleep(0)
        assert host.buffered == 0
        return bytes(transport.written)

    ((status, headers, _),) = answers(asyncio.run(story()))
    return status, headers


def test_bodies_of_strangers_are_not_waited_for(tmp_path: Path) -> None:
    refused: list[None] = []
    (tmp_path / "shop").write_bytes(b"secret")
    guard = Authentication(Tokens(tmp_path), echo, lambda: refused.append(None))
    door = Door(refusal=guard.refusal, lines=Cors(("https://a.example",), guard).lines)
    for framing in (
        b"Content-Length: 1000\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 9\r\nExpect: 100-continue\r\n",
    ):
        status, headers = told(door, HEAD + framing + b"\r\n", b"9\r\nnever read")
        assert (status, headers["www-authenticate"], headers[ORIGIN]) == (401, "Bearer", "https://a.example")
    for free in (b"/docs", b"/docs?x", b"/v2/health/live"):  # which is no way to fill the memory
        assert told(door, HEAD.replace(b"/infer", free) + b"Content-Length: 1000\r\n\r\n", b"never read")[0] == 401
        assert told(door, HEAD.replace(b"/infer", free) + b"\r\n")[0] == 200
    assert len(refused) == 6
    assert told(door, HEAD + b"Authorization: Bearer secret\r\nContent-Length: 5\r\n\r\nhe", b"llo")[0] == 200


def test_pages_may_read_why_the_port_itself_refuses() -> None:
    door = Door(lines=Cors(("https://a.example",), echo).lines)
    small, full = Limits(body_bytes=10), Limits(waiting=0)
    stories = {
        "too large a body": (413, told(door, HEAD + b"Content-Length: 11\r\n\r\n", limits=small)),
        "too large a chunk": (413, told(door, HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\n", limits=small)),
        "an expectation": (417, told(door, HEAD + b"Expect: more\r\n\r\n")),
        "too much to do": (503, told(door, HEAD + b"\r\n", limits=full)),
        "too much to do for a body": (503, told(door, HEAD + b"Content-Length: 5\r\n\r\n", limits=full)),
    }
    for name, (wanted, (status, headers)) in stories.items():
        assert (status, headers.get(ORIGIN)) == (wanted, "https://a.example"), name
    other = HEAD.replace(b"https://a", b"https://b")
    assert ORIGIN not in told(door, other + b"Content-Length: 11\r\n\r\n", limits=small)[1]
