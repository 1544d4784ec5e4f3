"""A client that does nothing wrong while others do: it always gets the right answer, and soon."""

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
MOST_SECONDS = 2.0
"""That an answer may take, on a machine that does other things as well."""


@dataclass
class Bystander:
    """What it has seen."""

    answered: int = 0
    slowest_seconds: float = 0.0
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.answered:,} requests of another client answered right, the slowest in {self.slowest_seconds * 1000:.0f} ms"


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
    if seen.problem or seen.slowest_seconds > MOST_SECONDS or not seen.answered:
        raise Problem(f"another client's requests do not go on as they should: {seen}; {seen.problem[:3000]}")
