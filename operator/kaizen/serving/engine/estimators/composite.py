"""Estimators around others, and the way into all tables: `compile_model`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kaizen.serving.engine.estimators.boosters import BOOSTERS
from kaizen.serving.engine.estimators.common import Document, Estimator, Files, leaf, one_target
from kaizen.serving.engine.estimators.linear import LINEAR
from kaizen.serving.engine.estimators.trees import SINGLE_TREES, TREES, bagged
from kaizen.serving.engine.models.links import DECISIONS
from kaizen.serving.engine.models.wrappers import FUNCTIONS
from kaizen.serving.engine.transformers import Flow, Uncovered, compile_steps, flattened, is_a, is_known, numbers_only

__all__ = ["ESTIMATORS", "compile_model"]


def compile_model(estimator: Any, flow: Flow, files: Files) -> Document:
    """The model of a fitted estimator, pipelines included, over a table as `flow` says.  Raises Uncovered."""
    name = type(estimator).__name__
    compiled = ESTIMATORS.get(name)
    if compiled is None or not is_known(estimator):
        raise Uncovered(f"{name} is not compiled{NEVER.get(name, '')}")
    return compiled(estimator, flow, files)


_KERNELS = ": it compares each row with rows of the training data"
NEVER: Mapping[str, str] = {
    **dict.fromkeys(
        ("KNeighborsClassifier", "KNeighborsRegressor", "RadiusNeighborsClassifier", "RadiusNeighborsRegressor"), _KERNELS
    ),
    **dict.fromkeys(
        ("GaussianProcessClassifier", "GaussianProcessRegressor", "KernelRidge", "NuSVC", "NuSVR", "SVC", "SVR"), _KERNELS
    ),
    "IsolationForest": ": it answers 1 or -1 without classes, which is neither a classification nor a regression",
}
"""Why, of those that never will be."""


def decisions(document: Document) -> Document:
    """The same model answering with the scores of its decision_function.  Raises Uncovered."""
    name, link = document["name"], document.get("link")
    match name:
        case "Threshold":
            return decisions(document["of"])
        case "Steps" | "Stack":
            inner = "model" if name == "Steps" else "final"
            return {**document, inner: decisions(document[inner])}
        case "OneVsRest":
            return {**document, "link": None}
        case "Linear" if link == "ModifiedHuber":
            return {**document, "link": "Binary" if len(document["intercept"]) == 1 else "Largest"}
    if link is None or link not in DECISIONS:
        raise Uncovered(f"the scores of a model {name} as another reads them are not compiled")
    return {**document, "link": DECISIONS[link]}


def _innermost(document: Document) -> Any:
    """The link behind steps and thresholds."""
    inner = next((document[name] for name in ("model", "of", "final") if name in document), None)
    return document.get("link") if inner is None else _innermost(inner)


def _scored(estimator: Any, flow: Flow, files: Files) -> tuple[Document, bool]:
    """With scores as CalibratedClassifierCV and others want them: of decision_function, else (False) probabilities."""
    document = compile_model(estimator, flow, files)
    if hasattr(estimator, "decision_function"):
        return decisions(document), True
    return document, False


def _pipeline(estimator: Any, flow: Flow, files: Files) -> Document:
    *before, last = flattened(estimator)
    steps, leaving = compile_steps(before, flow)
    model = compile_model(last, leaving, files)
    return {"name": "Steps", "steps": [step.document() for step in steps], "model": model} if steps else model


def _inside(attribute: str) -> Estimator:
    """What only passes the question on."""

    def compiled(estimator: Any, flow: Flow, files: Files) -> Document:
        inner = getattr(estimator, attribute, None)
        if inner is None:
            raise Uncovered(f"{type(estimator).__name__} without {attribute} is not compiled")
        return compile_model(inner, flow, files)

    return compiled


def _weights(estimator: Any) -> list[float] | None:
    weights = estimator._weights_not_none
    return None if weights is None else [float(weight) for weight in weights]


def _vote(estimator: Any, flow: Flow, files: Files) -> Document:
    one_target(estimator)
    members = [{"model": compile_model(one, flow, files)} for one in estimator.estimators_]
    classes = getattr(estimator, "classes_", None)
    weights, outputs = _weights(estimator), 1 if classes is None else len(classes)
    made: Document = {"name": "Average", "weights": weights, "outputs": outputs, "classifies": classes is not None}
    if getattr(estimator, "voting", "") == "hard":
        return {**made, "members": [{**one, "votes": outputs} for one in members], "total": 1.0}
    if len(members) == 1 and classes is not None:  # a vote of one is that one, with its classes numbered
        return members[0]["model"]
    return {**made, "members": members, "total": float(np.sum(weights or np.ones(len(members))))}


def _bagging(estimator: Any, flow: Flow, files: Files) -> Document:
    one_target(estimator)
    numbers_only(flow, type(estimator).__name__)
    bases, classes = estimator.estimators_, getattr(estimator, "classes_", None)
    if all(type(one).__name__ in SINGLE_TREES for one in bases):
        return bagged(estimator, flow, files)
    everything = list(range(flow.width))
    members = []
    for one, features in zip(bases, estimator.estimators_features_, strict=True):
        columns = np.asarray(features)
        chosen = everything if columns.dtype == bool and columns.all() else np.arange(flow.width)[columns].tolist()
        model = compile_model(one, flow.of(chosen), files)
        member: Document = {"model": model} if chosen == everything else {"model": model, "columns": flow.place(chosen)}
        if classes is not None and not hasattr(one, "predict_proba"):
            member["votes"] = len(one.classes_)
        members.append(member)
    made: Document = {"name": "Average", "members": members, "weights": None, "total": float(len(members))}
    if classes is None:
        return {**made, "outputs": 1, "classifies": False}
    places = [[int(number) for number in one.classes_] for one in bases]
    return {**made, "outputs": len(classes), "classifies": True, "places": places}


def _stack(estimator: Any, flow: Flow, files: Files) -> Document:
    one_target(estimator)
    classes, members, width = getattr(estimator, "classes_", None), [], 0
    for one, method in zip(estimator.estimators_, estimator.stack_method_, strict=True):
        member: Document = {"model": compile_model(one, flow, files)}
        count = 1
        if method == "decision_function":
            member["model"] = decisions(member["model"])
            count = 1 if len(one.classes_) == 2 else len(one.classes_)
        elif method == "predict_proba":
            count = 1 if len(classes) == 2 else len(one.classes_)  # type: ignore[arg-type]
            if count == 1:
                member["says"] = [1]
        elif hasattr(one, "classes_"):
            member["labels"] = _numeric(one.classes_)
        members.append(member)
        width += count
    if estimator.passthrough:
        numbers_only(flow, f"{type(estimator).__name__} with passthrough")
        width += flow.width
    reaching = Flow.numbers(width, sparse=flow.sparse and estimator.passthrough, absent=flow.absent)
    final = compile_model(estimator.final_estimator_, reaching, files)
    return {"name": "Stack", "members": members, "passthrough": bool(estimator.passthrough), "final": final}


def _numeric(classes: Any) -> list[float]:
    if np.asarray(classes).dtype.kind not in "biuf":
        raise Uncovered("a stack of labels that are no numbers is not compiled")
    return [float(one) for one in classes]


def _calibrated(estimator: Any, flow: Flow, files: Files) -> Document:
    members = [_calibrated_one(one, len(estimator.classes_), flow, files) for one in estimator.calibrated_classifiers_]
    if len(members) == 1:
        return members[0]
    several: Document = {"name": "Average", "members": [{"model": one} for one in members], "weights": None}
    return {**several, "total": float(len(members)), "outputs": len(estimator.classes_), "classifies": True}


def _calibrated_one(one: Any, classes: int, flow: Flow, files: Files) -> Document:
    if len(one.estimator.classes_) != classes:
        raise Uncovered("CalibratedClassifierCV over a classifier that lacks a class is not compiled")
    document, scored = _scored(one.estimator, flow, files)
    if one.method == "temperature":
        return {"name": "Temperature", "of": document, "beta": float(one.calibrators[0].beta_), "probabilities": not scored}
    column = (0 if scored else 1) if classes == 2 else None
    return {"name": "Calibrated", "of": document, "column": column, "curves": [_curve(curve) for curve in one.calibrators]}


def _curve(calibrator: Any) -> Document:
    if hasattr(calibrator, "a_"):
        return {"a": float(calibrator.a_), "b": float(calibrator.b_)}
    return {"x": calibrator.X_thresholds_.tolist(), "y": calibrator.y_thresholds_.tolist()}


def _confidence(estimator: Any, flow: Flow, files: Files) -> tuple[Document, str | None]:
    """A member that says how sure it is of its second class, and what makes a probability of that."""
    if not hasattr(estimator, "classes_"):
        raise Uncovered(f"one {type(estimator).__name__} against others is not compiled")
    document = compile_model(estimator, flow, files)
    if not hasattr(estimator, "decision_function"):
        return {"model": document, "says": [1]}, "Given"
    link = _innermost(document) if hasattr(estimator, "predict_proba") else None
    return {"model": decisions(document)}, "Logistic" if link == "LogisticFromZero" else link


def _one_vs_rest(estimator: Any, flow: Flow, files: Files) -> Document:
    if estimator.multilabel_:
        raise Uncovered("OneVsRestClassifier of several targets is not compiled")
    found = [_confidence(one, flow, files) for one in estimator.estimators_]
    links = {link for _, link in found}
    if len(links) > 1 or not links <= {"Given", "Logistic", None}:
        raise Uncovered("OneVsRestClassifier over this kind of classifier is not compiled")
    return {"name": "OneVsRest", "members": [member for member, _ in found], "link": links.pop()}


def _one_vs_one(estimator: Any, flow: Flow, files: Files) -> Document:
    if estimator.pairwise_indices_ is not None:
        raise Uncovered("OneVsOneClassifier over distances is not compiled")
    found = [_confidence(one, flow, files) for one in estimator.estimators_]
    limit = 0.5 if found[0][1] == "Given" else 0.0
    return {"name": "OneVsOne", "members": [member for member, _ in found], "classes": len(estimator.classes_), "limit": limit}


def _threshold(estimator: Any, flow: Flow, files: Files) -> Document:
    inner = getattr(estimator, "estimator_", estimator.estimator)
    tuned = is_a(estimator, "TunedThresholdClassifierCV")
    method, probable = estimator.response_method, hasattr(inner, "predict_proba")
    if method == "decision_function" and probable:
        raise Uncovered("a threshold on scores of a classifier that has probabilities is not compiled")
    positive = estimator._curve_scorer._get_pos_label() if tuned else estimator.pos_label
    above = 1 if positive is None else int(np.flatnonzero(estimator.classes_ == positive)[0])
    given = estimator.best_threshold_ if tuned else estimator.threshold
    threshold = (0.5 if probable else 0.0) if given == "auto" else float(given)
    document, column, sign = compile_model(inner, flow, files), above, 1.0
    if not probable:
        document, column, sign = decisions(document), 0, 1.0 if above else -1.0
    return {"name": "Threshold", "of": document, "column": column, "sign": sign, "threshold": threshold, "above": above}


def _target(estimator: Any, flow: Flow, files: Files) -> Document:
    made: Document = {"name": "Target", "of": compile_model(estimator.regressor_, flow, files), "function": None}
    transformer = estimator.transformer_
    one = [getattr(transformer, name, None) for name in ("scale_", "mean_", "center_", "min_")]
    scale, mean, center, least = (None if value is None else float(np.asarray(value).ravel()[0]) for value in one)
    match type(transformer).__name__:
        case "FunctionTransformer":
            function, takes = transformer.inverse_func, "Finite" if transformer.validate else "Any"
            if function is None:
                return {**made, "takes": takes}
            name = getattr(function, "__name__", "")
            if FUNCTIONS.get(name) is not function or transformer.inv_kw_args:
                raise Uncovered(f"TransformedTargetRegressor with the function {name or function!r} is not compiled")
            return {**made, "function": name, "takes": takes}
        case "StandardScaler" | "MaxAbsScaler" | "RobustScaler":
            return {
                **made,
                "takes": "Missing",
                "scale": 1.0 if scale is None else scale,
                "offset": (mean if getattr(transformer, "with_mean", True) else None) or center or 0.0,
            }
        case "MinMaxScaler" if not transformer.clip:
            return {**made, "scale": scale, "offset": -(least or 0.0), "first": True, "takes": "Missing"}
    raise Uncovered(f"TransformedTargetRegressor with {type(transformer).__name__} is not compiled")


def _table(*tables: Mapping[str, Estimator]) -> dict[str, Estimator]:
    return {name: compiled for table in tables for name, compiled in table.items()}


_SEARCHES: Sequence[str] = ("GridSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV", "RandomizedSearchCV")

ESTIMATORS: Mapping[str, Estimator] = _table(
    LINEAR,
    TREES,
    BOOSTERS,
    dict.fromkeys(_SEARCHES, _inside("best_estimator_")),
    dict.fromkeys(("BaggingClassifier", "BaggingRegressor"), _bagging),
    dict.fromkeys(("FixedThresholdClassifier", "TunedThresholdClassifierCV"), _threshold),
    dict.fromkeys(("StackingClassifier", "StackingRegressor"), _stack),
    dict.fromkeys(("VotingClassifier", "VotingRegressor"), _vote),
    {
        "CalibratedClassifierCV": _calibrated,
        "FrozenEstimator": _inside("estimator"),
        "OneVsOneClassifier": leaf(_one_vs_one),
        "OneVsRestClassifier": _one_vs_rest,
        "Pipeline": _pipeline,
        "RANSACRegressor": leaf(_inside("estimator_")),
        "TransformedTargetRegressor": _target,
    },
)
"""scikit-learn's, LightGBM's and XGBoost's class → the model."""
