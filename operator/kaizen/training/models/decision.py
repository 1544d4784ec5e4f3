"""From which probability on the answer is the second of two classes: declared, or what is best on inner folds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier

from kaizen.api.training_job import Decision
from kaizen.training.errors import Failure
from kaizen.training.models.out_of_fold import Numbers

__all__ = ["decide", "with_threshold"]


def decide(decision: Decision, probabilities: Numbers | None, target: npt.NDArray[Any], classes: Sequence[Any]) -> float:
    """The threshold: at or above it the answer is `classes[1]`.

    Args:
        decision: what is wanted.
        probabilities: of both classes (rows, 2), out of fold; None when there are none.
        target: the truth of these rows.
        classes: in the order of the columns.

    Raises:
        Failure: not two classes, or no rows to fit to.
    """
    if len(classes) != 2:
        raise Failure(
            "Fit", "DecisionNotBinary", f"decision is for two classes, and the target has {len(classes)}: remove decision"
        )
    if decision.threshold is not None:
        return decision.threshold
    if probabilities is None:
        message = "an inner fold lacks a class, so no threshold can be fitted: give decision.threshold, or more rows"
        raise Failure("Fit", "TooFewRows", message)
    scores = probabilities[:, 1]
    order = np.argsort(-scores, kind="stable")
    descending, positive = scores[order], (target == classes[1])[order]
    # Everything above a cut is positive: cut after the last of each distinct probability, or before all of them.
    ends = np.append(np.flatnonzero(np.diff(descending)), len(descending) - 1)
    true_positives = np.append(0, np.cumsum(positive)[ends]).astype(np.float64)
    false_positives = np.append(0, np.cumsum(~positive)[ends]).astype(np.float64)
    gains = _gain(decision, true_positives, false_positives, float(positive.sum()), float((~positive).sum()))
    best = int(np.argmax(gains))
    above = 1.0 if best == 0 else float(descending[ends[best - 1]])
    below = float(descending[ends[best]]) if best < len(ends) else 0.0
    # In the middle of the gap: the least different for rows on either side.
    return (above + below) / 2


def with_threshold(pipeline: Any, threshold: float | None) -> Any:
    """The estimator whose `predict` decides by the threshold, as everybody who opens model.skops expects."""
    if threshold is None:
        return pipeline
    made = FixedThresholdClassifier(
        FrozenEstimator(pipeline), threshold=threshold, pos_label=pipeline.classes_[1].item(), response_method="predict_proba"
    )
    made.estimator_ = made.estimator
    made.feature_names_in_ = pipeline.feature_names_in_
    return made


def _gain(decision: Decision, tp: Numbers, fp: Numbers, positives: float, negatives: float) -> Numbers:
    """What is to be largest, for each cut: true and false positives (cuts,)."""
    fn, tn = positives - tp, negatives - fp
    if decision.cost is not None:
        return -(decision.cost.false_positive * fp + decision.cost.false_negative * fn)
    with np.errstate(invalid="ignore", divide="ignore"):
        match decision.maximise:
            case "accuracy":
                gains = (tp + tn) / (positives + negatives)
            case "balanced_accuracy":
                gains = (tp / positives + tn / negatives) / 2
            case "f1":
                gains = 2 * tp / (2 * tp + fp + fn)
            case _:
                gains = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return np.nan_to_num(gains, nan=0.0)
