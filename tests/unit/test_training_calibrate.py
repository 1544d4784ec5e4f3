"""Calibration and decision thresholds, fitted out of fold."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from kaizen.api.training_job import Decision
from kaizen.serving.engine.sklearn import trusted
from kaizen.training.errors import Failure
from kaizen.training.models.calibrate import calibrate, wrap
from kaizen.training.models.decision import decide, with_threshold
from kaizen.training.models.out_of_fold import OutOfFold

CLASSES = [False, True]


def overconfident(rows: int = 3000, seed: int = 0) -> tuple[pd.DataFrame, Any]:
    """One signal in eight columns: naive Bayes counts it eight times."""
    chance = np.random.default_rng(seed)
    signal = chance.normal(size=rows)
    frame = pd.DataFrame({f"x{i}": signal + 0.05 * chance.normal(size=rows) for i in range(8)})
    return frame, chance.random(rows) < 1 / (1 + np.exp(-signal))


def answered(pipeline: Pipeline, frame: pd.DataFrame) -> OutOfFold:
    probabilities = pipeline.predict_proba(frame)
    scores = pipeline.decision_function(frame) if hasattr(pipeline, "decision_function") else probabilities[:, 1]
    rows = np.arange(len(frame))
    return OutOfFold(rows, rows * 3 // len(frame), probabilities, scores)


def fitted(model: Any) -> Pipeline:
    return Pipeline([("columns", StandardScaler()), ("model", model)]).fit(*overconfident(seed=1))


def test_an_overconfident_model_is_calibrated() -> None:
    pipeline, (frame, truth) = fitted(GaussianNB()), overconfident()
    found = answered(pipeline, frame)
    made = calibrate(found, truth, CLASSES)
    assert made.method is not None
    assert made.before is not None
    assert made.after is not None
    assert made.after < made.before - 0.02
    wrapped, (others, their_truth) = wrap(pipeline, made), overconfident(seed=2)
    brier = np.square(wrapped.predict_proba(others)[:, 1] - their_truth).mean()
    assert brier < np.square(pipeline.predict_proba(others)[:, 1] - their_truth).mean() - 0.02
    assert np.array_equal(wrapped.predict_proba(frame), made.probabilities(found.scores, found.answers))


def test_a_calibrated_model_stays_as_it_is() -> None:
    pipeline, (frame, truth) = fitted(LogisticRegression()), overconfident()
    made = calibrate(answered(pipeline, frame), truth, CLASSES)
    assert made.method is None
    assert made.message.startswith("not calibrated: Brier score on inner folds 0.2")
    assert wrap(pipeline, made) is pipeline


@pytest.mark.parametrize(
    ("rows", "message"),
    [(150, "not calibrated: 150 rows out of fold, at least 200 are needed"), (0, "not calibrated: an inner fold lacks a class")],
)
def test_too_little_to_calibrate_by(rows: int, message: str) -> None:
    pipeline, (frame, truth) = fitted(GaussianNB()), overconfident(rows or 300)
    made = calibrate(answered(pipeline, frame) if rows else None, truth, CLASSES)
    assert (made.method, made.message) == (None, message)


def test_the_wrapped_model_goes_through_its_file(tmp_path: Any) -> None:
    pipeline, (frame, truth) = fitted(GaussianNB()), overconfident()
    wrapped = wrap(pipeline, calibrate(answered(pipeline, frame), truth, CLASSES))
    decided = with_threshold(wrapped, 0.3)
    skops.io.dump(decided, tmp_path / "model.skops")
    again = skops.io.load(tmp_path / "model.skops", trusted=trusted(tmp_path / "model.skops"))
    assert np.array_equal(again.predict_proba(frame), wrapped.predict_proba(frame))
    assert np.array_equal(again.predict(frame), wrapped.predict_proba(frame)[:, 1] >= 0.3)


SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])
TRUTH = np.array([False, False, True, False, True, False, True, True])


@pytest.mark.parametrize(
    ("decision", "threshold"),
    [
        ({"threshold": 0.3}, 0.3),
        ({"maximise": "accuracy"}, 0.5),
        ({"maximise": "balanced_accuracy"}, 0.75),
        ({"maximise": "f1"}, 0.25),
        ({"cost": {"falsePositive": 1, "falseNegative": 5}}, 0.25),
        ({"cost": {"falsePositive": 5, "falseNegative": 1}}, 0.75),
    ],
)
def test_the_threshold(decision: dict[str, Any], threshold: float) -> None:
    probabilities = np.column_stack([1 - SCORES, SCORES])
    found = decide(Decision.model_validate(decision), probabilities, TRUTH, CLASSES)
    if decision == {"maximise": "accuracy"}:
        assert (((threshold <= SCORES) == TRUTH).mean()) == max(((cut <= SCORES) == TRUTH).mean() for cut in (0, *SCORES, 1))
        assert (((found <= SCORES) == TRUTH).mean()) == (((threshold <= SCORES) == TRUTH).mean())
    else:
        assert found == pytest.approx(threshold)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=2, max_size=40), st.integers(0, 9), st.integers(0, 9))
def test_no_threshold_costs_less(rows: list[tuple[int, bool]], false_positive: int, false_negative: int) -> None:
    scores, truth = np.array([score / 10 for score, _ in rows]), np.array([one for _, one in rows])
    decision = Decision.model_validate({"cost": {"falsePositive": false_positive, "falseNegative": false_negative}})

    def cost(threshold: float) -> int:
        positive = scores >= threshold
        return int(false_positive * (positive & ~truth).sum() + false_negative * (~positive & truth).sum())

    found = decide(decision, np.column_stack([1 - scores, scores]), truth, CLASSES)
    assert cost(found) == min(cost(one) for one in (*np.arange(-0.05, 1.1, 0.1), 2.0)) or 1.0 in scores


@pytest.mark.parametrize(("classes", "code"), [(["a", "b", "c"], "DecisionNotBinary"), (CLASSES, "TooFewRows")])
def test_no_threshold(classes: list[Any], code: str) -> None:
    with pytest.raises(Failure) as failure:
        decide(Decision(maximise="f1"), None, TRUTH, classes)
    assert failure.value.code == code
