"""Looks for what is wrong with the data before a model learns it.

What a person declared is an Error.  Against the serving version's frozen schema only what no model can make up for is one: a
column that has gone, is empty now, or has become something else.  A drifted range, new categories, more gaps are what retraining
is for, so they are Warnings and never stop it; and a column that another query no longer selects was left out on purpose.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kaizen.api.training_data import Data, Expectation
from kaizen.training.data import leakage
from kaizen.training.data.anomalies import Anomaly, Severity, fail_on, tolerate
from kaizen.training.data.prepare import MOST_CLASSES, Row, feature_names, name_rows
from kaizen.training.data.schema import FrozenColumn, Schema, query_digest
from kaizen.training.data.statistics import ColumnStatistics, Statistics

__all__ = ["Anomaly", "fail_on", "validate"]

MISSING_FACTOR, MISSING_SLACK = 2.0, 0.01
"""More gaps than twice the serving version's share and a hundredth are worth a word."""
RANGE_SLACK = 0.5
"""Of the serving version's range, to either side: every month has a new extreme, another unit has a far one."""
NUMBERS = ("Integer", "Float")


def validate(
    table: pa.Table,
    statistics: Statistics,
    data: Data,
    task: Literal["Classification", "Regression"],
    champion_schema: Schema | None,
) -> tuple[Anomaly, ...]:
    """All anomalies of the query's rows, errors first.

    Args:
        table: what ingest gave.
        statistics: of that table.
        data: with expectations, and with the anomalies that are tolerated.
        task: of the job.
        champion_schema: of the version that serves, if one does.
    """
    look = _Look(table, statistics, data, name_rows(table, data))
    found = [
        *(anomaly for expectation in data.expectations for anomaly in _expected(look, expectation)),
        *(_against(look, champion_schema) if champion_schema else ()),
        *_plain(look),
        *_leaks(look, task == "Classification"),
    ]
    return tolerate(dict.fromkeys(found), data.tolerated)


@dataclass(frozen=True, eq=False)
class _Look:
    """What is looked at."""

    table: pa.Table
    statistics: Statistics
    data: Data
    row: Row

    def column(self, name: str) -> pa.ChunkedArray:
        """Dictionaries unpacked."""
        column = self.table[name]
        return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column

    def first(self, name: str, wrong: npt.NDArray[np.bool_]) -> str:
        """The first row where it is wrong, in words."""
        number = int(wrong.argmax())
        return f"column {name} is {self.column(name)[number].as_py()} in {self.row(number)}"


def _expected(look: _Look, wanted: Expectation) -> Iterator[Anomaly]:
    name, found = wanted.column, look.statistics[wanted.column]
    column = look.column(name)
    if wanted.minimum is not None or wanted.maximum is not None:
        if found.type in NUMBERS:
            yield from _bounds(look, wanted, found, column)
        elif found.type != "Nothing":
            message = f"column {name} is of type {column.type}: data.expectations gives it a range, which only numbers have"
            yield Anomaly("UNEXPECTED_DATA_TYPE", name, message, "Error")
    if wanted.missing_share_at_most is not None and found.missing_share > wanted.missing_share_at_most:
        gaps = column.is_null(nan_is_null=True).to_numpy()
        share = f"{_percent(found.missing_share)} of the rows, first in {look.row(int(gaps.argmax()))}"
        message = f"column {name} has no value in {share}: data.expectations allows {_percent(wanted.missing_share_at_most)}"
        yield Anomaly("FEATURE_TYPE_LOW_FRACTION_PRESENT", name, message, "Error")
    if wanted.allowed is not None and found.type == "Other":
        message = f"column {name} is of type {column.type}: data.expectations lists its values, which such a column does not have"
        yield Anomaly("UNEXPECTED_DATA_TYPE", name, message, "Error")
    elif wanted.allowed is not None:
        texts = column.cast(pa.string())
        wrong = pc.and_not(texts.is_valid(), pc.is_in(texts, pa.array(wanted.allowed, pa.string()))).to_numpy()
        if wrong.any():
            message = f"{look.first(name, wrong)}, which data.expectations does not allow ({_count(wrong)})"
            yield Anomaly("ENUM_TYPE_UNEXPECTED_STRING_VALUES", name, message, "Error")


def _bounds(look: _Look, wanted: Expectation, found: ColumnStatistics, column: pa.ChunkedArray) -> Iterator[Anomaly]:
    values = column.cast(pa.float64(), safe=False).to_numpy()
    prefix = "INT" if found.type == "Integer" else "FLOAT"
    if wanted.minimum is not None and (wrong := values < wanted.minimum).any():
        message = f"{look.first(wanted.column, wrong)}, below data.expectations' minimum of {wanted.minimum:g} ({_count(wrong)})"
        yield Anomaly(f"{prefix}_TYPE_SMALL_{prefix}", wanted.column, message, "Error")
    if wanted.maximum is not None and (wrong := values > wanted.maximum).any():
        message = f"{look.first(wanted.column, wrong)}, above data.expectations' maximum of {wanted.maximum:g} ({_count(wrong)})"
        yield Anomaly(f"{prefix}_TYPE_BIG_{prefix}", wanted.column, message, "Error")


def _against(look: _Look, champion: Schema) -> Iterator[Anomaly]:
    columns = {column.name: column for column in look.statistics.columns}
    before = {column.name: column for column in champion.columns}
    severity: Severity = "Error" if champion.query == query_digest(look.data) else "Warning"
    for name, old in before.items():
        if name not in columns:
            message = f"column {name} is gone, which the serving version has: bring it back, or tolerate SCHEMA_MISSING_COLUMN"
            yield Anomaly("SCHEMA_MISSING_COLUMN", name, message, severity)
        else:
            yield from _changed(look, old, columns[name], severity)
    data = look.data
    unseen = {*data.apart, data.timestamp, *before}
    for name in (name for name in columns if name not in unseen):
        message = f"column {name} is new: the serving version does not have it"
        yield Anomaly("SCHEMA_NEW_COLUMN", name, message, "Warning")


def _changed(look: _Look, old: FrozenColumn, new: ColumnStatistics, severity: Severity) -> Iterator[Anomaly]:
    name = old.name
    if old.missing_share < 1 and 0 < new.rows == new.missing:
        message = f"column {name} has no value in any row, and has in the serving version's data: bring them back, or exclude it"
        yield Anomaly("FEATURE_TYPE_NOT_PRESENT", name, message, "Error")
        return
    if "Nothing" not in (old.type, new.type) and old.type != new.type:
        harmless = old.type in NUMBERS and new.type in NUMBERS
        first = look.first(name, look.column(name).is_valid().to_numpy())
        how = "" if harmless else ": CAST it in data.query, or tolerate UNEXPECTED_DATA_TYPE"
        message = f"{first}, of type {new.type}, and of type {old.type} in the serving version's data{how}"
        yield Anomaly("UNEXPECTED_DATA_TYPE", name, message, "Warning" if harmless else severity)
        if not harmless:
            return
    if new.missing_share > MISSING_FACTOR * old.missing_share + MISSING_SLACK:
        gaps = look.column(name).is_null(nan_is_null=True).to_numpy()
        message = (
            f"column {name} has no value in {_percent(new.missing_share)} of the rows, first in {look.row(int(gaps.argmax()))}; "
            f"in the serving version's data in {_percent(old.missing_share)}"
        )
        yield Anomaly("FEATURE_TYPE_LOW_FRACTION_PRESENT", name, message, "Warning")
    if old.domain is not None and new.type == "Text":
        texts = look.column(name)
        wrong = pc.and_not(texts.is_valid(), pc.is_in(texts, pa.array(old.domain, texts.type))).to_numpy()
        if wrong.any():
            message = f"{look.first(name, wrong)}, which the serving version's data do not have ({_count(wrong)})"
            yield Anomaly("ENUM_TYPE_UNEXPECTED_STRING_VALUES", name, message, "Warning")
    if old.minimum is not None and old.maximum is not None and new.type in NUMBERS:
        yield from _range(look, name, old.minimum, old.maximum, new)


def _range(look: _Look, name: str, minimum: float, maximum: float, new: ColumnStatistics) -> Iterator[Anomaly]:
    slack, prefix = RANGE_SLACK * (maximum - minimum), "INT" if new.type == "Integer" else "FLOAT"
    ends: tuple[tuple[str, Any, bool], ...] = (
        (f"{prefix}_TYPE_SMALL_{prefix}", new.minimum, True),
        (f"{prefix}_TYPE_BIG_{prefix}", new.maximum, False),
    )
    for code, end, below in ends:
        if end is None or not ((end < minimum - slack) if below else (end > maximum + slack)):
            continue
        values = look.column(name).cast(pa.float64(), safe=False).to_numpy()
        wrong = (values < minimum - slack) if below else (values > maximum + slack)
        message = f"{look.first(name, wrong)}, far from the serving version's {minimum:g} to {maximum:g} ({_count(wrong)})"
        yield Anomaly(code, name, message, "Warning")


def _plain(look: _Look) -> Iterator[Anomaly]:
    target = look.statistics[look.data.target]
    if target.distinct == 1:
        value = look.column(target.name).drop_null()[0].as_py()
        message = f"target {target.name} is {value} in all {target.rows - target.missing} rows: there is nothing to learn"
        yield Anomaly("TARGET_CONSTANT", target.name, message, "Error")
    for name in feature_names(look.table.column_names, look.data):
        column = look.statistics[name]
        if column.rows and column.missing == column.rows:
            message = f"column {name} has no value in any row: the model cannot use it"
            yield Anomaly("FEATURE_TYPE_NOT_PRESENT", name, message, "Warning")
        elif column.distinct == 1 and not column.missing and not column.infinite:
            value = look.column(name)[0].as_py()
            message = f"column {name} is {value} in all {column.rows} rows: the model cannot use it"
            yield Anomaly("FEATURE_TYPE_LOW_UNIQUE", name, message, "Warning")
    if look.statistics.duplicates and look.statistics.first_duplicate is not None:
        rows = look.statistics.duplicates
        share = _percent(rows / look.statistics.rows)
        message = (
            f"{rows} rows ({share}) repeat an earlier one in every column, first {look.row(look.statistics.first_duplicate)}: "
            "SELECT DISTINCT in data.query if they are one event"
        )
        yield Anomaly("DUPLICATE_ROWS", None, message, "Warning")


def _leaks(look: _Look, classes: bool) -> Iterator[Anomaly]:
    target = look.statistics[look.data.target]
    usable = NUMBERS if not classes else (*NUMBERS, "Text", "Boolean")
    distinct = target.distinct or 0
    if target.type not in usable or target.infinite or distinct < 2 or (classes and distinct > MOST_CLASSES):
        return
    certain = leakage.CERTAIN["Classification" if classes else "Regression"]
    for name in feature_names(look.table.column_names, look.data):
        if look.statistics[name].type not in (*NUMBERS, "Text", "Boolean") or (look.statistics[name].distinct or 0) < 2:
            continue
        share = leakage.decided_share(look.column(name), look.column(target.name), classes)
        if share < leakage.SUSPECT:
            continue
        known = _percent(math.floor(share * 1000) / 1000)
        message = (
            f"column {name} alone decides {known} of what is uncertain about target {target.name}: leave it out by "
            "features.exclude, or tolerate LABEL_LEAKAGE if it is known before the target is"
        )
        yield Anomaly("LABEL_LEAKAGE", name, message, "Error" if share >= certain else "Warning")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _count(wrong: npt.NDArray[np.bool_]) -> str:
    rows = int(np.count_nonzero(wrong))
    return f"{rows} row{'s' if rows > 1 else ''} of {len(wrong)}"
