"""What all models share: their protocol, numbers read from a document, and checks of the numbers that rows bring."""

from typing import Any, Protocol

import numpy as np

from kaizen.serving.engine.base import Matrix
from kaizen.serving.engine.models.links import Indices
from kaizen.serving.engine.transforms import Table, as_matrix, refuse_batch

__all__ = ["Model", "OneRow", "finite_matrix", "numbers", "refuse_not_finite"]


class Model(Protocol):
    """A fitted estimator.

    Answers are the index of the class and its probabilities (its scores, when it has none); of a regression 0 and the number.
    """

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """One row."""

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """Indices (rows,) and probabilities (rows, classes)."""


class OneRow:
    """A row answered as a batch of one: for what needs NumPy's functions, whose last bits plain Python has not."""

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        with np.errstate(all="ignore"):
            indices, scores = self.batch(np.array([values], dtype=np.float64))
        return int(indices[0]), scores[0].tolist()

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        raise NotImplementedError


def numbers(stored: Any) -> Matrix:
    """An array of a document: lists, or what was read from a file."""
    return np.array(stored, dtype=np.float64)


def refuse_not_finite(values: Any) -> None:
    """scikit-learn's check of finite values."""
    refuse_batch(np.asarray(values, dtype=np.float64), "Finite")


def finite_matrix(table: Table) -> Matrix:
    """The table as a matrix.  Raises Refused when not all of it is finite."""
    matrix = as_matrix(table)
    refuse_not_finite(matrix)
    return matrix
