"""Whether a new model may serve: every gate is judged and shown, whatever the others say.

A failed gate is a result, not a failure: the version is registered and rejected.  What a gate asked for and the rows cannot
show is not passed either, except against production, where the gate itself says what then holds.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from threadpoolctl import threadpool_limits

from kaizen.api.metrics import FAIRNESS_METRICS, LATENCY_METRICS
from kaizen.api.training_gates import Gate
from kaizen.training.judge.against import LEAST_ROWS, Comparison, new_rows, split_record
from kaizen.training.judge.fairness import fairness
from kaizen.training.judge.intervals import LEVEL, Interval, interval
from kaizen.training.judge.judged import Champion, Detail, GateResult, Judged, Limits, decided, number, unjudged
from kaizen.training.judge.latency import Latency, latency, measure_latency
from kaizen.training.judge.measures import figure, undefined
from kaizen.training.judge.robustness import robustness
from kaizen.training.judge.slices import MINIMUM_ROWS, Slice, column, cut, relevant

__all__ = ["LEAST_ROWS", "Champion", "Detail", "GateResult", "Judged", "judge", "new_rows", "split_record"]


def judge(
    gates: Sequence[Gate], trial: Judged, champion: Champion | None, anchors: Sequence[Champion] = ()
) -> tuple[GateResult, ...]:
    """The result of every gate, in their order.

    Args:
        gates: of the TrainingJob.
        trial: the challenger, and the rows that judge it.
        champion: what serves; None when nothing does.
        anchors: versions that served in the last year, the champion among them or not.

    Raises:
        Failure: ChampionUnusable, ColumnMissing, ServerPackagesMissing or ServerUnusable: a gate cannot be judged at all.
    """
    comparison = None if champion is None else Comparison(trial, champion, anchors)
    measured: Latency | None = None
    if trial.package is not None and any(gate.metric in LATENCY_METRICS for gate in gates):
        measured = measure_latency(trial.package())
    # Sums of the same numbers must give the same last bit whatever the machine.
    with threadpool_limits(1):
        return tuple(_result(gate, trial, comparison, measured) for gate in gates)


def _result(gate: Gate, trial: Judged, comparison: Comparison | None, measured: Latency | None) -> GateResult:
    if gate.metric in LATENCY_METRICS:
        return latency(gate, measured)
    if gate.metric in FAIRNESS_METRICS:
        return fairness(gate, trial)
    if gate.perturbation is not None:
        return robustness(gate, trial)
    if gate.against_production is None:
        return _slices(gate, trial) if gate.slices else _absolute(gate, trial)
    if comparison is None:
        message = "nothing serves yet that it could be compared with"
        required = gate.required is not False
        return GateResult(gate.name, gate.metric, "Skipped", None, None, None, message, required=required)
    return comparison.result(gate)


def _absolute(gate: Gate, trial: Judged) -> GateResult:
    if why := undefined(gate.metric, trial.outcome):
        return unjudged(gate, why)
    value, limits = figure(gate.metric, trial.outcome), Limits.of(gate, bound=False)
    ends = interval(gate.metric, trial.outcome, trial.blocks)
    if ends is None and limits.bound:
        return unjudged(gate, f"{gate.metric} is {number(value)}, and its interval cannot be told from {trial.blocks}")
    found = ends or Interval(value, value, value)
    passed = limits.kept(found)
    between = f" ({number(ends.low)} to {number(ends.high)} over {trial.blocks})" if ends else ""
    message = f"{gate.metric} is {number(value)}{between} on {len(trial.parts.test)} test rows: {limits.wanted()}"
    return decided(gate, passed, value, limits.shown(found), message, ends)


def _slices(gate: Gate, trial: Judged) -> GateResult:
    """The limit must hold in every slice.

    The intervals hold jointly: their level is corrected for the number of slices (Bonferroni; Dunn 1961).
    """
    minimum = gate.minimum_group_rows or MINIMUM_ROWS
    marks = relevant(gate.metric, trial.outcome)
    cuts = [cut(name, column(trial.parts.test, name, gate.name), marks, minimum) for name in gate.slices or ()]
    slices = [one for found in cuts for one in found.judged]
    notes = [note for found in cuts if (note := found.note())]
    if not slices:
        why = f"no value of {', '.join(gate.slices or ())} has {minimum} test rows or more of the relevant class"
        return unjudged(gate, f"{why}: lower minimumGroupRows, or hold out more rows")
    limits = Limits.of(gate, bound=True)
    level = 1 - (1 - LEVEL) / len(slices)
    details: list[Detail] = []
    judged: list[tuple[float, Interval, Slice]] = []
    broken: list[str] = []
    for one in slices:
        outcome, blocks = trial.outcome.take(one.rows), trial.blocks.take(one.rows)
        value = figure(gate.metric, outcome)
        ends = interval(gate.metric, outcome, blocks, level, sharing=len(slices))
        if math.isnan(value) or (ends is None and limits.bound):
            why = undefined(gate.metric, outcome) or f"no interval can be told from {blocks}"
            broken.append(f"{one.name} cannot be judged: {why}")
            details.append(Detail(one.name, None if math.isnan(value) else value, rows=len(one.rows), passed=False))
            continue
        found = ends or Interval(value, value, value)
        low, high = (ends.low, ends.high) if ends else (None, None)
        details.append(Detail(one.name, value, low, high, len(one.rows), limits.kept(found)))
        judged.append((limits.room(found), found, one))
    failed = sum(detail.passed is False for detail in details)
    if not judged:
        return replace(unjudged(gate, "; ".join([*broken[:3], *notes])), details=tuple(details))
    _, found, worst = min(judged, key=lambda one: one[0])
    between = f" ({number(found.low)} to {number(found.high)})" if found.low != found.high else ""
    count = f"{failed} of {len(slices)} slices fail" if failed else f"the worst of {len(slices)} slices"
    said = (
        f"{gate.metric} is {number(found.value)}{between} on {len(worst.rows)} rows of {worst.name}: {limits.wanted()}; {count}"
    )
    message = "; ".join([said, *broken[:3], *notes])
    ends = found if found.low != found.high else None
    return decided(gate, not failed, found.value, limits.shown(found), message, ends, details=details)
