"""Numbers that workers publish a few times a second, in memory that outlives each of them.

Each worker has a slot with two copies of its numbers and a word that says which of them is whole: a worker that is killed
while it writes spoils only the other one.  So what a killed worker has counted is known up to its last publication.
"""

import mmap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kaizen.serving.watching.metrics import WORDS

__all__ = ["Board", "Slot"]

_BEAT, _WHOLE, _HEAD = 0, 1, 2

Words = NDArray[np.int64]


class Slot:
    """One worker's place."""

    def __init__(self, words: Words) -> None:
        self._head = words[:_HEAD]
        self._copies = words[_HEAD:].reshape(2, -1)

    @property
    def beat(self) -> int:
        """How often something was published; 0 until the worker answers."""
        return int(self._head[_BEAT])

    def publish(self, metrics: Sequence[int], window: Words | None) -> None:
        """Metrics.words() and, where something is observed, Observer.words()."""
        other = 1 - int(self._head[_WHOLE])
        copy = self._copies[other]
        copy[:WORDS] = metrics
        if window is not None:
            copy[WORDS:] = window
        self._head[_WHOLE] = other
        self._head[_BEAT] += 1

    def read(self) -> tuple[list[int], Words]:
        """What was published last, as two parts; zeros when nothing was."""
        copy = self._copies[int(self._head[_WHOLE])].copy()
        return copy[:WORDS].tolist(), copy[WORDS:]

    def clear(self) -> None:
        """For the next worker."""
        self._copies[:] = 0
        self._head[:] = 0


class Board:
    """The slots of all workers; to be made before the first fork."""

    def __init__(self, workers: int, window_words: int) -> None:
        words = _HEAD + 2 * (WORDS + window_words)
        memory = np.frombuffer(mmap.mmap(-1, workers * words * 8), dtype=np.int64).reshape(workers, words)
        self.slots = [Slot(row) for row in memory]
