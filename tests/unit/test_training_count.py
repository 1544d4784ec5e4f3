"""Counting new labelled rows: the same moments, gaps and errors as in training, without its libraries."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hack.paths import REPOSITORY
from kaizen.registry.errors import Refused
from kaizen.training import access
from kaizen.training.access import Access
from kaizen.training.count import Count, count, main, microseconds
from kaizen.training.data.ingest import ingest
from kaizen.training.data.prepare import Rows, iso, prepare
from kaizen.training.errors import DO_NOT_RETRY, Failure
from tests.support import training

ACCESS = Access(None)
HOURS = pd.date_range("2013-01-01", periods=120, freq="h")
LATEST = "2013-01-05T23:00:00Z"
"""Of those hours."""


def counted(path: Path, since: str | None = None, **changes: Any) -> Count:
    scratch = path.parent / "count"
    scratch.mkdir(exist_ok=True)
    return count(training.spec(path, **changes).data, microseconds(since), ACCESS, scratch)


def prepared(path: Path, **changes: Any) -> Rows:
    spec = training.spec(path, **changes)
    scratch = path.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    return prepare(ingest(spec.data, ACCESS, scratch).rows, spec)


def timed(times: Any) -> pa.Table:
    data = training.table(120)
    return data.set_column(data.schema.get_field_index("time"), "time", times)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return training.write(training.table(120), tmp_path / "rows.parquet")


NANOSECONDS = HOURS.as_unit("ns") + pd.to_timedelta(np.arange(120) % 2 * 500, unit="ns")
"""Every second one half a microsecond after its hour: a manifest names the hour."""
TIMES: dict[str, pa.Array] = {
    "of no zone": pa.array(HOURS, pa.timestamp("us")),
    "UTC": pa.array(HOURS, pa.timestamp("us", tz="UTC")),
    "another zone": pa.array(HOURS.tz_localize("Europe/Berlin"), pa.timestamp("us", tz="Europe/Berlin")),
    "milliseconds": pa.array(HOURS, pa.timestamp("ms")),
    "nanoseconds": pa.array(NANOSECONDS, pa.timestamp("ns")),
    "nanoseconds of a zone": pa.array(NANOSECONDS.tz_localize("UTC"), pa.timestamp("ns", tz="UTC")),
    "nanoseconds before 1970": pa.array(NANOSECONDS - pd.Timedelta(days=365 * 60), pa.timestamp("ns")),
    "days": pa.array(HOURS.date, pa.date32()),
    "days in milliseconds": pa.array(HOURS.date, pa.date64()),
}


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
def test_moments_are_those_of_training(tmp_path: Path, times: pa.Array) -> None:
    path = training.write(timed(times), tmp_path / "rows.parquet")
    known = prepared(path).times
    assert known is not None
    for number in (0, 60, 61, 118):
        new = known[known > known[number]]
        assert counted(path, iso(int(known[number]))) == Count(len(new), iso(int(new.max())) if len(new) else None)
    assert counted(path, iso(int(known.max()))) == Count(0, None)
    assert counted(path) == Count(120, iso(int(known.max())))


def test_manifest_names_the_moment_that_nothing_is_newer_than(rows: Path) -> None:
    assert prepared(rows).trained_until == LATEST
    assert counted(rows, LATEST) == Count(0, None)
    assert counted(rows, "2013-01-05T22:59:59.999999Z") == Count(1, LATEST)
    assert counted(rows, "2013-01-05T23:30:00+01:00") == Count(1, LATEST)
    assert counted(rows, "2013-01-05T22:00:00") == Count(1, LATEST)


def test_csv_as_pandas_reads_it(tmp_path: Path) -> None:
    lines = [f"{hour},{i},{i % 7}.5,{['True', 'False', ''][i % 3]}" for i, hour in enumerate(HOURS)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["time,flight,wind,late", *lines]))
    frame = pd.read_csv(path, parse_dates=["time"])
    new = frame[(frame["time"] > "2013-01-03 00:00") & frame["late"].notna()]
    found = counted(path, "2013-01-03T00:00:00Z", data={"features": {"exclude": []}})
    assert found == Count(len(new), f"{new['time'].max().isoformat()}Z")
    assert 0 < found.rows < 71


GAPS: dict[str, tuple[pa.Array, int]] = {
    "null classes": (pa.array([None, "a", "b"] * 40), 80),
    "null numbers": (pa.array([None, 1.5] * 60), 60),
    "not a number": (pa.array(np.where(np.arange(120) % 4 == 0, np.nan, 1.5)), 90),
    "not a number, single": (pa.array(np.where(np.arange(120) % 4 == 0, np.nan, 1.5).astype(np.float32)), 90),
    "dictionary": (pa.array([None, "a", "b"] * 40).dictionary_encode(), 80),
    "decimal": (pa.array([None, 1] * 60).cast(pa.decimal128(22, 2)), 60),
    "nothing at all": (pa.nulls(120), 0),
}


@pytest.mark.parametrize(("target", "labelled"), GAPS.values(), ids=GAPS)
def test_rows_without_a_target_do_not_count(tmp_path: Path, target: pa.Array, labelled: int) -> None:
    """Also where training would refuse them (targetMissing: Fail): labels often come late."""
    path = training.write(training.table(120).append_column("label", target), tmp_path / "rows.parquet")
    found = counted(path, "2012-12-31T00:00:00Z", data={"target": "label"})
    assert found.rows == labelled
    assert (found.newest is None) == (labelled == 0)


def test_query_files_and_window(tmp_path: Path) -> None:
    """The query decides what a row is, all files are read, and the window is training's business."""
    data = training.table(120)
    training.write(data.slice(0, 70), tmp_path / "lake" / "a.parquet")
    training.write(data.slice(70), tmp_path / "lake" / "b.parquet")
    frame = data.to_pandas()
    query = "SELECT * FROM rows WHERE wind > 10 -- windy\n;"
    assert counted(tmp_path / "lake", data={"query": query}).rows == int((frame["wind"] > 10).sum())
    assert counted(tmp_path / "lake", data={"windowSeconds": 3600}).rows == 120
    assert counted(tmp_path / "lake", data={"query": "SELECT * FROM rows WHERE wind > 1000"}) == Count(0, None)


def test_columns_may_have_any_name(tmp_path: Path) -> None:
    data = training.table(120).rename_columns(
        {"time": "newest", "late": "rows", "wind": 'the "wind"', "delay": "timeless", "carrier": "count"}
    )
    changes = {"timestamp": "newest", "target": "rows", "features": {"exclude": ['the "wind"']}}
    path = training.write(data, tmp_path / "rows.parquet")
    assert counted(path, "2013-01-05T20:00:00Z", data=changes) == Count(3, LATEST)


def test_empty_table_has_no_new_rows(tmp_path: Path) -> None:
    path = training.write(training.table(120).slice(0, 0), tmp_path / "rows.parquet")
    assert counted(path, "2013-01-03T00:00:00Z") == Count(0, None)
    assert counted(path) == Count(0, None)


def test_without_a_timestamp_all_rows_are_counted_and_none_is_new(rows: Path) -> None:
    assert counted(rows, data={"timestamp": None}) == Count(120, None)
    with pytest.raises(Failure, match="timestamp is needed to tell new rows from old") as failed:
        counted(rows, LATEST, data={"timestamp": None})
    assert failed.value.code == "InvalidSpec"


TEXTS, SOME = pa.array([str(hour) for hour in HOURS]), pa.array([None, *HOURS[1:]], pa.timestamp("us"))
FAILURES: dict[str, tuple[pa.Table | None, dict[str, Any], str]] = {
    "no file": (None, {}, "DataMissing"),
    "no such target": (training.table(120), {"target": "latte"}, "TargetNotFound"),
    "no such timestamp": (training.table(120), {"timestamp": "tine"}, "ColumnNotFound"),
    "no such column in the query": (training.table(120), {"query": "SELECT lat FROM rows"}, "QueryFailed"),
    "broken by a row": (training.table(120), {"query": "SELECT * REPLACE (carrier::INT AS late) FROM rows"}, "QueryFailed"),
    "not a SELECT": (training.table(120), {"query": "CREATE TABLE t (i INT)"}, "QueryFailed"),
    "a file of the Pod": (training.table(120), {"query": "SELECT * FROM read_csv('/etc/passwd')"}, "QueryFailed"),
    "time as text": (timed(TEXTS), {}, "TimestampInvalid"),
    "time with gaps": (timed(SOME), {}, "TimestampMissing"),
}


@pytest.mark.parametrize(("data", "changes", "code"), FAILURES.values(), ids=FAILURES)
def test_failures_are_those_of_training(tmp_path: Path, data: pa.Table | None, changes: dict[str, Any], code: str) -> None:
    path = tmp_path / "rows.parquet"
    if data is not None:
        training.write(data, path)
    with pytest.raises(Failure) as its:
        prepared(path, data=changes)
    with pytest.raises(Failure) as mine:
        counted(path, "2013-01-03T00:00:00Z", data=changes)
    assert mine.value.code == code
    assert (mine.value.step, mine.value.code, mine.value.retry) == (its.value.step, its.value.code, its.value.retry)
    # Which row it is costs another pass over the data; training says it.
    assert mine.value.message == its.value.message.split(", first in ")[0]


def test_it_needs_none_of_the_libraries_that_train(rows: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from kaizen.api.training_data import Data, DataSource;"
        "from kaizen.training.access import Access; from kaizen.training.count import count;"
        "source = DataSource.model_construct(name='rows', uri=sys.argv[1], format=None, secret_name=None);"
        "data = Data.model_construct(sources=[source], target='late', timestamp='time');"
        "print(count(data, 0, Access(None), Path(sys.argv[2])).rows, *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(rows), str(rows.parent)],
        env={"PYTHONPATH": str(REPOSITORY / "operator")},
        capture_output=True,
        text=True,
        check=True,
    )
    number, *modules = done.stdout.split()
    assert number == "120"
    assert {"sklearn", "pandas", "scipy", "treelite", "skops"}.isdisjoint(modules)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, rows: Path) -> training.MemoryBucket:
    """A lake of those rows."""
    made = training.MemoryBucket({"flights/all.parquet": rows.read_bytes()})
    monkeypatch.setattr(access.Access, "open", lambda self, source, name: made)
    return made


def environment(tmp_path: Path, since: str = "", **changes: Any) -> dict[str, str]:
    return {
        "KAIZEN_SPEC": json.dumps(training.document("s3://lake/flights/", **changes)),
        "KAIZEN_COUNT_SINCE": since,
        "KAIZEN_TERMINATION_LOG": str(tmp_path / "log"),
    }


def said(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "log").read_text())


def test_a_pod_leaves_its_answer(bucket: training.MemoryBucket, tmp_path: Path) -> None:
    assert main(environment(tmp_path, "2013-01-05T12:00:00Z")) == 0
    assert said(tmp_path) == {"rows": 11, "newest": LATEST}
    assert main(environment(tmp_path)) == 0
    assert said(tmp_path) == {"rows": 120, "newest": LATEST}
    assert bucket.written == []


def test_a_pod_says_why_it_failed(
    bucket: training.MemoryBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(environment(tmp_path, data={"target": "latte"})) == DO_NOT_RETRY
    assert (said(tmp_path)["step"], said(tmp_path)["code"]) == ("Ingest", "TargetNotFound")
    assert main(environment(tmp_path, task="Clustering")) == DO_NOT_RETRY
    assert said(tmp_path)["code"] == "InvalidSpec"
    assert main(environment(tmp_path, "last spring")) == DO_NOT_RETRY
    assert said(tmp_path)["code"] == "InvalidEnvironment"
    assert main({**environment(tmp_path), "KAIZEN_SPEC": ""}) == DO_NOT_RETRY
    assert said(tmp_path)["code"] == "InvalidEnvironment"

    def refused(prefix: str) -> Any:
        raise Refused("http://lake refused bucket lake")

    monkeypatch.setattr(bucket, "list", refused)
    assert main(environment(tmp_path)) == 1
    assert said(tmp_path)["code"] == "DataRefused"
    assert "Ingest failed: DataRefused: " in capsys.readouterr().err


def test_an_answer_that_cannot_be_left_is_a_failure(bucket: training.MemoryBucket, tmp_path: Path) -> None:
    assert main({**environment(tmp_path), "KAIZEN_TERMINATION_LOG": str(tmp_path / "none" / "log")}) == 1
