"""Every metric equals scikit-learn's, and what cannot be told is said."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from kaizen.api.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS
from kaizen.training.data.prepare import prepare
from kaizen.training.data.split import Parts, split
from kaizen.training.errors import Failure
from kaizen.training.judge.evaluate import Metric, as_metrics, baseline, figures, regression, require, score
from kaizen.training.judge.measures import undefined
from kaizen.training.judge.outcome import Outcome
from kaizen.training.models.estimators import choose
from kaizen.training.models.fit import fit, outputs
from kaizen.training.models.refit import refit
from tests.support import training


def drawn(seed: int, classes: int, ties: bool, rows: int = 60) -> tuple[Any, Any]:
    """Probabilities and classes, each of which some row has."""
    random = np.random.default_rng(seed)
    labels = np.append(np.arange(classes), random.integers(0, classes, rows))
    probabilities = random.dirichlet(np.ones(classes), len(labels))
    if ties:
        rough = np.round(probabilities * 4 + 0.25)
        probabilities = rough / rough.sum(axis=1, keepdims=True)
    return probabilities, labels


@given(st.integers(0, 10_000), st.integers(2, 4), st.booleans(), st.sampled_from([None, 0.2, 0.9]))
def test_classification_as_scikit_learn_has_it(seed: int, classes: int, ties: bool, threshold: float | None) -> None:
    probabilities, labels = drawn(seed, classes, ties)
    found = figures(probabilities, labels, range(classes), threshold)
    two = classes == 2
    scores: Any = probabilities[:, 1] if two else probabilities
    answer = scores >= threshold if two and threshold else probabilities.argmax(axis=1)
    one_hot = np.eye(classes)[labels]
    how: dict[str, Any] = {"average": "binary" if two else "macro", "zero_division": 0}
    expected = {
        "log_loss": metrics.log_loss(labels, probabilities),
        "brier": metrics.brier_score_loss(labels, scores, scale_by_half=two),
        "calibration_gap": np.abs(probabilities.mean(axis=0) - one_hot.mean(axis=0)).max(),
        "roc_auc": metrics.roc_auc_score(labels, scores, multi_class="ovr"),
        "average_precision": metrics.average_precision_score(labels if two else one_hot, scores),
        "accuracy": metrics.accuracy_score(labels, answer),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, answer),
        "f1": metrics.f1_score(labels, answer, **how),
        "precision": metrics.precision_score(labels, answer, **how),
        "recall": metrics.recall_score(labels, answer, **how),
        "matthews": metrics.matthews_corrcoef(labels, answer),
    }
    assert tuple(expected) == CLASSIFICATION_METRICS
    assert found == pytest.approx(expected)


@given(st.integers(0, 10_000), st.integers(2, 30))
def test_regression_as_scikit_learn_has_it(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    truth, answers = random.normal(1e6, 1, rows), random.normal(1e6, 1, rows)
    expected = {
        "rmse": metrics.root_mean_squared_error(truth, answers),
        "mae": metrics.mean_absolute_error(truth, answers),
        "median_error": metrics.median_absolute_error(truth, answers),
        "r2": metrics.r2_score(truth, answers),
    }
    assert tuple(expected) == REGRESSION_METRICS
    assert regression(answers, truth) == pytest.approx(expected)


def test_classes_that_are_unknown_or_missing() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    target = np.array(["a", "b", "c"], dtype=object)
    found = figures(certain, target, ["a", "b"])
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["calibration_gap"] == pytest.approx(1 / 3)
    assert found["brier"] == pytest.approx(
        metrics.brier_score_loss(target, np.column_stack([certain, [0, 0, 0]]), labels=["a", "b", "c"], scale_by_half=True)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = ["a", "b", "a"]
        for name, theirs in {
            "f1": metrics.f1_score,
            "precision": metrics.precision_score,
            "recall": metrics.recall_score,
        }.items():
            assert found[name] == pytest.approx(theirs(target, answer, average="macro")), name
        assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(target, answer))
        assert found["matthews"] == pytest.approx(metrics.matthews_corrcoef(target, answer))
    assert "roc_auc" not in found


LATE = np.array([False, False])
SURE = np.array([[1.0, 0.0], [1.0, 0.0]])
UNDEFINED = [
    ("roc_auc", LATE, [False, True], "roc_auc needs rows of every class, and none of 2 has True"),
    ("average_precision", ~LATE, [False, True], "average_precision needs rows of every class, and none of 2 has False"),
    ("recall", LATE, [False, True], "recall is of class True, and none of 2 rows has it"),
    ("precision", LATE, [False, True], "precision is of class True, and none of 2 rows has it"),
    ("matthews", LATE, [False, True], "matthews needs rows of two classes, and all 2 have False"),
    ("roc_auc", np.array([0, 7]), [0, 1], "roc_auc needs classes that the model knows, and 7 is not among them"),
    ("log_loss", LATE[:0], [False, True], "log_loss needs rows, and there are none"),
    ("rmse", LATE, [False, True], f"rmse is no metric of task Classification, which has {', '.join(CLASSIFICATION_METRICS)}"),
    ("r2", np.array([0.1, 0.1]), None, "r2 needs a target that varies, and it is 0.1 in all 2 rows"),
    ("f1", np.array([0.1, 0.2]), None, "f1 is no metric of task Regression, which has rmse, mae, median_error, r2"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "target", "classes", "why"), UNDEFINED)
def test_a_metric_that_cannot_be_told_says_why(name: str, target: Any, classes: Any, why: str) -> None:
    answers = SURE[: len(target)] if classes else np.array([1.0, 2.0])
    outcome = Outcome(answers, target, classes)
    assert undefined(name, outcome) == why
    assert name not in figures(answers, target, classes)
    with pytest.raises(Failure, match=r"spec\.gates") as caught:
        require(name, outcome, "spec.gates[0].metric")
    assert (caught.value.code, caught.value.message) == ("MetricUndefined", f"spec.gates[0].metric: {why}")
    if "no metric" in why:
        with pytest.raises(Failure, match="is no metric of task"):
            score(name, answers, target, classes)
    else:
        assert np.isnan(score(name, answers, target, classes))


def test_what_was_predicted_for_nobody_is_worth_nothing() -> None:
    found = figures(SURE, np.array([False, True]), [False, True])
    assert (found["precision"], found["recall"], found["f1"], found["matthews"]) == (0, 0, 0, 0)


def test_regression_and_baselines() -> None:
    truth = np.array([1.0, 2.0, 4.0])
    assert regression(np.array([1.0, 3.0, 4.0]), truth)["r2"] == pytest.approx(1 - 3 / 14)
    assert baseline(np.array([3.0]), truth, None)["mae"] == pytest.approx(4 / 3)
    late = np.array([True, False, False, False])
    constant = baseline(late, late, [False, True])
    assert constant["accuracy"] == 0.75
    assert constant["calibration_gap"] == 0
    assert constant["roc_auc"] == 0.5


def test_figures_with_their_intervals_as_one_list() -> None:
    found = as_metrics({"mae": 1.0, "r2": 0.5}, {"mae": 2.0}, {"mae": (0.5, 1.5), "r2": None})
    assert [metric.to_json() for metric in found] == [
        {"name": "mae", "value": 1.0, "low": 0.5, "high": 1.5, "dataset": "test"},
        {"name": "r2", "value": 0.5, "dataset": "test"},
        {"name": "mae", "value": 2.0, "dataset": "baseline"},
    ]
    assert found[2] == Metric("mae", 2.0, "baseline")


def parts_of(rows: int = 1500, **changes: Any) -> tuple[Parts, Any]:
    spec = training.spec("x", **changes)
    return split(prepare(training.table(rows), spec), spec.data), spec


def test_a_refit_that_agrees_replaces_the_judged_model_and_one_that_does_not_is_left() -> None:
    parts, spec = parts_of()
    everything = prepare(training.table(1500), spec)
    choice = choose(spec.estimator, spec.task)
    fitted = fit(choice, parts.train, {"max_iter": 7})
    again = refit(fitted, choice, parts.train, everything)
    assert again.done
    assert again.rows is everything
    assert again.fitted.pipeline["model"].max_iter == 7
    assert again.distance is not None
    assert 0 < again.distance < 0.1
    contrary = prepare(training.table(1500, seed=5, shift=2.5), spec)
    left = refit(fitted, choice, parts.train, contrary)
    assert (left.done, left.fitted, left.rows) == (False, fitted, parts.train)
    assert left.message.startswith("not refitted: on all rows it answers differently")


def test_figures_of_a_regression() -> None:
    spec = training.spec(
        "x", task="Regression", data={"target": "delay", "features": {"exclude": ["late"]}}, estimator={"name": "Ridge"}
    )
    parts = split(prepare(training.table(500), spec), spec.data)
    assert spec.estimator is not None
    fitted = fit(choose(spec.estimator, spec.task), parts.train, {})
    found = figures(outputs(fitted.pipeline, parts.test.frame), parts.test.target, None)
    assert found["rmse"] < baseline(parts.train.target, parts.test.target, None)["rmse"] * 0.8
