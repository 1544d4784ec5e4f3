"""The sources' files become one Arrow table, by DuckDB, within the Pod's memory.

The query sees the sources' tables and nothing else: no other files, no network, no extensions.  Rows come in an order of their
own values, so that the same rows make the same model however they were spread over files.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from kaizen.api.training_data import Data
from kaizen.training.access import Access
from kaizen.training.errors import Failure, nearest
from kaizen.training.sources import SourceFile, SourceFiles, collect

__all__ = ["Query", "Table", "ingest", "open_query", "quoted"]

STEP = "Ingest"
MEMORY_SHARE = 0.5
"""Of the container's limit; the rest is for the table itself and the model."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, eq=False)
class Table:
    """All rows, and what they were made from."""

    rows: pa.Table
    digest: str
    """Of the query and of every file's content; where the files lie does not count."""
    files: tuple[SourceFile, ...]


@dataclass(frozen=True, eq=False)
class Query:
    """A spec's query over its sources, ready to be run."""

    data: Data
    collected: tuple[SourceFiles, ...]
    connection: duckdb.DuckDBPyConnection
    text: str
    columns: tuple[str, ...]

    def select(self, what: str, then: str = "") -> pa.Table:
        """`what` of the query's rows; `then` are further clauses.  Raises Failure."""
        with _explained(self.data, self.collected):
            return self.connection.sql(f"SELECT {what} FROM (\n{self.text}\n) {then}").to_arrow_table()


def ingest(data: Data, access: Access, scratch: Path) -> Table:
    """Read the sources and run the query.  Raises Failure."""
    with open_query(data, access, scratch) as query:
        order = ", ".join(quoted(column) for column in sorted(query.columns, key=lambda column: column != data.timestamp))
        rows = query.select("*", f"ORDER BY {order}")
    if not rows.num_rows:
        raise Failure(STEP, "DataEmpty", "the query gives no rows" if data.query else f"{data.sources[0].uri} holds no rows")
    return Table(rows, _digest(data, query.collected), tuple(file for files in query.collected for file in files.files))


@contextmanager
def open_query(data: Data, access: Access, scratch: Path) -> Iterator[Query]:
    """The query in a DuckDB that sees the sources and nothing else; nothing is computed yet.  Raises Failure."""
    collected = tuple(collect(source, access, scratch) for source in data.sources)
    with duckdb.connect(":memory:") as connection:
        _confine(connection, scratch, collected)
        for files in collected:
            _create_view(connection, files)
        text = _single_select(connection, data, collected)
        with _explained(data, collected):
            columns = tuple(connection.sql(text).columns)
        _check_columns(data, columns)
        yield Query(data, collected, connection, text, columns)


def quoted(name: str) -> str:
    """A name as it stands in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _confine(connection: duckdb.DuckDBPyConnection, scratch: Path, collected: tuple[SourceFiles, ...]) -> None:
    spill = scratch / "spill"
    readable = [str(file.path) for files in collected for file in files.files]
    limit = _memory_limit()
    if limit is not None:
        connection.execute(f"SET memory_limit = '{int(limit * MEMORY_SHARE) // 2**20}MiB'")
    connection.execute(f"SET threads = {len(os.sched_getaffinity(0))}")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    connection.execute("SET temp_directory = $1", [str(spill)])
    connection.execute("SET allowed_paths = $1", [readable])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _create_view(connection: duckdb.DuckDBPyConnection, files: SourceFiles) -> None:
    paths = ", ".join(_text(str(file.path)) for file in files.files)
    options = "union_by_name = true, hive_partitioning = false"
    if files.format == "CSV":
        # Types are taken from all rows: a text in the last one makes the column a text, not an error.
        options += ", sample_size = -1"
        reader = f"read_csv([{paths}], {options})"
    else:
        reader = f"read_parquet([{paths}], {options})"
        for file in files.files:
            _check_parquet(file)
    try:
        connection.execute(f"CREATE VIEW {quoted(files.source)} AS SELECT * FROM {reader}")
    except duckdb.Error as problem:
        raise Failure(STEP, "DataUnreadable", f"source {files.source}: {_sentence(problem, (files,))}") from problem


def _check_parquet(file: SourceFile) -> None:
    try:
        pq.read_metadata(file.path)
    except (pa.ArrowException, OSError) as problem:
        raise Failure(STEP, "DataUnreadable", f"{file.name} is not a Parquet file: {_first_line(problem)}") from problem


def _single_select(connection: duckdb.DuckDBPyConnection, data: Data, collected: tuple[SourceFiles, ...]) -> str:
    query = data.query or f"SELECT * FROM {quoted(collected[0].source)}"
    try:
        statements = connection.extract_statements(query)
    except duckdb.Error as problem:
        raise Failure(STEP, "QueryFailed", f"data.query: {_sentence(problem, collected)}") from problem
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise Failure(STEP, "QueryFailed", "data.query must be a single SELECT")
    return query.strip().rstrip(";")


@contextmanager
def _explained(data: Data, collected: tuple[SourceFiles, ...]) -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as problem:
        message = "the query needs more memory than half of the container's limit: raise pod.resources.limits.memory"
        raise Failure(STEP, "QueryOutOfMemory", message) from problem
    except duckdb.Error as problem:
        code = "DataUnreadable" if isinstance(problem, (duckdb.IOException, duckdb.InvalidInputException)) else "QueryFailed"
        where = "data.query: " if data.query and code == "QueryFailed" else ""
        raise Failure(STEP, code, f"{where}{_sentence(problem, collected)}") from problem


def _check_columns(data: Data, columns: tuple[str, ...]) -> None:
    """Every column that the spec names is there: said before anything is computed."""
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise Failure(STEP, "QueryFailed", f"the query gives column {twice} twice: name each once")
    named = [
        ("target", data.target),
        *(("keys", key) for key in data.keys),
        *(("features.exclude", x) for x in data.features.exclude),
    ]
    if data.timestamp:
        named.append(("timestamp", data.timestamp))
    for field, column in named:
        if column not in columns:
            code = "TargetNotFound" if field == "target" else "ColumnNotFound"
            raise Failure(
                STEP, code, f"data.{field} names column {column}, which the data do not have: {nearest(column, columns)}"
            )


def _digest(data: Data, collected: tuple[SourceFiles, ...]) -> str:
    digest = hashlib.sha256((data.query or "").encode())
    for files in collected:
        for sha256 in sorted(file.sha256 for file in files.files):
            digest.update(f"\n{files.source} {sha256}".encode())
    return f"sha256:{digest.hexdigest()}"


def _memory_limit() -> int | None:
    """Bytes that this container may use; None when there is no limit."""
    try:
        text = CGROUP_LIMIT.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sentence(problem: Exception, collected: tuple[SourceFiles, ...]) -> str:
    """What is wrong, in one line, with the file named as the user knows it."""
    sentence = _first_line(problem)
    for file in (file for files in collected for file in files.files):
        if str(file.path) in sentence:
            return sentence.replace(str(file.path), file.name)
        if str(file.path) in str(problem):
            return f"{file.name}: {sentence}"
    return sentence


def _first_line(problem: Exception) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return " ".join(lines[:2]).rstrip(".") if lines else type(problem).__name__
