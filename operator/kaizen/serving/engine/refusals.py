"""Which row and which input an engine's refusal is about, found by asking it again."""

from collections.abc import Callable, Sequence
from typing import Any

from kaizen.serving.engine.base import Engine, Prepared, Refused, as_rows, some_rows

__all__ = ["located"]


def located(engine: Engine, columns: Prepared, rows: int, known: Sequence[Any] | None, refusal: Refused) -> Refused:
    """The refusal of these rows with its place, as far as that is found; `known` is a row that the engine answers.

    Rows are halved until one is left, then its inputs: together the calls have about as many rows as the refused one.
    """

    def refused(columns: Prepared, rows: int) -> bool:
        try:
            engine.predict(columns, rows)
        except Refused:
            return True
        return False

    row = _first(rows, lambda first, last: refused(some_rows(columns, first, last), last - first))
    values = as_rows(some_rows(columns, row, row + 1))[0]
    if not refused(tuple(values), 1):
        return refusal  # it is about all rows together, or about what else was asked
    place = "row {row}"
    if known is not None:

        def mixed(first: int, last: int) -> tuple[Any, ...]:
            return (*known[:first], *values[first:last], *known[last:])

        column = _first(len(values), lambda first, last: refused(mixed(first, last), 1))
        if refused(mixed(column, column + 1), 1):
            place = f"input {_literal(repr(engine.inputs[column].name))}, {place}"
    return Refused(f"{place}: {_literal(refusal)}", row)


def _literal(text: object) -> str:
    """As it is in what str.format is given."""
    return str(text).replace("{", "{{").replace("}", "}}")


def _first(size: int, fails: Callable[[int, int], bool]) -> int:
    """A place at which a range fails that fails as a whole: the first where places fail by themselves."""
    first, last = 0, size
    while last - first > 1:
        middle = (first + last) // 2
        if fails(first, middle):
            last = middle
        else:
            first = middle
    return first
