"""Dates and times, which travel as texts, to numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kaizen.serving.engine.base import Matrix
from kaizen.serving.engine.moments import NO_DATE, moment
from kaizen.serving.engine.transforms.common import Document, Reads

__all__ = ["Moments"]


@dataclass(frozen=True)
class Moments(Document):
    """Texts to numbers of units since 1970, as NumPy makes them of dates; a missing one is NumPy's smallest whole number."""

    units: list[str]
    """Of each column as it was in training: s, ms, us or ns."""
    unit: str
    """Of the numbers."""
    reads: ClassVar[Reads] = "Lists"

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        return [
            float(NO_DATE if value is None else moment(value, unit, self.unit))
            for value, unit in zip(values, self.units, strict=True)
        ]

    def batch(self, table: list[list[Any]]) -> Matrix:
        """See Transform.batch."""
        return np.array([self.row(values) for values in zip(*table, strict=True)], dtype=np.float64)
