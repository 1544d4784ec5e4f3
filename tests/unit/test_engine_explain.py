"""Explanations of the compiled engine: equal to shap's, adding up to the answers, and refused where nothing adds up."""

import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from functools import cache
from itertools import combinations
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier, XGBRegressor

from kaizen.serving.engine import runtime
from kaizen.serving.engine.base import Attributions, Engine, Refused
from kaizen.serving.engine.compile import Compiled, compile_pipeline, save
from kaizen.serving.engine.explanation import trees
from kaizen.serving.engine.explanation.sources import behind
from kaizen.serving.engine.transforms import TRANSFORMS

ROWS = 12
SMALL: Mapping[str, Any] = {"max_iter": 8, "max_leaf_nodes": 9, "random_state": 0, "early_stopping": False}
FEW: Mapping[str, Any] = {"n_estimators": 6, "random_state": 0}
SINGLE: Mapping[str, Any] = {"n_estimators": 8, "max_depth": 4, "nthread": 1}
LIGHT: Mapping[str, Any] = {"n_estimators": 8, "num_leaves": 9, "verbose": -1, "n_jobs": 1}


def numbers(gaps: bool = False, rows: int = 200) -> pd.DataFrame:
    made = pd.DataFrame(np.random.default_rng(0).normal(size=(rows, 4)), columns=list("abcd"))
    if gaps:
        made.loc[::5, "b"] = np.nan
    return made


def flights(rows: int = 250) -> pd.DataFrame:
    chance = np.random.default_rng(0)
    made = pd.DataFrame(
        {
            "carrier": pd.Series(chance.choice(["AA", "B6", "UA"], rows), dtype=object),
            "distance": chance.gamma(2.0, 500.0, rows),
            "temp": chance.normal(12.0, 9.0, rows),
            "hour": chance.integers(5, 23, rows),
        }
    )
    made.loc[::9, "temp"] = np.nan
    made.loc[::13, "carrier"] = None
    return made


def truth(data: pd.DataFrame, kind: str) -> Any:
    late = data.select_dtypes("number").fillna(0.0)
    score = (late / late.std()).sum(axis=1) + np.random.default_rng(1).normal(size=len(data))
    if kind == "number":
        return score.to_numpy()
    return score.to_numpy() > score.median() if kind == "two" else np.digitize(score, score.quantile([0.3, 0.6]))


def compiled(model: Any, data: pd.DataFrame, kind: str, directory: Path, **weights: Any) -> Engine:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(data, truth(data, kind), **weights)
        made = compile_pipeline(model, data)
    assert isinstance(made, Compiled), made
    save(made, directory)
    return runtime.load(directory)


def explain(engine: Engine, rows: pd.DataFrame) -> tuple[Attributions, Any]:
    """Also as an array (rows, outputs, inputs)."""
    data = {name: [None if value is None or value != value else value for value in rows[name].tolist()] for name in rows}
    made = engine.explain(engine.columns(data), len(rows))
    return made, np.array(made.values).reshape(len(rows), made.outputs, len(made.inputs))


@cache
def library() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it calls of Matplotlib is going to change
        import shap
    return shap


def of_shap(model: Any, rows: pd.DataFrame) -> tuple[Any, Any]:
    """Base (outputs,) and values (rows, outputs, inputs) of shap; of two classes the second."""
    if type(model).__module__.startswith("sklearn") and "Hist" not in type(model).__name__:
        rows = rows.astype(np.float32).astype(np.float64)  # as its trees do
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = library().TreeExplainer(model, feature_perturbation="tree_path_dependent")
        values = np.asarray(explainer.shap_values(rows, check_additivity=False), dtype=np.float64)
    base = np.atleast_1d(explainer.expected_value)
    values = values[:, None] if values.ndim == 2 else values.transpose(0, 2, 1)
    return (base[1:], values[:, 1:]) if len(base) == 2 else (base, values)


TREES = {
    "HistGradientBoostingClassifier": (HistGradientBoostingClassifier(**SMALL), "two", True),
    "HistGradientBoostingClassifier of three": (HistGradientBoostingClassifier(**SMALL), "three", True),
    "HistGradientBoostingRegressor": (HistGradientBoostingRegressor(**SMALL), "number", True),
    "GradientBoostingClassifier": (GradientBoostingClassifier(**FEW), "two", False),
    "GradientBoostingRegressor": (GradientBoostingRegressor(max_depth=6, **FEW), "number", False),
    "RandomForestClassifier": (RandomForestClassifier(**FEW), "two", False),
    "RandomForestClassifier of three": (RandomForestClassifier(max_depth=4, **FEW), "three", False),
    "RandomForestRegressor": (RandomForestRegressor(criterion="absolute_error", max_depth=4, **FEW), "number", False),
    "ExtraTreesRegressor": (ExtraTreesRegressor(**FEW), "number", False),
    "DecisionTreeClassifier": (DecisionTreeClassifier(random_state=0), "three", False),
    "LGBMClassifier": (LGBMClassifier(**LIGHT), "two", True),
    "LGBMClassifier of three": (LGBMClassifier(**LIGHT), "three", True),
    "LGBMRegressor": (LGBMRegressor(**LIGHT), "number", True),
    "XGBClassifier": (XGBClassifier(**SINGLE), "two", True),
    "XGBClassifier of three": (XGBClassifier(**SINGLE), "three", True),
    "XGBRegressor": (XGBRegressor(**SINGLE), "number", True),
}


@pytest.mark.parametrize("name", TREES)
def test_trees_are_explained_as_shap_does(name: str, tmp_path: Path) -> None:
    model, kind, gaps = TREES[name]
    data = numbers(gaps)
    weights = np.random.default_rng(2).uniform(0.5, 2.0, len(data))
    engine = compiled(model, data, kind, tmp_path, sample_weight=weights)
    made, values = explain(engine, data[:ROWS])
    base, wanted = of_shap(model, data[:ROWS])
    assert values == pytest.approx(wanted, abs=1e-5 if name.startswith("XGB") else 1e-9)  # XGBoost's are in single precision
    assert made.base == pytest.approx(base, abs=1e-6)
    assert made.inputs == ("a", "b", "c", "d")


def test_categories_of_lightgbm_are_explained_as_shap_does(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 12, (200, 2))
    data = numbers(gaps=True).assign(c=codes[:, 0].astype(float), d=codes[:, 1].astype(float))
    model = LGBMRegressor(**LIGHT, min_data_per_group=5, cat_smooth=1.0, categorical_feature=[2, 3])
    engine = compiled(model, data, "number", tmp_path)
    rows = data[:ROWS].copy()
    rows.iloc[:3, 2] = [99.0, -1.0, np.nan]  # none that it knows
    assert explain(engine, rows)[1][:, 0] == pytest.approx(np.asarray(model.predict(rows, pred_contrib=True))[:, :-1], abs=1e-9)


def test_categories_of_histogram_boosting_follow_the_definition(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 6, 200)
    data = numbers().assign(c=codes.astype(float)).drop(columns="d")
    model = HistGradientBoostingRegressor(**SMALL, categorical_features=[2])
    engine = compiled(model, data, "number", tmp_path)
    for row in (0, 1, 2):
        wanted = by_definition(model, data.iloc[row].to_numpy())
        assert explain(engine, data[row : row + 1])[1][0, 0] == pytest.approx(wanted, abs=1e-9)


def by_definition(model: Any, row: Any) -> list[float]:
    """Shapley's own sum over all sets of inputs; what is not in a set goes both ways, by the training rows that did."""
    order = np.argsort(~model.is_categorical_, kind="stable")

    def expected(predictor: Any, known: frozenset[int], node: int) -> float:
        one = predictor.nodes[node]
        if one["is_leaf"]:
            return float(one["value"])
        feature = int(order[one["feature_idx"]])
        sides = [int(one["left"]), int(one["right"])]
        if feature not in known:
            shares = [predictor.nodes[side]["count"] / one["count"] for side in sides]
            return float(sum(share * expected(predictor, known, side) for share, side in zip(shares, sides, strict=True)))
        if one["is_categorical"]:
            listed = predictor.raw_left_cat_bitsets[one["bitset_idx"]]
            category = int(row[feature])
            left = bool(listed[category // 32] >> np.uint32(category % 32) & 1)
        else:
            left = row[feature] <= one["num_threshold"]
        return expected(predictor, known, sides[0 if left else 1])

    def value(known: frozenset[int]) -> float:
        return sum(expected(stage[0], known, 0) for stage in model._predictors)

    made = []
    for one in range(len(row)):
        others = [place for place in range(len(row)) if place != one]
        total = 0.0
        for size in range(len(row)):
            weight = factorial(size) * factorial(len(row) - size - 1) / factorial(len(row))
            for chosen in combinations(others, size):
                total += weight * (value(frozenset([*chosen, one])) - value(frozenset(chosen)))
        made.append(total)
    return made


@pytest.mark.parametrize("kind", ["two", "three", "number"])
def test_linear_models_are_explained_as_shap_does(kind: str, tmp_path: Path) -> None:
    data = numbers().add([100.0, 0.0, -3.0, 5.0])
    model = LinearRegression() if kind == "number" else LogisticRegression()
    made, values = explain(compiled(model, data, kind, tmp_path), data[:ROWS])
    explainer = library().LinearExplainer(model, library().maskers.Independent(data, max_samples=len(data)))
    wanted = np.asarray(explainer.shap_values(data[:ROWS]))
    assert values == pytest.approx(wanted[:, None] if wanted.ndim == 2 else wanted.transpose(0, 2, 1), abs=1e-9)
    assert made.base == pytest.approx(np.atleast_1d(explainer.expected_value), abs=1e-9)


def columns() -> ColumnTransformer:
    amounts = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    names = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="?"), OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    )
    return ColumnTransformer([("amounts", amounts, ["distance", "temp", "hour"]), ("names", names, ["carrier"])])


@pytest.mark.parametrize("model", [HistGradientBoostingClassifier(**SMALL), LogisticRegression()], ids=["trees", "linear"])
def test_transformed_columns_are_summed_back_to_the_inputs(model: Any, tmp_path: Path) -> None:
    data = flights()
    pipeline = Pipeline([("columns", columns()), ("model", model)])
    made, values = explain(compiled(pipeline, data, "two", tmp_path), data[:ROWS])
    table = pd.DataFrame(pipeline["columns"].transform(data))
    if isinstance(model, LogisticRegression):
        wanted = (
            library()
            .LinearExplainer(model, library().maskers.Independent(table, max_samples=len(table)))
            .shap_values(table[:ROWS])
        )
    else:
        wanted = of_shap(model, table[:ROWS])[1][:, 0]
    # distance, temp, hour, whether temp is missing, then the carriers
    owner = np.array([1, 2, 3, 2, *[0] * (table.shape[1] - 4)])
    summed = np.column_stack([np.asarray(wanted)[:, owner == place].sum(axis=1) for place in range(4)])
    assert made.inputs == ("carrier", "distance", "temp", "hour")
    assert values[:, 0] == pytest.approx(summed, abs=1e-9)
    assert made.unit == "log-odds"


WHOLE = {
    "threshold": (FixedThresholdClassifier(GradientBoostingClassifier(**FEW), threshold=0.3), "two", "log-odds"),
    "sigmoid": (
        CalibratedClassifierCV(HistGradientBoostingClassifier(**SMALL), method="sigmoid", ensemble=False, cv=2),
        *("two", "log-odds"),
    ),
    "sigmoid of a forest": (
        CalibratedClassifierCV(RandomForestClassifier(**FEW), method="sigmoid", ensemble=False, cv=2),
        *("two", "log-odds"),
    ),
    "temperature": (
        CalibratedClassifierCV(LogisticRegression(), method="temperature", ensemble=False, cv=2),
        *("two", "log-odds"),
    ),
    "vote of forests": (
        VotingClassifier([("a", RandomForestClassifier(**FEW)), ("b", DecisionTreeClassifier())], voting="soft", weights=[2, 1]),
        *("three", "probability"),
    ),
    "vote of regressors": (VotingRegressor([("a", Ridge()), ("b", RandomForestRegressor(**FEW))]), "number", "number"),
    "bagging": (BaggingRegressor(Ridge(), n_estimators=3, max_features=0.6, random_state=0), "number", "number"),
    "bagging of trees": (BaggingClassifier(n_estimators=4, max_features=0.6, random_state=0), "three", "probability"),
    "stack": (
        StackingRegressor([("a", Ridge()), ("b", RandomForestRegressor(**FEW))], LinearRegression(), cv=2),
        *("number", "number"),
    ),
    "scaled target": (TransformedTargetRegressor(Ridge(), transformer=MinMaxScaler()), "number", "number"),
    "boosted trees": (AdaBoostClassifier(n_estimators=5, random_state=0), "two", "log-odds"),
    "constant": (DummyClassifier(), "three", "probability"),
    "naive Bayes": (make_pipeline(MinMaxScaler(), MultinomialNB()), "two", "log-odds"),
    "margins": (LinearSVC(random_state=0), "two", "score"),
    "one against the rest": (OneVsRestClassifier(LinearSVC(random_state=0)), "three", "score"),
    "splines and bins": (
        make_pipeline(
            FeatureUnion([("s", SplineTransformer(n_knots=4)), ("b", KBinsDiscretizer(3, quantile_method="linear"))]), Ridge()
        ),
        *("number", "number"),
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_base_and_attributions_add_up_to_the_answer(name: str, tmp_path: Path) -> None:
    model, kind, unit = WHOLE[name]
    data = numbers()
    engine = compiled(model, data, kind, tmp_path)
    made, values = explain(engine, data[:ROWS])
    assert made.unit == unit
    sums = np.array(made.base) + values.sum(axis=2)
    assert sums == pytest.approx(said(model, data[:ROWS], unit), abs=1e-9)


def said(model: Any, rows: pd.DataFrame, unit: str) -> Any:
    """scikit-learn's own answers, (rows, outputs), in the unit."""
    if unit == "score":
        scores = np.asarray(model.decision_function(rows))
        return scores.reshape(len(rows), -1)
    if not hasattr(model, "predict_proba"):
        return model.predict(rows)[:, None]
    shares = model.predict_proba(rows)
    shares = shares[:, 1:] if shares.shape[1] == 2 else shares
    return np.log(shares / (1 - shares)) if unit == "log-odds" else shares


def test_isotonic_calibration_leaves_the_score_to_explain(tmp_path: Path) -> None:
    data = numbers()
    inner = LogisticRegression().fit(data, truth(data, "two"))
    model = CalibratedClassifierCV(FrozenEstimator(inner), method="isotonic")
    made, values = explain(compiled(model, data, "two", tmp_path), data[:ROWS])
    assert np.array(made.base) + values.sum(axis=2) == pytest.approx(inner.decision_function(data[:ROWS])[:, None])
    assert made.unit == "score"


def test_a_logarithm_is_explained_before_it_is_raised(tmp_path: Path) -> None:
    data = numbers()
    for model in (PoissonRegressor(), TransformedTargetRegressor(Ridge(), func=np.log, inverse_func=np.exp)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(data, np.exp(truth(data, "number")))
        made = compile_pipeline(model, data)
        assert isinstance(made, Compiled)
        save(made, tmp_path)
        found, values = explain(runtime.load(tmp_path), data[:ROWS])
        assert found.unit == "logarithm"
        assert np.exp(np.array(found.base) + values.sum(axis=2))[:, 0] == pytest.approx(model.predict(data[:ROWS]))


NONE = {
    "soft vote": (
        VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft"),
        *("two", "what Linear answers"),
    ),
    "hard vote": (VotingClassifier([("a", LogisticRegression()), ("b", DecisionTreeClassifier())]), "two", "votes"),
    "calibrated several": (CalibratedClassifierCV(LogisticRegression(), cv=2), "two", "what Calibrated answers"),
    "calibrated classes": (
        CalibratedClassifierCV(LogisticRegression(), cv=2, ensemble=False),
        *("three", "calibrated by itself"),
    ),
    "perceptrons": (MLPClassifier((3,), max_iter=5, random_state=0), "two", "a model Perceptrons answers is no sum"),
    "median": (AdaBoostRegressor(n_estimators=3, random_state=0), "number", "a model Median answers is no sum"),
    "projection": (make_pipeline(PCA(2), Ridge()), "number", "several inputs ('a', 'b', 'c', 'd')"),
    "products": (make_pipeline(PolynomialFeatures(2), RandomForestRegressor(**FEW)), "number", "several inputs"),
}


@pytest.mark.parametrize("name", NONE)
def test_what_adds_nothing_up_is_refused(name: str, tmp_path: Path) -> None:
    model, kind, because = NONE[name]
    data = numbers()
    engine = compiled(model, data, kind, tmp_path)
    with pytest.raises(Refused, match=r"this model explains no single answers: .*report\.html") as refused:
        explain(engine, data[:1])
    assert because in str(refused.value)
    with pytest.raises(Refused, match="explains no single answers"):  # the second time as well
        explain(engine, data[:1])


def test_engines_that_run_another_library_explain_nothing() -> None:
    header: dict[str, Any] = {
        "task": "Regression",
        "inputs": [],
        "classes": None,
        "threshold": None,
        "keys": [],
        "timestamp": None,
    }
    with pytest.raises(Refused, match="this one runs in the library that it comes from"):
        runtime.Header(header).explain([], 1)


def test_a_projection_of_one_text_belongs_to_the_text(tmp_path: Path) -> None:
    from sklearn.decomposition import TruncatedSVD

    data = flights().assign(note=lambda frame: frame["carrier"].fillna("none") + " was late")
    texts = make_pipeline(TfidfVectorizer(), TruncatedSVD(2, random_state=0))
    model = make_pipeline(ColumnTransformer([("texts", texts, "note"), ("hour", "passthrough", ["hour"])]), Ridge())
    made, values = explain(compiled(model, data[["note", "hour"]], "number", tmp_path), data[["note", "hour"]][:ROWS])
    assert made.inputs == ("note", "hour")
    assert made.base[0] + values[:, 0].sum(axis=1) == pytest.approx(model.predict(data[["note", "hour"]][:ROWS]))


def test_a_row_that_the_model_refuses_is_not_explained(tmp_path: Path) -> None:
    data = numbers()
    engine = compiled(Ridge(), data, "number", tmp_path)
    with pytest.raises(Refused, match="missing"):
        engine.explain([[1.0], [float("nan")], [1.0], [1.0]], 1)


def test_trees_without_splits_and_rows_that_no_training_row_was_like(tmp_path: Path) -> None:
    data = numbers()
    flat = compiled(HistGradientBoostingRegressor(**{**SMALL, "min_samples_leaf": 500}), data, "number", tmp_path)
    made, values = explain(flat, data[:2])
    assert not values.any()
    assert made.base == pytest.approx([truth(data, "number").mean()])
    tree = DecisionTreeClassifier(random_state=0)
    weights = np.where(np.arange(len(data)) % 2, 1.0, 0.0)  # rows that count nothing leave nodes that nobody came by
    engine = compiled(tree, data, "two", tmp_path, sample_weight=weights)
    made, values = explain(engine, data[:60])
    assert made.base + values[:, 0].sum(axis=1) == pytest.approx(tree.predict_proba(data[:60])[:, 1], abs=1e-9)


def test_forests_that_would_take_too_long_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = numbers()
    engine = compiled(RandomForestRegressor(**FEW), data, "number", tmp_path)
    monkeypatch.setattr(trees, "MOST_NODES", 100)
    with pytest.raises(Refused, match=r"its trees have \d+ nodes"):
        explain(engine, data[:1])


def test_trees_are_explained_in_groups_as_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = numbers()
    engine = compiled(RandomForestClassifier(**FEW), data, "three", tmp_path)
    whole = explain(engine, data[:3])
    monkeypatch.setattr(trees, "AT_ONCE", 500)
    parts = explain(runtime.load(tmp_path), data[:3])
    assert parts[1] == pytest.approx(whole[1], abs=1e-12)
    assert parts[0].base == pytest.approx(whole[0].base)


def test_every_transform_says_what_its_columns_are_made_of() -> None:
    class Stranger:
        pass

    with pytest.raises(TypeError, match="Stranger does not say"):
        behind([Stranger()], [])  # type: ignore[list-item]
    for kind in TRANSFORMS.values():
        try:
            behind([object.__new__(kind)], [frozenset([0])])
        except AttributeError:
            continue  # it is known, and asked for its fields


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Engine]:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    given = ColumnTransformer([("carrier", codes, ["carrier"])], remainder="passthrough")
    model = HistGradientBoostingClassifier(**SMALL, categorical_features=[0])
    pipeline = make_pipeline(given, model)
    return pipeline, compiled(pipeline, flights(), "two", tmp_path_factory.mktemp("model"))


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    carrier=st.sampled_from(["AA", "B6", "UA", "??", None]),
    distance=st.none() | st.floats(0, 1e4),
    temp=st.none() | st.floats(-50, 60),
    hour=st.integers(-5, 30),
)
def test_attributions_add_up_for_any_row(served: tuple[Any, Engine], **row: Any) -> None:
    _, engine = served
    data = {name: [value] for name, value in row.items()}
    given_columns = engine.columns(data)
    found, answer = engine.explain(given_columns, 1), engine.predict(given_columns, 1)
    score = found.base[0] + sum(found.values)
    assert answer.scores is not None
    assert 1 / (1 + np.exp(-score)) == pytest.approx(answer.scores[1], abs=1e-12)


def test_a_server_that_is_never_asked_loads_none_of_it() -> None:
    loads = "import sys, kaizen.serving.engine.runtime; print([name for name in sys.modules if 'explanation' in name])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True, env=environment)
    assert told.stdout.strip() == "[]"
