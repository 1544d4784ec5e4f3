"""Chains of fitted transformers, and those that send columns different ways."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kaizen.serving.engine import frames
from kaizen.serving.engine.transformers.flow import Flow, Uncovered, is_a, is_sklearn, numbers_only
from kaizen.serving.engine.transformers.table import TRANSFORMERS
from kaizen.serving.engine.transforms.columns import Columns, Part
from kaizen.serving.engine.transforms.common import Transform
from kaizen.serving.engine.transforms.scaling import Multiply

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compile_steps", "entry", "flattened", "members_of", "read"]

Piece = tuple[Any, Sequence[int], bool, float | None]
"""Transformer, columns, whether it gets one column as an array of one dimension, and a factor for what it makes."""


def entry(frame: "pd.DataFrame", columns: Sequence[str], used: Sequence[int]) -> Flow:
    """The table that a pipeline is given: all its columns to scikit-learn, those that are read to the engine."""
    kinds, markers = [], []
    for name in columns:
        kind = frames.datatype(frame[name]) or ""
        dates = frame[name].dtype.kind == "M"
        kinds.append(str(frame[name].dtype) if dates else kind)
        markers.append(frames.missing_marker(frame[name]) if kind == "BYTES" else np.nan)
    places = {column: place for place, column in enumerate(used)}
    table = Flow(kinds, markers, [None] * len(columns), frame=True, objects="BYTES" in kinds)
    return replace(table, places=[places.get(i, -1) for i in range(len(columns))])


def compile_steps(chain: Sequence[Any], flow: Flow) -> tuple[list[Transform], Flow]:
    """The steps that do what fitted transformers do one after the other, and what leaves them.  Raises Uncovered."""
    steps: list[Transform] = []
    for transformer in flattened(chain):
        made, flow = _compiled(transformer, flow)
        steps += made
        if flow.width > flow.most:
            raise Uncovered(f"{type(transformer).__name__} makes {flow.width} columns; more than {flow.most} are not compiled")
    return steps, flow


def flattened(chain: Any) -> list[Any]:
    """The steps of nested pipelines, those that do nothing left out."""
    if chain is None or (isinstance(chain, str) and chain == "passthrough"):
        return []
    if is_a(chain, "Pipeline"):
        return [inner for _, step in chain.steps for inner in flattened(step)]
    return [inner for step in chain for inner in flattened(step)] if isinstance(chain, list | tuple) else [chain]


def read(chain: Sequence[Any], columns: Sequence[int]) -> set[int]:
    """Those of the columns that a chain of transformers and an estimator reads at all."""
    first = next(iter(flattened(chain)), None)
    if is_a(first, "ColumnTransformer") or is_a(first, "FeatureUnion"):
        parts = _pieces(first, len(columns))
        return {i for piece, chosen, _, _ in parts for i in read([piece], [columns[at] for at in chosen])}
    members = members_of(first)
    return {i for member in members for i in read([member], columns)} if members else set(columns)


def members_of(estimator: Any) -> list[Any]:
    """The estimators to which this one gives all columns as they are, when it reads nothing of them itself."""
    if not is_sklearn(estimator):
        return []
    match type(estimator).__name__:
        case "VotingClassifier" | "VotingRegressor" | "StackingClassifier" | "StackingRegressor":
            return [] if getattr(estimator, "passthrough", False) else [one for one in estimator.estimators_ if one != "drop"]
        case "CalibratedClassifierCV":
            return [one.estimator for one in estimator.calibrated_classifiers_]
        case "FixedThresholdClassifier" | "TunedThresholdClassifierCV":
            return [estimator.estimator_]
        case "GridSearchCV" | "RandomizedSearchCV" | "HalvingGridSearchCV" | "HalvingRandomSearchCV":
            return [estimator.best_estimator_]
        case "OneVsRestClassifier":
            return list(estimator.estimators_)
        case "FrozenEstimator":
            return [estimator.estimator]
        case "TransformedTargetRegressor":
            return [estimator.regressor_]
    return []


def _compiled(transformer: Any, flow: Flow) -> tuple[list[Transform], Flow]:
    name = type(transformer).__name__
    if not is_sklearn(transformer):
        raise Uncovered(f"{name} is not compiled: it is none of scikit-learn's transformers")
    if name in ("ColumnTransformer", "FeatureUnion"):
        return _side_by_side(transformer, flow)
    if name not in TRANSFORMERS:
        raise Uncovered(f"{name} is not compiled yet")
    return TRANSFORMERS[name](transformer, flow)


def _side_by_side(transformer: Any, flow: Flow) -> tuple[list[Transform], Flow]:
    parts, flows = [], []
    for piece, columns, flat, factor in _pieces(transformer, flow.width):
        whole = is_a(transformer, "FeatureUnion")
        steps, leaving = compile_steps([piece], flow if whole else flow.of(columns, flat=flat))
        if factor is not None:
            numbers_only(leaving, "transformer_weights")
            steps, leaving = (
                [*steps, Multiply(float(factor))],
                replace(leaving, values=[None] * leaving.width, absent=leaving.absent and factor != 0),
            )
        chosen = list(range(flow.table_width)) if whole else flow.place(columns)
        parts += _merged(Part(chosen, steps))
        flows.append(leaving)
    if not parts:
        raise Uncovered(f"{type(transformer).__name__} that leaves no columns is not compiled")
    sparse = getattr(transformer, "sparse_output_", any(one.sparse for one in flows))
    joined = Flow(
        [kind for one in flows for kind in one.datatypes],
        [marker for one in flows for marker in one.missing],
        [bound for one in flows for bound in one.values or [None] * one.width],
        sparse=bool(sparse),
        absent=all(one.absent or not one.sparse for one in flows),
        single=all(one.single for one in flows),
        # To put DataFrames side by side NumPy makes arrays of them.
        objects=not sparse and any(one.objects_to_numpy for one in flows),
    )
    if sparse:
        numbers_only(joined, "a sparse matrix")
    return _plain(parts, flow), joined


def _merged(part: Part) -> list[Part]:
    """The parts of a part that only divides again, so that a row goes through one step, not two."""
    if len(part.steps) != 1 or not isinstance(part.steps[0], Columns):
        return [part]
    return [Part([part.columns[i] for i in inner.columns], inner.steps) for inner in part.steps[0].parts]


def _plain(parts: list[Part], flow: Flow) -> list[Transform]:
    """Without division where one part has all columns in their order."""
    if len(parts) == 1 and parts[0].columns == list(range(flow.table_width)):
        return parts[0].steps
    return [Columns(parts)]


def _pieces(transformer: Any, width: int) -> Iterator[Piece]:
    weights = transformer.transformer_weights or {}
    if is_a(transformer, "FeatureUnion"):
        for name, piece in transformer.transformer_list:
            if not (isinstance(piece, str) and piece == "drop"):
                yield piece, range(width), False, weights.get(name)
        return
    for name, piece, columns in transformer.transformers_:
        indices = transformer._transformer_to_input_indices[name]
        if len(indices) and not (isinstance(piece, str) and piece == "drop"):
            yield piece, indices, np.isscalar(columns), weights.get(name)
