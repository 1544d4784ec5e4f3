"""Counting many columns at once gives, cell by cell, what counting each by itself does."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kaizen.monitoring.bins import Bins, count
from kaizen.monitoring.counting import Counting

NUMBERS = Bins("n", "Numeric", edges=(-1.0, 0.0, 0.5, 7.0))
FEW = Bins("few", "Numeric", edges=(3.0,))
NONE = Bins("none", "Numeric")
WORDS = Bins("w", "Categorical", categories=("a", "b", "True", "3"))
COLUMNS = (NUMBERS, WORDS, FEW, NONE)

number = st.one_of(
    st.none(), st.floats(), st.sampled_from([-1.0, -0.0, 0, 0.5, 7, 3, np.nextafter(3.0, 9), float("inf")]), st.integers(-9, 9)
)
word = st.sampled_from(["a", "b", "c", "", None, True, False, 3, 3.5, float("nan")])


@st.composite
def requests(draw: st.DrawFn) -> tuple[dict[str, Any], list[Any], int]:
    rows = draw(st.integers(1, 4))
    columns: dict[str, Any] = {
        bins.name: draw(st.lists(number if bins.kind == "Numeric" else word, min_size=rows, max_size=rows)) for bins in COLUMNS
    }
    if draw(st.booleans()):
        columns["n"] = np.array(columns["n"], dtype=np.float64)
        columns["w"] = np.array(columns["w"], dtype=object)
    return columns, draw(st.lists(st.floats(0, 1), min_size=rows, max_size=rows)), rows


def alone(bins: Bins, values: list[Any]) -> list[int]:
    counts = count(bins, np.array(values, dtype=np.float64 if bins.kind == "Numeric" else object))
    return [int(rows) for rows in counts]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(requests(), min_size=1, max_size=5))
def test_as_each_column_by_itself(parts: list[tuple[dict[str, Any], list[Any], int]]) -> None:
    prediction = Bins("p", "Numeric", edges=(0.25, 0.5))
    counting = Counting(COLUMNS, prediction)
    found = [counts.tolist() for counts in counting.split(counting.count(parts))]
    assert found[:-1] == [alone(bins, [v for columns, _, _ in parts for v in columns[bins.name]]) for bins in COLUMNS]
    assert found[-1] == alone(prediction, [value for _, predictions, _ in parts for value in predictions])


def test_one_kind_of_columns_only() -> None:
    for columns in ((WORDS,), (NUMBERS,), (NUMBERS, FEW)):
        counting = Counting(columns, WORDS)
        request = ({bins.name: ["a" if bins is WORDS else 1.0] for bins in columns}, ["b"], 1)
        counts = counting.count([request, request])
        assert counts.sum() == 2 * (len(columns) + 1)
        assert counting.split(counts)[-1].tolist() == [0, 2, 0, 0, 0, 0]
