"""Fits a pipeline the same way each time: one thread, fixed seeds, an iteration count that is frozen before the final fit."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from kaizen.api.training_data import Data
from kaizen.training.errors import Failure
from kaizen.training.estimators import Choice, pipeline
from kaizen.training.prepare import Rows
from kaizen.training.split import by_hash, by_time, draw, method

__all__ = ["Fitted", "fit", "freeze", "outputs"]

STEP = "Fit"


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted pipeline and what it was told."""

    pipeline: Pipeline
    frozen: Mapping[str, Any]
    """Parameters that were found on the way, e.g. the iteration count: a refit uses the same."""
    warned: tuple[str, ...]
    """What scikit-learn warned of, each once."""


def freeze(choice: Choice, train: Rows, data: Data) -> dict[str, Any]:
    """What is to be found out before the fit: the iteration count of early stopping, on a fold drawn like the test part.

    scikit-learn's own early stopping judges by a random part, which in time-ordered data is not what the next day looks like.
    """
    if choice.family != "Boosting" or choice.parameters.get("early_stopping") is not True:
        return {}
    share = choice.parameters.get("validation_fraction", 0.1)
    if not isinstance(share, float):
        raise Failure(STEP, "InvalidEstimator", "parameter validation_fraction must be a share between 0 and 1")
    if method(data) == "Temporal" and train.times is not None:
        held_out = by_time(train.times, share)
    else:
        # Stretched over the training rows, whose draws all lie above the test share.
        drawn = draw(train.identity)
        held_out = by_hash((drawn - data.split.test_share) / (1 - data.split.test_share), share)
    if not held_out.any() or len(pd.unique(train.target[~held_out])) < 2:
        raise Failure(
            STEP, "TooFewRows", "the rows to learn from are too few or too alike for early stopping: set early_stopping to false"
        )
    inner, judge = train.take(~held_out), train.take(held_out)
    made = pipeline(choice, inner.frame)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learned = made["columns"].fit_transform(inner.frame)
        known = np.isin(judge.target, inner.target) if choice.task == "Classification" else np.ones(len(judge), dtype=np.bool_)
        judged = made["columns"].transform(judge.frame.loc[known])
        _guarded(lambda: made["model"].fit(learned, inner.target, X_val=judged, y_val=judge.target[known]), choice)
    return {"early_stopping": False, "max_iter": int(made["model"].n_iter_)}


def fit(choice: Choice, rows: Rows, frozen: Mapping[str, Any]) -> Fitted:
    """A pipeline fitted to these rows.  Raises Failure InvalidEstimator where scikit-learn refuses the parameters."""
    made = pipeline(choice, rows.frame, **frozen)
    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _guarded(lambda: made.fit(rows.frame, rows.target), choice)
    return Fitted(made, frozen, tuple(dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught)))


def outputs(fitted: Pipeline, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Probabilities of shape (rows, classes), or predicted numbers of shape (rows,)."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = fitted.predict_proba(frame) if hasattr(fitted, "predict_proba") else fitted.predict(frame)
    result = np.asarray(made, dtype=np.float64)
    if not np.isfinite(result).all():
        row = int((~np.isfinite(result)).reshape(len(result), -1).any(axis=1).argmax())
        raise Failure(
            STEP, "ModelNotFinite", f"the model answers {result[row]} for row {row + 1}: its parameters make it diverge"
        )
    return result


def _guarded(work: Any, choice: Choice) -> None:
    try:
        work()
    except MemoryError:
        raise
    except (ValueError, TypeError, ArithmeticError) as problem:
        sentence = " ".join(str(problem).split())
        raise Failure(STEP, "InvalidEstimator", f"{choice.name} cannot be fitted: {sentence[:400].rstrip('.')}") from problem
