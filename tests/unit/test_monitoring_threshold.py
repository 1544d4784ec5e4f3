"""The threshold: quiet where only days differ, and as strict as a sample allows where rows are independent."""

import numpy as np
import pytest

from kaizen.monitoring.bins import count
from kaizen.monitoring.distance import psi
from kaizen.monitoring.reference import FeatureReference, build
from kaizen.monitoring.threshold import _student, threshold

DAYS, ROWS = 91, 200


def feature(spread: float, days: int = DAYS, seed: int = 0, timed: bool = True) -> FeatureReference:
    """A number whose level differs by day."""
    random = np.random.default_rng(seed)
    values = np.repeat(spread * random.standard_normal(days), ROWS) + random.standard_normal(days * ROWS)
    times = np.repeat(np.arange(days) * 86400, ROWS) if timed else None
    return build({"x": values}, {"x": "Numeric"}, times, np.zeros(1), None).features[0]


# scipy.stats.t.isf, 1.17
@pytest.mark.parametrize(
    ("degrees", "tail", "quantile"),
    [
        (7, 0.01, 2.99795),
        (7, 0.0001, 7.06343),
        (11, 0.01, 2.71808),
        (11, 0.001, 4.02470),
        (29, 0.05, 1.69913),
        (1999, 0.001, 3.09426),
    ],
)
def test_students_quantile(degrees: int, tail: float, quantile: float) -> None:
    assert _student(tail, degrees) == pytest.approx(quantile, rel=2e-5)


def test_days_that_differ_raise_it() -> None:
    alike, different = threshold(feature(0.0), 1400, 7, 1), threshold(feature(1.0), 1400, 7, 1)
    assert alike < 0.2 < different


def test_no_week_of_the_training_period_exceeds_it() -> None:
    one = feature(1.0)
    assert one.block_counts is not None
    weeks = [one.block_counts[day : day + 7].sum(axis=0) for day in range(DAYS - 6)]
    assert max(psi(one.counts, week) for week in weeks) < threshold(one, 1400, 7, 1)


def test_longer_spans_are_judged_more_strictly() -> None:
    one = feature(1.0)
    limits = [threshold(one, 10**6, blocks, 1) for blocks in (1, 3, 7, 11)]
    assert limits == sorted(limits, reverse=True)
    assert threshold(one, 10**6, 12, 1) == limits[-1], "no longer than an eighth of the training period"


def test_more_features_and_fewer_rows_raise_it() -> None:
    one = feature(1.0)
    assert threshold(one, 1400, 7, 1) < threshold(one, 1400, 7, 10) < threshold(one, 1400, 7, 100)
    assert threshold(one, 1400, 7, 1) < threshold(one, 100, 7, 1) < threshold(one, 10, 7, 1)
    assert threshold(one, 1400, 7, 1) == threshold(one, 10**9, 7, 1), "no week had more"


@pytest.mark.parametrize("one", [feature(1.0, timed=False), feature(1.0, days=7)], ids=["no timestamp", "too few days"])
def test_without_enough_blocks_rows_count_as_independent(one: FeatureReference) -> None:
    random = np.random.default_rng(1)
    shares = one.counts / one.counts.sum()
    limit = threshold(one, 500, 7, 1, level=0.05)
    again = [psi(random.multinomial(one.counts.sum(), shares), random.multinomial(500, shares)) for _ in range(1000)]
    assert 0.03 < np.mean(np.array(again) > limit) < 0.07


def test_false_alarms_are_rare_where_only_days_differ() -> None:
    alarms, independent = 0, 0
    for seed in range(100):
        random = np.random.default_rng(1000 + seed)
        one = feature(0.7, seed=seed)
        week = count(one.bins, np.repeat(0.7 * random.standard_normal(7), ROWS) + random.standard_normal(7 * ROWS))
        distance = psi(one.counts, week)
        alarms += distance > threshold(one, 7 * ROWS, 7, 1)
        independent += distance > threshold(FeatureReference(one.bins, one.counts), 7 * ROWS, 7, 1)
    assert alarms <= 4
    assert independent > 50, "this test would not notice"


def test_the_same_arguments_give_the_same_threshold() -> None:
    one = feature(0.3)
    assert threshold(one, 100, 7, 5, seed=1) == threshold(one, 100, 7, 5, seed=1)
    assert threshold(one, 100, 7, 5, seed=1) != threshold(one, 100, 7, 5, seed=2)


def test_a_constant_needs_no_spread() -> None:
    one = build({"x": np.ones(90)}, {"x": "Numeric"}, np.arange(90) * 86400, np.zeros(1), None).features[0]
    assert threshold(one, 10, 7, 1) == 0.0


def test_days_without_rows_are_left_out() -> None:
    times = np.array([day * 86400 for day in range(90) if day % 7 < 5])
    one = build({"x": np.arange(len(times)) % 5.0}, {"x": "Numeric"}, times, np.zeros(1), None).features[0]
    assert threshold(one, 1, 1, 1) > 0
