"""Metrics equal scikit-learn's; gates compare on rows that neither model has learned from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from kaizen.api.training_job import Gate
from kaizen.serving.engine.compile import Compiled, compile_pipeline, save
from kaizen.training.estimators import choose
from kaizen.training.evaluate import baseline, classification, figures, regression
from kaizen.training.fit import fit, outputs
from kaizen.training.gate import Champion, GateResult, judge, new_rows
from kaizen.training.prepare import prepare
from kaizen.training.refit import refit
from kaizen.training.split import Parts, split
from tests.support import training


@given(st.integers(0, 10_000), st.integers(2, 4), st.booleans())
def test_classification_as_scikit_learn_has_it(seed: int, classes: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    labels = np.append(np.arange(classes), random.integers(0, classes, 60))
    probabilities = random.dirichlet(np.ones(classes), len(labels))
    if ties:
        probabilities = np.round(probabilities * 4 + 0.25) / np.round(probabilities * 4 + 0.25).sum(axis=1, keepdims=True)
    found = classification(probabilities, labels, range(classes))
    scores: Any = probabilities[:, 1] if classes == 2 else probabilities
    assert found["log_loss"] == pytest.approx(metrics.log_loss(labels, probabilities))
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(labels, scores, scale_by_half=classes == 2))
    assert found["accuracy"] == metrics.accuracy_score(labels, probabilities.argmax(axis=1))
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels, scores, multi_class="ovr"))


def test_classes_that_are_unknown_or_missing() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    found = classification(certain, np.array(["a", "b", "c"], dtype=object), ["a", "b"])
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["calibration_gap"] == pytest.approx(1 / 3)
    assert "roc_auc" not in found
    assert "roc_auc" not in classification(certain, np.array(["a", "a", "a"], dtype=object), ["a", "b"])


def test_regression_and_baselines() -> None:
    truth = np.array([1.0, 2.0, 4.0])
    assert regression(np.array([1.0, 3.0, 4.0]), truth) == pytest.approx({"rmse": 3**-0.5, "mae": 1 / 3, "r2": 1 - 3 / 14})
    assert baseline(np.array([3.0]), truth, None)["mae"] == pytest.approx(4 / 3)
    late = np.array([True, False, False, False])
    constant = baseline(late, late, [False, True])
    assert constant["accuracy"] == 0.75
    assert constant["calibration_gap"] == 0
    assert constant["roc_auc"] == 0.5


GATE = Gate.model_validate({"name": "no-worse", "metric": "log_loss", "againstProduction": {"worseByAtMost": 0.01}})
STRICT = Gate.model_validate({"name": "auc", "metric": "roc_auc", "againstProduction": {"notComparable": "Fail"}})


def parts_of(rows: int = 1500, **changes: Any) -> tuple[Parts, Any]:
    spec = training.spec("x", **changes)
    return split(prepare(training.table(rows), spec), spec.data), spec


def champion(directory: Path, *, flipped: bool = False, **manifest: Any) -> Champion:
    """A served model that learned from other rows; `flipped` has learned the contrary."""
    parts, spec = parts_of(500)
    fitted = fit(choose(spec.estimator, spec.task), parts.train, {})
    compiled = compile_pipeline(fitted.pipeline, parts.train.frame)
    assert isinstance(compiled, Compiled)
    document = dict(compiled.document)
    if flipped:
        document["classes"] = document["classes"][::-1]
    save(Compiled(document, compiled.trees), directory)
    (directory / "manifest.json").write_text(json.dumps({"trainedUntil": None, **manifest}))
    return Champion.open(directory, "version 3", "sha256:3")


def judged(against: Champion | None, *gates: Gate, **changes: Any) -> tuple[GateResult, ...]:
    parts, spec = parts_of(**changes)
    fitted = fit(choose(spec.estimator, spec.task), parts.train, {})
    return judge(gates, parts, outputs(fitted.pipeline, parts.test.frame), fitted.pipeline.classes_.tolist(), against)


def test_without_a_champion_gates_are_skipped() -> None:
    (result,) = judged(None, GATE)
    assert (result.outcome, result.passed) == ("Skipped", None)


def test_a_better_one_passes_and_a_worse_one_fails(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    good = champion(tmp_path / "good", trainedUntil="2013-01-10T00:00:00Z")
    bad = champion(tmp_path / "bad", flipped=True, trainedUntil="2013-01-10T00:00:00Z")
    (passed,) = judged(bad, GATE)
    assert (passed.outcome, passed.champion) == ("Passed", "sha256:3")
    assert "on 300 rows new to both, where version 3 has" in passed.message
    results = judged(good, GATE, STRICT, estimator={"name": "HistGradientBoostingClassifier", "parameters": {"max_iter": 1}})
    assert [result.outcome for result in results] == ["Failed", "Failed"]
    assert results[0].value is not None
    assert results[0].limit is not None
    assert results[0].value > results[0].limit


def test_rows_that_the_champion_has_seen_do_not_count(tmp_path: Path) -> None:
    seen_all = champion(tmp_path, trainedUntil="2013-04-01T00:00:00Z")
    pass_it, fail_it = judged(seen_all, GATE, STRICT)
    assert (pass_it.outcome, pass_it.passed, fail_it.passed) == ("NotComparable", True, False)
    assert pass_it.message == (
        "0 test rows are new to version 3, which learned until 2013-04-01T00:00:00Z; at least 200 are needed"
    )


def test_new_rows_are_those_after_the_champions_last() -> None:
    parts, _ = parts_of()
    assert parts.test.times is not None
    until = int(parts.test.times[99]) // 1_000_000
    stamp = str(np.datetime64(until, "s")) + "Z"
    assert new_rows(parts, {"trainedUntil": stamp}).tolist() == [False] * 100 + [True] * 200


def test_with_random_splits_the_test_part_of_both_counts() -> None:
    parts, _ = parts_of(data={"split": {"method": "Random"}})
    split_of = {"method": "Random", "testShare": 0.1, "identity": ["flight:int64"]}
    assert parts.draws is not None
    assert (new_rows(parts, {"split": split_of}) == (parts.draws < 0.1)).all()
    assert not new_rows(parts, {"split": {**split_of, "identity": ["tail:object"]}}).any()
    assert not new_rows(parts, {"split": {**split_of, "method": "Temporal"}}).any()


def test_a_champion_with_other_columns_or_classes_is_not_comparable(tmp_path: Path) -> None:
    other = champion(tmp_path, trainedUntil="2013-01-10T00:00:00Z")
    (result,) = judged(other, GATE, data={"features": {"exclude": ["delay", "wind"]}})
    assert result.message == "version 3 does not take these columns: input 'wind' is missing"
    (result,) = judged(other, GATE, data={"target": "carrier", "targetMissing": "Drop"})
    assert result.message == "version 3 knows other classes: False, True"


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
    fitted = fit(choose(spec.estimator, spec.task), parts.train, {})
    found = figures(outputs(fitted.pipeline, parts.test.frame), parts.test.target, None)
    assert found["rmse"] < baseline(parts.train.target, parts.test.target, None)["rmse"] * 0.8
