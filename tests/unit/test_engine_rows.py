"""Prepared rows in their three forms, joined."""

import numpy as np
import pytest

from kaizen.serving.engine.base import Prepared, joined

COLUMNS: Prepared = [["a", None], np.array([1.5, 2.5])]
LISTS: Prepared = [["b"], [3.5]]
ROW: Prepared = ("c", 4)
OTHER: Prepared = (None, 5.5)
MATRIX: Prepared = np.array([[6.0, 7.0], [8.0, 9.0]])


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([ROW], [["c"], [4]]),
        ([ROW, OTHER], [["c", None], [4, 5.5]]),
        ([ROW, LISTS, OTHER], [["c", "b", None], [4, 3.5, 5.5]]),
        ([COLUMNS, ROW], [["a", None, "c"], [1.5, 2.5, 4.0]]),
        ([COLUMNS, COLUMNS], [["a", None, "a", None], [1.5, 2.5, 1.5, 2.5]]),
        ([MATRIX, (1.0, 2.0)], [[6.0, 8.0, 1.0], [7.0, 9.0, 2.0]]),
    ],
)
def test_rows_are_joined_in_order(parts: list[Prepared], expected: list[list[object]]) -> None:
    assert [list(column) for column in joined(parts)] == expected


def test_values_keep_their_types_when_rows_are_joined() -> None:
    """A whole number among doubles stays one: whether all are decides the type of scikit-learn's column."""
    assert [type(value) for value in joined([ROW, OTHER])[1]] == [int, float]
