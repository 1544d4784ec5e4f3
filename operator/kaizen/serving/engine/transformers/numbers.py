"""Transformers of numbers: scaled, shaped, binned, multiplied, projected, selected."""

from dataclasses import replace
from typing import Any

import numpy as np

from kaizen.serving.engine.transformers.flow import Flow, Uncovered, doubles_only, finite, numbers_only, takes
from kaizen.serving.engine.transforms.columns import Select
from kaizen.serving.engine.transforms.common import Transform
from kaizen.serving.engine.transforms.expanding import Bins, Products, Project
from kaizen.serving.engine.transforms.scaling import Binarize, Clip, Line, Scale
from kaizen.serving.engine.transforms.shaping import Normalize, Power, Quantiles
from kaizen.serving.engine.transforms.splines import Splines

__all__ = [
    "binarizer",
    "k_bins_discretizer",
    "max_abs_scaler",
    "min_max_scaler",
    "normalizer",
    "polynomial_features",
    "power_transformer",
    "projection",
    "quantile_transformer",
    "robust_scaler",
    "selector",
    "spline_transformer",
    "standard_scaler",
]

Steps = tuple[list[Transform], Flow]


def _scaled(scaler: Any, flow: Flow, centre: Any, scale: Any, clip: tuple[float, float] | None = None) -> Steps:
    doubles_only(flow, type(scaler).__name__)
    width = flow.width
    divisors = np.ones(width) if scale is None else np.asarray(scale)
    step: Transform
    if flow.sparse:  # scikit-learn then multiplies
        step = Line(finite(1 / divisors, scaler), [0.0] * width)
    else:
        step = Scale(finite(np.zeros(width) if centre is None else centre, scaler), finite(divisors, scaler))
    return [step, *([Clip(*clip)] if clip else [])], Flow.numbers(width, sparse=flow.sparse, absent=flow.absent)


def standard_scaler(scaler: Any, flow: Flow) -> Steps:
    """The mean and the standard deviation."""
    return _scaled(scaler, flow, scaler.mean_ if scaler.with_mean else None, scaler.scale_ if scaler.with_std else None)


def robust_scaler(scaler: Any, flow: Flow) -> Steps:
    """The median and the distance of quantiles."""
    return _scaled(
        scaler, flow, scaler.center_ if scaler.with_centering else None, scaler.scale_ if scaler.with_scaling else None
    )


def max_abs_scaler(scaler: Any, flow: Flow) -> Steps:
    """The largest size."""
    return _scaled(scaler, flow, None, scaler.scale_, (-1.0, 1.0) if getattr(scaler, "clip", False) else None)


def min_max_scaler(scaler: Any, flow: Flow) -> Steps:
    """From the range in training to the one asked for."""
    doubles_only(flow, "MinMaxScaler")
    line = Line(finite(scaler.scale_, scaler), finite(scaler.min_, scaler))
    clip: list[Transform] = [Clip(*map(float, scaler.feature_range))] if scaler.clip else []
    return [line, *clip], Flow.numbers(flow.width)


def normalizer(normalizing: Any, flow: Flow) -> Steps:
    """Rows to length 1."""
    doubles_only(flow, "Normalizer")
    step = Normalize(normalizing.norm, flow.sparse, "Finite")
    return [step], Flow.numbers(flow.width, sparse=flow.sparse, absent=flow.absent)


def binarizer(binarizing: Any, flow: Flow) -> Steps:
    """Above a threshold or not."""
    doubles_only(flow, "Binarizer")
    step = Binarize(float(binarizing.threshold), "Finite")
    return [step], Flow.numbers(flow.width, [frozenset({0.0, 1.0})] * flow.width, sparse=flow.sparse, absent=True)


def power_transformer(transformer: Any, flow: Flow) -> Steps:
    """Made normal by a power, then scaled."""
    doubles_only(flow, "PowerTransformer")
    steps: list[Transform] = [Power(transformer.method, finite(transformer.lambdas_, transformer))]
    if not transformer.standardize:
        return steps, Flow.numbers(flow.width)
    scaled, leaving = standard_scaler(transformer._scaler, Flow.numbers(flow.width))
    return [*steps, *scaled], leaving


def quantile_transformer(transformer: Any, flow: Flow) -> Steps:
    """Made uniform or normal by its quantiles."""
    doubles_only(flow, "QuantileTransformer")
    if flow.sparse:
        raise Uncovered("QuantileTransformer of a sparse matrix, whose zeros it leaves alone, is not compiled")
    quantiles = [finite(column, transformer) for column in transformer.quantiles_.T]
    step = Quantiles(transformer.output_distribution == "normal", quantiles, finite(transformer.references_, transformer))
    return [step], Flow.numbers(flow.width)


def k_bins_discretizer(discretizer: Any, flow: Flow) -> Steps:
    """Numbers of bins, or ones in their places."""
    doubles_only(flow, "KBinsDiscretizer")
    if discretizer.dtype is not None and np.dtype(discretizer.dtype) != np.float64:
        raise Uncovered("KBinsDiscretizer with dtype float32 is not compiled")
    step = Bins([edges[1:-1].tolist() for edges in discretizer.bin_edges_], discretizer.encode != "ordinal", "Finite")
    values = [frozenset(map(float, range(len(edges) + 1))) for edges in step.edges]
    if discretizer.encode == "ordinal":
        return [step], Flow.numbers(step.width, values)
    return [step], Flow.numbers(step.width, sparse=discretizer.encode == "onehot", absent=True)


def polynomial_features(transformer: Any, flow: Flow) -> Steps:
    """Products of columns, up to a degree."""
    doubles_only(flow, "PolynomialFeatures")
    if transformer.n_output_features_ > flow.most:
        raise Uncovered(
            f"PolynomialFeatures makes {transformer.n_output_features_} columns; more than {flow.most} are not compiled"
        )
    combinations = transformer._combinations(
        flow.width,
        transformer._min_degree,
        transformer._max_degree,
        transformer.interaction_only,
        transformer.include_bias,
    )
    # A dense matrix is multiplied from the last factor on.
    factors = [list(one) if flow.sparse else list(one)[::-1] for one in combinations]
    return [Products(factors, "Finite")], Flow.numbers(len(factors), sparse=flow.sparse, absent=flow.absent)


def spline_transformer(transformer: Any, flow: Flow) -> Steps:
    """B-splines of each column."""
    doubles_only(flow, "SplineTransformer")
    if transformer.degree < (2 if transformer.extrapolation == "linear" else 1):
        # scikit-learn mistakes the columns behind the first one for others there.
        raise Uncovered("SplineTransformer of degree 0, or 1 with linear extrapolation, is not compiled")
    missing = getattr(transformer, "handle_missing", "error") == "zeros"
    knots = [finite(spline.t, transformer) for spline in transformer.bsplines_]
    if any(one[transformer.degree] >= one[-transformer.degree - 1] for one in knots):
        raise Uncovered("SplineTransformer of a column that had one value in training is not compiled")
    step = Splines(int(transformer.degree), knots, transformer.extrapolation, bool(transformer.include_bias), missing)
    return [step], Flow.numbers(step.width, sparse=bool(transformer.sparse_output))


def projection(transformer: Any, flow: Flow) -> Steps:
    """PCA, IncrementalPCA, TruncatedSVD and random projections."""
    doubles_only(flow, type(transformer).__name__)
    components = transformer.components_
    components = components.toarray() if hasattr(components, "toarray") else np.asarray(components)
    if components.dtype != np.float64:
        raise Uncovered(f"{type(transformer).__name__} with components of {components.dtype} is not compiled")
    outputs = len(components)
    mean = getattr(transformer, "mean_", None)
    offset = np.zeros(outputs) if mean is None else mean.reshape(1, -1) @ components.T
    spread = np.ones(outputs)
    if getattr(transformer, "whiten", False):
        spread = np.maximum(np.sqrt(transformer.explained_variance_), np.finfo(np.float64).eps)
    step = Project(components.tolist(), finite(np.ravel(offset), transformer), finite(spread, transformer), "Finite")
    return [step], Flow.numbers(outputs)


def selector(selecting: Any, flow: Flow) -> Steps:
    """Any feature selection: the columns of its support."""
    from sklearn.utils import get_tags

    numbers_only(flow, type(selecting).__name__)
    kept = np.flatnonzero(selecting.get_support()).tolist()
    if not kept:
        raise Uncovered(f"{type(selecting).__name__} that leaves no columns is not compiled")
    step = Select(kept, "Any" if get_tags(selecting).input_tags.allow_nan else takes(flow, "Finite"))
    return [step], replace(flow.of(kept), frame=False, sparse=flow.sparse)
