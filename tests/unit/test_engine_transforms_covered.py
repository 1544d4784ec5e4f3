"""What is compiled of whole chains: Kaizen's own preprocessing, every selection and projection; and what is not, and why."""

import warnings
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, FastICA, IncrementalPCA, TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import (
    RFE,
    RFECV,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from kaizen.serving.engine import frames, transforms
from kaizen.serving.engine.base import Input
from kaizen.serving.engine.hostile import hostile
from kaizen.serving.engine.transformers import Uncovered, compile_steps, entry, read
from kaizen.serving.engine.transformers.table import PROJECTIONS, SELECTORS
from kaizen.training.models.catalogue import Family
from kaizen.training.models.preprocess import columns
from tests.support import mixed
from tests.support.transforming import Rows, agree

NAN = float("nan")
RANDOM = np.random.default_rng(0)
NUMBERS = pd.DataFrame(RANDOM.normal(size=(40, 4)) * [1, 10, 100, 1], columns=list("abcd"))
TARGET = (NUMBERS["a"] + NUMBERS["b"] / 10 > 0).to_numpy()
LOGISTIC = LogisticRegression()


def fit(transformer: Any, frame: pd.DataFrame, target: Any = None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformer.fit(frame, target)


def asked(frame: pd.DataFrame) -> Rows:
    """Rows of the frame, and hostile ones."""
    inputs = [Input(str(name), frames.datatype(frame[name]) or "FP64", True) for name in frame]
    rows = hostile(inputs, frame, {})
    return [[NAN if value is None and one.datatype != "BYTES" else value for one, value in zip(inputs, row, strict=True)]
            for row in (*rows.plain, *rows.risky)]  # fmt: skip


@pytest.mark.parametrize("family", get_args(Family))
def test_kaizens_own_preprocessing(family: Family) -> None:
    data = mixed.rows(80).frame
    data.loc[::17, "prose"] = np.nan
    fitted = fit(columns(family, data), data)
    agree(fitted, data, asked(data)[::2], exact=False, flat=False)


SELECTING = (
    GenericUnivariateSelect(mode="k_best", param=2),
    RFE(LOGISTIC, n_features_to_select=2),
    RFECV(LOGISTIC, cv=2),
    SelectFdr(),
    SelectFpr(),
    SelectFromModel(LOGISTIC),
    SelectFwe(),
    SelectKBest(k=2),
    SelectPercentile(percentile=50),
    SequentialFeatureSelector(LOGISTIC, n_features_to_select=2, cv=2),
    VarianceThreshold(5.0),
)
PROJECTING = (
    GaussianRandomProjection(2, random_state=0),
    IncrementalPCA(2, whiten=True),
    PCA(3),
    SparseRandomProjection(2, random_state=0),
    TruncatedSVD(2),
)


@pytest.mark.parametrize("transformer", [*SELECTING, *PROJECTING], ids=lambda one: type(one).__name__)
def test_selections_and_projections(transformer: Any) -> None:
    rows: Rows = [*NUMBERS.to_numpy()[:9].tolist(), [NAN, 0, 0, 0], [0, float("inf"), 0, 0], [1e9, -1e9, 0.5, 2.0]]
    fitted = fit(transformer, NUMBERS, TARGET)
    agree(fitted, NUMBERS, rows, exact=type(transformer).__name__ in SELECTORS, flat=False)


def test_every_selection_and_projection_is_tried() -> None:
    assert {type(one).__name__ for one in SELECTING} == set(SELECTORS)
    assert {type(one).__name__ for one in PROJECTING} == set(PROJECTIONS)


SPARSE = OneHotEncoder(handle_unknown="ignore")
CHAINS: dict[str, Any] = {
    "sparse products": make_pipeline(SPARSE, PolynomialFeatures(3)),
    "sparse selection": make_pipeline(SPARSE, StandardScaler(with_mean=False), VarianceThreshold()),
    "sparse function": make_pipeline(SPARSE, FunctionTransformer(np.log1p)),
    "sparse imputer": make_pipeline(SPARSE, SimpleImputer(add_indicator=True), TruncatedSVD(1)),
    "sparse and dense": FeatureUnion(
        [("s", SPARSE), ("d", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1))]
    ),
    "bins of codes": make_pipeline(
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=9), KBinsDiscretizer(2, strategy="uniform")
    ),
    "splines, sparse": make_pipeline(
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=9), SplineTransformer(n_knots=3, sparse_output=True)
    ),
    "a part that leaves nothing": FeatureUnion(
        [
            ("c", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=9)),
            ("m", make_pipeline(SPARSE, MissingIndicator(error_on_new=False))),
        ]
    ),
    "strings and numbers side by side, twice": make_pipeline(
        ColumnTransformer([("u", SimpleImputer(strategy="most_frequent"), ["u"]), ("v", OrdinalEncoder(), ["v"])]),
        ColumnTransformer([("v", MinMaxScaler(clip=True), [1]), ("u", SPARSE, [0])]),
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains(name: str) -> None:
    words = pd.DataFrame({"u": list("abcabcabca"), "v": list("xyxyxyxyxy")}, dtype=object)
    rows: Rows = [["a", "x"], ["b", "y"], ["c", "x"], ["never", "x"], ["a", "never"], [None, "x"], ["a", None]]
    agree(fit(CHAINS[name], words), words, rows, exact="imputer" not in name, flat=False)


def test_whole_numbers_beyond_float_are_found_exactly() -> None:
    frame = pd.DataFrame({"id": np.array([2**53, 2**53 + 1], dtype=np.int64)})
    steps, _ = compile_steps([OrdinalEncoder().fit(frame)], entry(frame, ["id"], [0]))
    assert [steps[0].row([value]) for value in (2**53, 2**53 + 1)] == [[0.0], [1.0]]


def test_what_only_divides_again_is_divided_once() -> None:
    inner = ColumnTransformer([("b", StandardScaler(), [1]), ("a", "passthrough", [0])])
    outer = ColumnTransformer([("one", inner, ["d", "c"]), ("none", "drop", ["a"])])
    steps, _ = compile_steps([fit(outer, NUMBERS)], entry(NUMBERS, list("abcd"), [2, 3]))
    assert [type(step) for step in steps] == [transforms.Columns]
    parts = steps[0].document()["parts"]
    assert [part["columns"] for part in parts] == [[0], [1]]
    assert [[step["name"] for step in part["steps"]] for part in parts] == [["Scale"], []]


def test_columns_that_nothing_reads_are_no_inputs() -> None:
    chosen = FeatureUnion(
        [("a", ColumnTransformer([("a", "passthrough", ["c"])])), ("b", ColumnTransformer([("b", PCA(1), [0, 2])]))]
    )
    assert read([fit(make_pipeline(chosen, StandardScaler()), NUMBERS)], range(4)) == {0, 2}
    assert read([fit(ColumnTransformer([("a", "drop", ["a"])], remainder="passthrough"), NUMBERS)], range(4)) == {1, 2, 3}


def fillna(table: Any) -> Any:
    return table.fillna(0)


fillna.__module__ = "pandas"
WORDS = pd.DataFrame({"w": pd.Series(["red fox", "blue fox", "red", "dog"] * 3, dtype=object)})
UNCOVERED: dict[str, tuple[Any, pd.DataFrame]] = {
    "FastICA is not compiled yet": (FastICA(2), NUMBERS),
    "the function pandas.fillna is not compiled: it is none of NumPy's": (FunctionTransformer(fillna), NUMBERS),
    "FunctionTransformer with numpy.mean is not compiled": (FunctionTransformer(np.mean), NUMBERS),
    "numpy.sqrt of BOOL is not compiled": (FunctionTransformer(np.sqrt), NUMBERS > 0),
    "KBinsDiscretizer with dtype float32 is not compiled": (KBinsDiscretizer(2, dtype=np.float32), NUMBERS),
    "numbers of 32 bits that reach StandardScaler are not compiled": (
        make_pipeline(OneHotEncoder(dtype=np.float32, sparse_output=False), StandardScaler()),
        WORDS,
    ),
    "QuantileTransformer of a sparse matrix": (make_pipeline(SPARSE, QuantileTransformer(n_quantiles=2)), WORDS),
    "StandardScaler that learned no finite number of a column": (StandardScaler(), NUMBERS.assign(a=NAN)),
    "CountVectorizer with a function as its tokenizer": (
        ColumnTransformer([("w", CountVectorizer(tokenizer=str.split, token_pattern=None), "w")]),
        WORDS,
    ),
    "TfidfVectorizer with dtype float32": (ColumnTransformer([("w", TfidfVectorizer(dtype=np.float32), "w")]), WORDS),
    "HashingVectorizer makes 1048576 columns; more than 10000 are not compiled": (
        ColumnTransformer([("w", HashingVectorizer(), "w")]),
        WORDS,
    ),
    "SplineTransformer of degree 0": (SplineTransformer(degree=0), NUMBERS),
    "SelectKBest that leaves no columns": (SelectKBest(k=0), NUMBERS),
    "makes 10626 columns; more than 10000": (PolynomialFeatures(20), NUMBERS),
}


@pytest.mark.parametrize("reason", UNCOVERED)
def test_what_is_not_covered_says_why(reason: str) -> None:
    transformer, frame = UNCOVERED[reason]
    fitted = fit(transformer, frame, TARGET if len(frame) == len(TARGET) else None)
    names = [str(name) for name in frame]
    with pytest.raises(Uncovered) as uncovered:
        compile_steps([fitted], entry(frame, names, range(len(names))))
    assert reason in str(uncovered.value)
