"""B-splines of numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from kaizen.serving.engine.base import Matrix, Refused
from kaizen.serving.engine.transforms.common import Document, Reads, refuse

__all__ = ["Splines"]


@dataclass(frozen=True)
class Splines(Document):
    """SplineTransformer: each column's B-splines (de Boor 1972) of one degree, beyond the knots as `extrapolation` says."""

    degree: int
    knots: list[list[float]]
    """Of each column."""
    extrapolation: Literal["error", "constant", "linear", "continue", "periodic"]
    last: bool
    """Whether each column's last spline is kept: all of them add up to 1."""
    missing: bool
    """Whether a missing value is taken, as a row of zeros."""
    reads: ClassVar[Reads] = "Matrix"

    @property
    def width(self) -> int:
        """Columns that it writes."""
        return sum(self.count(knots) - (not self.last) for knots in self.knots)

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        refuse(values, "Any" if self.missing else "Finite")
        made: list[Any] = []
        for value, knots in zip(values, self.knots, strict=True):
            splines = self._splines(float(value), knots)
            made += splines if self.last else splines[:-1]
        return made

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        return np.array([self.row(values) for values in table.tolist()])

    def count(self, knots: Sequence[float]) -> int:
        """Splines over these knots; the ends of a period share theirs."""
        return len(knots) - self.degree - 1 - (self.degree if self.extrapolation == "periodic" else 0)

    def _splines(self, value: float, knots: list[float]) -> list[float]:
        first, last = knots[self.degree], knots[-self.degree - 1]
        if value != value:
            return [0.0] * self.count(knots)
        if self.extrapolation == "periodic":
            made = self._at((first + (value - first) % (last - first)) if last > first else 0.0, knots)
            around = self.count(knots)
            return [made[i] + (made[i + around] if i < self.degree else 0.0) for i in range(around)]
        if first <= value <= last or self.extrapolation == "continue":
            return self._at(value, knots)
        if self.extrapolation == "error":
            raise Refused("a value is beyond the knots of this model's splines")
        end = first if value < first else last
        made = self._at(end, knots)
        if self.extrapolation == "constant":
            return made
        return [one + (value - end) * slope for one, slope in zip(made, self._slopes(end, knots), strict=True)]

    def _at(self, value: float, knots: list[float]) -> list[float]:
        """All splines at a value, the outer pieces continued beyond the ends."""
        return _splines_at(value, knots, self.degree)

    def _slopes(self, value: float, knots: list[float]) -> list[float]:
        """Their derivatives."""
        degree = self.degree
        lower = _splines_at(value, knots, degree - 1, degree)
        made = []
        for i in range(len(knots) - degree - 1):
            before, behind = knots[i + degree] - knots[i], knots[i + degree + 1] - knots[i + 1]
            rising = degree * lower[i] / before if before else 0.0
            made.append(rising - (degree * lower[i + 1] / behind if behind else 0.0))
        return made


def _splines_at(value: float, knots: list[float], degree: int, ends: int | None = None) -> list[float]:
    """The splines of a degree at a value; `ends` knots at each end are outside of what is covered."""
    outside = degree if ends is None else ends
    piece = outside
    while piece < len(knots) - outside - 2 and value >= knots[piece + 1]:
        piece += 1
    made = [0.0] * (len(knots) - degree - 1)
    values = [1.0]
    for level in range(1, degree + 1):
        saved, risen = 0.0, []
        for i, one in enumerate(values):
            right, left = knots[piece + i + 1], knots[piece + i + 1 - level]
            share = one / (right - left) if right > left else 0.0
            risen.append(saved + (right - value) * share)
            saved = (value - left) * share
        values = [*risen, saved]
    for i, one in enumerate(values):
        made[piece - degree + i] = one
    return made
