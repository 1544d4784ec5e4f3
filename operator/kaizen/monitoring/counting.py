"""Rows of requests into the cells of many columns at once, as fast as rows can be answered.

The cells are those of bins.count, column by column.  Requests bring a few rows each, so what costs is not arithmetic but the
calls around it: all numbers of all requests become one matrix, and all cells one sum.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from kaizen.monitoring.bins import Bins, Count, as_text

__all__ = ["Counting", "Rows"]

Rows = tuple[Mapping[str, Any], Sequence[Any], int]
"""Columns by name, predictions, and how many rows both have."""

Numbers = npt.NDArray[np.float64]
Cells = npt.NDArray[np.intp]


class Counting:
    """The cells of some columns and of the prediction, one after the other."""

    def __init__(self, columns: Sequence[Bins], prediction: Bins) -> None:
        self.columns, self.prediction = tuple(columns), prediction
        everything = (*self.columns, prediction)
        self._ends: list[int] = np.cumsum([bins.cells for bins in everything]).tolist()
        starts = [end - bins.cells for end, bins in zip(self._ends, everything, strict=True)]
        placed = list(zip(self.columns, starts, strict=False))
        numeric = [(bins, start) for bins, start in placed if bins.kind == "Numeric"]
        self._numeric = _Numeric(numeric) if numeric else None
        self._categorical = [_Categorical(bins, start) for bins, start in placed if bins.kind == "Categorical"]
        self._predicted = (
            _Numeric([(prediction, starts[-1])]) if prediction.kind == "Numeric" else _Categorical(prediction, starts[-1])
        )

    @property
    def cells(self) -> int:
        """Of all columns and the prediction."""
        return self._ends[-1]

    def split(self, counts: Count) -> list[Count]:
        """Views of each column's cells, the prediction's last."""
        return np.split(counts, self._ends[:-1])

    def count(self, parts: Sequence[Rows]) -> Count:
        """Rows by cell (cells,)."""
        found: list[Cells] = []
        if self._numeric is not None:
            found.append(self._numeric.table(parts))
        found += [column.read([columns[column.name] for columns, _, _ in parts]) for column in self._categorical]
        found.append(self._predicted.read([predictions for _, predictions, _ in parts]))
        return np.bincount(np.concatenate(found), minlength=self.cells)


class _Numeric:
    """The cells of numeric columns."""

    def __init__(self, columns: Sequence[tuple[Bins, int]]) -> None:
        names = [bins.name for bins, _ in columns]
        self._take = itemgetter(*names) if len(names) > 1 else lambda columns: tuple(columns[name] for name in names)
        self._edges = [np.array(bins.edges, dtype=np.float64) for bins, _ in columns]
        self._starts = np.array([[start] for _, start in columns])
        self._missing = np.array([[start + bins.missing] for bins, start in columns])

    def table(self, parts: Sequence[Rows]) -> Cells:
        """The cells of all columns of requests."""
        take = self._take
        alone = [take(columns) for columns, _, rows in parts if rows == 1]
        many = [np.array([_numbers(values) for values in take(columns)]) for columns, _, rows in parts if rows > 1]
        if alone:
            many.append(_flat(alone, len(alone) * len(self._edges)).reshape(len(alone), -1).T)
        return self._cells(np.concatenate(many, axis=1))

    def read(self, lists: Sequence[Sequence[Any]]) -> Cells:
        """The cells of the only column, as requests bring it."""
        return self._cells(np.concatenate([_numbers(values) for values in lists])[None])

    def _cells(self, matrix: Numbers) -> Cells:
        """The cell of each number (columns, rows), flat."""
        cells = np.empty(matrix.shape, dtype=np.intp)
        for row, (edges, values) in enumerate(zip(self._edges, matrix, strict=True)):
            cells[row] = edges.searchsorted(values)
        cells += self._starts
        if not np.isfinite(matrix).all():
            np.copyto(cells, self._missing, where=np.isnan(matrix))
            np.copyto(cells, self._missing + 1, where=np.isinf(matrix))
        return cells.ravel()


class _Categorical:
    """The cells of a column of categories."""

    def __init__(self, bins: Bins, start: int) -> None:
        self.name = bins.name
        self._cells = _Lookup({category: start + cell for cell, category in enumerate(bins.categories)})
        self._cells[None] = start + bins.missing
        self._cells.other = start + len(bins.categories)

    def read(self, lists: Sequence[Sequence[Any]]) -> Cells:
        """The cells of values as requests bring them."""
        values = chain.from_iterable(part.tolist() if isinstance(part, np.ndarray) else part for part in lists)
        return np.fromiter(map(self._cells.__getitem__, values), dtype=np.intp)


class _Lookup(dict[str | None, int]):
    """Cells by category; what is no category has a text that may be one, or is missing."""

    other = 0

    def __missing__(self, value: Any) -> int:
        return self.other if isinstance(value, str) else self.get(as_text(value), self.other)


def _numbers(values: Sequence[Any]) -> Numbers:
    return np.asarray(values, dtype=np.float64)  # makes None a NaN


def _flat(rows: Sequence[tuple[Sequence[Any], ...]], size: int) -> Numbers:
    """The only value of each column of each row."""
    try:
        return np.fromiter(chain.from_iterable(chain.from_iterable(rows)), np.float64, size)
    except TypeError:  # a missing value
        return np.array(list(chain.from_iterable(chain.from_iterable(rows))), dtype=np.float64)
