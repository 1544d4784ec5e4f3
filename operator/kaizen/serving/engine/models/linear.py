"""Models that multiply a row with numbers once: linear ones, and distances to centroids."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np

from kaizen.serving.engine.base import Matrix
from kaizen.serving.engine.models.common import OneRow, finite_matrix, numbers, refuse_not_finite
from kaizen.serving.engine.models.links import LINKS, Indices, softmax_of
from kaizen.serving.engine.transforms import Scale, Table

__all__ = ["Centroids", "Constant", "Linear"]


@np.errstate(all="ignore")  # as a decorator: half the cost of a with statement
def _dot(coefficients: Matrix, row: Matrix) -> Any:
    return coefficients.dot(row)


@np.errstate(all="ignore")
def _scaled_dot(coefficients: Matrix, row: Matrix, centre: Matrix, scale: Matrix) -> Any:
    np.subtract(row, centre, row)
    np.divide(row, scale, row)
    return coefficients.dot(row)


@dataclass
class Linear:
    """x · coefficients + intercept, then the link."""

    link: str
    coefficients: Any
    """Outputs by width."""
    intercept: list[float]
    background: Any = None
    """Means of the columns, from which explanations start."""

    def __post_init__(self) -> None:
        self._matrix = numbers(self.coefficients)
        self._intercept = numbers(self.intercept)
        outputs, width = self._matrix.shape
        self._single = outputs == 1
        self._vector = self._matrix[0]
        self._first = self.intercept[0]
        self._row = np.zeros(width)
        self._buffer = self._row.data
        self._pack = Struct(f"{width}d").pack_into
        self._one, self._many = LINKS[self.link]

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        self._pack(self._buffer, 0, *values)
        if self._single:
            score = float(_dot(self._vector, self._row)) + self._first
            if score - score != 0.0:
                refuse_not_finite(values)
            return self._one([score])
        scores = (_dot(self._matrix, self._row) + self._intercept).tolist()
        total = sum(scores)
        if total - total != 0.0:
            refuse_not_finite(values)
        return self._one(scores)

    def behind(self, scale: Scale) -> Callable[[Sequence[Any]], tuple[int, list[float]]]:
        """`row` of a row that is still to be scaled: the same operations, in half the time."""
        arguments = self._vector if self._single else self._matrix, self._row, numbers(scale.centre), numbers(scale.scale)
        pack, buffer, single, first, intercept, one = (
            self._pack, self._buffer, self._single, self._first, self._intercept, self._one,
        )  # fmt: skip

        def row(values: Sequence[Any]) -> tuple[int, list[float]]:
            pack(buffer, 0, *values)
            found = _scaled_dot(*arguments)
            scores = [float(found) + first] if single else (found + intercept).tolist()
            total = sum(scores)
            if total - total != 0.0:  # the long way knows what to say
                return self.row(scale.row(values))
            return one(scores)

        return row

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        return self._many(finite_matrix(table) @ self._matrix.T + self._intercept)


@dataclass
class Centroids(OneRow):
    """NearestCentroid: the class by the distance, or, where priors differ, by the score that makes the probabilities.

    Distances are computed as scikit-learn does, because far from the origin they are mostly rounding.
    """

    centroids: Any
    """Classes by width."""
    deviation: list[float]
    """Within classes; 0 where it is not divided by."""
    priors: list[float]
    metric: str
    """euclidean | manhattan"""
    uniform: bool
    """Whether the nearest decides, in units of the inputs."""

    def __post_init__(self) -> None:
        self._centroids = numbers(self.centroids)
        self._deviation = np.where(numbers(self.deviation) == 0, 1.0, numbers(self.deviation))
        self._scaled = self._centroids / self._deviation
        self._priors = 2.0 * np.log(numbers(self.priors))

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        matrix = finite_matrix(table)
        scaled = matrix / self._deviation
        if self.metric == "euclidean" or not self.uniform:
            refuse_not_finite(scaled)
        scores = self._priors - self._distances(scaled, self._scaled) ** 2
        decided = self._distances(matrix, self._centroids) if self.uniform else -scores
        return decided.argmin(axis=1), softmax_of(scores)

    def _distances(self, matrix: Matrix, centroids: Matrix) -> Matrix:
        if self.metric == "manhattan":
            return np.column_stack([np.abs(matrix - one).sum(axis=1) for one in centroids])
        made = -2.0 * (matrix @ centroids.T)
        made += np.einsum("ij,ij->i", matrix, matrix)[:, None]
        made += np.einsum("ij,ij->i", centroids, centroids)
        return np.sqrt(np.maximum(made, 0.0))


@dataclass
class Constant:
    """DummyClassifier and DummyRegressor: the same answer to everything."""

    index: int
    scores: list[float]

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        return self.index, self.scores.copy()

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        rows = len(table[0]) if isinstance(table, list) else len(table)
        return np.full(rows, self.index, dtype=np.intp), np.tile(numbers(self.scores), (rows, 1))
