"""From a fitted scikit-learn pipeline to the engine's document and trees.  Runs where the model is packaged.

Two tables by class name hold what can be compiled: `transformers` and `estimators`.  Nothing here decides exactness:
`parity` asks scikit-learn.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kaizen.serving.engine import frames
from kaizen.serving.engine.base import CLASSIFICATION, ENGINE_FILE, FORMAT, REGRESSION, TREES_FILE, Input, Refused
from kaizen.serving.engine.estimators import ESTIMATORS
from kaizen.serving.engine.sklearn import ask
from kaizen.serving.engine.transformers import TRANSFORMERS, Flow, Uncovered, is_a, is_known, is_sklearn
from kaizen.serving.engine.transforms import Transform

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Compiled", "NotCovered", "compile_pipeline", "save", "save_fallback"]


@dataclass(frozen=True)
class Compiled:
    """The engine's form of a pipeline."""

    document: Mapping[str, Any]
    """engine.json."""
    trees: bytes | None
    """Treelite's form of the trees, when the model has any."""

    @property
    def digest(self) -> str:
        """The version's modelDigest: equal for equal fits, whatever else is in the directory."""
        canonical = json.dumps(self.document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return "sha256:" + hashlib.sha256(canonical.encode() + b"\0" + (self.trees or b"")).hexdigest()


@dataclass(frozen=True)
class NotCovered:
    """The pipeline must run in scikit-learn itself."""

    reason: str


def compile_pipeline(
    pipeline: Any,
    frame: "pd.DataFrame",
    *,
    threshold: float | None = None,
    keys: Sequence[str] = (),
    timestamp: str | None = None,
) -> Compiled | NotCovered:
    """The compiled form of a fitted pipeline, or why there is none.

    `frame` is a sample of what it was fitted on (the types of its columns count); `threshold` the probability from which a
    binary answer is the second class; `keys` and `timestamp` are written down for the server.
    """
    try:
        return _compile(pipeline, frame, threshold, {"keys": list(keys), "timestamp": timestamp})
    except Uncovered as reason:
        return NotCovered(str(reason))


def save(compiled: Compiled, directory: Path) -> None:
    """Write engine.json and, where there are any, the trees."""
    if compiled.trees is not None:
        (directory / TREES_FILE).write_bytes(compiled.trees)
    _write(compiled.document, directory)


def save_fallback(
    pipeline: Any,
    frame: "pd.DataFrame",
    directory: Path,
    reason: str,
    *,
    threshold: float | None = None,
    keys: Sequence[str] = (),
    timestamp: str | None = None,
) -> None:
    """Write an engine.json that has scikit-learn itself answer.  Raises ValueError: a column has no form in a request."""
    try:
        names = list(getattr(pipeline, "feature_names_in_", frame.columns))
        inputs = _inputs(pipeline, frame, [str(name) for name in names], threshold)
    except Uncovered as error:
        raise ValueError(str(error)) from error
    header = _header(pipeline, inputs, threshold, {"keys": list(keys), "timestamp": timestamp})
    described = frames.describe(frame[[one.name for one in inputs]])
    _write({**header, "kind": "sklearn", "reason": reason, "frame": described}, directory)
    (directory / TREES_FILE).unlink(missing_ok=True)


def _write(document: Mapping[str, Any], directory: Path) -> None:
    (directory / ENGINE_FILE).write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _compile(pipeline: Any, frame: "pd.DataFrame", threshold: float | None, declared: Mapping[str, Any]) -> Compiled:
    *before, estimator = _flat(pipeline)
    name = type(estimator).__name__
    if name not in ESTIMATORS or not is_known(estimator):
        raise Uncovered(f"{name} is not compiled yet")
    columns = [str(column) for column in getattr(pipeline, "feature_names_in_", frame.columns)]
    pieces = list(_pieces(before, columns))
    used = [column for column in columns if any(column in names for names, _ in pieces)]
    inputs = _inputs(pipeline, frame, used, threshold)
    branches, flows = [], []
    for names, chain in pieces:
        document, flow = _branch([used.index(one) for one in names], names, chain, inputs, frame)
        branches.append(document)
        flows.append(flow)
    joined = Flow.numbers(0)
    for flow in flows:
        joined.datatypes += flow.datatypes
        joined.missing += flow.missing
        joined.values += flow.values
    joined.sparse = getattr(before[0], "sparse_output_", flows[-1].sparse) if before else False
    after, joined = _steps(before[1:] if before and is_a(before[0], "ColumnTransformer") else [], joined)
    model, care, trees = ESTIMATORS[name](estimator, joined)
    document = {
        **_header(pipeline, inputs, threshold, declared),
        "kind": "compiled",
        "reason": "",
        "branches": branches,
        "after": [step.document() for step in [*after, *care]],
        "model": model,
    }
    return Compiled(document, trees)


def _header(pipeline: Any, inputs: Sequence[Input], threshold: float | None, declared: Mapping[str, Any]) -> dict[str, Any]:
    classes = getattr(pipeline, "classes_", None)
    return {
        "format": FORMAT,
        "task": REGRESSION if classes is None else CLASSIFICATION,
        "inputs": [{"name": one.name, "datatype": one.datatype, "nullable": one.nullable} for one in inputs],
        "classes": None if classes is None else np.asarray(classes).tolist(),
        "threshold": threshold,
        **declared,
    }


def _inputs(pipeline: Any, frame: "pd.DataFrame", names: Sequence[str], threshold: float | None) -> list[Input]:
    """The inputs; whether each may be missing is asked of scikit-learn, with one row."""
    plain = []
    for name in names:
        kind = frames.datatype(frame[name])
        if kind is None:
            raise Uncovered(f"column {name!r} has the type {frame[name].dtype}, which is not compiled yet")
        plain.append(Input(name, kind, True))
    described = frames.describe(frame[list(names)])
    whole = frame[list(names)].dropna()
    example = (whole if len(whole) else frame[list(names)]).iloc[0]
    row: list[list[Any]] = [[example[name].item() if hasattr(example[name], "item") else example[name]] for name in names]
    made = []
    for i, one in enumerate(plain):
        missing: list[Any] = [None if one.datatype == "BYTES" else float("nan")]
        try:
            ask(pipeline, frames.build(plain, [*row[:i], missing, *row[i + 1 :]], described), threshold)
            made.append(one)
        except Refused:
            made.append(Input(one.name, one.datatype, False))
    return made


def _pieces(before: Sequence[Any], columns: Sequence[str]) -> Iterator[tuple[list[str], list[Any]]]:
    """Columns and the transformers that they pass through, in the order of the output."""
    if not before or not is_a(before[0], "ColumnTransformer"):
        yield list(columns), list(before)
        return
    transformer = before[0]
    if transformer.transformer_weights:
        raise Uncovered("ColumnTransformer with transformer_weights is not compiled yet")
    for name, piece, _ in transformer.transformers_:
        indices = transformer._transformer_to_input_indices[name]
        if len(indices) and not (isinstance(piece, str) and piece == "drop"):
            yield [columns[i] for i in indices], _flat(piece)


def _branch(
    indices: list[int], names: Sequence[str], chain: Sequence[Any], inputs: Sequence[Input], frame: "pd.DataFrame"
) -> tuple[dict[str, Any], Flow]:
    datatypes: list[str] = [inputs[i].datatype for i in indices]
    markers = [
        frames.missing_marker(frame[name]) if kind == "BYTES" else np.nan for name, kind in zip(names, datatypes, strict=True)
    ]
    steps, flow = _steps(chain, Flow(datatypes, markers, [None] * len(indices)))
    if "BYTES" in flow.datatypes:
        raise Uncovered(f"strings of column {names[flow.datatypes.index('BYTES')]!r} reach the model without an encoder")
    lists = "BYTES" in datatypes or (bool(steps) and steps[0].looks_up)
    return {"columns": indices, "read": "Lists" if lists else "Matrix", "steps": [step.document() for step in steps]}, flow


def _steps(chain: Sequence[Any], flow: Flow) -> tuple[list[Transform], Flow]:
    steps: list[Transform] = []
    for transformer in chain:
        name = type(transformer).__name__
        if name not in TRANSFORMERS or not is_sklearn(transformer):
            raise Uncovered(f"{name} is not compiled yet")
        step, flow = TRANSFORMERS[name](transformer, flow)
        if step is not None:
            steps.append(step)
    return steps, flow


def _flat(transformer: Any) -> list[Any]:
    """The steps of nested pipelines, those that do nothing left out."""
    if transformer is None or (isinstance(transformer, str) and transformer == "passthrough"):
        return []
    if is_a(transformer, "Pipeline"):
        return [inner for _, step in transformer.steps for inner in _flat(step)]
    return [transformer]
