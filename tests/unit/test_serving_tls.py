"""TLS: certificates that come late, change and break; and how connections end without halves."""

import errno
import json
import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic

import pytest

from kaizen.serving.settings import Limits
from kaizen.serving.transport.messages import Response
from kaizen.serving.transport.overload import SPARE
from kaizen.serving.transport.tls import Context
from tests.support.certificates import client_context, made, mount
from tests.support.serving import answers
from tests.support.sockets import serving, talk
from tests.support.wait import until

POST = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CLOSING = POST.replace(b"Host: a", b"Host: a\r\nConnection: close")
ONE, TWO = made("one"), made("two")


@contextmanager
def connected(port: int, *trusted: bytes, context: ssl.SSLContext | None = None) -> Iterator[ssl.SSLSocket]:
    """A client over TLS."""
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        (context or client_context(*trusted)).wrap_socket(plain, server_hostname="localhost") as client,
    ):
        yield client


def ask(port: int, sent: bytes, *trusted: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """All that the server sends until it ends the connection."""
    with connected(port, *trusted, context=context) as client:
        client.sendall(sent)
        received = b""
        while part := client.recv(1 << 16):
            received += part
        return received


def test_answers_over_tls_and_a_proper_goodbye(tmp_path: Path) -> None:
    mount(tmp_path / "tls", ONE)
    context = Context(tmp_path / "tls")
    assert (context.usable, context.problem) == (True, "")
    with serving(limits=Limits(linger_seconds=0.2), tls=context.ssl) as served:
        received = ask(served.port, POST * 2 + POST.replace(b"/echo", b"/later") + CLOSING, ONE["tls.crt"])
        assert [body[-5:] for _, _, body in answers(received)] == [b"hello"] * 4
        # Clients that ask an address name no server.
        nameless = client_context(ONE["tls.crt"])
        nameless.check_hostname = False
        with (
            socket.create_connection(("127.0.0.1", served.port), 5) as plain,
            nameless.wrap_socket(plain) as client,
        ):
            client.sendall(CLOSING)
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        # A client that is refused while it goes on sending reads why.
        (status, _, body), *rest = answers(ask(served.port, b"GET / HTTP/1.1\r\n\r\n" + b"x" * 200_000, ONE["tls.crt"]))
        assert (status, rest) == (400, [])
        assert "Host" in json.loads(body)["error"]


def test_old_versions_are_refused(tmp_path: Path) -> None:
    mount(tmp_path / "tls", ONE)
    old = client_context(ONE["tls.crt"])
    with pytest.warns(DeprecationWarning, match=r"TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    newer = client_context(ONE["tls.crt"])
    newer.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(tls=Context(tmp_path / "tls").ssl) as served:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(served.port, CLOSING, context=old)
        assert ask(served.port, CLOSING, context=newer).startswith(b"HTTP/1.1 200")


def test_certificates_that_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    directory = tmp_path / "tls"
    context = Context(directory)
    assert not context.usable
    assert context.problem == f"there is no tls.crt and no tls.key in {directory}"
    with serving(tls=context.ssl) as served:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(served.port, CLOSING, ONE["tls.crt"])
        mount(directory, ONE)
        assert context.reload_if_changed()
        assert not context.reload_if_changed()
        assert ask(served.port, CLOSING, ONE["tls.crt"]).startswith(b"HTTP/1.1 200")

        with connected(served.port, ONE["tls.crt"]) as kept:
            mount(directory, TWO)
            assert context.reload_if_changed()
            kept.sendall(CLOSING)
            assert kept.recv(100).startswith(b"HTTP/1.1 200")
        assert ask(served.port, CLOSING, TWO["tls.crt"]).startswith(b"HTTP/1.1 200")
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(served.port, CLOSING, ONE["tls.crt"])


BROKEN = {
    "nothing": ({}, "there is no tls.crt and no tls.key in "),
    "no key": ({"tls.crt": ONE["tls.crt"]}, "there is no tls.key in "),
    "not PEM": ({**ONE, "tls.crt": b"hello"}, "are not a certificate and its unencrypted key in PEM"),
    "another key": ({**ONE, "tls.key": TWO["tls.key"]}, "is not the key of tls.crt"),
    "an encrypted key": (
        {**ONE, "tls.key": b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGj\n-----END ENCRYPTED PRIVATE KEY-----\n"},
        "are not a certificate and its unencrypted key in PEM",
    ),
}


@pytest.mark.parametrize(("files", "says"), BROKEN.values(), ids=BROKEN)
def test_a_broken_certificate_leaves_the_one_before(
    files: dict[str, bytes], says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "tls"
    mount(directory, ONE)
    context = Context(directory)
    with serving(tls=context.ssl) as served:
        mount(directory, files)
        assert not context.reload_if_changed()
        assert not context.reload_if_changed()
        assert context.usable
        assert says in context.problem
        assert [record.message for record in caplog.records] == [f"{context.problem}; the one before stays in use"]
        assert ask(served.port, CLOSING, ONE["tls.crt"]).startswith(b"HTTP/1.1 200")


def test_who_speaks_plain_is_let_go(tmp_path: Path) -> None:
    mount(tmp_path / "tls", ONE)
    with serving(tls=Context(tmp_path / "tls").ssl) as served:
        assert b"HTTP/1.1 200" not in talk(served.port, POST)


def test_handshakes_count_as_connections(tmp_path: Path) -> None:
    mount(tmp_path / "tls", ONE)
    limits = Limits(connections=3, header_seconds=60.0)
    with serving(limits=limits, tls=Context(tmp_path / "tls").ssl) as served:
        with ExitStack() as silent:
            for _ in range(150):
                client = silent.enter_context(socket.create_connection(("127.0.0.1", served.port), 5))
                with suppress(OSError):  # it is let go at once
                    client.sendall(b"\x16\x03\x01\x00\xff")
            until("who is too much is let go", lambda: served.host.shed == 150 - 3 - SPARE, 20, lambda: str(served.host.shed))
            assert len(served.host.accepting) == 3 + SPARE
        until("the others are gone", lambda: not served.host.accepting, 20)
        assert ask(served.port, CLOSING, ONE["tls.crt"]).startswith(b"HTTP/1.1 200")


def test_a_slow_reader_gets_all_of_the_last_answer(tmp_path: Path) -> None:
    """Plain connections give it the same time."""
    mount(tmp_path / "tls", ONE)
    large = Response(b"x" * 6_000_000)
    limits = Limits(linger_seconds=0.2)
    with (
        serving(lambda request: large, limits, Context(tmp_path / "tls").ssl) as served,
        connected(served.port, ONE["tls.crt"]) as client,
    ):
        client.sendall(CLOSING)
        received, began = b"", monotonic()
        while part := client.recv(1 << 14):
            received += part
            while monotonic() < began + len(received) / 4_000_000:
                pass
        assert [len(body) for _, _, body in answers(received)] == [6_000_000]


def test_a_moment_without_files_loses_no_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount(tmp_path / "tls", ONE)
    context = Context(tmp_path / "tls")
    mount(tmp_path / "tls", TWO)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as moment:
        moment.setattr(ssl.SSLContext, "load_cert_chain", full)
        assert not context.reload_if_changed()
    assert context.reload_if_changed()


def test_slow_clients_are_let_go_under_tls_as_well(tmp_path: Path) -> None:
    mount(tmp_path / "tls", ONE)
    limits = Limits(header_seconds=1.5, idle_seconds=0.3, body_seconds=0.3, linger_seconds=0.5)  # a handshake counts as a head
    with serving(limits=limits, tls=Context(tmp_path / "tls").ssl) as served:
        for sent, status in ((b"", None), (POST[:20], 408), (POST[:-2], 408)):
            found = [each for each, _, _ in answers(ask(served.port, sent, ONE["tls.crt"]))]
            assert found == ([status] if status else [])
        until("nobody is there", lambda: not served.host.connections, 5)
