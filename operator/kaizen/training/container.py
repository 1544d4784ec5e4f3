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
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen.api.training_job import TrainingJobSpec
from kaizen.registry import errors, layout
from kaizen.training.access import Access, bucket_from_environment
from kaizen.training.attempt import Attempt
from kaizen.training.errors import DO_NOT_RETRY, Failure
from kaizen.training.known import already_trained
from kaizen.training.pod import end, end_when_told, explain
from kaizen.training.progress import BucketProgress, LineProgress, Progress
from kaizen.training.run_files import RunFiles

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from kaizen.registry.store import Bucket
    from kaizen.training.ingest import Table
    from kaizen.training.job import Prepared
    from kaizen.training.prepare import Rows
    from kaizen.training.split import Parts
    from kaizen.training.trials import SearchProgress

__all__ = ["load_table", "main", "save_table", "schema", "write_data"]

STEP = "Prepare"
TABLE, RECORD = "table.arrow", "table.json"
TYPES = {"i": "Integer", "u": "Integer", "f": "Number", "b": "Boolean", "M": "Time"}


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Put the data where the user's code reads them; returns the exit code, 10 where there is nothing to train any more."""
    told, begun = _Told(), False
    try:
        attempt, directory = Attempt.from_environment(environment), Path(environment["KAIZEN_DATA_DIR"])
        bucket = bucket_from_environment(environment)
        begun = True
        if _is_done(bucket, attempt):
            print("an earlier attempt has finished this run", flush=True)
            return DO_NOT_RETRY
        if attempt.index == 0:
            told.open(bucket, f"{layout.attempt(attempt.namespace, attempt.job, attempt.pod)}progress.json")
        told.step("Ingest", "starting")
        # Imported late: the first progress is written before pandas is loaded.
        from kaizen.training.spec import read_spec

        spec = read_spec(attempt.spec)
        prepared = _prepared(spec, Access.from_environment(environment), told, RunFiles(bucket, attempt))
        if attempt.index == 0 and (same := already_trained(environment, prepared.table.digest)):
            _conclude(bucket, attempt, same)
            told.step("Done", f"version {same['version']} was made of the same data by the same recipe")
            return DO_NOT_RETRY
        with _room():
            write_data(prepared.parts, spec, directory)
            save_table(prepared.table, attempt.prepared or directory.parent / "prepared", told.begun)
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


def load_table(directory: Path) -> "tuple[Table, str]":
    """The table that the data step read, and when it began.  Raises Failure."""
    import pyarrow as pa

    from kaizen.training.ingest import Table
    from kaizen.training.sources import SourceFile, SourceFiles

    try:
        record = json.loads((directory / RECORD).read_text(encoding="utf-8"))
        with pa.memory_map(str(directory / TABLE)) as mapped:
            rows = pa.ipc.open_file(mapped).read_all()
    except (OSError, ValueError, pa.ArrowException) as problem:
        message = f"what the data step prepared cannot be read: {' '.join(str(problem).split())[:300]}"
        raise Failure(STEP, "PreparedDataMissing", message, retry=True) from problem
    sources = tuple(
        SourceFiles(
            **{
                **source,
                **{
                    kind: tuple(SourceFile(**{**file, "path": Path(file["path"])}) for file in source[kind])
                    for kind in ("files", "empty")
                },
            }
        )
        for source in record["sources"]
    )
    return Table(rows, record["digest"], sources), record["begun"]


class _Told:
    """Tells the log, and the bucket once that is known; remembers the step."""

    def __init__(self) -> None:
        self._all: list[Progress] = [LineProgress(sys.stdout)]
        self._bucket: BucketProgress | None = None
        self.current = "Ingest"
        self.begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def open(self, bucket: "Bucket", key: str) -> None:
        self._bucket = BucketProgress(lambda body: _write(bucket, key, body), begun=self.begun)
        self._all.append(self._bucket)

    def step(self, name: str, message: str = "") -> None:
        self.current = name if name not in ("Train", "Done") else self.current
        for one in self._all:
            one.step(name, message)

    def metric(self, name: str, value: float, dataset: str) -> None:
        for one in self._all:
            one.metric(name, value, dataset)

    def data(self, summary: Mapping[str, Any]) -> None:
        for one in self._all:
            one.data(summary)

    def search(self, search: "SearchProgress") -> None:
        for one in self._all:
            one.search(search)

    def close(self) -> None:
        if self._bucket is not None:
            self._bucket.close()


@contextmanager
def _room() -> Iterator[None]:
    """A full disk is what a person can mend."""
    try:
        yield
    except OSError as problem:
        if problem.errno != errno.ENOSPC:
            raise
        from kaizen.training.sources import no_space

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


def _is_done(bucket: "Bucket", attempt: Attempt) -> bool:
    try:
        bucket.read(layout.run_outcome(attempt.namespace, attempt.job))
    except errors.Missing:
        return False
    return True


def _conclude(bucket: "Bucket", attempt: Attempt, same: Mapping[str, Any]) -> None:
    """Name the version that this run would only make again, unless another attempt was first."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    outcome = {"format": 1, "pod": attempt.pod, "alreadyTrained": dict(same), "completionTime": now}
    try:
        bucket.create(layout.run_outcome(attempt.namespace, attempt.job), outcome)
    except errors.Conflict:
        print("another attempt was first", flush=True)


def _write(bucket: "Bucket", key: str, body: bytes) -> None:
    bucket.put(key, body, "application/json")


if __name__ == "__main__":
    end_when_told()
    sys.exit(main() if sys.argv[1:] == ["data"] else "usage: python -m kaizen.training.container data")
