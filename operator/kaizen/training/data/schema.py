"""What the data of a version looked like, frozen: what its successor's data are held against.

Of the columns that a model learns from or is judged by; keys, groups and excluded columns are new in every run anyway.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kaizen.api.training_data import Data
from kaizen.training.data.statistics import ColumnType, Statistics

__all__ = ["MOST_VALUES", "FrozenColumn", "Schema", "freeze"]

MOST_VALUES = 1000
"""A text column with more different values has no domain: they are names or prose."""


@dataclass(frozen=True)
class FrozenColumn:
    """One column."""

    name: str
    type: ColumnType
    missing_share: float
    minimum: float | None = None
    """Of finite numbers."""
    maximum: float | None = None
    domain: tuple[str, ...] | None = None
    """All of a text column's values, sorted; None where they are too many."""


@dataclass(frozen=True)
class Schema:
    """The columns of one version's data."""

    query: str | None
    """The sha256 of the query, for telling a column that was lost from one that was left out."""
    columns: tuple[FrozenColumn, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON object kept as schema.json."""
        columns = [
            {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in ((field.name, getattr(column, field.name)) for field in fields(column))
                if value is not None
            }
            for column in self.columns
        ]
        for column in columns:
            column["missingShare"] = column.pop("missing_share")
        return {"format": 1, "query": self.query, "columns": columns}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Schema":
        """The schema of to_json's object; raises ValueError for another format."""
        if document.get("format") != 1:
            raise ValueError(f"schema.json has format {document.get('format')!r}; this Kaizen reads format 1")
        columns = tuple(
            FrozenColumn(
                name=column["name"],
                type=column["type"],
                missing_share=column["missingShare"],
                minimum=column.get("minimum"),
                maximum=column.get("maximum"),
                domain=tuple(column["domain"]) if "domain" in column else None,
            )
            for column in document["columns"]
        )
        return Schema(document["query"], columns)


def freeze(table: pa.Table, statistics: Statistics, data: Data) -> Schema:
    """The schema of a run's data; `statistics` are the table's."""
    ignored = {*data.apart, data.timestamp}
    columns = []
    for column in statistics.columns:
        if column.name in ignored:
            continue
        numeric = column.type in ("Integer", "Float")
        domain = None
        if column.type == "Text" and (column.distinct or 0) <= MOST_VALUES:
            domain = tuple(sorted(pc.unique(table[column.name].cast(pa.string()).drop_null()).to_pylist()))
        columns.append(
            FrozenColumn(
                name=column.name,
                type=column.type,
                missing_share=column.missing_share,
                minimum=float(column.minimum) if numeric and column.minimum is not None else None,
                maximum=float(column.maximum) if numeric and column.maximum is not None else None,
                domain=domain,
            )
        )
    return Schema(query_digest(data), tuple(columns))


def query_digest(data: Data) -> str | None:
    """Of the query's text; None without one."""
    return hashlib.sha256(data.query.encode()).hexdigest() if data.query else None
