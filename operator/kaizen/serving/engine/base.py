"""The vocabulary of every engine: inputs, answers, refusals, and the protocol that the server speaks with.

NumPy and the standard library only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLASSIFICATION",
    "ENGINE_FILE",
    "FORMAT",
    "GRAPH_FILE",
    "MODEL_FILE",
    "REGRESSION",
    "Answer",
    "Attributions",
    "Column",
    "Datatype",
    "Engine",
    "EngineError",
    "Input",
    "Label",
    "Matrix",
    "Prepared",
    "Refused",
    "Row",
    "Task",
    "Value",
    "as_columns",
    "as_rows",
    "joined",
    "prepare",
    "some_rows",
]

FORMAT = 2
ENGINE_FILE = "engine.json"
MODEL_FILE = "model.skops"
GRAPH_FILE = "model.onnx"

Task = Literal["Classification", "Regression"]
CLASSIFICATION: Task = "Classification"
REGRESSION: Task = "Regression"

Datatype = Literal["FP64", "INT64", "BYTES", "BOOL"]
Value = float | int | bool | str | None
"""One cell of a request.  Missing is None for a string and NaN for a number, once prepared."""
Label = str | int | float | bool
Matrix = NDArray[np.float64]
Column = list[Any] | NDArray[Any]
"""One prepared input: a list of values, or an array as a binary tensor brings it."""
Row = tuple[Any, ...]
"""The only value of each prepared input."""
Prepared = list[Column] | Matrix | Row
"""Prepared rows, as they came: columns; a matrix (rows, inputs) where all are numbers; or, of one row, its values.

Most requests are one row, and making a list of each of its values, for others to take it out again, costs as much as to answer.
"""


class Refused(ValueError):
    """A row that scikit-learn would refuse as well, or a value that is not of its column's type: the client's mistake."""

    def __init__(self, message: str, row: int | None = None) -> None:
        """`row` is the one that is meant, of those that were asked for; it stands for {row} in the message."""
        super().__init__(message if row is None else message.format(row=row))
        self._message, self.row = message, row

    def after(self, rows: int) -> "Refused":
        """The same where these rows come after others."""
        return self if self.row is None else Refused(self._message, self.row + rows)


class EngineError(Exception):
    """The model directory or the native library is not what this server can run."""


@dataclass(frozen=True)
class Input:
    """One column that the pipeline reads."""

    name: str
    datatype: Datatype
    nullable: bool
    """Whether the pipeline answers when this column is missing."""


class Answer:
    """What the model says of each row, as lists (for JSON) and as arrays."""

    __slots__ = ("classes", "labels", "scores")

    def __init__(self, labels: list[Label], scores: list[float] | None, classes: int) -> None:
        self.labels = labels
        """One a row: the class, or the predicted number."""
        self.scores = scores
        """Probabilities, row by row, `classes` of them each; None for a regression."""
        self.classes = classes

    @property
    def predict(self) -> NDArray[Any]:
        """Labels or numbers, shape (rows,); strings are objects."""
        return np.array(self.labels, dtype=object if self.labels and isinstance(self.labels[0], str) else None)

    @property
    def probabilities(self) -> Matrix | None:
        """Shape (rows, classes), or None for a regression."""
        return None if self.scores is None else np.array(self.scores, dtype=np.float64).reshape(-1, self.classes)


@dataclass(frozen=True)
class Attributions:
    """What each input added to each score of each row; with the base they add up to the score."""

    inputs: tuple[str, ...]
    outputs: int
    """1 for a regression and for two classes, of which it is the second; else the number of classes."""
    base: list[float]
    """One an output: the score when nothing is known of the row."""
    values: list[float]
    """Row by row, output by output: rows x outputs x inputs."""
    unit: str = "score"
    """Of base and values: number, probability, log-odds, logarithm (of the number), or the model's own score."""


class Engine(Protocol):
    """What the server asks of an engine.  Not for several threads at once: rows share kept buffers."""

    @property
    def inputs(self) -> tuple[Input, ...]: ...

    @property
    def classes(self) -> tuple[Label, ...] | None: ...

    @property
    def task(self) -> Task: ...

    @property
    def threshold(self) -> float | None:
        """Binary classification: at or above this probability the answer is the second class; None: the model's own rule."""

    @property
    def keys(self) -> tuple[str, ...]: ...

    @property
    def timestamp(self) -> str | None: ...

    @property
    def joins(self) -> bool:
        """Whether a call costs far more than a row: the caller then joins the requests that wait into one predict."""

    def columns(self, data: Mapping[str, Sequence[Any] | NDArray[Any]]) -> list[Column]:
        """The inputs in the engine's order, types checked.  Other names in `data` are left alone.

        Raises Refused: an input is absent, a value is of another type, or missing where the pipeline takes none.
        """

    def predict(self, columns: Prepared, rows: int) -> Answer:
        """Answers for `rows` prepared rows.  Raises Refused where scikit-learn would raise."""

    def explain(self, columns: Prepared, rows: int) -> Attributions:
        """What each input added to the scores.  Raises Refused: where `predict` does, or this model has no explanations."""


_NUMBERS: frozenset[type] = frozenset({float, int, type(None)})
_ACCEPTED: Mapping[Datatype, frozenset[type]] = {
    "FP64": _NUMBERS,
    "INT64": _NUMBERS,
    "BOOL": frozenset({bool, type(None)}),
    "BYTES": frozenset({str, type(None)}),
}
_PLAIN: Mapping[Datatype, frozenset[type]] = {datatype: accepted - {int, type(None)} for datatype, accepted in _ACCEPTED.items()}
"""Types of values that need no second look."""
_WANTED: Mapping[Datatype, str] = {
    "FP64": "a number",
    "INT64": "a number",
    "BOOL": "true or false",
    "BYTES": "a string",
}
_NAN = float("nan")
_LARGEST = 2**63


def prepare(inputs: Sequence[Input], data: Mapping[str, Sequence[Any] | NDArray[Any]]) -> list[Column]:
    """The columns of a request in the order of `inputs`: types checked, None of a number turned into NaN.

    Raises Refused naming the input, and the row where there is more than one.
    """
    prepared: list[Column] = []
    for wanted in inputs:
        try:
            values = data[wanted.name]
        except KeyError:
            raise Refused(f"input {wanted.name!r} is missing") from None
        if isinstance(values, np.ndarray):
            prepared.append(_array(wanted, values))
        elif len(values) == 1:
            value = values[0]
            prepared.append([value if type(value) in _PLAIN[wanted.datatype] else _value(wanted, value, None)])
        else:
            prepared.append(_list(wanted, values))
    return prepared


def as_columns(prepared: Prepared) -> list[Column]:
    """Prepared rows column by column."""
    if isinstance(prepared, list):
        return prepared
    return [[value] for value in prepared] if isinstance(prepared, tuple) else prepared.T.tolist()


def as_rows(prepared: Prepared) -> Sequence[Sequence[Any]]:
    """Prepared rows row by row."""
    if isinstance(prepared, tuple):
        return [prepared]
    if not isinstance(prepared, list):
        return prepared.tolist()  # type: ignore[no-any-return]
    lists = [column if isinstance(column, list) else column.tolist() for column in prepared]
    return list(zip(*lists, strict=True))


def some_rows(prepared: Prepared, first: int, last: int) -> Prepared:
    """Those from the first until before the last; of one row that row."""
    if isinstance(prepared, tuple):
        return prepared
    return [column[first:last] for column in prepared] if isinstance(prepared, list) else prepared[first:last]


def joined(parts: Sequence[Prepared]) -> list[Column]:
    """The rows of all, one after another."""
    if all(isinstance(part, tuple) for part in parts):
        return [list(column) for column in zip(*parts, strict=True)]
    return [_joined(column) for column in zip(*map(as_columns, parts), strict=True)]


def _joined(columns: Sequence[Column]) -> Column:
    if all(isinstance(column, list) for column in columns):
        return [value for column in columns for value in column]
    return np.concatenate([np.asarray(column) for column in columns])


def _value(wanted: Input, value: Value, row: int | None) -> Value:
    kind = type(value)
    if kind not in _ACCEPTED[wanted.datatype]:
        raise Refused(f"{_place(wanted, row)} must be {_WANTED[wanted.datatype]}, not {value!r:.80}")
    if value is None:
        if not wanted.nullable:
            raise Refused(f"{_place(wanted, row)} must not be missing: the model was trained without missing values there")
        return None if wanted.datatype == "BYTES" else _NAN
    if kind is int and not -_LARGEST <= value < _LARGEST:  # type: ignore[operator]
        raise Refused(f"{_place(wanted, row)} is outside the range of a 64-bit integer")
    return value


def _list(wanted: Input, values: Sequence[Any]) -> list[Any]:
    kinds = set(map(type, values))
    if len(kinds) == 1 and next(iter(kinds)) in _PLAIN[wanted.datatype]:
        return values if isinstance(values, list) else list(values)
    return [_value(wanted, value, row) for row, value in enumerate(values)]


def _array(wanted: Input, values: NDArray[Any]) -> Column:
    if values.ndim != 1:
        raise Refused(f"input {wanted.name!r} must have one value a row")
    kind = values.dtype.kind
    if kind == "O" or (kind == "U" and wanted.datatype == "BYTES"):
        return _list(wanted, values.tolist())
    if kind not in ("b" if wanted.datatype == "BOOL" else "" if wanted.datatype == "BYTES" else "fiu"):
        raise Refused(f"input {wanted.name!r} must be {_WANTED[wanted.datatype]}, not {values.dtype}")
    return values


def _place(wanted: Input, row: int | None) -> str:
    return f"input {wanted.name!r}" + ("" if row is None else f", row {row},")
