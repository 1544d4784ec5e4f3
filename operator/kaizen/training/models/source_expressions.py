"""Estimators and their parameters as Python expressions, with the imports and helpers that these need.  Pure."""

import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from kaizen.training.models.source_printer import Call, Node, Word, text

__all__ = ["Expressions"]

OWN_FOLDS = "sklearn.linear_model"
"""As in fit.py: the estimators of this module that end in CV are given our folds while they are fitted."""
LIBRARIES = ("sklearn", "lightgbm", "xgboost", "numpy")
FLAGS = 8
"""Equal items in a row are counted in longer lists."""
FEW_NUMBERS = 8
"""Longer arrays are written as a constant."""
MOST_NUMBERS = 20_000
NUMBERS_A_LINE = 4


class Expressions:
    """Collects, while expressions are made, what must stand before them."""

    def __init__(self) -> None:
        self.imports: set[str] = set()
        """Full names, e.g. sklearn.linear_model.Ridge."""
        self.constants: list[str] = []
        """Assignments."""
        self._needs: set[str] = set()

    def node(self, value: Any) -> Node:
        """The expression that makes an equal value, unfitted where it is an estimator.  Raises ValueError."""
        match value:
            case None | bool() | int() | np.bool_() | np.integer():
                return Word(repr(value.item() if isinstance(value, np.generic) else value))
            case float() | np.floating():
                return Word(_number(float(value)))
            case str():
                return Word(text(str(value)))
            case np.ndarray():
                return self._array(value)
            case list():
                return _counted(value) or Call("[", [("", self.node(item)) for item in value], "]")
            case tuple():
                return Call("(", [("", self.node(item)) for item in value], ")")
            case set() | frozenset():
                return Call("{", [("", self.node(item)) for item in sorted(value)], "}")
            case Mapping():
                return self._mapping(value)
            case slice():
                return Call("slice(", [("", self.node(item)) for item in (value.start, value.stop, value.step)], ")")
            case FrozenEstimator():
                raise _unwritable(f"the fitted {type(value.estimator).__name__} inside a FrozenEstimator")
            case CalibratedClassifierCV() if isinstance(value.estimator, FrozenEstimator):
                return self._calibrated(value)
        if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
            return Word(self._named(value))
        if hasattr(value, "get_params"):
            return self._estimator(value)
        raise _unwritable(f"a value of type {type(value).__name__}")

    def definitions(self) -> list[str]:
        """Functions and classes that the expressions use."""
        return [source for name, source in _HELPERS.items() if name in self._needs]

    def _estimator(self, estimator: Any) -> Node:
        """A call with what differs from the defaults; what has none comes first, by position."""
        kind = type(estimator)
        name = self._named(kind)
        if kind.__module__.startswith(OWN_FOLDS) and name.endswith("CV"):
            raise _unwritable(f"{name}, which chose its penalty on inner folds,")
        defaults = {
            parameter.name: parameter.default
            for parameter in inspect.signature(kind.__init__).parameters.values()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and parameter.name != "self"
        }
        values = estimator.get_params(deep=False)
        items: list[tuple[str, Node]] = []
        # In the order of the constructor, then what it takes by **kwargs, as LightGBM and XGBoost do.
        for parameter in [*defaults, *sorted(values.keys() - defaults)]:
            default = defaults.get(parameter, inspect.Parameter.empty)
            if parameter not in values or _same(values[parameter], default):
                continue
            value = values[parameter]
            if isinstance(value, FrozenEstimator):
                value = value.estimator  # in a file that trains, it learns together with what is around it
            needed = (
                default is inspect.Parameter.empty and parameter in defaults and len(items) == list(defaults).index(parameter)
            )
            items.append(("" if needed else f"{parameter}=", self.node(value)))
        return Call(f"{name}(", items, ")")

    def _calibrated(self, wrapper: CalibratedClassifierCV) -> Node:
        """Calibrators that were fitted before, to answers out of fold (calibrate.py)."""
        (found,) = getattr(wrapper, "calibrated_classifiers_", None) or (None,)
        if found is None or wrapper.method not in ("sigmoid", "isotonic"):
            raise _unwritable("a CalibratedClassifierCV that has no curves yet")
        self.imports |= {"functools.partial", "sklearn.base.BaseEstimator", "sklearn.base.ClassifierMixin", "sklearn.base.clone"}
        self._needs |= {wrapper.method, "Calibrated"}
        curves: list[tuple[str, Node]] = []
        for curve in found.calibrators:
            if wrapper.method == "sigmoid":
                self.imports.add("scipy.special.expit")
                values = {"slope": curve.a_, "offset": curve.b_}
            else:
                values = {"scores": curve.X_thresholds_, "shares": curve.y_thresholds_}
            arguments = [(f"{name}=", self.node(value)) for name, value in values.items()]
            curves.append(("", Call("partial(", [("", Word(wrapper.method)), *arguments], ")")))
        return Call("Calibrated(", [("", self.node(wrapper.estimator.estimator)), ("", Call("[", curves, "]"))], ")")

    def _array(self, array: np.ndarray[Any, Any]) -> Node:
        if array.size > MOST_NUMBERS:
            raise _unwritable(f"an array of {array.size} numbers")
        if array.ndim == 1 and array.dtype == np.float64 and array.size > FEW_NUMBERS:
            self._needs.add("numbers")
            name = f"NUMBERS_{len(self.constants) + 1}"
            words = [repr(float(number)) for number in array]
            lines = [" ".join(words[start : start + NUMBERS_A_LINE]) for start in range(0, len(words), NUMBERS_A_LINE)]
            self.constants.append(f'{name} = """\n{chr(10).join(lines)}\n"""')
            return Word(f"numbers({name})")
        kind = [] if array.dtype in (np.float64, np.int64, np.bool_) else [("dtype=", Word(text(str(array.dtype))))]
        return Call("np.array(", [("", self.node(array.tolist())), *kind], ")")

    def _mapping(self, value: Mapping[Any, Any]) -> Node:
        items: list[tuple[str, Node]] = []
        for key, item in value.items():
            label = self.node(key)
            if not isinstance(label, Word):
                raise _unwritable(f"a dict with the key {key!r}")
            items.append((f"{label.text}: ", self.node(item)))
        return Call("{", items, "}")

    def _named(self, value: Any) -> str:
        """The name of a class or function, imported from the first public module that has it."""
        module, name = getattr(value, "__module__", None) or "", getattr(value, "__qualname__", "")
        if module == "builtins":
            return str(name)
        if isinstance(value, np.ufunc) or module.split(".")[0] == "numpy":
            short = getattr(value, "__name__", name)
            if getattr(np, short, None) is value:
                return f"np.{short}"
        parts = module.split(".")
        for length in range(1, len(parts) + 1) if parts[0] in LIBRARIES else ():
            public = ".".join(parts[:length])
            if not any(part.startswith("_") for part in parts[:length]) and _has(public, name, value):
                self.imports.add(f"{public}.{name}")
                return str(name)
        raise _unwritable(f"{module}.{name}")


def _has(module: str, name: str, value: Any) -> bool:
    return getattr(importlib.import_module(module), name, None) is value


def _number(value: float) -> str:
    if math.isnan(value):
        return "np.nan"
    if math.isinf(value):
        return "np.inf" if value > 0 else "-np.inf"
    return repr(value).replace("e+", "e")


def _same(value: Any, default: Any) -> bool:
    if value is default:
        return True
    if type(value) is not type(default) or hasattr(value, "get_params"):
        return False
    if isinstance(value, float):
        return value == default or (math.isnan(value) and math.isnan(default))
    return bool(value == default) if isinstance(value, int | str | tuple | list | dict) else False


def _counted(items: Sequence[Any]) -> Word | None:
    """`[False] * 30 + [True] * 2` for a long list of few runs of flags, whole numbers or texts."""
    if len(items) <= FLAGS or not all(isinstance(item, bool | int | str) for item in items):
        return None
    runs = [(key, len(list(run))) for key, run in groupby(items, key=lambda item: (type(item), item))]
    if len(runs) > 4:
        return None
    return Word(" + ".join(f"[{text(item) if kind is str else repr(item)}] * {count}" for (kind, item), count in runs))


def _unwritable(what: str) -> ValueError:
    return ValueError(f"{what} has no short form in Python")


_HELPERS = {
    "numbers": '''def numbers(text):
    """The numbers in a text."""
    return np.array(text.split(), dtype=np.float64)
''',
    "sigmoid": '''def sigmoid(score, slope, offset):
    """Platt's calibration curve."""
    return expit(-(slope * score + offset))
''',
    "isotonic": '''def isotonic(score, scores, shares):
    """A calibration curve through points, constant outside of them."""
    return np.interp(np.clip(score, scores[0], scores[-1]), scores, shares)
''',
    "Calibrated": '''class Calibrated(ClassifierMixin, BaseEstimator):
    """A classifier whose scores become probabilities by curves that are given.

    Kaizen fitted them to answers for rows that the classifier had not seen.
    """

    def __init__(self, classifier, curves):
        self.classifier = classifier
        self.curves = curves

    def fit(self, features, target):
        self.classifier_ = clone(self.classifier).fit(features, target)
        self.classes_ = self.classifier_.classes_
        return self

    def predict_proba(self, features):
        if hasattr(self.classifier_, "decision_function"):
            scores = self.classifier_.decision_function(features)
        else:
            scores = self.classifier_.predict_proba(features)
            scores = scores[:, 1] if len(self.classes_) == 2 else scores
        columns = scores.reshape(len(scores), -1).T
        pairs = zip(columns, self.curves, strict=True)
        shares = np.stack([curve(column) for column, curve in pairs], axis=1)
        if len(self.classes_) == 2:
            return np.column_stack([1 - shares[:, 0], shares[:, 0]])
        total = shares.sum(axis=1, keepdims=True)
        even = np.full_like(shares, 1 / len(self.classes_))
        return np.divide(shares, total, out=even, where=total != 0)

    def predict(self, features):
        return self.classes_[self.predict_proba(features).argmax(axis=1)]
''',
}
"""By name, in the order in which they are written; no helper needs a later one."""
