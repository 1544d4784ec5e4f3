"""The counting Pod's main process: how many labelled rows are newer than what the serving version learned from.

The operator cannot read anybody's data, so it asks a Pod with the trainer's image and the namespace's own rights.  The
answer is the termination message.  DuckDB aggregates, so the table is never held as a whole; neither pandas nor
scikit-learn is imported, so that asking costs a second or two.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from kaizen.api.training_data import Data
from kaizen.training.access import Access
from kaizen.training.attempt import spec_from_environment
from kaizen.training.data.database import quoted
from kaizen.training.data.ingest import open_query
from kaizen.training.errors import Failure
from kaizen.training.pod import end, explain, say
from kaizen.training.spec import read_spec

__all__ = ["Count", "count", "main", "microseconds"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Count:
    """The answer."""

    rows: int
    newest: str | None
    """Time of the newest of them, as trainedUntil is written."""

    def to_json(self) -> dict[str, Any]:
        """As the operator reads it."""
        return {"rows": self.rows, "newest": self.newest}


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Count and leave the answer; returns the exit code."""
    begun = False
    try:
        spec = read_spec(spec_from_environment(environment))
        since = microseconds(environment.get("KAIZEN_COUNT_SINCE") or None)
        access = Access.from_environment(environment)
        begun = True
        with TemporaryDirectory(prefix="kaizen-") as scratch:
            found = count(spec.data, since, access, Path(scratch))
        print(f"{found.rows} labelled rows{f', the newest of {found.newest}' if found.newest else ''}", flush=True)
        say(environment, found.to_json())
        return 0
    except Exception as problem:
        return end(environment, explain(problem, "Ingest", begun=begun))


def count(data: Data, since: int | None, access: Access, scratch: Path) -> Count:
    """Count the rows that have a target and are newer than `since`, all that have one without it.  Raises Failure.

    Times and gaps mean what they mean in prepare.py.
    """
    if since is not None and data.timestamp is None:
        raise Failure("Ingest", "InvalidSpec", "spec.data.timestamp is needed to tell new rows from old: name that column")
    with open_query(data, access, scratch) as query:
        named = ", ".join(quoted(column) for column in (data.target, data.timestamp) if column)
        schema = query.select(named, "LIMIT 0").schema
        moment = "NULL" if data.timestamp is None else _moment(data.timestamp, schema.field(data.timestamp).type)
        labelled = _labelled(data.target, schema.field(data.target).type)
        wanted = labelled if since is None else f"{labelled} AND {moment} > {since}"
        table = query.select(
            f"count(*) FILTER ({wanted}) AS rows, max({moment}) FILTER ({wanted}) AS newest,"
            f" count(*) FILTER ({moment} IS NULL) AS timeless"
        )
    (found,) = table.to_pylist()
    if data.timestamp is not None and found["timeless"]:
        raise Failure("Prepare", "TimestampMissing", f"timestamp {data.timestamp} has no value in {found['timeless']} rows")
    return Count(found["rows"], None if found["newest"] is None else _iso(found["newest"]))


def microseconds(moment: str | None) -> int | None:
    """A moment as manifests have it, since 1970; raises ValueError."""
    if moment is None:
        return None
    time = datetime.fromisoformat(moment)
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - EPOCH) // MICROSECOND


def _moment(name: str, kind: pa.DataType) -> str:
    """SQL for a time in microseconds; finer ones are cut, as they were when trainedUntil was written."""
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        message = f"timestamp {name} is of type {kind}: write CAST({name} AS TIMESTAMP) AS {name} in data.query"
        raise Failure("Prepare", "TimestampInvalid", message)
    # epoch_us would round nanoseconds, and does not know those with a time zone.
    fine = pa.types.is_timestamp(kind) and kind.unit == "ns"
    return f"(epoch_ns({quoted(name)}) // 1000)" if fine else f"epoch_us({quoted(name)})"


def _labelled(name: str, kind: pa.DataType) -> str:
    there = f"{quoted(name)} IS NOT NULL"
    return f"{there} AND NOT isnan({quoted(name)})" if pa.types.is_floating(kind) else there


def _iso(moment: int) -> str:
    return (EPOCH + moment * MICROSECOND).isoformat().replace("+00:00", "Z")


if __name__ == "__main__":
    sys.exit(main())
