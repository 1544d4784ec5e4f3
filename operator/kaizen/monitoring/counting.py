"""Rows of requests into the cells of many columns at once, as fast as rows can be answered.

The cells are those of bins.count, column by column.  Requests bring a few rows each, so what costs is not arithmetic but the
calls around it, and memory that is kept until it is cold: a row is read at once, into few bytes, and all cells of many rows
are one sum.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import getitem, itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from kaizen.monitoring.bins import Bins, Count, as_text

__all__ = ["Counting"]

Numbers = npt.NDArray[np.float64]
_BYTES = 8


class Counting:
    """The cells of some columns and of the prediction, one after the other.

    A row that was read is so many doubles: the values of the numeric columns, then the cells of all others.
    """

    def __init__(self, columns: Sequence[Bins], prediction: Bins, inputs: Sequence[str] | None = None) -> None:
        """`inputs` are what rows bring, by name, `columns` among them; None: just these, in this order."""
        self.columns, self.prediction = tuple(columns), prediction
        everything = (*self.columns, prediction)
        self._ends: list[int] = np.cumsum([bins.cells for bins in everything]).tolist()
        starts = [end - bins.cells for end, bins in zip(self._ends, everything, strict=True)]
        names = [bins.name for bins in self.columns] if inputs is None else list(inputs)
        places = [*(names.index(bins.name) for bins in self.columns), len(names)]  # the prediction comes behind the inputs
        placed = list(zip(everything, starts, places, strict=True))
        numeric = [one for one in placed if one[0].kind == "Numeric"]
        self._numeric = _Numeric([(bins, start) for bins, start, _ in numeric]) if numeric else None
        self._numbers = [place for _, _, place in numeric]
        self._take = _taking(self._numbers, len(names) + 1)
        others = [(_categories(bins, start), place) for bins, start, place in placed if bins.kind == "Categorical"]
        self._lookups, self._others = [cells for cells, _ in others], [place for _, place in others]
        self._take_others = _taking(self._others, len(names) + 1)
        self._pack = struct.Struct(f"{len(placed)}d").pack
        self.row_bytes = len(placed) * _BYTES
        """Of a row that was read."""

    @property
    def cells(self) -> int:
        """Of all columns and the prediction."""
        return self._ends[-1]

    def split(self, counts: Count) -> list[Count]:
        """Views of each column's cells, the prediction's last."""
        return np.split(counts, self._ends[:-1])

    def row(self, row: Sequence[Any], prediction: Any) -> bytes:
        """One row, read."""
        values = (*row, prediction)
        read = self._take(values)
        if self._others:
            read = (*read, *map(getitem, self._lookups, self._take_others(values)))
        try:
            return self._pack(*read)
        except struct.error:  # a missing value
            return _packed(read)

    def table(self, columns: Sequence[Any] | Numbers, predictions: Sequence[Any], rows: int) -> bytes:
        """Rows in columns, or as a matrix, read."""
        if isinstance(columns, np.ndarray):
            if self._take is tuple:
                table = np.empty((rows, len(self._numbers)))
                table[:, :-1], table[:, -1] = columns, predictions
                return table.tobytes()
            columns = columns.T
        lists = [values.tolist() if isinstance(values, np.ndarray) else values for values in (*columns, predictions)]
        parts: list[Iterable[Any]] = [lists[place] for place in self._numbers]
        parts += [map(cells.__getitem__, lists[place]) for cells, place in zip(self._lookups, self._others, strict=True)]
        return np.frombuffer(_packed(list(chain.from_iterable(parts)))).reshape(-1, rows).T.tobytes()

    def count(self, read: bytes | bytearray) -> Count:
        """Rows that were read, by cell (cells,)."""
        table = np.frombuffer(read).reshape(-1, self.row_bytes // _BYTES).T
        numbers = len(self._numbers)
        found = [table[numbers:].astype(np.intp).ravel()]
        if self._numeric is not None:
            found.append(self._numeric.cells(table[:numbers]).ravel())
        return np.bincount(np.concatenate(found), minlength=self.cells)


class _Numeric:
    """The cells of numeric columns."""

    def __init__(self, columns: Sequence[tuple[Bins, int]]) -> None:
        most = max(len(bins.edges) for bins, _ in columns)
        padded = [bins.edges + (np.inf,) * (most - len(bins.edges)) for bins, _ in columns]
        self._edges = np.array(padded, dtype=np.float64).reshape(len(columns), most).T[..., None].copy()
        """The first of each column, then the second, and so on."""
        self._kind = np.min_scalar_type(most)
        self._starts = np.array([[start] for _, start in columns])
        self._missing = np.array([[start + bins.missing] for bins, start in columns])

    def cells(self, table: Numbers) -> npt.NDArray[np.intp]:
        """The cell of each number (columns, rows)."""
        values = np.ascontiguousarray(table)
        passed, above = np.zeros(values.shape, dtype=self._kind), np.empty(values.shape, dtype=np.bool_)
        for edges in self._edges:  # a comparison with each takes a fifth of a binary search
            np.greater(values, edges, out=above)
            passed += above.view(np.uint8)
        cells: npt.NDArray[np.intp] = passed + self._starts
        if not np.isfinite(values).all():
            np.copyto(cells, self._missing, where=np.isnan(values))
            np.copyto(cells, self._missing + 1, where=np.isinf(values))
        return cells


class _Lookup(dict[str | None, int]):
    """Cells by category; what is no category has a text that may be one, or is missing."""

    other = 0

    def __missing__(self, value: Any) -> int:
        return self.other if isinstance(value, str) else self.get(as_text(value), self.other)


def _categories(bins: Bins, start: int) -> _Lookup:
    cells = _Lookup({category: start + cell for cell, category in enumerate(bins.categories)})
    cells[None] = start + bins.missing
    cells.other = start + len(bins.categories)
    return cells


def _taking(places: list[int], width: int) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """What takes these from a row of so many, in one call."""
    if places == list(range(width)):
        return tuple
    return itemgetter(*places) if len(places) > 1 else itemgetter(slice(*((places[0], places[0] + 1) if places else (0, 0))))


def _packed(values: Sequence[Any]) -> bytes:
    """Numbers as doubles, None as NaN."""
    try:
        return struct.pack(f"{len(values)}d", *values)  # eight times as fast as NumPy
    except struct.error:
        return np.array(values, dtype=np.float64).tobytes()
