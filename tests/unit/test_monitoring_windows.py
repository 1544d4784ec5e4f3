"""Windows: they survive JSON, and their sum knows neither order nor grouping."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaizen.monitoring.windows import Counts, Window, from_json, key, merge, to_json


def window(numeric: tuple[int, int, int], source: str = "pod-1-boot-1-0", rejected: int = 0, **fields: Any) -> Window:
    rows = sum(numeric)
    known: dict[str, Any] = {"service": "flight-delay", "version": 7, "start": 300, "end": 600, "source": source}
    counts = {"temp": numeric, "prediction": (rows, 0)}
    return Window(**known | {"rows": rows, "counts": counts, "prediction": (0, rows), "rejected": rejected} | fields)


NUMBERS = st.integers(0, 10**9)
WINDOWS = st.builds(window, st.tuples(NUMBERS, NUMBERS, NUMBERS), rejected=NUMBERS)


def test_where_a_window_lies() -> None:
    assert key("flight-delay", 1364774400, 7, "uid-boot-0") == "windows/flight-delay/1364774400/7-uid-boot-0.json"


@given(WINDOWS)
def test_a_window_survives_json(one: Window) -> None:
    assert from_json(json.loads(json.dumps(to_json(one)))) == one


def test_the_sum() -> None:
    total = merge([window((1, 2, 3), rejected=4), window((10, 0, 0), "pod-2-boot-1-0")])
    assert total == Counts(16, {"temp": (11, 2, 3), "prediction": (16, 0)}, (0, 16), 4)


def test_the_sum_of_nothing() -> None:
    assert merge([]) == Counts()
    assert merge([Counts(), Counts()]) == Counts()


@given(st.lists(WINDOWS), st.lists(WINDOWS), st.lists(WINDOWS))
def test_the_sum_is_associative_and_commutative(a: list[Window], b: list[Window], c: list[Window]) -> None:
    whole = merge([*a, *b, *c])
    assert whole == merge([merge([merge(a), merge(b)]), merge(c)]) == merge([merge(a), merge([merge(b), merge(c)])])
    assert whole == merge([*c, *a, *b])
    assert whole == merge([whole, Counts()])
    assert whole.rows == sum(one.rows for one in (*a, *b, *c))
    assert all(sum(counts) == whole.rows for counts in (*whole.counts.values(), whole.prediction))


@pytest.mark.parametrize(
    "other",
    [
        window((1, 2, 3), version=8),
        window((1, 2, 3), service="other"),
        window((1, 2, 3), counts={"temp": (6, 0)}),
        window((1, 2, 3), counts={"dewp": (1, 2, 3)}),
        window((1, 2, 3), prediction=(6,)),
    ],
    ids=["version", "service", "cells", "features", "prediction"],
)
def test_counts_of_different_meaning_are_not_added(other: Window) -> None:
    with pytest.raises(ValueError, match="only windows of one version"):
        merge([window((1, 2, 3)), other])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "reads format 1"),
        ({"rows": 7}, "counts of 'temp'.*do not add up to its 7 rows"),
        ({"prediction": [7, -1]}, "counts of 'prediction'"),
        ({"prediction": None}, "not a window"),
        ({"counts": [1]}, "not a window"),
        ({"rows": float("inf")}, "not a window"),
        ({"rows": -1}, "claims -1 rows"),
        ({"rows": 2**60}, "claims"),
        ({"version": "seven"}, "invalid literal"),
    ],
)
def test_what_no_server_wrote_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(to_json(window((1, 2, 3))) | change)


def test_a_missing_field_is_refused() -> None:
    with pytest.raises(ValueError, match="not a window: KeyError"):
        from_json({"format": 1})
