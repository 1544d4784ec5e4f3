"""The sources' files become one Arrow table, by DuckDB, within the Pod's memory.

The query sees the sources' tables and nothing else: no other files, no network, no extensions.  Rows come in an order of their
own values, so that the same rows make the same model however they were spread over files.
"""

import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from kaizen.api.training_data import Data
from kaizen.api.training_gates import Gate
from kaizen.training.access import Access
from kaizen.training.data.database import connect, quoted
from kaizen.training.data.formats import check_headers, check_parquet, encoding_problem, reader
from kaizen.training.data.sources import SourceFile, SourceFiles, collect, no_space
from kaizen.training.errors import Failure, nearest

__all__ = ["Query", "Table", "ingest", "open_query"]

STEP = "Ingest"
SHOWN, CARETS = re.compile(r"LINE (\d+): (.*)"), re.compile(r"\^+")


@dataclass(frozen=True, eq=False)
class Table:
    """All rows, and what they were made from."""

    rows: pa.Table
    digest: str
    """Of the query and of every file's content; where the files lie does not count."""
    sources: tuple[SourceFiles, ...]

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """All sources' files."""
        return tuple(file for files in self.sources for file in files.files)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person might want to know about the files."""
        return tuple(note for files in self.sources for note in files.notes)


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


def ingest(data: Data, access: Access, scratch: Path, gates: Sequence[Gate] = ()) -> Table:
    """Read the sources and run the query; the columns that `gates` name must be there too.  Raises Failure."""
    with open_query(data, access, scratch, gates) as query:
        order = ", ".join(quoted(column) for column in sorted(query.columns, key=lambda column: column != data.timestamp))
        rows = query.select("*", f"ORDER BY {order}")
    if not rows.num_rows:
        raise Failure(STEP, "DataEmpty", "the query gives no rows" if data.query else f"{data.sources[0].where} holds no rows")
    return Table(rows, _digest(data, query.collected), query.collected)


@contextmanager
def open_query(data: Data, access: Access, scratch: Path, gates: Sequence[Gate] = ()) -> Iterator[Query]:
    """The query in a DuckDB that sees the sources and nothing else; nothing is computed yet.  Raises Failure."""
    collected = tuple(collect(source, access, scratch) for source in data.sources)
    with connect(scratch) as connection:
        _confine(connection, collected)
        for files in collected:
            _create_view(connection, files)
        text = _single_select(connection, data, collected)
        with _explained(data, collected):
            columns = tuple(connection.sql(text).columns)
        _check_columns(data, columns, gates)
        yield Query(data, collected, connection, text, columns)


def _confine(connection: duckdb.DuckDBPyConnection, collected: tuple[SourceFiles, ...]) -> None:
    readable = [str(file.path) for files in collected for file in files.files]
    connection.execute("SET allowed_paths = $1", [readable])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _create_view(connection: duckdb.DuckDBPyConnection, files: SourceFiles) -> None:
    if files.format == "Parquet":
        check_parquet(files.files)
    rows = reader(files.format, [file.path for file in files.files])
    try:
        connection.execute(f"CREATE VIEW {quoted(files.source)} AS SELECT * FROM {rows}")
        columns = connection.sql(f"FROM {quoted(files.source)}").columns if files.format == "CSV" else []
    except duckdb.Error as problem:
        message = encoding_problem(files.format, files.files) or f"source {files.source}: {_sentence(problem, (files,))}"
        raise Failure(STEP, "DataUnreadable", message) from problem
    check_headers(files.format, files.files, columns)


def _single_select(connection: duckdb.DuckDBPyConnection, data: Data, collected: tuple[SourceFiles, ...]) -> str:
    query = data.query or f"SELECT * FROM {quoted(collected[0].source)}"
    try:
        statements = connection.extract_statements(query)
    except duckdb.Error as problem:
        raise Failure(STEP, "QueryFailed", f"data.query{_place(problem, query)}: {_sentence(problem, collected)}") from problem
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise Failure(STEP, "QueryFailed", "data.query must be a single SELECT")
    return query.strip().rstrip(";")


@contextmanager
def _explained(data: Data, collected: tuple[SourceFiles, ...]) -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as problem:
        if "max_temp_directory_size" in str(problem):
            raise no_space("what the query sorts and joins") from problem
        message = "the query needs more memory than half of the container's limit: raise pod.resources.limits.memory"
        raise Failure(STEP, "QueryOutOfMemory", message) from problem
    except duckdb.Error as problem:
        if isinstance(problem, duckdb.IOException) and "No space left" in str(problem):
            raise no_space("what the query sorts and joins") from problem
        if isinstance(problem, (duckdb.IOException, duckdb.InvalidInputException)):
            broken = next(filter(None, (encoding_problem(files.format, files.files) for files in collected)), None)
            raise Failure(STEP, "DataUnreadable", broken or _sentence(problem, collected)) from problem
        where = f"data.query{_place(problem, data.query)}: " if data.query else ""
        raise Failure(STEP, "QueryFailed", f"{where}{_sentence(problem, collected)}") from problem


def _check_columns(data: Data, columns: tuple[str, ...], gates: Sequence[Gate]) -> None:
    """Every column that the spec names is there: said before anything is computed."""
    first: dict[str, str] = {}
    for column in columns:
        other = first.setdefault(column.casefold(), column)
        if other is not column:
            twice = f"column {column} twice" if other == column else f"the columns {other} and {column}, one name in SQL"
            raise Failure(STEP, "QueryFailed", f"the query gives {twice}: name each once")
    named = [
        ("data.target", data.target),
        *(("data.timestamp", name) for name in (data.timestamp,) if name),
        *(("data.keys", name) for name in data.keys),
        *(("data.sensitive", name) for name in data.sensitive),
        *(("data.features.exclude", name) for name in data.features.exclude),
        *(("data.split.groups", name) for name in data.split.groups),
        *(("data.expectations", expectation.column) for expectation in data.expectations),
        *((f"gate {gate.name}", name) for gate in gates for name in (*(gate.slices or ()), gate.sensitive_feature) if name),
    ]
    for field, column in named:
        if column not in columns:
            code = "TargetNotFound" if field == "data.target" else "ColumnNotFound"
            message = f"{field} names column {column}, which the data do not have: {nearest(column, columns)}"
            raise Failure(STEP, code, message)


def _digest(data: Data, collected: tuple[SourceFiles, ...]) -> str:
    digest = hashlib.sha256((data.query or "").encode())
    for files in collected:
        for sha256 in sorted(file.sha256 for file in files.files):
            digest.update(f"\n{files.source} {sha256}".encode())
    return f"sha256:{digest.hexdigest()}"


def _place(problem: Exception, query: str) -> str:
    """Where in the query, as DuckDB's caret shows it; empty when it does not."""
    lines = str(problem).splitlines()
    for line, caret in itertools.pairwise(lines):
        if (shown := SHOWN.fullmatch(line)) and CARETS.fullmatch(caret.strip()):
            number, text = int(shown[1]), shown[2]
            column = caret.index("^") - shown.start(2) + 1
            written = query.splitlines()[number - 1 : number]
            if text.startswith("...") and written:
                # A long line is shown from where it matters.
                column += max(written[0].find(text.strip(".")), 0) - len("...")
            return f", line {number}, column {column}"
    return ""


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
    told = [line for line in lines if not (SHOWN.fullmatch(line) or CARETS.fullmatch(line))]
    return " ".join(told[:2]).rstrip(".") if told else type(problem).__name__
