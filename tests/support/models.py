"""Small model directories, real in every part: fitted by scikit-learn, compiled, with reference, examples and manifest.

    made = make_model(tmp_path / "model", "boosting")
    made.expected(frame)        # scikit-learn's own answers
    made.request(frame)         # the v2 request for the rows of a frame

Imports scikit-learn and pandas: seconds, once.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from kaizen.monitoring import reference
from kaizen.serving.engine import compile as engine_compile

__all__ = ["COLUMNS", "ESTIMATORS", "MadeModel", "flights", "make_model", "tamper"]

ROWS = 600
COLUMNS = ("carrier", "distance", "temp", "hour")
NUMBERS = ["distance", "temp", "hour"]
KEYS = ("flight",)
TIMESTAMP = "time_hour"
MODEL = "flight-delay"
ESTIMATORS = ("boosting", "forest", "linear", "ridge")
DATATYPES = {"carrier": "BYTES", "distance": "FP64", "temp": "FP64", "hour": "INT64"}


@dataclass(frozen=True)
class MadeModel:
    """A model directory and the pipeline it was made from."""

    directory: Path
    pipeline: Pipeline

    @property
    def digest(self) -> str:
        """The version's digest."""
        return "sha256:" + hashlib.sha256((self.directory / "manifest.json").read_bytes()).hexdigest()

    def expected(self, frame: pd.DataFrame) -> tuple[list[Any], list[float] | None]:
        """scikit-learn's labels or numbers, and its probabilities row by row; None for a regression."""
        labels = self.pipeline.predict(frame).tolist()
        if not hasattr(self.pipeline, "predict_proba"):
            return labels, None
        return labels, self.pipeline.predict_proba(frame).ravel().tolist()

    def request(self, frame: pd.DataFrame, **more: Any) -> bytes:
        """The v2 inference request for these rows."""
        inputs = [
            {"name": name, "shape": [len(frame)], "datatype": DATATYPES[name], "data": _values(frame[name])} for name in COLUMNS
        ]
        return json.dumps({"inputs": inputs, **more}).encode()


def flights(rows: int = ROWS, seed: int = 7) -> pd.DataFrame:
    """Rows that look like flights, some values of distance missing, and whether they were late."""
    random = np.random.default_rng(seed)
    carrier = random.choice(["AA", "B6", "DL", "UA"], rows).astype(object)
    distance = random.integers(100, 2500, rows).astype(np.float64)
    hour = random.integers(5, 23, rows)
    temp = random.normal(12.0, 9.0, rows).round(1)
    late = random.random(rows) < 1 / (1 + np.exp(-(hour - 15) / 3 - (carrier == "B6") + temp / 30))
    distance[random.random(rows) < 0.1] = np.nan
    frame = {"carrier": carrier, "distance": distance, "temp": temp, "hour": hour, "late": late}
    return pd.DataFrame(frame)


def make_model(directory: Path, estimator: str = "boosting") -> MadeModel:
    """A model directory for one of ESTIMATORS, trained on flights()."""
    frame = flights()
    target = frame["distance"].fillna(0.0) * 0.1 + frame["hour"] if estimator == "ridge" else frame["late"]
    features = frame[list(COLUMNS)]
    fitted = _pipeline(estimator).fit(features, target)
    directory.mkdir(parents=True)
    compiled = engine_compile.compile_pipeline(fitted, features, keys=KEYS, timestamp=TIMESTAMP)
    assert isinstance(compiled, engine_compile.Compiled), compiled
    engine_compile.save(compiled, directory)
    made = MadeModel(directory, fitted)
    labels, probabilities = made.expected(features)
    watched = np.array(labels if probabilities is None else probabilities[1::2], dtype=np.float64)
    columns = {name: features[name].to_numpy() for name in COLUMNS}
    kinds: dict[str, Any] = {name: "Categorical" if name == "carrier" else "Numeric" for name in COLUMNS}
    counted = reference.build(columns, kinds, None, watched, None)
    _write(directory / "reference.json", reference.to_json(counted))
    some = features.head(16)
    answers = made.expected(some)
    examples = {
        "format": 1,
        "rows": len(some),
        "columns": {name: _values(some[name]) for name in COLUMNS},
        "predict": answers[0],
        "probabilities": None if answers[1] is None else np.reshape(answers[1], (len(some), -1)).tolist(),
    }
    _write(directory / "examples.json", examples)
    (directory / "README.md").write_text("# A model of the tests\n")
    seal(directory)
    return made


def seal(directory: Path) -> None:
    """Write the manifest of what is there."""
    files = [
        {"path": path.relative_to(directory).as_posix(), "size": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    ]
    _write(directory / "manifest.json", {"format": 1, "model": MODEL, "engine": "compiled", "files": files})


def tamper(path: Path) -> None:
    """Change one byte of a file, and not its size."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _pipeline(estimator: str) -> Pipeline:
    if estimator == "boosting":
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
        columns = ColumnTransformer([("carrier", encoder, ["carrier"]), ("numbers", "passthrough", NUMBERS)])
        mask = [True, False, False, False]
        return Pipeline([("columns", columns), ("model", HistGradientBoostingClassifier(max_iter=20, categorical_features=mask))])
    encoder = OneHotEncoder(handle_unknown="ignore")
    linear = estimator != "forest"
    numbers = make_pipeline(SimpleImputer(), StandardScaler()) if linear else SimpleImputer()
    columns = ColumnTransformer([("carrier", encoder, ["carrier"]), ("numbers", numbers, NUMBERS)])
    models = {
        "linear": LogisticRegression(max_iter=1000),
        "ridge": Ridge(),
        "forest": RandomForestClassifier(10, random_state=1, n_jobs=1),
    }
    return Pipeline([("columns", columns), ("model", models[estimator])])


def _values(column: "pd.Series[Any]") -> list[Any]:
    return [None if value != value else value for value in column.tolist()]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, allow_nan=False))
