"""Columns that go different ways: ColumnTransformer and FeatureUnion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np

from kaizen.serving.engine.base import Column
from kaizen.serving.engine.transforms.common import (
    Document,
    Reads,
    Table,
    Takes,
    Transform,
    as_matrix,
    refuse,
    refuse_batch,
    through,
)

__all__ = ["Columns", "Part", "Select"]


def _picker(columns: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Takes these columns from a row, in one call."""
    first, last = columns[0], columns[-1] + 1
    if list(columns) == list(range(first, last)):
        return itemgetter(slice(first, last))
    return itemgetter(*columns) if len(columns) > 1 else itemgetter(slice(first, last))


@dataclass(frozen=True)
class Part:
    """Some columns and what happens to them."""

    columns: list[int]
    steps: list[Transform]

    def batch(self, table: Table) -> Table:
        """What the steps make of these columns; a matrix wherever all are numbers."""
        chosen = [table[i] for i in self.columns] if isinstance(table, list) else table[:, self.columns]
        made = through(self.steps, chosen)
        return made if isinstance(made, list) and any(map(_is_text, made)) else as_matrix(made)


def _is_text(column: Column) -> bool:
    return isinstance(column, list) and (type(column[0]) is str or column[0] is None)


@dataclass(frozen=True)
class Columns:
    """Parts of the columns, each through steps of its own, side by side again in the order of the parts."""

    parts: list[Part]
    reads: ClassVar[Reads] = "Any"

    def __post_init__(self) -> None:
        rows = [(_picker(part.columns), [step.row for step in part.steps]) for part in self.parts]
        object.__setattr__(self, "_rows", rows)

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        made: list[Any] = []
        for pick, steps in self._rows:  # type: ignore[attr-defined]
            part = pick(values)
            for step in steps:
                part = step(part)
            made += part
        return made

    def batch(self, table: Table) -> Table:
        """See Transform.batch."""
        parts = [part.batch(table) for part in self.parts]
        if any(isinstance(part, list) for part in parts):
            return [column for part in parts for column in (part if isinstance(part, list) else part.T)]
        return parts[0] if len(parts) == 1 else np.hstack(parts)

    def document(self) -> dict[str, Any]:
        """See Transform.document."""
        parts = [{"columns": part.columns, "steps": [step.document() for step in part.steps]} for part in self.parts]
        return {"name": "Columns", "parts": parts}


@dataclass(frozen=True)
class Select(Document):
    """Feature selection: the columns that are kept, once all of them were checked."""

    kept: list[int]
    takes: Takes
    reads: ClassVar[Reads] = "Matrix"

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pick", _picker(self.kept))

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        refuse(values, self.takes)
        return list(self._pick(values))  # type: ignore[attr-defined]

    def batch(self, table: Any) -> Any:
        """See Transform.batch."""
        refuse_batch(table, self.takes)
        return table[:, self.kept]
