"""Prepared columns as the DataFrame that scikit-learn saw in training; imports pandas.

A missing string is what stands for it in the training column (NaN unless that holds None); numbers are float64 where one
is missing or fractional, as they are when such a file is read.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_object_dtype

from kaizen.serving.engine.base import Column, Datatype, Input

__all__ = ["build", "datatype", "describe", "missing_marker"]


def datatype(series: "pd.Series[Any]") -> Datatype | None:
    """How a column travels in a request; None when it has no form there yet."""
    kind = series.dtype
    if pd.api.types.is_bool_dtype(kind):
        return "BOOL"
    if pd.api.types.is_integer_dtype(kind):
        return "INT64"
    if kind == np.float64:
        return "FP64"
    if is_object_dtype(kind) or str(kind) == "str" or isinstance(kind, pd.StringDtype):
        return "BYTES" if series.dropna().map(lambda value: isinstance(value, str)).all() else None
    return None


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
    """The frame for prepared columns; one row at least."""
    made = {}
    for one, column in zip(inputs, columns, strict=True):
        if one.datatype == "BYTES":
            marker = None if described[one.name]["missing"] == "None" else np.nan
            values = [marker if value is None else value for value in column]
            made[one.name] = pd.Series(values, dtype=described[one.name]["dtype"])
        else:
            made[one.name] = pd.Series(_numbers(one, column))
    return pd.DataFrame(made)


def _numbers(one: Input, column: Column) -> Any:
    if one.datatype != "FP64":
        wanted = bool if one.datatype == "BOOL" else int
        values = column if isinstance(column, list) else column.tolist()
        if all(type(value) is wanted for value in values):
            return np.array(values, dtype=np.bool_ if wanted is bool else np.int64)
    return np.array(column, dtype=np.float64)
