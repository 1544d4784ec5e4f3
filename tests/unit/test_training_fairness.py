"""Fairness is Fairlearn's, and its interval does not grow with the number of groups alone."""

from typing import Any

import fairlearn.metrics
import numpy as np
import pandas as pd
import pytest

from kaizen.api.metrics import FAIRNESS_METRICS
from kaizen.api.training_gates import Gate
from kaizen.training.data.prepare import Rows
from kaizen.training.data.split import Parts
from kaizen.training.judge.gates import GateResult, Judged, judge
from tests.support import training

EVEN = {"A": 0.3, "B": 0.3, "C": 0.3}
UNEVEN = {"A": 0.3, "B": 0.3, "C": 0.6}


def trial_of(shares: dict[str, float], each: int = 1000, *, classes: int = 2, sensitive: Any = None) -> Judged:
    """A model that finds the late ones of each group so often, and never errs on the others."""
    random = np.random.default_rng(0)
    groups = np.repeat(list(shares), each).astype(object)
    late = random.random(len(groups)) < 0.5
    found = late & (random.random(len(groups)) < np.array([shares[group] for group in groups]))
    scores = np.where(found, 0.4, 0.1)
    answers = np.column_stack([1 - scores, scores]) if classes == 2 else np.full((len(late), classes), 1 / classes)
    empty = pd.DataFrame(index=range(len(late)))
    rows = Rows(empty, {}, late, None, empty, pd.DataFrame({"sex": groups if sensitive is None else sensitive}))
    spec: Any = training.spec("x")
    names = [False, True] if classes == 2 else list(range(classes))
    pipeline: Any = None
    return Judged(pipeline, Parts("Random", rows, rows, None), answers, names, 0.3, spec.data)


def gate(metric: str, **fields: Any) -> Gate:
    return Gate.model_validate({"name": "fair", "metric": metric, "sensitiveFeature": "sex", **fields})


def judged(trial: Judged, metric: str, **fields: Any) -> GateResult:
    (result,) = judge([gate(metric, **fields)], trial, None)
    return result


@pytest.mark.parametrize("metric", FAIRNESS_METRICS)
def test_the_value_is_fairlearns_and_lies_in_its_interval(metric: str) -> None:
    trial = trial_of(UNEVEN)
    result = judged(trial, metric, atMost=10)
    test = trial.parts.test
    expected = getattr(fairlearn.metrics, metric)(
        test.target, trial.answers[:, 1] >= 0.3, sensitive_features=test.sensitive["sex"].to_numpy()
    )
    assert result.value == pytest.approx(expected)
    if metric == "equalized_odds_ratio":
        # No false positives in any group: their ratio is 0/0, which Fairlearn leaves out and no interval can be given for.
        assert result.low is None
        return
    assert result.value is not None
    assert result.low is not None
    assert result.high is not None
    assert result.low < result.value < result.high
    assert result.high - result.low < 0.35


def test_limits_hold_for_the_value_or_for_the_interval() -> None:
    trial = trial_of(UNEVEN)
    metric = "equal_opportunity_difference"
    value = judged(trial, metric, atMost=1).value
    assert value is not None
    assert judged(trial, metric, atMost=value + 0.01).passed
    assert not judged(trial, metric, atMost=value + 0.01, judge="Bound").passed
    failed = judged(trial, metric, atMost=0.1, required=False)
    assert (failed.outcome, failed.limit, failed.blocks) == ("Failed", 0.1, False)
    assert f"equal_opportunity_difference is {value:.4f} (" in failed.message
    assert ") between 3 groups, true positive rate from 0." in failed.message
    assert "for sex=C: at most 0.1000 is wanted" in failed.message
    assert [detail.name for detail in failed.details] == [f"sex={one}, true positive rate" for one in "ABC"]


def test_twenty_equal_groups_are_not_found_to_differ() -> None:
    result = judged(trial_of({f"g{number:02}": 0.3 for number in range(20)}, 500), "equal_opportunity_difference", atMost=1)
    assert result.value is not None
    assert result.low is not None
    assert result.value > 0.05
    assert result.low == 0


def test_small_groups_are_judged_together() -> None:
    trial = trial_of(EVEN)
    names = trial.parts.test.sensitive["sex"].to_numpy().copy()
    names[:5], names[5:10] = "D", np.nan
    result = judged(trial_of(EVEN, sensitive=names), "equal_opportunity_difference", atMost=0.2)
    assert result.passed
    assert result.message.endswith("; sex=D, sex=missing not judged, being too small even together")
    none = judged(trial, "equal_opportunity_difference", atMost=0.2, minimumGroupRows=2000)
    assert (none.passed, none.value) == (False, None)
    assert none.message.startswith(
        "equal_opportunity_difference compares groups of sex, and no group has 2000 rows or more of the relevant class"
    )


def test_numbers_are_cut_into_groups() -> None:
    ages = np.random.default_rng(1).integers(18, 90, 3000)
    result = judged(trial_of(EVEN, sensitive=ages), "demographic_parity_ratio", atLeast=0.5)
    assert len(result.details) == 4
    assert result.details[0].name.startswith("sex=below ")


def test_more_classes_have_no_such_metric() -> None:
    result = judged(trial_of(EVEN, classes=3), "demographic_parity_difference", atMost=0.1)
    assert (result.passed, result.message) == (False, "demographic_parity_difference needs two classes, and there are 3")
