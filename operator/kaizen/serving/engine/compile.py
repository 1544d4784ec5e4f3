"""From a fitted scikit-learn pipeline to the engine's document and trees.  Runs where the model is packaged.

Two tables by class name hold what can be compiled: `transformers` and `estimators`.  Nothing here decides exactness:
`parity` asks scikit-learn.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kaizen.serving.engine import frames
from kaizen.serving.engine.base import CLASSIFICATION, ENGINE_FILE, FORMAT, REGRESSION, Input, Refused
from kaizen.serving.engine.chain import ask, choose
from kaizen.serving.engine.estimators import compile_model
from kaizen.serving.engine.explanation.background import with_background
from kaizen.serving.engine.models import tolerance
from kaizen.serving.engine.transformers import Uncovered, compile_steps, entry, flattened, read

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Compiled", "Files", "NotCovered", "compile_pipeline", "save", "save_fallback"]

SUFFIX = ".treelite"
"""Of a file beside engine.json, when its stem names none."""


@dataclass
class Files:
    """The files beside engine.json that a model asks for: trees, arrays."""

    contents: dict[str, bytes] = field(default_factory=dict)
    """By name."""

    def add(self, stem: str, content: bytes) -> str:
        """The name under which the model will find the content: `trees` gives trees-0.treelite, `vectors.npy` vectors-0.npy."""
        base, dot, suffix = stem.partition(".")
        name = f"{base}-{len(self.contents)}{dot + suffix if dot else SUFFIX}"
        self.contents[name] = content
        return name


@dataclass(frozen=True)
class Compiled:
    """The engine's form of a pipeline."""

    document: Mapping[str, Any]
    """engine.json."""
    files: Mapping[str, bytes]
    """Those beside it, by name."""

    @property
    def digest(self) -> str:
        """The version's modelDigest: equal for equal fits, whatever else is in the directory."""
        canonical = json.dumps(self.document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        hashed = hashlib.sha256(canonical.encode())
        for name, content in sorted(self.files.items()):
            hashed.update(b"\0" + name.encode() + b"\0" + hashlib.sha256(content).digest())
        return "sha256:" + hashed.hexdigest()


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
    """Write engine.json and the files beside it, in the place of an earlier engine's."""
    _clear(directory)
    for name, content in compiled.files.items():
        (directory / name).write_bytes(content)
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
    _clear(directory)
    way = choose(pipeline, inputs, described, threshold, frame)
    _write({**header, "kind": "sklearn", "reason": reason, "frame": described, "call": way}, directory)


def _clear(directory: Path) -> None:
    for pattern in ("*-[0-9]*" + SUFFIX, "*-[0-9]*.npy"):
        for path in directory.glob(pattern):
            path.unlink()


def _write(document: Mapping[str, Any], directory: Path) -> None:
    (directory / ENGINE_FILE).write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _compile(pipeline: Any, frame: "pd.DataFrame", threshold: float | None, declared: Mapping[str, Any]) -> Compiled:
    columns = [str(column) for column in getattr(pipeline, "feature_names_in_", frame.columns)]
    used = sorted(read([pipeline], range(len(columns))))
    inputs = _inputs(pipeline, frame, [columns[i] for i in used], threshold)
    *before, estimator = flattened(pipeline)
    steps, flow = compile_steps(before, entry(frame, columns, used))
    files = Files()
    model = with_background(compile_model(estimator, flow, files), steps, _rows(frame, inputs), files)
    document = {
        **_header(pipeline, inputs, threshold, declared),
        "kind": "compiled",
        "reason": "",
        "tolerance": tolerance(model),
        "steps": [step.document() for step in steps],
        "model": model,
    }
    return Compiled(document, files.contents)


def _rows(frame: "pd.DataFrame", inputs: Sequence[Input]) -> list[tuple[Any, ...]]:
    """Of the inputs, prepared."""
    return list(zip(*(frames.cells(frame[one.name]) for one in inputs), strict=True))


def _header(pipeline: Any, inputs: Sequence[Input], threshold: float | None, declared: Mapping[str, Any]) -> dict[str, Any]:
    classes = getattr(pipeline, "classes_", None)
    return {
        "format": FORMAT,
        "task": REGRESSION if classes is None else CLASSIFICATION,
        "inputs": [{"name": one.name, "datatype": one.datatype, "nullable": one.nullable} for one in inputs],
        "classes": None if classes is None else np.asarray(classes).tolist(),
        "probabilities": hasattr(pipeline, "predict_proba"),
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
    example = (whole if len(whole) else frame[list(names)]).iloc[:1]
    row: list[list[Any]] = [frames.cells(example[name]) for name in names]
    made = []
    for i, one in enumerate(plain):
        missing: list[Any] = [None if one.datatype == "BYTES" else float("nan")]
        try:
            ask(pipeline, frames.build(plain, [*row[:i], missing, *row[i + 1 :]], described), threshold)
            made.append(one)
        except Refused:
            made.append(Input(one.name, one.datatype, False))
    return made
