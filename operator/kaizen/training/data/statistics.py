"""What the columns of a table hold: counts, ranges, distributions.  All of it exact, one column in memory at a time.

Numbers and times are sorted once; texts are numbered once by Arrow.  The numbers also serve to digest the rows, so that repeated
ones are found without comparing texts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["QUANTILES", "ColumnStatistics", "ColumnType", "Histogram", "Statistics", "summarise", "type_of"]

ColumnType = Literal["Integer", "Float", "Boolean", "Text", "Time", "Nothing", "Other"]
"""Nothing: no value that would say; Other: nothing that a model could use."""
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BUCKETS = 20
MOST_TOP = 20
FEW = 1000
"""Different numbers of which the most frequent are told."""
GAP = np.uint64(0x9E3779B97F4A7C15)
"""Stands for a missing number in a row's digest."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Scalar = int | float | str | bool


@dataclass(frozen=True)
class Histogram:
    """Values by range: counts[i] of them lie from edges[i] to edges[i + 1], the upper end exclusive but for the last."""

    edges: tuple[float, ...]
    """Of equal width; of times, microseconds since 1970."""
    counts: tuple[int, ...]


@dataclass(frozen=True)
class ColumnStatistics:
    """One column.  Figures that its type does not have, or that no number can say, are None or empty."""

    name: str
    type: ColumnType
    rows: int
    missing: int
    """NULL, and NaN among floats."""
    distinct: int | None = None
    """Different values that are not missing."""
    infinite: int = 0
    """Not finite, not missing, and left out of what follows."""
    minimum: Scalar | None = None
    """Of texts in the order of code points; of times in ISO 8601."""
    maximum: Scalar | None = None
    mean: float | None = None
    """Of times, microseconds since 1970; of texts, their length in characters; of booleans, the share of true."""
    std: float | None = None
    """Of the values given, without Bessel's correction; in the unit of the mean."""
    quantiles: tuple[float, ...] = ()
    """At QUANTILES: the smallest value that is not below this share of all."""
    histogram: Histogram | None = None
    top: tuple[tuple[Scalar, int], ...] = ()
    """The most frequent values and their rows; of numbers when there are at most 1000 different ones."""

    @property
    def missing_share(self) -> float:
        """Of the rows."""
        return self.missing / self.rows if self.rows else 0.0

    def to_json(self) -> dict[str, Any]:
        """What there is, as a JSON object."""
        document = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.histogram:
            document["histogram"] = {"edges": list(self.histogram.edges), "counts": list(self.histogram.counts)}
        document["quantiles"] = list(self.quantiles)
        document["top"] = [list(pair) for pair in self.top]
        return {name: value for name, value in document.items() if value is not None and value != []}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "ColumnStatistics":
        """The statistics of to_json's object."""
        histogram = document.get("histogram")
        changed = {
            "quantiles": tuple(document.get("quantiles", ())),
            "histogram": Histogram(tuple(histogram["edges"]), tuple(histogram["counts"])) if histogram else None,
            "top": tuple((value, count) for value, count in document.get("top", ())),
        }
        return ColumnStatistics(**{**document, **changed})


@dataclass(frozen=True)
class Statistics:
    """A table."""

    rows: int
    columns: tuple[ColumnStatistics, ...]
    duplicates: int | None
    """Rows that are equal to an earlier one; None when a column's values cannot be compared."""
    first_duplicate: int | None = None
    """The first of them, counted from 0."""

    def __getitem__(self, name: str) -> ColumnStatistics:
        """One column; raises KeyError."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, ColumnStatistics]:
        return {column.name: column for column in self.columns}

    def to_json(self) -> dict[str, Any]:
        """The JSON object kept as statistics.json."""
        return {
            "format": 1,
            "rows": self.rows,
            "duplicates": self.duplicates,
            "firstDuplicate": self.first_duplicate,
            "quantiles": list(QUANTILES),
            "columns": [column.to_json() for column in self.columns],
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Statistics":
        """The statistics of to_json's object; raises ValueError for another format."""
        if document.get("format") != 1:
            raise ValueError(f"statistics.json has format {document.get('format')!r}; this Kaizen reads format 1")
        columns = tuple(ColumnStatistics.from_json(column) for column in document["columns"])
        return Statistics(document["rows"], columns, document["duplicates"], document["firstDuplicate"])


def summarise(table: pa.Table) -> Statistics:
    """The statistics of a table, each column looked at once."""
    digests: npt.NDArray[np.uint64] | None = np.zeros(table.num_rows, np.uint64)
    columns = []
    for name in table.column_names:
        found, codes = _column(name, table[name])
        columns.append(found)
        if codes is None:
            digests = None
        elif digests is not None:
            _mix(digests, codes)
    if digests is None:
        return Statistics(table.num_rows, tuple(columns), None)
    return Statistics(table.num_rows, tuple(columns), *_repeated(digests))


def type_of(kind: pa.DataType) -> ColumnType:
    """What a column of an Arrow type is to a person."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind):
        return "Integer"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "Float"
    if pa.types.is_boolean(kind):
        return "Boolean"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "Text"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "Time"
    return "Nothing" if pa.types.is_null(kind) else "Other"


Codes = npt.NDArray[np.uint64]
"""A number for each row: equal ones for equal values (rows,)."""


def _column(name: str, column: pa.ChunkedArray) -> tuple[ColumnStatistics, Codes | None]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind, rows = type_of(column.type), len(column)
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # more than 2 GiB of text
        array = pa.concat_arrays([chunk.cast(pa.large_string()) for chunk in column.chunks])
    if kind == "Other":
        return ColumnStatistics(name, kind, rows, array.null_count), None
    if kind == "Nothing" or not rows:
        return ColumnStatistics(name, kind, rows, array.null_count, 0), np.zeros(rows, np.uint64)
    if kind == "Text":
        return _texts(name, array)
    if kind == "Boolean":
        true, missing = pc.sum(array).as_py() or 0, array.null_count
        there = rows - missing
        top = tuple(sorted(((value, count) for value, count in ((True, true), (False, there - true)) if count), key=_frequency))
        ends = {"minimum": true == there, "maximum": true > 0} if there else {}
        mean = {"mean": true / there, "std": math.sqrt(true / there * (1 - true / there))} if there else {}
        codes = np.asarray(array.cast(pa.uint8()).fill_null(2).to_numpy(zero_copy_only=False), dtype=np.uint64)
        return ColumnStatistics(name, kind, rows, missing, len(top), **ends, **mean, top=top), codes
    return _numbers(name, kind, array)


def _numbers(name: str, kind: ColumnType, array: pa.Array) -> tuple[ColumnStatistics, Codes]:
    if kind == "Time":
        # Through microseconds: days and nanoseconds are not numbers of one unit.
        array = array.cast(pa.timestamp("us", tz=getattr(array.type, "tz", None)), safe=False).cast(pa.int64())
    elif kind == "Float" or array.type == pa.uint64():
        array = array.cast(pa.float64(), safe=False)
    else:
        array = array.cast(pa.int64())
    rows, infinite = len(array), 0
    full = array.fill_null(0).to_numpy(zero_copy_only=False)
    gaps = array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    missing = int(np.count_nonzero(gaps))
    codes = np.where(gaps, GAP, full.view(np.uint64)) if missing else full.view(np.uint64)
    values = full[~gaps] if missing else full
    if kind == "Float" and not (finite := np.isfinite(values)).all():
        infinite, values = int(np.count_nonzero(~finite)), values[finite]
    if not len(values):
        return ColumnStatistics(name, kind, rows, missing, 0, infinite), codes
    ordered = np.sort(values)
    starts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    top: tuple[tuple[Scalar, int], ...] = ()
    if len(starts) < FEW and kind != "Time":
        places = np.concatenate([[0], starts])
        counts = np.diff(np.append(places, len(ordered)))
        chosen = np.argsort(-counts, kind="stable")[:MOST_TOP]
        top = tuple(zip(ordered[places[chosen]].tolist(), counts[chosen].tolist(), strict=True))
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    ends = (_iso(int(ordered[0])), _iso(int(ordered[-1]))) if kind == "Time" else (ordered[0].item(), ordered[-1].item())
    at = np.ceil(np.array(QUANTILES) * len(ordered)).astype(np.int64) - 1
    found = ColumnStatistics(
        name=name,
        type=kind,
        rows=rows,
        missing=missing,
        distinct=len(starts) + 1,
        infinite=infinite,
        minimum=ends[0],
        maximum=ends[1],
        mean=_finite(mean),
        std=_finite(std),
        quantiles=tuple(ordered[np.maximum(at, 0)].astype(np.float64).tolist()),
        histogram=_histogram(ordered),
        top=top,
    )
    return found, codes


def _histogram(ordered: npt.NDArray[Any]) -> Histogram | None:
    with np.errstate(over="ignore", invalid="ignore"):
        edges = np.linspace(float(ordered[0]), float(ordered[-1]), BUCKETS + 1)
    if not np.isfinite(edges).all():
        return None
    if edges[0] == edges[-1]:
        return Histogram((float(edges[0]), float(edges[0])), (len(ordered),))
    below = np.searchsorted(ordered, edges[1:-1], side="left")
    counts = np.diff(np.concatenate([[0], below, [len(ordered)]]))
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()))


def _texts(name: str, array: pa.Array) -> tuple[ColumnStatistics, Codes]:
    encoded = array.dictionary_encode()
    missing = array.null_count
    indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    codes = indices.astype(np.int64).view(np.uint64)
    words = encoded.dictionary
    if not len(words):
        return ColumnStatistics(name, "Text", len(array), missing, 0), codes
    counts = np.bincount(indices[indices >= 0] if missing else indices, minlength=len(words))
    chosen = np.argsort(-counts, kind="stable")[:MOST_TOP]
    ends = pc.min_max(words).as_py()
    lengths = pc.utf8_length(words).to_numpy(zero_copy_only=False).astype(np.float64)
    mean = float(np.average(lengths, weights=counts))
    top = tuple((words[int(place)].as_py(), int(counts[place])) for place in chosen)
    found = ColumnStatistics(
        name=name,
        type="Text",
        rows=len(array),
        missing=missing,
        distinct=len(words),
        minimum=_short(ends["min"]),
        maximum=_short(ends["max"]),
        mean=mean,
        std=float(np.sqrt(np.average(np.square(lengths - mean), weights=counts))),
        top=tuple((_short(word), count) for word, count in top),
    )
    return found, codes


def _mix(digests: npt.NDArray[np.uint64], codes: Codes) -> None:
    """Take one more column into the digests of the rows, by the finisher of splitmix64 (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        digests *= np.uint64(0x2545F4914F6CDD1D)
        digests += codes
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            digests ^= digests >> np.uint64(shift)
            digests *= np.uint64(factor)
        digests ^= digests >> np.uint64(31)


def _repeated(digests: npt.NDArray[np.uint64]) -> tuple[int, int | None]:
    """How many rows repeat an earlier one, and the first that does.

    Two different rows of a billion have one digest with a probability of 3 %.
    """
    ordered = np.sort(digests)
    again = int(np.count_nonzero(ordered[1:] == ordered[:-1]))
    if not again:
        return 0, None
    _, first = np.unique(digests, return_index=True)
    repeats = np.ones(len(digests), dtype=np.bool_)
    repeats[first] = False
    return again, int(repeats.argmax())


def _frequency(pair: tuple[Scalar, int]) -> tuple[int, str]:
    return -pair[1], str(pair[0])


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"


def _iso(microseconds: int) -> str | None:
    try:
        return (EPOCH + timedelta(microseconds=microseconds)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return None
