"""Listening sockets, made before any event loop, so that several processes can share a port.

Each worker has listeners of its own under SO_REUSEPORT, and the kernel deals new connections out between them.  They are
made by the process that watches over the workers, which keeps them: what waits in a listener whose worker dies is
accepted by the next one.
"""

import ctypes
import socket
import struct
from contextlib import suppress
from typing import Any

__all__ = ["BACKLOG", "listening", "refuse_new", "waiting"]

BACKLOG = 2048
"""Connections that wait to be accepted.  To be said again when asyncio listens, which otherwise makes it 100."""
SO_ATTACH_FILTER = 26
"""Linux."""
TCP_INFO_BYTES, ACCEPT_QUEUE = 104, 24
"""Of Linux' struct tcp_info, and where in it a listener's length of the queue is."""
_FILTER = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of TCP flags
        (0x45, 0, 1, 0x02),  # with SYN
        (0x06, 0, 0, 0),  # drop,
        (0x06, 0, 0, 0xFFFFFFFF),  # without it pass
    )
)

_Address = tuple[socket.AddressFamily, Any]
"""The form of an address differs from family to family."""


def listening(host: str | None, port: int, workers: int = 1) -> list[list[socket.socket]]:
    """For each worker a listener on every address of the host; None: all, IPv4 and IPv6.

    Raises OSError: the port is taken, or the host is not ours.
    """
    addresses = _addresses(host, port)
    if workers > 1:
        # Under SO_REUSEPORT two servers of one user would silently share a port: look before.
        for probe in _bound(addresses, shared=False):
            probe.close()
    return [_bound(addresses, shared=workers > 1) for _ in range(workers)]


def refuse_new(listeners: list[socket.socket]) -> None:
    """From now on whoever wants to connect is kept waiting; what has begun to connect can still be accepted.

    Closing a listener resets the connections in it, also those whose client has sent a request already.
    """
    kept = ctypes.create_string_buffer(_FILTER)
    program = struct.pack("HP", len(_FILTER) // 8, ctypes.addressof(kept))
    for listener in listeners:
        with suppress(OSError):  # not Linux: a few connections are reset
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def waiting(listeners: list[socket.socket]) -> int:
    """How many have connected and are not accepted yet."""
    with suppress(OSError):
        return sum(
            struct.unpack_from("I", one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES), ACCEPT_QUEUE)[0]
            for one in listeners
        )
    return 0


def _addresses(host: str | None, port: int) -> list[_Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as problem:
        raise OSError(f"cannot listen on {host}: {problem.strerror}") from problem
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bound(addresses: list[_Address], shared: bool) -> list[socket.socket]:
    made: list[socket.socket] = []
    try:
        for family, address in addresses:
            try:
                one = socket.socket(family, socket.SOCK_STREAM)
            except OSError:  # a machine without IPv6 still tells of addresses in it
                continue
            made.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(BACKLOG)
            one.setblocking(False)
    except OSError as problem:
        for one in made:
            one.close()
        raise OSError(
            problem.errno, f"cannot listen on port {address[1]} of {address[0]}: {(problem.strerror or '').lower()}"
        ) from None
    if not made:
        raise OSError(f"cannot listen on port {addresses[0][1][1]}: the machine has no network")
    return made
