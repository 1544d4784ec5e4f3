"""Whether a new model may serve: compared with the one that does, on rows that neither has learned from.

Judged on rows that the champion has seen, a better challenger loses.  So only those of the challenger's test part count that
are newer than the champion's newest row, or that a stable hash keeps out of both.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaizen.api.training_gates import Gate
from kaizen.serving.engine import runtime
from kaizen.training.errors import Failure
from kaizen.training.evaluate import BETTER_HIGHER, figures
from kaizen.training.prepare import Rows, iso
from kaizen.training.split import Parts

__all__ = ["LEAST_ROWS", "Champion", "GateResult", "identity", "judge", "new_rows"]

STEP = "Gates"
LEAST_ROWS = 200
"""New to both models; with fewer, chance decides."""

Outcome = Literal["Passed", "Failed", "Skipped", "NotComparable"]


@dataclass(frozen=True, eq=False)
class Champion:
    """The version that serves."""

    name: str
    """As a person calls it: version 3."""
    digest: str
    """Of its manifest."""
    directory: Path
    """Its files, verified."""
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, directory: Path, name: str, digest: str) -> "Champion":
        """The champion in a verified model directory."""
        return cls(name, digest, directory, json.loads((directory / "manifest.json").read_bytes()))


@dataclass(frozen=True)
class GateResult:
    """How a gate ended."""

    name: str
    metric: str
    outcome: Outcome
    passed: bool | None
    """None: there was nothing to compare with."""
    value: float | None
    limit: float | None
    message: str
    champion: str | None = None
    """Digest of the version it was compared with: the result holds only while that one serves."""

    def to_json(self) -> dict[str, Any]:
        """As in manifest.json."""
        return {
            "name": self.name,
            "metric": self.metric,
            "passed": self.passed,
            "outcome": self.outcome,
            "value": self.value,
            "limit": self.limit,
            "message": self.message,
            "championDigest": self.champion,
        }


def judge(
    gates: Sequence[Gate],
    parts: Parts,
    answers: npt.NDArray[np.float64],
    classes: Sequence[Any] | None,
    champion: Champion | None,
) -> tuple[GateResult, ...]:
    """The result of every gate.

    Args:
        gates: of the TrainingJob.
        parts: the challenger's split.
        answers: its outputs on the test part, as evaluate.figures takes them.
        classes: of its outputs; None for a regression.
        champion: what serves; None when nothing does.

    Raises:
        Failure: the champion's files cannot be used.
    """
    if champion is None:
        message = "nothing serves yet that it could be compared with"
        return tuple(GateResult(gate.name, gate.metric, "Skipped", None, None, None, message) for gate in gates)
    if not gates:
        return ()
    compared = _compare(parts, answers, classes, champion)
    return tuple(_result(gate, compared, champion) for gate in gates)


def new_rows(parts: Parts, manifest: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Which test rows the champion with this manifest has not learned from, as far as can be known."""
    test = parts.test
    unseen = np.zeros(len(test), dtype=np.bool_)
    until = manifest.get("trainedUntil")
    if until and test.times is not None:
        unseen |= test.times > _microseconds(until)
    split = manifest.get("split", {})
    if parts.draws is not None and split.get("method") == "Random" and split.get("identity") == identity(test):
        unseen |= parts.draws < split["testShare"]
    return unseen


def identity(rows: Rows) -> list[str]:
    """The columns that a random split hashes, with their types: another list means other hashes."""
    return [f"{name}:{dtype}" for name, dtype in rows.identity.dtypes.items()]


@dataclass(frozen=True)
class _Comparison:
    challenger: Mapping[str, float]
    champion: Mapping[str, float]
    rows: int


def _compare(
    parts: Parts, answers: npt.NDArray[np.float64], classes: Sequence[Any] | None, champion: Champion
) -> _Comparison | str:
    """Both models' figures on the same rows, or why there are none."""
    unseen = new_rows(parts, champion.manifest)
    rows = int(unseen.sum())
    if rows < LEAST_ROWS:
        return f"{rows} test rows are new to {champion.name}{_since(champion)}; at least {LEAST_ROWS} are needed"
    test = parts.test.take(unseen)
    try:
        engine = runtime.load(champion.directory)
        if (engine.classes is None) != (classes is None):
            return f"{champion.name} has task {engine.task}"
        if classes is not None and not set(classes) & set(engine.classes or ()):
            return f"{champion.name} knows other classes: {', '.join(map(str, engine.classes or ()))}"
        answer = engine.predict(engine.columns(_values(test.frame)), rows)
    except runtime.Refused as problem:
        return f"{champion.name} does not take these columns: {problem}"
    except runtime.EngineError as problem:
        raise Failure(STEP, "ChampionUnusable", f"{champion.name} cannot be loaded: {problem}") from problem
    theirs = answer.predict.astype(np.float64) if answer.probabilities is None else answer.probabilities
    return _Comparison(figures(answers[unseen], test.target, classes), figures(theirs, test.target, engine.classes), rows)


def _result(gate: Gate, compared: _Comparison | str, champion: Champion) -> GateResult:
    allowed = gate.against_production
    if isinstance(compared, _Comparison) and not (gate.metric in compared.challenger and gate.metric in compared.champion):
        compared = f"{gate.metric} cannot be computed: the {compared.rows} new rows do not have every class"
    if isinstance(compared, str):
        passed = allowed.not_comparable != "Fail"
        return GateResult(gate.name, gate.metric, "NotComparable", passed, None, None, compared, champion.digest)
    value, theirs = compared.challenger[gate.metric], compared.champion[gate.metric]
    higher = gate.metric in BETTER_HIGHER
    margin = allowed.worse_by_at_most or 0.0
    limit = theirs - margin if higher else theirs + margin
    passed = value >= limit if higher else value <= limit
    message = (
        f"{gate.metric} is {value:.4f} on {compared.rows} rows new to both, where {champion.name} has {theirs:.4f}: "
        f"at {'least' if higher else 'most'} {limit:.4f} is wanted"
    )
    return GateResult(gate.name, gate.metric, "Passed" if passed else "Failed", passed, value, limit, message, champion.digest)


def _values(frame: pd.DataFrame) -> dict[str, Any]:
    """Columns as a request brings them: a missing text is None."""
    return {
        str(name): [None if value != value else value for value in column] if column.dtype == object else column.to_numpy()
        for name, column in frame.items()
    }


def _microseconds(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z"), "us").astype(np.int64))


def _since(champion: Champion) -> str:
    until = champion.manifest.get("trainedUntil")
    return f", which learned until {iso(_microseconds(until))}" if until else ""
