"""Answers and descriptions of the model as JSON, in the shapes of the Open Inference Protocol v2 and of v1.  Pure."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import msgspec

from kaizen import __version__
from kaizen.serving.bodies.binary import encoded
from kaizen.serving.bodies.protocol import ATTRIBUTIONS, Parsed
from kaizen.serving.engine.base import CLASSIFICATION, Answer, Attributions, Engine, Label

__all__ = ["Explained", "Renderer", "monitored"]

_encode = msgspec.json.Encoder().encode

KEPT = 64
KEPT_ROWS = 1024
"""For so many numbers of rows, up to this one, their ids are kept as JSON."""
PLATFORMS = {"compiled": "kaizen-compiled", "sklearn": "scikit-learn", "onnx": "onnxruntime"}


class Explained(Answer):
    """An answer with what each input contributed to it."""

    __slots__ = ("attributions",)

    def __init__(self, answer: Answer, attributions: Attributions) -> None:
        super().__init__(answer.labels, answer.scores, answer.classes)
        self.attributions = attributions

    @classmethod
    def joined(cls, answer: Answer, parts: Sequence[Attributions]) -> "Explained":
        """The answer to all rows with what was said of some after some."""
        values = [value for part in parts for value in part.values]
        return cls(answer, replace(parts[0], values=values))


def monitored(answer: Answer) -> list[Any]:
    """The one number a row whose distribution is watched, as in the model's reference.

    The probability of the positive class, of the likeliest one when there are several, or the predicted number.
    """
    scores, classes = answer.scores, answer.classes
    if scores is None:
        return answer.labels
    if classes == 2:
        return scores[1::2]
    return [max(scores[first : first + classes]) for first in range(0, len(scores), classes)]


class Renderer:
    """Renders the answers of one model.  What is the same in all answers is rendered once."""

    def __init__(self, name: str, version: int | None, engine: Engine, kind: str) -> None:
        self._name, self._version, self._engine, self._kind = name, None if version is None else str(version), engine, kind
        classes: tuple[Label, ...] = engine.classes or ()
        classifies = engine.task == CLASSIFICATION
        self._datatype = datatype_of(classes) if classifies else "FP64"
        # The protocol allows strings, numbers and booleans as parameters: a list has to be JSON inside JSON.
        self._classes = {"classes": _encode(classes).decode()} if classifies else {}
        probable = classifies and getattr(engine, "probabilities", True)
        self.outputs = ("predict", "predict_proba", "id") if probable else ("predict", "id")
        model = {"model_name": name} if self._version is None else {"model_name": name, "model_version": self._version}
        self._head = _encode(model)[:-1] + b',"id":'
        self._predict = _template("predict", self._datatype, "", {})
        self._probabilities = _template("predict_proba", "FP64", f",{len(classes)}", self._classes)
        self._ids = _template("id", "BYTES", "", {})
        self._numbered = lru_cache(KEPT)(_numbered)

    def infer(self, parsed: Parsed, answer: Answer) -> bytes:
        """The body that answers a v2 inference request, all of it as JSON."""
        rows, wanted, id = parsed.rows, parsed.outputs, _encode(parsed.id)
        outputs: list[bytes] = []
        if wanted is None or "predict" in wanted:
            outputs.append(self._predict % (rows, _encode(answer.labels)))
        if answer.scores is not None and (wanted is None or "predict_proba" in wanted):
            outputs.append(self._probabilities % (rows, _encode(answer.scores)))
        if wanted is None or "id" in wanted:
            outputs.append(
                self._ids % (rows, (self._numbered if rows <= KEPT_ROWS else _numbered)(rows).replace(b"\0", id[1:-1]))
            )
        if parsed.explain:
            outputs.append(_encode(_attributions(rows, answer)))
        return b'%b%b,"outputs":[%b]}' % (self._head, id, b",".join(outputs))

    def infer_binary(self, parsed: Parsed, answer: Answer) -> tuple[bytes, int]:
        """The same with some outputs as bytes behind the JSON, and how long the JSON is."""
        outputs = self.tensors(parsed, answer)
        tail: list[bytes] = []
        for output in outputs:
            if output["name"] in parsed.binary:
                tail.append(encoded(output["datatype"], output.pop("data")))
                output["parameters"] = {**output.get("parameters", {}), "binary_data_size": len(tail[-1])}
        head = b'%b%b,"outputs":%b}' % (self._head, _encode(parsed.id), _encode(outputs))
        return b"".join((head, *tail)), len(head)

    def tensors(self, parsed: Parsed, answer: Answer) -> list[dict[str, Any]]:
        """The outputs that were asked for: {name, datatype, shape, data} and maybe parameters."""
        rows, wanted = parsed.rows, parsed.outputs
        ids = [f"{parsed.id}-{row}" for row in range(rows)]
        found = [_tensor("predict", self._datatype, [rows], answer.labels)]
        if answer.scores is not None:
            found.append(_tensor("predict_proba", "FP64", [rows, answer.classes], answer.scores, self._classes))
        found.append(_tensor("id", "BYTES", [rows], ids))
        chosen = [one for one in found if wanted is None or one["name"] in wanted]
        return [*chosen, _attributions(rows, answer)] if parsed.explain else chosen

    def predictions(self, answer: Answer) -> bytes:
        """The body that answers a v1 request."""
        return _encode({"predictions": answer.labels})

    def server(self) -> bytes:
        """GET /v2."""
        return _encode({"name": "kaizen", "version": __version__, "extensions": ["binary_tensor_data"]})

    def model(self) -> bytes:
        """GET /v2/models/NAME."""
        engine = self._engine
        outputs: list[dict[str, Any]] = [{"name": "predict", "datatype": self._datatype, "shape": [-1]}]
        if "predict_proba" in self.outputs:
            shape = [-1, len(engine.classes or ())]
            outputs.append({"name": "predict_proba", "datatype": "FP64", "shape": shape, "parameters": self._classes})
        outputs.append({"name": "id", "datatype": "BYTES", "shape": [-1]})
        return _encode(
            {
                "name": self._name,
                **({} if self._version is None else {"versions": [self._version]}),
                "platform": PLATFORMS.get(self._kind, self._kind),
                "inputs": [
                    {"name": one.name, "datatype": one.datatype, "shape": [-1], "parameters": {"nullable": one.nullable}}
                    for one in engine.inputs
                ],
                "outputs": outputs,
            }
        )

    def models(self) -> bytes:
        """GET /v2/models, and of v1."""
        return _encode({"models": [self._name]})

    def model_ready(self, ready: bool) -> bytes:
        """GET /v2/models/NAME/ready."""
        return _encode({"name": self._name, "ready": ready})


def _tensor(name: str, datatype: str, shape: list[int], data: Any, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape, "data": data}
    return made | {"parameters": parameters} if parameters else made


def _template(name: str, datatype: str, width: str, parameters: dict[str, str]) -> bytes:
    """An output as JSON, for the number of rows and the data as JSON."""
    fixed = _encode(_tensor(name, datatype, [], [], parameters)).replace(b"%", b"%%")
    return fixed.replace(b'"shape":[]', b'"shape":[%d' + width.encode() + b"]", 1).replace(b'"data":[]', b'"data":%b', 1)


def _numbered(rows: int) -> bytes:
    """The ids of so many rows as JSON, NUL for the request's."""
    return _encode([f"\0-{row}" for row in range(rows)]).replace(b"\\u0000", b"\0")


def _attributions(rows: int, answer: Answer) -> dict[str, Any]:
    assert isinstance(answer, Explained)
    found = answer.attributions
    shape = [rows, len(found.inputs)] if found.outputs == 1 else [rows, found.outputs, len(found.inputs)]
    about = {"base_values": _encode(found.base).decode(), "inputs": _encode(found.inputs).decode(), "unit": found.unit}
    return _tensor(ATTRIBUTIONS, "FP64", shape, found.values, about)


def datatype_of(labels: Sequence[Label]) -> str:
    """The protocol's name for the type of class labels; mixed ones are numbers."""
    kinds = {type(label) for label in labels}
    if kinds == {str}:
        return "BYTES"
    if kinds == {bool}:
        return "BOOL"
    return "INT64" if kinds == {int} else "FP64"
