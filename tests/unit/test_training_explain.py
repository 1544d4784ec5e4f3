"""Explanations: what a model does not use has no importance, and the parts of an answer make up the answer."""

import json
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from kaizen.training.data.prepare import Rows
from kaizen.training.models.fit import outputs
from kaizen.training.report import explain as explaining
from kaizen.training.report.explain import MISSING

NUMBERS, CATEGORIES = ["signal", "noise", "gaps"], ["carrier"]

explain = partial(explaining.explain, clock=lambda: 0.0)
"""Without haste: a busy machine must not leave anything out."""


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    gaps = draw.normal(size=rows)
    gaps[::7] = np.nan
    carriers = pd.Series(np.array(["UA", "AA", "B6"], dtype=object)[draw.integers(0, 3, rows)], dtype=object)
    carriers[::11] = np.nan
    return pd.DataFrame({"signal": draw.normal(size=rows), "noise": draw.normal(size=rows), "gaps": gaps, "carrier": carriers})


def truth(frame: pd.DataFrame, task: str, classes: int = 2) -> npt.NDArray[Any]:
    numbers = 3 * frame["signal"].to_numpy() + (frame["carrier"] == "UA").to_numpy()
    if task == "Regression":
        return np.asarray(numbers)
    return np.asarray(np.digitize(numbers, np.quantile(numbers, np.linspace(0, 1, classes + 1)[1:-1])), dtype=np.int64)


def rows_of(frame: pd.DataFrame, target: npt.NDArray[Any]) -> Rows:
    kinds: dict[str, Any] = {str(name): "Categorical" if column.dtype == object else "Numeric" for name, column in frame.items()}
    return Rows(frame, kinds, target, None, frame, pd.DataFrame(index=frame.index))


def pipeline(model: Any) -> Pipeline:
    columns = [("numbers", SimpleImputer(), NUMBERS), ("categories", OneHotEncoder(handle_unknown="ignore"), CATEGORIES)]
    return Pipeline([("columns", ColumnTransformer(columns, sparse_threshold=0.0)), ("model", model)])


def fitted(model: Any, task: str = "Classification", classes: int = 2) -> tuple[Pipeline, Rows]:
    learn, judge = table(400), table(60, seed=1)
    made = pipeline(model).fit(learn, truth(learn, task, classes))
    return made, rows_of(judge, truth(judge, task, classes))


@pytest.mark.parametrize(
    ("model", "task"),
    [(RandomForestClassifier(20, random_state=0), "Classification"), (Ridge(), "Regression")],
    ids=["forest", "ridge"],
)
def test_the_column_that_decides_comes_first(model: Any, task: str) -> None:
    made, rows = fitted(model, task)
    found = explain(made, rows, task, "Permutation")
    by_name = {one.column: one for one in found.importances}
    assert found.importances[0].column == "signal"
    assert by_name["signal"].value > 10 * abs(by_name["noise"].value)
    assert (found.metric, found.rows, found.message) == ({"Classification": "log_loss", "Regression": "rmse"}[task], 60, "")
    assert {one.column for one in found.dependences} == set(rows.frame.columns)


def test_what_is_not_used_has_no_importance_at_all() -> None:
    made, rows = fitted(DummyClassifier())
    found = explain(made, rows, "Classification", "Permutation")
    assert {(one.value, one.deviation) for one in found.importances} == {(0.0, 0.0)}
    assert [one.column for one in found.importances] == list(rows.frame.columns)


def test_the_same_seed_gives_the_same_explanation() -> None:
    made, rows = fitted(RandomForestClassifier(5, random_state=0))
    for method in ("Permutation", "SHAP"):
        first, again = (json.dumps(explain(made, rows, "Classification", method, 7).to_json()) for _ in range(2))
        assert first == again
    other = json.dumps(explain(made, rows, "Classification", "Permutation", 8).to_json())
    assert other != json.dumps(explain(made, rows, "Classification", "Permutation", 7).to_json())


def test_importance_does_not_depend_on_the_order_of_the_columns() -> None:
    made, rows = fitted(LogisticRegression())
    turned = rows_of(rows.frame[rows.frame.columns[::-1]], rows.target)
    first, again = (explain(made, one, "Classification", "Permutation").importances for one in (rows, turned))
    assert {one.column: one.value for one in first} == {one.column: one.value for one in again}


def test_partial_dependence_of_a_line_is_the_line() -> None:
    frame = pd.DataFrame({"x": np.linspace(-1, 1, 50), "whole": np.arange(50) % 4})
    target = 2 * frame["x"].to_numpy() - 5 * frame["whole"].to_numpy()
    made = LinearRegression().fit(frame, target)
    found = {one.column: one for one in explain(made, rows_of(frame, target), "Regression", "Permutation").dependences}
    heights = 2 * np.array(found["x"].values, dtype=float) - 5 * frame["whole"].mean()
    assert np.allclose(found["x"].curves["answer"], heights)
    assert found["whole"].values == (0.0, 1.0, 2.0, 3.0)
    assert np.allclose(found["whole"].curves["answer"], 2 * frame["x"].mean() - 5 * np.arange(4))
    assert found["x"].low is not None
    assert found["x"].high is not None
    assert all(low <= high for low, high in zip(found["x"].low, found["x"].high, strict=True))


@pytest.mark.parametrize(
    ("values", "kind", "shown"),
    [
        (pd.Series([True, False] * 10), "Category", ("False", "True")),
        (pd.Series(["b", "a", "b", np.nan] * 5, dtype=object), "Category", ("b", "a", MISSING)),
        (pd.Series(["a"] * 20, dtype=object), "Category", ("a",)),
        (pd.Series(np.array(["2013-01-01", "2013-01-02"] * 10, dtype="M8[us]")), "Time", (1356998400.0, 1357084800.0)),
        (pd.Series([np.nan, 1.5] * 10), "Number", (1.5,)),
        (pd.Series([np.nan] * 20), "Number", ()),
        (pd.Series([2**53, 0] * 10), "Number", (0.0, float(2**53))),
    ],
    ids=["booleans", "texts", "one text", "times", "gaps", "nothing", "large"],
)  # fmt: skip
def test_a_column_of_any_type_is_asked_for_in_its_own_type(values: "pd.Series[Any]", kind: str, shown: tuple[Any, ...]) -> None:
    frame = pd.DataFrame({"it": values})
    asked: list[Any] = []

    def note(table: pd.DataFrame) -> pd.DataFrame:
        asked.append(table["it"].dtype)
        return pd.DataFrame({"one": np.zeros(len(table))})

    target = np.arange(20, dtype=np.float64)
    made = Pipeline([("columns", FunctionTransformer(note)), ("model", LinearRegression())]).fit(frame, target)
    (found,) = explain(made, rows_of(frame, target), "Regression", "Permutation").dependences
    assert (found.kind, found.values) == (kind, shown)
    assert set(asked) == {frame["it"].dtype}


def test_many_classes_have_a_curve_each_up_to_a_bound() -> None:
    made, rows = fitted(LogisticRegression(max_iter=1000), classes=6)
    (first, *_) = explain(made, rows, "Classification", "Permutation").dependences
    assert len(first.curves) == 4
    assert set(first.curves) <= set(map(str, made.classes_))
    assert first.low is None


MODELS: dict[str, tuple[Callable[[], Any], str, int, bool | None]] = {
    "forest": (lambda: RandomForestClassifier(20, random_state=0), "Classification", 2, True),
    "forest of three": (lambda: RandomForestClassifier(10, random_state=0), "Classification", 3, True),
    "forest of numbers": (lambda: RandomForestRegressor(10, random_state=0), "Regression", 2, True),
    "gradient boosting": (lambda: GradientBoostingClassifier(n_estimators=20, random_state=0), "Classification", 2, True),
    "histogram boosting": (lambda: HistGradientBoostingClassifier(max_iter=20, random_state=0), "Classification", 2, None),
    "lightgbm": (lambda: _lightgbm(), "Classification", 2, True),
    "xgboost": (lambda: _xgboost(), "Regression", 2, True),
    "logistic of three": (lambda: LogisticRegression(max_iter=1000), "Classification", 3, False),
    "ridge": (Ridge, "Regression", 2, False),
}


def _lightgbm() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=20, verbose=-1, n_jobs=1)


def _xgboost() -> Any:
    from xgboost import XGBRegressor

    return XGBRegressor(n_estimators=20, n_jobs=1)


@pytest.mark.filterwarnings("ignore")  # LightGBM fitted on arrays
@pytest.mark.parametrize("name", MODELS)
def test_the_parts_of_an_answer_make_up_the_answer(name: str) -> None:
    make, task, classes, of_trees = MODELS[name]
    made, rows = fitted(make(), task, classes)
    found = explain(made, rows, task, "SHAP")
    parts = found.attributions
    assert parts is not None
    answers = outputs(made, rows.frame)
    wanted = answers[:, None] if answers.ndim == 1 else answers[:, 1:] if answers.shape[1] == 2 else answers
    assert parts.values.shape == (60, 4, wanted.shape[1])
    assert np.allclose(parts.base + parts.values.sum(axis=1), wanted, rtol=0, atol=2e-4 * max(1.0, np.abs(wanted).max()))
    assert parts.columns == tuple(rows.frame.columns)
    assert found.importances[0].column == "signal"
    # Of histogram boosting shap's parts add up in some cases and not in others.
    assert of_trees in (None, parts.exact)
    assert not np.isfinite(parts.levels[:, 3]).any()


def test_parts_of_a_category_are_one_part() -> None:
    """Only the carrier decides: what its three columns of zeros and ones make up is all of the answer."""
    learn = table(300)
    target = (learn["carrier"] == "UA").to_numpy().astype(np.int64)
    made = pipeline(RandomForestClassifier(20, random_state=0)).fit(learn, target)
    judge = table(60, seed=1)
    found = explain(made, rows_of(judge, target[:60]), "Classification", "SHAP").attributions
    assert found is not None
    assert found.exact
    sizes = dict(zip(found.columns, np.abs(found.values).mean(axis=(0, 2)), strict=True))
    assert sizes["carrier"] > 5 * max(size for name, size in sizes.items() if name != "carrier")


def test_shap_leaves_the_global_generator_as_it_was() -> None:
    made, rows = fitted(Ridge(), "Regression")
    np.random.seed(5)
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    explain(made, rows, "Regression", "SHAP")
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]


def test_the_time_limit_leaves_columns_out_and_says_so() -> None:
    made, rows = fitted(LogisticRegression())
    ticks = count()
    found = explain(made, rows, "Classification", "Permutation", seconds=8, clock=lambda: float(next(ticks)))
    assert 1 <= len(found.importances) < 4
    assert f"importance is known of {len(found.importances)} of 4 columns" in found.message
    assert "partial dependence" in found.message


def test_shap_of_very_many_columns_is_permutation_importance() -> None:
    frame = pd.DataFrame({f"c{place}": np.arange(4.0) for place in range(501)})
    made = DummyClassifier().fit(frame, [0, 1, 0, 1])
    found = explain(made, rows_of(frame, np.array([0, 1, 0, 1])), "Classification", "SHAP")
    assert found.method == "Permutation"
    assert "at most 500 columns" in found.message
    assert len(found.importances) == 300
    assert len(found.to_json()["importance"]) == 50


def test_the_one_column_of_very_many_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaizen.training.report.explain.MOST_COLUMNS", 10)
    monkeypatch.setattr("kaizen.training.report.explain.BLOCKS", 8)
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 50)), columns=[f"c{place}" for place in range(50)])
    target = 5 * frame["c37"].to_numpy()
    model = LinearRegression().fit(frame, target)
    model.coef_ = np.where(np.arange(50) == 37, 5.0, 0.0)
    found = explain(model, rows_of(frame, target), "Regression", "Permutation")
    assert found.importances[0].column == "c37"
    assert found.importances[0].value > 1
    assert {one.value for one in found.importances[1:]} == {0.0}
    assert (len(found.importances), "of 50 columns the 10" in found.message) == (10, True)


@pytest.mark.parametrize("empty", [True, False])
def test_nothing_to_explain(empty: bool) -> None:
    made, rows = fitted(LogisticRegression())
    used = rows.take(np.zeros(len(rows), dtype=np.bool_)) if empty else rows
    found = explain(made, used, "Classification", "Permutation" if empty else "None")
    assert (found.method, found.importances, found.dependences) == ("None", (), ())
