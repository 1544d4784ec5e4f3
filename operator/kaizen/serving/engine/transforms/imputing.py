"""Missing values: filled, and flagged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from kaizen.serving.engine.base import Matrix, Refused
from kaizen.serving.engine.transforms.common import NAN, Document, Reads, refuse, refuse_batch

__all__ = ["Fill", "Impute"]

_NEW = "a value is missing that never was in training, which this model takes for a mistake"


@dataclass(frozen=True)
class Impute(Document):
    """SimpleImputer and MissingIndicator of numbers: a value for what is missing, then a flag per indicated column."""

    fill: list[float | None]
    """One for each kept column; None is NaN."""
    kept: list[int]
    """Columns that had any value in training; scikit-learn drops the others."""
    indicated: list[int]
    """Columns whose missing values are flagged, appended at the end."""
    marker: float | None
    """The number that stands for a missing value; None is NaN."""
    never: list[int]
    """Columns that must not be missing."""
    reads: ClassVar[Reads] = "Matrix"

    def __post_init__(self) -> None:
        fill = [NAN if one is None else one for one in self.fill]
        object.__setattr__(self, "_fill", fill)
        object.__setattr__(self, "_fills", np.array(fill, dtype=np.float64))

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        total = sum(values)
        if self.marker is None:
            if total - total == 0.0:
                return [values[i] for i in self.kept] + [0.0] * len(self.indicated)
            refuse(values, "Missing")
            missing = [value != value for value in values]
        else:
            refuse(values, "Finite")
            missing = [float(value) == self.marker for value in values]
        if any(missing[i] for i in self.never):
            raise Refused(_NEW)
        fills = zip(self.kept, self._fill, strict=True)  # type: ignore[attr-defined]
        return [fill if missing[i] else values[i] for i, fill in fills] + [1.0 if missing[i] else 0.0 for i in self.indicated]

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        refuse_batch(table, "Missing" if self.marker is None else "Finite")
        missing = np.isnan(table) if self.marker is None else table == self.marker
        if self.never and missing[:, self.never].any():
            raise Refused(_NEW)
        whole = self.kept == list(range(table.shape[1]))
        lost, given = (missing, table) if whole else (missing[:, self.kept], table[:, self.kept])
        filled = np.where(lost, self._fills, given)  # type: ignore[attr-defined]
        return np.hstack([filled, missing[:, self.indicated]]) if self.indicated else filled


@dataclass(frozen=True)
class Fill(Document):
    """The same of columns some of which are strings, and which scikit-learn therefore handles as objects."""

    fill: list[Any]
    kept: list[int]
    indicated: list[int]
    marker: Any
    """The value that is filled besides those of `absent`; None for none."""
    absent: list[Literal["Missing", "Value", "Refused"]]
    """What a missing cell of each column is: filled, a value as others, or refused."""
    never: list[int]
    reads: ClassVar[Reads] = "Lists"

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        missing = [self._missing(value, absent) for value, absent in zip(values, self.absent, strict=True)]
        if any(missing[i] for i in self.never):
            raise Refused(_NEW)
        filled = [fill if missing[i] else values[i] for i, fill in zip(self.kept, self.fill, strict=True)]
        return filled + [1.0 if missing[i] else 0.0 for i in self.indicated]

    def batch(self, table: list[list[Any]]) -> list[list[Any]]:
        """See Transform.batch."""
        return [list(column) for column in zip(*map(self.row, zip(*table, strict=True)), strict=True)]

    def _missing(self, value: Any, absent: str) -> bool:
        if value is None or value != value:
            if absent == "Refused":
                raise Refused("a value is missing; this model takes no missing values there")
            return absent == "Missing"
        return self.marker is not None and bool(value == self.marker)
