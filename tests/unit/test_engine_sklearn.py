"""scikit-learn as an engine: the short ways of calling a pipeline answer and refuse as the pipeline itself does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from kaizen.serving.engine import chain, frames
from kaizen.serving.engine.base import Input, Refused, prepare
from kaizen.serving.engine.sklearn import Fallback
from kaizen.training.models.decision import with_threshold

NUMBERS = ["distance", "temp", "hour"]
COLUMNS = ("carrier", *NUMBERS)


def flights(rows: int = 300) -> pd.DataFrame:
    random = np.random.default_rng(7)
    carrier, hour = random.choice(["AA", "B6", "DL", "UA"], rows).astype(object), random.integers(5, 23, rows)
    distance, temp = random.integers(100, 2500, rows).astype(np.float64), random.normal(12.0, 9.0, rows)
    late = random.random(rows) < 1 / (1 + np.exp(-(hour - 15) / 3 - (carrier == "B6") + temp / 30))
    distance[random.random(rows) < 0.1] = np.nan
    return pd.DataFrame({"carrier": carrier, "distance": distance, "temp": temp, "hour": hour, "late": late})


ROWS = flights(120)
FRAME = ROWS[list(COLUMNS)]
INPUTS = tuple(Input(name, "BYTES" if name == "carrier" else "INT64" if name == "hour" else "FP64", True) for name in COLUMNS)
DESCRIBED = frames.describe(FRAME)


def mixed(model: Any, numbers: Any = None, **more: Any) -> Pipeline:
    numbers = numbers or make_pipeline(SimpleImputer(), StandardScaler())
    encoder = OneHotEncoder(handle_unknown="ignore", **more)
    return Pipeline([("c", ColumnTransformer([("t", encoder, ["carrier"]), ("n", numbers, NUMBERS)])), ("m", model)])


def doubled(table: pd.DataFrame) -> Any:
    return table.assign(distance=table["distance"] * 2)


PIPELINES: dict[str, tuple[Any, str]] = {
    "mixed columns": (mixed(LogisticRegression(max_iter=1000)), "arrays"),
    "a kernel": (mixed(SVC()), "arrays"),
    "a kernel map and a sparse encoder": (mixed(make_pipeline(Nystroem(n_components=8), LogisticRegression())), "arrays"),
    "a union": (mixed(RandomForestClassifier(5), FeatureUnion([("i", SimpleImputer()), ("z", SimpleImputer())])), "arrays"),
    "hard votes": (mixed(VotingClassifier([("a", LogisticRegression()), ("b", RandomForestClassifier(3))])), "arrays"),
    "gaps that are refused": (mixed(LogisticRegression(max_iter=5000), "passthrough"), "arrays"),
    "names": (mixed(Ridge(), make_pipeline(FunctionTransformer(doubled), SimpleImputer())), "frames"),
}


def fit(pipeline: Any) -> Any:
    target = ROWS["hour"] * 1.5 if isinstance(pipeline.steps[-1][1], Ridge) else ROWS["late"]
    frame = FRAME.fillna({"distance": 0.0}) if pipeline.steps[0][1].transformers[1][1] == "passthrough" else FRAME
    return pipeline.fit(frame, target)


def document(pipeline: Any, threshold: float | None = None, **more: Any) -> Mapping[str, Any]:
    classes = getattr(pipeline, "classes_", None)
    return {
        "task": "Regression" if classes is None else "Classification",
        "inputs": [vars(one) for one in INPUTS],
        "classes": None if classes is None else classes.tolist(),
        "threshold": threshold,
        "keys": [],
        "timestamp": None,
        "frame": DESCRIBED,
        **more,
    }


@pytest.mark.parametrize(("pipeline", "way"), PIPELINES.values(), ids=PIPELINES)
def test_the_short_way_answers_as_the_pipeline(pipeline: Any, way: str) -> None:
    fitted = fit(pipeline)
    assert chain.choose(fitted, INPUTS, DESCRIBED, None, FRAME) == way
    engine = Fallback(document(fitted, call=way), Path(), fitted)
    whole = Fallback(document(fitted), Path(), fitted)
    assert engine.joins
    complete = FRAME.dropna()
    for rows in (1, 5, 40):
        columns = engine.columns({name: complete[name].head(rows).tolist() for name in COLUMNS})
        mine, theirs = engine.predict(columns, rows), whole.predict(columns, rows)
        assert mine.labels == pytest.approx(theirs.labels) if engine.classes is None else mine.labels == theirs.labels
        assert (mine.scores is None) == (theirs.scores is None)
        assert mine.scores is None or theirs.scores is None or np.allclose(mine.scores, theirs.scores, rtol=0, atol=1e-12)
    assert engine.predict(engine.columns({name: [] for name in COLUMNS}), 0).labels == []


def test_missing_values_and_unknown_categories_are_answered_or_refused_alike() -> None:
    gaps = fit(mixed(LogisticRegression(max_iter=5000), "passthrough"))
    call = chain.call(gaps, INPUTS, DESCRIBED, None, "arrays")
    with pytest.raises(Refused, match="NaN"):
        call(prepare(INPUTS, {"carrier": ["AA"], "distance": [None], "temp": [1.0], "hour": [3]}), 1)
    imputed = fit(mixed(LogisticRegression()))
    frame = pd.DataFrame({"carrier": ["never", np.nan], "distance": [np.nan, 2.0], "temp": [1.0, 2.0], "hour": [3.0, np.nan]})
    labels, scores = chain.call(imputed, INPUTS, DESCRIBED, None, "arrays")(
        prepare(INPUTS, {"carrier": ["never", None], "distance": [None, 2], "temp": [1.0, 2.0], "hour": [3, None]}), 2
    )
    assert labels.tolist() == imputed.predict(frame).tolist()
    assert scores is not None
    assert np.allclose(scores, imputed.predict_proba(frame), rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", ["arrays", "frames"])
def test_whole_numbers_stay_whole_also_as_arrays(way: chain.Way) -> None:
    """As gRPC and binary tensors bring them: beyond 2**53 two of them are one double."""
    ids = [2**53 + number for number in (0, 1)] * 20
    frame = pd.DataFrame({"id": ids})
    encoder = ColumnTransformer([("id", OneHotEncoder(handle_unknown="ignore"), ["id"])])
    fitted = make_pipeline(encoder, LogisticRegression()).fit(frame, np.array(ids) % 2 == 1)
    inputs = (Input("id", "INT64", False),)
    call = chain.call(fitted, inputs, frames.describe(frame), None, way)
    expected = [value % 2 == 1 for value in ids]
    for values in (ids, np.array(ids)):
        labels, _ = call(prepare(inputs, {"id": values}), len(ids))
        assert labels.tolist() == expected


def test_threshold_decides_and_its_wrapper_costs_no_second_call() -> None:
    fitted = fit(mixed(LogisticRegression()))
    decided = with_threshold(fitted, 0.3)
    engine = Fallback(document(decided, 0.3, call="arrays"), Path(), decided)
    answer = engine.predict(engine.columns({name: FRAME[name].tolist() for name in COLUMNS}), len(FRAME))
    assert answer.labels == decided.predict(FRAME).tolist()
    assert np.allclose(answer.scores or [], fitted.predict_proba(FRAME).ravel(), rtol=0, atol=1e-12)


class Undecided(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Chooses the second class of two that are equally likely."""

    classes_ = np.array(["a", "b"])

    def predict_proba(self, table: Any) -> Any:
        return np.array([[0.5, 0.5], [0.9, 0.1]])

    def predict(self, table: Any) -> Any:
        return np.array(["b", "a"])


def test_of_two_classes_that_are_as_likely_the_model_chooses() -> None:
    labels, _ = chain._likeliest(Undecided(), None)
    assert labels.tolist() == ["b", "a"]
