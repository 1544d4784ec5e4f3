"""Statistics and validation of 1,000,000 x 20 rows: seconds, and memory on top of the data; beside pandas' describe.

Run by hand, with the trainer's libraries:

    PYTHONPATH=operator python bench/training/validation.py [rows]

Each measurement is a child process of its own that makes the same table, so that its peak is its own: VmHWM, reset by
/proc/self/clear_refs once the data are there.  Medians of RUNS.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

RUNS = 5
LIMIT_SECONDS, LIMIT_MIB = 3.0, 500.0
HERE = Path(__file__)


def table(rows: int) -> Any:
    """Ten floats with gaps, four whole numbers, three texts, a key, a time and a class."""
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "time": pa.array(np.arange(rows) * 1_000_000, pa.timestamp("us", tz="UTC")),
        "key": pa.array([f"row-{number:09d}" for number in range(rows)]),
        "late": pa.array(random.random(rows) < 0.3),
    }
    for number in range(10):
        columns[f"float{number}"] = pa.array(random.normal(size=rows), mask=random.random(rows) < 0.05)
    for most in (10, 100, 10_000, 1_000_000_000):
        columns[f"whole{most}"] = pa.array(random.integers(0, most, rows))
    for most in (5, 300, 20_000):
        words = pa.array([f"word-{number}" for number in range(most)])
        columns[f"text{most}"] = words.take(pa.array(random.integers(0, most, rows)))
    return pa.table(columns)


def kaizen(data: Any) -> None:
    """What a run does before it prepares, with the schema of a serving version to hold the data against."""
    from kaizen.api.training_data import Data
    from kaizen.training.data.schema import freeze
    from kaizen.training.data.statistics import summarise
    from kaizen.training.data.validate import validate

    spec = {"sources": [{"name": "rows", "uri": "s3://lake/rows/"}], "target": "late", "timestamp": "time", "keys": ["key"]}
    expectations = [{"column": "float0", "minimum": -9, "maximum": 9}, {"column": "text5", "allowed": ["word-0", "word-1"]}]
    declared = Data.model_validate({**spec, "expectations": expectations})
    statistics = summarise(data)
    found = validate(data, statistics, declared, "Classification", freeze(data, statistics, declared))
    assert [anomaly.code for anomaly in found] == ["ENUM_TYPE_UNEXPECTED_STRING_VALUES"], found


def pandas(data: Any) -> None:
    """The same figures the usual way: describe, gaps, distinct and most frequent values, repeated rows."""
    frame = data.to_pandas()
    frame.describe(include="all")
    frame.isna().mean()
    for name in frame.columns:
        frame[name].nunique()
        frame[name].value_counts().head(20)
    frame.duplicated().sum()


WAYS: dict[str, Callable[[Any], None]] = {"kaizen": kaizen, "pandas": pandas}


def child(way: str, rows: int) -> None:
    """Measure one way; prints seconds, and MiB above the data."""
    import sklearn.tree  # noqa: F401 -- the trainer has it anyway

    data = table(rows)
    WAYS[way](data.slice(0, 1000)) if way == "pandas" else None  # imports
    Path("/proc/self/clear_refs").write_text("5")
    before, start, busy = resident("VmRSS"), time.perf_counter(), time.process_time()
    WAYS[way](data)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    print(json.dumps({"seconds": seconds, "cpu": busy, "mib": resident("VmHWM") - before, "data": data.nbytes / 2**20}))


def resident(field: str) -> float:
    """MiB of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def main() -> int:
    """Measure all ways and print them; 1 when Kaizen's is over its limits."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    medians = {}
    for way in WAYS:
        command = [sys.executable, str(HERE), "--child", way, str(rows)]
        runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(RUNS)]
        medians[way] = {name: median(run[name] for run in runs) for name in ("seconds", "cpu", "mib", "data")}
        one = medians[way]
        took = f"{one['seconds']:.2f} s ({one['cpu']:.2f} s of CPU)"
        print(f"{way}: {took}, {one['mib']:.0f} MiB on top of {one['data']:.0f} MiB of data", flush=True)
    ours, theirs = medians["kaizen"], medians["pandas"]
    print(f"{rows} rows, {os.cpu_count()} CPUs: pandas takes {theirs['seconds'] / ours['seconds']:.1f} times as long")
    return int(ours["seconds"] > LIMIT_SECONDS or ours["mib"] > LIMIT_MIB)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main())
