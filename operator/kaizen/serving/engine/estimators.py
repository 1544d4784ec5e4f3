"""scikit-learn's fitted estimators as the engine's models: a table by class name.

What is not in the table is not covered, and scikit-learn serves it.
"""

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kaizen.serving.engine.transformers import Flow, Uncovered, is_a, is_known
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


def _generalised(estimator: Any, flow: Flow) -> _Estimator:
    link = type(estimator._get_loss().link).__name__ if hasattr(estimator, "_get_loss") else ""
    if link not in ("LogLink", "IdentityLink"):
        raise Uncovered(f"{type(estimator).__name__} with the link {link!r} is not compiled yet")
    return _linear("Exponential" if link == "LogLink" else "Identity", estimator)


def _one_target(estimator: Any, flow: Flow) -> _Estimator:
    if np.atleast_2d(estimator.coef_).shape[0] != 1:
        raise Uncovered("several targets are not compiled yet")
    return _linear("Identity", estimator)


def _forest(estimator: Any, flow: Flow) -> _Estimator:
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


def _lightgbm(estimator: Any, flow: Flow) -> _Estimator:
    import treelite

    classes, booster = getattr(estimator, "classes_", None), estimator.booster_
    objective = booster.dump_model(num_iteration=1).get("objective", "").split(" ")
    links = {"regression": "Identity", "regression_l1": "Identity", "huber": "Identity", "quantile": "Identity"}
    links |= {"poisson": "Exponential", "tweedie": "Exponential", "gamma": "Exponential"}
    links |= {"binary": "Logistic", "multiclass": "Softmax"}
    link = links.get(objective[0], "")
    parameters = estimator.get_params()
    if not link or any(word.startswith("sigmoid:") and word != "sigmoid:1" for word in objective) or "sqrt" in objective:
        raise Uncovered(f"LightGBM with the objective {' '.join(objective)!r} is not compiled")
    if parameters.get("linear_tree") or parameters.get("zero_as_missing") or estimator.boosting_type == "rf":
        raise Uncovered("LightGBM with linear_tree, zero_as_missing or boosting_type rf is not compiled")
    try:
        trees = treelite.frontend.from_lightgbm(booster).serialize_bytes()
    except (treelite.TreeliteError, ValueError) as error:
        raise Uncovered(f"Treelite does not read this {type(estimator).__name__}: {error}") from error
    outputs = len(classes) if classes is not None and link == "Softmax" else 1
    document = {"name": "Boosting", "link": link, "width": int(estimator.n_features_in_), "outputs": outputs}
    return document, [], trees


def _calibrated(estimator: Any, flow: Flow) -> _Estimator:
    if len(estimator.calibrated_classifiers_) != 1:
        raise Uncovered("CalibratedClassifierCV over several classifiers is not compiled yet")
    (one,) = estimator.calibrated_classifiers_
    inner = getattr(one.estimator, "estimator", one.estimator) if is_a(one.estimator, "FrozenEstimator") else one.estimator
    compiled = ESTIMATORS.get(type(inner).__name__)
    if compiled is None or not is_known(inner) or one.method not in ("sigmoid", "isotonic"):
        raise Uncovered(f"{one.method} calibration of {type(inner).__name__} is not compiled yet")
    document, care, trees = compiled(inner, flow)
    scored = hasattr(inner, "decision_function")
    if scored:
        document = {**document, "link": "Identity"}
    elif "link" in document and document["link"] not in ("Logistic", "Softmax"):
        raise Uncovered(f"calibration of {type(inner).__name__} is not compiled yet")
    column = (0 if scored else 1) if len(estimator.classes_) == 2 else None
    curves = [_curve(calibrator) for calibrator in one.calibrators]
    return {"name": "Calibrated", "of": document, "column": column, "curves": curves}, care, trees


def _vote(estimator: Any, flow: Flow) -> _Estimator:
    """A soft vote of one is that one, with its classes numbered."""
    if len(estimator.estimators_) != 1 or estimator.voting != "soft":
        raise Uncovered("VotingClassifier of several is not compiled yet")
    (one,) = estimator.estimators_
    if type(one).__name__ not in ESTIMATORS or not is_known(one):
        raise Uncovered(f"{type(one).__name__} is not compiled yet")
    return ESTIMATORS[type(one).__name__](one, flow)


def _curve(calibrator: Any) -> dict[str, Any]:
    if hasattr(calibrator, "a_"):
        return {"a": float(calibrator.a_), "b": float(calibrator.b_)}
    return {"x": calibrator.X_thresholds_.tolist(), "y": calibrator.y_thresholds_.tolist()}


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


_ONE_TARGET = (
    "ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "HuberRegressor", "Lars", "Lasso", "LassoCV", "LassoLars",
    "LinearRegression", "LinearSVR", "OrthogonalMatchingPursuit", "Ridge", "RidgeCV", "SGDRegressor", "TheilSenRegressor",
)  # fmt: skip

ESTIMATORS: Mapping[str, Callable[[Any, Flow], _Estimator]] = {
    **dict.fromkeys(_ONE_TARGET, _one_target),
    **dict.fromkeys(("GammaRegressor", "PoissonRegressor", "TweedieRegressor"), _generalised),
    **dict.fromkeys(("ExtraTreesClassifier", "ExtraTreesRegressor", "RandomForestClassifier", "RandomForestRegressor"), _forest),
    "CalibratedClassifierCV": _calibrated,
    "HistGradientBoostingClassifier": _hist_gradient_boosting,
    "HistGradientBoostingRegressor": _hist_gradient_boosting,
    "LGBMClassifier": _lightgbm,
    "LGBMRegressor": _lightgbm,
    "LinearDiscriminantAnalysis": _logistic_regression,
    "LogisticRegression": _logistic_regression,
    "LogisticRegressionCV": _logistic_regression,
    "VotingClassifier": _vote,
}
"""The estimator's class → the model."""
