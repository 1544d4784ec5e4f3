"""The server's side of the engine: load a model directory's engine and answer, with NumPy and ctypes alone.

Few rows are answered one by one in plain Python, where NumPy's fixed cost per call would dominate; many rows by columns.
Both are checked against scikit-learn at packaging.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kaizen.serving.engine import models, transforms
from kaizen.serving.engine.base import (
    ENGINE_FILE,
    FORMAT,
    Answer,
    Attributions,
    Column,
    Engine,
    EngineError,
    Input,
    Label,
    Prepared,
    Refused,
    Row,
    Task,
    as_columns,
    as_rows,
    prepare,
)

if TYPE_CHECKING:
    from kaizen.serving.engine.explanation import Explainer

__all__ = ["Answer", "Engine", "EngineError", "Input", "Refused", "load"]

ONE_BY_ONE = 3
"""Up to so many rows are answered one by one."""
NO_EXPLANATIONS = (
    "this model explains no single answers: only compiled ones do, and this one runs in the library that it comes from; "
    "which inputs matter is in its report, report.html"
)


class Header:
    """What every engine says of itself, from engine.json."""

    joins: bool = False
    """See Engine.joins."""
    tolerance: float = 1e-9
    """Relative, of answers to examples: NumPy's exp gives other last bits on another CPU, and BLAS differs between one row and
    a batch."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.task: Task = document["task"]
        self.inputs: tuple[Input, ...] = tuple(Input(**one) for one in document["inputs"])
        self.classes: tuple[Label, ...] | None = None if document["classes"] is None else tuple(document["classes"])
        self.probabilities: bool = document.get("probabilities", self.classes is not None)
        """Whether a classification has any; a linear support vector machine has not."""
        self.threshold: float | None = document["threshold"]
        self.keys: tuple[str, ...] = tuple(document["keys"])
        self.timestamp: str | None = document["timestamp"]

    def columns(self, data: Mapping[str, Sequence[Any] | NDArray[Any]]) -> list[Column]:
        """See Engine.columns."""
        return prepare(self.inputs, data)

    def explain(self, columns: Prepared, rows: int) -> Attributions:
        """See Engine.explain."""
        raise Refused(NO_EXPLANATIONS)


class Compiled(Header):
    """The compiled engine: steps over the inputs, and the model."""

    def __init__(self, document: Mapping[str, Any], directory: Path) -> None:
        super().__init__(document)
        self._steps = [transforms.restore(step) for step in document["steps"]]
        self._rows = [step.row for step in self._steps]
        self._model = models.restore(document["model"], directory)
        self._last: Callable[[Any], tuple[int, list[float]]] = self._model.row
        if isinstance(self._model, models.Linear) and self._steps and isinstance(self._steps[-1], transforms.Scale):
            self._last = self._model.behind(self._steps[-1])
            self._rows.pop()
        self.tolerance = max(Header.tolerance, document["tolerance"])
        self._explainer: Explainer | None = None

    def predict(self, columns: Prepared, rows: int) -> Answer:
        """See Engine.predict."""
        if isinstance(columns, tuple):
            return self._alone(columns)
        if rows == 1:
            return self._alone(tuple(as_rows(columns)[0]))
        if rows <= ONE_BY_ONE:
            return self._assemble([self._row(values) for values in as_rows(columns)])
        with np.errstate(all="ignore"):  # what overflows is refused, or infinite as scikit-learn's answer is
            indices, scores = self._model.batch(transforms.through(self._steps, columns))
        if self.classes is None:
            return Answer(scores[:, 0].tolist(), None, 0)
        if self.threshold is not None:
            indices = (scores[:, 1] >= self.threshold).astype(np.intp)
        classes = self.classes
        answers = scores.ravel().tolist() if self.probabilities else None
        return Answer([classes[i] for i in indices.tolist()], answers, len(classes))

    def _alone(self, row: Row) -> Answer:
        """What `_assemble` makes of one row, in fewer steps: most requests are one row."""
        values: Any = row
        for step in self._rows:
            values = step(values)
        index, scores = self._last(values)
        classes = self.classes
        if classes is None:
            return Answer([scores[0]], None, 0)
        if self.threshold is not None:
            index = 1 if scores[1] >= self.threshold else 0
        return Answer([classes[index]], scores if self.probabilities else None, len(classes))

    def explain(self, columns: Prepared, rows: int) -> Attributions:
        """See Engine.explain."""
        if self._explainer is None:
            from kaizen.serving.engine.explanation import Explainer  # costs nothing where nobody asks

            answer = "number" if self.classes is None else "probability" if self.probabilities else "score"
            self._explainer = Explainer(self._steps, self._model, [one.name for one in self.inputs], answer)
        return self._explainer.explain(as_columns(columns))

    def _row(self, row: Sequence[Any]) -> tuple[int, list[float]]:
        values: Any = row
        for step in self._rows:
            values = step(values)
        return self._last(values)

    def _assemble(self, rows: list[tuple[int, list[float]]]) -> Answer:
        if self.classes is None:
            return Answer([scores[0] for _, scores in rows], None, 0)
        threshold, classes = self.threshold, self.classes
        if threshold is not None:
            rows = [(1 if scores[1] >= threshold else 0, scores) for _, scores in rows]
        flat = [score for _, scores in rows for score in scores] if self.probabilities else None
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
        if document["kind"] == "onnx":
            return _onnx(document, directory)
    except (KeyError, TypeError, IndexError) as error:
        raise EngineError(f"{ENGINE_FILE} does not fit this version of the server: {error!r}") from error
    raise EngineError(f"{ENGINE_FILE} asks for an engine {document['kind']!r}; this server knows compiled, sklearn and onnx")


def _sklearn(document: Mapping[str, Any], directory: Path) -> Engine:
    try:
        from kaizen.serving.engine.sklearn import Fallback
    except ImportError as error:
        raise EngineError(
            f"this model runs in scikit-learn itself ({document['reason']}), which this image lacks ({error.name}); "
            "use the server-sklearn image"
        ) from error
    return Fallback(document, directory)


def _onnx(document: Mapping[str, Any], directory: Path) -> Engine:
    try:
        from kaizen.serving.engine.onnx import Onnx
    except ImportError as error:
        raise EngineError(
            f"this model is an ONNX graph, for which this image lacks {error.name}; use the server-sklearn image"
        ) from error
    return Onnx(document, directory)
