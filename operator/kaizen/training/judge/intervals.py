"""How sure a figure is: bootstrap intervals over what may be alike, which is seldom the single row.

What is drawn again and again (Efron 1979) is a block of rows: a group where the split is by groups; a stretch of time where
rows have times, because delays, weather and demand of one day go together (the standard error of a difference of two AUCs
is 0.003 by row and 0.014 by day on the flights); a row otherwise.  Stretches do not overlap (Carlstein 1986).  A stretch is
a day, or the time that holds n^(1/3) of n rows where that is longer (Hall, Horowitz and Jing 1995), and a tenth of the time
where there are fewer than five days.

The interval is the expanded percentile one (Hesterberg 2014, "What teachers should know about the bootstrap", arXiv:1411.5279):
percentiles further out than nominal, by Student's t instead of the normal distribution and by √(n/(n-1)), so that a
handful of blocks is not believed more than it deserves.  Two models are compared under the same draws.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtrit
from threadpoolctl import threadpool_limits

from kaizen.training.data.prepare import MICROSECONDS, Rows
from kaizen.training.judge.measures import measure, undefined
from kaizen.training.judge.outcome import Codes, Numbers, Outcome

__all__ = ["LEVEL", "RESAMPLES", "Blocks", "Interval", "blocks_of", "difference", "interval", "of_figures", "percentiles"]

LEVEL = 0.95
RESAMPLES = 1000
MOST_BLOCKS = 2000
"""More blocks are dealt at random into so many: the standard error's own error is then 1.6 %, and the rest stays fast."""
FEWEST_DAYS = 5
"""With fewer, tenths of the time."""
TENTH = 10
FEWEST_TAIL = 5
"""Draws beyond a percentile; further out it is extended as the normal distribution would be."""
MOST_WALKED = 50_000_000
FEWEST_RESAMPLES = 200
"""Metrics of ranks walk all rows for each draw: so many rows in all, then fewer draws, but not fewer than these."""
LEAST_DEFINED = 0.5
"""Of the draws, for an interval: others lack a class."""
DAY = 86_400 * MICROSECONDS
SEED = 5


@dataclass(frozen=True)
class Interval:
    """A figure and its ends."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Blocks:
    """Which rows are drawn together, and how often each block is drawn."""

    of_rows: Codes
    """(rows,), from 0."""
    count: int
    kind: str
    """In words, for messages: days, groups, rows."""

    @cached_property
    def weights(self) -> Numbers:
        """How often each block is drawn, (RESAMPLES, blocks): the same at each call."""
        drawn = np.random.default_rng(SEED).integers(0, self.count, (RESAMPLES, self.count))
        lines = np.arange(RESAMPLES)[:, None] * self.count
        return np.bincount((drawn + lines).ravel(), minlength=RESAMPLES * self.count).reshape(RESAMPLES, -1).astype(np.float64)

    def take(self, rows: npt.NDArray[np.generic]) -> "Blocks":
        """Of some of the rows, by mask or number; blocks without rows are gone."""
        left, codes = np.unique(self.of_rows[rows], return_inverse=True)
        return replace(self, of_rows=codes.astype(np.int64), count=len(left))

    def __str__(self) -> str:
        return f"{self.count} {self.kind}"


def blocks_of(rows: Rows) -> Blocks:
    """The blocks of these rows: groups, stretches of time, or rows."""
    if rows.groups is not None:
        return _numbered(rows.groups, "groups")
    if rows.times is None or not len(rows):
        return _numbered(np.arange(len(rows)), "rows")
    times = rows.times
    # Days begin at midnight in UTC: the same row is in the same block whatever else there is.
    length, kind = DAY, "days"
    span = int(times.max() - times.min()) + 1
    enough = math.ceil(span * len(rows) ** (1 / 3) / len(rows))
    if enough > DAY:
        length = math.ceil(enough / DAY) * DAY
        kind = f"stretches of {length // DAY} days"
    days = np.unique(times // length)
    if length == DAY and len(days) < FEWEST_DAYS:
        length = max(math.ceil(span / TENTH), enough)
        times = times - times.min()
        kind = f"stretches of {length / MICROSECONDS / 3600:.3g} hours"
    return _numbered(times // length, kind)


def _numbered(names: npt.NDArray[np.generic], kind: str) -> Blocks:
    found, codes = np.unique(names, return_inverse=True)
    if len(found) <= MOST_BLOCKS:
        return Blocks(codes.astype(np.int64), len(found), kind)
    # At random and not in turn: rows that were sorted by their values would make blocks more alike than chance does.
    dealt = np.random.default_rng(SEED).permutation(len(found)) % MOST_BLOCKS
    return Blocks(dealt[codes].astype(np.int64), MOST_BLOCKS, f"random blocks of {kind}")


def interval(name: str, outcome: Outcome, blocks: Blocks, level: float = LEVEL, *, sharing: int = 1) -> Interval | None:
    """A metric with its interval; None where the metric or its interval is undefined.

    `sharing`: how many intervals are wanted in all, which share the time that metrics of ranks may take.
    """
    return difference(name, outcome, None, blocks, level, sharing=sharing)


def difference(
    name: str, outcome: Outcome, other: Outcome | None, blocks: Blocks, level: float = LEVEL, *, sharing: int = 1
) -> Interval | None:
    """How much greater a metric is for `outcome` than for `other`, on the same rows and under the same draws."""
    both = [outcome] if other is None else [outcome, other]
    if blocks.count < 2 or any(undefined(name, one) for one in both):
        return None
    measures = [measure(name, one) for one in both]
    once = np.ones((1, blocks.count))
    value = _apart([one.values(once, blocks.of_rows) for one in measures])[0]
    walked = len(blocks.of_rows) * sum(one.passes for one in measures)
    draws = max(FEWEST_RESAMPLES, min(RESAMPLES, MOST_WALKED // max(walked * sharing, 1)))
    drawn = _apart([one.values(blocks.weights[:draws], blocks.of_rows) for one in measures])
    return percentiles(float(value), drawn, blocks.count, level)


def of_figures(names: Iterable[str], outcome: Outcome, blocks: Blocks) -> Mapping[str, tuple[float, float] | None]:
    """The ends of the intervals of several metrics, for evaluate.as_metrics."""
    # Sums of the same numbers must give the same last bit whatever the machine.
    with threadpool_limits(1):
        found = {name: interval(name, outcome, blocks) for name in names}
    return {name: None if one is None else (one.low, one.high) for name, one in found.items()}


def percentiles(value: float, drawn: Numbers, blocks: int, level: float = LEVEL) -> Interval | None:
    """The expanded percentile interval of a figure from its resampled values; None where too many are undefined."""
    defined = np.isfinite(drawn)
    if blocks < 2 or not math.isfinite(value) or defined.mean() < LEAST_DEFINED:
        return None
    drawn = drawn[defined]
    deviates = float(-stdtrit(blocks - 1, (1 - level) / 2)) * math.sqrt(blocks / (blocks - 1))
    furthest = float(-ndtri(FEWEST_TAIL / len(drawn)))
    within = min(deviates, furthest)
    tail = float(ndtr(-within))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    stretch = deviates / within
    middle = float(np.median(drawn))
    return Interval(value, middle - (middle - float(low)) * stretch, middle + (float(high) - middle) * stretch)


def _apart(values: list[Numbers]) -> Numbers:
    return values[0] if len(values) == 1 else values[0] - values[1]
