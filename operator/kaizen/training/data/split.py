"""Which rows judge the model: the newest, or a share of rows, of each class or of groups that stays the same from run to run.

Inner folds follow the outer method: what a model is tuned, calibrated or stopped by is held out as the test part is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaizen.api.training_data import Data
from kaizen.training.data.prepare import Rows, iso
from kaizen.training.errors import Failure

__all__ = [
    "EVERY",
    "Fold",
    "Method",
    "Parts",
    "also_held_out",
    "by_time",
    "draw",
    "folds",
    "hold_out",
    "implied_folds",
    "method",
    "split",
]

STEP = "Split"
INNER = 1
"""Salt of the hashes that cut the training part again: those of the outer cut are all on one side there."""
EVERY = "*"
"""In `Parts.bounds`: the bound of rows of any class."""

Method = Literal["Temporal", "Random", "Stratified", "Grouped"]
Mask = npt.NDArray[np.bool_]
Draws = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Parts:
    """The two parts of the rows."""

    method: Method
    train: Rows
    test: Rows
    draws: Draws | None
    """Of the test rows, except with Temporal: their hash as a number from 0 to 1, below the bound."""
    bounds: Mapping[str, float] = field(default_factory=dict)
    """A row is held out whose draw is below this: by class, as text, with Stratified; otherwise under EVERY."""

    def describe(self) -> str:
        """In a few words."""
        since = f" since {iso(int(self.test.times[0]))}" if self.method == "Temporal" and self.test.times is not None else ""
        return f"{len(self.train)} rows to learn from, {len(self.test)} to judge by{since}"


@dataclass(frozen=True, eq=False)
class Fold:
    """One inner cut, as row numbers within the rows that were cut, ascending; neither side is empty."""

    learn: npt.NDArray[np.int64]
    judge: npt.NDArray[np.int64]


def method(data: Data) -> Method:
    """The method in effect: Temporal if there is a timestamp and nothing else was said."""
    return data.split.method or ("Temporal" if data.timestamp else "Random")


def split(rows: Rows, data: Data) -> Parts:
    """Cut the rows in two.  Raises Failure when a part would be empty."""
    used, share = method(data), data.split.test_share
    draws, bounds = None, {}
    if used == "Temporal" and rows.times is not None:
        held_out = by_time(rows.times, share)
        if not held_out.any():
            message = f"all rows have the same {data.timestamp}, so none is newer than the others: use split.method Random"
            raise Failure(STEP, "TimestampConstant", message)
    else:
        draws = _draws(rows, used)
        bounds = _bounds(rows, used, draws, share)
        held_out = draws < _bound_of(rows, bounds)
        if held_out.all() or not held_out.any():
            named = data.split.groups if used == "Grouped" else data.keys
            message = f"{len(rows)} rows cannot be split by {', '.join(named) or 'their values'}: too few differ"
            raise Failure(STEP, "SplitEmpty", message)
        draws = draws[held_out]
    train, test = rows.take(~held_out), rows.take(held_out)
    _check(train, data)
    return Parts(used, train, test, draws, bounds)


def also_held_out(parts: Parts, recorded: Mapping[str, float]) -> Mask:
    """Which test rows another split by the same method and columns held out too, by the bounds that were recorded of it.

    False with Temporal, and for a class that it did not know: nothing is known of those rows.
    """
    if parts.draws is None or not recorded:
        return np.zeros(len(parts.test), dtype=np.bool_)
    return np.asarray(parts.draws < _bound_of(parts.test, recorded), dtype=np.bool_)


def folds(rows: Rows, data: Data, count: int = 3) -> tuple[Fold, ...]:
    """At most `count` inner folds of training rows, cut by the outer method.

    Temporal learns from all that is older than the block it judges (forward chaining), so the oldest rows are never judged.
    Otherwise each row is judged at most once: Random by the hash of its identity, Stratified class by class (the only row of
    a class is always learned from), Grouped by whole groups, large ones first into the fold with the fewest rows.  A fold
    whose learning side has one target value only is left out.  Raises Failure when none is left.
    """
    return _folds(rows, method(data), count, data.timestamp or "time")


def implied_folds(rows: Rows, count: int = 3) -> tuple[Fold, ...]:
    """The same where only the rows are at hand: by their groups, else their times, else class by class or by the identity.

    Never less strict than the declared method.  Raises Failure as `folds` does.
    """
    if rows.groups is not None:
        return _folds(rows, "Grouped", count, "")
    if rows.times is not None:
        return _folds(rows, "Temporal", count, "time")
    return _folds(rows, "Random" if rows.target.dtype.kind == "f" else "Stratified", count, "")


def hold_out(rows: Rows, data: Data, share: float) -> Mask:
    """True for about this share of training rows, held out by the outer method; all False where that is impossible."""
    used = method(data)
    if used == "Temporal" and rows.times is not None:
        return by_time(rows.times, share)
    draws = _draws(rows, used, INNER)
    try:
        held_out = np.asarray(draws < _bound_of(rows, _bounds(rows, used, draws, share)), dtype=np.bool_)
    except Failure:
        return np.zeros(len(rows), dtype=np.bool_)
    return held_out if not held_out.all() else ~held_out


def by_time(times: npt.NDArray[np.int64], share: float) -> Mask:
    """True for the newest rows: those from one moment on, so that rows of one time stay together.

    The moment is the one that brings their share nearest to `share` (the later of two); all False if there is only one time.
    """
    moments, first = np.unique(np.sort(times), return_index=True)
    if len(moments) < 2:
        return np.zeros(len(times), dtype=np.bool_)
    shares = 1 - first[1:] / len(times)
    distance = np.abs(shares - share)
    nearest = len(distance) - 1 - int(np.argmin(distance[::-1]))
    return np.asarray(times >= moments[nearest + 1], dtype=np.bool_)


def draw(identity: pd.DataFrame, salt: int = 0) -> Draws:
    """A number from 0 to 1 for each row that depends on its values alone; another salt draws anew."""
    return _uniform(pd.util.hash_pandas_object(identity, index=False).to_numpy(dtype=np.uint64), salt)


def _uniform(hashes: npt.NDArray[np.uint64], salt: int) -> Draws:
    # splitmix64, by Steele, Lea and Flood 2014: hashes of near numbers must not be near.
    with np.errstate(over="ignore"):
        hashes = hashes + np.uint64(salt) * np.uint64(0x9E3779B97F4A7C15)
        hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((hashes ^ (hashes >> np.uint64(31))).astype(np.float64) / 2.0**64)


def _draws(rows: Rows, used: Method, salt: int = 0) -> Draws:
    if used == "Grouped" and rows.groups is not None:
        return _uniform(np.ascontiguousarray(rows.groups, dtype=np.int64).view(np.uint64), salt)
    return draw(rows.identity, salt)


def _bounds(rows: Rows, used: Method, draws: Draws, share: float) -> dict[str, float]:
    """Random: the share itself, the same whatever the rows are.  Grouped: too, unless that would leave a side empty.
    Stratified: by class what comes nearest to the share of its rows with one on either side."""
    if used == "Random":
        return {EVERY: share}
    if used == "Grouped":
        held_out = int((draws < share).sum())
        return {EVERY: share if 0 < held_out < len(draws) else _nearest_bound(draws, share)}
    bounds = {}
    for one in pd.unique(rows.target):
        own = draws[rows.target == one]
        bounds[str(one)] = _nearest_bound(own, share)
        if not bounds[str(one)]:
            what = "1 row" if len(own) == 1 else f"{len(own)} rows, which have equal keys or values,"
            message = f"class {one} has {what} and cannot be on both sides: leave it out in data.query or use Random"
            raise Failure(STEP, "ClassTooSmall", message)
    return bounds


def _nearest_bound(draws: Draws, share: float) -> float:
    """The draw that has the share nearest to this below it and neither none nor all; 0 where all draws are equal."""
    values, first = np.unique(np.sort(draws), return_index=True)
    if len(values) < 2:
        return 0.0
    return float(values[1 + int(np.argmin(np.abs(first[1:] / len(draws) - share)))])


def _bound_of(rows: Rows, bounds: Mapping[str, float]) -> Draws:
    """The bound of each row."""
    if EVERY in bounds:
        return np.full(len(rows), bounds[EVERY])
    codes, values = pd.factorize(rows.target)
    return np.asarray(np.array([bounds.get(str(value), 0.0) for value in values])[codes], dtype=np.float64)


def _folds(rows: Rows, used: Method, count: int, timestamp: str) -> tuple[Fold, ...]:
    if used == "Temporal" and rows.times is not None:
        found = _chained(rows.times, count)
        missing = f"all {len(rows)} rows to learn from have the same {timestamp}, so no inner fold can be newer than another"
    else:
        assign: Callable[[Rows, int], npt.NDArray[np.int64]] = {"Stratified": _by_class, "Grouped": _by_group}.get(used, _by_row)
        numbers = assign(rows, max(count, 2))
        found = [Fold(np.flatnonzero(numbers != one), np.flatnonzero(numbers == one)) for one in range(max(count, 2))]
        found = [fold for fold in found if len(fold.learn) and len(fold.judge)]
        what = {"Grouped": "are all of one group", "Stratified": "have no class of two rows that differ"}
        why = what.get(used, "have all the same keys or values")
        missing = f"the {len(rows)} rows to learn from {why}, so no inner fold can be cut"
    if not found:
        raise Failure(STEP, "FoldsImpossible", missing)
    kept = tuple(fold for fold in found if _varies(rows.target[fold.learn]))
    if not kept:
        message = f"each of the {len(found)} inner folds of {len(rows)} rows would learn from one target value: use more rows"
        raise Failure(STEP, "FoldsImpossible", message)
    return kept


def _chained(times: npt.NDArray[np.int64], count: int) -> list[Fold]:
    """Blocks of about equal size, cut between moments; each but the first is judged by what came before it."""
    order = np.sort(times)
    moments, first = np.unique(order, return_index=True)
    if len(moments) < 2:
        return []
    wanted = np.arange(1, count + 1) * len(times) / (count + 1)
    nearest = [int(np.abs(first[1:] - one).argmin()) for one in wanted]
    starts = [*moments[1:][np.unique(nearest)].tolist(), None]
    return [
        Fold(np.flatnonzero(times < start), np.flatnonzero((times >= start) & (True if end is None else times < end)))
        for start, end in pairwise(starts)
    ]


def _by_row(rows: Rows, count: int) -> npt.NDArray[np.int64]:
    return np.asarray(np.floor(draw(rows.identity, INNER) * count).clip(max=count - 1), dtype=np.int64)


def _by_class(rows: Rows, count: int) -> npt.NDArray[np.int64]:
    """Within each class in turn, in the order of the hashes; equal rows stay together."""
    draws = draw(rows.identity, INNER)
    numbers = np.full(len(rows), -1, dtype=np.int64)
    shift = 0
    for one in pd.unique(rows.target):
        own = np.flatnonzero(rows.target == one)
        values, inverse, sizes = np.unique(draws[own], return_inverse=True, return_counts=True)
        if len(values) > 1:
            assigned = (np.cumsum(sizes) - sizes) * count // len(own)
            if assigned[0] == assigned[-1]:
                assigned = np.arange(len(values))
            numbers[own] = (assigned[inverse] + shift) % count
            shift += len(values)
    return numbers


def _by_group(rows: Rows, count: int) -> npt.NDArray[np.int64]:
    if rows.groups is None:
        return _by_row(rows, count)
    values, inverse, sizes = np.unique(rows.groups, return_inverse=True, return_counts=True)
    if len(values) < 2:
        return np.zeros(len(rows), dtype=np.int64)
    draws = _uniform(values.astype(np.int64).view(np.uint64), INNER)
    assigned, filled = np.empty(len(values), dtype=np.int64), np.zeros(count, dtype=np.int64)
    for one in np.lexsort((draws, -sizes)):
        assigned[one] = int(np.argmin(filled))
        filled[assigned[one]] += sizes[one]
    return np.asarray(assigned[inverse], dtype=np.int64)


def _varies(target: npt.NDArray[Any]) -> bool:
    return len(pd.unique(target)) > 1


def _check(train: Rows, data: Data) -> None:
    if not _varies(train.target):
        message = f"target {data.target} is {train.target[0]} in all {len(train)} rows left to learn from: only later rows differ"
        raise Failure(STEP, "TargetConstant", message)
