"""Ensembles of trees: Treelite's library adds up the leaves; what goes in and what comes out is made exact here.

The files hold no baseline: it is in the first tree's leaves, because sums begin with it in all of these libraries, and Treelite
would add it last.
"""

from dataclasses import dataclass, field
from math import isnan, nan
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaizen.serving.engine.base import Matrix, Refused
from kaizen.serving.engine.models.common import OneRow
from kaizen.serving.engine.models.links import LINKS, Indices
from kaizen.serving.engine.native import Trees
from kaizen.serving.engine.transforms import Table, as_matrix, refuse_infinite

__all__ = ["Boosting", "Forest", "Median", "XGBoost"]

_TOO_LARGE = "a value is infinite, or too large for a 32-bit number, which this model's trees read"
_MISSING = "a value is missing; this model takes no missing values"


@dataclass
class Boosting:
    """HistGradientBoosting and LightGBM: the leaves added up, then the link."""

    link: str
    trees: str
    width: int
    outputs: int
    directory: Path
    whole: list[int] = field(default_factory=list)
    """Columns that are cast to whole numbers first, as LightGBM does with categories: its -0.5 is 0."""

    def __post_init__(self) -> None:
        self.ensemble = Trees(self.directory / self.trees, self.width, self.outputs)
        self._buffer, self._sum = self.ensemble.row_in.data, self.ensemble.one
        self._pack = Struct(f"{self.width}d").pack_into
        self._one, self._many = LINKS[self.link]

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        self._pack(self._buffer, 0, *values)
        if self.whole:
            self._cast(self.ensemble.row_in)
        return self._one(self._sum().tolist())

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        return self._many(self.ensemble.many(self.given(table)))

    def given(self, table: Table) -> Matrix:
        """What the trees read."""
        matrix = as_matrix(table)
        if self.whole:
            matrix = matrix.copy()
            self._cast(matrix)
        return matrix

    def _cast(self, given: Matrix) -> None:
        given[..., self.whole] = np.trunc(given[..., self.whole])


class _Rounded:
    """Inputs rounded to float32 and back, as scikit-learn's own trees read them."""

    width: int
    takes_missing: bool

    def _prepare(self, trees: Trees) -> None:
        self.ensemble = trees
        self._pack = Struct(f"={self.width}f").pack_into  # "=": unlike the native form it says when a number is too large
        self._rounded = np.zeros(self.width, dtype=np.float32)
        self._buffer, self._row_in = self._rounded.data, trees.row_in

    def _sums(self, values: list[Any]) -> list[float]:
        try:
            self._pack(self._buffer, 0, *values)
        except OverflowError:
            raise Refused(_TOO_LARGE) from None
        total = sum(values)
        if total - total != 0.0:
            refuse_infinite(values)
            if not self.takes_missing and any(map(isnan, values)):
                raise Refused(_MISSING)
        self._row_in[:] = self._rounded
        sums: list[float] = self.ensemble.one().tolist()
        return sums

    def given(self, table: Table) -> Matrix:
        """What the trees read.  Raises Refused."""
        rounded = as_matrix(table).astype(np.float32).astype(np.float64)
        if np.isinf(rounded).any():
            raise Refused(_TOO_LARGE)
        if not self.takes_missing and np.isnan(rounded).any():
            raise Refused(_MISSING)
        return rounded

    def _sums_of(self, table: Table) -> Matrix:
        return self.ensemble.many(self.given(table))


@dataclass
class Forest(_Rounded):
    """scikit-learn's own trees: the sums or means of leaves, then the link."""

    link: str
    trees: str
    width: int
    outputs: int
    takes_missing: bool
    """A sparse matrix may hold none, and gradient boosting refuses them."""
    directory: Path
    divisor: float = 1.0
    """Of sums, where it is not the number of trees."""

    def __post_init__(self) -> None:
        self._prepare(Trees(self.directory / self.trees, self.width, self.outputs))
        self._one, self._many = LINKS[self.link]

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        sums = self._sums(values)
        return self._one(sums if self.divisor == 1.0 else [one / self.divisor for one in sums])

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        return self._many(self._sums_of(table) / self.divisor)


@dataclass
class Median(_Rounded):
    """AdaBoostRegressor: the weighted median of what the trees say."""

    trees: str
    width: int
    takes_missing: bool
    weights: list[float]
    """One a tree."""
    directory: Path

    def __post_init__(self) -> None:
        self._prepare(Trees(self.directory / self.trees, self.width, len(self.weights), each=True))
        self._weights = np.array(self.weights)

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        return 0, self._medians(np.array([self._sums(values)]))[0].tolist()

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        said = self._sums_of(table)
        return np.zeros(len(said), dtype=np.intp), self._medians(said)

    def _medians(self, said: Matrix) -> Matrix:
        order = np.argsort(said, axis=1)
        shares = np.cumsum(self._weights[order], axis=1)
        middle = (shares >= 0.5 * shares[:, -1:]).argmax(axis=1)
        made: Matrix = np.take_along_axis(said, np.take_along_axis(order, middle[:, None], axis=1), axis=1)
        return made


Single = NDArray[np.float32]
_ONE = np.float32(1.0)
_LARGEST_POWER = np.float32(88.7)
_TINY = np.float32(1e-16)


@dataclass
class XGBoost(OneRow):
    """XGBoost: inputs, sums and links in float32, in the order of its own arithmetic."""

    link: str
    """Identity, Exponential, Sigmoid: regressions; Logistic, Softmax."""
    trees: str
    width: int
    outputs: int
    missing: float | None
    """A number that stands for a missing value, besides NaN."""
    sparse: bool
    """Whether what is 0 is missing: a sparse matrix does not hold it."""
    directory: Path

    def __post_init__(self) -> None:
        self.ensemble = Trees(self.directory / self.trees, self.width, self.outputs, single=True)
        self._buffer, self._sum = self.ensemble.row_in.data, self.ensemble.one
        self._pack = Struct(f"{self.width}f").pack_into  # what is too large becomes infinite, as XGBoost has it
        self._absent = None if self.missing is None else np.float32(self.missing)

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        self._pack(self._buffer, 0, *(values if not self.sparse else [value or nan for value in values]))
        if self._absent is not None:
            given = self.ensemble.row_in
            given[given == self._absent] = np.nan
        with np.errstate(all="ignore"):
            indices, scores = self._linked(self._sum()[None])
        return int(indices[0]), scores[0].tolist()

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        indices, scores = self._linked(self.ensemble.many(self.given(table)))
        return indices, scores.astype(np.float64)

    def given(self, table: Table) -> Single:
        """What the trees read."""
        matrix = as_matrix(table)
        given: Single = (np.where(matrix == 0, nan, matrix) if self.sparse else matrix).astype(np.float32)
        if self._absent is not None:
            given[given == self._absent] = np.nan
        return given

    def _linked(self, sums: Single) -> tuple[Indices, Single]:
        if self.link == "Softmax":
            shares = _exp(sums - sums.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
            return shares.argmax(axis=1), shares
        if self.link == "Logistic":
            second = _sigmoid(sums)
            return (second[:, 0] > 0.5).astype(np.intp), np.hstack([_ONE - second, second])
        made = _exp(sums) if self.link == "Exponential" else _sigmoid(sums) if self.link == "Sigmoid" else sums
        return np.zeros(len(sums), dtype=np.intp), made


def _exp(values: Single) -> Single:
    """Rounded from float64: NumPy's own in float32 is off by more than the C library's."""
    made: Single = np.exp(values.astype(np.float64)).astype(np.float32)
    return made


def _sigmoid(values: Single) -> Single:
    made: Single = _ONE / (_exp(np.minimum(-values, _LARGEST_POWER)) + _ONE + _TINY)
    return made
