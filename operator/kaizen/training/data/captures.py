"""Rows that a service has answered, with the labels that came back for them, as one table.

The service's Pods write both as JSON lines (docs/bucket.md).  Each captured row becomes its inputs and declared keys under their
own names, and beside them CAPTURED_COLUMNS.  Of several labels for a row the newest counts.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from kaizen.api.training_data import CAPTURED_COLUMNS, DataSource
from kaizen.registry import errors, layout
from kaizen.training.access import Access
from kaizen.training.data.database import connect, quoted
from kaizen.training.errors import Failure

if TYPE_CHECKING:
    from kaizen.registry.store import Bucket

__all__ = ["Captured", "captured"]

LABELLED_SHARE = 0.5
"""At least, where the source says nothing."""
DOWNLOADS = 4
"""At once."""
OPTIONS = (
    "format = 'newline_delimited', union_by_name = true, sample_size = -1, map_inference_threshold = -1,"
    " field_appearance_threshold = 0"
)


@dataclass(frozen=True)
class Captured:
    """The table as a Parquet file."""

    path: Path
    sha256: str
    """Of the files it was made of, whatever DuckDB makes of them."""
    notes: tuple[str, ...]
    """What a person might want to know."""


def captured(source: DataSource, access: Access, scratch: Path) -> Captured:
    """Fetch and join the files of a source with `captures`.  Raises Failure and BucketError."""
    assert source.captures is not None
    service = source.captures.inference_service_name
    bucket, namespace = access.own(source)
    rows = _fetch(bucket, layout.captures(namespace, service), scratch / source.name / "captures")
    if not rows:
        message = (
            f"InferenceService {service} has captured nothing (source {source.name}): set its spec.capture and wait for requests"
        )
        raise Failure("Ingest", "DataMissing", message)
    labels = _fetch(bucket, layout.labels(namespace, service), scratch / source.name / "labels")
    path = scratch / source.name / "captures.parquet"
    with connect(scratch) as connection:
        try:
            _join(connection, rows, labels)
            notes = _checked(connection, source)
            connection.execute(f"COPY (FROM joined ORDER BY prediction_time, prediction_id) TO {_text(path)} (FORMAT parquet)")
        except duckdb.Error as problem:
            reason = str(problem).splitlines()[0]
            message = f"what InferenceService {service} captured cannot be read (source {source.name}): {reason}"
            raise Failure("Ingest", "DataUnreadable", message) from problem
    return Captured(path, _digest([*rows, *labels]), notes)


def _fetch(bucket: "Bucket", prefix: str, directory: Path) -> list[Path]:
    """The files below a prefix, in the order of their keys."""
    from kaizen.registry import files

    directory.mkdir(parents=True)
    keys = [entry.key for entry in bucket.list(prefix) if entry.key.endswith(".jsonl.gz")]

    def download(numbered: tuple[int, str]) -> Path | None:
        path = directory / f"{numbered[0]:06d}.jsonl.gz"
        try:
            files.download(bucket, numbered[1], path)
        except errors.Missing:
            return None  # its retention ended meanwhile
        return path

    with ThreadPoolExecutor(DOWNLOADS) as threads:
        return [path for path in threads.map(download, enumerate(keys)) if path is not None]


def _join(connection: duckdb.DuckDBPyConnection, rows: list[Path], labels: list[Path]) -> None:
    """Make the view `joined`."""
    connection.execute(f"CREATE VIEW rows AS FROM read_json({_list(rows)}, {OPTIONS})")
    own = {name: quoted(name) for name in _fields(connection, "inputs")}
    clash = next((name for name in own if name.casefold() in CAPTURED_COLUMNS), None)
    if clash is not None:
        raise Failure(
            "Ingest", "DataUnreadable", f"the service's input {clash} has the name of a column that captures bring: rename it"
        )
    predict = "outputs.predict" if "predict" in _fields(connection, "outputs") else "NULL"
    inputs = "".join(f"inputs.{name} AS {name}, " for name in own.values())
    connection.execute(
        f"CREATE VIEW answered AS SELECT {inputs}id AS prediction_id, time::TIMESTAMP AS prediction_time,"
        f" version::INTEGER AS prediction_version, {predict} AS prediction, probability::DOUBLE AS sampling_probability"
        " FROM rows QUALIFY row_number() OVER (PARTITION BY id ORDER BY time DESC) = 1"
    )
    sides = _labels(connection, labels, own) if labels else []
    joins = "".join(f" LEFT JOIN {side} ON {on}" for side, on in sides)
    label, time = (_first([f"{side}.{name}" for side, _ in sides]) for name in ("label", "label_time"))
    connection.execute(f"CREATE VIEW joined AS SELECT answered.*, {label} AS label, {time} AS label_time FROM answered{joins}")


def _labels(connection: duckdb.DuckDBPyConnection, labels: list[Path], own: dict[str, str]) -> list[tuple[str, str]]:
    """Views of the newest label by row id and by keys, each with what it is joined on."""
    connection.execute(f"CREATE VIEW labels AS FROM read_json({_list(labels)}, {OPTIONS})")
    columns = connection.sql("FROM labels").columns
    sides = []
    time = "time::TIMESTAMP" if "time" in columns else "NULL::TIMESTAMP"
    newest = f"ORDER BY {time} DESC NULLS LAST"
    if "id" in columns:
        connection.execute(
            f"CREATE VIEW by_id AS SELECT id, label, {time} AS label_time FROM labels WHERE id IS NOT NULL"
            f" QUALIFY row_number() OVER (PARTITION BY id {newest}) = 1"
        )
        sides.append(("by_id", "by_id.id = answered.prediction_id"))
    if "keys" in columns:
        keys = [own[name] for name in _fields(connection, "keys", "labels") if name in own]
        if keys:
            listed = ", ".join(f"keys.{name}::VARCHAR AS {name}" for name in keys)
            connection.execute(
                f"CREATE VIEW by_keys AS SELECT {listed}, label, {time} AS label_time FROM labels WHERE keys IS NOT NULL"
                f" QUALIFY row_number() OVER (PARTITION BY {', '.join(f'keys.{name}' for name in keys)} {newest}) = 1"
            )
            sides.append(("by_keys", " AND ".join(f"by_keys.{name} = answered.{name}::VARCHAR" for name in keys)))
    return sides


def _checked(connection: duckdb.DuckDBPyConnection, source: DataSource) -> tuple[str, ...]:
    """Raises Failure when too few rows have labels; notes what should be known of the others."""
    assert source.captures is not None
    found = connection.execute("SELECT count(*), count(label), min(sampling_probability), max(sampling_probability) FROM joined")
    total, labelled, least, most = found.fetchall()[0]
    wanted, service = source.captures.labelled_share_at_least, source.captures.inference_service_name
    wanted = LABELLED_SHARE if wanted is None else wanted
    if labelled < wanted * total:
        message = (
            f"of {total} rows that InferenceService {service} captured {labelled} have labels ({labelled / total:.1%}), and"
            f" captures.labelledShareAtLeast of source {source.name} asks for {wanted:.1%}: send labels to the service's feedback"
            " path, wait for them, or lower it"
        )
        raise Failure("Ingest", "LabelsMissing", message)
    notes = []
    if labelled < total:
        share = f"{total - labelled} of {total}"
        notes.append(f"{share} captured rows have no label: those that have may not be like the others (source {source.name})")
    if least is not None and least != most:
        notes.append(
            f"rows were captured with probabilities from {least:g} to {most:g}: thin them by sampling_probability in data.query"
            f" where that matters (source {source.name})"
        )
    return tuple(notes)


def _fields(connection: duckdb.DuckDBPyConnection, column: str, table: str = "rows") -> list[str]:
    """The names in a column of structures; none where it is something else."""
    relation = connection.sql(f"SELECT {column} FROM {table}")
    kind = relation.types[0]
    return [name for name, _ in kind.children] if kind.id == "struct" else []


def _first(expressions: list[str]) -> str:
    """The first that is not NULL."""
    return f"coalesce({', '.join(expressions)})" if expressions else "NULL"


def _list(paths: list[Path]) -> str:
    return "[" + ", ".join(_text(path) for path in paths) + "]"


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
