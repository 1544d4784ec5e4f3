"""HTTP requests and responses as values, and their bytes.  Pure."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

__all__ = ["Handler", "Request", "Response", "rendered", "without_offer"]

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
JSON = b"application/json"
_OFFER = frozenset({b"connection", b"http2-settings", b"upgrade"})
_HEADS = {status: f"HTTP/1.1 {status} {reason}\r\n".encode() for status, reason in REASONS.items()}


@dataclass(slots=True)
class Request:
    """One request, or what was wrong with it."""

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    """By lower-case name; the last of each."""
    body: bytes = b""
    keep_alive: bool = True
    old: bool = False
    """HTTP/1.0, whose clients are told that the connection stays open."""
    refused: "Response | None" = None
    """The answer, when there was no need to read it to its end; the connection ends with it."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer."""

    body: bytes
    status: int = 200
    headers: bytes = b""
    """Further header lines, each with its line end."""
    content_type: bytes = JSON


Handler = Callable[[Request], Response | Awaitable[Response]]
"""Answers a request at once, or later when it would keep others waiting."""


def rendered(request: Request, response: Response) -> bytes:
    """The bytes that answer a request."""
    connection = b"Connection: keep-alive\r\n" if request.old else b""
    if not request.keep_alive:
        connection = b"Connection: close\r\n"
    head = b"%sContent-Type: %s\r\nContent-Length: %d\r\n%s%s\r\n" % (
        _HEADS[response.status],
        response.content_type,
        len(response.body),
        response.headers,
        connection,
    )
    return head if request.method == b"HEAD" else head + response.body


def without_offer(method: bytes, target: bytes, headers: Mapping[bytes, bytes]) -> bytes:
    """The head of a request, without its offer to go on in another protocol."""
    kept = [name + b": " + value for name, value in headers.items() if name not in _OFFER]
    return b"\r\n".join((method + b" " + target + b" HTTP/1.1", *kept, b"", b""))
