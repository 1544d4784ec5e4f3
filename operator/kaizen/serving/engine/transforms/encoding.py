"""Categories: looked up in tables that the encoder itself filled, one answer for each known value."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

import numpy as np

from kaizen.serving.engine.base import Matrix, Refused
from kaizen.serving.engine.transforms.common import NAN, Document, Reads, refuse_infinite, refuse_infinite_batch

__all__ = ["NOWHERE", "Known", "Lookup", "OneHot", "Ordinal"]

NOWHERE = -1
"""The code of a category for which one-hot encoding writes no one."""


@dataclass(frozen=True)
class Lookup:
    """What an encoder makes of one column."""

    values: list[Any]
    codes: list[float | None]
    """One for each value; None is NaN."""
    unknown: float | None
    """The code of values never seen."""
    missing: float | None
    refuses: list[str]
    """Of "unknown" and "missing": those at which scikit-learn raises."""
    infinite: bool = False
    """Whether an infinite number is a value like others, as among Python's objects."""
    table: dict[Any, float] = field(init=False, repr=False, compare=False)
    doubles: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        codes = [NAN if code is None else code for code in self.codes]
        object.__setattr__(self, "table", dict(zip(self.values, codes, strict=True)))
        object.__setattr__(self, "doubles", all(type(value) is float for value in self.values))

    def document(self) -> dict[str, Any]:
        """See Transform.document."""
        names = ("values", "codes", "unknown", "missing", "refuses")
        return {name: getattr(self, name) for name in names} | ({"infinite": True} if self.infinite else {})

    def other(self, value: Any) -> float:
        """The code of a value that is not in the table.  Raises Refused."""
        if not self.infinite and (value == inf or value == -inf):
            refuse_infinite((value,))
        if self.doubles and type(value) is int and (code := self.table.get(float(value))) is not None:
            return code  # to scikit-learn the column is of doubles, and whole numbers beyond 2**53 are rounded
        kind = "missing" if value is None or value != value else "unknown"
        if kind in self.refuses:
            raise Refused("a category is missing" if kind == "missing" else f"{value!r:.80} is a category never seen in training")
        code = self.missing if kind == "missing" else self.unknown
        return NAN if code is None else code

    def encode(self, values: Sequence[Any]) -> list[float]:
        """The codes of a column."""
        find = self.table.get
        codes = [find(value) for value in values]
        if None in codes:
            codes = [self.other(value) if code is None else code for code, value in zip(codes, values, strict=True)]
        return codes  # type: ignore[return-value]


class _Encoder:
    reads: ClassVar[Reads] = "Lists"
    lookups: list[Lookup]

    def codes(self, columns: Any) -> list[list[float]]:
        """The codes of each column of a batch."""
        return [lookup.encode(values) for lookup, values in zip(self.lookups, columns, strict=True)]


@dataclass(frozen=True)
class Ordinal(_Encoder):
    """OrdinalEncoder and TargetEncoder: a code per column."""

    lookups: list[Lookup]

    @property
    def width(self) -> int:
        """Columns that it writes."""
        return len(self.lookups)

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        encoded = []
        for value, lookup in zip(values, self.lookups, strict=True):
            code = lookup.table.get(value)
            encoded.append(lookup.other(value) if code is None else code)
        return encoded

    def batch(self, columns: Any) -> Matrix:
        """See Transform.batch."""
        return np.array(self.codes(columns), dtype=np.float64).T

    def document(self) -> dict[str, Any]:
        """See Transform.document."""
        return {"name": "Ordinal", "lookups": [lookup.document() for lookup in self.lookups]}


@dataclass(frozen=True)
class OneHot(_Encoder):
    """OneHotEncoder: a code is the position of the one among all columns that this encoder writes, or NOWHERE."""

    lookups: list[Lookup]
    width: int
    zeros: list[float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "zeros", [0.0] * self.width)

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        encoded = self.zeros.copy()
        for value, lookup in zip(values, self.lookups, strict=True):
            code = lookup.table.get(value)
            if code is None:
                code = lookup.other(value)
            if code >= 0:
                encoded[code] = 1.0  # type: ignore[call-overload]
        return encoded

    def batch(self, columns: Any) -> Matrix:
        """See Transform.batch."""
        codes = np.array(self.codes(columns), dtype=np.intp)
        rows = codes.shape[1]
        encoded = np.zeros(rows * self.width)
        encoded[(codes + np.arange(rows) * self.width)[codes >= 0]] = 1.0
        return encoded.reshape(rows, self.width)

    def document(self) -> dict[str, Any]:
        """See Transform.document."""
        return {"name": "OneHot", "width": self.width, "lookups": [lookup.document() for lookup in self.lookups]}


@dataclass(frozen=True)
class Known(Document):
    """HistGradientBoosting's own care of categories: a value never seen in training counts as missing."""

    columns: list[int]
    values: list[list[float]]
    """The categories seen, for each of `columns`."""
    reads: ClassVar[Reads] = "Matrix"

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        known = list(values)
        for column, seen in zip(self.columns, self.values, strict=True):
            if known[column] not in seen:
                refuse_infinite(known[column : column + 1])
                known[column] = NAN
        return known

    def batch(self, columns: Matrix) -> Matrix:
        """See Transform.batch."""
        known = columns.copy()
        refuse_infinite_batch(known[:, self.columns])
        for column, seen in zip(self.columns, self.values, strict=True):
            known[~np.isin(known[:, column], seen), column] = NAN
        return known
