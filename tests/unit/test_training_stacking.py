"""Stacks: weights from our folds, one scikit-learn pipeline, and a win only where it is more than noise."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st

from kaizen.api.training_job import Estimator
from kaizen.training.data.prepare import prepare
from kaizen.training.errors import Failure
from kaizen.training.models.estimators import Choice, choose
from kaizen.training.models.fit import fit, freeze, outputs
from kaizen.training.search.stacking import StackedChoice, stack, stacked
from kaizen.training.search.trials import Answered, Goal
from tests.support import training

LEAST = Goal("rmse", "Minimize")
ROWS, FOLDS = 3000, 3


def ridge(alpha: float = 1.0) -> Choice:
    return choose(Estimator(name="Ridge", parameters={"alpha": alpha}), "Regression")


def answered(answers: npt.NDArray[np.float64], classes: list[Any] | None = None) -> list[Answered]:
    """The last three quarters of the rows in three folds, as forward chaining has them."""
    blocks = np.array_split(np.arange(len(answers)), FOLDS + 1)[1:]
    return [Answered(block, answers[block], classes, 0.0) for block in blocks]


def test_members_that_err_differently_win_together() -> None:
    random = np.random.default_rng(0)
    truth, one, other = random.normal(0, 2, ROWS), random.normal(0, 1, ROWS), random.normal(0, 1, ROWS)
    members = [(ridge(1), answered(truth + one)), (ridge(2), answered(truth + other))]
    found = stack(members, truth, LEAST, "Regression", forward=True)
    assert found is not None
    assert found.wins
    assert found.choice.weights == pytest.approx((0.5, 0.5), abs=0.05)
    assert found.value == pytest.approx(found.alone / np.sqrt(2), rel=0.05)
    assert 0 < found.low < found.alone - found.value


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_what_adds_nothing_does_not_win(noise: float) -> None:
    random = np.random.default_rng(1)
    truth = random.normal(0, 2, ROWS)
    best = truth + random.normal(0, 1, ROWS)
    members = [(ridge(1), answered(best)), (ridge(2), answered(best + noise * random.normal(0, 1, ROWS)))]
    found = stack(members, truth, LEAST, "Regression", forward=True)
    assert found is not None
    assert not found.wins


def test_weights_are_judged_on_folds_that_they_were_not_found_on() -> None:
    random = np.random.default_rng(2)
    truth = random.normal(0, 1, ROWS)
    # The second member is right on the last fold alone: weights found there would make the stack look perfect.
    late = random.normal(0, 1, ROWS)
    late[-ROWS // 4 :] = truth[-ROWS // 4 :]
    members = [(ridge(1), answered(truth + random.normal(0, 0.3, ROWS))), (ridge(2), answered(late))]
    found = stack(members, truth, LEAST, "Regression", forward=True)
    assert found is not None
    assert found.value == pytest.approx(found.alone, rel=0.1)


def test_a_class_that_a_fold_did_not_learn_has_probability_zero() -> None:
    truth = np.array(["a", "b", "c"] * 400, dtype=object)
    sure = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]] * 400)
    full = answered(sure, ["a", "b", "c"])
    poor = [Answered(fold.rows, np.full((len(fold.rows), 2), 0.5), ["a", "c"], 0.0) for fold in full]
    logistic = choose(Estimator(name="LogisticRegression"), "Classification")
    found = stack([(logistic, full), (logistic, poor)], truth, Goal("log_loss", "Minimize"), "Classification", forward=False)
    assert found is not None
    assert found.choice.weights == (1.0,)
    assert not found.wins


@settings(max_examples=40)
@given(st.lists(st.floats(0.1, 5), min_size=2, max_size=4), st.integers(0, 50), st.sampled_from(["Regression", "Classification"]))
def test_weights_are_a_mean(spreads: list[float], seed: int, task: Any) -> None:
    random = np.random.default_rng(seed)
    truth: npt.NDArray[Any] = random.normal(0, 1, 400)
    classes = None
    answers = [truth + random.normal(0, spread, 400) for spread in spreads]
    if task == "Classification":
        truth, classes = truth > 0, [False, True]
        answers = [np.column_stack([1 - p, p]) for p in (1 / (1 + np.exp(-numbers)) for numbers in answers)]
    members = [(ridge(number + 1), answered(numbers, classes)) for number, numbers in enumerate(answers)]
    found = stack(members, truth, Goal("rmse" if classes is None else "log_loss", "Minimize"), task, forward=True)
    assert found is not None
    assert sum(found.choice.weights) == pytest.approx(1, abs=1e-3)
    assert min(found.choice.weights) > 0


@pytest.mark.parametrize(("task", "target", "other"), [("Classification", "late", "delay"), ("Regression", "delay", "late")])
def test_a_stack_is_one_pipeline_that_skops_keeps(task: Any, target: str, other: str) -> None:
    spec = training.spec("x", task=task, data={"target": target, "features": {"exclude": [other]}})
    rows = prepare(training.table(300), spec)
    kinds = ("LogisticRegression", "HistGradientBoostingClassifier"), ("Ridge", "HistGradientBoostingRegressor")
    names = kinds[task == "Regression"]
    members = tuple(choose(Estimator(name=name), task) for name in names)
    choice = StackedChoice(members, (0.25, 0.75), task)
    made = fit(choice, rows, freeze(choice, rows, spec.data)).pipeline
    assert list(made.named_steps) == ["columns", "model"]
    alone = [outputs(fit(member, rows, {}).pipeline, rows.frame) for member in members]
    np.testing.assert_allclose(outputs(made, rows.frame), 0.25 * alone[0] + 0.75 * alone[1], rtol=1e-12)
    if task == "Classification":
        assert made.classes_.tolist() == [False, True]
    kept = skops.io.dumps(made)
    again = skops.io.loads(kept, trusted=skops.io.get_untrusted_types(data=kept))
    assert (outputs(again, rows.frame) == outputs(made, rows.frame)).all()
    assert stacked(choice.parameters, task) == choice


def test_a_stack_has_no_parameters() -> None:
    choice = StackedChoice((ridge(),), (1.0,), "Regression")
    assert choice.changed({}) is choice
    assert choice.parameter_names() == ()
    with pytest.raises(Failure) as failed:
        choice.changed({"alpha": 2})
    assert failed.value.code == "InvalidEstimator"
