"""Disturbances do what they say, the same each time, and the search finds what chance does not."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.pipeline import Pipeline

from kaizen.api.training_gates import Gate
from kaizen.training.data.prepare import prepare
from kaizen.training.data.split import split
from kaizen.training.judge import robustness
from kaizen.training.judge.gates import GateResult, Judged, judge
from kaizen.training.models.estimators import choose
from kaizen.training.models.fit import fit, outputs
from tests.support import training

KINDS = ("Noise", "MissingValues", "CategorySwap", "Shift", "Adversarial")


@pytest.fixture(scope="module")
def trial() -> Judged:
    return trial_of()


def trial_of(**changes: Any) -> Judged:
    spec = training.spec("x", **changes)
    parts = split(prepare(training.table(2000), spec), spec.data)
    assert spec.estimator is not None
    fitted = fit(choose(spec.estimator, spec.task), parts.train, {})
    classes = fitted.pipeline.classes_.tolist() if spec.task == "Classification" else None
    return Judged(fitted.pipeline, parts, outputs(fitted.pipeline, parts.test.frame), classes, None, spec.data)


def judged(trial: Judged, kind: str, **fields: Any) -> GateResult:
    gate = Gate.model_validate({"name": "robust", "metric": "log_loss", "perturbation": kind, "dropAtMost": 0.05, **fields})
    (result,) = judge([gate], trial, None)
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_each_disturbance_costs_something_and_the_same_each_time(trial: Judged, kind: str) -> None:
    result = judged(trial, kind)
    assert result == judged(trial, kind)
    assert result.value is not None
    # Noise of a tenth may help four hundred rows by chance.
    assert result.value > 0 or kind == "Noise"
    assert result.passed == (result.value <= 0.05)
    clean, after = (detail.value for detail in result.details)
    assert clean is not None
    assert after == pytest.approx(clean + result.value)
    assert result.message.startswith(f"log_loss goes from {clean:.4f} to {after:.4f} by ")
    assert result.message.endswith("at most 0.0500 is wanted")
    assert result.low is not None
    assert result.high is not None
    assert result.low < result.value < result.high


def test_a_drop_is_positive_whichever_direction_is_better(trial: Judged) -> None:
    by_auc, by_loss = judged(trial, "Shift", metric="roc_auc"), judged(trial, "Shift")
    assert by_auc.value is not None
    assert by_loss.value is not None
    assert by_auc.value > 0
    assert by_loss.value > 0
    assert "moving wind " in by_loss.message or "moving distance " in by_loss.message


def test_the_search_finds_worse_than_noise_of_the_same_size(trial: Judged) -> None:
    noise, search = judged(trial, "Noise"), judged(trial, "Adversarial")
    assert noise.value is not None
    assert search.value is not None
    assert search.value > 2 * noise.value


def test_a_bound_is_stricter_than_the_value(trial: Judged) -> None:
    found = judged(trial, "MissingValues")
    assert found.value is not None
    limit = found.value + 1e-6
    assert judged(trial, "MissingValues", dropAtMost=limit).passed
    assert not judged(trial, "MissingValues", dropAtMost=limit, judge="Bound").passed


def test_many_rows_are_sampled_and_it_says_so(trial: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "MOST_ROWS", 150)
    monkeypatch.setattr(robustness, "MOST_SHIFTS", 1)
    result = judged(trial, "Noise")
    assert "on 150 test rows, drawn from 400," in result.message
    assert "distance and 1 more columns" in judged(trial, "Shift").message


def test_a_column_that_may_not_be_missing_is_left_alone_and_one_without_kind_disturbs_nothing() -> None:
    regression = trial_of(
        task="Regression", data={"target": "delay", "features": {"exclude": ["late", "carrier", "weekend", "wind"]}},
        estimator={"name": "Ridge"},
    )  # fmt: skip
    answers = Plain().predict(regression.parts.test.frame)
    bare = Judged(Pipeline([("model", Plain())]), regression.parts, answers, None, None, regression.data)
    none = judged(bare, "MissingValues", metric="mae")
    assert (none.passed, none.value) == (True, 0.0)
    assert none.message == "the model has no column that may be missing, so MissingValues disturbs nothing"
    swap = judged(regression, "CategorySwap", metric="mae")
    assert swap.message == "the model has no text or boolean column, so CategorySwap disturbs nothing"


class Plain(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A model that takes no gaps."""

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, frame: Any, target: Any) -> "Plain":
        return self

    def predict(self, frame: pd.DataFrame) -> Any:
        if frame["distance"].isna().any():
            raise ValueError("Input X contains NaN")
        return frame["distance"].to_numpy(dtype=np.float64) / 100


def test_categories_alone_can_be_searched_too() -> None:
    trial = trial_of(data={"features": {"exclude": ["delay", "wind", "distance"]}})
    swapped, searched = judged(trial, "CategorySwap"), judged(trial, "Adversarial")
    assert swapped.value is not None
    assert searched.value is not None
    assert searched.value > swapped.value
    assert "swaps of one category of each row" in searched.message


COLUMNS = [
    (pd.Series([1, 2, 3]), [0.4, -0.6, 1.5], False, [1, 1, 5]),
    (pd.Series([1, 2, 3]), [0.9, -0.9, -1.9], True, [1, 2, 2]),
    (pd.Series([2**62, 2, 3]), [0.0, 0.0, 1.0], False, [2**62, 2, 4]),
    (pd.Series([1.0, np.nan]), [0.5, 0.5], False, [1.5, np.nan]),
    (pd.Series(pd.to_datetime(["2013-01-01", None])).astype("datetime64[us]"), [60e6, 60e6], False,
     [pd.Timestamp("2013-01-01T00:01"), pd.NaT]),
]  # fmt: skip


@pytest.mark.parametrize(("column", "by", "within", "expected"), COLUMNS)
def test_columns_keep_their_kind_when_they_move(column: Any, by: list[float], within: bool, expected: list[Any]) -> None:
    moved = robustness._moved(column, np.array(by), within=within)
    assert moved.dtype == column.dtype
    pd.testing.assert_series_equal(moved, pd.Series(expected, dtype=column.dtype))
