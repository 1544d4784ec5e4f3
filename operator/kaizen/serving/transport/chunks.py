"""Bodies in chunks (RFC 9112, section 7.1), taken from pieces of any size.  Pure.

Extensions and trailers are checked and thrown away.  What a client can make the server read beside the body itself is
bounded: many tiny chunks cost more than they carry.
"""

import re

from kaizen.serving.settings import Limits
from kaizen.serving.transport.heads import RefusedHead, field, hopeless, too_long

__all__ = ["Chunks"]

LONGEST_LINE = 256
"""Size and extensions of one chunk."""
FRAMING_BYTES = 64 << 10
"""Lines of all chunks, beyond as many bytes as their data."""

_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")


class Chunks:
    """One body."""

    __slots__ = ("_awaits_end", "_framing", "_in_trailers", "_limits", "_missing", "_rest", "body")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.body = bytearray()
        """So far."""
        self._rest = b""
        """The beginning of a line."""
        self._missing = 0
        """Bytes of the present chunk."""
        self._awaits_end = False
        """Of the present chunk's line."""
        self._in_trailers = False
        self._framing = 0

    def take(self, data: bytes) -> bytes | None:
        """Take what arrived; what follows the body, or None while that goes on.  Raises RefusedHead for what is no chunk."""
        data, at, self._rest = self._rest + data, 0, b""
        while not self._in_trailers:
            if self._missing:
                piece = data[at : at + self._missing]
                self.body += piece
                at += len(piece)
                self._missing -= len(piece)
                if self._missing:
                    return None
                self._awaits_end = True
            if self._awaits_end:
                end = data[at : at + 2]
                if not b"\r\n".startswith(end):
                    raise RefusedHead("a chunk of the body is longer than it says")
                if len(end) < 2:
                    self._rest = end
                    return None
                at, self._awaits_end = at + 2, False
            end_of_line = data.find(b"\r\n", at, at + LONGEST_LINE)
            if end_of_line < 0:
                self._rest = data[at:]
                if len(self._rest) >= LONGEST_LINE or (self._rest and hopeless(self._rest)):
                    raise RefusedHead(_not_a_size(self._rest))
                return None
            self._begin(data[at:end_of_line])
            # The line's end stays for the trailers, which end with an empty line also when there are none.
            at = end_of_line if self._in_trailers else end_of_line + 2
        return self._end(data[at:])

    def _begin(self, line: bytes) -> None:
        found = _LINE.fullmatch(line)
        if found is None:
            raise RefusedHead(_not_a_size(line))
        size = self._missing = int(found.group(1), 16)
        self._in_trailers = not size
        self._framing += len(line) + 4
        if len(self.body) + size > self._limits.body_bytes:
            most = self._limits.body_bytes
            raise RefusedHead(f"the body has more than {most} bytes; send fewer rows at a time", 413)
        if self._framing > FRAMING_BYTES + len(self.body) + size:
            raise RefusedHead("the body comes in too many small chunks; send larger ones")

    def _end(self, data: bytes) -> bytes | None:
        end = data.find(b"\r\n\r\n", 0, self._limits.header_bytes)
        if end < 0:
            if len(data) >= self._limits.header_bytes or data.count(b"\n") > self._limits.headers:
                raise RefusedHead(too_long(self._limits), 431)
            if hopeless(data):
                raise RefusedHead("what follows the last chunk is neither an empty line nor a header")
            self._rest = data
            return None
        for line in data[2:end].split(b"\r\n") if end else ():
            field(line)
        return data[end + 4 :]


def _not_a_size(line: bytes) -> str:
    return f"a chunk of the body begins with {line[:20].decode('latin-1')!r}; it must be its size, in hexadecimal digits"
