"""Bins: every value has one cell, the same alone as in a batch, and the cells survive JSON."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaizen.monitoring.bins import Bins, Kind, assign, count, freeze

NAN, INF = math.nan, math.inf
FLOATS = st.floats() | st.sampled_from([0.0, -0.0, NAN, INF, -INF, 5e-324, -1.7976931348623157e308, 1.7976931348623157e308])
TEXTS = st.none() | st.text() | st.sampled_from(["EWR", "JFK", "", "\ud800", "None", "nan"])


def numbers(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(values, dtype=np.float64)


def texts(*values: object) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    return np.array([*values, None], dtype=object)[:-1]  # the None keeps NumPy from making it anything else


@pytest.mark.parametrize(
    ("value", "cell"),
    [(-1e300, 0), (1.0, 0), (1.0000000000000002, 1), (2.0, 1), (2.5, 2), (1e300, 2), (NAN, 3), (-NAN, 3), (INF, 4), (-INF, 4)],
)
def test_each_edge_is_the_largest_value_of_its_cell(value: float, cell: int) -> None:
    assert assign(Bins("x", "Numeric", edges=(1.0, 2.0)), numbers(value)).tolist() == [cell]


@pytest.mark.parametrize(
    ("value", "cell"),
    [("EWR", 0), ("JFK", 1), ("LGA", 2), ("", 2), ("\ud800", 2), ("None", 2), ("nan", 2), (None, 3), (NAN, 3), (7, 2)],
)
def test_strings_that_training_did_not_see_are_other_and_none_is_missing(value: object, cell: int) -> None:
    assert assign(Bins("x", "Categorical", categories=("EWR", "JFK")), texts(value)).tolist() == [cell]


def test_other_types_are_counted_as_they_are_written() -> None:
    assert assign(Bins("x", "Categorical", categories=("1", "True")), texts(1, True, 1.0)).tolist() == [0, 1, 2]


def test_both_zeros_are_one_number() -> None:
    bins = freeze("x", numbers(-0.0, -0.0, 1.0), "Numeric")
    assert assign(bins, numbers(-0.0)).tolist() == assign(bins, numbers(0.0)).tolist()
    assert math.copysign(1, next(edge for edge in bins.edges if edge == 0)) == 1


@pytest.mark.parametrize(
    ("name", "values", "counts"),
    [
        ("twenty different values", range(20), [0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0]),
        ("three different values", [1, 2, 3], [0, 1, 0, 1, 0, 1, 0, 0, 0]),
        ("a pile at the lower end, as rain", [0] * 19 + [3], [0, 19, 1, 0, 0, 0]),
        ("a pile at the upper end, as sight", [3] + [10] * 19, [0, 1, 19, 0, 0, 0]),
        ("one value", [7] * 5, [0, 5, 0, 0, 0]),
        ("booleans", [False, True, True], [0, 1, 0, 2, 0, 0, 0]),
        ("nothing but missing and infinite values", [NAN, INF, NAN], [0, 2, 1]),
        ("nothing", [], [0, 0, 0]),
    ],
)
def test_numeric_cells(name: str, values: list[float], counts: list[int]) -> None:
    column = np.array(values, dtype=np.float64)
    assert count(freeze("x", column, "Numeric"), column).tolist() == counts, name


def test_values_beyond_the_training_range_have_cells_of_their_own() -> None:
    bins = freeze("x", np.arange(100.0), "Numeric")
    cells = assign(bins, numbers(-0.5, 0, 99, 99.5)).tolist()
    assert cells[0] == 0
    assert cells[3] == cells[2] + 1 == bins.missing - 1
    assert count(bins, np.arange(100.0))[[0, bins.missing - 1]].tolist() == [0, 0]


def test_a_pile_has_a_cell_of_its_own() -> None:
    bins = freeze("x", numbers(3, *[10] * 19), "Numeric")
    shrunk = assign(bins, numbers(9.999, 10, 10.001)).tolist()
    assert len(set(shrunk)) == 3


def test_the_most_frequent_categories_come_first_and_by_name_among_equals() -> None:
    column = texts("b", "a", "c", "c", None, NAN, "d")
    assert freeze("x", column, "Categorical", most=3).categories == ("c", "a", "b")
    assert count(freeze("x", column, "Categorical", most=3), column).tolist() == [2, 1, 1, 1, 2]


@given(st.lists(FLOATS), st.lists(FLOATS))
def test_every_number_is_counted_once_and_alone_as_in_a_batch(trained: list[float], served: list[float]) -> None:
    bins = freeze("x", np.array(trained, dtype=np.float64), "Numeric")
    column = np.array(served, dtype=np.float64)
    counts = count(bins, column)
    assert counts.shape == (bins.cells,)
    assert counts.dtype == np.int64
    assert counts.sum() == len(served)
    alone = sum((count(bins, column[[row]]) for row in range(len(served))), np.zeros(bins.cells, np.int64))
    assert counts.tolist() == alone.tolist()
    assert len(bins.edges) <= 11
    assert counts[bins.missing] == np.isnan(column).sum()
    assert counts[bins.missing + 1] == np.isinf(column).sum()


@given(st.lists(TEXTS), st.lists(TEXTS), st.integers(0, 5))
def test_every_string_is_counted_once_and_alone_as_in_a_batch(
    trained: list[str | None], served: list[str | None], most: int
) -> None:
    bins = freeze("x", texts(*trained), "Categorical", most)
    counts = count(bins, texts(*served))
    assert (counts.shape, counts.sum()) == ((bins.cells,), len(served))
    alone = sum((count(bins, texts(value)) for value in served), np.zeros(bins.cells, np.int64))
    assert counts.tolist() == alone.tolist()
    assert len(bins.categories) == min(most, len(set(trained) - {None}))
    assert counts[bins.missing] == served.count(None)


@given(st.lists(FLOATS), st.randoms(use_true_random=False))
def test_bins_do_not_depend_on_the_order_of_rows(values: list[float], random: object) -> None:
    shuffled = sorted(values, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert freeze("x", np.array(values, dtype=float), "Numeric") == freeze("x", np.array(shuffled, dtype=float), "Numeric")


@given(st.lists(FLOATS))
def test_numeric_bins_survive_json(values: list[float]) -> None:
    bins = freeze("x", np.array(values, dtype=np.float64), "Numeric")
    assert Bins.from_json(json.loads(json.dumps(bins.to_json(), allow_nan=False))) == bins


@given(st.lists(TEXTS))
def test_categorical_bins_survive_json(values: list[str | None]) -> None:
    bins = freeze("x", texts(*values), "Categorical")
    assert Bins.from_json(json.loads(json.dumps(bins.to_json()))) == bins


@pytest.mark.parametrize(
    ("kind", "edges", "categories", "message"),
    [
        ("Ordinal", [], [], "must be Numeric or Categorical"),
        ("Numeric", [1, 1], [], "finite and rising"),
        ("Numeric", [2, 1], [], "finite and rising"),
        ("Numeric", [INF], [], "finite and rising"),
        ("Numeric", [NAN], [], "finite and rising"),
        ("Categorical", [], ["a", "a"], "must differ"),
    ],
)
def test_impossible_bins_are_refused(kind: Kind, edges: list[float], categories: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Bins.from_json({"name": "x", "kind": kind, "edges": edges, "categories": categories})
