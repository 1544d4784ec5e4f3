"""Intervals cover what they say, are the same each time, and draw what belongs together."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import stdtrit
from sklearn import metrics

from kaizen.training.data.prepare import Rows
from kaizen.training.judge.evaluate import figures
from kaizen.training.judge.intervals import DAY, Blocks, blocks_of, difference, interval, of_figures, percentiles
from kaizen.training.judge.measures import measure
from kaizen.training.judge.outcome import Outcome

HOUR = DAY // 24
MINUTE = HOUR // 60


def rows(count: int, times: Any = None, groups: Any = None) -> Rows:
    empty = pd.DataFrame(index=range(count))
    return Rows(empty, {}, np.zeros(count), times, empty, empty, groups)


def answered(seed: int, blocks: int, each: int = 40) -> tuple[Outcome, Blocks]:
    """A regression whose errors have an expected size of 1 and go together within a block."""
    random = np.random.default_rng(seed)
    codes = np.repeat(np.arange(blocks), each)
    sizes = 1 + 0.3 * random.normal(size=blocks)[codes] + 0.2 * random.normal(size=len(codes))
    return Outcome(np.zeros(len(codes)), sizes, None), Blocks(codes, blocks, "days")


@pytest.mark.parametrize("blocks", [6, 12, 40])
def test_nineteen_of_twenty_intervals_cover_the_truth(blocks: int) -> None:
    found = [interval("mae", *answered(seed, blocks)) for seed in range(200)]
    covered = np.mean([one is not None and one.low <= 1 <= one.high for one in found])
    assert 0.91 <= covered <= 0.99


def test_rows_that_go_together_are_less_sure_than_their_number() -> None:
    outcome, days = answered(1, 20)
    by_row = Blocks(np.arange(800), 800, "rows")
    wide, narrow = interval("mae", outcome, days), interval("mae", outcome, by_row)
    assert wide is not None
    assert narrow is not None
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_a_difference_is_surer_than_either() -> None:
    outcome, days = answered(2, 20)
    worse = Outcome(outcome.answers - 0.01, outcome.target, None)
    apart = difference("mae", worse, outcome, days)
    assert apart is not None
    assert (apart.value, apart.low, apart.high) == pytest.approx((0.01, 0.01, 0.01), abs=1e-3)


def test_a_thousand_draws_at_once_are_a_thousand_single_ones() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 90)
    probabilities = np.round(random.dirichlet(np.ones(3), 90), 1)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    outcome = Outcome(probabilities, labels, [0, 1, 2])
    blocks = Blocks(np.arange(90) % 9, 9, "groups")
    weights = blocks.weights[:20]
    for name in figures(probabilities, labels, [0, 1, 2]):
        together = measure(name, outcome).values(weights, blocks.of_rows)
        for weight, value in zip(weights, together, strict=True):
            drawn = np.repeat(np.arange(90), weight[blocks.of_rows].astype(int))
            assert value == pytest.approx(figures(probabilities[drawn], labels[drawn], [0, 1, 2])[name]), name


def test_the_median_under_weights() -> None:
    outcome = Outcome(np.array([3.0, 1.0, 2.0, 10.0]), np.zeros(4), None)
    blocks = np.arange(4)
    weights = np.array([[1.0, 1, 1, 1], [0, 2, 0, 1], [2, 0, 0, 2], [0, 0, 0, 0]])
    found = measure("median_error", outcome).values(weights, blocks)
    assert found == pytest.approx([2.5, 1.0, 6.5, np.nan], nan_ok=True)


def test_weighted_ranks_as_scikit_learn_has_them() -> None:
    random = np.random.default_rng(3)
    late, scores = random.random(200) < 0.3, random.integers(0, 12, 200) / 12
    outcome = Outcome(np.column_stack([1 - scores, scores]), late, [False, True])
    weight = random.integers(0, 4, 200).astype(float)
    for name, theirs in {"roc_auc": metrics.roc_auc_score, "average_precision": metrics.average_precision_score}.items():
        (found,) = measure(name, outcome).values(weight[None, :], np.arange(200))
        assert found == pytest.approx(theirs(late, scores, sample_weight=weight)), name


TIMES = [
    # rows, microseconds between them, blocks, kind
    (24 * 30, HOUR, 30, "days"),
    (20_000, 10 * MINUTE, 139, "days"),
    (300, DAY, 44, "stretches of 7 days"),  # 300^(1/3) = 6.7
    (24 * 3, HOUR, 10, "stretches of 7.1 hours"),
]


@pytest.mark.parametrize(("count", "step", "blocks", "kind"), TIMES)
def test_times_are_drawn_by_stretches(count: int, step: int, blocks: int, kind: str) -> None:
    found = blocks_of(rows(count, times=10_000 * DAY + step * np.arange(count)))
    assert (found.count, found.kind) == (blocks, kind)
    assert (np.diff(found.of_rows) >= 0).all()


def test_groups_and_rows_are_blocks_and_many_are_dealt() -> None:
    groups = np.array([7, -3, 7, 5])
    assert blocks_of(rows(4, times=np.arange(4), groups=groups)).of_rows.tolist() == [2, 0, 2, 1]
    assert str(blocks_of(rows(30))) == "30 rows"
    many = blocks_of(rows(10_000))
    assert str(many) == "2000 random blocks of rows"
    assert (np.bincount(many.of_rows) == 5).all()
    part = many.take(np.flatnonzero(many.of_rows < 10))
    assert (part.count, len(part.of_rows)) == (10, 50)


def test_the_same_each_time() -> None:
    outcome, days = answered(4, 10)
    again = Blocks(days.of_rows, 10, "days")
    assert interval("rmse", outcome, days) == interval("rmse", outcome, again)


def test_few_blocks_are_not_believed_more_than_they_deserve() -> None:
    drawn = np.random.default_rng(0).normal(0, 1, 1000)
    found = percentiles(0.0, drawn, 4)
    assert found is not None
    # Student's t with 3 degrees of freedom times √(4/3): 3.67, further out than a thousand draws reach.
    assert (found.high - found.low) / 2 == pytest.approx(-stdtrit(3, 0.025) * (4 / 3) ** 0.5, rel=0.12)


def test_what_has_no_interval() -> None:
    outcome, days = answered(5, 10)
    assert interval("mae", outcome, Blocks(np.zeros(400, dtype=np.int64), 1, "days")) is None
    assert interval("f1", outcome, days) is None
    assert percentiles(1.0, np.append(np.full(600, np.nan), np.ones(400)), 10) is None
    one_late = Outcome(np.full((400, 2), 0.5), np.arange(400) == 0, [False, True])
    found = of_figures(["log_loss", "roc_auc"], one_late, days)
    assert found["log_loss"] == pytest.approx((np.log(2), np.log(2)))
    # Two draws in three have the only late row.
    assert found["roc_auc"] == (0.5, 0.5)
