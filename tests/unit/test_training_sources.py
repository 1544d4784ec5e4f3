"""Where rows may come from: formats, claims, web servers; and files that are not what they should be."""

import errno
import gzip
import hashlib
import json
import os
import ssl
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from kaizen.api.training_data import DataSource
from kaizen.registry.errors import Unreachable
from kaizen.training.access import Access
from kaizen.training.data import database, formats, sources, web
from kaizen.training.data import ingest as ingest_module
from kaizen.training.data.ingest import Table, ingest
from kaizen.training.data.prepare import prepare
from kaizen.training.data.statistics import summarise
from kaizen.training.data.validate import validate
from kaizen.training.environment import limits
from kaizen.training.errors import Failure
from tests.support import certificates, training

ROWS = 120
CSV = "time,flight,wind,late\n" + "".join(
    f"2013-01-{1 + i // 24:02d} {i % 24:02d}:00:00,{i},{i % 7}.5,{i % 3 == 0}\n" for i in range(ROWS)
)
JSON = "".join(
    json.dumps({"time": f"2013-01-{1 + i // 24:02d} {i % 24:02d}:00:00", "flight": i, "wind": i % 7 + 0.5, "late": i % 3 == 0})
    + "\n"
    for i in range(ROWS)
)


def read(path: object, access: Access | None = None, scratch: Path | None = None, **data: Any) -> Table:
    scratch = scratch or Path(str(path)).parent / "scratch"
    scratch.mkdir(exist_ok=True, parents=True)
    spec = training.spec(path, data={"features": {}, **data})
    return ingest(spec.data, access or Access(None), scratch, spec.gates)


def failure(path: object, access: Access | None = None, scratch: Path | None = None, **data: Any) -> Failure:
    with pytest.raises(Failure) as failed:
        read(path, access, scratch, **data)
    assert "\n" not in failed.value.message
    return failed.value


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.jsonl", "rows.ndjson", "rows.jsonl.gz", "rows.ndjson.gz"])
def test_text_formats_give_the_same_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / "plain.csv").write_text(CSV)
    body = (CSV if ".csv" in name else JSON).encode()
    (tmp_path / name).write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    assert read(tmp_path / name).rows.equals(read(tmp_path / "plain.csv").rows)


def test_a_format_may_be_said(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text(JSON)
    uri = str(tmp_path / "rows.txt")
    found = read(uri, sources=[{"name": "rows", "uri": uri, "format": "JSONLines"}])
    assert (found.rows.num_rows, found.sources[0].format) == (ROWS, "JSONLines")


def test_empty_files_among_full_ones_are_left_out(tmp_path: Path) -> None:
    for name, text in {"a.csv": "", "b.csv": CSV, "c.csv": "\n \n", "d.csv": "time,flight,wind,late\n"}.items():
        (tmp_path / "lake" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "lake" / name).write_text(text)
    (tmp_path / "alone.csv").write_text(CSV)
    found = read(tmp_path / "lake")
    assert found.rows.equals(read(tmp_path / "alone.csv").rows)
    assert found.notes == (f"{tmp_path}/lake/a.csv and 1 more files of source rows are empty: left out",)
    (tmp_path / "lake" / "b.csv").write_text("")
    (tmp_path / "lake" / "d.csv").unlink()
    assert failure(tmp_path / "lake").message == f"all 3 files at {tmp_path}/lake are empty (source rows)"
    (tmp_path / "none.parquet").write_text("")
    found_ = failure(tmp_path / "none.parquet")
    assert (found_.code, found_.message) == ("DataEmpty", f"{tmp_path}/none.parquet is empty (source rows)")


def test_files_may_have_more_columns_than_others(tmp_path: Path) -> None:
    table = training.table(ROWS)
    training.write(table.slice(0, 60).drop_columns("wind"), tmp_path / "lake" / "a.parquet")
    training.write(table.slice(60), tmp_path / "lake" / "b.parquet")
    assert read(tmp_path / "lake").rows["wind"].null_count >= 60


def test_files_that_disagree_on_a_type(tmp_path: Path) -> None:
    table = training.table(ROWS)
    text = table.set_column(3, "wind", table["wind"].cast(pa.string()))
    training.write(table.set_column(3, "wind", pa.nulls(ROWS)), tmp_path / "lake" / "a.parquet")
    training.write(table.set_column(3, "wind", table["wind"].cast(pa.float32())), tmp_path / "lake" / "b.parquet")
    assert read(tmp_path / "lake").rows["wind"].type == pa.float32()
    training.write(text, tmp_path / "lake" / "c.parquet")
    found = failure(tmp_path / "lake")
    assert found.code == "ColumnTypesDiffer"
    assert found.message.startswith(
        f"column wind is float in {tmp_path}/lake/b.parquet and string in {tmp_path}/lake/c.parquet: write it with one type"
    )


def test_csv_columns_have_the_type_that_fits_all_files(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "a.csv").write_text(CSV)
    (tmp_path / "lake" / "b.csv").write_text(CSV.replace("1.5", "gusts"))
    assert read(tmp_path / "lake").rows["wind"].type == pa.string()


DUPLICATES = {
    "comma": ("a.csv", b"time,late,wind,wind\n1,2,3,4\n", "has column wind twice: rename one of them"),
    "semicolon": ("a.csv", b"time;late;wind;Wind\n1;2;3;4\n", "has the columns wind and Wind, which are one name in SQL"),
    "packed": ("a.csv.gz", gzip.compress(b'"time","late","late"\n1,2,3\n'), "has column late twice"),
}


@pytest.mark.parametrize(("name", "body", "sentence"), DUPLICATES.values(), ids=DUPLICATES)
def test_columns_twice(tmp_path: Path, name: str, body: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(body)
    found = failure(tmp_path / name)
    assert (found.code, found.message[: len(str(tmp_path)) + len(name) + 1]) == ("DuplicateColumn", f"{tmp_path}/{name}")
    assert sentence in found.message


def test_columns_twice_in_parquet_and_names_that_only_look_like_it(tmp_path: Path) -> None:
    table = training.table(ROWS)
    training.write(table.append_column("wind", table["wind"]), tmp_path / "a.parquet")
    assert failure(tmp_path / "a.parquet").message == f"{tmp_path}/a.parquet has column wind twice: rename one of them"
    pa.csv.write_csv(table.append_column("wind_1", table["wind"]), tmp_path / "b.csv")
    assert "wind_1" in read(tmp_path / "b.csv").rows.column_names


ENCODINGS: dict[str, tuple[str, bytes, str]] = {
    "Latin-1": ("a.csv", b"time,late\n2013-01-01,caf\xe9\n", "0xE9 at position 24"),
    "UTF-16": ("a.csv", CSV.encode("utf-16"), "0xFF at position 0"),
    "JSON": ("a.jsonl", b'{"time": "caf\xe9", "late": 1}\n', "0xE9 at position 13"),
    "packed": ("a.csv.gz", gzip.compress(b"time,late\n2013-01-01,caf\xe9\n"), "0xE9 at position 24"),
    "cut short": ("a.csv", b"time,late\n" + b"2013-01-01,\xc3\xa9\n" * 90000 + b"2013-01-01,\xc3\n", "0xC3 at position 1260021"),
}


@pytest.mark.parametrize(("name", "body", "sentence"), ENCODINGS.values(), ids=ENCODINGS)
def test_text_that_is_not_utf_8(tmp_path: Path, name: str, body: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(body)
    found = failure(tmp_path / name)
    assert found.code == "DataUnreadable"
    assert found.message == f"{tmp_path}/{name} is not UTF-8: it has the byte {sentence}; save it as UTF-8"


def test_broken_json(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(JSON + '{"time": \n')
    found = failure(tmp_path / "rows.jsonl")
    assert found.code == "DataUnreadable"
    assert f"{tmp_path}/rows.jsonl" in found.message
    assert "line 121" in found.message or "line 122" in found.message


SYNTAX = {
    "second line": ("SELECT *\nFORM rows", ', line 2, column 6: Parser Error: syntax error at or near "rows"'),
    "first line": ("SELECT wind, late b c FROM rows", ', line 1, column 21: Parser Error: syntax error at or near "c"'),
    "long line": ("SELECT " + "wind," * 100 + " late FORM rows WHERE x", ", line 1, column 519: Parser Error: syntax"),
    "long lines": ("SELECT 1,\n" + "wind," * 100 + " late FORM rows", ", line 2, column 512: Parser Error: syntax"),
}


@pytest.mark.parametrize(("query", "sentence"), SYNTAX.values(), ids=SYNTAX)
def test_a_query_that_is_wrong(tmp_path: Path, query: str, sentence: str) -> None:
    training.write(training.table(ROWS), tmp_path / "rows.parquet")
    found = failure(tmp_path / "rows.parquet", query=query)
    assert (found.code, found.retry) == ("QueryFailed", False)
    assert found.message.startswith("data.query" + sentence)


NAMED: dict[str, tuple[dict[str, Any], str]] = {
    "sensitive": (
        {"sensitive": ["carier"]},
        "data.sensitive names column carier, which the data do not have: did you mean carrier",
    ),
    "groups": ({"split": {"method": "Grouped", "groups": ["tail"]}}, "data.split.groups names column tail"),
    "expectation": ({"expectations": [{"column": "rain", "minimum": 0}]}, "data.expectations names column rain"),
}


@pytest.mark.parametrize(("data", "sentence"), NAMED.values(), ids=NAMED)
def test_columns_that_are_not_there(tmp_path: Path, data: dict[str, Any], sentence: str) -> None:
    training.write(training.table(ROWS), tmp_path / "rows.parquet")
    found = failure(tmp_path / "rows.parquet", **data)
    assert (found.code, found.message[: len(sentence)]) == ("ColumnNotFound", sentence)


@pytest.mark.parametrize("gate", [{"slices": ["rain"]}, {"metric": "equalized_odds_difference", "sensitiveFeature": "rain"}])
def test_columns_of_gates(tmp_path: Path, gate: dict[str, Any]) -> None:
    training.write(training.table(ROWS), tmp_path / "rows.parquet")
    spec = training.spec(tmp_path / "rows.parquet", gates=[{"name": "fair", "metric": "accuracy", "atLeast": 0.5, **gate}])
    with pytest.raises(Failure, match="gate fair names column rain, which the data do not have") as failed:
        ingest(spec.data, Access(None), tmp_path, spec.gates)
    assert failed.value.code == "ColumnNotFound"


@pytest.fixture
def claims(tmp_path: Path) -> Access:
    """A claim with two files, hidden ones, and a link out of it."""
    table = training.table(ROWS)
    root = tmp_path / "claims" / "lake-disk"
    training.write(table.slice(0, 60), root / "2013" / "a.parquet")
    training.write(table.slice(60), root / "2013" / "b.parquet")
    (root / "2013" / "_SUCCESS").write_text("")
    outside = training.write(table, tmp_path / "secret.parquet")
    (root / "link.parquet").symlink_to(outside)
    return Access(None, claims=tmp_path / "claims")


def test_claims(claims: Access, tmp_path: Path) -> None:
    def names(uri: str) -> list[str]:
        return [file.name for file in read(uri, claims, tmp_path / "scratch").files]

    both = ["pvc://lake-disk/2013/a.parquet", "pvc://lake-disk/2013/b.parquet"]
    assert names("pvc://lake-disk/2013/") == both
    assert names("pvc://lake-disk/2013") == both
    assert names("pvc://lake-disk/*/[b-z].parquet") == both[1:]
    assert names("pvc://lake-disk/2013/a.parquet") == both[:1]


CLAIMS = {
    "not mounted": ("pvc://other/a.parquet", "ClaimMissing", "the PersistentVolumeClaim other is not mounted at ", True),
    "no file": (
        "pvc://lake-disk/c.parquet",
        "DataMissing",
        "there are no files at pvc://lake-disk/c.parquet (source rows)",
        False,
    ),
    "a link": (
        "pvc://lake-disk/link.parquet",
        "InvalidSource",
        "link.parquet leads out of the PersistentVolumeClaim lake-disk",
        False,
    ),
    "a way up": ("pvc://lake-disk/../../secret.parquet", "InvalidSource", "leads out of the PersistentVolumeClaim", False),
}


@pytest.mark.parametrize(("uri", "code", "sentence", "retry"), CLAIMS.values(), ids=CLAIMS)
def test_claims_that_do_not_work(claims: Access, tmp_path: Path, uri: str, code: str, sentence: str, retry: bool) -> None:
    found = failure(uri, claims, tmp_path / "scratch")
    assert (found.code, found.retry) == (code, retry)
    assert sentence in found.message


def test_other_schemes(tmp_path: Path) -> None:
    found = failure("http://lake/a.csv", scratch=tmp_path)
    assert (found.code, found.message.split(" or a local")[0]) == (
        "InvalidSource",
        "http://lake/a.csv must be s3://BUCKET/PATH, pvc://CLAIM/PATH or https://HOST/PATH,",
    )


Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """A web server whose answers are given one by one."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.seen: list[dict[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805 -- self is the site
                self.seen.append({"path": handler.path, **handler.headers})
                self.answers.pop(0)(handler)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/rows.csv"


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    thread = Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def answer(status: int = 200, body: bytes = b"", cut: int | None = None, **headers: str) -> Answer:
    """An answer; `cut` ends it early."""

    def give(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body[:cut])

    return give


def download(site: Site, path: Path, headers: dict[str, str] | None = None) -> tuple[str, int, str | None]:
    return web.download(site.url, path, headers or {}, timeout_seconds=5, pauses_seconds=(0, 0), sleep=lambda seconds: None)


BODY = CSV.encode()
DIGEST = hashlib.sha256(BODY).hexdigest()


def test_a_file_of_the_web(site: Site, tmp_path: Path) -> None:
    site.answers = [answer(body=BODY, ETag='"one"')]
    assert download(site, tmp_path / "file", {"Authorization": "Bearer t"}) == (DIGEST, len(BODY), '"one"')
    assert (tmp_path / "file").read_bytes() == BODY
    assert site.seen[0]["Authorization"] == "Bearer t"


def test_a_download_goes_on_where_it_broke_off(site: Site, tmp_path: Path) -> None:
    rest = answer(206, BODY[100:], ETag='"one"')
    site.answers = [answer(body=BODY, cut=100, ETag='"one"'), answer(503), rest]
    assert download(site, tmp_path / "file") == (DIGEST, len(BODY), '"one"')
    assert (site.seen[2]["Range"], site.seen[2]["If-Range"]) == ("bytes=100-", '"one"')
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_download_begins_anew_where_the_file_may_be_another(site: Site, tmp_path: Path) -> None:
    site.answers = [answer(body=b"x" * 999, cut=100, ETag='"one"'), answer(body=BODY, ETag='"two"')]
    assert download(site, tmp_path / "file")[0] == DIGEST
    site.answers = [answer(body=b"x" * 999, cut=100, ETag='W/"one"'), answer(body=BODY)]
    assert download(site, tmp_path / "file") == (DIGEST, len(BODY), None)
    assert "Range" not in site.seen[-1]
    assert (tmp_path / "file").read_bytes() == BODY


WEB = {
    "not there": ([404], "DataMissing", "there is nothing at http://127.0.0.1:", False),
    "no credentials": ([401], "DataRefused", "name a Secret with token, or with username and password, in secretName", True),
    "gone for good": ([418], "DataUnreadable", "cannot be read: the server answered 418", False),
    "down": ([503, 502, 500], "DataUnreachable", "cannot be read: the server answered 500 Internal Server Error", True),
}


@pytest.mark.parametrize(("statuses", "code", "sentence", "retry"), WEB.values(), ids=WEB)
def test_servers_that_refuse(site: Site, tmp_path: Path, statuses: list[int], code: str, sentence: str, retry: bool) -> None:
    site.answers = [answer(status) for status in statuses]
    with pytest.raises(Failure) as failed:
        download(site, tmp_path / "file")
    assert (failed.value.code, failed.value.retry) == (code, retry)
    assert sentence in failed.value.message


def test_a_server_that_always_breaks_off(site: Site, tmp_path: Path) -> None:
    site.answers = [answer(body=BODY, cut=10) for _ in range(3)]
    with pytest.raises(Failure, match=f"it broke off after 10 of {len(BODY)} bytes") as failed:
        download(site, tmp_path / "file")
    assert (failed.value.code, failed.value.retry) == ("DataUnreachable", True)


def test_nobody_listens(tmp_path: Path, site: Site) -> None:
    site.url = "http://127.0.0.1:1/rows.csv"
    with pytest.raises(Failure, match="Connection refused") as failed:
        download(site, tmp_path / "file")
    assert failed.value.code == "DataUnreachable"


def test_credentials_stay_on_their_host(site: Site, tmp_path: Path) -> None:
    elsewhere = site.url.replace("127.0.0.1", "localhost")
    site.answers = [answer(302, Location="/other.csv"), answer(302, Location=elsewhere), answer(body=BODY)]
    assert download(site, tmp_path / "file", {"Authorization": "Bearer t"})[0] == DIGEST
    assert [seen["path"] for seen in site.seen] == ["/rows.csv", "/other.csv", "/rows.csv"]
    assert ["Authorization" in seen for seen in site.seen] == [True, True, False]


def test_secrets_of_web_servers(tmp_path: Path) -> None:
    assert web.authorization({"token": "t"}) == {"Authorization": "Bearer t"}
    assert web.authorization({"username": "me", "password": "p"}) == {"Authorization": "Basic bWU6cA=="}
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "username").write_text("me")
    source = DataSource(name="rows", uri="https://lake/rows.csv", secret_name="keys")
    with pytest.raises(Failure, match="the Secret keys has neither token nor username and password: add them") as failed:
        sources.collect(source, Access(None, secrets=tmp_path), tmp_path)
    assert (failed.value.code, failed.value.retry) == ("SecretIncomplete", True)


def test_https_is_a_source(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "files").mkdir()
    for name, content in certificates.made("lake").items():
        (tmp_path / "files" / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "files" / "tls.crt", tmp_path / "files" / "tls.key")
    site.server.socket = context.wrap_socket(site.server.socket, server_side=True)
    uri = site.url.replace("http:", "https:") + "?signature=x"
    with pytest.raises(Failure, match="certificate verify failed") as refused:
        web.download(uri, tmp_path / "refused", {}, pauses_seconds=())
    assert (refused.value.code, refused.value.retry) == ("DataUnreachable", True)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "files" / "tls.crt"))
    site.answers = [answer(body=BODY, ETag='"one"')]
    found = read(uri, scratch=tmp_path / "scratch")
    assert (found.rows.num_rows, found.files[0].sha256) == (ROWS, DIGEST)
    assert (found.files[0].name, found.files[0].etag) == (uri, '"one"')


class Lake(Access):
    """Whose bucket is given."""

    def open(self, source: DataSource, name: str) -> Any:
        """The bucket."""
        return self.bucket  # type: ignore[attr-defined]


def lake(bucket: object) -> Access:
    access = Lake(None)
    object.__setattr__(access, "bucket", bucket)
    return access


def test_s3_dies_in_the_middle(tmp_path: Path) -> None:
    class Dying(training.MemoryBucket):
        def get(self, key: str) -> tuple[bytes, str]:
            """One file, then no more."""
            if key.endswith("b.csv"):
                raise Unreachable("bucket lake at http://lake:7070 cannot be reached: the connection broke")
            return super().get(key)

    found = failure("s3://lake/x/", lake(Dying({"x/a.csv": BODY, "x/b.csv": BODY})), tmp_path)
    assert (found.code, found.retry) == ("DataUnreachable", True)
    assert found.message.startswith("source rows (s3://lake/x/): bucket lake at http://lake:7070 cannot be reached")


def test_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, body: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    found = failure("s3://lake/a.csv", lake(training.MemoryBucket({"a.csv": BODY})), tmp_path)
    assert (found.code, found.retry) == ("DiskFull", True)
    assert found.message.startswith("the files of source rows do not fit on the disk: raise pod.resources")


@pytest.mark.parametrize(
    "problem",
    [
        duckdb.IOException("IO Error: Could not write file: No space left on device"),
        duckdb.OutOfMemoryException(
            "Out of Memory Error: failed to offload data block of size 256.0 KiB (... max_temp_directory_size"
        ),
    ],
)
def test_the_disk_is_full_of_what_a_query_sorts(tmp_path: Path, problem: duckdb.Error) -> None:
    spec = training.spec(training.write(training.table(ROWS), tmp_path / "rows.parquet"))
    wanted = pytest.raises(Failure, match="what the query sorts and joins do not fit on the disk")
    with wanted as failed, ingest_module._explained(spec.data, ()):
        raise problem
    assert (failed.value.code, failed.value.retry) == ("DiskFull", True)


LIMITS: dict[str, tuple[dict[str, str], int | None]] = {
    "version 2": ({"memory.max": "1073741824\n"}, 1 << 30),
    "version 2 without a limit": ({"memory.max": "max\n"}, None),
    "version 1": ({"memory/memory.limit_in_bytes": "1073741824\n"}, 1 << 30),
    "version 1 without a limit": ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
    "neither": ({}, None),
}


@pytest.mark.parametrize(("files", "limit"), LIMITS.values(), ids=LIMITS)
def test_memory_of_the_container(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert limits(tmp_path)[0] == limit


def test_a_query_aggregates_what_does_not_fit_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3,000,000 rows of 48 MB under 100 MiB, half of which DuckDB may use: an hour's mean is taken without holding them."""
    random = np.random.default_rng(0)
    for part in range(3):
        values = {"t": pa.array(np.arange(1_000_000) // 2500 * 3600, pa.timestamp("s")), "x": pa.array(random.random(1_000_000))}
        training.write(pa.table(values), tmp_path / "lake" / f"{part}.parquet")
    (tmp_path / "memory.max").write_text(str(100 << 20))
    monkeypatch.setattr(database, "CGROUP", tmp_path)
    query = "SELECT t, avg(x) AS mean, count(*) % 2 = 0 AS late FROM rows GROUP BY t"
    found = read(tmp_path / "lake", query=query, timestamp="t", keys=[], target="late")
    assert found.rows.num_rows == 400


def test_ten_thousand_columns(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    wide = {f"c{i}": pa.array(random.random(60)) for i in range(10_000)}
    table = pa.table({"late": pa.array(np.arange(60) % 2 == 0), **wide})
    spec = training.spec(
        training.write(table, tmp_path / "wide.parquet"), data={"timestamp": None, "keys": [], "features": {}, "minimumRows": 50}
    )
    (tmp_path / "scratch").mkdir()
    found = ingest(spec.data, Access(None), tmp_path / "scratch")
    rows = prepare(found.rows, spec)
    assert rows.frame.shape == (60, 10_000)
    statistics = summarise(found.rows)
    assert len(statistics.columns) == 10_001
    assert validate(found.rows, statistics, spec.data, "Classification", None) == ()


def test_suffixes() -> None:
    assert formats.suffix("a/B.CSV.GZ") == ".csv.gz"
    assert formats.suffix("a.json") is None
