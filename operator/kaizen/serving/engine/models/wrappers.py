"""Models around one other: steps before it, calibration, a decision threshold, a function of the target behind it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaizen.serving.engine.base import Matrix
from kaizen.serving.engine.models.common import Model, refuse_not_finite
from kaizen.serving.engine.models.links import Indices, largest, logistic, logistic_of, softmax_of
from kaizen.serving.engine.transforms import Table, Takes, Transform, refuse_batch, through

__all__ = ["FUNCTIONS", "Calibrated", "Steps", "Target", "Temperature", "Threshold"]


@dataclass
class Steps:
    """A Pipeline: transforms, then a model."""

    steps: list[Transform]
    model: Model

    def __post_init__(self) -> None:
        self._rows = [step.row for step in self.steps]
        self._last = self.model.row

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        for step in self._rows:
            values = step(values)
        return self._last(values)

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        return self.model.batch(through(self.steps, table))


@dataclass
class Calibrated:
    """CalibratedClassifierCV over one fitted classifier: a curve for each class behind its scores."""

    of: Model
    """The classifier, with its scores as they are."""
    column: int | None
    """Of two classes: which of the classifier's scores is the second class's."""
    curves: list[dict[str, Any]]
    """Sigmoid: {a, b}; isotonic: {x, y}."""

    def __post_init__(self) -> None:
        # Lists would be made into arrays by every row.
        self._curves = [
            curve if "a" in curve else {name: np.array(value, dtype=np.float64) for name, value in curve.items()}
            for curve in self.curves
        ]

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        scores = self.of.row(values)[1]
        self._check(scores)
        if self.column is not None:
            second = _clamped(_calibrated(self._curves[0], scores[self.column]))
            return (1 if second > 1.0 - second else 0), [1.0 - second, second]
        made = [_calibrated(curve, score) for curve, score in zip(self._curves, scores, strict=True)]
        total = sum(made)
        shares = [one / total if total else 1.0 / len(made) for one in made]
        return largest(shares), [_clamped(share) for share in shares]

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        _, scores = self.of.batch(table)
        self._check(scores)
        if self.column is not None:
            second = _cut(_all_calibrated(self._curves[0], scores[:, self.column]))
            shares = np.column_stack([1.0 - second, second])
            return shares.argmax(axis=1), shares
        made = np.column_stack([_all_calibrated(curve, column) for curve, column in zip(self._curves, scores.T, strict=True)])
        totals = made.sum(axis=1, keepdims=True)
        shares = np.divide(made, totals, out=np.full_like(made, 1.0 / made.shape[1]), where=totals != 0)
        return shares.argmax(axis=1), _cut(shares)

    def _check(self, scores: Any) -> None:
        """Isotonic curves take finite scores only; scikit-learn gives the sigmoid any."""
        if "a" not in self.curves[0]:
            refuse_not_finite(scores)


_EXCESS = 1e-5
"""By so much scikit-learn lets a probability exceed 1 before it cuts it."""


def _clamped(probability: float) -> float:
    return 1.0 if 1.0 < probability <= 1.0 + _EXCESS else probability


def _cut(shares: Matrix) -> Matrix:
    return np.where((shares > 1.0) & (shares <= 1.0 + _EXCESS), 1.0, shares)


def _calibrated(curve: Mapping[str, Any], score: float) -> float:
    if "a" not in curve:
        return float(np.interp(score, curve["x"], curve["y"]))
    return logistic(-(curve["a"] * score + curve["b"]))


def _all_calibrated(curve: Mapping[str, Any], scores: Matrix) -> Matrix:
    """The same of many scores (rows,)."""
    if "a" not in curve:
        return np.asarray(np.interp(scores, curve["x"], curve["y"]), dtype=np.float64)
    return logistic_of(-(curve["a"] * scores + curve["b"]))


_LEAST = 1e-12
"""So much scikit-learn adds to probabilities before it takes their logarithms."""


@dataclass
class Temperature:
    """CalibratedClassifierCV with one temperature: softmax of scores, or of probabilities' logarithms, times a number."""

    of: Model
    """The classifier, with its scores as they are."""
    beta: float
    probabilities: bool
    """Whether the scores are probabilities of all classes."""

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        with np.errstate(all="ignore"):
            indices, shares = self._scaled(np.array([self.of.row(values)[1]]))
        return int(indices[0]), shares[0].tolist()

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        return self._scaled(self.of.batch(table)[1])

    def _scaled(self, scores: Matrix) -> tuple[Indices, Matrix]:
        if self.probabilities:
            logits = np.log(scores + _LEAST)
        else:
            refuse_not_finite(scores)
            logits = np.hstack([-scores, scores]) if scores.shape[1] == 1 else scores
        shares = _cut(softmax_of(self.beta * logits))
        return shares.argmax(axis=1), shares


@dataclass
class Threshold:
    """FixedThresholdClassifier and TunedThresholdClassifierCV: one class from a score on, the other below it."""

    of: Model
    column: int
    """The score that counts."""
    sign: float
    """-1 where a score of the second class is turned into one of the first."""
    threshold: float
    above: int
    """The class at or above the threshold; the other one is the other."""

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        _, scores = self.of.row(values)
        reached = self.sign * scores[self.column] >= self.threshold
        return self.above if reached else 1 - self.above, scores

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        _, scores = self.of.batch(table)
        reached = self.sign * scores[:, self.column] >= self.threshold
        return np.where(reached, self.above, 1 - self.above).astype(np.intp), scores


_KNOWN = (
    np.arcsinh, np.cbrt, np.exp, np.exp2, np.expm1, np.log, np.log10, np.log1p, np.log2, np.negative, np.reciprocal, np.sinh,
    np.sqrt, np.square,
)  # fmt: skip
FUNCTIONS: Mapping[str, Callable[[Matrix], Matrix]] = {function.__name__: function for function in _KNOWN}


@dataclass
class Target:
    """TransformedTargetRegressor: a function of what the regressor says."""

    of: Model
    function: str | None
    """One of FUNCTIONS."""
    scale: float = 1.0
    offset: float = 0.0
    """Without a function: times scale, plus offset."""
    first: bool = False
    """Whether the offset is added (and the sum divided by the scale) instead, as MinMaxScaler does."""
    takes: Takes = "Any"
    """Numbers that scikit-learn's transformer turns back."""

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        with np.errstate(all="ignore"):
            return 0, self._turned(np.array(self.of.row(values)[1], dtype=np.float64)).tolist()

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        indices, said = self.of.batch(table)
        return indices, self._turned(said)

    def _turned(self, said: Matrix) -> Matrix:
        refuse_batch(said, self.takes)
        if self.function is not None:
            return FUNCTIONS[self.function](said)
        return (said + self.offset) / self.scale if self.first else said * self.scale + self.offset
