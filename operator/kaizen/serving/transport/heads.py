"""The head of a request: what RFC 9112 lets it be, and nothing else.  Pure.

Whatever two servers in a row could read differently is refused, also where the RFC would let it pass: that is what request
smuggling lives on.  A client sends the same head again and again, so heads are remembered by their bytes: a look-up costs a
twentieth of reading, and what was once found to be good is good.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

from kaizen.serving.problems import shortened
from kaizen.serving.settings import Limits

__all__ = ["CHUNKED", "PROBES", "Head", "Heads", "RefusedHead", "field", "hopeless", "path_of", "too_long"]

T = TypeVar("T")

CHUNKED: Final = -1
PROBES: Final = frozenset({b"/v2/health/live", b"/v2/health/ready", b"/healthz"})
"""What is answered whatever else is refused, and to everybody."""
MOST_REMEMBERED = 512
LONGEST_REMEMBERED = 1024

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_FIELD = re.compile(rb"(" + _TOKEN + rb"):([\t\x20-\x7e\x80-\xff]*+)")
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]++) HTTP/1\.([01])")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#@]++)(/[^#]*+)?")
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~%!$&'()*+,;=]*+|\[[0-9A-Fa-f:.v]++\])(?::[0-9]*+)?")
_NEVER = re.compile(rb"\r[^\n]|(?<!\r)\n|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""What no head has, whatever follows."""
_ONCE = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"inference-header-content-length",
        b"transfer-encoding",
    }
)
"""What would be ambiguous if it came twice."""
LONGEST_LENGTH = 18


class RefusedHead(Exception):
    """What is wrong, in a sentence, and the status that says so."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.headers: Mapping[bytes, bytes] = {}
        """Those of the request, where they could be read."""


class Head(NamedTuple):
    """What a request says before its body."""

    method: bytes
    target: bytes
    """A path with its query, or *."""
    headers: dict[bytes, bytes]
    """By lower-case name; equal names joined by commas.  Shared by requests with the same head: not to be changed."""
    length: int
    """Of the body, in bytes; CHUNKED when only the body says so."""
    keep_alive: bool
    old: bool
    """HTTP/1.0, whose clients are told that the connection stays open."""
    expects: bool
    """The client waits for 100 Continue."""
    vital: bool
    """A probe, which is answered whatever else is refused."""


class _Remembered(dict[bytes, T]):
    """What was read from some bytes, by these bytes."""

    def __missing__(self, raw: bytes) -> T:
        found = self.read(raw)
        if len(raw) <= LONGEST_REMEMBERED:
            if len(self) >= MOST_REMEMBERED:
                self.clear()
            self[raw] = found
        return found

    def read(self, raw: bytes) -> T:
        raise NotImplementedError


class Heads(_Remembered[Head]):
    """Heads by their bytes, the empty line included.  A look-up raises RefusedHead for what is none."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits
        self._request_lines, self._fields = _RequestLines(), _Fields()

    def read(self, raw: bytes) -> Head:
        """A head that is not remembered."""
        limits = self._limits
        first, *lines = raw.removeprefix(b"\r\n").split(b"\r\n")
        if len(raw) > limits.header_bytes or len(lines) - 2 > limits.headers:
            raise RefusedHead(too_long(limits), 431)
        method, target, old = self._request_lines[first]
        headers: dict[bytes, bytes] = {}
        fields = self._fields
        for line in lines[:-2]:
            name, value = fields[line]
            if name not in headers:
                headers[name] = value
            elif name in _ONCE:
                raise RefusedHead(f"there is more than one header {name.decode()}; send one")
            else:
                headers[name] += b", " + value
        try:
            return _head(method, target, headers, old, limits)
        except RefusedHead as refused:
            refused.headers = headers
            raise


class _RequestLines(_Remembered[tuple[bytes, bytes, bool]]):
    """Method, target and whether it is HTTP/1.0."""

    def read(self, raw: bytes) -> tuple[bytes, bytes, bool]:
        found = _REQUEST_LINE.fullmatch(raw)
        if found is None:
            raise RefusedHead(f"this is not HTTP/1.1: the first line is {_quoted(raw)}; it must be METHOD PATH HTTP/1.1")
        method, target, minor = found.groups()
        return method, _path(method, target), minor == b"0"


class _Fields(_Remembered[tuple[bytes, bytes]]):
    """Header lines: when a head is new, as with an id for each request, most of its lines are not."""

    def read(self, raw: bytes) -> tuple[bytes, bytes]:
        return field(raw)


def hopeless(begun: bytes | bytearray, first: int = 0) -> bool:
    """Whether no further bytes can make a head of these; those before `first` were looked at before.

    So that a client with another protocol hears at once what is wrong, instead of after the time for headers.
    """
    if _NEVER.search(begun, max(0, first - 1)):
        return True
    return first == 0 and not begun.startswith(b"\r") and re.match(_TOKEN, begun) is None


def field(line: bytes) -> tuple[bytes, bytes]:
    """The lower-case name and the value of a header line, without its end."""
    found = _FIELD.fullmatch(line)
    if found is None:
        raise RefusedHead(_what_is_wrong(line))
    name, value = found.group(1).lower(), found.group(2).strip(b" \t")
    if name == b"host" and not _HOST.fullmatch(value):
        raise RefusedHead(f"the header Host is {_quoted(value)}; it must be a name or address, and a port or none")
    return name, value


def _head(method: bytes, target: bytes, headers: dict[bytes, bytes], old: bool, limits: Limits) -> Head:
    if b"host" not in headers and not old:
        raise RefusedHead("the header Host is missing; HTTP/1.1 asks for it")
    expected = headers.get(b"expect")
    if expected is not None and expected.lower() != b"100-continue":
        raise RefusedHead("the header Expect can only be 100-continue", 417)
    options = headers[b"connection"].lower().replace(b" ", b"").split(b",") if b"connection" in headers else ()
    keep_alive = b"close" not in options and (not old or b"keep-alive" in options)
    vital = path_of(target) in PROBES
    return Head(method, target, headers, _length(headers, old, limits), keep_alive, old, expected is not None and not old, vital)


def path_of(target: bytes) -> bytes:
    """A target without its query."""
    return target.partition(b"?")[0]


def too_long(limits: Limits) -> str:
    """Why a head is refused for its size."""
    return f"the request line and headers must not have more than {limits.header_bytes} bytes and {limits.headers} headers"


def _path(method: bytes, target: bytes) -> bytes:
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not _HOST.fullmatch(absolute.group(1)):
        raise RefusedHead(f"the target {_quoted(target)} is no path; it must begin with /")
    return absolute.group(2) or b"/"


def _length(headers: dict[bytes, bytes], old: bool, limits: Limits) -> int:
    text, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
    if coding is not None:
        if text is not None:
            raise RefusedHead("there are both Content-Length and Transfer-Encoding; send one of them")
        if old or coding.lower() != b"chunked":
            raise RefusedHead("the header Transfer-Encoding can only be chunked, and only in HTTP/1.1")
        return CHUNKED
    if text is None:
        return 0
    if not text.isdigit() or len(text) > LONGEST_LENGTH:
        raise RefusedHead(f"the header Content-Length is {_quoted(text)}; it must be a whole number")
    length = int(text)
    if length > limits.body_bytes:
        message = f"the body has {length} bytes; it must not have more than {limits.body_bytes}; send fewer rows at a time"
        raise RefusedHead(message, 413)
    return length


def _what_is_wrong(line: bytes) -> str:
    if line.startswith((b" ", b"\t")):
        return f"the header line {_quoted(line)} goes on with the one before; send each header as one line"
    if re.match(_TOKEN + rb"[ \t]+:", line):
        return f"the header line {_quoted(line)} has a space before its colon; leave it out"
    return f"the header line {_quoted(line)} is not `Name: value` in visible characters, ended by CR LF"


def _quoted(text: bytes) -> str:
    return shortened(text.decode("latin-1"))
