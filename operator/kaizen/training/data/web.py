"""One file from an HTTPS server, streamed to disk: broken off, it goes on where it stopped."""

import base64
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from kaizen.training.errors import Failure

__all__ = ["authorization", "download"]

PART_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0
"""Without a byte."""
PAUSES_SECONDS = (0.5, 2.0, 8.0)
"""Between attempts that bring nothing new."""
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


def authorization(secret: Mapping[str, str]) -> dict[str, str]:
    """The header for a Secret with token, or with username and password; empty when it has neither."""
    if token := secret.get("token"):
        return {"Authorization": f"Bearer {token}"}
    if (user := secret.get("username")) is not None and (password := secret.get("password")) is not None:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {}


def download(
    url: str,
    path: Path,
    headers: Mapping[str, str],
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    pauses_seconds: tuple[float, ...] = PAUSES_SECONDS,
    sleep: Callable[[float], None] = time.sleep,  # noqa: TID251 -- callers run in threads; tests pass their own
) -> tuple[str, int, str | None]:
    """Write what is at `url` to `path`; returns its sha256 in hexadecimal, its size in bytes, and its ETag if it has one.

    `headers` are sent to the URL's own host only.  Raises Failure, and OSError when the disk takes no more.
    """
    state = _State(url, path, dict(headers), timeout_seconds)
    pauses = iter(pauses_seconds)
    while True:
        before = state.size
        try:
            state.attempt()
            return state.digest.hexdigest(), state.size, state.etag
        except _Broken as problem:
            if state.size > before:
                pauses = iter(pauses_seconds)
            pause = next(pauses, None)
            if pause is None:
                raise _failure("DataUnreachable", f"{url} cannot be read: {problem}", retry=True) from problem
            sleep(pause)


class _Broken(Exception):
    """Another attempt may bring the rest."""


class _State:
    """How much of one file is there."""

    def __init__(self, url: str, path: Path, headers: dict[str, str], timeout_seconds: float) -> None:
        self.url, self.path, self.headers, self.timeout = url, path, headers, timeout_seconds
        self.opener = urllib.request.build_opener(_Redirects(headers))
        self.etag: str | None = None
        self._forget()

    def attempt(self) -> None:
        """Read to the end; raises _Broken with what came before written down."""
        request = urllib.request.Request(self.url, headers={"Accept-Encoding": "identity", "User-Agent": "kaizen"})
        for name, value in self.headers.items():
            request.add_unredirected_header(name, value)
        if self.size:
            request.add_header("Range", f"bytes={self.size}-")
            # Whoever has another file by now answers with all of it.
            request.add_header("If-Range", self.etag or "")
        try:
            with self.opener.open(request, timeout=self.timeout) as answer:
                self._read(answer)
        except urllib.error.HTTPError as problem:
            with problem:
                raise self._explain(problem) from problem
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as problem:
            raise _Broken(_reason(problem)) from problem

    def _read(self, answer: Any) -> None:
        if self.size and answer.status != http.client.PARTIAL_CONTENT:
            self._forget()
        length = answer.headers.get("Content-Length")
        # A weak ETag cannot resume: equal ones may differ in bytes.
        found = answer.headers.get("ETag")
        self.etag = found if found and not found.startswith("W/") else None
        wanted = None if length is None else self.size + int(length)
        try:
            with self.path.open("ab" if self.size else "wb") as file:
                while part := _part(answer):
                    file.write(part)
                    self.digest.update(part)
                    self.size += len(part)
            if wanted is not None and self.size < wanted:
                raise _Broken(f"it broke off after {self.size} of {wanted} bytes")
        except _Broken:
            if self.etag is None:
                self._forget()
            raise

    def _forget(self) -> None:
        self.digest, self.size = hashlib.sha256(), 0

    def _explain(self, problem: urllib.error.HTTPError) -> Exception:
        code = problem.code
        if code in PASSING:
            return _Broken(f"the server answered {code} {problem.reason}")
        if code in (401, 403, 407):
            how = "name a Secret with token, or with username and password, in secretName"
            message = f"{self.url} refused the request ({code}): "
            return _failure("DataRefused", message + ("check its Secret" if self.headers else how), retry=True)
        if code in (404, 410):
            return _failure("DataMissing", f"there is nothing at {self.url} (the server answered {code})")
        return _failure("DataUnreadable", f"{self.url} cannot be read: the server answered {code} {problem.reason}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Never from HTTPS to less; credentials go with a redirect inside one host only."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """The next request."""
        one, other = urlsplit(req.full_url), urlsplit(newurl)
        if one.scheme == "https" and other.scheme != "https":
            raise _failure("DataRefused", f"{req.full_url} redirects to {other.scheme}://{other.netloc}, which is not HTTPS")
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and (one.scheme, one.netloc) == (other.scheme, other.netloc):
            for name in self.headers:
                if req.has_header(name.capitalize()):
                    following.add_unredirected_header(name, self.headers[name])
        return following


def _part(answer: Any) -> bytes:
    try:
        part: bytes = answer.read1(PART_BYTES)
    except (http.client.HTTPException, TimeoutError, ConnectionError) as problem:
        raise _Broken(_reason(problem)) from problem
    return part


def _reason(problem: Exception) -> str:
    cause = getattr(problem, "reason", problem)
    if isinstance(cause, TimeoutError):
        return "the server did not answer in time"
    if isinstance(cause, http.client.IncompleteRead):
        return "the connection broke"
    return getattr(cause, "strerror", None) or getattr(cause, "verify_message", None) or str(cause) or type(cause).__name__


def _failure(code: str, message: str, *, retry: bool = False) -> Failure:
    return Failure("Ingest", code, message, retry=retry)
