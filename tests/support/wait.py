"""Waiting with a deadline: the only place of the tests that sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
POLL_SECONDS = 0.2


def until(what: str, look: Callable[[], Found | None], seconds: float, explain: Callable[[], str] = str) -> Found:
    """Look until something is found, and return it; fails with `what` and the explanation at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}\n{explain()}")
        time.sleep(POLL_SECONDS)  # noqa: TID251


def throughout(what: str, look: Callable[[], str | None], seconds: float, every: float = 2.0) -> None:
    """Look again and again for a whole time; fails as soon as `look` returns a problem."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if problem := look():
            raise AssertionError(f"{what}: {problem}")
        time.sleep(every)  # noqa: TID251


def pause(seconds: float) -> None:
    """Let a seeded moment pass, for chaos only: nothing may depend on what happens meanwhile."""
    time.sleep(seconds)  # noqa: TID251
