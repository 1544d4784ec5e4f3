"""The real S3 server on the loopback, without a cluster: a story about the bucket takes seconds.

Import `running_s3` into a test module (or a conftest) to have the fixture `local_s3` there.
"""

import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kaizen.registry.embedded import Account, users_document
from kaizen.registry.settings import BucketSettings

OPERATOR = Account("operator", "operator-secret", "userplus")
TEAM_A = Account("team-a", "team-a-secret")
TEAM_B = Account("team-b", "team-b-secret")
TENANT = Account("tenant", "tenant-secret")
START_SECONDS = 10.0
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class LocalS3:
    """A running server."""

    url: str
    pid: int

    def settings(self, account: Account, name: str, prefix: str = "", endpoint: str | None = None) -> BucketSettings:
        """How to reach a bucket as an account; `endpoint` when something stands before the server."""
        return BucketSettings(
            endpoint or self.url,
            name,
            prefix,
            access_key=account.access_key,
            secret_key=account.secret_key,
            secret_name="kaizen-bucket",
        )


@pytest.fixture(scope="session", name="local_s3")
def running_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """versitygw with the accounts of this module, ended after the last test."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@contextmanager
def s3_server(directory: Path) -> Iterator[LocalS3]:
    """versitygw with the accounts of this module, and everything it keeps in an empty directory."""
    accounts, data, versions, output = (directory / name for name in ("accounts", "data", "versions", "output"))
    for one in (accounts, data, versions):
        one.mkdir()
    (accounts / "users.json").write_text(users_document((OPERATOR, TEAM_A, TEAM_B, TENANT)))
    accounts.chmod(0o555)
    address = f"127.0.0.1:{_free_port()}"
    options = ("--iam-dir", str(accounts), "--port", address, "--health", "/health", "--quiet")
    root = {"ROOT_ACCESS_KEY_ID": "root", "ROOT_SECRET_ACCESS_KEY": secrets.token_hex()}
    with output.open("wb") as sink:
        server = subprocess.Popen(
            (_binary(), *options, "posix", "--versioning-dir", str(versions), str(data)),
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, **root},
        )
    try:
        _wait(server, f"http://{address}/health", output)
        yield LocalS3(f"http://{address}", server.pid)
    finally:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(STOP_SECONDS)


def _binary() -> Path:
    directory = Path(os.environ.get("KAIZEN_CACHE", Path.home() / ".cache" / "kaizen")) / "bin"
    for found in (directory / "versitygw", *sorted(directory.glob("versitygw-*/versitygw"))):
        if found.is_file():
            return found
    pytest.fail(f"there is no versitygw in {directory}: run `make cluster` first")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: "subprocess.Popen[bytes]", url: str, output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            try:
                server.wait(0.05)  # a server that ended will not answer
            except subprocess.TimeoutExpired:
                continue
            break
    pytest.fail(f"versitygw did not start:\n{output.read_text(errors='replace')}")
