"""Rows and pipelines at which scikit-learn does something unexpected: the engine does the same, or says that it cannot."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightgbm import LGBMRegressor
from scipy.special import ndtri
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from kaizen.serving.engine import parity, runtime
from kaizen.serving.engine.base import Engine, Refused
from kaizen.serving.engine.compile import Compiled, NotCovered, compile_pipeline, save
from kaizen.serving.engine.transforms.deviates import TAIL, deviate

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


def test_categories_of_lightgbm_are_cast_to_whole_numbers_first(tmp_path: Path) -> None:
    codes = pd.DataFrame({"code": np.arange(400) % 5.0, "x": np.arange(400) * 0.01})
    model = LGBMRegressor(n_estimators=5, verbose=-1, min_data_per_group=1, cat_smooth=0.0)
    fitted = model.fit(codes, np.where(codes["code"] == 0, 10.0, codes["code"]) + codes["x"], categorical_feature=[0])
    made = engine(make_pipeline(fitted), codes, tmp_path)
    sent = [-1.5, -1.0, -0.999, -0.5, -0.0, 0.0, 0.5, 1.0, 1.999, float("nan"), 2.0**40, -(2.0**40)]
    expected = np.asarray(fitted.predict(pd.DataFrame({"code": sent, "x": 1.0}))).tolist()
    assert expected[3] == expected[5] != expected[1]
    assert made.predict([sent, [1.0] * len(sent)], len(sent)).labels == pytest.approx(expected, abs=1e-12)
    assert [made.predict((code, 1.0), 1).labels[0] for code in sent] == pytest.approx(expected, abs=1e-12)


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


TARGETS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a function": {"func": np.log, "inverse_func": np.exp},
    "a function that takes anything": {"transformer": FunctionTransformer(np.log, np.exp)},
    "a scaler": {"transformer": StandardScaler()},
    "a range": {"transformer": MinMaxScaler()},
}


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
@pytest.mark.parametrize("how", TARGETS.values(), ids=TARGETS)
def test_predictions_that_are_not_finite_are_turned_back_where_scikit_learn_does(how: dict[str, Any], tmp_path: Path) -> None:
    target = np.exp(NUMBERS["x"] + 3.0 * NUMBERS["z"]) if "func" in str(how) else 20.0 * NUMBERS["x"] + 20.0 * NUMBERS["z"]
    fitted = TransformedTargetRegressor(LinearRegression(), **how).fit(NUMBERS, np.abs(target) + 1.0)
    made = engine(fitted, NUMBERS, tmp_path)
    for x, z in ((1e308, 1e308), (-1e308, -1e308), (1e308, -1e308), (1.0, 2.0)):
        rows: list[Any] = [(x, z), [[x], [z]]]
        try:
            expected = fitted.predict(pd.DataFrame({"x": [x], "z": [z]})).tolist()
        except ValueError:
            for row in rows:
                with pytest.raises(Refused):
                    made.predict(row, 1)
            continue
        for row in rows:
            assert made.predict(row, 1).labels == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_an_infinite_number_among_texts_is_one_more_category(tmp_path: Path) -> None:
    mixed = pd.DataFrame({"word": ["a", "b", "c", "d"] * 20, "code": [1.0, 2.0, 3.0, 4.0] * 20})
    filled = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    fitted = make_pipeline(filled, LogisticRegression()).fit(mixed, EVEN)
    made = engine(fitted, mixed, tmp_path)
    assert parity.compare(fitted, tmp_path, mixed).ok
    for code in (float("inf"), float("-inf"), 5.0):
        expected = fitted.predict_proba(pd.DataFrame({"word": ["a"], "code": [code]})).ravel()
        assert made.predict(("a", code), 1).scores == pytest.approx(expected.tolist(), abs=1e-12)


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


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
@pytest.mark.parametrize("model", [NearestCentroid(), NearestCentroid(metric="manhattan"), NearestCentroid(priors="empirical")])
def test_centroids_refuse_what_overflows_before_the_distances(model: Any, tmp_path: Path) -> None:
    flat = NUMBERS * 0.3
    fitted = model.fit(flat, ABOVE)
    made = engine(fitted, flat, tmp_path)
    for row in ((1.7e308, 0.0), (0.0, -1.7e308), (1e308, 1e308), (1e150, 0.0)):
        try:
            asked = pd.DataFrame([row], columns=["x", "z"])
            expected = fitted.predict(asked).tolist()
            if hasattr(fitted, "predict_proba"):
                fitted.predict_proba(asked)
        except ValueError:
            with pytest.raises(Refused):
                made.predict(row, 1)
        else:
            assert made.predict(row, 1).labels == expected


def test_categories_as_large_as_dates_take_no_memory(tmp_path: Path) -> None:
    days = pd.DataFrame({"day": 20260000.0 + np.arange(400) % 28 * 100, "x": np.arange(400) * 0.01})
    coded = make_pipeline(HistGradientBoostingRegressor(max_iter=30, categorical_features=[0], max_leaf_nodes=8))
    fitted = coded.fit(days, np.sin(days["day"]) + days["x"])
    tracemalloc.start()
    try:
        made = engine(fitted, days, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20  # bits for all of them would be 150 MB
    finally:
        tracemalloc.stop()
    assert made.predict([days["day"].tolist(), days["x"].tolist()], 400).labels == pytest.approx(
        fitted.predict(days).tolist(), abs=1e-12
    )


FLAGGED = pd.DataFrame({"k": np.arange(80) % 5.0, "flag": EVEN})
BESIDE: dict[str, Any] = {
    "encoded": make_pipeline(
        ColumnTransformer([("f", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["k", "flag"])]),
        LogisticRegression(),
    ),
    "as they are": HistGradientBoostingClassifier(max_iter=3),
    "chosen": make_pipeline(SelectKBest(k=1), RandomForestClassifier(3)),
    "passed on": make_pipeline(
        ColumnTransformer([("f", "passthrough", ["k", "flag"])]),
        SimpleImputer(strategy="most_frequent"),
        RandomForestClassifier(3),
    ),
}


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value", "ignore:Features")
@pytest.mark.parametrize("model", BESIDE.values(), ids=BESIDE)
def test_booleans_beside_numbers_are_numbers_until_numpy_joins_them(model: Any, tmp_path: Path) -> None:
    frame = FLAGGED.assign(k=FLAGGED["k"] + 0.5)
    fitted = model.fit(frame, np.arange(80) % 3 == 0)
    engine(fitted, frame, tmp_path)
    found = parity.compare(fitted, tmp_path, frame)
    assert found.ok, found.message


@pytest.mark.parametrize("model", [BaggingClassifier(n_estimators=3), BaggingClassifier(n_estimators=3, max_features=0.4)])
def test_bagged_trees_of_one_column(model: Any, tmp_path: Path) -> None:
    frame = NUMBERS[["x"]] if model.max_features == 1.0 else NUMBERS
    fitted = model.fit(frame, ABOVE)
    made = engine(fitted, frame, tmp_path)
    columns: list[Any] = [frame[name].tolist() for name in frame]
    assert made.predict(columns, 80).scores == pytest.approx(fitted.predict_proba(frame).ravel().tolist(), abs=1e-12)


def test_quantiles_of_the_normal_distribution_before_trees(tmp_path: Path) -> None:
    spread = QuantileTransformer(output_distribution="normal", n_quantiles=50)
    fitted = make_pipeline(spread, RandomForestClassifier(5, random_state=0)).fit(NUMBERS, ABOVE)
    engine(fitted, NUMBERS, tmp_path)
    found = parity.compare(fitted, tmp_path, NUMBERS)
    assert found.ok, found.message


@given(st.floats(0.0, 1.0) | st.floats(0.0, 1e-3) | st.integers(-300, 0).map(lambda power: 10.0**power))
def test_normal_deviates_are_scipys_to_the_last_bit(share: float) -> None:
    assert deviate(share) == ndtri(share)
    assert deviate(1.0 - share) == ndtri(1.0 - share)


def test_normal_deviates_are_scipys_in_the_middle_and_at_its_edges() -> None:
    shares = np.concatenate([np.linspace(0.13, 0.87, 30_001), TAIL + np.linspace(-1e-6, 1e-6, 1001)])
    assert [deviate(share) for share in shares.tolist()] == ndtri(shares).tolist()


def test_ids_beyond_doubles_are_compared_without_the_company_of_gaps(tmp_path: Path) -> None:
    ids = pd.DataFrame({"id": np.array([1234567890123456789, 1234567890123456790, 7, 8] * 20)})
    fitted = make_pipeline(
        ColumnTransformer([("id", OneHotEncoder(handle_unknown="ignore"), ["id"])]), DecisionTreeClassifier()
    ).fit(ids, ids["id"] % 2 == 0)
    engine(fitted, ids, tmp_path)
    found = parity.compare(fitted, tmp_path, ids)
    assert found.ok, found.message


def test_one_against_the_rest_asks_for_no_column_that_it_does_not_read(tmp_path: Path) -> None:
    frame = NUMBERS.assign(day=pd.date_range("2026-01-01", periods=80))
    chosen = make_pipeline(ColumnTransformer([("n", StandardScaler(), ["x"])]), LogisticRegression())
    fitted = OneVsRestClassifier(chosen).fit(frame, np.arange(80) % 3)
    made = engine(fitted, frame, tmp_path)
    assert [one.name for one in made.inputs] == ["x"]
    assert parity.compare(fitted, tmp_path, frame).ok
