"""FunctionTransformer with functions of NumPy, among them those of Kaizen's own preprocessing (training/models/preprocess.py)."""

import re
from dataclasses import replace
from typing import Any

import numpy as np

from kaizen.serving.engine.moments import UNITS
from kaizen.serving.engine.transformers.flow import Flow, Uncovered, numbers_only
from kaizen.serving.engine.transforms.common import Transform
from kaizen.serving.engine.transforms.dates import Moments
from kaizen.serving.engine.transforms.expanding import Dot
from kaizen.serving.engine.transforms.shaping import ARGUMENTS, FUNCTIONS, Function

__all__ = ["function_transformer"]

Steps = tuple[list[Transform], Flow]

_WHOLE = frozenset({"ceil", "floor", "isfinite", "isinf", "isnan", "logical_not", "positive", "rint", "round", "sign", "trunc"})
"""Functions that say the same of a whole number whether it is kept as one or as a float."""
_DATES = re.compile(r"datetime64\[(s|ms|us|ns)\]")


def function_transformer(transformer: Any, flow: Flow) -> Steps:
    """The function by its name in NumPy."""
    if transformer.func is None:
        return [], flow
    function, arguments = transformer.func, dict(transformer.kw_args or {})
    name = getattr(function, "__name__", type(function).__name__)
    if getattr(np, name, None) is not function:
        module = getattr(function, "__module__", None)
        raise Uncovered(f"FunctionTransformer with the function {module}.{name} is not compiled: it is none of NumPy's")
    if name == "asarray" and arguments.keys() == {"dtype"}:
        return _as_type(np.dtype(arguments["dtype"]), flow)
    if name == "ravel" and not arguments and flow.width == 1:
        return [], replace(flow, flat=True, frame=False)
    if flow.sparse and name == "dot":
        raise Uncovered("FunctionTransformer with numpy.dot of a sparse matrix is not compiled")
    numbers_only(flow, f"numpy.{name}")
    if flow.flat:
        raise Uncovered(f"FunctionTransformer with numpy.{name} of an array of one dimension is not compiled")
    if name == "dot" and arguments.keys() == {"b"}:
        return _dot(arguments["b"], flow)
    return _elementwise(transformer, name, arguments, flow)


def _elementwise(transformer: Any, name: str, arguments: dict[str, Any], flow: Flow) -> Steps:
    if name not in FUNCTIONS or not arguments.keys() <= ARGUMENTS.get(name, frozenset()):
        given = f" with {', '.join(sorted(arguments))}" if arguments else ""
        raise Uncovered(f"FunctionTransformer with numpy.{name}{given} is not compiled")
    if not all(one is None or isinstance(one, int | float) for one in arguments.values()):
        raise Uncovered(f"FunctionTransformer with numpy.{name} of arrays is not compiled")
    if flow.objects or flow.single:
        raise Uncovered(f"FunctionTransformer with numpy.{name} of other numbers than float64 is not compiled")
    for kind in sorted(set(flow.datatypes) - {"FP64"}):
        if not _same_of(name, kind):
            raise Uncovered(f"FunctionTransformer with numpy.{name} of {kind} is not compiled: NumPy does not reckon in float64")
    values = [frozenset({0.0, 1.0})] * flow.width if name.startswith("is") else None
    return [Function(name, arguments, "Finite" if transformer.validate else "Any")], Flow.numbers(
        flow.width, values, sparse=flow.sparse
    )


def _same_of(name: str, kind: str) -> bool:
    """Whether a function says of whole numbers, or of booleans, what it says of them as float64."""
    if kind == "INT64" and name in _WHOLE:
        return True
    function = getattr(np, name)
    if not isinstance(function, np.ufunc):
        return False
    dtype = np.dtype(np.int64 if kind == "INT64" else np.bool_)
    try:
        return bool(function.resolve_dtypes((dtype, None))[0] == np.float64)
    except TypeError:
        return False


def _as_type(dtype: Any, flow: Flow) -> Steps:
    dates = [_DATES.fullmatch(kind) for kind in flow.datatypes]
    wanted = _DATES.fullmatch(str(dtype))
    if wanted and all(dates) and flow.frame and wanted[1] in UNITS:
        step = Moments([one[1] for one in dates if one], wanted[1])
        return [step], replace(flow, datatypes=[str(dtype)] * flow.width, frame=False, objects=False, places=[])
    if dtype != np.float64:
        raise Uncovered(f"FunctionTransformer to {dtype} is not compiled")
    if all(dates) and not flow.frame:  # they are numbers already
        return [], Flow.numbers(flow.width)
    numbers_only(flow, "numpy.asarray")
    return [], replace(flow, objects=False, frame=False, datatypes=["FP64"] * flow.width)


def _dot(weights: Any, flow: Flow) -> Steps:
    matrix = np.asarray(weights)
    finite = matrix.ndim == 2 and matrix.dtype.kind in "fiub" and np.isfinite(matrix).all()
    if not finite or flow.objects_to_numpy or flow.single:
        raise Uncovered("FunctionTransformer with numpy.dot of anything but two matrices of finite numbers is not compiled")
    return [Dot(matrix.astype(np.float64).tolist())], Flow.numbers(matrix.shape[1])
