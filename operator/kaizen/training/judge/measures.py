"""Every metric as a function of row weights: once with all of them 1 it is the figure, under resampled weights its interval.

Most metrics are a function of sums over rows; these are summed per block of rows, and a thousand resamples cost one product
of matrices.  Metrics of ranks, and the median, sort once and walk the sorted rows anew for each resample.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kaizen.training.judge.outcome import Codes, Numbers, Outcome

__all__ = ["SMALLEST", "Measure", "figure", "measure", "undefined"]

SMALLEST = float(np.finfo(np.float64).eps)
"""Probabilities are kept this far from 0 and 1 in the log loss, as scikit-learn keeps them."""


class Measure(Protocol):
    """A metric of certain answers to certain rows."""

    @property
    def passes(self) -> int:
        """How often all rows are walked for one line of weights: 0 where sums of blocks are enough."""

    def values(self, weights: Numbers, blocks: Codes) -> Numbers:
        """The metric once per line of weights, NaN where undefined.

        Args:
            weights: not negative, (resamples, blocks).
            blocks: the block of each row, (rows,).
        """


def measure(name: str, outcome: Outcome) -> Measure:
    """The metric of this name; KeyError where the task does not have it."""
    return (_REGRESSION if outcome.classes is None else _CLASSIFICATION)[name](outcome)


def figure(name: str, outcome: Outcome) -> float:
    """The value of a metric, NaN where these rows cannot tell it."""
    if undefined(name, outcome):
        return np.nan
    blocks: Codes = np.zeros(len(outcome.target), dtype=np.int64)
    return float(measure(name, outcome).values(np.ones((1, 1)), blocks)[0])


def undefined(name: str, outcome: Outcome) -> str | None:
    """Why these rows cannot tell this metric, as the end of a sentence; None when they can."""
    known = _REGRESSION if outcome.classes is None else _CLASSIFICATION
    if name not in known:
        task = "Regression" if outcome.classes is None else "Classification"
        return f"{name} is no metric of task {task}, which has {', '.join(known)}"
    if not len(outcome.target):
        return f"{name} needs rows, and there are none"
    if outcome.classes is None:
        constant = name == "r2" and bool((outcome.target == outcome.target[0]).all())
        return (
            f"r2 needs a target that varies, and it is {outcome.target[0]} in all {len(outcome.target)} rows"
            if constant
            else None
        )
    if name in ("roc_auc", "average_precision"):
        strangers = outcome.labels[len(outcome.classes) :]
        if strangers:
            return f"{name} needs classes that the model knows, and {strangers[0]!r} is not among them"
        absent = [label for label, count in zip(outcome.labels, outcome.counts, strict=True) if not count]
        return f"{name} needs rows of every class, and none of {len(outcome.target)} has {absent[0]!r}" if absent else None
    if name == "matthews" and np.count_nonzero(outcome.counts) < 2:
        return f"matthews needs rows of two classes, and all {len(outcome.target)} have {outcome.labels[outcome.codes[0]]!r}"
    if outcome.binary and len(outcome.labels) == 2 and name in ("precision", "recall", "f1"):
        second = outcome.labels[1]
        if not outcome.counts[1] and (name == "recall" or not (outcome.predicted == 1).any()):
            return f"{name} is of class {second!r}, and none of {len(outcome.target)} rows has it"
    return None


@dataclass(frozen=True, eq=False)
class _Sums:
    """A function of sums over rows."""

    columns: Sequence[Numbers]
    """Summed as they are, (rows,) each."""
    counted: Sequence[tuple[Codes, Numbers | None, int]]
    """Counted by code: codes (rows,), what each row counts (1 when None), how many codes there are."""
    finish: Callable[[Numbers], Numbers]
    """Sums (resamples, all of them in this order) to values (resamples,)."""
    passes: int = 0

    def values(self, weights: Numbers, blocks: Codes) -> Numbers:
        """See Measure."""
        count = weights.shape[1]
        sums = [np.bincount(blocks, column, count)[:, None] for column in self.columns]
        for codes, each, kinds in self.counted:
            sums.append(np.bincount(blocks * kinds + codes, each, count * kinds).reshape(count, kinds))
        sums.append(np.bincount(blocks, minlength=count)[:, None])
        with np.errstate(all="ignore"):
            return self.finish(weights @ np.hstack(sums).astype(np.float64))


def _mean(column: Numbers) -> Measure:
    return _Sums([column], [], lambda sums: sums[:, 0] / sums[:, 1])


def _log_loss(outcome: Outcome) -> Measure:
    return _mean(-np.log(np.clip(outcome.of_truth, SMALLEST, 1 - SMALLEST)))


def _brier(outcome: Outcome) -> Measure:
    """Mean over rows of the sum over classes of squared errors (Brier 1950), halved for two classes."""
    # Σ(p - y)² = Σp² - 2p(truth) + 1, without a matrix of the truth.
    errors = np.square(outcome.answers).sum(axis=1) - 2 * outcome.of_truth + 1
    return _mean(errors / (2 if outcome.binary else 1))


def _calibration_gap(outcome: Outcome) -> Measure:
    classes, kinds = outcome.answers.shape[1], len(outcome.labels)

    def finish(sums: Numbers) -> Numbers:
        actual = sums[:, classes : classes + kinds]
        strangers = actual[:, classes:].sum(axis=1)
        gaps = np.abs(np.column_stack([sums[:, :classes] - actual[:, :classes], strangers]))
        return np.asarray(gaps.max(axis=1) / sums[:, -1])

    return _Sums([outcome.answers[:, one] for one in range(classes)], [(outcome.codes, None, kinds)], finish)


def _confusion(finish: Callable[[Numbers, Numbers, Numbers, Numbers], Numbers]) -> Callable[[Outcome], Measure]:
    """A metric of, per class, the rows that are right, predicted and true, each (resamples, classes), and of all rows."""

    def made(outcome: Outcome) -> Measure:
        kinds = len(outcome.labels)
        right = (outcome.predicted == outcome.codes).astype(np.float64)

        def done(sums: Numbers) -> Numbers:
            parts = (sums[:, :kinds], sums[:, kinds : 2 * kinds], sums[:, 2 * kinds : 3 * kinds])
            return finish(*parts, sums[:, -1])

        return _Sums([], [(outcome.codes, right, kinds), (outcome.predicted, None, kinds), (outcome.codes, None, kinds)], done)

    return made


def _accuracy(right: Numbers, predicted: Numbers, actual: Numbers, rows: Numbers) -> Numbers:
    return np.asarray(right.sum(axis=1) / rows)


def _balanced_accuracy(right: Numbers, predicted: Numbers, actual: Numbers, rows: Numbers) -> Numbers:
    """The mean over the classes that there are rows of (Brodersen et al. 2010)."""
    return _mean_where(actual > 0, right / actual)


def _matthews(right: Numbers, predicted: Numbers, actual: Numbers, rows: Numbers) -> Numbers:
    """For any number of classes (Gorodkin 2004); 0 where only one class is predicted."""
    covariance = right.sum(axis=1) * rows - (predicted * actual).sum(axis=1)
    spreads = (rows**2 - np.square(predicted).sum(axis=1)) * (rows**2 - np.square(actual).sum(axis=1))
    found = np.where(spreads > 0, covariance / np.sqrt(np.where(spreads > 0, spreads, 1)), 0.0)
    return np.where((actual > 0).sum(axis=1) < 2, np.nan, found)


def _of_class(
    above: Callable[[Numbers, Numbers, Numbers], Numbers], under: Callable[[Numbers, Numbers, Numbers], Numbers]
) -> Any:
    """A share that belongs to one class: of two classes that of the second, of more the mean over those true or predicted.

    0 where the class has rows, and what it would be a share of has none, as scikit-learn has it.
    """

    def made(outcome: Outcome) -> Measure:
        second_only = outcome.binary and len(outcome.labels) == 2

        def finish(right: Numbers, predicted: Numbers, actual: Numbers, rows: Numbers) -> Numbers:
            part, whole = above(right, predicted, actual), under(right, predicted, actual)
            if second_only:
                lacking = np.where(actual[:, 1] > 0, 0.0, np.nan)
                return np.where(whole[:, 1] > 0, part[:, 1] / whole[:, 1], lacking)
            return _mean_where(predicted + actual > 0, np.where(whole > 0, part / whole, 0.0))

        return _confusion(finish)(outcome)

    return made


def _mean_where(chosen: npt.NDArray[np.bool_], values: Numbers) -> Numbers:
    return np.asarray(np.where(chosen, values, 0.0).sum(axis=1) / chosen.sum(axis=1))


def _squared(finish: Callable[[Numbers], Numbers]) -> Callable[[Outcome], Measure]:
    return lambda outcome: _Sums([np.square(outcome.errors)], [], lambda sums: finish(sums[:, 0] / sums[:, 1]))


def _r2(outcome: Outcome) -> Measure:
    truth = outcome.target.astype(np.float64)
    centred = truth - np.median(truth)

    def finish(sums: Numbers) -> Numbers:
        spread = sums[:, 2] - np.square(sums[:, 1]) / sums[:, 3]
        return np.where(spread > 0, 1 - sums[:, 0] / np.where(spread > 0, spread, 1), np.nan)

    return _Sums([np.square(outcome.errors), centred, np.square(centred)], [], finish)


@dataclass(frozen=True, eq=False)
class _Ranks:
    """A metric of how scores order the rows of each class against the others; the mean over classes."""

    scores: Sequence[Numbers]
    positive: Sequence[npt.NDArray[np.bool_]]
    finish: Callable[[Numbers, Numbers], float]
    """Weights of positive and negative rows at each distinct score, ascending."""

    @property
    def passes(self) -> int:
        """See Measure."""
        return len(self.scores)

    def values(self, weights: Numbers, blocks: Codes) -> Numbers:
        """See Measure."""
        found = np.zeros(len(weights))
        for scores, positive in zip(self.scores, self.positive, strict=True):
            order = np.argsort(scores, kind="stable")
            ordered = scores[order]
            starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(order) else np.zeros(0, np.int64)
            tied = len(starts) < len(order)
            sorted_blocks, sorted_positive = blocks[order], positive[order].astype(np.float64)
            for line, weight in enumerate(weights):
                each = weight[sorted_blocks]
                for_it = each * sorted_positive
                against = each - for_it
                if tied:
                    for_it, against = np.add.reduceat(for_it, starts), np.add.reduceat(against, starts)
                found[line] += self.finish(for_it, against)
        return found / len(self.scores)


def _auc(for_it: Numbers, against: Numbers) -> float:
    """The chance that a positive row scores above a negative one, ties counting half (Mann and Whitney 1947)."""
    below = np.cumsum(against)
    pairs = for_it.sum() * below[-1] if len(below) else 0.0
    return float((for_it * (below - against / 2)).sum() / pairs) if pairs > 0 else np.nan


def _average_precision(for_it: Numbers, against: Numbers) -> float:
    """The mean precision over the positive rows, each at its own score."""
    found = np.cumsum(for_it[::-1])
    total = found[-1] if len(found) else 0.0
    if total <= 0 or against.sum() <= 0:
        return np.nan
    answered = found + np.cumsum(against[::-1])
    return float((for_it[::-1] * found / np.maximum(answered, SMALLEST)).sum() / total)


def _ranks(finish: Callable[[Numbers, Numbers], float]) -> Callable[[Outcome], Measure]:
    def made(outcome: Outcome) -> Measure:
        columns = [1] if outcome.binary else range(outcome.answers.shape[1])
        return _Ranks([outcome.answers[:, one] for one in columns], [outcome.codes == one for one in columns], finish)

    return made


@dataclass(frozen=True, eq=False)
class _Median:
    """The weighted median: the mean of the middle two where there are two."""

    errors: Numbers
    passes: int = 1

    def values(self, weights: Numbers, blocks: Codes) -> Numbers:
        """See Measure."""
        order = np.argsort(self.errors, kind="stable")
        ordered, sorted_blocks = self.errors[order], blocks[order]
        found = np.full(len(weights), np.nan)
        for line, weight in enumerate(weights):
            reached = np.cumsum(weight[sorted_blocks])
            if len(reached) and reached[-1] > 0:
                half = reached[-1] / 2
                # The first row at half of the weight, and the first beyond it: the same unless half is reached exactly.
                lower, upper = np.searchsorted(reached, half, "left"), np.searchsorted(reached, half, "right")
                found[line] = (ordered[lower] + ordered[min(upper, len(ordered) - 1)]) / 2
        return found


_CLASSIFICATION: Mapping[str, Callable[[Outcome], Measure]] = {
    "log_loss": _log_loss,
    "brier": _brier,
    "calibration_gap": _calibration_gap,
    "roc_auc": _ranks(_auc),
    "average_precision": _ranks(_average_precision),
    "accuracy": _confusion(_accuracy),
    "balanced_accuracy": _confusion(_balanced_accuracy),
    "f1": _of_class(lambda right, predicted, actual: 2 * right, lambda right, predicted, actual: predicted + actual),
    "precision": _of_class(lambda right, predicted, actual: right, lambda right, predicted, actual: predicted),
    "recall": _of_class(lambda right, predicted, actual: right, lambda right, predicted, actual: actual),
    "matthews": _confusion(_matthews),
}
_REGRESSION: Mapping[str, Callable[[Outcome], Measure]] = {
    "rmse": _squared(np.sqrt),
    "mae": lambda outcome: _mean(np.abs(outcome.errors)),
    "median_error": lambda outcome: _Median(np.abs(outcome.errors)),
    "r2": _r2,
}
