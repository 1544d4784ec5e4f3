"""DuckDB as training uses it: within the Pod's memory, spilling to the scratch disk, in UTC."""

import os
from pathlib import Path

import duckdb

from kaizen.training.environment import CGROUP, limits

__all__ = ["connect", "quoted"]

MEMORY_SHARE = 0.5
"""Of the container's limit; the rest is for the table itself and the model."""


def connect(scratch: Path) -> duckdb.DuckDBPyConnection:
    """A database in memory; what does not fit goes below `scratch`."""
    connection = duckdb.connect(":memory:")
    limit, _ = limits(CGROUP)
    if limit is not None:
        connection.execute(f"SET memory_limit = '{int(limit * MEMORY_SHARE) // 2**20}MiB'")
    connection.execute(f"SET threads = {len(os.sched_getaffinity(0))}")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    connection.execute("SET temp_directory = $1", [str(scratch / "spill")])
    return connection


def quoted(name: str) -> str:
    """A name as it stands in SQL."""
    return '"' + name.replace('"', '""') + '"'
