"""The frozen reference: blocks add up, and JSON keeps everything."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaizen.monitoring.bins import Kind
from kaizen.monitoring.reference import BLOCK_SECONDS, MOST_BLOCKS, Reference, build, from_json, to_json

KINDS: dict[str, Kind] = {"temp": "Numeric", "origin": "Categorical"}
DAY = 86400
ROWS = st.lists(
    st.tuples(st.floats(), st.sampled_from(["EWR", "JFK", None]), st.integers(-(10**9), 10**10)), min_size=1, max_size=40
)


def columns(rows: list[tuple[float, str | None, int]]) -> dict[str, Any]:
    return {"temp": np.array([row[0] for row in rows]), "origin": np.array([row[1] for row in rows], dtype=object)}


def reference(rows: list[tuple[float, str | None, int]], *, timed: bool = True, context: tuple[str, ...] = ()) -> Reference:
    times = np.array([row[2] for row in rows], dtype=np.int64) if timed else None
    return build(columns(rows), KINDS, times, np.array([0.1, 0.9]), "2013-03-31T23:00:00Z" if timed else None, context)


def test_rows_are_counted_by_day() -> None:
    made = reference([(1.0, "EWR", 5), (2.0, "JFK", DAY - 1), (1.0, None, 3 * DAY)])
    origin = made.features[1]
    assert origin.block_counts is not None
    assert origin.bins.categories == ("EWR", "JFK")
    assert origin.block_counts.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert origin.counts.tolist() == [1, 1, 0, 1]
    assert (made.rows, made.block_seconds, made.trained_until) == (3, DAY, "2013-03-31T23:00:00Z")


def test_without_a_timestamp_there_are_no_blocks() -> None:
    made = reference([(1.0, "EWR", 0)], timed=False)
    assert made.features[0].block_counts is None
    assert made.trained_until is None
    assert "blockCounts" not in to_json(made)["features"][0]


def test_predictions_are_those_of_held_out_rows() -> None:
    made = build({"x": np.arange(5.0)}, {"x": "Numeric"}, None, np.array([0.2, 0.2, 0.7]), None)
    assert (made.prediction.counts.sum(), made.prediction.block_counts) == (3, None)


def test_context_features_have_no_vote() -> None:
    made = reference([(1.0, "EWR", 0)], context=("temp",))
    assert [one.role for one in made.features] == ["Context", "Vote"]
    assert [one.role for one in from_json(to_json(made)).features] == ["Context", "Vote"]


@pytest.mark.parametrize(("days", "seconds"), [(1, DAY), (400, DAY), (401, 2 * DAY), (800, 2 * DAY), (4000, 16 * DAY)])
def test_long_periods_get_longer_blocks(days: int, seconds: int) -> None:
    made = reference([(1.0, "EWR", 0), (1.0, "EWR", days * DAY - 1)])
    assert made.block_seconds == seconds


@given(ROWS)
def test_blocks_add_up_to_counts_and_counts_to_rows(rows: list[tuple[float, str | None, int]]) -> None:
    made = reference(rows)
    assert made.block_seconds % BLOCK_SECONDS == 0
    for feature in made.features:
        assert feature.block_counts is not None
        assert len(feature.block_counts) <= MOST_BLOCKS
        assert feature.block_counts.sum(axis=0).tolist() == feature.counts.tolist()
        assert feature.counts.sum() == len(rows)


@given(ROWS, st.booleans())
def test_a_reference_survives_json(rows: list[tuple[float, str | None, int]], timed: bool) -> None:
    document = to_json(reference(rows, timed=timed))
    assert to_json(from_json(json.loads(json.dumps(document, allow_nan=False)))) == document


@pytest.mark.parametrize(
    ("columns", "timestamps"),
    [
        ({}, None),
        ({"temp": np.array([])}, None),
        ({"temp": np.zeros(2), "origin": np.array(["a"], dtype=object)}, None),
        ({"temp": np.zeros(2)}, np.zeros(3, dtype=np.int64)),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns: dict[str, Any], timestamps: Any) -> None:
    with pytest.raises(ValueError, match="must have one length, at least 1"):
        build(columns, KINDS, timestamps, np.zeros(1), None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "reads format 1"),
        ({"counts": [1, 2]}, "do not have the 4 cells"),
        ({"blockCounts": [[1, 0]]}, "do not have the 4 cells"),
        ({"blockCounts": [[2, 0, 0, 0]]}, "do not add up"),
    ],
)
def test_a_reference_that_does_not_fit_itself_is_refused(change: dict[str, Any], message: str) -> None:
    document = to_json(reference([(1.0, "EWR", 0), (1.0, "JFK", 0)]))
    (document if "format" in change else document["features"][1]).update(change)
    with pytest.raises(ValueError, match=message):
        from_json(document)
