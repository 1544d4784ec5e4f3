"""Bad input: each with its step, its stable code, and the sentence that a user sees."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kaizen.api.training_data import DataSource
from kaizen.api.training_job import Estimator
from kaizen.registry import errors
from kaizen.training.access import Access
from kaizen.training.data.ingest import Table, ingest
from kaizen.training.data.prepare import Rows, prepare
from kaizen.training.errors import DO_NOT_RETRY, Failure, nearest
from kaizen.training.models.estimators import choose
from kaizen.training.models.fit import fit
from tests.support import training

ACCESS = Access(None)


def made(path: Path, **changes: Any) -> tuple[Table, Rows]:
    spec = training.spec(path, **changes)
    (path.parent / "scratch").mkdir(exist_ok=True)
    found = ingest(spec.data, ACCESS, path.parent / "scratch")
    return found, prepare(found.rows, spec)


def failure(path: Path, **changes: Any) -> Failure:
    with pytest.raises(Failure) as failed:
        made(path, **changes)
    return failed.value


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return training.write(training.table(100), tmp_path / "rows.parquet")


ESTIMATORS = {
    "unknown name": ("HistGradientBostingClassifier", {}, "did you mean HistGradientBoostingClassifier or "),
    "nothing like it": (
        "Oracle",
        {},
        "there is no estimator Oracle: there are AdaBoostClassifier, BaggingClassifier",
    ),
    "of the other task": ("HistGradientBoostingRegressor", {}, "is for task Regression, not Classification: did you mean Hist"),
    "unknown parameter": (
        "RandomForestClassifier",
        {"n_estimator": 5},
        "has no parameter n_estimator: did you mean n_estimators",
    ),
    "value out of range": (
        "RandomForestClassifier",
        {"n_estimators": 0},
        "'n_estimators' parameter of RandomForestClassifier must be",
    ),
    "value of another type": ("LogisticRegression", {"C": "large"}, "The 'C' parameter of LogisticRegression must be a float"),
    "set by Kaizen": (
        "HistGradientBoostingClassifier",
        {"categorical_features": [0]},
        "cannot be set: it follows from the columns'",
    ),
    "left to the number of rows": ("HistGradientBoostingClassifier", {"early_stopping": "auto"}, "must be true or false here"),
}


@pytest.mark.filterwarnings("ignore")  # scikit-learn's list of all estimators imports what it deprecates
@pytest.mark.parametrize(("name", "parameters", "sentence"), ESTIMATORS.values(), ids=ESTIMATORS)
def test_invalid_estimator(name: str, parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Failure) as failed:
        choose(Estimator(name=name, parameters=parameters), "Classification")
    assert failed.value.code == "InvalidEstimator"
    assert failed.value.exit_code == DO_NOT_RETRY
    assert sentence in failed.value.message
    assert "\n" not in failed.value.message


def test_parameters_that_do_not_fit_each_other(rows: Path) -> None:
    _, prepared = made(rows)
    choice = choose(Estimator(name="LogisticRegression", parameters={"solver": "lbfgs", "l1_ratio": 1.0}), "Classification")
    with pytest.raises(Failure, match="LogisticRegression cannot be fitted: Solver lbfgs") as failed:
        fit(choice, prepared, {})
    assert failed.value.code == "InvalidEstimator"


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    found = failure(tmp_path / "none.parquet")
    assert (found.code, found.step) == ("DataMissing", "Ingest")
    assert found.message == f"there are no files at {tmp_path}/none.parquet (source rows)"
    assert failure(tmp_path / "2013-*.parquet").code == "DataMissing"
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    found = failure(tmp_path / "broken.parquet")
    assert found.code == "DataUnreadable"
    assert found.message.startswith(f"{tmp_path}/broken.parquet is not a Parquet file: ")
    (tmp_path / "torn.csv").write_bytes(b"PK\x03\x04 \xff\xfe\x00\n\x80\x81")
    found = failure(tmp_path / "torn.csv")
    assert found.code == "DataUnreadable"
    assert "torn.csv" in found.message
    (tmp_path / "notes.txt").write_text("hello")
    assert failure(tmp_path / "notes.txt").message.startswith(f"{tmp_path}/notes.txt ends in none of .parquet, .csv, .csv.gz")


def test_no_rows(tmp_path: Path) -> None:
    path = training.write(training.table(100).slice(0, 0), tmp_path / "rows.parquet")
    found = failure(path)
    assert (found.code, found.message) == ("DataEmpty", f"{path} holds no rows")


QUERIES = {
    "no such column": ("SELECT lat FROM rows", "QueryFailed", 'Referenced column "lat" not found'),
    "no such table": ("SELECT * FROM flights", "QueryFailed", "Table with name flights does not exist"),
    "no SQL": ("SELEC 1", "QueryFailed", 'syntax error at or near "SELEC"'),
    "two statements": ("SELECT 1; SELECT 2", "QueryFailed", "data.query must be a single SELECT"),
    "not a SELECT": ("CREATE TABLE t (i INT)", "QueryFailed", "data.query must be a single SELECT"),
    "a file of the Pod": ("SELECT * FROM read_csv('/etc/passwd')", "QueryFailed", "disabled by configuration"),
    "no rows left": ("SELECT * FROM rows WHERE wind > 1000", "DataEmpty", "the query gives no rows"),
    "a column twice": ("SELECT *, wind FROM rows", "QueryFailed", "the query gives column wind twice: name each once"),
    "no target": ("SELECT * EXCLUDE (late), late AS lat FROM rows", "TargetNotFound", "did you mean lat"),
    "no key": (
        "SELECT * EXCLUDE (flight) FROM rows",
        "ColumnNotFound",
        "data.keys names column flight, which the data do not have",
    ),
}


@pytest.mark.parametrize(("query", "code", "sentence"), QUERIES.values(), ids=QUERIES)
def test_queries(rows: Path, query: str, code: str, sentence: str) -> None:
    found = failure(rows, data={"query": query})
    assert found.code == code
    assert sentence in found.message
    assert "\n" not in found.message


def replaced(name: str, values: Any) -> pa.Table:
    data = training.table(100)
    return data.set_column(data.schema.get_field_index(name), name, pa.array(values))


STAMPS = training.table(100)["time"].to_pylist()
COLUMNS = {
    "target constant": (replaced("late", [True] * 100), "TargetConstant", "target late is True in all 100 rows"),
    "target with gaps": (
        replaced("late", [True, None, False, None] * 25),
        "TargetMissing",
        "target late has no value in 50 of 100 rows, first in row 2 (time=2013-01-01 01:00:00+00:00, flight=1001): set data.",
    ),
    "fractions as classes": (
        replaced("late", [0.0, 0.5] * 50),
        "TargetInvalid",
        "target late is 0.5 in row 2 (time=2013-01-01 01:00:00+00:00, flight=1001): classes are texts, booleans or whole numbers",
    ),
    "an infinite class": (
        replaced("late", [0.0, 1.0, float("inf"), 1.0] * 25),
        "TargetInvalid",
        "target late is inf in row 3 (time=2013-01-01 02:00:00+00:00, flight=1002): classes are texts, booleans or whole numbers",
    ),
    "a class that is not a number": (
        replaced("late", [0.0, 1.0, float("nan"), 1.0] * 25),
        "TargetMissing",
        "target late has no value in 25 of 100 rows, first in row 3 (time=2013-01-01 02:00:00+00:00, flight=1002): set data.",
    ),
    "infinite feature": (
        replaced("wind", [float("inf") if i == 3 else 1.0 * i for i in range(100)]),
        "ColumnNotFinite",
        "column wind is inf in row 4 (time=2013-01-01 03:00:00+00:00, flight=1003): make it NULL",
    ),
    "nested feature": (replaced("wind", [[1, 2]] * 100), "ColumnUnsupported", "column wind is of type list<"),
    "dictionary feature": (replaced("wind", [{"a": 1}] * 100), "ColumnUnsupported", "column wind is of type struct<a: int64>"),
    "time of day": (replaced("wind", [dt.time(12)] * 100), "ColumnUnsupported", "column wind is of type time64[us]"),
    "time as text": (
        replaced("time", [str(stamp) for stamp in STAMPS]),
        "TimestampInvalid",
        "timestamp time is of type string: write CAST(time AS TIMESTAMP) AS time in data.query",
    ),
    "time with gaps": (
        replaced("time", [None, *STAMPS[1:]]),
        "TimestampMissing",
        "timestamp time has no value in 1 rows, first in row",
    ),
    "few rows": (training.table(40), "TooFewRows", "there are 40 rows with a target; data.minimumRows is 50"),
}


@pytest.mark.parametrize(("data", "code", "sentence"), COLUMNS.values(), ids=COLUMNS)
def test_columns(tmp_path: Path, data: pa.Table, code: str, sentence: str) -> None:
    found = failure(training.write(data, tmp_path / "rows.parquet"))
    assert found.code == code
    assert sentence in found.message
    assert not found.retry


def test_target_for_the_task(tmp_path: Path) -> None:
    path = training.write(training.table(150), tmp_path / "rows.parquet")
    ridge = {"task": "Regression", "estimator": {"name": "Ridge"}}
    found = failure(path, data={"target": "carrier"}, **ridge)
    assert found.message.startswith("target carrier has no value in")
    found = failure(path, data={"target": "carrier", "targetMissing": "Drop"}, **ridge)
    assert found.message == "target carrier is of type string: task Regression needs numbers"
    infinite = replaced("delay", [1.0, 2.0, float("-inf"), *range(97)])
    found = failure(training.write(infinite, tmp_path / "infinite.parquet"), data={"target": "delay", "features": {}}, **ridge)
    assert found.message.startswith(
        "target delay is -inf in row 3 (time=2013-01-01 02:00:00+00:00, flight=1002): task Regression"
    )
    found = failure(path, data={"target": "distance"})
    assert found.code == "TargetInvalid"
    assert "different values, more than 100: use task Regression, or group them" in found.message


def test_no_features(rows: Path) -> None:
    everything = ["delay", "distance", "wind", "carrier", "weekend"]
    assert failure(rows, data={"features": {"exclude": everything}}).code == "NoFeatures"


def test_what_is_read(tmp_path: Path) -> None:
    """Parts of a directory, hidden files left alone; types kept; gaps marked; rows without target dropped and counted."""
    data = training.table(120)
    gaps = pa.array([None if number % 10 == 0 else value for number, value in enumerate(data["late"].to_pylist())])
    data = data.set_column(data.schema.get_field_index("late"), "late", gaps)
    training.write(data.slice(0, 70), tmp_path / "lake" / "2013-01.parquet")
    training.write(data.slice(70), tmp_path / "lake" / "2013-02.parquet")
    (tmp_path / "lake" / "_SUCCESS").write_text("")
    (tmp_path / "lake" / ".part.parquet.crc").write_text("")
    table, rows = made(tmp_path / "lake", data={"targetMissing": "Drop"})
    assert len(table.files) == 2
    assert (len(rows), rows.dropped, rows.trained_until) == (108, 12, "2013-01-05T23:00:00Z")
    assert {name: str(dtype) for name, dtype in rows.frame.dtypes.items()} == {
        "distance": "int64",
        "wind": "float64",
        "carrier": "object",
        "weekend": "bool",
    }
    assert rows.frame["carrier"].map(type).isin([str, float]).all()
    assert rows.kinds["carrier"] == "Categorical"
    _, windowed = made(tmp_path / "lake", data={"targetMissing": "Drop", "windowSeconds": 72 * 3600})
    assert len(windowed) == 65


def test_columns_of_slices_and_fairness(tmp_path: Path) -> None:
    """Carried along, and no features unless features.include says so or they were features anyway."""
    path = training.write(training.table(120), tmp_path / "rows.parquet")
    gates = [
        {"name": "fair", "metric": "equalized_odds_difference", "atMost": 0.5, "sensitiveFeature": "weekend"},
        {"name": "slices", "metric": "accuracy", "atLeast": 0.1, "slices": ["wind", "carrier", "time"]},
    ]
    _, rows = made(path, data={"sensitive": ["carrier"]}, gates=gates)
    assert list(rows.sensitive.columns) == ["carrier", "weekend", "wind", "time"]
    assert list(rows.kinds) == list(rows.frame.columns) == ["distance", "wind", "weekend"]
    assert [str(dtype) for dtype in rows.sensitive.dtypes] == ["object", "bool", "float64", "object"]
    assert rows.sensitive["time"].iloc[0].startswith("2013-01-01 00:00:00")
    assert rows.groups is None
    _, rows = made(path, data={"sensitive": ["carrier"], "features": {"include": ["carrier"]}})
    assert rows.kinds["carrier"] == "Categorical"
    assert rows.frame["carrier"].equals(rows.sensitive["carrier"])


def test_dates_are_features(tmp_path: Path) -> None:
    days = [None, *(dt.date(2013, 1, 1 + i % 9) for i in range(119))]
    berlin = [dt.datetime(2013, 1, 1, 0, 0, tzinfo=dt.timezone(dt.timedelta(hours=1)))] * 119 + [None]
    data = training.table(120).append_column("day", pa.array(days))
    data = data.append_column("since", pa.array(berlin, pa.timestamp("ns", tz="Europe/Berlin")))
    path = training.write(data, tmp_path / "rows.parquet")
    _, rows = made(path, data={"features": {"include": ["time"]}})
    assert {str(rows.frame[name].dtype) for name in ("time", "day", "since")} == {"datetime64[us]"}
    assert {rows.kinds[name] for name in ("time", "day", "since")} == {"Numeric"}
    assert rows.times is not None
    assert np.array_equal(rows.frame["time"].to_numpy().astype(np.int64), rows.times)
    assert np.isnat(rows.frame["day"].to_numpy()[0])
    assert rows.frame["since"].to_numpy()[0] == np.datetime64("2012-12-31T23:00:00")
    _, rows = made(path)
    assert "time" not in rows.kinds


GROUPED = {"split": {"method": "Grouped", "groups": ["tail", "weekend"]}}


def test_groups(tmp_path: Path) -> None:
    """Equal values, gaps too, are one group; its number follows from them alone, and they are no features."""
    tails = [None if i % 10 == 0 else i % 7 for i in range(120)]
    data = training.table(120).append_column("tail", pa.array(tails, pa.int64()))
    _, rows = made(training.write(data, tmp_path / "rows.parquet"), data=GROUPED)
    assert rows.groups is not None
    assert rows.groups.dtype == np.int64
    wanted = list(zip(tails, data["weekend"].to_pylist(), strict=True))
    assert len({(group, values) for group, values in zip(rows.groups.tolist(), wanted, strict=True)}) == len(set(wanted))
    assert len(set(rows.groups.tolist())) == len(set(wanted))
    assert {"tail", "weekend"}.isdisjoint(rows.kinds)
    filled = data.set_column(data.schema.get_field_index("tail"), "tail", pa.array([i % 7 for i in range(120)], pa.int8()))
    _, others = made(training.write(filled.slice(1), tmp_path / "filled.parquet"), data=GROUPED)
    assert others.groups is not None
    same = np.arange(1, 120) % 10 != 0
    assert np.array_equal(others.groups[same], rows.groups[1:][same])


def test_groups_of_lists(tmp_path: Path) -> None:
    data = training.table(120).append_column("tail", pa.array([[1]] * 120))
    found = failure(training.write(data, tmp_path / "rows.parquet"), data=GROUPED)
    assert found.message == "split.groups names column tail of type list<l: int64>: groups are texts, numbers, booleans or dates"


def test_rows_are_taken_by_mask_or_number(tmp_path: Path) -> None:
    data = training.table(120).append_column("tail", pa.array([i % 7 for i in range(120)]))
    _, rows = made(training.write(data, tmp_path / "rows.parquet"), data={**GROUPED, "sensitive": ["carrier"]})
    mask = np.arange(120) % 3 == 0
    one, other = rows.take(mask), rows.take(np.flatnonzero(mask))
    for taken in (one, other):
        assert taken.groups is not None
        assert taken.times is not None
        assert rows.groups is not None
        assert rows.times is not None
        assert np.array_equal(taken.groups, rows.groups[mask])
        assert np.array_equal(taken.times, rows.times[mask])
        for part in ("frame", "identity", "sensitive"):
            assert getattr(taken, part).equals(getattr(rows, part)[mask].reset_index(drop=True))
    assert list(rows.take(np.array([5, 2])).frame["distance"]) == [rows.frame["distance"][5], rows.frame["distance"][2]]


def test_the_digest_is_of_content_and_query(tmp_path: Path, rows: Path) -> None:
    first, _ = made(rows)
    again, _ = made(training.write(training.table(100), tmp_path / "elsewhere" / "other.parquet"))
    other, _ = made(training.write(training.table(100, seed=1), tmp_path / "third.parquet"))
    asked, _ = made(rows, data={"query": "SELECT * FROM rows"})
    assert first.digest == again.digest
    assert len({first.digest, other.digest, asked.digest}) == 3
    assert first.rows.equals(again.rows)


def test_csv(tmp_path: Path) -> None:
    lines = [
        "time,flight,wind,late",
        *(f"2013-01-{1 + i // 24:02d} {i % 24:02d}:00:00,{i},{i % 7}.5,{i % 3 == 0}" for i in range(96)),
    ]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    _, rows = made(tmp_path / "rows.csv", data={"features": {"exclude": []}})
    assert rows.target.dtype == np.bool_
    assert len(rows) == 96


class FailingAccess(Access):
    """Whose bucket answers with one problem."""

    def open(self, source: DataSource, name: str) -> Any:
        """A bucket that raises."""
        raise self.problem  # type: ignore[attr-defined]


S3 = {
    errors.Refused("http://lake:7070 refused bucket lake to the credentials of Secret lake"): ("DataRefused", True),
    errors.Unreachable("bucket lake at http://lake:7070 cannot be reached: it did not answer in time"): ("DataUnreachable", True),
    errors.NoBucket("there is no bucket lake at http://lake:7070"): ("DataMissing", False),
}


@pytest.mark.parametrize(("problem", "expected"), S3.items(), ids=[code for code, _ in S3.values()])
def test_s3_problems(tmp_path: Path, problem: errors.BucketError, expected: tuple[str, bool]) -> None:
    access = FailingAccess(None)
    object.__setattr__(access, "problem", problem)
    with pytest.raises(Failure) as failed:
        ingest(training.spec("s3://lake/flights/").data, access, tmp_path)
    assert (failed.value.code, failed.value.retry) == expected
    assert failed.value.message == f"source rows (s3://lake/flights/): {problem}"


class MemoryAccess(Access):
    """Whose every bucket is one in memory."""

    def open(self, source: DataSource, name: str) -> Any:
        """The bucket."""
        return self.bucket  # type: ignore[attr-defined]


def test_prefixes_and_globs_in_s3(tmp_path: Path) -> None:
    body = training.write(training.table(100), tmp_path / "rows.parquet").read_bytes()
    names = (
        "lake/2013-01.parquet",
        "lake/2013-02.parquet",
        "lake/deep/2013-03.parquet",
        "lake/_tmp/x.parquet",
        "lakeside.parquet",
    )
    access = MemoryAccess(None)
    object.__setattr__(access, "bucket", training.MemoryBucket(dict.fromkeys(names, body)))

    def found(uri: str) -> list[str]:
        scratch = tmp_path / f"{abs(hash(uri))}"
        return [file.name for file in ingest(training.spec(uri).data, access, scratch).files]

    assert found("s3://b/lake/") == [f"s3://b/{name}" for name in names[:3]]
    assert found("s3://b/lake/*.parquet") == [f"s3://b/{name}" for name in names[:2]]
    assert found("s3://b/lake/2013-0[2-9].parquet") == ["s3://b/lake/2013-02.parquet"]
    assert found("s3://b/lakeside.parquet") == ["s3://b/lakeside.parquet"]
    with pytest.raises(Failure, match=r"lake ends in none of .*, or end the path of a directory in /"):
        found("s3://b/lake")
    with pytest.raises(Failure, match=r"source rows \(s3://b/none.csv\): there is no none.csv in bucket memory"):
        found("s3://b/none.csv")


def test_secrets_of_sources(tmp_path: Path) -> None:
    source = DataSource(name="rows", uri="s3://lake/x/", secret_name="lake-keys")
    with pytest.raises(Failure, match="the Secret lake-keys is not mounted at") as failed:
        Access(None, secrets=tmp_path).open(source, "lake")
    assert failed.value.retry
    (tmp_path / "lake-keys").mkdir()
    (tmp_path / "lake-keys" / "AWS_ACCESS_KEY_ID").write_text("me\n")
    with pytest.raises(Failure, match="the Secret lake-keys has no AWS_SECRET_ACCESS_KEY: add it"):
        Access(None, secrets=tmp_path).open(source, "lake")
    (tmp_path / "lake-keys" / "AWS_SECRET_ACCESS_KEY").write_text("s3cret")
    (tmp_path / "lake-keys" / "AWS_ENDPOINT_URL_S3").write_text("http://lake:7070")
    settings = Access("http://other", secrets=tmp_path).open(source, "lake").settings
    assert (settings.endpoint, settings.access_key, settings.secret_name) == ("http://lake:7070", "me", "lake-keys")


def test_nearest() -> None:
    assert nearest("max_itre", ["max_iter", "tol"]) == "did you mean max_iter?"
    assert nearest("zzz", ["b", "a"]) == "there are a, b"
