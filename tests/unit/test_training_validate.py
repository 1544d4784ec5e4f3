"""Anomalies: what is found, under which code, how bad it is, and the sentence that a user sees."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaizen.training.data.anomalies import Anomaly, fail_on
from kaizen.training.data.drift import drifted
from kaizen.training.data.leakage import CERTAIN, SUSPECT, decided_share
from kaizen.training.data.prepare import prepare
from kaizen.training.data.schema import Schema, freeze
from kaizen.training.data.statistics import summarise
from kaizen.training.data.validate import validate
from kaizen.training.errors import DO_NOT_RETRY, Failure
from tests.support import training

ROWS = 400
Found = list[tuple[str, str | None, str]]


def spec(**data: Any) -> Any:
    return training.spec("/lake/", data=data)


def schema(table: pa.Table, **data: Any) -> Schema:
    return freeze(table, summarise(table), spec(**data).data)


def anomalies(table: pa.Table, champion: Schema | None = None, task: Any = "Classification", **data: Any) -> tuple[Anomaly, ...]:
    return validate(table, summarise(table), spec(**data).data, task, champion)


def codes(found: tuple[Anomaly, ...]) -> Found:
    return [(anomaly.code, anomaly.column, anomaly.severity) for anomaly in found]


def replaced(name: str, values: Any, rows: int = ROWS) -> pa.Table:
    table = training.table(rows)
    values = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values)
    return table.set_column(table.schema.get_field_index(name), name, values)


def test_ordinary_data_have_none() -> None:
    table = training.table(ROWS)
    assert anomalies(table) == ()
    assert anomalies(table, schema(table)) == ()
    assert anomalies(training.table(ROWS, seed=1), schema(table)) == ()


WIND = [50.0, *range(1, ROWS)]
WIND[2] = -4.0
EXPECTED: dict[str, tuple[dict[str, Any], pa.Table, str, str]] = {
    "below": (
        {"column": "wind", "minimum": 0},
        replaced("wind", WIND),
        "FLOAT_TYPE_SMALL_FLOAT",
        "column wind is -4.0 in row 3 (time=2013-01-01 02:00:00+00:00, flight=1002), below data.expectations' minimum",
    ),
    "above": (
        {"column": "wind", "maximum": 49, "minimum": -9},
        replaced("wind", WIND),
        "FLOAT_TYPE_BIG_FLOAT",
        "column wind is 50.0 in row 1 (time=2013-01-01 00:00:00+00:00, flight=1000), above data.expectations' maximum",
    ),
    "whole numbers": (
        {"column": "distance", "maximum": 99},
        training.table(ROWS),
        "INT_TYPE_BIG_INT",
        "above data.expectations' maximum of 99 (400 rows of 400)",
    ),
    "gaps": (
        {"column": "wind", "missingShareAtMost": 0.25},
        replaced("wind", [1.0, None, float("nan"), 2.0] * 100),
        "FEATURE_TYPE_LOW_FRACTION_PRESENT",
        "column wind has no value in 50.0 % of the rows, first in row 2 (time=2013-01-01 01:00:00+00:00, flight=1001): data.expe",
    ),
    "another value": (
        {"column": "carrier", "allowed": ["AA", "UA"]},
        replaced("carrier", [None, "AA", "B6", "UA"] * 100),
        "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
        "column carrier is B6 in row 3 (time=2013-01-01 02:00:00+00:00, flight=1002), which data.expectations does not",
    ),
    "another whole number": (
        {"column": "distance", "allowed": ["1", "2"]},
        replaced("distance", [1, 2, 3, 1] * 100),
        "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
        "column distance is 3 in row 3",
    ),
    "a range of texts": (
        {"column": "carrier", "minimum": 1},
        training.table(ROWS),
        "UNEXPECTED_DATA_TYPE",
        "column carrier is of type string: data.expectations gives it a range, which only numbers have",
    ),
    "values of lists": (
        {"column": "tags", "allowed": ["1"]},
        training.table(ROWS).append_column("tags", pa.array([[1]] * ROWS)),
        "UNEXPECTED_DATA_TYPE",
        "column tags is of type list<",
    ),
}


@pytest.mark.parametrize(("expectation", "table", "code", "sentence"), EXPECTED.values(), ids=EXPECTED)
def test_expectations(expectation: dict[str, Any], table: pa.Table, code: str, sentence: str) -> None:
    found = anomalies(table, expectations=[expectation])
    assert codes(found)[:1] == [(code, expectation["column"], "Error")]
    assert sentence in found[0].message
    assert "\n" not in found[0].message


def test_expectations_that_hold() -> None:
    table = replaced("carrier", pa.array(["AA", None] * 200).dictionary_encode())
    held = [
        {"column": "carrier", "allowed": ["AA"], "missingShareAtMost": 0.5},
        {"column": "distance", "minimum": 100, "maximum": 3000},
        {"column": "weekend", "allowed": ["true", "false"]},
    ]
    assert anomalies(table, expectations=held) == ()


TABLE = training.table(ROWS)
CHANGED: dict[str, tuple[pa.Table, Found, str]] = {
    "lost column": (
        TABLE.drop_columns("wind"),
        [("SCHEMA_MISSING_COLUMN", "wind", "Error")],
        "column wind is gone, which the serving version has: bring it back, or tolerate SCHEMA_MISSING_COLUMN",
    ),
    "another type": (
        replaced("distance", [f"{i} mi" for i in range(ROWS)]),
        [("UNEXPECTED_DATA_TYPE", "distance", "Error")],
        "column distance is 0 mi in row 1 (time=2013-01-01 00:00:00+00:00, flight=1000), of type Text, and of type Integer in",
    ),
    "fractions": (
        replaced("distance", [0.5, *range(200, 200 + ROWS - 1)]),
        [("UNEXPECTED_DATA_TYPE", "distance", "Warning")],
        "of type Float, and of type Integer in the serving version's data",
    ),
    "emptied": (
        replaced("wind", pa.nulls(ROWS)),
        [("FEATURE_TYPE_NOT_PRESENT", "wind", "Error"), ("FEATURE_TYPE_NOT_PRESENT", "wind", "Warning")],
        "column wind has no value in any row, and has in the serving version's data",
    ),
    "new column": (
        TABLE.append_column("rain", pa.array(np.random.default_rng(0).random(ROWS))),
        [("SCHEMA_NEW_COLUMN", "rain", "Warning")],
        "column rain is new: the serving version does not have it",
    ),
    "more gaps": (
        replaced("wind", [None, 10.0, 11.0, 12.0] * 100),
        [("FEATURE_TYPE_LOW_FRACTION_PRESENT", "wind", "Warning")],
        "has no value in 25.0 % of the rows, first in row 1 (time=2013-01-01 00:00:00+00:00, flight=1000); in the",
    ),
    "new category": (
        replaced("carrier", ["AA", "UA", "B6", "WN"] * 100),
        [("ENUM_TYPE_UNEXPECTED_STRING_VALUES", "carrier", "Warning")],
        "column carrier is WN in row 4 (time=2013-01-01 03:00:00+00:00, flight=1003), which the serving version's data",
    ),
    "another unit": (
        replaced("distance", [1000 * i for i in range(1, 1 + ROWS)]),
        [("INT_TYPE_BIG_INT", "distance", "Warning")],
        "column distance is 5000 in row 5 (time=2013-01-01 04:00:00+00:00, flight=1004), far from the serving version's 1",
    ),
    "another sign": (
        replaced("wind", [-1000.0, *np.linspace(5, 15, ROWS - 1)]),
        [("FLOAT_TYPE_SMALL_FLOAT", "wind", "Warning")],
        "column wind is -1000.0 in row 1",
    ),
}


@pytest.mark.parametrize(("table", "expected", "sentence"), CHANGED.values(), ids=CHANGED)
def test_against_the_serving_version(table: pa.Table, expected: Found, sentence: str) -> None:
    """Only what no model can make up for stops a retraining."""
    found = anomalies(table, schema(TABLE))
    assert codes(found) == expected
    assert sentence in found[0].message


def test_another_query_leaves_columns_out_on_purpose() -> None:
    found = anomalies(TABLE.drop_columns("wind"), schema(TABLE), query="SELECT * EXCLUDE (wind) FROM rows")
    assert codes(found) == [("SCHEMA_MISSING_COLUMN", "wind", "Warning")]


def test_keys_groups_and_excluded_columns_are_not_compared() -> None:
    table = TABLE.drop_columns("delay").set_column(1, "flight", pa.array([f"f{i}" for i in range(ROWS)]))
    assert anomalies(table, schema(TABLE), features={}) == ()


PLAIN: dict[str, tuple[pa.Table, Found, str]] = {
    "constant target": (
        replaced("late", [True, None] * 200),
        [("TARGET_CONSTANT", "late", "Error")],
        "target late is True in all 200 rows: there is nothing to learn",
    ),
    "constant column": (
        replaced("wind", [3.0] * ROWS),
        [("FEATURE_TYPE_LOW_UNIQUE", "wind", "Warning")],
        "column wind is 3.0 in all 400 rows: the model cannot use it",
    ),
    "empty column": (
        replaced("carrier", pa.nulls(ROWS, pa.string())),
        [("FEATURE_TYPE_NOT_PRESENT", "carrier", "Warning")],
        "column carrier has no value in any row: the model cannot use it",
    ),
    "repeated rows": (
        pa.concat_tables([TABLE, TABLE.slice(7, 3)]),
        [("DUPLICATE_ROWS", None, "Warning")],
        "3 rows (0.7 %) repeat an earlier one in every column, first row 401 (time=2013-01-01 07:00:00+00:00, flight=1007): SELE",
    ),
}


@pytest.mark.parametrize(("table", "expected", "sentence"), PLAIN.values(), ids=PLAIN)
def test_plain(table: pa.Table, expected: Found, sentence: str) -> None:
    found = anomalies(table)
    assert codes(found) == expected
    assert sentence in found[0].message


def test_leakage() -> None:
    found = anomalies(TABLE, features={})
    assert codes(found) == [("LABEL_LEAKAGE", "delay", "Error")]
    assert found[0].message.startswith("column delay alone decides 9")
    assert found[0].message.endswith("or tolerate LABEL_LEAKAGE if it is known before the target is")
    dated = TABLE.append_column("decided", pa.array([dt.date(2013, 1, 1 + late) for late in TABLE["late"].to_pylist()]))
    assert anomalies(dated) == (), "dates are left alone: a trend is no leak"


NORMAL = np.random.default_rng(0).normal(size=2000)
NOISE = np.random.default_rng(1).normal(size=2000)
LEAKS: dict[str, tuple[Any, Any, bool, bool]] = {
    "a threshold": (NORMAL, NORMAL > 1.5, True, True),
    "a text of the class": (np.where(NORMAL > 0, "yes", "no"), NORMAL > 0, True, True),
    "gaps where the class is": ([None if x > 0.3 else 0.0 for x in NORMAL], NORMAL > 0.3, True, True),
    "codes of classes": (
        np.digitize(NORMAL, np.linspace(-2, 2, 40)),
        np.digitize(NORMAL, np.linspace(-2, 2, 40)) % 3,
        True,
        True,
    ),
    "a tail in another unit": (np.exp(3 * NORMAL), -NORMAL, False, True),
    "noise": (NOISE, NORMAL > 0, True, False),
    "noise for numbers": (NOISE, NORMAL, False, False),
    "a strong feature": (NORMAL + 0.3 * NOISE, NORMAL > 0, True, False),
    "a strong feature for numbers": (NORMAL + 0.15 * NOISE, NORMAL, False, False),
    "names of rows": ([f"row {i}" for i in range(2000)], NORMAL > 0, True, False),
    "few rows": (NORMAL[:90], NORMAL[:90] > 0, True, False),
}


@pytest.mark.parametrize(("values", "target", "classes", "leaks"), LEAKS.values(), ids=LEAKS)
def test_share_decided(values: Any, target: Any, classes: bool, leaks: bool) -> None:
    share = decided_share(pa.chunked_array([pa.array(values)]), pa.chunked_array([pa.array(target)]), classes)
    assert 0 <= share <= 1
    assert share > CERTAIN["Classification" if classes else "Regression"] if leaks else share < SUSPECT + 0.08


def test_tolerated_anomalies_are_warnings() -> None:
    table = TABLE.drop_columns("wind")
    once = [{"code": "LABEL_LEAKAGE", "column": "delay"}, {"code": "SCHEMA_MISSING_COLUMN"}]
    found = anomalies(table, schema(TABLE), features={}, tolerated=once)
    assert {anomaly.severity for anomaly in found} == {"Warning"}
    fail_on(found)
    other = anomalies(table, features={}, tolerated=[{"code": "LABEL_LEAKAGE", "column": "distance"}])
    assert codes(other) == [("LABEL_LEAKAGE", "delay", "Error")]


def test_an_error_ends_the_run() -> None:
    table = replaced("wind", [None] * ROWS)
    found = anomalies(table, schema(TABLE), features={}, expectations=[{"column": "distance", "maximum": 1}])
    with pytest.raises(Failure) as failed:
        fail_on(found)
    assert (failed.value.step, failed.value.code, failed.value.exit_code) == ("Validate", "IntTypeBigInt", DO_NOT_RETRY)
    assert failed.value.message.endswith(" (and 2 more)")
    assert found[0].to_json() == {
        "code": "INT_TYPE_BIG_INT",
        "severity": "Error",
        "column": "distance",
        "message": found[0].message,
    }


@settings(max_examples=20, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-10, 10)), min_size=2, max_size=30), st.lists(st.text(max_size=3), max_size=30))
def test_a_schema_finds_nothing_in_its_own_data(numbers: list[float | None], texts: list[str]) -> None:
    rows = min(len(numbers), len(texts))
    table = pa.table(
        {
            "late": pa.array([i % 2 == 0 for i in range(rows)]),
            "time": pa.array(range(rows), pa.timestamp("s")),
            "x": pa.array(numbers[:rows], pa.float64()),
            "s": pa.array(texts[:rows], pa.string()),
        }
    )
    frozen = schema(table, keys=[], features={})
    assert Schema.from_json(json.loads(json.dumps(frozen.to_json(), allow_nan=False))) == frozen
    told = {*anomalies(table, frozen, keys=[], features={})} - {*anomalies(table, keys=[], features={})}
    assert told == set()


def test_train_and_test_that_differ() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(10, 4, 300), np.random.default_rng(0).normal(40, 4, 300)])
    table = replaced("wind", values, 600).append_column("day", training.table(600)["time"])
    rows = prepare(table, training.spec(Path("/lake/")))
    assert drifted(rows.take(np.arange(0, 600, 2)), rows.take(np.arange(1, 600, 2)), "late") == ()
    (found,) = drifted(rows.take(np.arange(300)), rows.take(np.arange(300, 600)), "late")
    assert (found.code, found.column, found.severity) == ("COMPARATOR_PSI_HIGH", "wind", "Warning")
    assert "column wind lies elsewhere in the rows that judge than in those to learn from (PSI " in found.message
    assert "in 100.0 % instead of 0.0 % of the rows" in found.message


def test_a_target_that_differs() -> None:
    rows = prepare(training.table(600), training.spec(Path("/lake/")))
    late = rows.target.astype(bool)
    (found,) = drifted(rows.take(~late), rows.take(late), "late")[-1:]
    assert (found.column, found.message.split(" lies")[0]) == ("late", "target late")
