"""What a worker tells its parent: each window and label file that waits for the bucket, and what became of it.

The parent so knows what lies where, and what a worker that died had still to write.  One direction, over a socket pair,
whose end also tells each side that the other one is gone.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

import msgspec

from kaizen.serving.watching.delivery import Told
from kaizen.serving.watching.outbox import Item

__all__ = ["Voice", "follow", "speak"]

_LENGTH = struct.Struct("<I")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, str, Item]).decode


class Voice(asyncio.Protocol):
    """The worker's side."""

    def __init__(self, gone: Callable[[], None]) -> None:
        """`gone` is called when there is no parent any more."""
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._closed = self._loop.create_future()

    def tell(self, kind: str, what: str, item: Item) -> None:
        """Say what happened to an item; in any thread."""
        message = _encode((kind, what, item))
        self._loop.call_soon_threadsafe(self._write, _LENGTH.pack(len(message)) + message)

    async def end(self) -> None:
        """Wait until everything is said."""
        await asyncio.sleep(0)
        if self._transport is not None:
            self._transport.close()
            await self._closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._closed.set_result(None)
        self._gone()

    def _write(self, message: bytes) -> None:
        if self._transport is not None:
            self._transport.write(message)


async def speak(here: socket.socket, gone: Callable[[], None]) -> Voice:
    """Begin to speak to the parent."""
    _, voice = await asyncio.get_running_loop().create_unix_connection(lambda: Voice(gone), sock=here)
    return voice


async def follow(there: socket.socket, heard: Told) -> None:
    """The parent's side, until the worker is gone."""
    reader, writer = await asyncio.open_unix_connection(sock=there)
    try:
        while True:
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            heard(*_decode(await reader.readexactly(length)))
    except (asyncio.IncompleteReadError, OSError):
        pass
    finally:
        writer.close()
