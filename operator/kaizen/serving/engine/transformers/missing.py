"""SimpleImputer and MissingIndicator."""

from typing import Any

import numpy as np

from kaizen.serving.engine.transformers.flow import Flow, Uncovered, doubles_only
from kaizen.serving.engine.transforms.common import Transform
from kaizen.serving.engine.transforms.imputing import Fill, Impute

__all__ = ["missing_indicator", "simple_imputer"]


def simple_imputer(imputer: Any, flow: Flow) -> tuple[list[Transform], Flow]:
    """What is missing gets what training found for its column."""
    statistics = imputer.statistics_.tolist()
    # scikit-learn drops the columns for which it found nothing.
    kept = [i for i, fill in enumerate(statistics) if imputer.keep_empty_features or not _is_nan(fill)]
    indicated = imputer.indicator_.features_.tolist() if imputer.add_indicator else []
    objects = flow.objects and imputer.strategy in ("most_frequent", "constant")
    return _filled(imputer, flow, [statistics[i] for i in kept], kept, indicated, [], objects)


def missing_indicator(indicator: Any, flow: Flow) -> tuple[list[Transform], Flow]:
    """A flag for each column that may be missing."""
    features = indicator.features_.tolist()
    strict = indicator.error_on_new and indicator.features == "missing-only"
    never = [i for i in range(flow.width) if i not in features] if strict else []
    return _filled(indicator, flow, [], [], features, never, flow.objects, sparse=indicator.sparse is True)


def _filled(
    imputer: Any,
    flow: Flow,
    fill: list[Any],
    kept: list[int],
    indicated: list[int],
    never: list[int],
    objects: bool,
    *,
    sparse: bool = False,
) -> tuple[list[Transform], Flow]:
    name = type(imputer).__name__
    marker = None if _is_nan(imputer.missing_values) else imputer.missing_values
    if not _is_nan(imputer.missing_values) and not isinstance(marker, str | int | float | None):
        raise Uncovered(f"{name} with missing_values={imputer.missing_values!r} is not compiled")
    if objects:
        return _of_objects(imputer, flow, fill, kept, indicated, never)
    doubles_only(flow, name)
    if isinstance(marker, str) or imputer.missing_values is None:
        raise Uncovered(f"{name} with missing_values={marker!r} of numbers is not compiled")
    numbers = [None if _is_nan(one) else float(one) for one in fill]
    step = Impute(numbers, kept, indicated, None if marker is None else float(marker), never)
    sparse = sparse or (flow.sparse and getattr(imputer, "sparse", "auto") == "auto")
    values: list[frozenset[float] | None] = [None] * len(kept) + [frozenset({0.0, 1.0})] * len(indicated)
    return [step], Flow.numbers(len(values), values, sparse=sparse)


def _of_objects(
    imputer: Any, flow: Flow, fill: list[Any], kept: list[int], indicated: list[int], never: list[int]
) -> tuple[list[Transform], Flow]:
    name = type(imputer).__name__
    if not kept and not indicated:
        raise Uncovered(f"{name} of strings that leaves no columns is not compiled")
    for i, one in zip(kept, fill, strict=True):
        if isinstance(one, str) != (flow.datatypes[i] == "BYTES") or not isinstance(one, str | int | float):
            raise Uncovered(f"{name} that puts {one!r} into a column of another type is not compiled")
    wanted = imputer.missing_values
    marked = {None: "Value", "NaN": "Missing"} if _is_nan(wanted) else {None: "Value", "NaN": "Refused"}
    if wanted is None:
        marked[None] = "Missing"
    absent: Any = [marked[None if marker is None else "NaN"] for marker in flow.missing]
    step = Fill(fill, kept, indicated, None if _is_nan(wanted) else wanted, absent, never)
    flags = len(indicated)
    kinds = [flow.datatypes[i] for i in kept] + ["FP64"] * flags
    missing = [flow.missing[i] for i in kept] + [np.nan] * flags
    objects = bool(kept) and (flags > 0 or flow.objects)
    return [step], Flow(kinds, missing, [None] * len(kinds), objects=objects)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value
