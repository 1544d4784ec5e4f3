"""Statistics against what pandas and plain Python say, and the JSON they are kept as."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaizen.training.data.statistics import QUANTILES, ColumnStatistics, Histogram, Statistics, summarise

NAN, INFINITE = float("nan"), float("inf")


def column(values: Any, kind: pa.DataType | None = None) -> ColumnStatistics:
    return summarise(pa.table({"x": pa.array(values, kind)}))["x"]


NUMBERS = st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(NAN), st.sampled_from([0.0, 1.0, 1.5]))


@settings(max_examples=60, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=60))
def test_numbers_are_those_of_pandas(values: list[float | None]) -> None:
    found, series = column(values, pa.float64()), pd.Series(values, dtype="float64").dropna()
    assert (found.rows, found.missing, found.distinct) == (len(values), len(values) - len(series), series.nunique())
    if not len(series):
        assert (found.minimum, found.mean, found.quantiles, found.histogram) == (None, None, (), None)
        return
    assert (found.minimum, found.maximum) == (series.min(), series.max())
    assert found.mean == pytest.approx(series.mean(), abs=1e-6)
    assert found.std == pytest.approx(series.std(ddof=0), abs=1e-6)
    assert found.quantiles == tuple(np.quantile(series, QUANTILES, method="inverted_cdf"))
    assert found.histogram is not None
    assert sum(found.histogram.counts) == len(series)
    assert dict(found.top) == series.value_counts().head(20).to_dict() or len(found.top) == 20


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([0, 1, None]), NUMBERS), max_size=25))
def test_repeated_rows_are_those_of_pandas(rows: list[tuple[Any, ...]]) -> None:
    table = pa.table(
        {
            "text": pa.array([row[0] for row in rows], pa.string()),
            "whole": pa.array([row[1] for row in rows], pa.int64()),
            "number": pa.array([row[2] for row in rows], pa.float64()),
            "time": pa.array([row[1] for row in rows], pa.timestamp("s")),
        }
    )
    repeated = table.to_pandas().duplicated().to_numpy()
    found = summarise(table)
    assert found.duplicates == repeated.sum()
    assert found.first_duplicate == (int(repeated.argmax()) if repeated.any() else None)


def test_texts() -> None:
    found = column(["b", "aa", None, "b", "", "x" * 300])
    assert (found.type, found.rows, found.missing, found.distinct) == ("Text", 6, 1, 4)
    assert found.top == (("b", 2), ("aa", 1), ("", 1), ("x" * 99 + "…", 1))
    assert (found.minimum, found.mean) == ("", (1 + 2 + 1 + 0 + 300) / 5)
    assert column(pa.array(["a", "b", "a"]).dictionary_encode()).top == (("a", 2), ("b", 1))


def test_booleans_and_whole_numbers() -> None:
    found = column([True, None, False, True])
    assert (found.type, found.minimum, found.maximum, found.mean, found.top) == (
        "Boolean", False, True, 2 / 3, ((True, 2), (False, 1)),
    )  # fmt: skip
    found = column([3, 1, 3, None])
    assert (found.type, found.minimum, found.maximum, found.top) == ("Integer", 1, 3, ((3, 2), (1, 1)))
    assert column([2**60, 2**60 + 1]).maximum == 2**60 + 1
    assert column([5, 5]).histogram == Histogram((5.0, 5.0), (2,))
    assert column([Decimal("1.5"), None]).maximum == 1.5


def test_times() -> None:
    moments = [dt.datetime(2013, 1, 1, tzinfo=dt.UTC), None, dt.datetime(2013, 1, 3, 12, tzinfo=dt.UTC)]
    found = column(moments)
    assert (found.type, found.minimum, found.maximum) == ("Time", "2013-01-01T00:00:00Z", "2013-01-03T12:00:00Z")
    assert column([dt.date(2013, 1, 1), dt.date(2013, 1, 2)]).maximum == "2013-01-02T00:00:00Z"


def test_what_no_number_can_say() -> None:
    found = column([INFINITE, -INFINITE, 1.0, NAN])
    assert (found.infinite, found.missing, found.minimum, found.maximum) == (2, 1, 1.0, 1.0)
    huge = column([-1.7e308, 1.7e308])
    assert (huge.std, huge.histogram) == (None, None)
    assert column([None, None]).type == "Nothing"
    nested = summarise(pa.table({"x": pa.array([{"a": 1}, None])}))
    assert (nested["x"].type, nested["x"].missing, nested.duplicates) == ("Other", 1, None)


@pytest.mark.parametrize("rows", [0, 1, 30])
def test_json_is_read_back(rows: int) -> None:
    times = pa.array([dt.date(2013, 1, 1)] * rows, pa.date32())
    table = pa.table({"t": times, "x": pa.array(np.arange(rows) % 7 / 3), "s": pa.array(["a"] * rows, pa.string())})
    found = summarise(table)
    document = json.dumps(found.to_json(), allow_nan=False)
    assert Statistics.from_json(json.loads(document)) == found
    with pytest.raises(ValueError, match="format 2"):
        Statistics.from_json({**found.to_json(), "format": 2})
