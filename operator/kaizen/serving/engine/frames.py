"""Prepared columns as the DataFrame that scikit-learn saw in training; imports pandas.

A missing string is what stands for it in the training column (NaN unless that holds None); numbers are float64 where one
is missing or fractional, as they are when such a file is read.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_object_dtype

from kaizen.serving.engine.base import Column, Datatype, Input, Value
from kaizen.serving.engine.moments import NO_DATE, moment

__all__ = ["build", "cells", "datatype", "describe", "missing_marker"]


def datatype(series: "pd.Series[Any]") -> Datatype | None:
    """How a column travels in a request, dates as ISO texts; None when it has no form there yet."""
    kind = series.dtype
    if pd.api.types.is_bool_dtype(kind):
        return "BOOL"
    if pd.api.types.is_integer_dtype(kind):
        return "INT64"
    if kind == np.float64:
        return "FP64"
    if kind.kind == "M":
        return "BYTES"
    if is_object_dtype(kind) or str(kind) == "str" or isinstance(kind, pd.StringDtype):
        return "BYTES" if series.dropna().map(lambda value: isinstance(value, str)).all() else None
    return None


def cells(series: "pd.Series[Any]") -> list[Value]:
    """A column as a request brings it, prepared: dates as ISO texts, missing strings None, missing numbers NaN."""
    if series.dtype.kind == "M":
        return [None if value is pd.NaT else value.isoformat() for value in series]
    missing: Value = None if datatype(series) == "BYTES" else np.nan
    return [missing if value is None or value != value else value for value in series.tolist()]


def missing_marker(series: "pd.Series[Any]") -> Any:
    """What stands for a missing value in a column: None or NaN."""
    return None if is_object_dtype(series.dtype) and any(value is None for value in series) else np.nan


def describe(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """What `build` needs to know of each column, as JSON."""
    return {
        str(name): {"dtype": str(frame[name].dtype), "missing": "None" if missing_marker(frame[name]) is None else "NaN"}
        for name in frame.columns
    }


def build(inputs: Sequence[Input], columns: Sequence[Column], described: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The frame for prepared columns; one row at least.  Raises Refused: a text is no date."""
    made = {}
    for one, column in zip(inputs, columns, strict=True):
        if one.datatype == "BYTES":
            made[one.name] = _texts(one, column, described[one.name])
        else:
            made[one.name] = _numbers(one, column)
    return pd.DataFrame(made)


def _texts(one: Input, column: Column, described: Mapping[str, Any]) -> "pd.Series[Any]":
    kind = described["dtype"]
    if kind.startswith("datetime64"):
        return _dates(column, kind)
    marker = None if described["missing"] == "None" else np.nan
    return pd.Series([marker if value is None else value for value in column], dtype=kind)


def _dates(column: Column, kind: str) -> "pd.Series[Any]":
    unit, _, zone = kind.removeprefix("datetime64[").removesuffix("]").partition(", ")
    numbers = [None if text is None else moment(text, unit) for text in column]
    units = np.array([NO_DATE if number is None else number for number in numbers], dtype=np.int64)
    dates = pd.Series(units.view(f"datetime64[{unit}]"))
    return dates.dt.tz_localize("UTC").astype(kind) if zone else dates


def _numbers(one: Input, column: Column) -> Any:
    if one.datatype != "FP64":
        wanted = bool if one.datatype == "BOOL" else int
        values = column if isinstance(column, list) else column.tolist()
        if all(type(value) is wanted for value in values):
            return np.array(values, dtype=np.bool_ if wanted is bool else np.int64)
    return np.array(column, dtype=np.float64)
