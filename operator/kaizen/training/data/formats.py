"""The file formats of sources: how DuckDB reads them, and what is looked at before it does.

Parquet files say what their columns are, so two files that disagree are an error.  CSV and JSON lines say nothing: a column has
the narrowest type that fits all of its values in all files.
"""

import codecs
import csv
import gzip
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from kaizen.training.errors import Failure

__all__ = ["SUFFIXES", "Format", "Named", "check_headers", "check_parquet", "encoding_problem", "is_empty", "reader", "suffix"]

Format = Literal["Parquet", "CSV", "JSONLines"]
SUFFIXES: dict[str, Format] = {
    ".parquet": "Parquet",
    ".csv": "CSV",
    ".csv.gz": "CSV",
    ".jsonl": "JSONLines",
    ".jsonl.gz": "JSONLines",
    ".ndjson": "JSONLines",
    ".ndjson.gz": "JSONLines",
}
STEP = "Ingest"
GZIP = b"\x1f\x8b"
PART_BYTES = 1 << 20
RENAMED = re.compile(r"(.+)_\d+")
"""What DuckDB makes of a name that a file has twice."""


class Named(Protocol):
    """A file, and how a person calls it."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path: ...


def suffix(name: str) -> str | None:
    """The suffix that says a file's format; None where it says none."""
    folded = name.lower()
    return next((suffix for suffix in SUFFIXES if folded.endswith(suffix)), None)


def reader(format_: Format, paths: Sequence[Path]) -> str:
    """SQL for the rows of all these files; a column that some of them lack is NULL there."""
    listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    options = "union_by_name = true, hive_partitioning = false"
    match format_:
        case "Parquet":
            return f"read_parquet([{listed}], {options})"
        case "CSV":
            # Types are taken from all rows: a text in the last one makes the column a text, not an error.
            return f"read_csv([{listed}], {options}, sample_size = -1)"
        case "JSONLines":
            return f"read_json([{listed}], {options}, sample_size = -1, format = 'newline_delimited')"


def is_empty(format_: Format, path: Path) -> bool:
    """Whether a file holds nothing at all: no byte, or blank lines only."""
    if not path.stat().st_size:
        return True
    if format_ == "Parquet":
        return False
    try:
        with _opened(path) as file:
            while part := file.read(PART_BYTES):
                if part.strip():
                    return False
    except (OSError, EOFError):
        return False  # DuckDB says what is wrong with it
    return True


def check_parquet(files: Sequence[Named]) -> None:
    """Each is a Parquet file without a name twice, and they agree on the columns' types.  Raises Failure."""
    first: dict[str, tuple[Named, pa.DataType]] = {}
    for file in files:
        try:
            schema = pq.read_schema(file.path)
        except (pa.ArrowException, OSError) as problem:
            message = f"{file.name} is not a Parquet file: {' '.join(str(problem).split())}"
            raise Failure(STEP, "DataUnreadable", message.rstrip(".")) from problem
        _check_names(file, schema.names)
        for field in schema:
            other, kind = first.setdefault(field.name, (file, field.type))
            if pa.types.is_null(kind):
                first[field.name] = (file, field.type)
            elif not pa.types.is_null(field.type) and _family(kind) != _family(field.type):
                message = (
                    f"column {field.name} is {kind} in {other.name} and {field.type} in {file.name}: write it with one type, "
                    "or read the files as two sources and CAST it in data.query"
                )
                raise Failure(STEP, "ColumnTypesDiffer", message)


def check_headers(format_: Format, files: Sequence[Named], columns: Sequence[str]) -> None:
    """No CSV file has a name twice, which DuckDB would number; `columns` are what it made of them.  Raises Failure."""
    names = {name.casefold() for name in columns}
    if format_ != "CSV" or not any((match := RENAMED.fullmatch(name)) and match[1] in names for name in names):
        return
    for file in files:
        with _opened(file.path) as opened:
            line = opened.readline().decode("utf-8-sig", "replace")
        _check_names(file, [name.strip() for name in next(csv.reader([line], delimiter=_delimiter(line)), [])])


def encoding_problem(format_: Format, files: Sequence[Named]) -> str | None:
    """Where the first text file that is not UTF-8 stops being it."""
    if format_ == "Parquet":
        return None
    for file in files:
        decoder, read = codecs.getincrementaldecoder("utf-8")(), 0
        try:
            with _opened(file.path) as opened:
                while part := opened.read(PART_BYTES):
                    held = len(decoder.getstate()[0])
                    try:
                        decoder.decode(part)
                    except UnicodeDecodeError as problem:
                        byte, position = problem.object[problem.start], read - held + problem.start
                        return f"{file.name} is not UTF-8: it has the byte 0x{byte:02X} at position {position}; save it as UTF-8"
                    read += len(part)
        except (OSError, EOFError):
            continue
    return None


def _check_names(file: Named, names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other is not name:
            twice = f"column {name} twice" if other == name else f"the columns {other} and {name}, which are one name in SQL"
            raise Failure(STEP, "DuplicateColumn", f"{file.name} has {twice}: rename one of them")


def _delimiter(line: str) -> str:
    return max(",;\t|", key=line.count)


def _family(kind: pa.DataType) -> str:
    """Types that can stand in one column."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_nested(kind):
        return "nested"
    return str(kind)


def _opened(path: Path) -> gzip.GzipFile | io.BufferedReader:
    with path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP
    return gzip.open(path) if packed else path.open("rb")
