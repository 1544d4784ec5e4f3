"""The table of scikit-learn's transformers that the engine has steps for.  What is not in it, scikit-learn serves."""

from collections.abc import Callable, Mapping
from typing import Any

from kaizen.serving.engine.transformers import categories, functions, missing, numbers, texts
from kaizen.serving.engine.transformers.flow import Flow
from kaizen.serving.engine.transforms.common import Transform

__all__ = ["PROJECTIONS", "SELECTORS", "TRANSFORMERS"]

Compile = Callable[[Any, Flow], tuple[list[Transform], Flow]]

PROJECTIONS = ("GaussianRandomProjection", "IncrementalPCA", "PCA", "SparseRandomProjection", "TruncatedSVD")
SELECTORS = (
    "GenericUnivariateSelect", "RFE", "RFECV", "SelectFdr", "SelectFpr", "SelectFromModel", "SelectFwe", "SelectKBest",
    "SelectPercentile", "SequentialFeatureSelector", "VarianceThreshold",
)  # fmt: skip

TRANSFORMERS: Mapping[str, Compile] = {
    **dict.fromkeys(SELECTORS, numbers.selector),
    **dict.fromkeys(PROJECTIONS, numbers.projection),
    "Binarizer": numbers.binarizer,
    "CountVectorizer": texts.count_vectorizer,
    "FunctionTransformer": functions.function_transformer,
    "HashingVectorizer": texts.hashing_vectorizer,
    "KBinsDiscretizer": numbers.k_bins_discretizer,
    "MaxAbsScaler": numbers.max_abs_scaler,
    "MinMaxScaler": numbers.min_max_scaler,
    "MissingIndicator": missing.missing_indicator,
    "Normalizer": numbers.normalizer,
    "OneHotEncoder": categories.one_hot_encoder,
    "OrdinalEncoder": categories.ordinal_encoder,
    "PolynomialFeatures": numbers.polynomial_features,
    "PowerTransformer": numbers.power_transformer,
    "QuantileTransformer": numbers.quantile_transformer,
    "RobustScaler": numbers.robust_scaler,
    "SimpleImputer": missing.simple_imputer,
    "SplineTransformer": numbers.spline_transformer,
    "StandardScaler": numbers.standard_scaler,
    "TargetEncoder": categories.target_encoder,
    "TfidfTransformer": texts.tfidf_transformer,
    "TfidfVectorizer": texts.tfidf_vectorizer,
}
"""scikit-learn's class → the steps and what leaves them."""
