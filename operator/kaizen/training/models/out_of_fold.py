"""What a pipeline answers for training rows that it has not learned from: on inner folds, drawn like the test part.

Calibration, decision thresholds and stacking are fitted to these answers.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from kaizen.api.training_data import Data
from kaizen.training.data.prepare import Rows
from kaizen.training.data.split import folds
from kaizen.training.models.estimators import Choice
from kaizen.training.models.fit import fit, outputs

__all__ = ["OutOfFold", "out_of_fold"]

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Answers for the rows that some fold judges by."""

    rows: npt.NDArray[np.int64]
    """Numbers of training rows, fold after fold."""
    fold: npt.NDArray[np.int64]
    """Of each of them, the number of its fold."""
    answers: Numbers
    """Probabilities (rows, classes), or numbers (rows,)."""
    scores: Numbers
    """What scikit-learn calibrates: the decision function where there is one, else the probabilities; (rows,) for two classes."""


def out_of_fold(
    choice: Choice, frozen: Mapping[str, Any], train: Rows, data: Data, classes: Sequence[Any] | None
) -> OutOfFold | None:
    """Fit on each fold and ask for its other rows; None when a fold lacks a class, so that its answers would not compare."""
    rows, numbers, answers, scores = [], [], [], []
    for number, fold in enumerate(folds(train, data)):
        learned, judged = train.take(fold.learn), train.take(fold.judge)
        if classes is not None and len(np.unique(learned.target)) < len(classes):
            return None
        made = fit(choice, learned, frozen).pipeline
        rows.append(fold.judge)
        numbers.append(np.full(len(fold.judge), number))
        answers.append(outputs(made, judged.frame))
        scores.append(answers[-1] if classes is None else _scores(made, judged.frame))
    return OutOfFold(np.concatenate(rows), np.concatenate(numbers), np.concatenate(answers), np.concatenate(scores))


def _scores(pipeline: Any, frame: Any) -> Numbers:
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if hasattr(pipeline, "decision_function"):
            return np.asarray(pipeline.decision_function(frame), dtype=np.float64)
        probabilities = np.asarray(pipeline.predict_proba(frame), dtype=np.float64)
    return probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
