"""Ensembles of scikit-learn's trees in Treelite's form: by class name."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from kaizen.serving.engine.estimators.common import Document, Estimator, Files, leaf, one_target
from kaizen.serving.engine.transformers import Flow, Uncovered
from kaizen.serving.engine.transforms.encoding import Known

__all__ = ["SINGLE_TREES", "TREES", "bagged", "begin_with_baseline"]

LARGEST_CATEGORY = 2**31
"""Treelite holds categories as bits by value."""
SINGLE_TREES = ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor")

_ARRAYS = (
    "children_left", "children_right", "feature", "impurity", "missing_go_to_left", "n_node_samples", "node_count", "threshold",
    "weighted_n_node_samples",
)  # fmt: skip


def _plain(tree: Any, value: Any, features: Any = None) -> Any:
    """A tree as Treelite's importer reads it, with other values; `features` are its columns among all."""
    made = SimpleNamespace(**{name: getattr(tree, name) for name in _ARRAYS}, value=np.ascontiguousarray(value, dtype=np.float64))
    if features is not None:
        inner = tree.feature >= 0
        made.feature = np.where(inner, np.asarray(features, dtype=np.int64)[np.where(inner, tree.feature, 0)], tree.feature)
    return SimpleNamespace(tree_=made)


def _imported(estimator: Any) -> Any:
    import treelite.sklearn

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return treelite.sklearn.import_model(estimator)
    except (treelite.TreeliteError, NotImplementedError, AssertionError, ValueError) as error:
        raise Uncovered(f"Treelite does not read this {type(estimator).__name__}: {error}") from error


def _ensemble(trees: Sequence[Any], width: int, outputs: int, *, mean: bool = True) -> bytes:
    """Trees of values (nodes, outputs, 1), summed up or their mean taken.

    All of them as a regression of several targets: what Treelite makes of a classification divides leaves once more.
    """
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(n_estimators=len(trees))
    forest.estimators_, forest.n_features_in_, forest.n_outputs_ = list(trees), width, outputs
    model = _imported(forest)
    if not mean:
        model.get_header_accessor().set_field("average_tree_output", np.zeros(1, dtype=np.uint8))
    made: bytes = model.serialize_bytes()
    return made


def begin_with_baseline(model: Any, baseline: Any, dtype: Any) -> bytes:
    """Treelite's model with its baseline added to the leaves of each output's first tree, serialized.

    The libraries begin their sums with it, Treelite ends with it; so they are equal bit for bit.
    """
    header = model.get_header_accessor()
    classes = np.asarray(header.get_field("class_id")).tolist()
    for output, value in enumerate(np.asarray(baseline, dtype=dtype).ravel()):
        tree = model.get_tree_accessor(classes.index(output))
        leaves = np.array(tree.get_field("leaf_value"), dtype=dtype)
        leaves[np.asarray(tree.get_field("cleft")) == -1] += value
        tree.set_field("leaf_value", leaves)
    header.set_field("base_scores", np.zeros_like(header.get_field("base_scores")))
    made: bytes = model.serialize_bytes()
    return made


def _takes_missing(tree: Any, flow: Flow) -> bool:
    return bool(not flow.sparse and tree._support_missing_values(np.zeros((1, 1))))


def _forest_of(estimator: Any, trees: Sequence[Any], flow: Flow, files: Files, columns: Sequence[Any] | None = None) -> Document:
    """The mean of fitted trees' values; `columns` are those that each of them reads."""
    one_target(estimator)
    classes = getattr(estimator, "classes_", None)
    outputs = 1 if classes is None else len(classes)
    plain = []
    for tree, features in zip(trees, columns or [None] * len(trees), strict=True):
        value = tree.tree_.value.reshape(tree.tree_.node_count, -1, 1)
        if value.shape[1] != outputs:  # a sample lacked a class; its own are numbered as in the ensemble
            wide = np.zeros((len(value), outputs, 1))
            wide[:, tree.classes_.astype(int)] = value
            value = wide
        plain.append(_plain(tree.tree_, value, features))
    width = int(estimator.n_features_in_)
    return {
        "name": "Forest",
        "link": "Identity" if classes is None else "Largest",
        "trees": files.add("trees", _ensemble(plain, width, outputs)),
        "width": width,
        "outputs": outputs,
        "takes_missing": _takes_missing(trees[0], flow),
    }


def _forest(estimator: Any, flow: Flow, files: Files) -> Document:
    return _forest_of(estimator, estimator.estimators_, flow, files)


def _tree(estimator: Any, flow: Flow, files: Files) -> Document:
    return _forest_of(estimator, [estimator], flow, files)


def bagged(estimator: Any, flow: Flow, files: Files) -> Document:
    """Bagging of single trees: a forest."""
    return _forest_of(estimator, estimator.estimators_, flow, files, estimator.estimators_features_)


def _constant_init(estimator: Any) -> Any:
    """What gradient boosting begins with, one number an output.  Raises Uncovered when that depends on the row."""
    init = estimator.init_
    by_chance = getattr(init, "strategy", "") in ("stratified", "uniform")
    if isinstance(init, str) or (type(init).__name__ in ("DummyClassifier", "DummyRegressor") and not by_chance):
        return estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), dtype=np.float32))[0]
    raise Uncovered(f"{type(estimator).__name__} that begins with {type(init).__name__} is not compiled")


def _gradient_boosting(estimator: Any, flow: Flow, files: Files) -> Document:
    classes = getattr(estimator, "classes_", None)
    links = {
        "log_loss": "LogisticFromZero" if classes is not None and len(classes) == 2 else "Softmax",
        "exponential": "ExponentialLoss",
    }
    baseline = _constant_init(estimator)
    plain = copy.copy(estimator)
    plain.n_estimators, plain.learning_rate, plain.init_ = len(estimator.estimators_), 1.0, "zero"
    plain.estimators_ = [
        [_plain(tree.tree_, tree.tree_.value * estimator.learning_rate) for tree in stage] for stage in estimator.estimators_
    ]
    return {
        "name": "Forest",
        "link": "Identity" if classes is None else links[estimator.loss],
        "trees": files.add("trees", begin_with_baseline(_imported(plain), baseline, np.float64)),
        "width": int(estimator.n_features_in_),
        "outputs": int(estimator.n_trees_per_iteration_),
        "takes_missing": False,
    }


def _boosted_classifier(estimator: Any, flow: Flow, files: Files) -> Document:
    """SAMME: each tree votes with its weight for the class of its leaf, and for the others with what is left of it."""
    count, width = int(estimator.n_classes_), int(estimator.n_features_in_)
    if count < 2:
        raise Uncovered("AdaBoostClassifier of one class is not compiled")
    trees = []
    for one, weight in zip(estimator.estimators_, estimator.estimator_weights_, strict=False):
        _require_tree(estimator, one)
        chosen = np.searchsorted(estimator.classes_, one.classes_)[one.tree_.value[:, 0, :].argmax(axis=1)]
        votes = np.where(np.arange(count) == chosen[:, None], weight, -1 / (count - 1) * weight)
        trees.append(_plain(one.tree_, (votes[:, 1:] if count == 2 else votes)[:, :, None]))
    outputs = 1 if count == 2 else count
    total = float(estimator.estimator_weights_.sum())
    return {
        "name": "Forest",
        "link": "Logistic" if count == 2 else "AdaBoost",
        "trees": files.add("trees", _ensemble(trees, width, outputs, mean=False)),
        "width": width,
        "outputs": outputs,
        "takes_missing": False,
        "divisor": total / 2 if count == 2 else total,
    }


def _boosted_regressor(estimator: Any, flow: Flow, files: Files) -> Document:
    trees, width = estimator.estimators_, int(estimator.n_features_in_)
    for one in trees:
        _require_tree(estimator, one)
    return {
        "name": "Median",
        "trees": files.add("trees", _ensemble([_plain(one.tree_, one.tree_.value) for one in trees], width, 1)),
        "width": width,
        "takes_missing": False,
        "weights": estimator.estimator_weights_[: len(trees)].tolist(),
    }


def _require_tree(estimator: Any, one: Any) -> None:
    if type(one).__name__ not in SINGLE_TREES:
        raise Uncovered(f"{type(estimator).__name__} of {type(one).__name__} is not compiled, only of trees")


_HISTOGRAM_LINKS = {"squared_error": "Identity", "absolute_error": "Identity", "quantile": "Identity"}
_HISTOGRAM_LINKS |= {"gamma": "Exponential", "poisson": "Exponential"}


def _hist_gradient_boosting(estimator: Any, flow: Flow, files: Files) -> Document:
    classes = getattr(estimator, "classes_", None)
    if classes is not None:
        link = "" if estimator.loss != "log_loss" else "Logistic" if len(classes) <= 2 else "Softmax"
    else:
        link = _HISTOGRAM_LINKS.get(estimator.loss, "")
    if not link:
        raise Uncovered(f"{type(estimator).__name__} with the loss {estimator.loss!r} is not compiled")
    care = _categories(estimator, flow)
    content = begin_with_baseline(_imported(estimator), estimator._baseline_prediction, np.float64)
    document = {
        "name": "Boosting",
        "link": link,
        "trees": files.add("trees", content),
        "width": int(estimator.n_features_in_),
        "outputs": int(estimator.n_trees_per_iteration_),
    }
    return {"name": "Steps", "steps": [care.document()], "model": document} if care else document


def _categories(estimator: Any, flow: Flow) -> Known | None:
    """Unseen categories must be missing; no step where the encoder before it gives only seen ones."""
    if estimator.is_categorical_ is None:
        return None
    columns, seen = [], []
    found = estimator._preprocessor.named_transformers_["encoder"].categories_
    for column, categories in zip(np.flatnonzero(estimator.is_categorical_).tolist(), found, strict=True):
        if categories.dtype.kind not in "biuf":
            raise Uncovered("categories that reach HistGradientBoosting as objects need an OrdinalEncoder before it")
        values = [float(value) for value in categories if value == value]
        if any(value != int(value) or not 0 <= value < LARGEST_CATEGORY for value in values):
            raise Uncovered("categories that are not small whole numbers need an OrdinalEncoder before HistGradientBoosting")
        bounds = flow.values[column] if flow.values else None
        if bounds is None or not bounds <= set(values):
            columns.append(column)
            seen.append(values)
    return Known(columns, seen) if columns else None


_FORESTS = ("ExtraTreesClassifier", "ExtraTreesRegressor", "RandomForestClassifier", "RandomForestRegressor")

TREES: Mapping[str, Estimator] = {
    **dict.fromkeys(_FORESTS, leaf(_forest, single=True)),
    **dict.fromkeys(SINGLE_TREES, leaf(_tree, single=True)),
    **dict.fromkeys(("GradientBoostingClassifier", "GradientBoostingRegressor"), leaf(_gradient_boosting, single=True)),
    **dict.fromkeys(
        ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"), leaf(_hist_gradient_boosting, single=True)
    ),
    "AdaBoostClassifier": leaf(_boosted_classifier, single=True),
    "AdaBoostRegressor": leaf(_boosted_regressor, single=True),
}
