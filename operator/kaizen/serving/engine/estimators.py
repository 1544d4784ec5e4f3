"""scikit-learn's fitted estimators as the engine's models: a table by class name.

What is not in the table is not covered, and scikit-learn serves it.
"""

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kaizen.serving.engine.transformers import Flow, Uncovered
from kaizen.serving.engine.transforms import Known, Transform

__all__ = ["ESTIMATORS"]

LARGEST_CATEGORY = 2**31
"""Treelite holds categories as bits by value."""

_Estimator = tuple[dict[str, Any], list[Transform], bytes | None]
"""The model's document, transforms that belong to it, trees."""


def _linear(link: str, estimator: Any) -> _Estimator:
    if not isinstance(estimator.coef_, np.ndarray):
        raise Uncovered("sparse coefficients are not compiled yet")
    coefficients = np.atleast_2d(estimator.coef_)
    intercept = np.broadcast_to(np.asarray(estimator.intercept_, dtype=np.float64).ravel(), len(coefficients))
    document = {"name": "Linear", "link": link, "coefficients": coefficients.tolist(), "intercept": intercept.tolist()}
    return document, [], None


def _logistic_regression(estimator: Any, flow: Flow) -> _Estimator:
    return _linear("Logistic" if len(estimator.classes_) <= 2 else "Softmax", estimator)


def _ridge(estimator: Any, flow: Flow) -> _Estimator:
    if np.atleast_2d(estimator.coef_).shape[0] != 1:
        raise Uncovered("several targets are not compiled yet")
    return _linear("Identity", estimator)


def _random_forest(estimator: Any, flow: Flow) -> _Estimator:
    if estimator.n_outputs_ != 1:
        raise Uncovered("several targets are not compiled yet")
    classes = getattr(estimator, "classes_", None)
    takes_missing = not flow.sparse and estimator.estimators_[0]._support_missing_values(np.zeros((1, 1)))
    document = {
        "name": "Forest",
        "classifies": classes is not None,
        "takes_missing": bool(takes_missing),
        "width": int(estimator.n_features_in_),
        "outputs": 1 if classes is None else len(classes),
    }
    return document, [], _trees(estimator)


def _hist_gradient_boosting(estimator: Any, flow: Flow) -> _Estimator:
    classes = getattr(estimator, "classes_", None)
    if classes is not None:
        link = "Logistic" if len(classes) <= 2 else "Softmax"
    else:
        links = {"squared_error": "Identity", "absolute_error": "Identity", "quantile": "Identity"}
        links |= {"gamma": "Exponential", "poisson": "Exponential"}
        link = links.get(estimator.loss, "")
    if not link or (classes is not None and estimator.loss != "log_loss"):
        raise Uncovered(f"the loss {estimator.loss!r} is not compiled yet")
    document = {
        "name": "Boosting",
        "link": link,
        "width": int(estimator.n_features_in_),
        "outputs": int(estimator.n_trees_per_iteration_),
    }
    return document, _categories(estimator, flow), _trees(_baseline_first(estimator))


def _baseline_first(estimator: Any) -> Any:
    """The estimator with its baseline as a first tree of one leaf: GTIL would add it last, scikit-learn adds it first.

    With it the sums are scikit-learn's bit for bit.
    """
    constant = []
    for one, value in zip(estimator._predictors[0], estimator._baseline_prediction.ravel(), strict=True):
        leaf = copy.copy(one)
        leaf.nodes = np.zeros(1, dtype=one.nodes.dtype)
        leaf.nodes["is_leaf"], leaf.nodes["value"] = 1, value
        constant.append(leaf)
    same = copy.copy(estimator)
    same._predictors = [constant, *estimator._predictors]
    same._baseline_prediction = np.zeros_like(estimator._baseline_prediction)
    return same


def _categories(estimator: Any, flow: Flow) -> list[Transform]:
    """Unseen categories must be missing; no step where the encoder before it gives only seen ones."""
    if estimator.is_categorical_ is None:
        return []
    columns, seen = [], []
    found = estimator._preprocessor.named_transformers_["encoder"].categories_
    for column, categories in zip(np.flatnonzero(estimator.is_categorical_).tolist(), found, strict=True):
        if categories.dtype.kind not in "biuf":
            raise Uncovered("categories that reach HistGradientBoosting as objects need an OrdinalEncoder before it")
        values = [float(value) for value in categories if value == value]
        if any(value != int(value) or not 0 <= value < LARGEST_CATEGORY for value in values):
            raise Uncovered("categories that are not small whole numbers need an OrdinalEncoder before HistGradientBoosting")
        bounds = flow.values[column]
        if bounds is None or not bounds <= set(values):
            columns.append(column)
            seen.append(values)
    return [Known(columns, seen)] if columns else []


def _trees(estimator: Any) -> bytes:
    import treelite.sklearn

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made: bytes = treelite.sklearn.import_model(estimator).serialize_bytes()
            return made
    except (treelite.TreeliteError, NotImplementedError, AssertionError, ValueError) as error:
        raise Uncovered(f"Treelite does not read this {type(estimator).__name__}: {error}") from error


ESTIMATORS: Mapping[str, Callable[[Any, Flow], _Estimator]] = {
    "HistGradientBoostingClassifier": _hist_gradient_boosting,
    "HistGradientBoostingRegressor": _hist_gradient_boosting,
    "LogisticRegression": _logistic_regression,
    "RandomForestClassifier": _random_forest,
    "RandomForestRegressor": _random_forest,
    "Ridge": _ridge,
}
"""scikit-learn's class → the model."""
