"""Bearer tokens from a mounted Secret: each file is one client's token, and the file's name the client's.

Kubernetes changes a mounted Secret by swapping a symbolic link; what changed is read anew within a second.  A missing or
empty directory lets nobody in, and does not end the server: the Secret may come later.
"""

import hmac
import logging
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

from kaizen.serving.problems import error, passes
from kaizen.serving.transport.heads import PROBES, Head, path_of
from kaizen.serving.transport.messages import Handler, Request, Response

__all__ = ["Authentication", "Tokens"]

log = logging.getLogger(__name__)

_SCHEME = b"bearer "
MOST_REMEMBERED = 512
LONGEST_REMEMBERED = 1024
_FREE = PROBES | {b"/docs", b"/docs/"}  # the page holds nothing, and asks for a token itself
_UNKNOWN = Response(
    error("the header Authorization must be `Bearer` and a token of this service"), 401, b"WWW-Authenticate: Bearer\r\n"
)

Signature = tuple[tuple[str, int, int, int], ...]


class Tokens:
    """The tokens of one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._signature: Signature | None = None
        self._digests: tuple[tuple[bytes, str], ...] = ()
        self._remembered: dict[bytes, str] = {}
        """Clients by headers that were found to be right.  Hashes of bytes are keyed, so the time of a look-up says nothing."""
        self.reload_if_changed()

    @property
    def usable(self) -> bool:
        """Whether anybody is let in."""
        return bool(self._digests)

    @property
    def problem(self) -> str:
        """Why nobody is let in; empty when somebody is."""
        return "" if self._digests else f"the directory {self._directory} has no tokens; put one into a file named by its client"

    def client(self, authorization: bytes) -> str | None:
        """Whose token a header Authorization brings; None for nobody's.

        Takes as long for each new one, right or not: digests are compared, all of them, and each to its end.
        """
        if (remembered := self._remembered.get(authorization)) is not None:
            return remembered
        if authorization[:7].lower() != _SCHEME:
            return None
        given, found = sha256(authorization[7:].strip()).digest(), None
        for digest, name in self._digests:
            if hmac.compare_digest(digest, given):
                found = name
        if found is not None and len(authorization) <= LONGEST_REMEMBERED:
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[authorization] = found
        return found

    def knows(self, authorization: bytes) -> bool:
        """Whether a header Authorization brings a token of this directory."""
        return authorization in self._remembered or self.client(authorization) is not None

    def reload_if_changed(self) -> bool:
        """Read the tokens anew when a file has changed; whether they are others now.  To be called once a second."""
        try:
            signature = self._look()
            if signature == self._signature:
                return False
            digests = tuple(self._read(name) for name, *_ in signature)
        except OSError as problem:
            log.warning("the tokens cannot be looked at now: %s", problem.strerror)
            return False
        first, self._signature = self._signature is None, signature
        before, self._digests = self._digests, tuple(each for each in digests if each is not None)
        self._remembered.clear()
        names = ", ".join(name for _, name in self._digests)
        if self._digests:
            log.info("tokens are known of: %s", names)
        else:
            log.warning("nobody is let in: %s", self.problem)
        return not first and before != self._digests

    def _look(self) -> Signature:
        found: list[tuple[str, int, int, int]] = []
        try:
            for path in sorted(self._directory.iterdir()):
                if not path.name.startswith(".") and path.is_file():  # ..data is Kubernetes' own
                    status = path.stat()
                    found.append((path.name, status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError as problem:
            if passes(problem):
                raise
            return ()
        return tuple(found)

    def _read(self, name: str) -> tuple[bytes, str] | None:
        try:
            token = (self._directory / name).read_bytes().strip()
        except OSError as problem:
            if passes(problem):
                raise
            log.warning("the token of %s cannot be read: %s", name, problem.strerror)
            return None
        if not token:
            log.warning("the token of %s is empty and lets nobody in", name)
            return None
        return sha256(token).digest(), name


class Authentication:
    """A handler that answers 401 to requests without a known token, and has another answer the rest.  Probes are free."""

    def __init__(self, tokens: Tokens, handler: Handler, refused: Callable[[], None] = lambda: None) -> None:
        self._tokens = tokens
        self._handler = handler
        self._refused = refused

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        """For Host."""
        known = self._tokens.knows(request.headers.get(b"authorization", b""))
        return self._handler(request) if known or path_of(request.target) in _FREE else self._refuse()

    def refusal(self, head: Head) -> Response | None:
        """The answer to who announces a body and has no token; None to others.  What is free has no body."""
        return None if self._tokens.knows(head.headers.get(b"authorization", b"")) else self._refuse()

    def _refuse(self) -> Response:
        self._refused()
        return _UNKNOWN
