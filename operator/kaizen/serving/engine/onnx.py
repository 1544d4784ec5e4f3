"""ONNX graphs as an engine, for models that arrive as ONNX: onnxruntime answers, in the server-sklearn image and the trainer.

Which column goes where, and which output is what, was found out and tried at packaging and stands in engine.json.  A graph is
one file: data in other files, and operators that a library of its own would have to bring, are refused before it is loaded.
Imports onnxruntime and protobuf.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from kaizen.serving.engine.base import GRAPH_FILE, Answer, Column, EngineError, Input, Matrix, Prepared, Refused, as_columns
from kaizen.serving.engine.runtime import Header
from kaizen.serving.protobuf import Messages

__all__ = ["NUMBERS", "Graph", "Onnx", "Unmappable", "session"]

NUMBERS: Mapping[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(bool)": np.dtype(np.bool_),
}
"""Tensors that columns of numbers go into."""
LONGEST = 300
EXTERNAL = 1
ORT_FORMAT = b"ORTM"
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Of the operators that onnxruntime itself brings."""

_ONNX: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto graph", 25: "repeated FunctionProto functions"},
    "GraphProto": {1: "repeated NodeProto node", 5: "repeated TensorProto initializer", 15: "repeated SparseTensorProto sparse"},
    "FunctionProto": {7: "repeated NodeProto node", 10: "string domain"},
    "NodeProto": {4: "string op_type", 5: "repeated AttributeProto attribute", 7: "string domain"},
    "AttributeProto": {
        5: "TensorProto t",
        6: "GraphProto g",
        10: "repeated TensorProto tensors",
        11: "repeated GraphProto graphs",
        22: "SparseTensorProto sparse",
        23: "repeated SparseTensorProto sparses",
    },
    "TensorProto": {8: "string name", 13: "repeated bytes external_data", 14: "int32 data_location"},
    "SparseTensorProto": {1: "TensorProto values", 2: "TensorProto indices"},
}


class Unmappable(ValueError):
    """A graph that cannot be served; the message says why and what to write instead."""


class Graph:
    """A loaded graph with its mapping: the part of engine.json that says which column goes where."""

    def __init__(self, loaded: Any, inputs: Sequence[Input], mapping: Mapping[str, Any], classes: Sequence[Any] | None) -> None:
        """`mapping`: {inputs: [{name, type, columns, flat}], label, scores, form}, form one of number, columns, maps, second."""
        self._run = loaded.run
        self._feeds = [_Feed(one, inputs) for one in mapping["inputs"]]
        self._classes = None if classes is None else list(classes)
        self._known = {one: one for one in classes or ()}  # 0 and 1 find False and True
        self._form: str = mapping["form"]
        self._label: str | None = mapping["label"]
        self._wanted = [name for name in (mapping["scores"], self._label) if name is not None]

    def answer(self, columns: Sequence[Column], rows: int, *, labelled: bool = True) -> tuple[list[Any], Matrix | None]:
        """Labels (or numbers) and probabilities (or None) of prepared columns; not `labelled`: the first may be anything.

        Raises Refused: values that the graph does not take, or has no finite answer to.
        """
        feed = {one.name: one.tensor(columns, rows) for one in self._feeds}
        try:
            found = self._run(self._wanted if labelled else self._wanted[:1], feed)
        except Exception as error:  # onnxruntime's have no common base
            raise Refused(f"the model does not take these values: {_sentence(error)}") from error
        scores = self._scores(found[0], rows)
        if not np.isfinite(scores).all():
            row = int((~np.isfinite(scores)).any(axis=1).argmax())
            hint = "; send all values" if _gaps(columns, row) else ""
            raise Refused("the model has no finite answer to row {row}" + hint, row)
        if self._classes is None:
            return scores[:, 0].tolist(), None
        if len(found) < 2:
            return [self._classes[i] for i in scores.argmax(axis=1).tolist()], scores
        try:
            return [self._known[label] for label in np.ravel(found[1]).tolist()], scores
        except KeyError as error:
            raise Refused(f"the model answers with {error.args[0]!r}, which is none of its classes") from error

    def _scores(self, found: Any, rows: int) -> Matrix:
        """Shape (rows, classes), or (rows, 1) of numbers."""
        if self._form == "maps":
            assert self._classes is not None
            return np.array([[row[one] for one in self._classes] for row in found], dtype=np.float64)
        table = np.asarray(found, dtype=np.float64).reshape(rows, -1)
        return np.hstack([1.0 - table, table]) if self._form == "second" else table


class Onnx(Header):
    """Answers with an ONNX graph."""

    joins = True
    """A call costs far more than a row."""
    tolerance = 1e-5
    """Relative, of the examples at readiness: single precision on another machine."""

    def __init__(self, document: Mapping[str, Any], directory: Path) -> None:
        super().__init__(document)
        try:
            loaded = session((directory / GRAPH_FILE).read_bytes())
        except (OSError, Unmappable) as error:
            raise EngineError(f"{GRAPH_FILE} cannot be loaded: {error}") from error
        self._graph = Graph(loaded, self.inputs, document["graph"], self.classes)

    def predict(self, columns: Prepared, rows: int) -> Answer:
        """See Engine.predict."""
        if rows == 0:
            return Answer([], None if self.classes is None else [], len(self.classes or ()))
        labels, scores = self._graph.answer(as_columns(columns), rows, labelled=self.threshold is None)
        if scores is None:
            return Answer(labels, None, 0)
        classes = self.classes or ()
        if self.threshold is not None:
            labels = [classes[1] if one >= self.threshold else classes[0] for one in scores[:, 1].tolist()]
        return Answer(labels, scores.ravel().tolist(), len(classes))


def session(content: bytes) -> Any:
    """An onnxruntime session for one thread.  Raises Unmappable."""
    _check(content)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    for kind in ("intra", "inter"):
        options.add_session_config_entry(f"session.{kind}_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's have no common base
        raise Unmappable(f"onnxruntime {onnxruntime.__version__} does not load it: {_sentence(error)}") from error


class _Feed:
    """One input of the graph, made of columns."""

    def __init__(self, document: Mapping[str, Any], inputs: Sequence[Input]) -> None:
        self.name: str = document["name"]
        self._columns: list[int] = document["columns"]
        self._names = [inputs[i].name for i in self._columns]
        self._flat: bool = document["flat"]
        self._dtype: np.dtype[Any] | None = NUMBERS.get(document["type"])

    def tensor(self, columns: Sequence[Column], rows: int) -> NDArray[Any]:
        """Shape (rows, columns), or (rows,)."""
        chosen = [columns[i] for i in self._columns]
        table = self._texts(chosen, rows) if self._dtype is None else self._numbers(chosen, rows, self._dtype)
        return table[:, 0] if self._flat else table

    def _texts(self, chosen: Sequence[Column], rows: int) -> NDArray[Any]:
        """A missing text is the empty one: ONNX has no other."""
        table = np.empty((rows, len(chosen)), dtype=object)
        for place, column in enumerate(chosen):
            table[:, place] = ["" if value is None else value for value in column]
        return table

    def _numbers(self, chosen: Sequence[Column], rows: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        table = np.empty((rows, len(chosen)), dtype=np.float64 if dtype.kind == "f" else dtype)
        for place, column in enumerate(chosen):
            if dtype.kind == "f":
                table[:, place] = column
                continue
            values = np.asarray(column, dtype=None if isinstance(column, np.ndarray) else object)
            try:
                with np.errstate(invalid="ignore"):
                    table[:, place] = whole = values.astype(dtype)
                same = bool((whole == values).all())
            except (ValueError, TypeError, OverflowError):
                same = False
            if not same:
                wanted = "true or false" if dtype.kind == "b" else f"whole numbers of {dtype.itemsize * 8} bits"
                raise Refused(f"input {self._names[place]!r}: the model takes {wanted} there, all of them present")
        if table.dtype == dtype:
            return table
        with np.errstate(over="ignore"):
            rounded = table.astype(dtype)
        if not np.array_equal(np.isinf(rounded), np.isinf(table)):
            place = int((np.isinf(rounded) != np.isinf(table)).any(axis=0).argmax())
            raise Refused(f"input {self._names[place]!r} has a value that is too large for {dtype}, in which the model computes")
        return rounded


def _check(content: bytes) -> None:
    """Refuse what would read other files or run other code.  Raises Unmappable."""
    if content[4:8] == ORT_FORMAT:
        raise Unmappable("it is in onnxruntime's own format; leave the .onnx file that it was made from")
    model = Messages("onnx", _ONNX)["ModelProto"]()
    try:
        model.ParseFromString(content)
    except Exception as error:
        raise Unmappable(f"it is no ONNX file: {_sentence(error)}") from error
    own = {function.domain for function in model.functions}
    nodes = [node for function in model.functions for node in function.node]
    for node, tensors in _walk([model.graph], nodes):
        if node is not None and node.domain not in DOMAINS | own:
            raise Unmappable(
                f"its operator {node.op_type} of {node.domain} comes from a library, which is not loaded; "
                "use operators of ai.onnx and ai.onnx.ml"
            )
        for tensor in tensors:
            if tensor.data_location == EXTERNAL or tensor.external_data:
                raise Unmappable(
                    f"the data of its tensor {tensor.name} are in another file; save it as one file: "
                    "onnx.save(model, path, save_as_external_data=False)"
                )


def _walk(graphs: list[Any], nodes: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """Every node with the tensors in it, and (None, initializers) of every graph."""
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            nodes.extend(graph.node)
            sparse = [tensor for one in graph.sparse for tensor in (one.values, one.indices)]
            yield None, [*graph.initializer, *sparse]
            continue
        node = nodes.pop()
        tensors = []
        for one in node.attribute:
            graphs += [*([one.g] if one.HasField("g") else []), *one.graphs]
            sparse = [tensor for part in (one.sparse, *one.sparses) for tensor in (part.values, part.indices)]
            tensors += [one.t, *one.tensors, *sparse]
        yield node, tensors


def _gaps(columns: Sequence[Column], row: int) -> bool:
    return any(value is None or value != value for value in (column[row] for column in columns))


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:LONGEST]
