"""Each compiled transformer against scikit-learn's, bit for bit, on whatever Hypothesis thinks of: row by row and in a batch."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from kaizen.serving.engine import transforms
from kaizen.serving.engine.base import Refused
from kaizen.serving.engine.transformers import TRANSFORMERS, Flow

NAN = float("nan")
FEW = settings(max_examples=40)

number = st.one_of(
    st.sampled_from([NAN, 0.0, -0.0, 5e-324, 1e308, -1e308, 2.0**53, 1.0]),
    st.floats(allow_infinity=False, width=64),
    st.integers(-5, 5),
)
moderate = st.one_of(st.just(NAN), st.floats(-1e100, 1e100), st.integers(-(2**60), 2**60).map(float))
asked_number = st.one_of(number, st.sampled_from([float("inf"), float("-inf")]))
word = st.one_of(st.sampled_from(["a", "b", "A", "", " ", "é", "a "]), st.text(max_size=4))
text = st.one_of(st.none(), word)
few_words = st.one_of(st.none(), st.sampled_from(["a", "b", "c", "d", ""]))


def table(cell: st.SearchStrategy[Any], width: int = 2, least: int = 1, most: int = 8) -> st.SearchStrategy[list[list[Any]]]:
    return st.lists(st.lists(cell, min_size=width, max_size=width), min_size=least, max_size=most)


def numbers_frame(rows: list[list[Any]]) -> pd.DataFrame:
    return pd.DataFrame(np.array(rows, dtype=np.float64), columns=[f"n{i}" for i in range(len(rows[0]))])


def texts_frame(rows: list[list[Any]]) -> pd.DataFrame:
    columns = zip(*rows, strict=True)
    return pd.DataFrame(
        {f"t{i}": pd.Series([np.nan if v is None else v for v in column], dtype=object) for i, column in enumerate(columns)}
    )


def expected(fitted: Any, frame: pd.DataFrame) -> Any:
    """scikit-learn's answer, or None when it refuses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = fitted.transform(frame)
    except ValueError:
        return None
    return np.asarray(made.toarray() if hasattr(made, "toarray") else made)


def same(fitted: Any, texts: bool, rows: list[list[Any]]) -> None:
    """The compiled form, through its own document, answers as scikit-learn does."""
    width = len(rows[0])
    kind = "BYTES" if texts else "FP64"
    compiled, _ = TRANSFORMERS[type(fitted).__name__](fitted, Flow([kind] * width, [NAN] * width, [None] * width))
    assert compiled is not None
    step = transforms.restore(compiled.document())
    frame = texts_frame if texts else numbers_frame
    together = expected(fitted, frame(rows))
    alone = [expected(fitted, frame([row])) for row in rows] if together is None else [one[None] for one in together]
    for row, wanted in zip(rows, alone, strict=True):
        before = list(row)
        try:
            made = step.row(row)
        except Refused:
            assert wanted is None, f"{row} is refused, scikit-learn says {wanted}"
            continue
        assert wanted is not None, f"{row} is answered with {made}, scikit-learn refuses it"
        got = np.array([made], dtype=wanted.dtype)
        assert equal(got, wanted), f"{row}: {got}, scikit-learn says {wanted}"
        assert repr(row) == repr(before)
    accepted = [row for row, wanted in zip(rows, alone, strict=True) if wanted is not None]
    if accepted:
        lists = texts or step.looks_up
        batch = [list(column) for column in zip(*accepted, strict=True)] if lists else np.array(accepted, dtype=np.float64)
        columns = step.batch(batch)
        got = np.array(columns, dtype=object).T if isinstance(columns, list) else columns
        assert equal(got, expected(fitted, frame(accepted)))


def equal(one: Any, other: Any) -> bool:
    if one.dtype.kind in "OU" or other.dtype == object:
        return bool(one.shape == other.shape and one.tolist() == other.tolist())
    return bool(np.array_equal(one.astype(np.float64), other.astype(np.float64), equal_nan=True))


def fit(transformer: Any, frame: pd.DataFrame) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformer.fit(frame)


@FEW
@given(table(moderate, least=2), table(asked_number), st.booleans(), st.booleans())
def test_standard_scaler(train: list[list[Any]], rows: list[list[Any]], with_mean: bool, with_std: bool) -> None:
    same(fit(StandardScaler(with_mean=with_mean, with_std=with_std), numbers_frame(train)), False, rows)


@FEW
@given(table(moderate), table(asked_number), st.sampled_from(["median", "mean", "most_frequent"]), st.booleans(), st.booleans())
def test_simple_imputer_of_numbers(
    train: list[list[Any]], rows: list[list[Any]], strategy: str, indicator: bool, keep: bool
) -> None:
    train = [*train, [1.0, NAN]]  # one column that has a value: an imputer that drops all columns serves no model
    imputer = SimpleImputer(strategy=strategy, add_indicator=indicator, keep_empty_features=keep)
    same(fit(imputer, numbers_frame(train)), False, rows)


@FEW
@given(table(text), table(text), st.sampled_from(["most_frequent", "constant"]))
def test_simple_imputer_of_strings(train: list[list[Any]], rows: list[list[Any]], strategy: str) -> None:
    imputer = SimpleImputer(strategy=strategy, fill_value="none" if strategy == "constant" else None)
    same(fit(imputer, texts_frame([*train, ["a", "b"]])), True, rows)


encoder_options = st.fixed_dictionaries(
    {
        "handle_unknown": st.sampled_from(["ignore", "infrequent_if_exist", "error"]),
        "min_frequency": st.sampled_from([None, 2, 3]),
        "max_categories": st.sampled_from([None, 2, 3]),
        "drop": st.sampled_from([None, "first", "if_binary"]),
        "sparse_output": st.booleans(),
    }
)


@FEW
@given(table(st.one_of(few_words, text)), table(text), encoder_options)
def test_one_hot_encoder_of_strings(train: list[list[Any]], rows: list[list[Any]], options: dict[str, Any]) -> None:
    same(fit(OneHotEncoder(**options), texts_frame(train)), True, rows + train)


@FEW
@given(table(moderate), table(asked_number), encoder_options)
def test_one_hot_encoder_of_numbers(train: list[list[Any]], rows: list[list[Any]], options: dict[str, Any]) -> None:
    same(fit(OneHotEncoder(**options), numbers_frame(train)), False, rows + train)


ordinal_options = st.one_of(
    st.just({"handle_unknown": "error"}),
    st.fixed_dictionaries(
        {
            "handle_unknown": st.just("use_encoded_value"),
            "unknown_value": st.sampled_from([NAN, -1]),
            "encoded_missing_value": st.sampled_from([NAN, -2]),
            "max_categories": st.sampled_from([None, 2, 3]),
        }
    ),
)


@FEW
@given(table(st.one_of(few_words, text)), table(text), ordinal_options)
def test_ordinal_encoder_of_strings(train: list[list[Any]], rows: list[list[Any]], options: dict[str, Any]) -> None:
    same(fit(OrdinalEncoder(**options), texts_frame(train)), True, rows + train)


@FEW
@given(table(moderate), table(asked_number), ordinal_options)
def test_ordinal_encoder_of_numbers(train: list[list[Any]], rows: list[list[Any]], options: dict[str, Any]) -> None:
    same(fit(OrdinalEncoder(**options), numbers_frame(train)), False, rows + train)


def test_whole_numbers_beyond_float_are_found_exactly() -> None:
    frame = pd.DataFrame({"id": np.array([2**53, 2**53 + 1], dtype=np.int64)})
    encoder = OrdinalEncoder().fit(frame)
    step, _ = TRANSFORMERS["OrdinalEncoder"](encoder, Flow(["INT64"], [NAN], [None]))
    assert step is not None
    assert [step.row([value]) for value in (2**53, 2**53 + 1)] == [[0.0], [1.0]]
