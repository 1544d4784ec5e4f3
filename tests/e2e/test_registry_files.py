"""Files of any size, with a namespace's own rights, against the real S3 server.  Needs no cluster, only versitygw."""

import json
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from kaizen.api.training_data import DataSource
from kaizen.registry import files
from kaizen.registry.embedded import ensure_bucket
from kaizen.registry.errors import Missing, Refused, Unreachable
from kaizen.registry.policy import as_document, owner_statements, workload_statements
from kaizen.registry.settings import BucketSettings
from kaizen.registry.store import Bucket
from kaizen.training.access import Access
from kaizen.training.checkpoints import BucketStore, Mirror
from kaizen.training.data.croissant import About
from kaizen.training.data.dataset import write_dataset
from kaizen.training.errors import Failure
from kaizen.training.job import Surroundings, run
from kaizen.training.reproduce import Recorded, reproduce
from tests.e2e.local_s3 import OPERATOR, TEAM_A, LocalS3, running_s3  # noqa: F401 -- the fixture local_s3
from tests.support import training

BUCKET = "files"


@pytest.fixture(scope="module")
def workload(local_s3: LocalS3) -> Bucket:
    """The bucket as a Pod of namespace team sees it."""
    statements = [*owner_statements(BUCKET, OPERATOR.access_key), *workload_statements(BUCKET, "", TEAM_A.access_key, "team")]
    ensure_bucket(Bucket(local_s3.settings(OPERATOR, BUCKET)), as_document(statements))
    return Bucket(local_s3.settings(TEAM_A, BUCKET))


@pytest.mark.parametrize("size", [0, 1000, files.PART_BYTES + 1])
def test_file_comes_back_as_it_was(workload: Bucket, tmp_path: Path, size: int) -> None:
    path, back = tmp_path / "file", tmp_path / "back"
    path.write_bytes(bytes(range(256)) * (size // 256) + bytes(size % 256))
    files.upload(workload, path, "workloads/team/runs/j/file")
    files.download(workload, "workloads/team/runs/j/file", back)
    assert back.read_bytes() == path.read_bytes()


def test_what_cannot_be_is_named(workload: Bucket, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(Missing):
        files.download(workload, "workloads/team/runs/j/nothing", tmp_path / "back")
    with pytest.raises(Refused):
        files.upload(workload, tmp_path / "file", "registry/team/model/index.json")


def test_checkpoints_outlive_their_directory_with_a_workloads_rights(workload: Bucket, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for place in (before, after):
        place.mkdir()
    store = BucketStore(workload, "team", "j")
    mirror = Mirror(before, store)
    for name in ("1.pt", "2.pt"):
        (before / name).write_text(name)
    mirror.look()
    assert mirror.look()
    (before / "1.pt").unlink()
    assert mirror.look()
    assert Mirror(after, store).restore() == 1
    assert [path.read_text() for path in after.iterdir()] == ["2.pt"]


def test_a_download_that_breaks_off_is_explained(tmp_path: Path) -> None:
    class Breaking(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.send_header("ETag", '"x"')
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(b"x" * 10)
            self.close_connection = True

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Breaking) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        settings = BucketSettings(f"http://127.0.0.1:{server.server_address[1]}", "lake", access_key="a", secret_key="b")
        with pytest.raises(Unreachable, match="the connection broke"):
            files.download(Bucket(settings), "k.csv", tmp_path / "back")
        server.shutdown()


def test_older_version_is_there_where_the_bucket_keeps_versions(local_s3: LocalS3, tmp_path: Path) -> None:
    bucket = Bucket(local_s3.settings(OPERATOR, "kept"))
    ensure_bucket(bucket, as_document(owner_statements("kept", OPERATOR.access_key)))
    bucket.put("rows", b"unversioned", "text/plain")
    assert files.download(bucket, "rows", tmp_path / "rows") is None
    keep_versions(bucket)
    bucket.put("rows", b"then", "text/plain")
    then = files.download(bucket, "rows", tmp_path / "rows")
    bucket.put("rows", b"now", "text/plain")
    assert files.download(bucket, "rows", tmp_path / "rows") not in (None, then)
    assert (tmp_path / "rows").read_bytes() == b"now"
    assert files.download(bucket, "rows", tmp_path / "rows", then) == then
    assert (tmp_path / "rows").read_bytes() == b"then"


def test_reproduction_goes_back_to_the_versions_that_were_read(local_s3: LocalS3, tmp_path: Path) -> None:
    bucket = Bucket(local_s3.settings(OPERATOR, "history"))
    ensure_bucket(bucket, as_document(owner_statements("history", OPERATOR.access_key)))
    keep_versions(bucket)
    access = _Lake(None, bucket=bucket)
    training.write(training.table(600, seed=1), tmp_path / "rows.parquet")
    bucket.put("lake/rows.parquet", (tmp_path / "rows.parquet").read_bytes(), "application/octet-stream")
    spec = training.spec("s3://history/lake/", estimator={"name": "LogisticRegression", "parameters": {}})
    made = run(spec, Surroundings(access, training.Silent()), tmp_path / "model")
    about = About("m", "", "", "")
    (tmp_path / "data").mkdir()
    write_dataset(tmp_path / "data", made.prepared.table, made.prepared.statistics, spec.data, about)
    snapshot = json.loads((tmp_path / "data" / "snapshot.json").read_bytes())

    training.write(training.table(600, seed=2), tmp_path / "rows.parquet")
    bucket.put("lake/rows.parquet", (tmp_path / "rows.parquet").read_bytes(), "application/octet-stream")
    bucket.put("lake/more.parquet", (tmp_path / "rows.parquet").read_bytes(), "application/octet-stream")
    assert reproduce(Recorded("m", made.manifest, snapshot), access, training.Silent()).equal
    for file in snapshot["sources"][0]["files"]:
        file["version"] = None
    with pytest.raises(Failure, match=r"rows\.parquet has changed"):
        reproduce(Recorded("m", made.manifest, snapshot), access, training.Silent())


def keep_versions(bucket: Bucket) -> None:
    """As an administrator of the lake does."""
    name = bucket.settings.name
    bucket.call(lambda client: client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"}), name)


@dataclass(frozen=True)
class _Lake(Access):
    """Reaches every bucket with the same account."""

    bucket: Bucket | None = None

    def open(self, source: DataSource, name: str) -> Bucket:
        assert self.bucket is not None
        return self.bucket
