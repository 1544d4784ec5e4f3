"""Fits a pipeline the same way each time: one thread, fixed seeds, an iteration count that is frozen before the final fit."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from kaizen.api.training_data import Data
from kaizen.training.data.prepare import Rows
from kaizen.training.data.split import hold_out, implied_folds
from kaizen.training.errors import Failure
from kaizen.training.models import preprocess, scores
from kaizen.training.models.estimators import LIGHTGBM_STOP, Choice, NamedChoice

__all__ = ["Fitted", "fit", "freeze", "outputs"]

STEP = "Fit"
_T = TypeVar("_T")
STOP_SHARE = 0.1
"""Of the rows, by which LightGBM and XGBoost are stopped; histogram boosting has a parameter for it."""
OWN_FOLDS = "sklearn.linear_model"
"""The estimators of this module that end in CV choose their penalty on folds: on ours."""


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

    A library's own early stopping judges by a random part, which in time-ordered data is not what the next day looks like.
    """
    if not isinstance(choice, NamedChoice):
        return {}
    given = choice.parameters
    if choice.family == "Boosting" and given.get("early_stopping") is True:
        share = given.get("validation_fraction", STOP_SHARE)
        if not isinstance(share, float):
            raise Failure(STEP, "InvalidEstimator", "parameter validation_fraction must be a share between 0 and 1")
        return {"early_stopping": False, "max_iter": _stopped(choice, train, data, share, _stop_histograms)}
    if choice.family == "XGBoost" and given.get("early_stopping_rounds"):
        return {"early_stopping_rounds": None, "n_estimators": _stopped(choice, train, data, STOP_SHARE, _stop_xgboost)}
    if choice.family == "LightGBM" and (names := [name for name in LIGHTGBM_STOP if given.get(name)]):
        iterations = _stopped(choice, train, data, STOP_SHARE, _stop_lightgbm)
        return {**dict.fromkeys(names), "n_estimators": iterations}
    return {}


def fit(choice: Choice, rows: Rows, frozen: Mapping[str, Any]) -> Fitted:
    """A pipeline fitted to these rows.  Raises Failure InvalidEstimator where the library refuses the parameters."""
    made = choice.pipeline(rows.frame, **frozen)
    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = _guarded(lambda: _fit(made, rows), choice)
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


def _fit(made: Pipeline, rows: Rows) -> Pipeline:
    if scores.has_scores_only(made):
        return scores.calibrated(made, rows)
    model = made.steps[-1][1]
    if type(model).__module__.startswith(OWN_FOLDS) and type(model).__name__.endswith("CV"):
        model.set_params(cv=[(fold.learn, fold.judge) for fold in implied_folds(rows)])
        made.fit(rows.frame, rows.target)
        model.set_params(cv=None)
        return made
    return made.fit(rows.frame, rows.target)


@dataclass(frozen=True)
class _Stop:
    """What early stopping learns from and is judged by, as numbers."""

    learn: npt.NDArray[np.float64]
    target: npt.NDArray[Any]
    judge: npt.NDArray[np.float64]
    judged: npt.NDArray[Any]


def _stopped(choice: NamedChoice, train: Rows, data: Data, share: float, run: Callable[[Any, _Stop], int]) -> int:
    """The iterations after which a model is best on a share of the rows that it has not learned from."""
    held_out = hold_out(train, data, share)
    if not held_out.any() or len(pd.unique(train.target[~held_out])) < 2:
        raise Failure(
            STEP, "TooFewRows", "the rows to learn from are too few or too alike for early stopping: set early_stopping to false"
        )
    inner, judge = train.take(~held_out), train.take(held_out)
    model = choice.build(**preprocess.model_parameters(choice.family, inner.frame))
    columns = preprocess.columns(choice.family, inner.frame)

    def work() -> int:
        learned = columns.fit_transform(inner.frame)
        known = np.isin(judge.target, inner.target) if choice.task == "Classification" else np.ones(len(judge), dtype=np.bool_)
        judged = columns.transform(judge.frame.loc[known])
        return run(model, _Stop(learned, inner.target, judged, judge.target[known]))

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return max(1, _guarded(work, choice))


def _stop_histograms(model: Any, rows: _Stop) -> int:
    model.fit(rows.learn, rows.target, X_val=rows.judge, y_val=rows.judged)
    return int(model.n_iter_)


def _stop_xgboost(model: Any, rows: _Stop) -> int:
    target, judged = rows.target, rows.judged
    if hasattr(model, "predict_proba"):
        classes = np.unique(target)
        target, judged = np.searchsorted(classes, target), np.searchsorted(classes, judged)
    model.fit(rows.learn, target, eval_set=[(rows.judge, judged)], verbose=False)
    return int(model.best_iteration) + 1


def _stop_lightgbm(model: Any, rows: _Stop) -> int:
    model.fit(rows.learn, rows.target, eval_set=[(rows.judge, rows.judged)])
    return int(model.best_iteration_)


def _guarded(work: Callable[[], _T], choice: Choice) -> _T:
    try:
        return work()
    except (MemoryError, Failure):
        raise
    except Exception as problem:  # LightGBM's and a user's own errors have no common base
        # XGBoost's messages are followed by a native stack trace.
        sentence = " ".join(str(problem).partition("Stack trace")[0].split()) or type(problem).__name__
        message = f"{choice.name} cannot be fitted: {sentence[:400].rstrip('.')}"
        raise Failure(STEP, "InvalidEstimator", message) from problem
