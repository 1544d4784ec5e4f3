"""How much worse a metric becomes when the test rows are disturbed, as sensors, joins and clients disturb them.

All draws are seeded.  Rows and columns beyond the limits below are sampled, and the message says how many were taken.

| perturbation | what is done |
|---|---|
| Noise | to each number, normal noise of a tenth of the training column's standard deviation |
| MissingValues | each value is missing with probability 0.1, in the columns where the model takes a gap |
| CategorySwap | each text or boolean is another of the training column's values with probability 0.1 |
| Shift | one numeric column after the other moves up or down by half a standard deviation; the worst counts |
| Adversarial | for each row, the worst that a search finds within a tenth of a standard deviation in each number |

The adversarial search needs no gradients: in each of 64 steps a third of a row's numbers go to one end of what they may be,
and what raises the row's loss is kept (random search at the corners of the box, as in Andriushchenko et al. 2020, "Square
Attack").  It finds a lower bound of the worst case.  Where there are no numbers, one category of each row is swapped.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaizen.api.training_gates import Gate
from kaizen.training.errors import Failure
from kaizen.training.judge.intervals import Interval, difference
from kaizen.training.judge.judged import Detail, GateResult, Judged, Limits, decided, higher_is_better, number, unjudged
from kaizen.training.judge.measures import SMALLEST, figure, undefined
from kaizen.training.judge.outcome import Numbers, Outcome
from kaizen.training.models.fit import outputs

__all__ = ["disturb", "robustness"]

MOST_ROWS = 20_000
MOST_SHIFT_ROWS = 5_000
MOST_ADVERSARIAL_ROWS = 1_000
MOST_SHIFTS = 32
"""With more columns, bundles of columns move together."""
STEPS = 64
NOISE = 0.1
MISSING = 0.1
SWAPPED = 0.1
SHIFT = 0.5
MOVED = 1 / 3
SEED = 11


@dataclass(frozen=True, eq=False)
class _Subject:
    """The rows that are disturbed, and what is known of their columns from the training part."""

    trial: Judged
    rows: npt.NDArray[np.int64]
    frame: pd.DataFrame
    outcome: Outcome

    def answers(self, frame: pd.DataFrame) -> Outcome:
        """The model's answers to disturbed rows."""
        return Outcome(outputs(self.trial.pipeline, frame), self.outcome.target, self.outcome.classes, self.outcome.threshold)

    @property
    def numeric(self) -> list[str]:
        """Numbers and moments."""
        return [name for name, column in self.frame.items() if column.dtype.kind in "iufM"]

    @property
    def categorical(self) -> list[str]:
        """Texts and booleans."""
        return [name for name, column in self.frame.items() if column.dtype.kind in "Ob"]

    def spread(self, name: str) -> float:
        """Standard deviation of the training column, of moments in microseconds; 0 without values."""
        found = _floats(self.trial.parts.train.frame[name])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spread = float(np.nanstd(found))
        return spread if np.isfinite(spread) else 0.0


Disturbed = tuple[Outcome, str]
"""Answers to the disturbed rows, and what was done in words."""


def robustness(gate: Gate, trial: Judged) -> GateResult:
    """The result of a gate with a perturbation."""
    kind = str(gate.perturbation)
    most = {"Adversarial": MOST_ADVERSARIAL_ROWS, "Shift": MOST_SHIFT_ROWS}.get(kind, MOST_ROWS)
    total = len(trial.parts.test)
    rows = np.arange(total) if total <= most else np.sort(np.random.default_rng(SEED).choice(total, most, replace=False))
    subject = _Subject(trial, rows, trial.parts.test.frame.iloc[rows].reset_index(drop=True), trial.outcome.take(rows))
    if why := undefined(gate.metric, subject.outcome):
        return unjudged(gate, f"{why}{_of(rows, total)}")
    try:
        disturbed = disturb(gate.metric, kind, subject)
    except Failure as problem:
        return unjudged(gate, f"{kind} makes the model fail: {problem.message}")
    limits = Limits.of(gate, bound=False, most=gate.drop_at_most)
    if disturbed is None:
        what = {"MissingValues": "column that may be missing", "CategorySwap": "text or boolean column"}.get(
            kind, "numeric column"
        )
        return decided(gate, True, 0.0, gate.drop_at_most, f"the model has no {what}, so {kind} disturbs nothing")
    answers, done = disturbed
    clean, after = figure(gate.metric, subject.outcome), figure(gate.metric, answers)
    sign = -1.0 if higher_is_better(gate.metric) else 1.0
    blocks = trial.blocks.take(rows)
    apart = difference(gate.metric, answers, subject.outcome, blocks)
    if apart is None and limits.bound:
        return unjudged(gate, f"the interval of {gate.metric} cannot be told from {blocks}")
    drop = sign * (after - clean)
    ends = Interval(drop, *sorted((sign * apart.low, sign * apart.high))) if apart else None
    passed = limits.kept(ends or Interval(drop, drop, drop))
    message = (
        f"{gate.metric} goes from {number(clean)} to {number(after)} by {done}{_of(rows, total)}, worse by {number(drop)}"
        f"{f' ({number(ends.low)} to {number(ends.high)})' if ends else ''}: {limits.wanted()}"
    )
    details = [Detail("undisturbed", clean, rows=len(rows)), Detail(kind, after, rows=len(rows))]
    return decided(gate, passed, drop, gate.drop_at_most, message, ends, details=details)


def disturb(metric: str, kind: str, subject: _Subject) -> Disturbed | None:
    """Answers to the disturbed rows; None where no column can be disturbed that way.  Raises Failure of the model's."""
    return _KINDS[kind](metric, subject)


def _noise(metric: str, subject: _Subject) -> Disturbed | None:
    random = np.random.default_rng(SEED)
    frame = subject.frame.copy()
    for name in subject.numeric:
        frame[name] = _moved(frame[name], random.normal(0, NOISE * subject.spread(name), len(frame)))
    if not subject.numeric:
        return None
    return subject.answers(frame), f"noise of {NOISE:g} standard deviations in {len(subject.numeric)} columns"


def _missing(metric: str, subject: _Subject) -> Disturbed | None:
    random = np.random.default_rng(SEED)
    takes = _take_gaps(subject, list(subject.frame.columns))
    if not takes:
        return None
    frame = subject.frame.copy()
    for name in takes:
        frame[name] = _gaps(frame[name], random.random(len(frame)) < MISSING)
    others = len(frame.columns) - len(takes)
    left = f" ({others} take none and were left alone)" if others else ""
    return subject.answers(frame), f"leaving out {MISSING:.0%} of the values in {len(takes)} columns{left}"


def _swap(metric: str, subject: _Subject) -> Disturbed | None:
    random = np.random.default_rng(SEED)
    frame = subject.frame.copy()
    swapped = 0
    for name in subject.categorical:
        values = _values(subject, name)
        if len(values) > 1:
            frame[name] = _other(frame[name], values, random.random(len(frame)) < SWAPPED, random)
            swapped += 1
    return (subject.answers(frame), f"swapping {SWAPPED:.0%} of the categories in {swapped} columns") if swapped else None


def _shift(metric: str, subject: _Subject) -> Disturbed | None:
    bundles = [list(one) for one in np.array_split(np.array(subject.numeric, dtype=object), MOST_SHIFTS) if len(one)]
    worst: Disturbed | None = None
    for bundle in bundles:
        for sign in (SHIFT, -SHIFT):
            frame = subject.frame.copy()
            for name in bundle:
                frame[name] = _moved(frame[name], np.full(len(frame), sign * subject.spread(name)))
            named = bundle[0] if len(bundle) == 1 else f"{bundle[0]} and {len(bundle) - 1} more columns"
            found = subject.answers(frame), f"moving {named} {'up' if sign > 0 else 'down'} by {SHIFT:g} standard deviations"
            if worst is None or _worse(metric, found[0], worst[0]):
                worst = found
    return worst


def _adversarial(metric: str, subject: _Subject) -> Disturbed | None:
    random = np.random.default_rng(SEED)
    numeric = [name for name in subject.numeric if subject.spread(name) > 0]
    if not numeric:
        return _adversarial_swap(metric, subject, random)
    bounds = np.array([NOISE * subject.spread(name) for name in numeric])
    moves = np.zeros((len(subject.frame), len(numeric)))
    answers = subject.outcome
    best = _losses(answers)
    for _ in range(STEPS):
        chosen = random.random(moves.shape) < MOVED
        chosen[np.arange(len(moves)), random.integers(0, len(numeric), len(moves))] = True
        tried = np.where(chosen, random.choice([-1.0, 1.0], moves.shape) * bounds, moves)
        frame = subject.frame.copy()
        for place, name in enumerate(numeric):
            frame[name] = _moved(frame[name], tried[:, place], within=True)
        found = subject.answers(frame)
        losses = _losses(found)
        better = losses > best
        moves[better], best[better] = tried[better], losses[better]
        answers = _mixed(answers, found, better)
    done = f"the worst of {STEPS} changes of each row within {NOISE:g} standard deviations in {len(numeric)} columns"
    return answers, done


def _adversarial_swap(metric: str, subject: _Subject, random: np.random.Generator) -> Disturbed | None:
    names = [name for name in subject.categorical if len(_values(subject, name)) > 1]
    if not names:
        return None
    answers, best = subject.outcome, _losses(subject.outcome)
    for _ in range(STEPS):
        frame = subject.frame.copy()
        turns = random.integers(0, len(names), len(frame))
        for place, name in enumerate(names):
            frame[name] = _other(frame[name], _values(subject, name), turns == place, random)
        found = subject.answers(frame)
        losses = _losses(found)
        better = losses > best
        best[better] = losses[better]
        answers = _mixed(answers, found, better)
    return answers, f"the worst of {STEPS} swaps of one category of each row"


_KINDS: dict[str, Callable[[str, _Subject], Disturbed | None]] = {
    "Noise": _noise,
    "MissingValues": _missing,
    "CategorySwap": _swap,
    "Shift": _shift,
    "Adversarial": _adversarial,
}


def _moved(column: "pd.Series[Any]", by: Numbers, *, within: bool = False) -> "pd.Series[Any]":
    """Whole numbers stay whole; `within` rounds toward where they were."""
    if column.dtype.kind == "M":
        return column + pd.to_timedelta(np.trunc(by), unit="us")
    if column.dtype.kind in "iu":
        steps = np.trunc(by) if within else np.round(by)
        limits = np.iinfo(np.int64)
        moved = np.clip(column.to_numpy(dtype=np.float64) + steps, float(limits.min), np.nextafter(float(limits.max), 0))
        return pd.Series(np.where(steps == 0, column.to_numpy(), moved.astype(np.int64)), column.index)
    return column + by


def _gaps(column: "pd.Series[Any]", where: npt.NDArray[np.bool_]) -> "pd.Series[Any]":
    if column.dtype.kind in "iub":
        column = column.astype(np.float64)
    return column.mask(where, pd.NaT if column.dtype.kind == "M" else np.nan)


def _take_gaps(subject: _Subject, names: list[str]) -> list[str]:
    """Those columns without which the model answers, as the server finds out too; halved until all of a half do."""
    few = subject.frame.iloc[:2]
    every = np.ones(len(few), dtype=np.bool_)
    try:
        outputs(subject.trial.pipeline, few.assign(**{name: _gaps(few[name], every) for name in names}))
    except (ValueError, TypeError, Failure):
        half = len(names) // 2
        return [*_take_gaps(subject, names[:half]), *_take_gaps(subject, names[half:])] if half else []
    return names


def _values(subject: _Subject, name: str) -> npt.NDArray[Any]:
    """What the training column has, each once, in order."""
    found = pd.unique(subject.trial.parts.train.frame[name].dropna())
    return np.array(sorted(found.tolist()), dtype=found.dtype)


def _other(
    column: "pd.Series[Any]", values: npt.NDArray[Any], where: npt.NDArray[np.bool_], random: np.random.Generator
) -> "pd.Series[Any]":
    """Another of the values at these rows; a gap stays one."""
    codes = pd.Index(values).get_indexer(column)
    steps = random.integers(1, len(values), len(column))
    new = np.where(codes < 0, random.integers(0, len(values), len(column)), (codes + steps) % len(values))
    return column.mask(where & column.notna().to_numpy(), pd.Series(values[new], column.index))


def _losses(outcome: Outcome) -> Numbers:
    """Of each row: log loss, or absolute error."""
    if outcome.classes is None:
        return np.abs(outcome.errors)
    return np.asarray(-np.log(np.maximum(outcome.of_truth, SMALLEST)))


def _mixed(one: Outcome, other: Outcome, where: npt.NDArray[np.bool_]) -> Outcome:
    answers = np.where(where[:, None] if one.answers.ndim == 2 else where, other.answers, one.answers)
    return Outcome(answers, one.target, one.classes, one.threshold)


def _worse(metric: str, one: Outcome, other: Outcome) -> bool:
    first, second = figure(metric, one), figure(metric, other)
    return first < second if higher_is_better(metric) else first > second


def _floats(column: "pd.Series[Any]") -> Numbers:
    if column.dtype.kind == "M":
        moments = column.to_numpy().astype("datetime64[us]").astype(np.int64)
        return np.asarray(np.where(column.isna().to_numpy(), np.nan, moments), dtype=np.float64)
    return np.asarray(column.to_numpy(dtype=np.float64))


def _of(rows: npt.NDArray[np.int64], total: int) -> str:
    return f" on {len(rows)} test rows" + (f", drawn from {total}" if len(rows) < total else "")
