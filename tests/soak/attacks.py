"""Clients that behave badly, many at a time, against a real server with its own limits; another client must not notice.

Each attack is a function of the server that says in a sentence what it saw, and raises Problem for what did not hold.
"""

import gzip
import resource
import select
import socket
from collections import Counter
from collections.abc import Callable
from time import monotonic

from kaizen.serving.settings import Limits
from tests.soak.fuzz import well_formed
from tests.soak.pods import HEADER, Pod
from tests.soak.problems import Problem
from tests.soak.targets import AUTHORIZATION, INFER
from tests.support.rawhttp import Client
from tests.support.sockets import Crowd, idle, never_reading, slow_body, slow_head, vanished
from tests.support.wait import until

__all__ = ["QUICK_ATTACKS", "SLOW_ATTACKS", "idle_connections"]

LIMITS = Limits()
LATE_SECONDS = 5.0
"""How long after its deadline a client may be cut off: one sweep a second, linger, and a busy machine."""
DRIP_SECONDS = 0.5
SLOW = 300
READERS = 40
GIGABYTE = 1 << 30
MEMORY_BYTES = 512 << 20
"""More than a server may have at any time: what is held for all clients is bounded, and reading JSON multiplies one body."""
POST = f"POST {INFER} HTTP/1.1\r\nHost: a\r\n{HEADER}\r\n".encode()
SPARE_FILES = 300

CONNECTIONS = "kaizen_server_connections"

Attack = Callable[[Pod], str]


def _cut_off(crowd: Crowd, drip: bytes, seconds: float) -> Counter[int]:
    """Go on until the server has ended all of these; the statuses of what it said before."""
    began, received = monotonic(), dict.fromkeys(crowd.sockets, b"")
    left = set(crowd.sockets)
    polled = select.poll()
    by_number = {each.fileno(): each for each in crowd.sockets}
    for each in crowd.sockets:
        each.setblocking(False)
        polled.register(each, select.POLLIN)
    while left:
        if monotonic() > began + seconds + LATE_SECONDS:
            raise Problem(f"{len(left)} of {len(received)} clients are not cut off after {seconds + LATE_SECONDS:g} s")
        if drip:
            Crowd(list(left)).drip(drip)
        until_next = monotonic() + DRIP_SECONDS
        while left and (wait := until_next - monotonic()) > 0:
            for number, _ in polled.poll(wait * 1000):
                one = by_number[number]
                try:
                    part = one.recv(1 << 16)
                except OSError:
                    part = b""
                received[one] += part
                if not part:
                    left.discard(one)
                    polled.unregister(one)
    return Counter(status for each in received.values() for status in well_formed(each) or [0])


def slow_heads(server: Pod) -> str:
    """A byte of a header now and then."""
    return _slow("heads", slow_head(server.port, SLOW), LIMITS.header_seconds)


def slow_bodies(server: Pod) -> str:
    """A byte of a body now and then."""
    return _slow("bodies", slow_body(server.port, SLOW, AUTHORIZATION + b"\r\n"), LIMITS.body_seconds)


def _slow(what: str, clients: Crowd, seconds: float) -> str:
    began = monotonic()
    with clients as crowd:
        found = _cut_off(crowd, b"a", seconds)
    if found != {408: SLOW}:
        raise Problem(f"slow {what} are answered {found}")
    return f"{SLOW} slow {what}: all 408, the last after {monotonic() - began:.0f} s"


def never_readers(server: Pod) -> str:
    """They ask for long answers, and read none."""
    request = f"GET /openapi.json HTTP/1.1\r\nHost: a\r\n{HEADER}\r\n\r\n".encode()
    before, began = server.metric(CONNECTIONS), monotonic()
    with never_reading(server.port, READERS, request):
        until("they are connected", lambda: server.metric(CONNECTIONS) >= before + READERS, LATE_SECONDS)
        patience = LIMITS.body_seconds + LIMITS.linger_seconds + LATE_SECONDS
        until("they are cut off", lambda: server.metric(CONNECTIONS) < before + READERS / 2, patience)
    return f"{READERS} clients that read nothing: cut off after {monotonic() - began:.0f} s"


def half_open(server: Pod) -> str:
    """Their sending side is closed in the middle of a request, or of nothing."""
    began = monotonic()
    for sent in (b"", POST[:40], POST + b"Content-Length: 100\r\n\r\nabc", POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"):
        with vanished(server.port, SLOW, sent) as crowd:
            found = _cut_off(crowd, b"", LIMITS.linger_seconds)
        if found != {0: SLOW}:
            raise Problem(f"half a request is answered {found}")
    return f"{4 * SLOW} half-open clients: all ended, in {monotonic() - began:.1f} s"


def gigabytes(server: Pod) -> str:
    """Bodies of 1 GB: declared, in chunks, compressed; and more large ones at once than the server holds for all."""
    began, statuses = monotonic(), Counter[str]()
    with Client(server.port) as client:
        client.send(POST + b"Content-Length: %d\r\n\r\n" % GIGABYTE)
        statuses[f"declared {client.read().status}"] += 1
    with Client(server.port) as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        try:
            for _ in range(GIGABYTE // len(piece)):  # what follows the answer is thrown away for a moment, and then not read
                client.send(piece)
        except OSError:
            statuses["chunks cut off"] += 1
        else:
            statuses[f"chunks {client.read().status}"] += 1
    bomb = gzip.compress(bytes(GIGABYTE), 1)
    # What a server accepts is smaller: the same ratio in 7 MiB.
    for _ in range(10):
        with Client(server.port) as client:
            answer = client.post(INFER, bomb[: LIMITS.body_bytes - 1], HEADER, "Content-Encoding: gzip")
            statuses[f"bomb {answer.status}"] += 1
    crowd = []
    try:
        for _ in range(24):
            client = Client(server.port)
            crowd.append(client)
            client.send(POST + b"Content-Length: %d\r\n\r\n" % LIMITS.body_bytes)
            try:
                client.send(b" " * (LIMITS.body_bytes - 1))
            except OSError:
                statuses["many cut off"] += 1
    finally:
        for client in crowd:
            client.close()
    if statuses["declared 413"] != 1 or statuses["bomb 413"] != 10:
        raise Problem(f"bodies of a gigabyte are answered {statuses}")
    if (peak := server.peak()) > MEMORY_BYTES:
        raise Problem(f"bodies of a gigabyte took {peak / 2**20:.0f} MiB")
    return (
        f"bodies of 1 GB ({dict(statuses)}) in {monotonic() - began:.1f} s; the server never had more than {peak / 2**20:.0f} MiB"
    )


def _input(text: str) -> bytes:
    return b'{"inputs":[{"name":"temp","shape":[1],"datatype":"FP64","data":%b}]}' % text.encode("utf-8", "surrogatepass")


NASTY: dict[str, bytes] = {
    **{
        f"{name} as data": _input(f"[{name}]")
        for name in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "0x1", "01")
    },
    "deep arrays": b'{"inputs":' + b"[" * 4_000_000,
    "deep arrays, closed": b'{"inputs":' + b"[" * 2_000_000 + b"]" * 2_000_000 + b"}",
    "deep objects": b'{"inputs":' * 500_000,
    "deep data": _input("[" * 100_000 + "]" * 100_000),
    "deep parameters": b'{"parameters":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b'},"inputs":[]}',
    "a lone surrogate": b'{"inputs":[{"name":"carrier","shape":[1],"datatype":"BYTES","data":["\\ud800"]}]}',
    "surrogates the wrong way round": b'{"inputs":[{"name":"carrier","shape":[1],"datatype":"BYTES","data":["\\udc00\\ud800"]}]}',
    "a surrogate as UTF-8": _input('["\ud800"]'),
    "a name that is a surrogate": b'{"inputs":[{"name":"\\ud800","shape":[1],"datatype":"FP64","data":[1]}]}',
    "bytes that are no UTF-8": b'{"inputs":[{"name":"carrier","shape":[1],"datatype":"BYTES","data":["\xff\xfe"]}]}',
    "a huge shape": b'{"inputs":[{"name":"temp","shape":[' + b"9" * 1000 + b'],"datatype":"FP64","data":[1]}]}',
    "the largest shape": b'{"inputs":[{"name":"temp","shape":[9223372036854775807],"datatype":"FP64","data":[1]}]}',
    "a negative shape": b'{"inputs":[{"name":"temp","shape":[-1],"datatype":"FP64","data":[1]}]}',
    "many dimensions": b'{"inputs":[{"name":"temp","shape":[' + b"1," * 1_000_000 + b'1],"datatype":"FP64","data":[1]}]}',
    "an input twice": b'{"inputs":[%b]}' % b",".join([b'{"name":"temp","shape":[1],"datatype":"FP64","data":[1]}'] * 2),
    "a hundred thousand inputs": b'{"inputs":[%b]}'
    % b",".join([b'{"name":"temp","shape":[1],"datatype":"FP64","data":[1]}'] * 100_000),
    "keys twice": b'{"inputs":[],"inputs":[],"id":"a","id":1}',
    "a million keys": b"{%b}" % b",".join(b'"%d":1' % number for number in range(500_000)),
    "an id as long as a book": b'{"id":"' + b"a" * 4_000_000 + b'","inputs":[]}',
    "an id that is a huge integer": b'{"id":' + b"9" * 1_000_000 + b',"inputs":[]}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"inputs":[]}'.encode("utf-16"),
    "nothing": b"",
    "spaces": b" " * 8_000_000,
    "zeros": bytes(8_000_000),
}


def nasty_json(server: Pod) -> str:
    """JSON that readers choke on: 400, and the connection goes on."""
    began = monotonic()
    with Client(server.port) as client:
        for path in (INFER, "/v1/models/flight-delay:predict", "/v2/models/flight-delay/feedback"):
            for what, body in NASTY.items():
                answer = client.post(path, body, HEADER)
                if answer.status != 400:
                    raise Problem(f"{what} at {path} is answered {answer}")
    return f"{3 * len(NASTY)} kinds of JSON that readers choke on: all 400 on one connection, in {monotonic() - began:.1f} s"


def smuggling(server: Pod) -> str:
    """What two servers in a row could read differently: one refusal, no second answer, and the end."""
    from tests.unit.test_serving_http_strict import REFUSED, SMUGGLED

    def answered(sent: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), 10) as client:
            client.sendall(sent + SMUGGLED)
            received = b""
            while part := client.recv(1 << 16):
                received += part
        return received

    for what, sent in REFUSED.items():
        received = answered(sent)
        if well_formed(received) == [401]:  # the bodies of strangers are not looked at
            line, _, rest = sent.partition(b"\r\n")
            received = answered(line + b"\r\n" + AUTHORIZATION + b"\r\n" + rest)
        if well_formed(received) != [400]:
            raise Problem(f"{what} is answered {received!r}")
    return f"{len(REFUSED)} attempts at smuggling: one 400 each and the end"


def idle_connections(server: Pod, wanted: int) -> str:
    """As many idle clients as there may be files."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = min(wanted, (most if most > 0 else 1 << 20) - SPARE_FILES)
    before, began = server.memory(), monotonic()
    with idle(server.port, count):
        took = monotonic() - began
        until("the server has taken them all", lambda: server.metric(CONNECTIONS) >= count, 20)
        with_them = server.memory()
    until("they are gone", lambda: server.metric(CONNECTIONS) < 100, 20)
    return (
        f"{count:,} idle connections, opened in {took:.1f} s: {(with_them - before) / count / 1024:.1f} KiB each, "
        f"memory {before / 2**20:.0f} → {with_them / 2**20:.0f} → {server.memory() / 2**20:.0f} MiB"
    )


QUICK_ATTACKS: tuple[Attack, ...] = (half_open, smuggling, nasty_json, gigabytes)
SLOW_ATTACKS: tuple[Attack, ...] = (slow_heads, slow_bodies, never_readers)
"""They last as long as the server's patience: to be run beside the others."""
