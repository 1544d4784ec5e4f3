"""ONNX graphs as scikit-learn's estimators, so that everything that judges, explains and packages a model takes them.

They are asked through the very code that serves them, so what the server answers is what was judged.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from kaizen.serving.engine import frames
from kaizen.serving.engine.base import ENGINE_FILE, FORMAT, GRAPH_FILE, Column, Input, Refused
from kaizen.serving.engine.onnx import Graph, Unmappable, session
from kaizen.training.data.prepare import Rows
from kaizen.training.errors import Failure
from kaizen.training.models.onnx_mapping import features_of, map_inputs, map_outputs

if TYPE_CHECKING:
    from kaizen.api.training_data import Data

__all__ = ["OnnxClassifier", "OnnxModel", "OnnxRegressor", "save", "to_estimator"]

STEP = "Train"
TRIED_ROWS = 200
ROWS_AT_ONCE = 10_000
REASON = "the model was made as an ONNX graph"


class OnnxModel(BaseEstimator):  # type: ignore[misc]
    """A graph that answers tables with the columns feature_names_in_."""

    def __init__(self, content: bytes, graph: dict[str, Any], inputs: Sequence[Input], classes: list[Any] | None) -> None:
        self.content = content
        self.graph = graph
        self.inputs = inputs
        self.classes = classes
        self.feature_names_in_ = np.array([one.name for one in inputs], dtype=object)
        self.n_features_in_ = len(inputs)
        if classes is not None:
            self.classes_ = np.array(classes, dtype=object if isinstance(classes[0], str) else None)
        self._loaded: Graph | None = None

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.content)} bytes)"

    def fit(self, *_: Any) -> "OnnxModel":
        """What scikit-learn expects of every estimator; a graph has learned all it will."""
        raise TypeError("an ONNX graph cannot be fitted")

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_loaded": None}

    def predict(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        """Labels or numbers (rows,).  Raises Refused."""
        labels = [label for part, _ in self._answers(frame) for label in part]
        return np.array(labels, dtype=np.float64 if self.classes is None else self.classes_.dtype)

    def _answers(self, frame: pd.DataFrame) -> list[tuple[list[Any], Any]]:
        if self._loaded is None:
            self._loaded = Graph(session(self.content), self.inputs, self.graph, self.classes)
        columns = _columns(frame, self.inputs)
        parts = range(0, len(frame), ROWS_AT_ONCE)
        return [
            self._loaded.answer([one[first : first + ROWS_AT_ONCE] for one in columns], min(ROWS_AT_ONCE, len(frame) - first))
            for first in parts
        ]


class OnnxClassifier(ClassifierMixin, OnnxModel):  # type: ignore[misc]
    """A graph with probabilities."""

    def predict_proba(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Shape (rows, classes).  Raises Refused."""
        parts = [scores for _, scores in self._answers(frame)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes_)))


class OnnxRegressor(RegressorMixin, OnnxModel):  # type: ignore[misc]
    """A graph with one number a row."""


def to_estimator(name: str, content: bytes, train: Rows, task: str) -> OnnxModel:
    """The graph of a file as an estimator for these data.  Raises Failure."""
    known = sorted(pd.unique(pd.Series(train.target)).tolist()) if task == "Classification" else None
    try:
        loaded = session(content)
    except Unmappable as problem:
        raise Failure(STEP, "ModelUnreadable", f"{name} is not served: {problem}") from problem
    try:
        named = features_of(loaded, _datatypes(train.frame))
        wanted = list(dict.fromkeys(column for columns in named.values() for column in columns))
        inputs = [Input(column, _datatype(train.frame, column), True) for column in wanted]
        mapped = map_inputs(loaded, named, inputs)
        some = train.frame.iloc[np.unique(np.linspace(0, len(train) - 1, TRIED_ROWS).astype(int))]
        whole = some.dropna(subset=wanted)
        some = whole if len(whole) else some
        graph, classes = map_outputs(loaded, mapped, inputs, _columns(some, inputs), len(some), known)
    except Unmappable as problem:
        raise Failure(STEP, "OnnxNotMapped", f"{name} does not say how to use it: {problem}") from problem
    except Refused as problem:
        raise Failure(STEP, "ModelCannotPredict", f"{name} does not answer the rows of the data: {problem}") from problem
    return (OnnxRegressor if classes is None else OnnxClassifier)(content, graph, inputs, classes)


def save(model: OnnxModel, threshold: float | None, frame: pd.DataFrame, data: "Data", directory: Path) -> str:
    """Write the graph and engine.json; returns the modelDigest.  `frame` has rows to find out which columns may be missing."""
    document = {
        "format": FORMAT,
        "kind": "onnx",
        "reason": REASON,
        "task": "Regression" if model.classes is None else "Classification",
        "inputs": [
            {"name": one.name, "datatype": one.datatype, "nullable": _nullable(model, frame, one)} for one in model.inputs
        ],
        "classes": model.classes,
        "threshold": threshold,
        "keys": list(data.keys),
        "timestamp": data.timestamp,
        "graph": model.graph,
    }
    (directory / GRAPH_FILE).write_bytes(model.content)
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"
    (directory / ENGINE_FILE).write_text(text)
    return "sha256:" + hashlib.sha256(text.encode() + b"\0" + model.content).hexdigest()


def _nullable(model: OnnxModel, frame: pd.DataFrame, column: Input) -> bool:
    names = [one.name for one in model.inputs]
    whole = frame[names].dropna()
    row = (whole if len(whole) else frame[names]).head(1).astype({column.name: object})
    row[column.name] = None
    try:
        model.predict(row)
    except Refused:
        return False
    return True


def _datatypes(frame: pd.DataFrame) -> dict[str, str]:
    """Columns that can go into a graph; dates have no type there."""
    return {str(name): found for name in frame if frame[name].dtype.kind != "M" and (found := frames.datatype(frame[name]))}


def _datatype(frame: pd.DataFrame, name: str) -> Any:
    return frames.datatype(frame[name])


def _columns(frame: pd.DataFrame, inputs: Sequence[Input]) -> list[Column]:
    """As the server prepares them."""
    made: list[Column] = []
    for one in inputs:
        column = frame[one.name]
        if one.datatype == "BYTES":
            made.append([None if value is None or value != value else value for value in column.tolist()])
        else:
            made.append(column.to_numpy() if column.dtype.kind in "biuf" else column.to_numpy(dtype=np.float64))
    return made
