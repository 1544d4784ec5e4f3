"""A client that does nothing wrong while others do: it gets the right answers, and soon.

Some of the others ask for more than the server can answer in that moment.  Then it may be told to try again, now and then.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from tests.soak.problems import Problem
from tests.soak.targets import Right
from tests.support.rawhttp import Client

__all__ = ["Bystander", "bystander"]

PAUSE_SECONDS = 0.02
KEPT = 50
"""Requests of one connection, before there is a new one."""
MOST_REFUSED = 0.05
FEW = 40
"""Requests of a short run, in which one refusal says little."""
MOST_SECONDS = 6.0
"""That an answer may take, on a machine that does other things as well."""


@dataclass
class Bystander:
    """What it has seen."""

    answered: int = 0
    refused: int = 0
    """Answered 503 with the advice when to try again."""
    slowest_seconds: float = 0.0
    problem: str = ""

    def __str__(self) -> str:
        slowest = f"the slowest in {self.slowest_seconds * 1000:.0f} ms"
        return f"{self.answered:,} requests of another client answered right, {slowest}, and {self.refused} refused with 503"


@contextmanager
def bystander(port: int, rights: Sequence[Right]) -> Iterator[Bystander]:
    """A client that asks until the end; raises Problem when an answer was wrong, none, or late."""
    seen, stop = Bystander(), threading.Event()

    def run() -> None:
        try:
            while not stop.is_set():
                with Client(port, 10.0) as client:
                    for _ in range(KEPT):
                        if stop.wait(PAUSE_SECONDS):
                            return
                        right, began = rights[seen.answered % len(rights)], monotonic()
                        client.send(right.sent)
                        answer = client.read()
                        if answer.status == 503 and "retry-after" in answer.headers:
                            seen.refused += 1
                            continue
                        if answer.status != 200 or answer.body != right.answer:
                            seen.problem = f"a good request is answered {answer}"
                            return
                        seen.slowest_seconds = max(seen.slowest_seconds, monotonic() - began)
                        seen.answered += 1
        except (OSError, EOFError) as problem:
            seen.problem = repr(problem)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
    refused = seen.refused > MOST_REFUSED * (seen.answered + FEW)
    if seen.problem or refused or seen.slowest_seconds > MOST_SECONDS or not seen.answered:
        raise Problem(f"another client's requests do not go on as they should: {seen}; {seen.problem[:3000]}")
