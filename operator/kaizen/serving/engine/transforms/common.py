"""What every transform is, and the tables that pass from one to the next.

A table is a list of columns, or a float64 matrix (rows, columns) once everything in it is a number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from math import inf
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from kaizen.serving.engine.base import Column, Matrix, Refused

__all__ = [
    "NAN",
    "Document",
    "OneRow",
    "Reads",
    "Table",
    "Takes",
    "Transform",
    "as_lists",
    "as_matrix",
    "as_read",
    "refuse",
    "refuse_batch",
    "refuse_infinite",
    "refuse_infinite_batch",
    "through",
]

Table = list[Column] | Matrix
Reads = Literal["Matrix", "Lists", "Any"]
"""What a batch must be: Lists are columns of the values themselves, which are looked up or are texts."""
Takes = Literal["Finite", "Missing", "Present", "Any"]
"""Numbers that a scikit-learn transformer lets pass: finite ones; or also NaN; or also infinite ones; or all."""

NAN = float("nan")

_INFINITE = "a value is infinite, or too large for a 64-bit number"
_NOT_FINITE = "a value is missing or infinite, or too large; this model takes neither"


class Transform(Protocol):
    """A fitted transformer."""

    reads: ClassVar[Reads]

    def row(self, values: Sequence[Any]) -> list[Any]:
        """One row in, one row out.  Must not change its argument."""

    def batch(self, table: Any) -> Any:
        """A table as `reads` says in, a table out.  Must not change its argument."""

    def document(self) -> dict[str, Any]:
        """JSON from which `restore` makes an equal transform."""


class Document:
    """The document of a dataclass whose fields are JSON."""

    def document(self) -> dict[str, Any]:
        """Name and fields."""
        return {"name": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


class OneRow(Document):
    """A row answered as a batch of one: for what needs NumPy's functions, whose last bits plain Python has not."""

    reads: ClassVar[Reads] = "Matrix"

    @np.errstate(all="ignore")  # as a decorator: half the cost of a with statement
    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        made: list[Any] = self.batch(np.array([values], dtype=np.float64))[0].tolist()
        return made

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        raise NotImplementedError


def as_matrix(table: Table) -> Matrix:
    """The same numbers as a matrix (rows, columns)."""
    if not isinstance(table, list):
        return table
    matrix = np.empty((len(table[0]), len(table)))
    for i, column in enumerate(table):
        matrix[:, i] = column
    return matrix


def as_lists(table: Table) -> list[list[Any]]:
    """The same values as lists, one a column."""
    if not isinstance(table, list):
        made: list[list[Any]] = table.T.tolist()
        return made
    return [column if isinstance(column, list) else column.tolist() for column in table]


def as_read(table: Table, reads: Reads) -> Any:
    """The table in the form that a step, or a model, reads."""
    return as_matrix(table) if reads == "Matrix" else as_lists(table) if reads == "Lists" else table


def through(steps: Iterable[Transform], table: Table) -> Table:
    """What the steps make of a batch, one after the other."""
    for step in steps:
        table = step.batch(as_read(table, step.reads))
    return table


def refuse_infinite(values: Sequence[Any]) -> None:
    """scikit-learn's check of finite values, missing ones allowed; a sum finds out whether there is anything to look for."""
    total = sum(values)
    if total - total != 0.0 and (inf in values or -inf in values):
        raise Refused(_INFINITE)


def refuse_infinite_batch(matrix: Matrix) -> None:
    """The same for a matrix."""
    if np.isinf(matrix).any():
        raise Refused(_INFINITE)


def refuse(values: Sequence[Any], takes: Takes) -> None:
    """Raises Refused when a row holds numbers that are not taken."""
    total = sum(values)
    if total - total != 0.0 and takes != "Any":
        if takes != "Present" and (inf in values or -inf in values):
            raise Refused(_INFINITE)
        if takes != "Missing" and any(value != value for value in values):
            raise Refused(_NOT_FINITE)


def refuse_batch(matrix: Matrix, takes: Takes) -> None:
    """The same for a matrix."""
    if takes == "Missing":
        refuse_infinite_batch(matrix)
    elif takes != "Any" and not (np.isfinite(matrix) if takes == "Finite" else ~np.isnan(matrix)).all():
        raise Refused(_NOT_FINITE)
