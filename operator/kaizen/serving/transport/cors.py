"""Cross-origin requests: which pages may ask from a browser (the Fetch standard, section 3.2).

Nothing of this is there unless origins are set.  Answers are the same for everybody but for their headers, so `Vary: Origin`
is said whether or not the origin is one of ours; with `*` none is needed.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace

from kaizen.serving.transport.messages import Handler, Request, Response

__all__ = ["Cors"]

EVERY = "*"
METHODS = b"GET, HEAD, POST, OPTIONS"
HEADERS = b"Authorization, Content-Type, Content-Encoding, Inference-Header-Content-Length, X-Request-Id"
EXPOSED = b"X-Model-Version, X-Model-Digest, Inference-Header-Content-Length, Retry-After"
MAX_AGE_SECONDS = 7200
"""What Chromium remembers at most."""


class Cors:
    """A handler that lets browsers have the answers of another, for pages of some origins."""

    def __init__(self, origins: Sequence[str], handler: Handler) -> None:
        self._handler = handler
        self._every = EVERY in origins
        self._origins = frozenset(origin.lower().encode() for origin in origins)

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        """For Host."""
        origin, allowed = request.headers.get(b"origin"), self.lines(request.headers)
        if request.method == b"OPTIONS" and origin is not None and b"access-control-request-method" in request.headers:
            return self._preflight(allowed)
        answer = self._handler(request)
        if not allowed:
            return answer
        if isinstance(answer, Response):
            return _with(answer, allowed)
        return _later(answer, allowed)

    def lines(self, headers: Mapping[bytes, bytes]) -> bytes:
        """The header lines of each answer to a request with these headers."""
        origin = headers.get(b"origin")
        if self._every:
            return b"" if origin is None else b"Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: %s\r\n" % EXPOSED
        if origin is None or origin.lower() not in self._origins:
            return b"Vary: Origin\r\n"
        names = b"Access-Control-Allow-Origin: %s\r\nAccess-Control-Expose-Headers: %s\r\n" % (origin, EXPOSED)
        return names + b"Vary: Origin\r\n"

    def _preflight(self, allowed: bytes) -> Response:
        """Answered without asking for a token: browsers send none.  Without the allowance the browser stops here."""
        may = b"Access-Control-Allow-Methods: %s\r\nAccess-Control-Allow-Headers: %s\r\nAccess-Control-Max-Age: %d\r\n"
        lines = may % (METHODS, HEADERS, MAX_AGE_SECONDS) if b"Allow-Origin" in allowed else b""
        return Response(b"", 200, allowed + lines)


def _with(response: Response, lines: bytes) -> Response:
    return replace(response, headers=response.headers + lines)


async def _later(answer: Awaitable[Response], lines: bytes) -> Response:
    return _with(await asyncio.ensure_future(answer), lines)
