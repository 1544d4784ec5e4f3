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
INPUTS = ("none", "w", "unused", "few", "n")

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


def table(counting: Counting, columns: dict[str, Any], predictions: list[Any], rows: int) -> bytes:
    return counting.table([columns.get(name, [0] * rows) for name in INPUTS], predictions, rows)


def alone_in(counting: Counting, columns: dict[str, Any], predictions: list[Any], rows: int) -> list[bytes]:
    lists = {name: values if isinstance(values, list) else values.tolist() for name, values in columns.items()}
    some = [tuple(lists[name][row] if name in lists else 0 for name in INPUTS) for row in range(rows)]
    return [counting.row(values, prediction) for values, prediction in zip(some, predictions, strict=True)]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(requests(), min_size=1, max_size=5))
def test_as_each_column_by_itself(parts: list[tuple[dict[str, Any], list[Any], int]]) -> None:
    prediction = Bins("p", "Numeric", edges=(0.25, 0.5))
    counting = Counting(COLUMNS, prediction, INPUTS)
    read = b"".join(one for part in parts for one in (table(counting, *part), *alone_in(counting, *part)))
    found = [counts.tolist() for counts in counting.split(counting.count(read))]
    parts = parts * 2
    assert found[:-1] == [alone(bins, [v for columns, _, _ in parts for v in columns[bins.name]]) for bins in COLUMNS]
    assert found[-1] == alone(prediction, [value for _, predictions, _ in parts for value in predictions])


def test_one_kind_of_columns_only() -> None:
    for columns in ((WORDS,), (NUMBERS,), (NUMBERS, FEW)):
        counting = Counting(columns, WORDS)
        row = tuple("a" if bins is WORDS else 1.0 for bins in columns)
        counts = counting.count(counting.row(row, "b") + counting.table([[value] for value in row], ["b"], 1))
        assert counts.sum() == 2 * (len(columns) + 1)
        assert counting.split(counts)[-1].tolist() == [0, 2, 0, 0, 0, 0]


def test_a_matrix_counts_like_its_columns() -> None:
    matrix = np.array([[-1.0, 3.0, np.nan], [0.25, np.nextafter(3.0, 9), np.inf], [8.0, -0.0, -np.inf]])
    counting = Counting((NUMBERS, FEW, NONE, WORDS), WORDS, ("n", "few", "none", "w"))
    matrix = np.hstack([matrix, [[3.0], [np.nan], [1.0]]])
    found = counting.count(counting.table(matrix, ["a", "b", "c"], 3))
    assert found.tolist() == counting.count(counting.table(matrix.T.tolist(), ["a", "b", "c"], 3)).tolist()
    assert found.tolist() == counting.count(b"".join(map(counting.row, matrix.tolist(), ["a", "b", "c"]))).tolist()
    assert [counts.tolist() for counts in counting.split(found)][:2] == [
        alone(NUMBERS, matrix[:, 0].tolist()),
        alone(FEW, matrix[:, 1].tolist()),
    ]
