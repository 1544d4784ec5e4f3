"""What happens to a row before the model: one small class per scikit-learn transformer, in a table by name.

Each does the same twice: `row` on a list of Python values, where NumPy's fixed costs would dominate, and `batch` on columns.
Fields are JSON, so a transform is its own document.  Arithmetic is scikit-learn's, operation by operation, in float64.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, ClassVar, Protocol

import numpy as np

from kaizen.serving.engine.base import Matrix, Refused

__all__ = ["TRANSFORMS", "Impute", "Known", "Lookup", "OneHot", "Ordinal", "Scale", "Transform", "restore"]

Lists = list[list[Any]]
"""Columns of values that are not numbers yet, or that are looked up as they are."""

NAN = float("nan")
NOWHERE = -1
"""The code of a category for which one-hot encoding writes no one."""


class Transform(Protocol):
    """A fitted transformer."""

    looks_up: ClassVar[bool]
    """Whether a batch must arrive as lists of the values themselves, not as a matrix of numbers."""

    def row(self, values: list[Any]) -> list[Any]:
        """One row in, one row out.  Must not change its argument."""

    def batch(self, columns: Any) -> Any:
        """Lists or a matrix (rows, columns) in, the same or a matrix out.  Must not change its argument."""

    def document(self) -> dict[str, Any]:
        """JSON from which `restore` makes an equal transform."""


class _Document:
    def document(self) -> dict[str, Any]:
        return {"name": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


def refuse_infinite(values: Sequence[Any]) -> None:
    """scikit-learn's check of finite values, missing ones allowed; a sum finds out whether there is anything to look for."""
    total = sum(values)
    if total - total != 0.0 and (inf in values or -inf in values):
        raise Refused("an input is infinite, or too large for a 64-bit number")


def refuse_infinite_batch(matrix: Matrix) -> None:
    """The same for a matrix."""
    if np.isinf(matrix).any():
        raise Refused("an input is infinite, or too large for a 64-bit number")


@dataclass(frozen=True)
class Scale(_Document):
    """StandardScaler: (x - mean) / scale."""

    mean: list[float]
    scale: list[float]
    looks_up: ClassVar[bool] = False

    def row(self, values: list[Any]) -> list[Any]:
        refuse_infinite(values)
        return [(value - mean) / scale for value, mean, scale in zip(values, self.mean, self.scale, strict=True)]

    def batch(self, columns: Matrix) -> Matrix:
        refuse_infinite_batch(columns)
        centred: Matrix = columns - np.array(self.mean)
        centred /= np.array(self.scale)
        return centred


@dataclass(frozen=True)
class Impute(_Document):
    """SimpleImputer, any strategy: a value per column for what is missing, then a flag per indicated column."""

    fill: list[Any]
    """One for each kept column."""
    kept: list[int]
    """Columns that had any value in training; scikit-learn drops the others."""
    indicated: list[int]
    """Columns whose missing values are flagged, appended at the end."""
    looks_up: ClassVar[bool] = False

    def row(self, values: list[Any]) -> list[Any]:
        if type(values[0]) is not str and values[0] is not None:
            total = sum(values)
            if total - total == 0.0:
                return [values[i] for i in self.kept] + [0.0] * len(self.indicated)
            refuse_infinite(values)
        missing = [value is None or value != value for value in values]
        filled = [fill if missing[i] else values[i] for i, fill in zip(self.kept, self.fill, strict=True)]
        return filled + [1.0 if missing[i] else 0.0 for i in self.indicated]

    def batch(self, columns: Any) -> Any:
        if isinstance(columns, list):
            return [
                [fill if value is None or value != value else value for value in columns[i]]
                for i, fill in zip(self.kept, self.fill, strict=True)
            ]
        refuse_infinite_batch(columns)
        missing = np.isnan(columns)
        filled = np.where(missing[:, self.kept], np.array(self.fill, dtype=np.float64), columns[:, self.kept])
        return np.hstack([filled, missing[:, self.indicated]]) if self.indicated else filled


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
    table: dict[Any, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        codes = [NAN if code is None else code for code in self.codes]
        object.__setattr__(self, "table", dict(zip(self.values, codes, strict=True)))

    def document(self) -> dict[str, Any]:
        names = ("values", "codes", "unknown", "missing", "refuses")
        return {name: getattr(self, name) for name in names}

    def other(self, value: Any) -> float:
        """The code of a value that is not in the table.  Raises Refused."""
        if value == inf or value == -inf:
            raise Refused("an input is infinite, or too large for a 64-bit number")
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
    looks_up: ClassVar[bool] = True
    lookups: list[Lookup]

    def codes(self, columns: Any) -> list[list[float]]:
        """The codes of each column of a batch."""
        lists = columns if isinstance(columns, list) else columns.T.tolist()
        return [lookup.encode(values) for lookup, values in zip(self.lookups, lists, strict=True)]


@dataclass(frozen=True)
class Ordinal(_Encoder):
    """OrdinalEncoder: a code per column."""

    lookups: list[Lookup]

    def row(self, values: list[Any]) -> list[Any]:
        encoded = []
        for value, lookup in zip(values, self.lookups, strict=True):
            code = lookup.table.get(value)
            encoded.append(lookup.other(value) if code is None else code)
        return encoded

    def batch(self, columns: Any) -> Matrix:
        return np.array(self.codes(columns), dtype=np.float64).T

    def document(self) -> dict[str, Any]:
        return {"name": "Ordinal", "lookups": [lookup.document() for lookup in self.lookups]}


@dataclass(frozen=True)
class OneHot(_Encoder):
    """OneHotEncoder: a code is the position of the one among all columns that this encoder writes, or NOWHERE."""

    lookups: list[Lookup]
    width: int
    zeros: list[float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "zeros", [0.0] * self.width)

    def row(self, values: list[Any]) -> list[Any]:
        encoded = self.zeros.copy()
        for value, lookup in zip(values, self.lookups, strict=True):
            code = lookup.table.get(value)
            if code is None:
                code = lookup.other(value)
            if code >= 0:
                encoded[code] = 1.0  # type: ignore[call-overload]
        return encoded

    def batch(self, columns: Any) -> Matrix:
        codes = np.array(self.codes(columns), dtype=np.intp)
        encoded = np.zeros((codes.shape[1], self.width))
        for position in codes:
            written = np.flatnonzero(position >= 0)
            encoded[written, position[written]] = 1.0
        return encoded

    def document(self) -> dict[str, Any]:
        return {"name": "OneHot", "width": self.width, "lookups": [lookup.document() for lookup in self.lookups]}


@dataclass(frozen=True)
class Known(_Document):
    """HistGradientBoosting's own care of categories: a value never seen in training counts as missing."""

    columns: list[int]
    values: list[list[float]]
    """The categories seen, for each of `columns`."""
    looks_up: ClassVar[bool] = False

    def row(self, values: list[Any]) -> list[Any]:
        known = list(values)
        for column, seen in zip(self.columns, self.values, strict=True):
            if known[column] not in seen:
                refuse_infinite(known[column : column + 1])
                known[column] = NAN
        return known

    def batch(self, columns: Matrix) -> Matrix:
        known = columns.copy()
        refuse_infinite_batch(known[:, self.columns])
        for column, seen in zip(self.columns, self.values, strict=True):
            known[~np.isin(known[:, column], seen), column] = NAN
        return known


TRANSFORMS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in (Impute, Known, OneHot, Ordinal, Scale)}


def restore(document: Mapping[str, Any]) -> Transform:
    """The transform that `document` describes.  Raises KeyError or TypeError when it is not one of this version."""
    fields = dict(document)
    kind = TRANSFORMS[fields.pop("name")]
    if "lookups" in fields:
        fields["lookups"] = [Lookup(**lookup) for lookup in fields["lookups"]]
    made: Transform = kind(**fields)
    return made
