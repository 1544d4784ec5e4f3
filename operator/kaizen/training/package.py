"""Writes the model directory of contracts.md; the manifest, which names every other file, comes last."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
import skops.io
from sklearn.pipeline import Pipeline

from kaizen.api.training_data import Data
from kaizen.monitoring import reference
from kaizen.registry import layout, manifest
from kaizen.serving.engine import parity
from kaizen.serving.engine.base import ENGINE_FILE, MODEL_FILE
from kaizen.training.data.prepare import MICROSECONDS, Rows
from kaizen.training.data.schema import Schema
from kaizen.training.errors import Failure
from kaizen.training.flavours import versions, write_onnx, write_sklearn
from kaizen.training.models.decision import with_threshold
from kaizen.training.models.fit import outputs
from kaizen.training.models.pipeline_source import source
from kaizen.training.report.card import model_card

__all__ = ["Package", "verify", "write"]

STEP = "Package"
EXAMPLES = 32
PARITY_ROWS = 2000
"""Held-out rows on which the compiled engine is compared with scikit-learn, besides the hostile ones made from them."""


@dataclass(frozen=True, eq=False)
class Package:
    """What goes into a model directory."""

    pipeline: Pipeline
    threshold: float | None
    """Of two classes, the answer is the second from this probability on; None: the most probable one."""
    trained: Rows
    """The rows that the pipeline learned from."""
    held_out: Rows
    judged: npt.NDArray[np.float64]
    """Outputs on the held-out rows of the model that did not learn from them."""
    data: Data
    schema: Schema
    description: Mapping[str, Any]
    """The manifest without what is found out here: files, versions, engine, model digest."""


Report = Callable[[Mapping[str, Any], Path], None]
"""Writes further files, given the manifest without the list of files."""


def write(package: Package, directory: Path, child: parity.Child | None = None, report: Report | None = None) -> dict[str, Any]:
    """Write everything into an empty directory; returns the manifest.  Raises Failure.

    `child` is the process that compiles, when it was started before it was needed.
    """
    decided = with_threshold(package.pipeline, package.threshold)
    if type(model := package.pipeline.steps[-1][1]).__module__ == "kaizen.training.models.onnx":
        engine = _onnx_engine(package, model, directory)
    else:
        skops.io.dump(decided, directory / MODEL_FILE)
        write_sklearn(directory)
        engine = _engine(package, directory, child)
    inputs = json.loads((directory / ENGINE_FILE).read_bytes())["inputs"]
    _write_reference(package, {one["name"] for one in inputs}, directory)
    _write_json(directory / "examples.json", _examples(package, decided, inputs))
    _write_json(directory / layout.SCHEMA, package.schema.to_json())
    _write_source(package, decided, directory)
    document = {
        "format": 1,
        **package.description,
        **engine,
        "versions": versions(),
    }
    (directory / "README.md").write_text(model_card(document, inputs), encoding="utf-8")
    if report is not None:
        report(document, directory)
    document["files"] = [_file(path, directory) for path in sorted(directory.rglob("*")) if path.is_file()]
    _write_json(directory / layout.MANIFEST, document)
    return document


def verify(directory: Path, digest: str | None = None) -> str:
    """Check every file of a model directory; returns the manifest's digest.  Raises ValueError naming the first difference."""
    found = manifest.parse((directory / layout.MANIFEST).read_bytes())
    if digest is not None and found.digest != digest:
        raise ValueError(f"its {layout.MANIFEST} has digest {found.digest}, not {digest}")
    for file in found.files:
        path = directory / file.path
        if not path.is_file():
            raise ValueError(f"{file.path} is missing")
        if hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
            raise ValueError(f"{file.path} does not have the digest that {layout.MANIFEST} gives for it")
    return found.digest


def _engine(package: Package, directory: Path, child: parity.Child | None) -> dict[str, Any]:
    """The compiled engine where it is covered and exact, scikit-learn itself otherwise."""
    try:
        built = parity.build(
            package.pipeline,
            _telling(package),
            directory,
            threshold=package.threshold,
            keys=package.data.keys,
            timestamp=package.data.timestamp,
            child=child,
        )
    except ValueError as problem:
        raise Failure(STEP, "ColumnUnsupported", str(problem)) from problem
    digest = built.digest
    if not digest:
        # skops archives of equal models differ; joblib hashes the values themselves.
        digest = f"sha256:{hashlib.sha256(str(joblib.hash(package.pipeline, hash_name='sha1')).encode()).hexdigest()}"
    return {"engine": built.kind, "engineReason": built.reason, "modelDigest": digest}


def _onnx_engine(package: Package, model: Any, directory: Path) -> dict[str, Any]:
    """onnxruntime, which judged it as well."""
    from kaizen.training.models.onnx import REASON, save  # onnxruntime is for such models only

    digest = save(model, package.threshold, package.held_out.frame, package.data, directory)
    write_onnx(directory)
    return {"engine": "onnx", "engineReason": REASON, "modelDigest": digest}


def _telling(package: Package) -> pd.DataFrame:
    """Held-out rows, and a training row for each text column that has gaps: they show what stands for a missing text."""
    trained = package.trained.frame
    gaps = [
        int(column.isna().to_numpy().argmax()) for _, column in trained.items() if column.dtype == object and column.isna().any()
    ]
    held_out = _spread(package.held_out.frame, PARITY_ROWS)
    return pd.concat([held_out, trained.iloc[sorted(set(gaps))]], ignore_index=True) if gaps else held_out


def _write_reference(package: Package, inputs: Collection[str], directory: Path) -> None:
    """Of what the server is sent.  Dates have no reference: what is newer than the training data lies outside of them."""
    trained = package.trained
    sent = ((str(name), column) for name, column in trained.frame.items() if name in inputs and column.dtype.kind != "M")
    columns = {name: _plain(column) for name, column in sent}
    kinds = {name: kind for name, kind in trained.kinds.items() if name in columns}
    judged = package.judged
    scores = judged if judged.ndim == 1 else judged[:, 1] if judged.shape[1] == 2 else judged.max(axis=1)
    seconds = None if trained.times is None else trained.times // MICROSECONDS
    made = reference.build(columns, kinds, seconds, scores, trained.trained_until)
    _write_json(directory / "reference.json", reference.to_json(made), compact=True)


def _plain(column: "pd.Series[Any]") -> npt.NDArray[Any]:
    if column.dtype == object:
        values = column.to_numpy(dtype=object, copy=True)
        values[column.isna().to_numpy()] = None
        return np.asarray(values)
    return np.asarray(column.to_numpy(dtype=np.float64))


def _examples(package: Package, decided: Any, inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Held-out rows with scikit-learn's own answers; null where a value is missing."""
    frame = _spread(package.held_out.frame, EXAMPLES)
    answers = outputs(package.pipeline, frame)
    return {
        "format": 1,
        "rows": len(frame),
        "columns": {one["name"]: _values(frame[one["name"]]) for one in inputs},
        "predict": decided.predict(frame).tolist(),
        "probabilities": answers.tolist() if answers.ndim == 2 else None,
    }


def _values(column: "pd.Series[Any]") -> list[Any]:
    """As a request has them: null where missing, dates as ISO strings."""
    return [
        None if pd.isna(value) else value.isoformat() if isinstance(value, pd.Timestamp) else value for value in column.tolist()
    ]


def _write_source(package: Package, decided: Any, directory: Path) -> None:
    """pipeline.py, or why there is none."""
    trained, described = package.trained, package.description
    title = f"{described['estimator']['name']} for {described['model']}"
    note = str(described["refit"]["message"]).capitalize()
    try:
        text = source(decided, trained.frame, trained.target, package.data, title, f"The packaged model: {note}.")
    except ValueError as problem:
        text = f"# {title}: it cannot be written down as a program, because {' '.join(str(problem).split())}.\n"
    (directory / "pipeline.py").write_text(text, encoding="utf-8")


def _spread(frame: pd.DataFrame, rows: int) -> pd.DataFrame:
    """At most so many rows, evenly from all of them."""
    return frame.iloc[np.unique(np.linspace(0, len(frame) - 1, min(rows, len(frame))).astype(np.int64))].reset_index(drop=True)


def _file(path: Path, directory: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"path": path.relative_to(directory).as_posix(), "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _write_json(path: Path, document: Mapping[str, Any], *, compact: bool = False) -> None:
    text = json.dumps(document, indent=None if compact else 1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
