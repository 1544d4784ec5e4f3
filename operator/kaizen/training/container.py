"""The steps around a user's own code: its data before, and what the last container takes over.

    data      ingest, prepare, split → train.parquet, test.parquet, schema.json for the code,
              and in a volume that the code does not see the very table for the last container
    (training, the user's image)
    trainer   kaizen.training.pod with KAIZEN_TRAINED_DIR: load_table, the same split, trained.read_model

The code can change neither the rows that judge it nor what is recorded of the data.
"""

import dataclasses
import errno
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen.api.training_job import TrainingJobSpec
from kaizen.core.times import timestamp
from kaizen.training.access import Access, bucket_from_environment
from kaizen.training.attempt import Attempt
from kaizen.training.errors import DO_NOT_RETRY, Failure
from kaizen.training.known import already_trained
from kaizen.training.pod import end, end_when_told, explain
from kaizen.training.progress import BucketProgress, LineProgress, Progress, Told
from kaizen.training.run_files import RunFiles

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from kaizen.training.data.ingest import Table
    from kaizen.training.data.prepare import Rows
    from kaizen.training.data.split import Parts
    from kaizen.training.job import Prepared

__all__ = ["load_table", "main", "save_table", "schema", "table_begun", "write_data"]

STEP = "Prepare"
TABLE, RECORD = "table.arrow", "table.json"
TYPES = {"i": "Integer", "u": "Integer", "f": "Number", "b": "Boolean", "M": "Time"}


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Put the data where the user's code reads them; returns the exit code, 10 where there is nothing to train any more."""
    told, begun = Told(LineProgress(sys.stdout)), False
    try:
        attempt, directory = Attempt.from_environment(environment), Path(environment["KAIZEN_DATA_DIR"])
        run_files, at = RunFiles(bucket_from_environment(environment), attempt), timestamp(datetime.now(UTC))
        begun = True
        if run_files.is_done():
            print("an earlier attempt has finished this run", flush=True)
            return DO_NOT_RETRY
        if attempt.index == 0:
            told.add(BucketProgress(run_files.progress, begun=at))
        told.step("Ingest", "starting")
        # Imported late: the first progress is written before pandas is loaded.
        from kaizen.training.spec import read_spec

        spec = read_spec(attempt.spec)
        prepared = _prepared(spec, Access.from_environment(environment), told, run_files)
        if attempt.index == 0 and (same := already_trained(environment, prepared.table.digest)):
            run_files.conclude({"alreadyTrained": dict(same)})
            told.step("Done", f"version {same['version']} was made of the same data by the same recipe")
            return DO_NOT_RETRY
        with _room():
            write_data(prepared.parts, spec, directory)
            save_table(prepared.table, attempt.prepared or directory.parent / "prepared", at)
        told.step("Train", spec.container.image if spec.container else "")
        return 0
    except Exception as problem:
        return end(environment, explain(problem, told.current, begun=begun))
    finally:
        told.close()


def write_data(parts: "Parts", spec: TrainingJobSpec, directory: Path) -> None:
    """train.parquet, test.parquet and schema.json as contracts.md has them.  Raises OSError."""
    import pyarrow.parquet as pq

    directory.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", parts.train), ("test", parts.test)):
        pq.write_table(_table(rows, spec.data.target), directory / f"{name}.parquet")
    (directory / "schema.json").write_text(json.dumps(schema(parts, spec), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def schema(parts: "Parts", spec: TrainingJobSpec) -> dict[str, Any]:
    """What the columns of the two files are: names, types, which one is the target, and which classes it has."""
    import pandas as pd

    train = parts.train
    # In scikit-learn's order; a test row of a class that is only there is judged as well.
    seen = pd.unique(pd.concat([pd.Series(train.target), pd.Series(parts.test.target)], ignore_index=True))
    return {
        "format": 1,
        "task": spec.task,
        "target": {"name": spec.data.target, "type": _type(pd.Series(train.target))},
        "classes": sorted(seen.tolist()) if spec.task == "Classification" else None,
        "features": [{"name": name, "type": _type(train.frame[name]), "kind": kind} for name, kind in train.kinds.items()],
        "sensitive": [str(name) for name in train.sensitive.columns],
        "rows": {"train": len(train), "test": len(parts.test)},
        "split": parts.method,
        "trainedUntil": train.trained_until,
    }


def save_table(table: "Table", directory: Path, begun: str) -> None:
    """Keep a table for load_table; `begun` is when the attempt did.  Raises OSError."""
    import pyarrow as pa

    directory.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(directory / TABLE), "wb") as file, pa.ipc.new_file(file, table.rows.schema) as writer:
        writer.write_table(table.rows)
    sources = [dataclasses.asdict(source) for source in table.sources]
    record = {"digest": table.digest, "sources": sources, "begun": begun}
    (directory / RECORD).write_text(json.dumps(record, default=str), encoding="utf-8")


def load_table(directory: Path) -> "Table":
    """The table that the data step read.  Raises Failure."""
    import pyarrow as pa

    from kaizen.training.data.ingest import Table
    from kaizen.training.data.sources import SourceFile, SourceFiles

    record = _record(directory)
    try:
        with pa.memory_map(str(directory / TABLE)) as mapped:
            rows = pa.ipc.open_file(mapped).read_all()
    except (OSError, pa.ArrowException) as problem:
        raise _unreadable(problem) from problem
    sources = tuple(
        SourceFiles(
            **{
                **source,
                "said": tuple(source["said"]),
                **{
                    kind: tuple(SourceFile(**{**file, "path": Path(file["path"])}) for file in source[kind])
                    for kind in ("files", "empty")
                },
            }
        )
        for source in record["sources"]
    )
    return Table(rows, record["digest"], sources)


def table_begun(directory: Path) -> str:
    """When the attempt began that read the table.  Raises Failure."""
    begun: str = _record(directory)["begun"]
    return begun


def _record(directory: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise _unreadable(problem) from problem
    return record


def _unreadable(problem: Exception) -> Failure:
    message = f"what the data step prepared cannot be read: {' '.join(str(problem).split())[:300]}"
    return Failure(STEP, "PreparedDataMissing", message, retry=True)


@contextmanager
def _room() -> Iterator[None]:
    """A full disk is what a person can mend."""
    try:
        yield
    except OSError as problem:
        if problem.errno != errno.ENOSPC:
            raise
        from kaizen.training.data.sources import no_space

        raise no_space("the prepared rows") from problem


def _prepared(spec: TrainingJobSpec, access: Access, progress: Progress, run_files: RunFiles) -> "Prepared":
    """Checked against the serving version's schema too: not only after hours of training."""
    from kaizen.training.job import Surroundings, prepare_run

    with tempfile.TemporaryDirectory(prefix="kaizen-") as scratch:
        champion, _ = run_files.champions(Path(scratch))
        return prepare_run(spec, Surroundings(access, progress, champion), Path(scratch))


def _table(rows: "Rows", target: str) -> "pa.Table":
    """Features, target, and the sensitive columns that are no features."""
    import pandas as pd
    import pyarrow as pa

    further = [name for name in rows.sensitive.columns if name not in rows.frame.columns and name != target]
    frame = pd.concat([rows.frame, pd.DataFrame({target: rows.target}), rows.sensitive[further]], axis=1)
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def _type(column: "pd.Series[Any]") -> str:
    return TYPES.get(column.dtype.kind, "Text")


if __name__ == "__main__":
    end_when_told()
    sys.exit(main() if sys.argv[1:] == ["data"] else "usage: python -m kaizen.training.container data")
