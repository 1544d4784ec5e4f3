"""The examples that a model brings: rows with scikit-learn's own answers, asked before anybody else asks anything.

They take the path that requests take, as JSON, all at once and one by one, because the engine has a way for each.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kaizen.serving.bodies.answers import Renderer
from kaizen.serving.bodies.protocol import Schema
from kaizen.serving.engine.base import Engine, Input, Refused
from kaizen.serving.problems import RequestError

__all__ = ["body", "difference", "read"]

FILE = "examples.json"
ONE_BY_ONE = 8
"""Rows that are also asked alone."""
TOLERANCE = 1e-9
"""Relative: NumPy's exp gives other last bits on another CPU, and BLAS differs between one row and a batch."""
TINY = 1e-300

Columns = Mapping[str, Sequence[Any]]


def read(directory: Path) -> dict[str, Any] | None:
    """examples.json, or None when the model brings none.  Raises ValueError when it is something else."""
    path = directory / FILE
    if not path.is_file():
        return None
    document = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    if document.get("format") != 1:
        raise ValueError(f"{FILE} has format {document.get('format')!r}; this server reads format 1")
    return document


def body(inputs: Sequence[Input], columns: Columns, rows: slice = slice(None)) -> bytes:
    """The v2 inference request for some rows of columns."""
    tensors = []
    for one in inputs:
        values = list(columns[one.name][rows])
        fractional = one.datatype == "INT64" and any(isinstance(value, float) for value in values)
        datatype = "FP64" if fractional else one.datatype
        tensors.append({"name": one.name, "shape": [len(values)], "datatype": datatype, "data": values})
    return msgspec.json.encode({"inputs": tensors})


def difference(schema: Schema, engine: Engine, renderer: Renderer, document: Mapping[str, Any]) -> str | None:
    """What the model answers otherwise than scikit-learn did, in words; None when nothing."""
    total, tolerance = document["rows"], getattr(engine, "tolerance", TOLERANCE)
    expected = {"predict": document["predict"], "predict_proba": document["probabilities"]}
    for rows in (slice(0, total), *(slice(row, row + 1) for row in range(min(ONE_BY_ONE, total)))):
        try:
            parsed = schema.parse(body(engine.inputs, document["columns"], rows))
            columns = engine.columns(parsed.columns) if parsed.prepared is None else parsed.prepared
            answer = engine.predict(columns, parsed.rows)
        except (RequestError, Refused) as refusal:
            return f"it refuses its own example: {refusal}"
        outputs = msgspec.json.decode(renderer.infer(parsed, answer))["outputs"]
        given = {output["name"]: output["data"] for output in outputs}
        for name, values in expected.items():
            if values is not None and (problem := _compare(given.get(name, []), _flat(values[rows]), tolerance)):
                return f"{name} of examples {rows.start} to {rows.stop - 1}: {problem}"
    return None


def _flat(values: Sequence[Any]) -> list[Any]:
    return [item for value in values for item in value] if values and isinstance(values[0], list) else list(values)


def _compare(given: Sequence[Any], expected: Sequence[Any], tolerance: float) -> str | None:
    if len(given) != len(expected):
        return f"{len(given)} values instead of {len(expected)}"
    near = TINY if tolerance == TOLERANCE else tolerance
    for number, (mine, theirs) in enumerate(zip(given, expected, strict=True)):
        numbers = isinstance(mine, float) and isinstance(theirs, int | float) and not isinstance(theirs, bool)
        same = math.isclose(mine, theirs, rel_tol=tolerance, abs_tol=near) if numbers else mine == theirs
        if not same:
            return f"value {number} is {mine!r} instead of {theirs!r}"
    return None
