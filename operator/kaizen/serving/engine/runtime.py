"""The server's side of the engine: load a model directory's engine and answer, with NumPy and ctypes alone.

Few rows are answered one by one in plain Python, where NumPy's fixed cost per call would dominate; many rows by columns.
Both are checked against scikit-learn at packaging.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaizen.serving.engine import models, transforms
from kaizen.serving.engine.base import (
    ENGINE_FILE,
    FORMAT,
    Answer,
    Column,
    Engine,
    EngineError,
    Input,
    Label,
    Matrix,
    Refused,
    Task,
    prepare,
)

__all__ = ["Answer", "Engine", "EngineError", "Input", "Refused", "load"]

ONE_BY_ONE = 3
"""Up to so many rows are answered one by one."""


class Header:
    """What every engine says of itself, from engine.json."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.task: Task = document["task"]
        self.inputs: tuple[Input, ...] = tuple(Input(**one) for one in document["inputs"])
        self.classes: tuple[Label, ...] | None = None if document["classes"] is None else tuple(document["classes"])
        self.threshold: float | None = document["threshold"]
        self.keys: tuple[str, ...] = tuple(document["keys"])
        self.timestamp: str | None = document["timestamp"]

    def columns(self, data: Mapping[str, Sequence[Any] | NDArray[Any]]) -> list[Column]:
        """See Engine.columns."""
        return prepare(self.inputs, data)


class _Branch:
    """Some inputs and what happens to them: one entry of a ColumnTransformer."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.columns: list[int] = document["columns"]
        self.lists: bool = document["read"] == "Lists"
        self.steps = [transforms.restore(step) for step in document["steps"]]
        self.rows = [step.row for step in self.steps]

    def batch(self, columns: list[Column], rows: int) -> Matrix:
        """A matrix of shape (rows, what this branch gives)."""
        chosen = [columns[i] for i in self.columns]
        table: Any
        if self.lists:
            table = [column if isinstance(column, list) else column.tolist() for column in chosen]
        else:
            table = np.empty((rows, len(chosen)))
            for i, column in enumerate(chosen):
                table[:, i] = column
        for step in self.steps:
            table = step.batch(table)
        matrix: Matrix = table
        return matrix


class Compiled(Header):
    """The compiled engine: branches over the inputs, steps over their concatenation, the model."""

    def __init__(self, document: Mapping[str, Any], directory: Path) -> None:
        super().__init__(document)
        self._branches = [_Branch(branch) for branch in document["branches"]]
        self._after = [transforms.restore(step) for step in document["after"]]
        self._model = models.restore(document["model"], directory)
        self._per_row = [(branch.columns, branch.rows) for branch in self._branches]
        self._after_rows = [step.row for step in self._after]

    def predict(self, columns: list[Column], rows: int) -> Answer:
        """See Engine.predict."""
        if rows <= ONE_BY_ONE:
            lists = [column if type(column) is list else column.tolist() for column in columns]  # type: ignore[union-attr]
            return self._assemble([self._row([values[i] for values in lists]) for i in range(rows)])
        with np.errstate(all="ignore"):  # what overflows is refused, or infinite as scikit-learn's answer is
            indices, scores = self._model.batch(self._matrix(columns, rows))
        if self.classes is None:
            return Answer(scores[:, 0].tolist(), None, 0)
        if self.threshold is not None:
            indices = (scores[:, 1] >= self.threshold).astype(np.intp)
        classes = self.classes
        return Answer([classes[i] for i in indices.tolist()], scores.ravel().tolist(), len(classes))

    def _matrix(self, columns: list[Column], rows: int) -> Matrix:
        parts = [branch.batch(columns, rows) for branch in self._branches]
        matrix = parts[0] if len(parts) == 1 else np.hstack(parts)
        for step in self._after:
            matrix = step.batch(matrix)
        return matrix

    def _row(self, values: list[Any]) -> tuple[int, list[float]]:
        row: list[Any] = []
        for columns, steps in self._per_row:
            part = [values[i] for i in columns]
            for step in steps:
                part = step(part)
            row += part
        for step in self._after_rows:
            row = step(row)
        return self._model.row(row)

    def _assemble(self, rows: list[tuple[int, list[float]]]) -> Answer:
        if self.classes is None:
            return Answer([scores[0] for _, scores in rows], None, 0)
        threshold, classes = self.threshold, self.classes
        if threshold is not None:
            rows = [(1 if scores[1] >= threshold else 0, scores) for _, scores in rows]
        flat = rows[0][1] if len(rows) == 1 else [score for _, scores in rows for score in scores]
        return Answer([classes[index] for index, _ in rows], flat, len(classes))


def load(directory: Path) -> Engine:
    """The engine of a model directory whose files were already verified.

    Raises EngineError: another format, an engine this image lacks the packages for, or parts that do not fit together.
    """
    try:
        document = json.loads((directory / ENGINE_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise EngineError(f"{ENGINE_FILE} cannot be read: {error}") from error
    if document.get("format") != FORMAT:
        raise EngineError(f"{ENGINE_FILE} has format {document.get('format')!r}; this server reads {FORMAT}")
    try:
        if document["kind"] == "compiled":
            return Compiled(document, directory)
        if document["kind"] == "sklearn":
            return _sklearn(document, directory)
    except (KeyError, TypeError, IndexError) as error:
        raise EngineError(f"{ENGINE_FILE} does not fit this version of the server: {error!r}") from error
    raise EngineError(f"{ENGINE_FILE} asks for an engine {document['kind']!r}; this server knows compiled and sklearn")


def _sklearn(document: Mapping[str, Any], directory: Path) -> Engine:
    try:
        from kaizen.serving.engine.sklearn import Fallback
    except ImportError as error:
        raise EngineError(
            f"this model runs in scikit-learn itself ({document['reason']}), which this image lacks ({error.name}); "
            "use the server-sklearn image"
        ) from error
    return Fallback(document, directory)
