"""Rows and pipelines at which scikit-learn does something unexpected: the engine does the same, or says that it cannot."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from kaizen.serving.engine import parity, runtime
from kaizen.serving.engine.base import Engine, Refused
from kaizen.serving.engine.compile import Compiled, NotCovered, compile_pipeline, save

CHANCE = np.random.default_rng(3)
NUMBERS = pd.DataFrame({"x": CHANCE.normal(size=80), "z": CHANCE.normal(size=80)})
ABOVE = (NUMBERS["x"] + NUMBERS["z"] > 0).to_numpy()
TEXTS = pd.DataFrame({"t": pd.Series([f"w{number % 7} w{number % 11}" for number in range(80)], dtype=object)})
EVEN = np.arange(80) % 2 == 0


def engine(pipeline: Any, frame: pd.DataFrame, directory: Path) -> Engine:
    compiled = compile_pipeline(pipeline, frame)
    assert isinstance(compiled, Compiled), compiled
    save(compiled, directory)
    return runtime.load(directory)


UNCOVERED = {
    "counts that wrap": (
        make_pipeline(ColumnTransformer([("t", CountVectorizer(dtype=np.uint8), "t")]), LogisticRegression()),
        "CountVectorizer with dtype uint8, which cannot count far, is not compiled",
    ),
    "zeros that are not missing": (
        make_pipeline(ColumnTransformer([("t", HashingVectorizer(n_features=64), "t")]), XGBClassifier(n_estimators=3)),
        "XGBoost over a sparse matrix that may hold zeros",
    ),
}


@pytest.mark.parametrize(("pipeline", "says"), UNCOVERED.values(), ids=UNCOVERED)
def test_what_could_differ_is_not_compiled(pipeline: Any, says: str) -> None:
    found = compile_pipeline(pipeline.fit(TEXTS, EVEN), TEXTS)
    assert isinstance(found, NotCovered)
    assert says in found.reason


def test_without_signs_hashed_words_hold_no_zeros(tmp_path: Path) -> None:
    hashing = HashingVectorizer(n_features=16, alternate_sign=False)
    fitted = make_pipeline(ColumnTransformer([("t", hashing, "t")]), XGBClassifier(n_estimators=3)).fit(TEXTS, EVEN)
    made = engine(fitted, TEXTS, tmp_path)
    assert made.predict([TEXTS["t"].tolist()], 80).labels == fitted.predict(TEXTS).astype(bool).tolist()


def test_whole_numbers_in_a_column_of_doubles_are_rounded_before_they_are_looked_up(tmp_path: Path) -> None:
    ids = pd.DataFrame({"id": np.array([1234567890123456789, 2, 3, 4] * 20, dtype=np.float64)})
    columns = ColumnTransformer([("id", OneHotEncoder(handle_unknown="ignore"), ["id"])])
    fitted = make_pipeline(columns, LogisticRegression()).fit(ids, ids["id"] > 4)
    made = engine(fitted, ids, tmp_path)
    for sent in ([1234567890123456789], [float(1234567890123456789)], [2], [2.0]):
        expected = fitted.predict_proba(pd.DataFrame({"id": np.array(sent, dtype=np.float64)})).ravel()
        assert made.predict([sent], 1).scores == pytest.approx(expected.tolist(), abs=1e-12)
        assert made.predict(tuple(sent), 1).scores == pytest.approx(expected.tolist(), abs=1e-12)


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("method", ["isotonic", "temperature"])
def test_calibrations_refuse_infinite_scores_as_scikit_learn_does(method: str, tmp_path: Path) -> None:
    model = CalibratedClassifierCV(LogisticRegression(C=100.0), method=method, cv=2)
    fitted = make_pipeline(StandardScaler(), model).fit(NUMBERS, ABOVE)
    made = engine(fitted, NUMBERS, tmp_path)
    with pytest.raises(ValueError, match=r"infinity|NaN"):
        fitted.predict_proba(pd.DataFrame({"x": [-1e308], "z": [-1e308]}))
    with pytest.raises(Refused):
        made.predict([[-1e308], [-1e308]], 1)
    with pytest.raises(Refused):
        made.predict((-1e308, -1e308), 1)


def test_a_scaler_of_the_target_without_a_mean_adds_none(tmp_path: Path) -> None:
    target = 5.0 + NUMBERS["x"]
    scaler = StandardScaler(with_mean=False)
    fitted = TransformedTargetRegressor(LinearRegression(), transformer=scaler).fit(NUMBERS, target)
    labels = engine(fitted, NUMBERS, tmp_path).predict([NUMBERS["x"].tolist(), NUMBERS["z"].tolist()], 80).labels
    assert labels == pytest.approx(fitted.predict(NUMBERS).tolist(), abs=1e-12)


NESTED = {
    "a forest in a stack": StackingClassifier(
        [("l", LogisticRegression()), ("f", RandomForestClassifier(5, random_state=0))], passthrough=True, cv=2
    ),
    "a pipeline in a bag": BaggingClassifier(
        make_pipeline(PolynomialFeatures(2), DecisionTreeClassifier(max_depth=3)), 3, random_state=0
    ),
}


@pytest.mark.parametrize("model", NESTED.values(), ids=NESTED)
def test_trees_inside_others_can_be_checked(model: Any, tmp_path: Path) -> None:
    fitted = model.fit(NUMBERS, ABOVE)
    engine(fitted, NUMBERS, tmp_path)
    found = parity.compare(fitted, tmp_path, NUMBERS)
    assert found.ok, found.message
