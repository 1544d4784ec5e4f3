"""Probabilities for classifiers that have only scores, such as support vector machines: Platt's sigmoid (1999), fitted to the
scores of rows that were not learned from, on the project's own inner folds."""

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, _CalibratedClassifier, _SigmoidCalibration
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from kaizen.training.data.prepare import Rows
from kaizen.training.data.split import implied_folds
from kaizen.training.errors import Failure

__all__ = ["calibrated", "has_scores_only"]


def has_scores_only(pipeline: Pipeline) -> bool:
    """Whether the last step is what `estimators.with_probabilities` puts around such a classifier."""
    model = pipeline.steps[-1][1]
    return isinstance(model, CalibratedClassifierCV) and model.cv is None and model.ensemble is False


def calibrated(pipeline: Pipeline, rows: Rows) -> Pipeline:
    """Fit the classifier to all rows, and its sigmoids to the folds.  Raises Failure when no fold has every class."""
    *before, (name, wrapper) = pipeline.steps
    bare = Pipeline([*before, (name, wrapper.estimator)])
    classes = np.unique(rows.target)
    scores: list[npt.NDArray[np.float64]] = []
    truth: list[npt.NDArray[np.generic]] = []
    for fold in implied_folds(rows):
        learned, judged = rows.take(fold.learn), rows.take(fold.judge)
        if len(np.unique(learned.target)) == len(classes):
            made = clone(bare).fit(learned.frame, learned.target)
            scores.append(np.asarray(made.decision_function(judged.frame), dtype=np.float64).reshape(len(judged), -1))
            truth.append(judged.target)
    if not scores or len(np.unique(np.concatenate(truth))) < len(classes):
        what = f"{type(wrapper.estimator).__name__} has only scores, and probabilities are fitted to them on inner folds"
        raise Failure("Fit", "TooFewRows", f"{what}, one of which lacks a class: use LogisticRegression, or more rows")
    bare.fit(rows.frame, rows.target)
    known = np.concatenate(truth)
    columns = np.concatenate(scores)
    wanted = classes[1:] if columns.shape[1] == 1 else classes
    sigmoids = [_SigmoidCalibration().fit(columns[:, i], (known == one).astype(np.int64)) for i, one in enumerate(wanted)]
    fitted = bare.steps[-1][1]
    made = CalibratedClassifierCV(FrozenEstimator(fitted), method="sigmoid", ensemble=False)
    made.classes_ = fitted.classes_
    made.n_features_in_ = fitted.n_features_in_
    made.calibrated_classifiers_ = [_CalibratedClassifier(made.estimator, sigmoids, classes=fitted.classes_, method="sigmoid")]
    return Pipeline([*bare.steps[:-1], (name, made)])
