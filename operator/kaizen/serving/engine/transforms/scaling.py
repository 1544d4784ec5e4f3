"""Numbers to numbers, column by column, in plain arithmetic: scalers, weights, limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kaizen.serving.engine.base import Matrix
from kaizen.serving.engine.transforms.common import Document, Reads, Takes, refuse, refuse_batch

__all__ = ["Binarize", "Clip", "Line", "Multiply", "Scale"]


@dataclass(frozen=True)
class Scale(Document):
    """StandardScaler, RobustScaler, MaxAbsScaler: (x - centre) / scale."""

    centre: list[float]
    scale: list[float]
    reads: ClassVar[Reads] = "Matrix"

    def __post_init__(self) -> None:
        object.__setattr__(self, "_arrays", (np.array(self.centre), np.array(self.scale)))

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        total = sum(values)
        if total - total != 0.0:
            refuse(values, "Missing")
        return [(value - centre) / scale for value, centre, scale in zip(values, self.centre, self.scale, strict=True)]

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        refuse_batch(table, "Missing")
        centre, scale = self._arrays  # type: ignore[attr-defined]
        centred: Matrix = table - centre
        centred /= scale
        return centred


@dataclass(frozen=True)
class Line(Document):
    """MinMaxScaler, and scalers of a sparse matrix: x * slope + start."""

    slope: list[float]
    start: list[float]
    reads: ClassVar[Reads] = "Matrix"

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        refuse(values, "Missing")
        return [value * slope + start for value, slope, start in zip(values, self.slope, self.start, strict=True)]

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        refuse_batch(table, "Missing")
        scaled: Matrix = table * np.array(self.slope)
        scaled += np.array(self.start)
        return scaled


@dataclass(frozen=True)
class Clip(Document):
    """What a scaler with `clip` does in the end."""

    low: float
    high: float
    reads: ClassVar[Reads] = "Matrix"

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        low, high = self.low, self.high
        return [low if value < low else high if value > high else value for value in values]

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        return np.clip(table, self.low, self.high)


@dataclass(frozen=True)
class Multiply(Document):
    """A weight of ColumnTransformer or FeatureUnion."""

    factor: float
    reads: ClassVar[Reads] = "Matrix"

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        return [value * self.factor for value in values]

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        return table * self.factor


@dataclass(frozen=True)
class Binarize(Document):
    """Binarizer: 1 above the threshold, else 0."""

    threshold: float
    takes: Takes
    reads: ClassVar[Reads] = "Matrix"

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        refuse(values, self.takes)
        return [1.0 if float(value) > self.threshold else 0.0 for value in values]

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        refuse_batch(table, self.takes)
        return (table > self.threshold).astype(np.float64)
