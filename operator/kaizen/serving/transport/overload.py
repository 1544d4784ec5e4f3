"""When to say no.  Pure.

The queue of a server with one event loop is in the sockets: a turn of the loop reads what has arrived, one request after the
other, and what arrives meanwhile waits for the next turn.  A request that is read late in a turn has waited for so long at
least.  Turns may be long now and then, as after one large request; when each turn is, more arrives than can be answered,
and whoever would wait longer is told so at once, which costs a fraction of an answer and lets the next turn begin earlier.

The status is 503, never 429: nobody asked too often, the server has too much to do; and load balancers and clients retry
503 elsewhere or later, while they take 429 as a word to this client about itself.

A turn is also long when the process was not running: other processes had the core, or the Pod's limit was used up.  That is no
reason to refuse, so lateness counts only as far as this thread was computing.
"""

from typing import Final

from kaizen.serving.problems import error

__all__ = ["FULL", "LATE_SECONDS", "PATIENCE_SECONDS", "RETRY", "SHED", "SPARE", "TOO_MANY", "TOO_MUCH", "Turns"]

LATE_SECONDS: Final = 0.02
"""Requests that are read sooner after the beginning of a turn are always answered."""
PATIENCE_SECONDS: Final = 0.2
"""How long turns may be late, or one turn may take, before late requests are refused."""
SPARE: Final = 64
"""Connections above the limit that may still ask whether the server lives: a probe comes on a connection of its own."""
RETRY: Final = b"Retry-After: 1\r\n"


class Turns:
    """The turns of one event loop.  In seconds: `now` of a clock that never goes back, `spent` what this thread has computed."""

    __slots__ = ("_late", "_late_since", "_spent", "began")

    def __init__(self) -> None:
        self.began = 0.0
        """When the first request of this turn was read; 0 until one is."""
        self._spent = 0.0
        self._late = 0.0
        self._late_since = 0.0

    def begin(self, now: float, spent: float) -> None:
        """The first request of a turn is read."""
        self.began, self._spent = now, spent

    def refuses(self, now: float, spent: float) -> bool:
        """Whether to refuse a request that is read LATE_SECONDS or more after the turn's beginning."""
        if not self.began or spent - self._spent <= LATE_SECONDS:
            return False
        if self.began - self._late > LATE_SECONDS:  # the turn before was in time
            self._late_since = self.began
        self._late = now
        return now - self._late_since > PATIENCE_SECONDS


def _refusal(message: str, headers: bytes) -> bytes:
    body = error(message)
    head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n"
    return head % (len(body), headers) + body


TOO_MUCH: Final = "the server has more to do than it can; try again in a second"
TOO_MANY: Final = "the server has as many connections as it may; try again in a second"
# Whole answers, made once: refusing must be cheap.
SHED: Final = _refusal(TOO_MUCH, RETRY)
FULL: Final = _refusal(TOO_MANY, RETRY + b"Connection: close\r\n")
