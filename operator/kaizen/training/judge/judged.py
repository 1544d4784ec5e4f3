"""What gates are given and what they give, one form for all kinds."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kaizen.api.metrics import BETTER_HIGHER
from kaizen.api.training_data import Data
from kaizen.api.training_gates import Gate
from kaizen.training.data.split import Parts
from kaizen.training.judge.intervals import Blocks, Interval, blocks_of
from kaizen.training.judge.outcome import Numbers, Outcome

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

__all__ = ["STEP", "Champion", "Detail", "GateResult", "Judged", "Limits", "decided", "higher_is_better", "number", "unjudged"]

STEP = "Gates"

Ending = Literal["Passed", "Failed", "Skipped", "NotComparable"]


@dataclass(frozen=True, eq=False)
class Champion:
    """A version that serves, or has served."""

    name: str
    """As a person calls it: version 3."""
    digest: str
    """Of its manifest."""
    directory: Path
    """Its files, verified."""
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, directory: Path, name: str, digest: str) -> "Champion":
        """The one in a verified model directory."""
        return cls(name, digest, directory, json.loads((directory / "manifest.json").read_bytes()))


@dataclass(frozen=True, eq=False)
class Judged:
    """A fitted model and the rows that judge it."""

    pipeline: "Pipeline"
    """Fitted to parts.train only."""
    parts: Parts
    answers: Numbers
    """Its outputs on the test part, as fit.outputs gives them: probabilities (rows, classes), or numbers (rows,)."""
    classes: Sequence[Any] | None
    """Of its outputs; None for a regression."""
    threshold: float | None
    """Of two classes, the answer is the second from this probability on; None: the most probable one."""
    data: Data
    """Of the TrainingJob."""
    package: Callable[[], Path] | None = None
    """Writes this model as a model directory; called once, and only where a gate asks for latency.  None: it cannot be."""

    @cached_property
    def outcome(self) -> Outcome:
        """The answers beside the truth."""
        return Outcome(self.answers, self.parts.test.target, self.classes, self.threshold)

    @cached_property
    def blocks(self) -> Blocks:
        """Which test rows an interval draws together."""
        return blocks_of(self.parts.test)


@dataclass(frozen=True)
class Detail:
    """A part of a gate's result: a slice, a group, a run."""

    name: str
    value: float | None
    """None: the rows cannot tell it."""
    low: float | None = None
    high: float | None = None
    rows: int | None = None
    passed: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """As in manifest.json."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class GateResult:
    """How a gate ended."""

    name: str
    metric: str
    outcome: Ending
    passed: bool | None
    """None: there was nothing to compare with."""
    value: float | None
    """Of a perturbation how much worse the metric became, of slices the metric in the worst of them."""
    limit: float | None
    message: str
    champion: str | None = None
    """Digest of the version that serves, which it was compared with: the result holds only while that one serves."""
    low: float | None = None
    """The ends of the value's interval; against production that of the difference, added to the other's value."""
    high: float | None = None
    required: bool = True
    against: str | None = None
    """What it was compared with, as a person calls it: version 3."""
    details: tuple[Detail, ...] = ()

    @property
    def blocks(self) -> bool:
        """The version may not serve because of it."""
        return self.passed is False and self.required

    def to_json(self) -> dict[str, Any]:
        """As in manifest.json."""
        return {
            "name": self.name,
            "metric": self.metric,
            "passed": self.passed,
            "required": self.required,
            "outcome": self.outcome,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "limit": self.limit,
            "message": self.message,
            "against": self.against,
            "championDigest": self.champion,
            "details": [detail.to_json() for detail in self.details],
        }


@dataclass(frozen=True)
class Limits:
    """Between what a value must stay, and whether its interval must too."""

    least: float | None
    most: float | None
    bound: bool
    """The interval's end must keep the limit, not the value alone."""

    @classmethod
    def of(cls, gate: Gate, *, bound: bool, most: float | None = None) -> "Limits":
        """The gate's own; `bound` is what applies where it does not say, `most` a limit that is not its atMost."""
        wanted = bound if gate.judge is None else gate.judge == "Bound"
        return cls(gate.at_least, gate.at_most if most is None else most, wanted)

    def shown(self, found: Interval) -> float:
        """The limit that is nearest, or that is broken most."""
        return min(self._rooms(found.value, found.value))[1]

    def room(self, found: Interval) -> float:
        """How far inside the limits it is; negative outside."""
        return min(self._rooms(*((found.low, found.high) if self.bound else (found.value, found.value))))[0]

    def kept(self, found: Interval) -> bool:
        """Whether a value keeps them."""
        return self.room(found) >= 0

    def _rooms(self, low: float, high: float) -> list[tuple[float, float]]:
        least = [] if self.least is None else [(low - self.least, self.least)]
        return least + ([] if self.most is None else [(self.most - high, self.most)])

    def wanted(self) -> str:
        """In words, as the end of a message."""
        ends = [] if self.least is None else [f"at least {number(self.least)}"]
        ends += [] if self.most is None else [f"at most {number(self.most)}"]
        return " and ".join(ends) + " is wanted" + (" of the whole interval" if self.bound else "")


def higher_is_better(metric: str) -> bool:
    """Of the other metrics less is better."""
    return metric in BETTER_HIGHER


def number(value: float) -> str:
    """As messages show it: four digits after the point, or four that count where it is small."""
    return f"{value:.4f}" if value == 0 or 0.01 <= abs(value) < 10_000 else f"{value:.4g}"


def decided(
    gate: Gate,
    passed: bool,
    value: float | None,
    limit: float | None,
    message: str,
    ends: Interval | None = None,
    *,
    champion: str | None = None,
    against: str | None = None,
    details: Sequence[Detail] = (),
) -> GateResult:
    """The result of a gate that could be judged; `ends` where its value has an interval."""
    return GateResult(
        gate.name, gate.metric, "Passed" if passed else "Failed", passed, value, limit, message, champion,
        low=ends.low if ends else None, high=ends.high if ends else None, required=gate.required is not False, against=against,
        details=tuple(details),
    )  # fmt: skip


def unjudged(gate: Gate, why: str) -> GateResult:
    """The result where a gate's question cannot be answered: what was asked for was not shown, so it is not passed."""
    limit = next((one for one in (gate.at_least, gate.at_most, gate.drop_at_most) if one is not None), None)
    return decided(gate, False, None, limit, why)
