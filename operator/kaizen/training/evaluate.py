"""How good a model is on rows it did not learn from, beside what needs no model: always the base rate, always the mean."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BETTER_HIGHER", "Metric", "as_metrics", "baseline", "classification", "figures", "regression"]

BETTER_HIGHER = frozenset({"roc_auc", "accuracy", "r2"})
"""Of the other metrics less is better."""

SMALLEST = float(np.finfo(np.float64).eps)
"""Probabilities are kept this far from 0 and 1 in the log loss, as scikit-learn keeps them."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """One figure."""

    name: str
    value: float
    dataset: str
    """test: the model on the test rows; baseline: the best constant answer on the same rows."""

    def to_json(self) -> dict[str, Any]:
        """As in manifest.json."""
        return {"name": self.name, "value": self.value, "dataset": self.dataset}


def figures(answers: Numbers, target: npt.NDArray[Any], classes: Sequence[Any] | None) -> dict[str, float]:
    """All metrics of the task that these rows can tell.

    Args:
        answers: probabilities (rows, classes), or numbers (rows,) where `classes` is None.
        target: the truth (rows,).
        classes: in the order of the columns of `answers`.
    """
    return regression(answers, target) if classes is None else classification(answers, target, classes)


def baseline(train: npt.NDArray[Any], target: npt.NDArray[Any], classes: Sequence[Any] | None) -> dict[str, float]:
    """The same metrics of a constant answer: the shares of the classes, or the mean, among the training rows."""
    if classes is None:
        return regression(np.full(len(target), train.astype(np.float64).mean()), target)
    shares = np.array([np.mean(train == one) for one in classes])
    return classification(np.tile(shares, (len(target), 1)), target, classes)


def classification(probabilities: Numbers, target: npt.NDArray[Any], classes: Sequence[Any]) -> dict[str, float]:
    """Log loss, Brier score, calibration gap, AUC and accuracy.

    A class that the model does not know has probability 0.  The Brier score of two classes is the mean square of the second
    class's error, of more the sum over classes (Brier 1950).  The calibration gap is how far the mean predicted share of a
    class is from its true share, for the class where it is furthest.  The AUC of more than two classes is the mean of each
    against the rest, and is left out when a class is missing.
    """
    known = np.array([target == one for one in classes]).T
    strangers = ~known.any(axis=1)
    of_truth = np.where(strangers, 0.0, np.where(known, probabilities, 0.0).sum(axis=1))
    errors = np.square(probabilities - known).sum(axis=1) + strangers
    gap = np.abs(np.append(probabilities.mean(axis=0) - known.mean(axis=0), strangers.mean()))
    found = {
        "log_loss": float(-np.log(np.clip(of_truth, SMALLEST, 1 - SMALLEST)).mean()),
        "brier": float(errors.mean()) / (2 if len(classes) == 2 else 1),
        "calibration_gap": float(gap.max()),
        "accuracy": float(known[np.arange(len(known)), probabilities.argmax(axis=1)].mean()),
    }
    columns = [1] if len(classes) == 2 else range(len(classes))
    if not strangers.any() and all(0 < known[:, column].sum() < len(known) for column in columns):
        found["roc_auc"] = float(np.mean([_auc(probabilities[:, column], known[:, column]) for column in columns]))
    return found


def regression(answers: Numbers, target: npt.NDArray[Any]) -> dict[str, float]:
    """Root mean square error, mean absolute error, and the share of the variance that is explained."""
    truth = target.astype(np.float64)
    errors = answers - truth
    spread = float(np.square(truth - truth.mean()).sum())
    found = {"rmse": math.sqrt(float(np.square(errors).mean())), "mae": float(np.abs(errors).mean())}
    return {**found, "r2": 1 - float(np.square(errors).sum()) / spread} if spread > 0 else found


def _auc(scores: Numbers, positive: npt.NDArray[np.bool_]) -> float:
    """The chance that a positive row scores above a negative one, ties counting half (Mann and Whitney 1947)."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(positive.sum())
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * (len(scores) - positives)))


def as_metrics(test: Mapping[str, float], constant: Mapping[str, float]) -> tuple[Metric, ...]:
    """Both sets of figures as one list."""
    return (
        *(Metric(name, value, "test") for name, value in test.items()),
        *(Metric(name, value, "baseline") for name, value in constant.items()),
    )
