"""Files of any size, with a namespace's own rights, against the real S3 server.  Needs no cluster, only versitygw."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from kaizen.registry import files
from kaizen.registry.embedded import ensure_bucket
from kaizen.registry.errors import Missing, Refused, Unreachable
from kaizen.registry.policy import as_document, owner_statements, workload_statements
from kaizen.registry.settings import BucketSettings
from kaizen.registry.store import Bucket
from kaizen.training.checkpoints import BucketStore, Mirror
from tests.e2e.local_s3 import OPERATOR, TEAM_A, LocalS3, running_s3  # noqa: F401 -- the fixture local_s3

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
