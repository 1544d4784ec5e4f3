"""A few threads for work that waits on network and disk.

Not concurrent.futures' executor: Python joins its threads when the process ends, and a process that is told to end must not
wait for a server that does not answer.
"""

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, TypeVar

__all__ = ["Lanes"]

T = TypeVar("T")


class Lanes:
    """To be used in a `with`, at whose end what has not begun is given up and what has is waited for."""

    def __init__(self, number: int) -> None:
        self._threads = [Thread(target=self._run, daemon=True) for _ in range(number)]
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._ended = False

    def submit(self, action: Callable[[], T]) -> "Future[T]":
        """What will be the result of a call."""
        future: Future[T] = Future()
        self._work.put((future, action))
        return future

    def __enter__(self) -> "Lanes":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended = True
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (given := self._work.get()) is not None and not self._ended:
            future, action = given
            try:
                result = action()
            except BaseException as problem:
                future.set_exception(problem)
            else:
                future.set_result(result)
