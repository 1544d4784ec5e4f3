"""What datasets/<digest>/ of the bucket keeps of a run's data: description, statistics, what a reproduction goes back to."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from kaizen.api.training_data import Data
from kaizen.training.data.croissant import QUERY_FILE, About, describe, query_text
from kaizen.training.data.ingest import Table
from kaizen.training.data.sources import NO_SPACE, SourceFile, no_space
from kaizen.training.data.statistics import Statistics
from kaizen.training.errors import Failure

__all__ = ["CROISSANT", "ROWS_FILE", "SNAPSHOT", "STATISTICS", "write_dataset"]

CROISSANT, STATISTICS, SNAPSHOT, ROWS_FILE = "croissant.json", "statistics.json", "snapshot.json", "rows.parquet"


def write_dataset(directory: Path, table: Table, statistics: Statistics, data: Data, about: About) -> tuple[str, ...]:
    """Write the files for datasets/<digest>/ into an empty directory; returns their names, croissant.json last.

    With data.snapshot None there is no snapshot; with References the files' names, digests, ETags and versions; with Copy the
    rows too.  Raises Failure.
    """
    copy = None
    written = [STATISTICS, QUERY_FILE]
    try:
        if data.snapshot == "Copy":
            copy = _copy(table, directory / ROWS_FILE)
            written.append(ROWS_FILE)
        _write(directory / STATISTICS, statistics.to_json())
        (directory / QUERY_FILE).write_text(query_text(data), encoding="utf-8")
        if data.snapshot != "None":
            _write(directory / SNAPSHOT, _snapshot(table, data, copy))
            written.append(SNAPSHOT)
        _write(directory / CROISSANT, describe(table, data, about, copy))
    except OSError as problem:
        if problem.errno in NO_SPACE:
            raise no_space("the copies of the data") from problem
        raise Failure("Ingest", "DataUnreadable", f"{problem.filename or directory}: {problem.strerror}") from problem
    return (*written, CROISSANT)


def _copy(table: Table, path: Path) -> SourceFile:
    pq.write_table(table.rows, path, compression="zstd")
    with path.open("rb") as file:
        return SourceFile(ROWS_FILE, path, hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def _snapshot(table: Table, data: Data, copy: SourceFile | None) -> dict[str, Any]:
    return {
        "format": 1,
        "digest": table.digest,
        "query": data.query,
        "rows": None if copy is None else _file(copy),
        "sources": [
            {"name": files.source, "format": files.format, "files": [_file(file) for file in files.files]}
            for files in table.sources
        ],
    }


def _file(file: SourceFile) -> dict[str, Any]:
    return {"name": file.name, "size": file.size, "sha256": file.sha256, "etag": file.etag, "version": file.version}


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
