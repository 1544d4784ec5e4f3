"""What a model says beside the truth: the form in which metrics, intervals and gates take both."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["Codes", "Numbers", "Outcome"]

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Answers beside the truth; of a regression, `classes` is None.  What several metrics need is worked out once."""

    answers: Numbers
    """Probabilities (rows, classes), or numbers (rows,)."""
    target: npt.NDArray[Any]
    classes: Sequence[Any] | None
    threshold: float | None = None
    """Of two classes, the answer is the second from this probability on; None: the most probable one."""

    @cached_property
    def labels(self) -> list[Any]:
        """The model's classes, then those that only the target has."""
        return self._coded[1]

    @cached_property
    def codes(self) -> Codes:
        """The place of each row's true class in `labels`."""
        return self._coded[0]

    @cached_property
    def _coded(self) -> tuple[Codes, list[Any]]:
        places = {label: place for place, label in enumerate(self.classes or ())}
        codes, found = pd.factorize(self.target)
        of_found = [places.setdefault(label, len(places)) for label in found.tolist()]
        return np.array(of_found, dtype=np.int64)[codes], list(places)

    @cached_property
    def predicted(self) -> Codes:
        """The place of each row's answer in `labels`."""
        if self.threshold is not None and self.answers.shape[1] == 2:
            return (self.answers[:, 1] >= self.threshold).astype(np.int64)
        return np.asarray(self.answers.argmax(axis=1), dtype=np.int64)

    @cached_property
    def errors(self) -> Numbers:
        """Of a regression, answer minus truth."""
        return self.answers - self.target.astype(np.float64)

    @cached_property
    def of_truth(self) -> Numbers:
        """Of a classification, the probability of each row's true class; 0 where the model does not know it."""
        known = self.codes < self.answers.shape[1]
        return np.where(known, self.answers[np.arange(len(known)), np.where(known, self.codes, 0)], 0.0)

    @property
    def binary(self) -> bool:
        """The model tells two classes apart."""
        return self.classes is not None and len(self.classes) == 2

    @cached_property
    def counts(self) -> Codes:
        """Rows of each of `labels`."""
        return np.bincount(self.codes, minlength=len(self.labels))

    def take(self, rows: npt.NDArray[Any]) -> "Outcome":
        """Of some of the rows, by mask or number."""
        return Outcome(self.answers[rows], self.target[rows], self.classes, self.threshold)
