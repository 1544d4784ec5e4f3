"""Whether a model treats the groups of a sensitive feature alike: Fairlearn's metrics, with intervals.

The largest difference between groups grows with their number by chance alone, and a bootstrap of it doubles that.  So each
pair of groups gets an interval at a level corrected for the number of pairs (Bonferroni; Dunn 1961), and the largest upper
and lower ends bound the largest difference.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from kaizen.api.training_gates import Gate
from kaizen.training.judge.intervals import LEVEL, Blocks, Interval, percentiles
from kaizen.training.judge.judged import Detail, GateResult, Judged, Limits, decided, number, unjudged
from kaizen.training.judge.outcome import Codes, Numbers, Outcome
from kaizen.training.judge.slices import MINIMUM_ROWS, Slices, column, cut, relevant

__all__ = ["fairness"]

RATES: Mapping[str, tuple[str, ...]] = {
    "demographic_parity": ("share answered with it",),
    "equal_opportunity": ("true positive rate",),
    "equalized_odds": ("true positive rate", "false positive rate"),
}


def fairness(gate: Gate, trial: Judged) -> GateResult:
    """The result of a gate with a fairness metric.  Raises Failure ColumnMissing."""
    outcome, test = trial.outcome, trial.parts.test
    if trial.classes is None or len(trial.classes) != 2 or len(outcome.labels) > 2:
        have = "a regression has none" if trial.classes is None else f"there are {len(outcome.labels)}"
        return unjudged(gate, f"{gate.metric} needs two classes, and {have}")
    feature, minimum = str(gate.sensitive_feature), gate.minimum_group_rows or MINIMUM_ROWS
    found = cut(feature, column(test, feature, gate.name), relevant(gate.metric, outcome), minimum)
    if len(found.judged) < 2:
        have = f"only {found.judged[0].name}" if found.judged else "no group"
        why = f"{gate.metric} compares groups of {feature}, and {have} has {minimum} rows or more of the relevant class"
        return unjudged(gate, f"{why}: lower minimumGroupRows, or hold out more rows")
    chosen = np.concatenate([one.rows for one in found.judged])
    groups: Codes = np.repeat(np.arange(len(found.judged)), [len(one.rows) for one in found.judged])
    names = [one.name for one in found.judged]
    value = _fairlearn(gate.metric, outcome.take(chosen), np.array(names, dtype=object)[groups])
    kind = gate.metric.rsplit("_", 1)[0]
    blocks = trial.blocks.take(chosen)
    rates = _rates(kind, outcome.take(chosen), groups, len(names), np.ones((1, blocks.count)), blocks)
    drawn = _rates(kind, outcome.take(chosen), groups, len(names), blocks.weights, blocks)
    ends = _ends(value, rates, drawn, blocks, ratio=gate.metric.endswith("ratio"))
    limits = Limits.of(gate, bound=False)
    if ends is None and limits.bound:
        return unjudged(gate, f"{gate.metric} is {number(value)}, and its interval cannot be told from {blocks}")
    interval = ends or Interval(value, value, value)
    passed = limits.kept(interval)
    details = tuple(
        Detail(f"{name}, {RATES[kind][part]}", float(rates[part][0, group]), rows=len(found.judged[group].rows))
        for part in range(len(rates))
        for group, name in enumerate(names)
    )
    message = _message(gate, interval, ends is not None, rates, names, limits, found)
    return decided(gate, passed, value, limits.shown(interval), message, ends, details=details)


def _fairlearn(metric: str, outcome: Outcome, groups: Any) -> float:
    compute = getattr(import_module("fairlearn.metrics"), metric)
    return float(compute(outcome.codes == 1, outcome.predicted == 1, sensitive_features=groups))


def _rates(kind: str, outcome: Outcome, groups: Codes, count: int, weights: Numbers, blocks: Blocks) -> list[Numbers]:
    """For each rate that the metric compares, (resamples, groups)."""
    answered = outcome.predicted == 1
    among = {
        "demographic_parity": [np.ones(len(groups), dtype=np.bool_)],
        "equal_opportunity": [outcome.codes == 1],
        "equalized_odds": [outcome.codes == 1, outcome.codes == 0],
    }[kind]

    def sums(rows: Any) -> Numbers:
        places = blocks.of_rows[rows] * count + groups[rows]
        return weights @ np.bincount(places, minlength=blocks.count * count).reshape(-1, count).astype(np.float64)

    with np.errstate(all="ignore"):
        return [sums(one & answered) / sums(one) for one in among]


def _ends(value: float, rates: list[Numbers], drawn: list[Numbers], blocks: Blocks, *, ratio: bool) -> Interval | None:
    count = rates[0].shape[1]
    pairs = [(one, other) for one in range(count) for other in range(count) if one != other]
    level = 1 - (1 - LEVEL) / (len(rates) * len(pairs) / 2)
    found = []
    for rate, resampled in zip(rates, drawn, strict=True):
        for one, other in pairs:
            with np.errstate(all="ignore"):
                apart = rate[0, one] / rate[0, other] if ratio else rate[0, one] - rate[0, other]
                values = resampled[:, one] / resampled[:, other] if ratio else resampled[:, one] - resampled[:, other]
            found.append(percentiles(float(apart), values, blocks.count, level))
    if any(one is None for one in found):
        return None
    known = [one for one in found if one is not None]
    if ratio:
        return Interval(value, max(0.0, min(one.low for one in known)), min(1.0, min(one.high for one in known)))
    return Interval(value, max(0.0, max(one.low for one in known)), min(1.0, max(one.high for one in known)))


def _message(
    gate: Gate, found: Interval, sure: bool, rates: list[Numbers], names: list[str], limits: Limits, slices: Slices
) -> str:
    """Names the two groups that are furthest apart."""
    widest = max(rates, key=lambda rate: float(np.ptp(rate[0])))[0]
    kind = RATES[gate.metric.rsplit("_", 1)[0]][int(np.argmax([np.ptp(rate[0]) for rate in rates]))]
    low, high = int(widest.argmin()), int(widest.argmax())
    ends = f" ({number(found.low)} to {number(found.high)})" if sure else ""
    note = slices.note()
    return (
        f"{gate.metric} is {number(found.value)}{ends} between {len(names)} groups, {kind} from {number(float(widest[low]))} for "
        f"{names[low]} to {number(float(widest[high]))} for {names[high]}: {limits.wanted()}{f'; {note}' if note else ''}"
    )
