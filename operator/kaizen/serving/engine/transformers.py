"""scikit-learn's fitted transformers as the engine's transforms: a table by class name.

What is not in the table is not covered, and scikit-learn serves it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kaizen.serving.engine.encoders import one_hot, ordinal
from kaizen.serving.engine.transforms import Impute, Ordinal, Scale, Transform

__all__ = ["TRANSFORMERS", "Flow", "Uncovered", "is_a", "is_known", "is_sklearn"]


class Uncovered(Exception):
    """Leaves the compilation from any depth with the reason."""


@dataclass
class Flow:
    """What passes from step to step: how wide it is, and of what."""

    datatypes: list[str]
    """Of each column: those of inputs at first, then FP64, or BYTES as long as strings are not encoded."""
    missing: list[Any]
    """What a missing value of each column is to scikit-learn: None or NaN."""
    values: list[frozenset[float] | None] = field(default_factory=list)
    """The numbers that a column can hold besides NaN, where an encoder bounds them."""
    sparse: bool = False

    @classmethod
    def numbers(cls, width: int, values: Sequence[frozenset[float] | None] | None = None) -> "Flow":
        return cls(["FP64"] * width, [np.nan] * width, list(values or [None] * width))


def is_sklearn(thing: Any) -> bool:
    return type(thing).__module__.split(".")[0] == "sklearn"


def is_known(thing: Any) -> bool:
    """Whether a class is of one of the packages whose estimators can be compiled."""
    return type(thing).__module__.split(".")[0] in ("sklearn", "lightgbm")


def is_a(thing: Any, name: str) -> bool:
    return type(thing).__name__ == name and is_sklearn(thing)


def _standard_scaler(scaler: Any, flow: Flow) -> tuple[Transform, Flow]:
    width = len(flow.datatypes)
    if "BYTES" in flow.datatypes:
        raise Uncovered("StandardScaler on strings is not compiled")
    mean = scaler.mean_.tolist() if scaler.with_mean else [0.0] * width
    scale = scaler.scale_.tolist() if scaler.with_std else [1.0] * width
    made = Flow.numbers(width)
    made.sparse = flow.sparse
    return Scale(mean, scale), made


def _simple_imputer(imputer: Any, flow: Flow) -> tuple[Transform, Flow]:
    strings = "BYTES" in flow.datatypes
    if not (isinstance(imputer.missing_values, float) and np.isnan(imputer.missing_values)):
        raise Uncovered("SimpleImputer of other missing values than NaN is not compiled yet")
    if strings and (set(flow.datatypes) != {"BYTES"} or imputer.add_indicator or None in flow.missing):
        raise Uncovered("SimpleImputer over strings and numbers, with an indicator, or of None is not compiled yet")
    statistics = imputer.statistics_.tolist()
    kept = [i for i, fill in enumerate(statistics) if fill is not None and fill == fill]
    if imputer.keep_empty_features and len(kept) < len(statistics):
        raise Uncovered("SimpleImputer with keep_empty_features is not compiled yet")
    indicated = imputer.indicator_.features_.tolist() if imputer.add_indicator else []
    width = len(kept) + len(indicated)
    made = Flow(["BYTES"] * width, [np.nan] * width, [None] * width) if strings else Flow.numbers(width)
    return Impute([statistics[i] for i in kept], kept, indicated), made


def _encoded(encode: Callable[[Any, Sequence[Any]], Any]) -> Callable[[Any, Flow], tuple[Transform, Flow]]:
    def compiled(encoder: Any, flow: Flow) -> tuple[Transform, Flow]:
        try:
            step = encode(encoder, flow.missing)
        except ValueError as error:
            raise Uncovered(str(error)) from error
        if not isinstance(step, Ordinal):
            made = Flow.numbers(step.width)
            made.sparse = bool(encoder.sparse_output)
            return step, made
        values = [frozenset(v for v in (*one.codes, one.unknown, one.missing) if v is not None) for one in step.lookups]
        return step, Flow.numbers(len(values), values)

    return compiled


def _identity(transformer: Any, flow: Flow) -> tuple[None, Flow]:
    if transformer.func is not None:
        raise Uncovered("FunctionTransformer with a function is not compiled")
    return None, flow


TRANSFORMERS: Mapping[str, Callable[[Any, Flow], tuple[Transform | None, Flow]]] = {
    "FunctionTransformer": _identity,
    "OneHotEncoder": _encoded(one_hot),
    "OrdinalEncoder": _encoded(ordinal),
    "SimpleImputer": _simple_imputer,
    "StandardScaler": _standard_scaler,
}
"""scikit-learn's class → the step (None: nothing to do) and what leaves it."""
