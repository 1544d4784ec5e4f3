"""An estimator by name and parameters, and the pipeline of preprocessing by column type around it.

The pipeline has two steps: `columns`, which turns a table into numbers, and `model`.  What Kaizen sets itself is written here,
once, so that the model card can tell it: seeds are fixed, and random early stopping is never left to scikit-learn.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils import all_estimators
from sklearn.utils._param_validation import InvalidParameterError

from kaizen.api.training_job import Estimator
from kaizen.training.errors import Failure, nearest

__all__ = ["Choice", "choose", "pipeline"]

STEP = "Prepare"
SEED = 0
MOST_CATEGORIES = 100
"""Per column, one-hot encoded; the rarer ones share one column."""
MOST_CODES = 255
"""Categories that histogram boosting takes; the rarer ones share one code."""

Family = Literal["Linear", "Forest", "Boosting"]
Task = Literal["Classification", "Regression"]


@dataclass(frozen=True)
class _Known:
    make: Callable[..., BaseEstimator]
    task: Task
    family: Family
    defaults: Mapping[str, Any]


_KNOWN: Mapping[str, _Known] = {
    "LogisticRegression": _Known(LogisticRegression, "Classification", "Linear", {"max_iter": 1000, "random_state": SEED}),
    "Ridge": _Known(Ridge, "Regression", "Linear", {"random_state": SEED}),
    "RandomForestClassifier": _Known(RandomForestClassifier, "Classification", "Forest", {"random_state": SEED}),
    "RandomForestRegressor": _Known(RandomForestRegressor, "Regression", "Forest", {"random_state": SEED}),
    "HistGradientBoostingClassifier": _Known(
        HistGradientBoostingClassifier, "Classification", "Boosting", {"random_state": SEED, "early_stopping": False}
    ),
    "HistGradientBoostingRegressor": _Known(
        HistGradientBoostingRegressor, "Regression", "Boosting", {"random_state": SEED, "early_stopping": False}
    ),
}

_OURS = {
    "categorical_features": "it follows from the columns' types",
    "warm_start": "every fit starts anew",
    "verbose": "progress is shown by step",
    "n_jobs": "the final fit uses one thread, so that it can be repeated exactly",
    "oob_score": "the test part judges the model",
}
"""Parameters that a user may not set, and why."""


@dataclass(frozen=True)
class Choice:
    """A checked estimator."""

    name: str
    task: Task
    family: Family
    parameters: Mapping[str, Any]
    """All that differ from scikit-learn's own defaults, Kaizen's and the user's."""

    def build(self, **more: Any) -> BaseEstimator:
        """A new unfitted estimator; `more` replaces parameters."""
        return _KNOWN[self.name].make(**{**self.parameters, **more})


def choose(wanted: Estimator, task: Task) -> Choice:
    """Check name and parameters.  Raises Failure InvalidEstimator with the nearest names."""
    known = _KNOWN.get(wanted.name)
    if known is None:
        raise _invalid(_unknown_name(wanted.name, task))
    if known.task != task:
        fitting = nearest(wanted.name, (name for name, other in _KNOWN.items() if other.task == task))
        raise _invalid(f"{wanted.name} is for task {known.task}, not {task}: {fitting}")
    possible = list(inspect.signature(known.make).parameters)
    for name in wanted.parameters:
        if name not in possible:
            raise _invalid(f"{wanted.name} has no parameter {name}: {nearest(name, possible)}")
        if name in _OURS:
            raise _invalid(f"parameter {name} of {wanted.name} cannot be set: {_OURS[name]}")
    parameters = {**known.defaults, **wanted.parameters}
    choice = Choice(wanted.name, task, known.family, parameters)
    try:
        choice.build()._validate_params()
    except InvalidParameterError as problem:
        raise _invalid(" ".join(str(problem).split()).rstrip(".")) from problem
    if parameters.get("early_stopping") == "auto":
        raise _invalid(
            f"parameter early_stopping of {wanted.name} must be true or false here: 'auto' depends on the number of rows"
        )
    return choice


def pipeline(choice: Choice, frame: pd.DataFrame, **more: Any) -> Pipeline:
    """A new unfitted pipeline for these columns; `more` replaces parameters of the estimator."""
    names = {
        kind: [str(name) for name, dtype in frame.dtypes.items() if _kind(dtype) == kind]
        for kind in ("numbers", "booleans", "categories")
    }
    steps: dict[str, Any] = {
        "numbers": _numbers(choice.family),
        "booleans": "passthrough",
        "categories": _categories(choice.family),
    }
    columns = ColumnTransformer(
        [(kind, steps[kind], used) for kind, used in names.items() if used], sparse_threshold=0.0, verbose_feature_names_out=True
    )
    if choice.family == "Boosting" and names["categories"]:
        before = len(names["numbers"]) + len(names["booleans"])
        more = {"categorical_features": [False] * before + [True] * len(names["categories"]), **more}
    return Pipeline([("columns", columns), ("model", choice.build(**more))])


def _kind(dtype: Any) -> str:
    if dtype == np.bool_:
        return "booleans"
    return "categories" if dtype == np.object_ else "numbers"


def _numbers(family: Family) -> Any:
    """Boosting handles missing numbers itself; the others get the median, and a column that says so where some were missing."""
    if family == "Boosting":
        return "passthrough"
    imputer = SimpleImputer(strategy="median", add_indicator=True)
    return Pipeline([("impute", imputer), ("scale", StandardScaler())]) if family == "Linear" else imputer


def _categories(family: Family) -> Any:
    if family == "Boosting":
        return OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan, max_categories=MOST_CODES
        )
    return OneHotEncoder(handle_unknown="ignore", max_categories=MOST_CATEGORIES, sparse_output=False)


def _unknown_name(name: str, task: Task) -> str:
    fitting = [known for known, other in _KNOWN.items() if other.task == task]
    if name in {known for known, _ in all_estimators()}:
        return f"estimator {name} is not supported: use one of {', '.join(sorted(fitting))}"
    return f"there is no estimator {name}: {nearest(name, fitting)}"


def _invalid(message: str) -> Failure:
    return Failure(STEP, "InvalidEstimator", message)
