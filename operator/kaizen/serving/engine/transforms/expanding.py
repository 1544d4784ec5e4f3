"""Numbers to other columns of numbers: bins, products, projections."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np

from kaizen.serving.engine.base import Matrix
from kaizen.serving.engine.transforms.common import Document, OneRow, Reads, Takes, refuse, refuse_batch

__all__ = ["Bins", "Dot", "Products", "Project"]


@dataclass(frozen=True)
class Bins(Document):
    """KBinsDiscretizer: the number of the bin, or a one in its place."""

    edges: list[list[float]]
    """Of each column, between its bins."""
    one_hot: bool
    takes: Takes
    reads: ClassVar[Reads] = "Matrix"

    def __post_init__(self) -> None:
        starts = [0, *accumulate(len(edges) + 1 for edges in self.edges)]
        object.__setattr__(self, "_starts", starts[:-1])
        object.__setattr__(self, "_zeros", [0.0] * starts[-1])

    @property
    def width(self) -> int:
        """Columns that it writes."""
        return len(self._zeros) if self.one_hot else len(self.edges)  # type: ignore[attr-defined]

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        refuse(values, self.takes)
        found = [bisect_right(edges, float(value)) for value, edges in zip(values, self.edges, strict=True)]
        if not self.one_hot:
            return [float(number) for number in found]
        made: list[Any] = self._zeros.copy()  # type: ignore[attr-defined]
        for start, number in zip(self._starts, found, strict=True):  # type: ignore[attr-defined]
            made[start + number] = 1.0
        return made

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        refuse_batch(table, self.takes)
        found = np.column_stack(
            [np.searchsorted(edges, column, side="right") for column, edges in zip(table.T, self.edges, strict=True)]
        )
        if not self.one_hot:
            return found.astype(np.float64)
        made = np.zeros((len(table), self.width))
        np.put_along_axis(made, found + np.array(self._starts), 1.0, axis=1)  # type: ignore[attr-defined]
        return made


@dataclass(frozen=True)
class Products(Document):
    """PolynomialFeatures: products of columns, multiplied in scikit-learn's order."""

    factors: list[list[int]]
    """Of each product; none for the column of ones."""
    takes: Takes
    reads: ClassVar[Reads] = "Matrix"

    @property
    def width(self) -> int:
        """Columns that it writes."""
        return len(self.factors)

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        refuse(values, self.takes)
        made = []
        for factors in self.factors:
            product = 1.0
            for factor in factors:
                product *= values[factor]
            made.append(product)
        return made

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        refuse_batch(table, self.takes)
        made = np.ones((len(table), len(self.factors)))
        for column, factors in zip(made.T, self.factors, strict=True):
            for factor in factors:
                column *= table[:, factor]
        return made


@dataclass(frozen=True)
class Project(OneRow):
    """PCA and its relatives: coordinates along components, less those of the mean, in units of their spread."""

    components: list[list[float]]
    """Outputs by inputs."""
    offset: list[float]
    spread: list[float]
    takes: Takes

    def __post_init__(self) -> None:
        object.__setattr__(self, "_turned", np.array(self.components).T)
        object.__setattr__(self, "_offset", np.array(self.offset))
        object.__setattr__(self, "_spread", np.array(self.spread))

    @property
    def width(self) -> int:
        """Columns that it writes."""
        return len(self.components)

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        refuse_batch(table, self.takes)
        made: Matrix = (table @ self._turned - self._offset) / self._spread  # type: ignore[attr-defined]
        return made


@dataclass(frozen=True)
class Dot(OneRow):
    """FunctionTransformer with numpy.dot: sums of the columns, weighted."""

    weights: list[list[float]]
    """Inputs by outputs."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_matrix", np.array(self.weights, dtype=np.float64))
        object.__setattr__(self, "_sums", self.sums)

    @property
    def sums(self) -> list[list[tuple[int, float]]]:
        """Of each output: inputs and weights that are not 0."""
        return [[(i, weight) for i, weight in enumerate(column) if weight] for column in zip(*self.weights, strict=True)]

    @property
    def width(self) -> int:
        """Columns that it writes."""
        return len(self.weights[0])

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        total = sum(values)
        if total - total != 0.0:  # then also what is multiplied by 0 counts
            return super().row(values)
        made = []
        for terms in self._sums:  # type: ignore[attr-defined]
            weighted = 0.0
            for i, weight in terms:
                weighted += values[i] * weight
            made.append(weighted)
        return made

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        made: Matrix = table @ self._matrix  # type: ignore[attr-defined]
        return made
