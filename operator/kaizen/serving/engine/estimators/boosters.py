"""LightGBM's and XGBoost's boosters in Treelite's form: by class name."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from kaizen.serving.engine.estimators.common import Document, Estimator, Files, leaf
from kaizen.serving.engine.estimators.trees import begin_with_baseline
from kaizen.serving.engine.transformers import Flow, Uncovered
from kaizen.serving.engine.walker import CATEGORY

__all__ = ["BOOSTERS"]

_LIGHTGBM_LINKS = {
    **dict.fromkeys(("fair", "huber", "mape", "quantile", "regression", "regression_l1"), "Identity"),
    **dict.fromkeys(("gamma", "poisson", "tweedie"), "Exponential"),
    "binary": "Logistic",
    "cross_entropy": "Sigmoid",
    "multiclass": "Softmax",
    "multiclassova": "Independent",
}


def _lightgbm(estimator: Any, flow: Flow, files: Files) -> Document:
    import treelite

    classes, booster = getattr(estimator, "classes_", None), estimator.booster_
    objective = booster.dump_model(num_iteration=1).get("objective", "").split(" ")
    link = _LIGHTGBM_LINKS.get(objective[0], "")
    if (link in ("Logistic", "Softmax", "Independent")) != (classes is not None):
        link = ""
    if not link or any(word.startswith("sigmoid:") and word != "sigmoid:1" for word in objective) or "sqrt" in objective:
        raise Uncovered(f"LightGBM with the objective {' '.join(objective)!r} is not compiled")
    parameters = estimator.get_params()
    if parameters.get("linear_tree") or parameters.get("zero_as_missing") or estimator.boosting_type == "rf":
        raise Uncovered("LightGBM with linear_tree, zero_as_missing or boosting_type rf is not compiled")
    try:
        model = treelite.frontend.from_lightgbm(booster)
    except (treelite.TreeliteError, ValueError) as error:
        raise Uncovered(f"Treelite does not read this {type(estimator).__name__}: {error}") from error
    made: Document = {
        "name": "Boosting",
        "link": link,
        "trees": files.add("trees", _zero_above(model)),
        "width": int(estimator.n_features_in_),
        "outputs": 1 if classes is None or link == "Logistic" else len(classes),
    }
    categorical = _categorical(model)
    return {**made, "whole": categorical} if categorical else made


def _categorical(model: Any) -> list[int]:
    """The columns that Treelite's model asks for categories."""
    found: set[int] = set()
    for number in range(model.num_tree):
        tree = model.get_tree_accessor(number)
        found.update(tree.get_field("split_index")[tree.get_field("node_type") == CATEGORY].tolist())
    return sorted(found)


_ZERO = float(np.float32(1e-35))
"""LightGBM takes a number up to this size for 0."""


def _zero_above(model: Any) -> bytes:
    """Treelite's model, serialized, with splits at -_ZERO moved by the last bit: a number of that size is above them as well."""
    for number in range(model.num_tree):
        tree = model.get_tree_accessor(number)
        thresholds = np.array(tree.get_field("threshold"))
        at = thresholds == -_ZERO
        if at.any():
            thresholds[at] = np.nextafter(-_ZERO, -np.inf)
            tree.set_field("threshold", thresholds)
    made: bytes = model.serialize_bytes()
    return made


_XGBOOST_LINKS = {
    **dict.fromkeys(("reg:absoluteerror", "reg:pseudohubererror", "reg:squarederror", "reg:squaredlogerror"), "Identity"),
    **dict.fromkeys(("count:poisson", "reg:gamma", "reg:tweedie"), "Exponential"),
    "binary:logistic": "Logistic",
    "multi:softprob": "Softmax",
    "reg:logistic": "Sigmoid",
    "reg:quantileerror": "Identity",
}


def _xgboost(estimator: Any, flow: Flow, files: Files) -> Document:
    import treelite

    name, booster = type(estimator).__name__, estimator.get_booster()
    learner = json.loads(booster.save_config())["learner"]
    kind, objective = learner["gradient_booster"]["name"], learner["objective"]["name"]
    link, classes = _XGBOOST_LINKS.get(objective, ""), getattr(estimator, "n_classes_", None)
    if kind != "gbtree":
        raise Uncovered(f"XGBoost with the booster {kind} is not compiled")
    if not link or (link in ("Logistic", "Softmax")) != (classes is not None):
        raise Uncovered(f"{name} with the objective {objective!r} is not compiled")
    if learner["learner_model_param"]["num_target"] != "1" or estimator.multi_strategy == "multi_output_tree":
        raise Uncovered(f"{name} of several targets, or with several in a leaf, is not compiled")
    missing = _missing(estimator, flow)
    if flow.sparse and not flow.absent:
        raise Uncovered("XGBoost over a sparse matrix that may hold zeros, which are then not missing, is not compiled")
    first, last = estimator._get_iteration_range(None)
    try:
        model = treelite.frontend.from_xgboost(booster[first:last] if last else booster)
    except (treelite.TreeliteError, ValueError) as error:
        raise Uncovered(f"Treelite does not read this {name}: {error}") from error
    baseline = _margins(json.loads(learner["learner_model_param"]["base_score"]), link)
    outputs = int(estimator.n_classes_) if link == "Softmax" else 1
    return {
        "name": "XGBoost",
        "link": link,
        "trees": files.add("trees", begin_with_baseline(model, np.broadcast_to(baseline, outputs), np.float32)),
        "width": int(estimator.n_features_in_),
        "outputs": outputs,
        "missing": missing,
        "sparse": flow.sparse,
    }


def _margins(scores: Any, link: str) -> Any:
    """XGBoost's base_score as what its sums begin with, in its own float32 arithmetic."""
    base, one = np.asarray(scores, dtype=np.float32).ravel(), np.float32(1.0)
    if link in ("Logistic", "Sigmoid"):
        return -np.log((one / base - one).astype(np.float64)).astype(np.float32)
    return np.log(base.astype(np.float64)).astype(np.float32) if link == "Exponential" else base


def _missing(estimator: Any, flow: Flow) -> float | None:
    """What XGBoost takes for missing besides NaN."""
    missing = float("nan") if estimator.missing is None else float(estimator.missing)
    if missing == missing and (flow.sparse or abs(missing) == float("inf")):
        raise Uncovered(f"XGBoost with missing={missing} over a sparse matrix, or an infinite one, is not compiled")
    return missing if missing == missing else None


BOOSTERS: Mapping[str, Estimator] = {
    **dict.fromkeys(("LGBMClassifier", "LGBMRegressor"), leaf(_lightgbm, single=True)),
    **dict.fromkeys(("XGBClassifier", "XGBRFClassifier", "XGBRFRegressor", "XGBRegressor"), leaf(_xgboost, single=True)),
}
