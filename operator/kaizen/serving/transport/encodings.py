"""Compressed bodies of HTTP, both ways, bounded.  Pure but for the turns that compressing a large body gives to others."""

import zlib
from asyncio import sleep
from functools import lru_cache

from kaizen.serving.problems import RequestError, shortened

__all__ = ["LARGE_BYTES", "MOST_MEMBERS", "SMALL_BYTES", "accepted", "deflated", "deflated_slowly", "inflated"]

SMALL_BYTES = 1024
"""Answers up to this size are not compressed: they fit into a packet."""
LARGE_BYTES = 256 << 10
"""Larger ones are compressed in pieces of this size, and others are answered in between."""
LEVEL = 1
MOST_MEMBERS = 4096
"""Of one gzip body: RFC 1952 allows any number, but each costs some microseconds, also when it is empty."""

_GZIP = b"\x1f\x8b"
"""How each member begins."""
_PIECE_BYTES = 16 << 10
"""What is read at once where members may end: what follows them is copied each time."""
_WINDOW = {b"gzip": 31, b"deflate": 15}
"""The window bits with which zlib writes the format."""


def inflated(body: bytes, coding: bytes, most: int) -> bytes:
    """A request's body as it was before it was compressed, of `most` bytes at most: else RequestError 413."""
    coding = coding.strip().lower()
    if coding in (b"", b"identity"):
        return body
    if coding not in (b"gzip", b"x-gzip", b"deflate"):
        name = shortened(coding.decode("latin-1"))
        raise RequestError(f"the body has the Content-Encoding {name}; this server reads gzip, deflate and identity", 415)
    name = coding.decode()
    try:
        if coding == b"deflate":
            found, rest = _read(body, 15 if _has_header(body) else -15, most)
        else:
            found, rest = _read(body, 31, most)
            if rest.startswith(_GZIP) and len(found) <= most:
                further, rest = _members(rest, most - len(found))
                found += further
    except zlib.error as error:
        raise RequestError(f"the body is not {name}: {error}") from None
    except EOFError:
        raise RequestError(f"the body is cut off: its {name} data do not end") from None
    if len(found) > most:
        raise RequestError(
            f"the body is compressed and has more than {most} bytes when it is not; send fewer rows at a time", 413
        )
    if rest:
        raise RequestError(f"{len(rest)} bytes follow the body's {name} data; send none")
    return found


@lru_cache(maxsize=64)
def accepted(header: bytes) -> bytes | None:
    """The coding to answer with, the one that Accept-Encoding prefers; None: as it is.

    What is as good is taken in the order of gzip, deflate, as it is; as it is comes last where the header does not name it.
    """
    qualities: dict[bytes, float] = {}
    for part in header.lower().split(b","):
        coding, _, weight = part.partition(b";")
        qualities[coding.strip()] = _quality(weight)
    others = qualities.get(b"*", 0.0)
    best = max(_WINDOW, key=lambda coding: qualities.get(coding, others))
    quality = qualities.get(best, others)
    return best if quality > 0.0 and quality >= qualities.get(b"identity", 0.0) else None


def deflated(body: bytes, coding: bytes) -> bytes:
    """A body in the coding that `accepted` has chosen."""
    writer = zlib.compressobj(LEVEL, zlib.DEFLATED, _WINDOW[coding])
    return writer.compress(body) + writer.flush()


async def deflated_slowly(body: bytes, coding: bytes) -> bytes:
    """The same with turns for others."""
    writer = zlib.compressobj(LEVEL, zlib.DEFLATED, _WINDOW[coding])
    parts = []
    for first in range(0, len(body), LARGE_BYTES):
        parts.append(writer.compress(body[first : first + LARGE_BYTES]))
        await sleep(0)
    return b"".join((*parts, writer.flush()))


def _quality(weight: bytes) -> float:
    """Of what follows a coding; what is no quality is no wish."""
    try:
        found = float(weight.partition(b"q=")[2] or 1)
    except ValueError:
        return 0.0
    return found if 0.0 <= found <= 1.0 else 0.0


def _read(body: bytes, bits: int, most: int) -> tuple[bytes, bytes]:
    """What is compressed, as far as it has not more than `most` bytes and one, and what follows it.

    Raises zlib.error, EOFError when it does not end.
    """
    reader = zlib.decompressobj(bits)
    found = reader.decompress(body, most + 1)
    if not reader.eof and len(found) <= most:
        raise EOFError
    return found, reader.unused_data


def _members(body: bytes, most: int) -> tuple[bytes, bytes]:
    """The same of the further members of gzip data."""
    parts, place, size, members = [], 0, 0, 1
    view = memoryview(body)
    while body.startswith(_GZIP, place) and size <= most:
        members += 1
        if members > MOST_MEMBERS:
            raise RequestError(f"the body has more than {MOST_MEMBERS} gzip members; send one")
        reader = zlib.decompressobj(31)
        while not reader.eof and size <= most:
            piece = view[place : place + _PIECE_BYTES]
            if not piece:
                raise EOFError
            parts.append(reader.decompress(piece, most + 1 - size))
            size += len(parts[-1])
            place += len(piece) - len(reader.unused_data)
    return b"".join(parts), body[place:]


def _has_header(body: bytes) -> bool:
    """Whether deflate is wrapped as HTTP wants it; some clients send it bare."""
    return len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
