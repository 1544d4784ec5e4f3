"""Objects of any size arrive whole and with their digest, whatever breaks on the way; or not at all, in bounded time."""

import hashlib
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from kaizen.registry import downloads
from kaizen.registry.downloads import CHUNK_BYTES, PART_BYTES, PAUSES_SECONDS, fetch
from kaizen.registry.errors import Conflict, Missing, Unreachable
from kaizen.registry.lanes import Lanes
from tests.support.directory_bucket import DirectoryBucket, Fault


class Downloads:
    """A bucket, and where its objects go."""

    def __init__(self, directory: Path) -> None:
        self.source, self.target = directory / "bucket", directory / "target"
        self.source.mkdir()
        self.pauses: list[float] = []
        self.bucket = DirectoryBucket(self.source)

    def fetch(self, size: int, fault: Fault = lambda number, key, first: None) -> tuple[str, int]:
        bucket: Any = DirectoryBucket(self.source, fault)
        self.bucket = bucket
        return fetch(bucket, "file", self.target, size, self.pauses.append)

    def put(self, size: int) -> bytes:
        body = random.Random(size).randbytes(size)
        (self.source / "file").write_bytes(body)
        return body


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Downloads:
    monkeypatch.setattr(downloads, "PART_BYTES", 4 * CHUNK_BYTES // 16)
    monkeypatch.setattr(downloads, "CHUNK_BYTES", CHUNK_BYTES // 16)
    return Downloads(tmp_path)


PART = 4 * CHUNK_BYTES // 16


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 20 * PART + 5])
def test_a_file_comes_as_it_is(made: Downloads, size: int) -> None:
    body = made.put(size)
    assert made.fetch(size) == (hashlib.sha256(body).hexdigest(), size)
    assert made.target.read_bytes() == body
    assert len(made.bucket.requests) == max(1, -(-size // PART))
    assert made.bucket.requests[0][1:] == (None if size <= PART else f"bytes=0-{PART - 1}", False)
    assert all(known for _, _, known in made.bucket.requests[1:]), "further parts only of the same object"


def test_what_breaks_off_goes_on_from_there(made: Downloads) -> None:
    body = made.put(10 * PART)
    found = made.fetch(10 * PART, lambda number, key, first: 40_000 if number % 2 else None)
    assert found == (hashlib.sha256(body).hexdigest(), 10 * PART)
    assert made.target.read_bytes() == body
    assert f"bytes=40000-{PART - 1}" in [asked for _, asked, _ in made.bucket.requests]


def test_a_small_file_that_breaks_off_goes_on_too(made: Downloads) -> None:
    body = made.put(1000)
    assert made.fetch(1000, lambda number, key, first: 300 if number < 4 else None)[0] == hashlib.sha256(body).hexdigest()
    assert [asked for _, asked, _ in made.bucket.requests] == [None, "bytes=300-999", "bytes=600-999", "bytes=900-999"]


def test_a_server_that_stays_away_is_given_up(made: Downloads) -> None:
    made.put(10 * PART)
    with pytest.raises(Unreachable):
        made.fetch(10 * PART, lambda number, key, first: -1 if first == 5 * PART else None)
    assert made.pauses == list(PAUSES_SECONDS)


def test_an_object_that_changes_meanwhile_is_no_object(made: Downloads) -> None:
    made.put(10 * PART)

    def change(number: int, key: str, first: int) -> int | None:
        if number == 1:
            (made.source / "file").write_bytes(b"x" * 10 * PART)
        return None

    with pytest.raises(Conflict, match="file changed while it was being read"):
        made.fetch(10 * PART, change)


@pytest.mark.parametrize("size", [10, 10 * PART])
def test_another_size_is_seen_before_much_is_read(made: Downloads, size: int) -> None:
    made.put(5 * PART)
    assert made.fetch(size) == ("", 5 * PART)
    assert len(made.bucket.requests) == 1


def test_what_is_missing_is_missing(made: Downloads) -> None:
    with pytest.raises(Missing):
        made.fetch(10)


def test_parts_are_as_the_documentation_says() -> None:
    assert PART_BYTES == 8 << 20


def test_lanes_give_up_what_has_not_begun() -> None:
    done: list[int] = []
    entered, release = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        release.wait(5)

    with Lanes(1) as lanes:
        first = lanes.submit(wait)
        lanes.submit(lambda: done.append(1))
        assert entered.wait(5)
        threading.Timer(1.0, release.set).start()
    assert (first.done(), done) == (True, [])
    with Lanes(2) as lanes, pytest.raises(ZeroDivisionError):
        lanes.submit(lambda: 1 // 0).result(5)
