"""Probabilities that mean what they say: a calibrator behind the classifier, where it helps on rows that were not learned from.

Sigmoid is Platt's method (1999), isotonic Zadrozny and Elkan's (2002); both are scikit-learn's, fitted to answers out of fold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from kaizen.training.models.out_of_fold import Numbers, OutOfFold

__all__ = ["Calibration", "Method", "calibrate", "wrap"]

Method = Literal["Sigmoid", "Isotonic"]
LEAST_ROWS = 200
LEAST_ISOTONIC = 1000
"""Below, isotonic regression follows chance (scikit-learn's user guide, 1.16.3)."""
Z = 1.645
"""The improvement must be larger than chance: one-sided, 95 %."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What came of it."""

    method: Method | None
    """None: the probabilities stay as they are."""
    before: float | None
    """Brier score on inner folds without."""
    after: float | None
    """The same of the best method, fitted to the other folds."""
    message: str
    fitted: CalibratedClassifierCV | None = None
    """Holds the calibrators; its classifier is a stand-in."""

    def probabilities(self, scores: Numbers, plain: Numbers) -> Numbers:
        """Calibrated probabilities for scores as in OutOfFold; `plain` where nothing is calibrated."""
        return plain if self.fitted is None else np.asarray(self.fitted.predict_proba(_column(scores)))

    def to_json(self) -> dict[str, Any]:
        """As in manifest.json."""
        return {"method": self.method, "brierBefore": self.before, "brierAfter": self.after, "message": self.message}


def calibrate(
    found: OutOfFold | None, target: npt.NDArray[Any], classes: Sequence[Any], blocks: npt.NDArray[np.int64] | None = None
) -> Calibration:
    """Choose by the Brier score on folds that the calibrator was not fitted to; then fit it to all of them.

    Args:
        found: answers out of fold; None when there are none.
        target: the truth of all training rows.
        classes: in the order of the answers' columns.
        blocks: of all training rows, which ones go together, as the rows of a day do; each by itself when omitted.
    """
    if found is None:
        return Calibration(None, None, None, "not calibrated: an inner fold lacks a class")
    truth = target[found.rows]
    numbers = np.unique(found.fold)
    if len(truth) < LEAST_ROWS or len(numbers) < 2:
        return Calibration(None, None, None, f"not calibrated: {len(truth)} rows out of fold, at least {LEAST_ROWS} are needed")
    known = np.array([truth == one for one in classes]).T
    methods: list[Method] = ["Sigmoid", "Isotonic"] if len(truth) >= LEAST_ISOTONIC else ["Sigmoid"]
    # Forward in time: a fold is judged by calibrators of the folds before it.
    judged = found.fold > numbers[0]
    before = np.square(found.answers - known).sum(axis=1)[judged]
    best: tuple[float, Method, Numbers] | None = None
    for method in methods:
        made = np.full(found.answers.shape, np.nan)
        for number in numbers[1:]:
            earlier, now = found.fold < number, found.fold == number
            if (known[earlier].sum(axis=0) < 2).any():
                return Calibration(None, None, None, "not calibrated: an inner fold lacks a class")
            fitted = _fit(method, found.scores[earlier], truth[earlier], classes)
            made[now] = fitted.predict_proba(_column(found.scores[now]))
        after = np.square(made - known).sum(axis=1)[judged]
        if best is None or after.mean() < best[0]:
            best = (float(after.mean()), method, after)
    assert best is not None
    mean, method, after = best
    together = np.arange(len(truth)) if blocks is None else blocks[found.rows]
    gain, error = _gain(before - after, together[judged])
    halves = 2 if len(classes) == 2 else 1
    was, is_now = float(before.mean()) / halves, mean / halves
    told = f"Brier score on inner folds {was:.4f} without, {is_now:.4f} with {method.lower()} calibration"
    if gain <= Z * error:
        return Calibration(None, was, is_now, f"not calibrated: {told}")
    return Calibration(method, was, is_now, f"calibrated: {told}", _fit(method, found.scores, truth, classes))


def wrap(pipeline: Pipeline, calibration: Calibration) -> Pipeline:
    """The fitted pipeline with the calibrators behind its last step, the same object otherwise."""
    if calibration.fitted is None:
        return pipeline
    *before, (name, model) = pipeline.steps
    made = _fresh(calibration.fitted.method, FrozenEstimator(model))
    made.classes_ = model.classes_
    made.n_features_in_ = model.n_features_in_
    (source,) = calibration.fitted.calibrated_classifiers_
    made.calibrated_classifiers_ = [type(source)(made.estimator, source.calibrators, classes=model.classes_, method=made.method)]
    return Pipeline([*before, (name, made)])


def _gain(by_row: Numbers, blocks: npt.NDArray[np.int64]) -> tuple[float, float]:
    """The mean and its standard error, where rows of one block vary together (Liang and Zeger 1986)."""
    mean = float(by_row.mean())
    _, codes = np.unique(blocks, return_inverse=True)
    sums = np.bincount(codes, weights=by_row - mean)
    return mean, float(np.sqrt(np.square(sums).sum() * len(sums) / max(len(sums) - 1, 1))) / len(by_row)


def _fit(method: Method, scores: Numbers, truth: npt.NDArray[Any], classes: Sequence[Any]) -> CalibratedClassifierCV:
    # A frozen classifier that gives the scores as they are: scikit-learn fits its calibrators to them.
    return _fresh(method.lower(), FrozenEstimator(_AsGiven(np.asarray(classes)))).fit(_column(scores), truth)


def _fresh(method: str, classifier: FrozenEstimator) -> CalibratedClassifierCV:
    return CalibratedClassifierCV(classifier, method=method, cv=2, ensemble=False)


def _column(scores: Numbers) -> Numbers:
    return scores.reshape(len(scores), -1)


class _AsGiven(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose decision function is its input."""

    def __init__(self, classes: npt.NDArray[Any]) -> None:
        self.classes = classes
        self.classes_ = classes
        self.n_features_in_ = 1 if len(classes) == 2 else len(classes)

    def fit(self, features: Any, target: Any) -> "_AsGiven":
        """Nothing is learned."""
        return self

    def decision_function(self, features: Numbers) -> Numbers:
        """(rows,) for two classes, else (rows, classes)."""
        return features[:, 0] if len(self.classes) == 2 else features

    def predict(self, features: Numbers) -> npt.NDArray[Any]:
        """The class of the highest score."""
        scores = self.decision_function(features)
        best = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        return np.asarray(self.classes[best])
