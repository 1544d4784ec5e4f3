"""HTTP requests and responses as values, and their bytes.  Pure."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import gmtime, strftime

__all__ = ["Handler", "Request", "Response", "dated", "rendered"]

REASONS = {
    200: "OK",
    202: "Accepted",
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
    501: "Not Implemented",
    503: "Service Unavailable",
}
JSON = b"application/json"
_HEADS = {status: f"HTTP/1.1 {status} {reason}\r\n".encode() for status, reason in REASONS.items()}


@dataclass(slots=True)
class Request:
    """One request."""

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    """By lower-case name; equal names joined by commas.  Shared by requests with the same head: not to be changed."""
    body: bytes = b""


@dataclass(slots=True)  # frozen, it would take four times as long to make, for each request
class Response:
    """An answer; not to be changed, as some are given again and again."""

    body: bytes
    status: int = 200
    headers: bytes = b""
    """Further header lines, each with its line end."""
    content_type: bytes = JSON


Handler = Callable[[Request], Response | Awaitable[Response]]
"""Answers a request at once, or later when it would keep others waiting."""


def dated(now: float) -> bytes:
    """The header line Date, `now` being seconds since 1970."""
    return strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", gmtime(now)).encode()


def rendered(method: bytes, response: Response, *, keep_alive: bool, old: bool, date: bytes = b"") -> bytes:
    """The bytes that answer a request; `old` clients are told that the connection stays open, others that it does not."""
    connection = b"" if keep_alive and not old else b"Connection: keep-alive\r\n" if keep_alive else b"Connection: close\r\n"
    head = b"%s%sContent-Type: %s\r\nContent-Length: %d\r\n%s%s\r\n" % (
        _HEADS[response.status],
        date,
        response.content_type,
        len(response.body),
        response.headers,
        connection,
    )
    return head if method == b"HEAD" else head + response.body
