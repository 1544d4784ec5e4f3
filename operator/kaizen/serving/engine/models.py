"""The models behind the transforms: one small class per family, in a table by name.

Answers are (index of the class, probabilities) for a row and arrays of them for a batch; a regression's probabilities are
its one number, its index is 0.  Links are computed here in float64: Treelite's own softmax is in float32.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, inf, isnan
from pathlib import Path
from struct import Struct
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from kaizen.serving.engine.base import TREES_FILE, Matrix, Refused
from kaizen.serving.engine.native import Trees
from kaizen.serving.engine.transforms import refuse_infinite

__all__ = ["MODELS", "Boosting", "Calibrated", "Forest", "Linear", "Link", "Model", "restore"]

Indices = NDArray[np.intp]
Link = Literal["Identity", "Exponential", "Logistic", "Softmax"]
"""What turns scores into the answer; the last two classify."""

_TOO_LARGE = "an input is infinite, or too large for a 32-bit number, which this model's trees read"


class Model(Protocol):
    """A fitted estimator over a matrix of numbers."""

    def row(self, values: list[Any]) -> tuple[int, list[float]]: ...

    def batch(self, matrix: Matrix) -> tuple[Indices, Matrix]: ...


def one_answer(link: Link, scores: list[float]) -> tuple[int, list[float]]:
    """Class and probabilities from the scores of one row.

    Classes come from scores, as scikit-learn takes them: probabilities may tie where scores do not.
    """
    if link == "Logistic":
        score = scores[0]
        if score >= 0.0:
            probability = 1.0 / (1.0 + exp(-score))
        elif score < 0.0:
            small = exp(score)
            probability = small / (1.0 + small)
        else:
            probability = score  # NaN
        return (1 if score > 0.0 else 0), [1.0 - probability, probability]
    if link == "Softmax":
        largest = max(scores)
        powers = [exp(score - largest) for score in scores]
        total = sum(powers)
        return scores.index(largest), [power / total for power in powers]
    if link == "Exponential":
        try:
            return 0, [exp(scores[0])]
        except OverflowError:
            return 0, [inf]
    return 0, scores


def answers(link: Link, scores: Matrix) -> tuple[Indices, Matrix]:
    """Classes (rows,) and probabilities (rows, classes) from scores (rows, outputs)."""
    if link == "Logistic":
        column = scores[:, 0]
        powers = np.exp(-np.abs(column))
        second = np.where(column >= 0.0, 1.0, powers) / (1.0 + powers)
        return (column > 0.0).astype(np.intp), np.column_stack([1.0 - second, second])
    if link == "Softmax":
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores.argmax(axis=1), powers / powers.sum(axis=1, keepdims=True)
    return np.zeros(len(scores), dtype=np.intp), np.exp(scores) if link == "Exponential" else scores


def _refuse_not_finite(values: Any) -> None:
    if not np.isfinite(np.asarray(values, dtype=np.float64)).all():
        raise Refused("an input is missing or infinite, or too large; this model takes neither")


@np.errstate(all="ignore")  # as a decorator: half the cost of a with statement
def _dot(coefficients: Matrix, row: Matrix) -> Any:
    return coefficients.dot(row)


@dataclass
class Linear:
    """LogisticRegression and Ridge: x · coefficients + intercept."""

    link: Link
    coefficients: list[list[float]]
    """Outputs by width."""
    intercept: list[float]
    _matrix: Matrix = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._matrix = np.array(self.coefficients, dtype=np.float64)
        self._intercept = np.array(self.intercept, dtype=np.float64)
        outputs, width = self._matrix.shape
        self._single = outputs == 1
        self._vector = self._matrix[0]
        self._row = np.zeros(width)
        self._pack = Struct(f"{width}d").pack_into

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        self._pack(self._row.data, 0, *values)
        if self._single:
            scores = [float(_dot(self._vector, self._row)) + self.intercept[0]]
        else:
            scores = (_dot(self._matrix, self._row) + self._intercept).tolist()
        if any(score - score != 0.0 for score in scores):
            _refuse_not_finite(values)
        return one_answer(self.link, scores)

    def batch(self, matrix: Matrix) -> tuple[Indices, Matrix]:
        _refuse_not_finite(matrix)
        return answers(self.link, matrix @ self._matrix.T + self._intercept)


@dataclass
class Boosting:
    """HistGradientBoosting and LightGBM: the baseline and the leaves added up, then the link."""

    link: Link
    width: int
    outputs: int
    directory: Path

    def __post_init__(self) -> None:
        self._trees = Trees(self.directory / TREES_FILE, self.width, self.outputs)
        self._pack = Struct(f"{self.width}d").pack_into

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        self._pack(self._trees.row_in.data, 0, *values)
        return one_answer(self.link, self._trees.one().tolist())

    def batch(self, matrix: Matrix) -> tuple[Indices, Matrix]:
        return answers(self.link, self._trees.many(matrix))


@dataclass
class Forest:
    """RandomForest: the mean over trees.  Inputs are rounded to float32 first, as scikit-learn's trees read them."""

    classifies: bool
    takes_missing: bool
    """scikit-learn refuses missing values in a sparse matrix."""
    width: int
    outputs: int
    directory: Path

    def __post_init__(self) -> None:
        self._trees = Trees(self.directory / TREES_FILE, self.width, self.outputs)
        self._pack = Struct(f"={self.width}f").pack_into  # "=": unlike the native form it says when a number is too large
        self._rounded = np.zeros(self.width, dtype=np.float32)

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        try:
            self._pack(self._rounded.data, 0, *values)
        except OverflowError:
            raise Refused(_TOO_LARGE) from None
        total = sum(values)
        if total - total != 0.0:
            refuse_infinite(values)
            if not self.takes_missing and any(map(isnan, values)):
                raise Refused("an input is missing; this model takes no missing values")
        self._trees.row_in[:] = self._rounded
        means = self._trees.one().tolist()
        return (means.index(max(means)) if self.classifies else 0), means

    def batch(self, matrix: Matrix) -> tuple[Indices, Matrix]:
        rounded = matrix.astype(np.float32).astype(np.float64)
        if np.isinf(rounded).any():
            raise Refused(_TOO_LARGE)
        if not self.takes_missing and np.isnan(rounded).any():
            raise Refused("an input is missing; this model takes no missing values")
        means = self._trees.many(rounded)
        return means.argmax(axis=1) if self.classifies else np.zeros(len(means), dtype=np.intp), means


@dataclass
class Calibrated:
    """CalibratedClassifierCV over one fitted classifier: a curve for each class behind its scores."""

    of: Any
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
        scores = self.of.row(values)[1]
        if self.column is not None:
            second = _clamped(_calibrated(self._curves[0], scores[self.column]))
            return (1 if second > 1.0 - second else 0), [1.0 - second, second]
        made = [_calibrated(curve, score) for curve, score in zip(self._curves, scores, strict=True)]
        total = sum(made)
        shares = [one / total if total else 1.0 / len(made) for one in made]
        return shares.index(max(shares)), [_clamped(share) for share in shares]

    def batch(self, matrix: Matrix) -> tuple[Indices, Matrix]:
        _, scores = self.of.batch(matrix)
        if self.column is not None:
            second = _cut(_all_calibrated(self._curves[0], scores[:, self.column]))
            shares = np.column_stack([1.0 - second, second])
            return shares.argmax(axis=1), shares
        made = np.column_stack([_all_calibrated(curve, column) for curve, column in zip(self._curves, scores.T, strict=True)])
        totals = made.sum(axis=1, keepdims=True)
        shares = np.divide(made, totals, out=np.full_like(made, 1.0 / made.shape[1]), where=totals != 0)
        return shares.argmax(axis=1), _cut(shares)


_EXCESS = 1e-5
"""By so much scikit-learn lets a probability exceed 1 before it cuts it."""


def _clamped(probability: float) -> float:
    return 1.0 if 1.0 < probability <= 1.0 + _EXCESS else probability


def _cut(shares: Matrix) -> Matrix:
    return np.where((shares > 1.0) & (shares <= 1.0 + _EXCESS), 1.0, shares)


def _calibrated(curve: Mapping[str, Any], score: float) -> float:
    if "a" not in curve:
        return float(np.interp(score, curve["x"], curve["y"]))
    return one_answer("Logistic", [-(curve["a"] * score + curve["b"])])[1][1]


def _all_calibrated(curve: Mapping[str, Any], scores: Matrix) -> Matrix:
    """The same of many scores (rows,)."""
    if "a" not in curve:
        return np.asarray(np.interp(scores, curve["x"], curve["y"]), dtype=np.float64)
    return answers("Logistic", -(curve["a"] * scores[:, None] + curve["b"]))[1][:, 1]


MODELS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in (Boosting, Forest, Linear)}


def restore(document: Mapping[str, Any], directory: Path) -> Model:
    """The model that `document` describes, its trees from `directory`.

    Raises EngineError when trees and document do not agree, KeyError or TypeError when it is none of this version.
    """
    fields = dict(document)
    if fields["name"] == "Calibrated":
        return Calibrated(restore(fields["of"], directory), fields["column"], fields["curves"])
    kind = MODELS[fields.pop("name")]
    made: Model = kind(**fields) if kind is Linear else kind(**fields, directory=directory)
    return made
