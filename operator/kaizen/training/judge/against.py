"""Whether a new model is worse than the one that serves, on rows that neither has learned from.

Judged on rows that the champion has seen, a better challenger loses.  So only those of the challenger's test part count that
are newer than the champion's newest row, or that a stable hash keeps out of both.

The best version of the last year is a second anchor on the same rows: without it, many small losses, each allowed, add up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaizen.api.training_data import Data
from kaizen.api.training_gates import Gate
from kaizen.serving.engine import runtime
from kaizen.training.data.prepare import iso
from kaizen.training.data.split import EVERY, Parts, also_held_out
from kaizen.training.errors import Failure
from kaizen.training.judge.intervals import Interval, difference
from kaizen.training.judge.judged import STEP, Champion, Detail, GateResult, Judged, Limits, decided, higher_is_better, number
from kaizen.training.judge.measures import figure, undefined
from kaizen.training.judge.outcome import Outcome

__all__ = ["LEAST_ROWS", "Comparison", "new_rows", "split_record"]

LEAST_ROWS = 200
"""New to both models; with fewer, chance decides."""

Mask = npt.NDArray[np.bool_]


def split_record(parts: Parts, data: Data) -> dict[str, Any]:
    """The entry `split` of manifest.json: from it `new_rows` tells what this model has not learned from."""
    return {
        "method": parts.method,
        "testShare": data.split.test_share,
        "trainRows": len(parts.train),
        "testRows": len(parts.test),
        "identity": _identity(parts, data),
        "bounds": dict(parts.bounds),
    }


def new_rows(parts: Parts, data: Data, manifest: Mapping[str, Any]) -> Mask:
    """Which test rows the model with this manifest has not learned from, as far as can be known."""
    test = parts.test
    unseen = np.zeros(len(test), dtype=np.bool_)
    until = manifest.get("trainedUntil")
    if until and test.times is not None:
        unseen |= test.times > _microseconds(until)
    recorded = manifest.get("split", {})
    same = recorded.get("method") == parts.method and recorded.get("identity") == _identity(parts, data)
    if same and not manifest.get("refit", {}).get("done"):
        bounds = recorded.get("bounds") or ({EVERY: recorded["testShare"]} if parts.method == "Random" else {})
        unseen |= also_held_out(parts, bounds)
    return unseen


def _identity(parts: Parts, data: Data) -> list[str]:
    """The columns that a split hashes, with their types: another list means other hashes."""
    if parts.method == "Grouped":
        return [f"{name}:group" for name in data.split.groups]
    return [f"{name}:{dtype}" for name, dtype in parts.test.identity.dtypes.items()]


@dataclass(frozen=True, eq=False)
class Comparison:
    """A model beside the one that serves and its predecessors; what several gates need is worked out once."""

    trial: Judged
    champion: Champion
    anchors: Sequence[Champion]

    def result(self, gate: Gate) -> GateResult:
        """The result of one gate.  Raises Failure ChampionUnusable."""
        required = gate.required is not False
        allowed = gate.against_production
        found = self._theirs
        if isinstance(found, Outcome):
            mine = self.trial.outcome.take(self._unseen)
            problem = undefined(gate.metric, mine) or undefined(gate.metric, found)
            compared = f"{problem}, of {self._rows} rows new to {self.champion.name}" if problem else _Pair(gate, mine, found)
        else:
            compared = found
        if isinstance(compared, str):
            passed = allowed is None or allowed.not_comparable != "Fail"
            return GateResult(
                gate.name, gate.metric, "NotComparable", passed, None, None, compared, self.champion.digest,
                required=required, against=self.champion.name,
            )  # fmt: skip
        blocks = self.trial.blocks.take(self._unseen)
        first = compared.judge(self.champion.name, blocks)
        others = [self._anchor(gate, anchor) for anchor in self._others]
        notes = [other for other in others if isinstance(other, str)]
        judged = [first, *(other for other in others if not isinstance(other, str))]
        # The strictest first anchor is the one that serves; of the others, the best on these rows.
        best = max(judged[1:], key=lambda one: one.strictness, default=None)
        decisive = first if first.room < 0 or best is None or best.room >= 0 else best
        message = decisive.message(self._rows)
        if best is not None and best.name != decisive.name:
            message += f"; of the last year's, {best.name} is best with {number(best.theirs)}"
        if notes:
            message += f"; not compared with {'; '.join(notes)}"
        return decided(
            gate, decisive.room >= 0, decisive.mine, decisive.limit, message, decisive.ends,
            champion=self.champion.digest, against=decisive.name,
            details=[Detail(one.name, one.theirs, rows=one.rows, passed=one.room >= 0) for one in judged],
        )  # fmt: skip

    @cached_property
    def _unseen(self) -> Mask:
        return new_rows(self.trial.parts, self.trial.data, self.champion.manifest)

    @property
    def _rows(self) -> int:
        return int(self._unseen.sum())

    @cached_property
    def _theirs(self) -> Outcome | str:
        if self._rows < LEAST_ROWS:
            name = self.champion.name
            return f"{self._rows} test rows are new to {name}{_since(self.champion)}; at least {LEAST_ROWS} are needed"
        try:
            return _answers(self.champion, self.trial, self._unseen)
        except runtime.EngineError as problem:
            raise Failure(STEP, "ChampionUnusable", f"{self.champion.name} cannot be loaded: {problem}") from problem

    @cached_property
    def _others(self) -> dict[Champion, "Outcome | str"]:
        """Each other anchor's answers to the champion's new rows that are new to it as well, or why there are none."""
        found: dict[Champion, Outcome | str] = {}
        for anchor in {one.digest: one for one in self.anchors if one.digest != self.champion.digest}.values():
            rows = self._both(anchor)
            if int(rows.sum()) < LEAST_ROWS:
                found[anchor] = f"{anchor.name}, which has learned from all but {int(rows.sum())} of these rows"
                continue
            try:
                answers = _answers(anchor, self.trial, rows)
            except runtime.EngineError as problem:
                answers = f"{anchor.name}, which cannot be loaded: {problem}"
            found[anchor] = answers
        return found

    def _both(self, anchor: Champion) -> Mask:
        return self._unseen & new_rows(self.trial.parts, self.trial.data, anchor.manifest)

    def _anchor(self, gate: Gate, anchor: Champion) -> "_Compared | str":
        theirs = self._others[anchor]
        if isinstance(theirs, str):
            return theirs
        rows = self._both(anchor)
        mine = self.trial.outcome.take(rows)
        if problem := undefined(gate.metric, mine) or undefined(gate.metric, theirs):
            return f"{anchor.name}, because {problem}"
        return _Pair(gate, mine, theirs).judge(anchor.name, self.trial.blocks.take(rows))


@dataclass(frozen=True)
class _Compared:
    """One comparison."""

    metric: str
    name: str
    """Of the other."""
    mine: float
    theirs: float
    limit: float
    margin: float
    apart: Interval | None
    """Mine minus theirs; None where it has no interval."""
    bound: bool
    rows: int
    blocks: str

    @property
    def ends(self) -> Interval | None:
        """The interval of the difference, added to the other's value."""
        return None if self.apart is None else Interval(self.mine, self.theirs + self.apart.low, self.theirs + self.apart.high)

    @property
    def worst(self) -> float:
        """What must keep the limit."""
        if not self.bound or self.ends is None:
            return self.mine
        return self.ends.low if higher_is_better(self.metric) else self.ends.high

    @property
    def room(self) -> float:
        """How far inside the limit it is; negative outside.  Without the interval that was asked for, it is outside."""
        if self.bound and self.apart is None:
            return -np.inf
        return self.worst - self.limit if higher_is_better(self.metric) else self.limit - self.worst

    @property
    def strictness(self) -> float:
        """How good the other is, in comparison."""
        return self.theirs - self.mine if higher_is_better(self.metric) else self.mine - self.theirs

    def message(self, rows: int) -> str:
        """Metric, values, limit, and what would help."""
        higher = higher_is_better(self.metric)
        of = f"{self.rows} rows new to both" if self.rows == rows else f"the {self.rows} of them that are new to {self.name} too"
        said = f"{self.metric} is {number(self.mine)} on {of}, where {self.name} has {number(self.theirs)}"
        if self.apart is None:
            why = f", and the interval that is to be judged cannot be told from {self.blocks}" if self.bound else ""
            return f"{said}{why}: {'at least' if higher else 'at most'} {number(self.limit)} is wanted"
        said += f" (difference {self.apart.value:+.4f}, {self.apart.low:+.4f} to {self.apart.high:+.4f} over {self.blocks})"
        if not self.bound:
            return f"{said}: {'at least' if higher else 'at most'} {number(self.limit)} is wanted"
        end = number(self.margin) if self.margin else "0"
        said += f": the whole interval is wanted {'above' if higher else 'below'} {'-' if higher and self.margin else ''}{end}"
        if self.room < 0 <= self._alone:
            needed = np.ceil((-self.apart.low if higher else self.apart.high) * 1e4) / 1e4
            said += f", so more test rows, worseByAtMost {needed:g} or judge: Estimate would let it pass"
        return said

    @property
    def _alone(self) -> float:
        """The room that the value alone would have."""
        return self.mine - self.limit if higher_is_better(self.metric) else self.limit - self.mine


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two models' answers to the same rows."""

    gate: Gate
    mine: Outcome
    theirs: Outcome

    def judge(self, name: str, blocks: Any) -> _Compared:
        """Both metrics, and the interval of their difference."""
        gate = self.gate
        margin = (gate.against_production.worse_by_at_most or 0.0) if gate.against_production else 0.0
        mine, theirs = figure(gate.metric, self.mine), figure(gate.metric, self.theirs)
        limit = theirs - margin if higher_is_better(gate.metric) else theirs + margin
        bound = Limits.of(gate, bound=True).bound
        apart = difference(gate.metric, self.mine, self.theirs, blocks)
        return _Compared(gate.metric, name, mine, theirs, limit, margin, apart, bound, len(self.mine.target), str(blocks))


def _answers(other: Champion, trial: Judged, rows: Mask) -> Outcome | str:
    """What another version says of these test rows, or why it cannot be asked.  Raises EngineError."""
    test = trial.parts.test.take(rows)
    engine = runtime.load(other.directory)
    if (engine.classes is None) != (trial.classes is None):
        return f"{other.name} has task {engine.task}"
    if trial.classes is not None and not set(trial.classes) & set(engine.classes or ()):
        return f"{other.name} knows other classes: {', '.join(map(str, engine.classes or ()))}"
    try:
        answer = engine.predict(engine.columns(_values(test.frame)), len(test))
    except runtime.Refused as problem:
        return f"{other.name} does not take these columns: {problem}"
    theirs = answer.predict.astype(np.float64) if answer.probabilities is None else answer.probabilities
    return Outcome(theirs, test.target, engine.classes, engine.threshold)


def _values(frame: pd.DataFrame) -> dict[str, Any]:
    """Columns as a request brings them: a missing text is None, a moment is an ISO text."""
    return {str(name): _plain(column) for name, column in frame.items()}


def _plain(column: "pd.Series[Any]") -> Any:
    if column.dtype.kind == "M":
        column = column.map(lambda value: None if value is pd.NaT else value.isoformat()).astype(object)
    return [None if value != value else value for value in column] if column.dtype == object else column.to_numpy()


def _microseconds(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z"), "us").astype(np.int64))


def _since(champion: Champion) -> str:
    until = champion.manifest.get("trainedUntil")
    return f", which learned until {iso(_microseconds(until))}" if until else ""
