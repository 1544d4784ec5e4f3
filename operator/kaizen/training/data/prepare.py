"""Arrow columns become what scikit-learn sees: numbers, booleans and categories, each column one of them, and a target.

Whole numbers stay int64 where none is missing; numbers with gaps are float64 with NaN; texts are objects, NaN where missing;
dates and times are datetime64[us] in UTC, NaT where missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from kaizen.api.training_data import Data
from kaizen.api.training_job import Recipe
from kaizen.training.errors import Failure

__all__ = ["MOST_CLASSES", "Kind", "Row", "Rows", "feature_names", "iso", "judged_columns", "name_rows", "prepare"]

STEP = "Prepare"
MICROSECONDS = 1_000_000
MOST_CLASSES = 100
LARGEST_CLASS = 2**53
"""From here on not every whole number is one of its own."""

Kind = Literal["Numeric", "Categorical"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled rows in the order of their timestamp, or of their own values."""

    frame: pd.DataFrame
    """Features only: int64, float64, bool, object and datetime64[us] columns."""
    kinds: dict[str, Kind]
    target: npt.NDArray[Any]
    """int64, bool or object of str for classes, float64 for numbers."""
    times: npt.NDArray[np.int64] | None
    """Microseconds since 1970 in UTC, ascending; None without a timestamp."""
    identity: pd.DataFrame
    """The key columns, or all features where no keys are declared: what a random split hashes."""
    sensitive: pd.DataFrame
    """The columns of data.sensitive and those that a gate slices by or compares, features or not: numbers, booleans, or texts,
    NaN where missing; dates as text."""
    groups: npt.NDArray[np.int64] | None = None
    """With split.method Grouped: equal numbers are one group, and the number follows from the group's values alone."""
    dropped: int = 0
    """Rows left out because they have no target."""

    def __len__(self) -> int:
        return len(self.target)

    def take(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]]) -> "Rows":
        """The rows where a mask is true, or those of these numbers in their order."""
        frame, identity, sensitive = (
            part.iloc[chosen].reset_index(drop=True) for part in (self.frame, self.identity, self.sensitive)
        )
        return Rows(
            frame=frame,
            kinds=self.kinds,
            target=self.target[chosen],
            times=None if self.times is None else self.times[chosen],
            identity=identity,
            sensitive=sensitive,
            groups=None if self.groups is None else self.groups[chosen],
            dropped=self.dropped,
        )

    @property
    def trained_until(self) -> str | None:
        """Time of the newest row."""
        return None if self.times is None or not len(self.times) else iso(int(self.times.max()))


def prepare(table: pa.Table, recipe: Recipe) -> Rows:
    """Check and convert all columns.  Raises Failure naming the column and the first offending row."""
    data = recipe.data
    table = _normalised(table)
    row = name_rows(table, data)
    times = _times(table[data.timestamp], data.timestamp, row) if data.timestamp else None
    missing = _missing(table[data.target])
    if missing.any() and data.target_missing == "Fail":
        share = f"{int(missing.sum())} of {len(missing)} rows"
        message = (
            f"target {data.target} has no value in {share}, first in {row(int(missing.argmax()))}: set data.targetMissing to Drop"
        )
        raise Failure(STEP, "TargetMissing", message)
    keep = ~missing
    if data.window_seconds and times is not None and len(times):
        keep &= times > times.max() - data.window_seconds * MICROSECONDS
    if int(keep.sum()) < max(data.minimum_rows, 2):
        raise Failure(
            STEP, "TooFewRows", f"there are {int(keep.sum())} rows with a target; data.minimumRows is {data.minimum_rows}"
        )
    # Checked before rows are left out, so that row numbers are those of the data.
    target = _target(table[data.target], recipe, keep, row)
    features = feature_names(table.column_names, data)
    columns = {name: _feature(name, table[name], row) for name in features}
    frame = _frame(columns, table.num_rows)
    keys = {name: pd.Series(table[name].to_numpy(zero_copy_only=False)) for name in data.keys}
    rows = Rows(
        frame=frame,
        kinds={name: "Categorical" if values.dtype == object else "Numeric" for name, values in columns.items()},
        target=target,
        times=times,
        identity=pd.DataFrame(keys) if keys else frame,
        sensitive=_frame({name: _judged(name, table[name], row) for name in judged_columns(recipe)}, table.num_rows),
        groups=_groups(table.select(data.split.groups)) if data.split.groups else None,
        dropped=int(missing.sum()),
    )
    return rows.take(keep)


def iso(microseconds: int) -> str:
    """A time as it is written in manifests: UTC, to the microsecond if need be."""
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    return time.isoformat().replace("+00:00", "Z")


Row = Callable[[int], str]
"""Names a row of the table, by its number from 0."""


def name_rows(table: pa.Table, data: Data) -> Row:
    """How sentences name the rows of a table: by number from 1, time and keys."""
    named = list(dict.fromkeys(column for column in (data.timestamp, *data.keys) if column))

    def row(number: int) -> str:
        values = ", ".join(f"{column}={table[column][number].as_py()}" for column in named)
        return f"row {number + 1}{f' ({values})' if values else ''}"

    return row


def judged_columns(recipe: Recipe) -> tuple[str, ...]:
    """The columns that slices and fairness are judged by."""
    gates = (column for gate in recipe.gates for column in (*(gate.slices or ()), gate.sensitive_feature) if column)
    return tuple(dict.fromkeys((*recipe.data.sensitive, *gates)))


def feature_names(columns: Sequence[str], data: Data) -> list[str]:
    """The columns that the model sees, in their order; raises Failure when there are none."""
    others = {data.timestamp, *data.sensitive} - set(data.features.include)
    left_out = {data.target, *data.apart, *others}
    features = [name for name in columns if name not in left_out]
    if not features:
        message = "no column is left as a feature besides target, timestamp, keys, groups, sensitive and features.exclude"
        raise Failure(STEP, "NoFeatures", message)
    return features


def _frame(columns: dict[str, npt.NDArray[Any]], rows: int) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()}, index=range(rows))


def _judged(name: str, column: pa.ChunkedArray, row: Row) -> npt.NDArray[Any]:
    return _texts(column.cast(pa.string())) if _is_date(column.type) else _feature(name, column, row)


def _groups(table: pa.Table) -> npt.NDArray[np.int64]:
    """A number for each row from the text of its group columns (rows,): a gap in a column does not change the others' numbers."""
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        if not (_is_text(kind) or _is_number(kind) or _is_date(kind) or pa.types.is_boolean(kind)):
            message = f"split.groups names column {name} of type {kind}: groups are texts, numbers, booleans or dates"
            raise Failure(STEP, "ColumnUnsupported", message)
    texts = {name: _texts(table[name].cast(pa.string())) for name in table.column_names}
    return np.asarray(pd.util.hash_pandas_object(pd.DataFrame(texts), index=False).to_numpy(dtype=np.uint64).view(np.int64))


def _normalised(table: pa.Table) -> pa.Table:
    """Dictionaries unpacked and each column in one piece."""
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(position, field.name, table[field.name].cast(field.type.value_type))
    return table.combine_chunks()


def _times(column: pa.ChunkedArray, name: str, row: Row) -> npt.NDArray[np.int64]:
    if not _is_date(column.type):
        message = f"timestamp {name} is of type {column.type}: write CAST({name} AS TIMESTAMP) AS {name} in data.query"
        raise Failure(STEP, "TimestampInvalid", message)
    if column.null_count:
        first = int(_missing(column).argmax())
        raise Failure(
            STEP, "TimestampMissing", f"timestamp {name} has no value in {column.null_count} rows, first in {row(first)}"
        )
    return np.asarray(_moments(column).cast(pa.int64()).to_numpy(), dtype=np.int64)


def _moments(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """In UTC, finer times cut to the microsecond."""
    return column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False)


def _missing(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    nulls = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
    return np.asarray(nulls.to_numpy(), dtype=np.bool_)


def _target(column: pa.ChunkedArray, recipe: Recipe, keep: npt.NDArray[np.bool_], row: Row) -> npt.NDArray[Any]:
    name, kind = recipe.data.target, column.type
    values: npt.NDArray[Any]
    numeric = _is_number(kind)
    if recipe.task == "Regression":
        if not numeric:
            raise Failure(STEP, "TargetInvalid", f"target {name} is of type {kind}: task Regression needs numbers")
        values = _numbers(column)
        if not np.isfinite(values[keep]).all():
            first = int((keep & ~np.isfinite(values)).argmax())
            raise Failure(
                STEP, "TargetInvalid", f"target {name} is {values[first]} in {row(first)}: task Regression needs finite numbers"
            )
    elif numeric:
        numbers = _numbers(column)
        broken = keep & ~((numbers == np.floor(numbers)) & (np.abs(numbers) < LARGEST_CLASS))
        if broken.any():
            first = int(broken.argmax())
            message = f"target {name} is {numbers[first]} in {row(first)}: classes are texts, booleans or whole numbers"
            raise Failure(STEP, "TargetInvalid", message)
        values = np.where(keep, numbers, 0).astype(np.int64)
    elif pa.types.is_boolean(kind):
        values = np.asarray(column.fill_null(False).to_numpy(), dtype=np.bool_)
    elif _is_text(kind):
        values = _texts(column)
    else:
        raise Failure(STEP, "TargetInvalid", f"target {name} is of type {kind}: classes are texts, booleans or whole numbers")
    _check_variety(values[keep], recipe)
    return values


def _check_variety(values: npt.NDArray[Any], recipe: Recipe) -> None:
    name = recipe.data.target
    distinct = len(pd.unique(values))
    if distinct == 1:
        raise Failure(
            STEP, "TargetConstant", f"target {name} is {values[0]} in all {len(values)} rows: there is nothing to learn"
        )
    if recipe.task == "Classification" and distinct > MOST_CLASSES:
        message = f"target {name} has {distinct} different values, more than {MOST_CLASSES}: use task Regression, or group them"
        raise Failure(STEP, "TargetInvalid", message)


def _feature(name: str, column: pa.ChunkedArray, row: Row) -> npt.NDArray[Any]:
    kind = column.type
    if _is_text(kind):
        return _texts(column)
    if _is_date(kind):
        return np.asarray(_moments(column).cast(pa.timestamp("us")).to_numpy(), dtype="datetime64[us]")
    if pa.types.is_boolean(kind):
        if not column.null_count:
            return np.asarray(column.to_numpy(), dtype=np.bool_)
        column = column.cast(pa.int8())
    elif not (_is_number(kind) or pa.types.is_null(kind)):
        how = "leave it out by features.exclude, or compute from it in data.query"
        message = f"column {name} is of type {kind}, which no model can use: {how}"
        raise Failure(STEP, "ColumnUnsupported", message)
    if pa.types.is_integer(kind) and not column.null_count and kind != pa.uint64():
        return np.asarray(column.to_numpy(), dtype=np.int64)
    values = _numbers(column)
    if np.isinf(values).any():
        first = int(np.isinf(values).argmax())
        raise Failure(STEP, "ColumnNotFinite", f"column {name} is {values[first]} in {row(first)}: make it NULL in data.query")
    return values


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_date(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


def _texts(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    values = np.asarray(column.to_numpy(zero_copy_only=False), dtype=object)
    values[_missing(column)] = np.nan
    return values
