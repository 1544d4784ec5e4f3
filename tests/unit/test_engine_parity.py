"""Packaging: compiled in a child process, checked there, and scikit-learn as the answer to everything that goes wrong."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from kaizen.serving.engine import parity, runtime
from kaizen.serving.engine.base import ENGINE_FILE, MODEL_FILE, EngineError, Refused

NEIGHBOURS = "KNeighborsRegressor is not compiled: it compares each row with rows of the training data"
BEFORE = ColumnTransformer([("n", StandardScaler(), ["n"]), ("w", OneHotEncoder(handle_unknown="ignore"), ["w"])])


def data() -> tuple[pd.DataFrame, Any]:
    chance = np.random.default_rng(0)
    words = pd.Series(chance.choice(["x", "y"], 80), dtype=object)
    frame = pd.DataFrame({"n": chance.normal(size=80), "w": words})
    return frame, np.where(frame["n"] + (words == "x") > 0.5, "yes", "no").astype(object)


def fitted(estimator: Any = None) -> tuple[Any, pd.DataFrame]:
    frame, labels = data()
    target = frame["n"] if isinstance(estimator, KNeighborsRegressor) else labels
    return Pipeline([("columns", BEFORE), ("model", estimator or LogisticRegression())]).fit(frame, target), frame


class Killer(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A model whose compilation takes the process with it, as a crash in native code does."""

    def fit(self, x: Any, y: Any) -> "Killer":
        self.classes_ = np.unique(y)
        self.lives = os.getpid()
        return self

    def predict(self, x: Any) -> Any:
        if os.getpid() != self.lives:
            os.abort()
        return np.repeat(self.classes_[:1], len(x))


class Sleeper(Killer):
    def predict(self, x: Any) -> Any:
        if os.getpid() != self.lives:
            time.sleep(60)  # noqa: TID251 - it must hang
        return np.repeat(self.classes_[:1], len(x))


def test_an_exact_pipeline_is_compiled(tmp_path: Path) -> None:
    pipeline, frame = fitted()
    with parity.Child() as child:
        built = parity.build(pipeline, frame, tmp_path, keys=["flight"], timestamp="when", child=child)
    assert built.parity is not None
    assert (built.kind, built.reason, built.parity.ok) == ("compiled", "", True)
    assert built.digest.startswith("sha256:")
    engine = runtime.load(tmp_path)
    assert (engine.task, engine.classes, engine.keys, engine.timestamp) == ("Classification", ("no", "yes"), ("flight",), "when")
    assert [(one.name, one.datatype, one.nullable) for one in engine.inputs] == [("n", "FP64", False), ("w", "BYTES", True)]
    assert parity.check(pipeline, tmp_path, frame) == built.parity


def test_what_is_not_covered_is_answered_by_scikit_learn_itself(tmp_path: Path) -> None:
    pipeline, frame = fitted(KNeighborsRegressor())
    built = parity.build(pipeline, frame, tmp_path)
    assert built == parity.Built("sklearn", NEIGHBOURS, "", None)
    assert json.loads((tmp_path / ENGINE_FILE).read_text())["reason"] == NEIGHBOURS
    skops.io.dump(pipeline, tmp_path / MODEL_FILE)
    engine = runtime.load(tmp_path)
    columns = engine.columns({"n": [0.5, -1.0], "w": ["x", None]})
    wanted = pipeline.predict(pd.DataFrame({"n": [0.5, -1.0], "w": pd.Series(["x", np.nan], dtype=object)}))
    assert engine.predict(columns, 2).labels == wanted.tolist()
    assert engine.predict([[], []], 0).labels == []
    with pytest.raises(Refused, match="'n' must not be missing"):
        engine.columns({"n": [None], "w": ["x"]})
    with pytest.raises(Refused, match="infinity"):
        engine.predict(engine.columns({"n": [float("inf")], "w": ["x"]}), 1)


def test_scikit_learn_answers_with_the_decision_threshold(tmp_path: Path) -> None:
    pipeline, frame = fitted(HistGradientBoostingClassifier(max_iter=3))
    from kaizen.serving.engine.compile import save_fallback

    save_fallback(pipeline, frame, tmp_path, "asked for", threshold=0.2)
    skops.io.dump(pipeline, tmp_path / MODEL_FILE)
    engine = runtime.load(tmp_path)
    answer = engine.predict(engine.columns({"n": frame["n"].tolist(), "w": frame["w"].tolist()}), len(frame))
    assert answer.probabilities is not None
    assert np.array_equal(answer.probabilities, pipeline.predict_proba(frame))
    assert answer.predict.tolist() == ["yes" if one >= 0.2 else "no" for one in answer.probabilities[:, 1]]


@pytest.mark.parametrize(
    ("model", "seconds", "reason"),
    [(Killer(), 60, "compiling and checking crashed with status -6"), (Sleeper(), 3, "did not end within 3 s")],
)
def test_a_crash_or_a_hang_of_the_compiler_is_not_covered(model: Any, seconds: float, reason: str, tmp_path: Path) -> None:
    pipeline, frame = fitted(model)
    built = parity.check(pipeline, exact_directory(tmp_path), frame, timeout_seconds=seconds)
    assert not built.ok
    assert reason in built.message


def exact_directory(directory: Path) -> Path:
    from kaizen.serving.engine.compile import Compiled, compile_pipeline, save

    pipeline, frame = fitted()
    compiled = compile_pipeline(pipeline, frame)
    assert isinstance(compiled, Compiled)
    save(compiled, directory)
    return directory


def test_an_engine_that_is_off_by_little_is_found(tmp_path: Path) -> None:
    pipeline, frame = fitted()
    directory = exact_directory(tmp_path)
    assert parity.compare(pipeline, directory, frame).ok
    document = json.loads((directory / ENGINE_FILE).read_text())
    document["model"]["intercept"][0] += 1e-10
    (directory / ENGINE_FILE).write_text(json.dumps(document))
    found = parity.compare(pipeline, directory, frame)
    assert not found.ok
    assert 1e-12 < found.worst < 1e-9
    assert "not exact: asked in a batch for n=" in found.message


def test_an_engine_that_answers_what_scikit_learn_refuses_is_found(tmp_path: Path) -> None:
    frame, labels = data()
    strict = ColumnTransformer([("n", StandardScaler(), ["n"]), ("w", OneHotEncoder(), ["w"])])
    pipeline = Pipeline([("columns", strict), ("model", LogisticRegression())]).fit(frame, labels)
    found = parity.compare(pipeline, exact_directory(tmp_path), frame)
    assert not found.ok
    assert "scikit-learn says nothing (refused)" in found.message


def test_a_foreign_type_in_a_model_file_is_not_loaded(tmp_path: Path) -> None:
    from kaizen.serving.engine.compile import save_fallback

    pipeline, frame = fitted(Killer())
    save_fallback(pipeline, frame, tmp_path, "asked for")
    skops.io.dump(pipeline, tmp_path / MODEL_FILE)
    with pytest.raises(EngineError, match=r"test_engine_parity\.Killer, which is none of sklearn"):
        runtime.load(tmp_path)


def test_trees_of_an_earlier_attempt_do_not_stay(tmp_path: Path) -> None:
    pipeline, frame = fitted(KNeighborsRegressor())
    (tmp_path / "trees-0.treelite").write_bytes(b"old")
    parity.build(pipeline, frame, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [ENGINE_FILE]


def dated() -> tuple[Any, pd.DataFrame, list[str]]:
    from kaizen.api.training_job import Estimator
    from kaizen.training.models.estimators import choose

    days = pd.Series(pd.date_range("2026-01-01", periods=80, freq="7h"), dtype="datetime64[us]")
    frame = pd.DataFrame({"day": days, "n": np.arange(80.0)})
    pipeline = choose(Estimator(name="HistGradientBoostingClassifier"), "Classification").pipeline(frame)
    return pipeline.fit(frame, days.dt.hour >= 12), frame, [moment.isoformat() for moment in days]


@pytest.mark.parametrize("kind", ["compiled", "sklearn"])
def test_dates_travel_as_texts(kind: str, tmp_path: Path) -> None:
    from kaizen.serving.engine.compile import save_fallback

    pipeline, frame, texts = dated()
    if kind == "compiled":
        built = parity.build(pipeline, frame, tmp_path)
        assert (built.kind, built.reason) == ("compiled", "")
    else:
        save_fallback(pipeline, frame, tmp_path, "asked for")
        skops.io.dump(pipeline, tmp_path / MODEL_FILE)
    engine = runtime.load(tmp_path)
    assert [(one.name, one.datatype, one.nullable) for one in engine.inputs] == [("day", "BYTES", True), ("n", "FP64", True)]
    answer = engine.predict(engine.columns({"day": texts, "n": frame["n"].to_numpy()}), 80)
    assert answer.labels == pipeline.predict(frame).tolist()
    elsewhere = engine.columns({"day": ["2026-01-01T14:00:00+07:00", "20260101", None], "n": [1.0, 2, None]})
    here = engine.columns({"day": ["2026-01-01 07:00", "2026-01-01T00:00:00Z", None], "n": [1, 2.0, None]})
    assert engine.predict(elsewhere, 3).scores == engine.predict(here, 3).scores
    for day in ("yesterday", "2026-13-01", "9" * 40, "", "\ud800"):
        with pytest.raises(Refused, match="is no date and time as 2026-11-21T08:30:00"):
            engine.predict(engine.columns({"day": [day], "n": [1.0]}), 1)
