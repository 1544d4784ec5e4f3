"""Answers and descriptions of the model as JSON, in the shapes of the Open Inference Protocol v2 and of v1.  Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec

from kaizen import __version__
from kaizen.serving.engine.base import CLASSIFICATION, Answer, Engine, Label
from kaizen.serving.protocol import Parsed

__all__ = ["Renderer", "error", "monitored"]

_encode = msgspec.json.Encoder().encode

PLATFORMS = {"compiled": "kaizen-compiled", "sklearn": "scikit-learn"}


class _Output(msgspec.Struct, omit_defaults=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Sequence[Any]
    parameters: dict[str, str] | None = None


class _Response(msgspec.Struct, omit_defaults=True):
    model_name: str
    id: str
    outputs: list[_Output]
    model_version: str | None = None


def error(message: str) -> bytes:
    """The body of every answer that is not a success."""
    return _encode({"error": message})


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
    """Renders the answers of one model."""

    def __init__(self, name: str, version: int | None, engine: Engine, kind: str) -> None:
        self._name, self._version, self._engine, self._kind = name, None if version is None else str(version), engine, kind
        classes: tuple[Label, ...] = engine.classes or ()
        self._datatype = datatype_of(classes) if engine.task == CLASSIFICATION else "FP64"
        # The protocol allows strings, numbers and booleans as parameters: a list has to be JSON inside JSON.
        self._classes = {"classes": _encode(classes).decode()} if engine.task == CLASSIFICATION else None
        self.outputs = ("predict", "predict_proba", "id") if engine.task == CLASSIFICATION else ("predict", "id")

    def infer(self, parsed: Parsed, answer: Answer) -> bytes:
        """The body that answers a v2 inference request."""
        rows, wanted = parsed.rows, parsed.outputs
        outputs: list[_Output] = []
        if wanted is None or "predict" in wanted:
            outputs.append(_Output("predict", self._datatype, (rows,), answer.labels))
        if answer.scores is not None and (wanted is None or "predict_proba" in wanted):
            outputs.append(_Output("predict_proba", "FP64", (rows, answer.classes), answer.scores, self._classes))
        if wanted is None or "id" in wanted:
            ids = [f"{parsed.id}-0"] if rows == 1 else [f"{parsed.id}-{row}" for row in range(rows)]
            outputs.append(_Output("id", "BYTES", (rows,), ids))
        return _encode(_Response(self._name, parsed.id, outputs, self._version))

    def predictions(self, answer: Answer) -> bytes:
        """The body that answers a v1 request."""
        return _encode({"predictions": answer.labels})

    def server(self) -> bytes:
        """GET /v2."""
        return _encode({"name": "kaizen", "version": __version__, "extensions": []})

    def model(self) -> bytes:
        """GET /v2/models/NAME."""
        engine = self._engine
        outputs: list[dict[str, Any]] = [{"name": "predict", "datatype": self._datatype, "shape": [-1]}]
        if self._classes is not None:
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

    def model_ready(self, ready: bool) -> bytes:
        """GET /v2/models/NAME/ready."""
        return _encode({"name": self._name, "ready": ready})


def datatype_of(labels: Sequence[Label]) -> str:
    """The protocol's name for the type of class labels; mixed ones are numbers."""
    kinds = {type(label) for label in labels}
    if kinds == {str}:
        return "BYTES"
    if kinds == {bool}:
        return "BOOL"
    return "INT64" if kinds == {int} else "FP64"
