"""Whole pipelines, compiled, loaded and asked: equal to scikit-learn on training rows and hostile ones, alone and in a batch."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lasso, LogisticRegression, PoissonRegressor, Ridge, RidgeClassifier
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC
from xgboost import XGBClassifier, XGBRegressor

from kaizen.serving.engine import runtime
from kaizen.serving.engine.compile import Compiled, NotCovered, compile_pipeline, save
from kaizen.serving.engine.models import TOLERANCE
from kaizen.serving.engine.parity import compare

NUMBERS, WORDS = ["a", "b", "flag"], ["c", "d"]
CODES = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan, max_categories=255)
SMALL = {"max_iter": 12, "max_leaf_nodes": 7, "random_state": 0, "early_stopping": False}
CATEGORIES = {**SMALL, "categorical_features": [False, False, False, True, True]}


def frame(rows: int = 240, seed: int = 0) -> pd.DataFrame:
    """Numbers with gaps, whole numbers, booleans, and texts with gaps."""
    chance = np.random.default_rng(seed)
    made = pd.DataFrame(
        {
            "a": chance.normal(size=rows) * 10.0 ** chance.integers(-3, 4, rows),
            "b": chance.integers(0, 9, rows),
            "flag": chance.random(rows) < 0.5,
            "c": pd.Series(chance.choice(["EWR", "JFK", "LGA", "", "é"], rows), dtype=object),
            "d": pd.Series(chance.choice(["u", "v"], rows), dtype=object),
        }
    )
    made.loc[::7, "a"] = np.nan
    made.loc[::11, "d"] = np.nan
    return made


def target(data: pd.DataFrame, kind: str) -> Any:
    strength = data["a"].fillna(0).clip(-5, 5) + data["b"] + 4.0 * (data["c"] == "JFK")
    strength = strength + np.random.default_rng(1).normal(size=len(data))
    match kind:
        case "boolean":
            return (strength > 4).to_numpy()
        case "words":
            return np.where(strength > 6, "late", np.where(strength > 3, "on time", "early")).astype(object)
        case "whole":
            return np.digitize(strength, [2, 4, 6])
        case "positive":
            return np.exp(strength.to_numpy() / 10) * 1e6
    return strength.to_numpy() * 1e6


def linear() -> Any:
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler())
    words = OneHotEncoder(handle_unknown="ignore", max_categories=100, sparse_output=False)
    return ColumnTransformer(
        [("n", numbers, ["a", "b"]), ("f", "passthrough", ["flag"]), ("w", words, WORDS)], sparse_threshold=0.0
    )


def forest() -> Any:
    words = OneHotEncoder(handle_unknown="ignore", max_categories=4)
    imputer = SimpleImputer(strategy="median", add_indicator=True)
    return ColumnTransformer([("n", imputer, ["a", "b"]), ("f", "passthrough", ["flag"]), ("w", words, WORDS)])


def boosting() -> Any:
    return ColumnTransformer([("n", "passthrough", ["a", "b"]), ("f", "passthrough", ["flag"]), ("w", CODES, WORDS)])


LIGHT: dict[str, Any] = {"n_estimators": 9, "min_child_samples": 3, "verbose": -1, "n_jobs": 1, "random_state": 0}

CASES: dict[str, tuple[Any, Any, str]] = {
    "logistic, two classes": (linear(), LogisticRegression(), "boolean"),
    "logistic, three classes": (linear(), LogisticRegression(), "words"),
    "ridge": (linear(), Ridge(), "number"),
    "ridge without intercept": (linear(), Ridge(fit_intercept=False), "number"),
    "forest, two classes": (forest(), RandomForestClassifier(9, random_state=0), "boolean"),
    "forest, four whole numbers": (forest(), RandomForestClassifier(9, random_state=0), "whole"),
    "forest of numbers": (forest(), RandomForestRegressor(9, random_state=0), "number"),
    "forest that sees missing numbers": (
        ColumnTransformer([("n", "passthrough", NUMBERS)]),
        RandomForestClassifier(9, random_state=0),
        "words",
    ),
    "forest over a sparse matrix": (
        ColumnTransformer(
            [("n", SimpleImputer(), ["b"]), ("w", OneHotEncoder(handle_unknown="ignore"), WORDS)], sparse_threshold=1.0
        ),
        RandomForestClassifier(9, random_state=0),
        "boolean",
    ),
    "boosting, two classes": (boosting(), HistGradientBoostingClassifier(**CATEGORIES), "boolean"),
    "boosting, three classes": (boosting(), HistGradientBoostingClassifier(**CATEGORIES), "words"),
    "boosting of numbers": (boosting(), HistGradientBoostingRegressor(**CATEGORIES), "number"),
    "boosting with a logarithmic link": (boosting(), HistGradientBoostingRegressor(loss="poisson", **CATEGORIES), "positive"),
    "boosting, codes as numbers": (boosting(), HistGradientBoostingClassifier(**SMALL), "boolean"),
    "boosting that stopped early": (
        boosting(),
        HistGradientBoostingClassifier(**{**CATEGORIES, "max_iter": 60, "early_stopping": True, "n_iter_no_change": 2}),
        "boolean",
    ),
    "boosting, whole numbers as categories": (
        ColumnTransformer([("n", "passthrough", ["a", "b"])]),
        HistGradientBoostingClassifier(**{**SMALL, "categorical_features": [False, True]}),
        "words",
    ),
    "boosting, unseen codes that are not missing": (
        ColumnTransformer(
            [("w", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), WORDS), ("n", "passthrough", ["a"])]
        ),
        HistGradientBoostingClassifier(**{**SMALL, "categorical_features": [True, True, False]}),
        "boolean",
    ),
    "extra trees": (forest(), ExtraTreesClassifier(9, random_state=0), "words"),
    "lasso": (linear(), Lasso(alpha=0.1), "number"),
    "poisson": (linear(), PoissonRegressor(), "whole"),
    "discriminant analysis": (ColumnTransformer([("n", SimpleImputer(), NUMBERS)]), LinearDiscriminantAnalysis(), "words"),
    "LightGBM, two classes": (boosting(), LGBMClassifier(**LIGHT), "boolean"),
    "LightGBM, three classes": (boosting(), LGBMClassifier(**LIGHT), "words"),
    "LightGBM of numbers": (boosting(), LGBMRegressor(**LIGHT), "number"),
    "LightGBM with a logarithmic link": (boosting(), LGBMRegressor(objective="poisson", **LIGHT), "whole"),
    "sigmoid over logistic": (linear(), CalibratedClassifierCV(LogisticRegression(), cv=2, ensemble=False), "words"),
    "isotonic over boosting": (
        boosting(),
        CalibratedClassifierCV(HistGradientBoostingClassifier(**CATEGORIES), method="isotonic", cv=2),
        "boolean",
    ),
    "classes without probabilities": (linear(), LinearSVC(random_state=0), "words"),
    "two classes without probabilities": (linear(), RidgeClassifier(), "boolean"),
    "XGBoost over a sparse matrix": (
        ColumnTransformer(
            [("n", SimpleImputer(), ["b"]), ("w", OneHotEncoder(handle_unknown="ignore"), WORDS)], sparse_threshold=1.0
        ),
        XGBClassifier(n_estimators=9, max_depth=3, n_jobs=1),
        "boolean",
    ),
    "XGBoost of numbers": (boosting(), XGBRegressor(n_estimators=9, max_depth=3, n_jobs=1), "number"),
    "a vote of pipelines over the raw columns": (
        "passthrough",
        VotingClassifier(
            [
                ("l", make_pipeline(linear(), LogisticRegression())),
                ("f", make_pipeline(forest(), RandomForestClassifier(9, random_state=0))),
                ("b", make_pipeline(boosting(), HistGradientBoostingClassifier(**CATEGORIES))),
            ],
            voting="soft",
            weights=[0.2, 0.5, 0.3],
        ),
        "words",
    ),
    "a mean of pipelines over the raw columns": (
        "passthrough",
        VotingRegressor([("l", make_pipeline(linear(), Ridge())), ("b", make_pipeline(boosting(), LGBMRegressor(**LIGHT)))]),
        "number",
    ),
    "a stack of pipelines over the raw columns": (
        "passthrough",
        StackingClassifier(
            [
                ("l", make_pipeline(linear(), LinearSVC(random_state=0))),
                ("b", make_pipeline(boosting(), HistGradientBoostingClassifier(**CATEGORIES))),
            ],
            cv=2,
        ),
        "boolean",
    ),
    "a threshold around a pipeline": (
        "passthrough",
        FixedThresholdClassifier(
            make_pipeline(forest(), RandomForestClassifier(9, random_state=0)), threshold=0.3, response_method="predict_proba"
        ),
        "boolean",
    ),
    "a constant over texts": ("passthrough", DummyClassifier(), "words"),
    "unknown categories refused": (
        ColumnTransformer([("w", OneHotEncoder(), WORDS), ("n", StandardScaler(), ["b"])], remainder="drop"),
        LogisticRegression(),
        "boolean",
    ),
    "a column used twice, a step after": (
        Pipeline(
            [
                (
                    "columns",
                    ColumnTransformer([("n", "passthrough", ["b"]), ("w", OneHotEncoder(handle_unknown="ignore"), ["b", "c"])]),
                ),
                ("scale", StandardScaler(with_mean=False)),
            ]
        ),
        LogisticRegression(),
        "boolean",
    ),
}


def fit(before: Any, estimator: Any, data: pd.DataFrame, kind: str) -> Any:
    steps = before.steps if isinstance(before, Pipeline) else [("columns", before)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Pipeline([*steps, ("model", estimator)]).fit(data, target(data, kind))


def compiled(pipeline: Any, data: pd.DataFrame, **options: Any) -> Compiled:
    made = compile_pipeline(pipeline, data, **options)
    assert isinstance(made, Compiled), made
    return made


@pytest.mark.parametrize("name", CASES)
def test_equal_to_scikit_learn(name: str, tmp_path: Path) -> None:
    before, estimator, kind = CASES[name]
    data = frame()
    pipeline = fit(before, estimator, data, kind)
    save(compiled(pipeline, data), tmp_path)
    parity = compare(pipeline, tmp_path, frame(seed=5))
    assert parity.ok, parity.message
    assert parity.worst <= (1e-6 if "XGBoost" in name else TOLERANCE)
    assert parity.rows > 240


@pytest.mark.parametrize("name", ["logistic, two classes", "forest, two classes", "boosting, two classes"])
def test_the_decision_threshold_decides_the_label(name: str, tmp_path: Path) -> None:
    before, estimator, kind = CASES[name]
    data = frame()
    pipeline = fit(before, estimator, data, kind)
    save(compiled(pipeline, data, threshold=0.3), tmp_path)
    assert compare(pipeline, tmp_path, data).ok
    engine = runtime.load(tmp_path)
    answer = engine.predict(engine.columns({one.name: data[one.name].tolist() for one in engine.inputs} | words(data)), len(data))
    assert answer.probabilities is not None
    assert answer.labels == (answer.probabilities[:, 1] >= 0.3).tolist()
    assert answer.labels != pipeline.predict(data).tolist()


def words(data: pd.DataFrame) -> dict[str, list[Any]]:
    return {name: [None if value != value else value for value in data[name].tolist()] for name in WORDS}


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(
        st.tuples(
            st.one_of(st.just(float("nan")), st.floats(-1e6, 1e6), st.sampled_from([0.1, 0.1 + 2**-56, 1e-40, 16777217.0])),
            st.one_of(st.none(), st.sampled_from("abc"), st.text(max_size=3)),
        ),
        min_size=12,
        max_size=60,
    ),
    choice=st.integers(0, 2),
    classes=st.integers(2, 4),
)
def test_any_column_of_numbers_and_texts(
    numbers: list[tuple[float, str | None]], choice: int, classes: int, tmp_path: Path
) -> None:
    data = pd.DataFrame(
        {
            "x": [number for number, _ in numbers],
            "w": pd.Series([np.nan if word is None else word for _, word in numbers], dtype=object),
        }
    )
    imputed = SimpleImputer(add_indicator=True, keep_empty_features=True)
    hot = OneHotEncoder(handle_unknown="ignore", max_categories=5, sparse_output=False)
    before: Any = [
        ColumnTransformer([("x", make_pipeline(imputed, StandardScaler()), ["x"]), ("w", hot, ["w"])]),
        ColumnTransformer([("x", imputed, ["x"]), ("w", hot, ["w"])]),
        ColumnTransformer([("x", "passthrough", ["x"]), ("w", CODES, ["w"])]),
    ][choice]
    estimator: Any = [
        LogisticRegression(max_iter=20),
        RandomForestClassifier(5, random_state=0),
        HistGradientBoostingClassifier(max_iter=4, min_samples_leaf=2, categorical_features=[False, True], early_stopping=False),
    ][choice]
    labels = np.arange(len(data)) % classes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = Pipeline([("columns", before), ("model", estimator)]).fit(data, labels)
    save(compiled(pipeline, data), tmp_path)
    parity = compare(pipeline, tmp_path, data)
    assert parity.ok, parity.message


def test_equal_fits_have_equal_digests() -> None:
    data = frame()
    before, estimator, kind = CASES["boosting, two classes"]
    once, again = (compiled(fit(before, estimator, data, kind), data) for _ in range(2))
    assert once.digest == again.digest
    other = compiled(fit(before, HistGradientBoostingClassifier(**{**CATEGORIES, "max_iter": 11}), data, kind), data)
    assert other.digest != once.digest


NOT_COVERED: dict[str, tuple[Any, Any]] = {
    "KNeighborsRegressor is not compiled: it compares each row with rows of the training data": (linear(), KNeighborsRegressor()),
    "categories that are not small whole numbers need an OrdinalEncoder before HistGradientBoosting": (
        ColumnTransformer([("n", StandardScaler(), ["b"])]),
        HistGradientBoostingRegressor(**{**SMALL, "categorical_features": [0]}),
    ),
    "XGBoost with the booster gblinear is not compiled": (linear(), XGBRegressor(booster="gblinear", n_estimators=2, n_jobs=1)),
}


@pytest.mark.parametrize("reason", NOT_COVERED)
def test_what_is_not_covered_says_why(reason: str) -> None:
    data = frame()
    assert compile_pipeline(fit(*NOT_COVERED[reason], data, "positive"), data) == NotCovered(reason)
