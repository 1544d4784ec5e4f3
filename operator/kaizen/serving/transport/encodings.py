"""Compressed bodies of HTTP, both ways, bounded.  Pure but for the turns that compressing a large body gives to others."""

import zlib
from asyncio import sleep

from kaizen.serving.problems import RequestError, shortened

__all__ = ["LARGE_BYTES", "SMALL_BYTES", "accepted", "deflated", "deflated_slowly", "inflated"]

SMALL_BYTES = 1024
"""Answers up to this size are not compressed: they fit into a packet."""
LARGE_BYTES = 256 << 10
"""Larger ones are compressed in pieces of this size, and others are answered in between."""
LEVEL = 1

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
    bits = 31 if coding != b"deflate" else 15 if _has_header(body) else -15
    reader = zlib.decompressobj(bits)
    try:
        found = reader.decompress(body, most + 1)
    except zlib.error as error:
        raise RequestError(f"the body is not {coding.decode()}: {error}") from None
    if len(found) > most:
        raise RequestError(
            f"the body is compressed and has more than {most} bytes when it is not; send fewer rows at a time", 413
        )
    if not reader.eof:
        raise RequestError(f"the body is cut off: its {coding.decode()} data do not end")
    if reader.unused_data:
        raise RequestError(f"{len(reader.unused_data)} bytes follow the body's {coding.decode()} data; send none")
    return found


def accepted(header: bytes) -> bytes | None:
    """The coding to answer with, of those that Accept-Encoding allows; None: as it is."""
    qualities: dict[bytes, float] = {}
    for part in header.lower().split(b","):
        coding, _, weight = part.partition(b";")
        try:
            qualities[coding.strip()] = float(weight.partition(b"q=")[2] or 1)
        except ValueError:
            qualities[coding.strip()] = 0.0
    for coding in _WINDOW:
        if qualities.get(coding, qualities.get(b"*", 0.0)) > 0.0:
            return coding
    return None


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


def _has_header(body: bytes) -> bool:
    """Whether deflate is wrapped as HTTP wants it; some clients send it bare."""
    return len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
