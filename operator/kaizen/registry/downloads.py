"""Objects of any size to files, in parts beside each other, with their digest: as fast as network and sha256 are.

Parts go to the file as they come; whoever waits for the file follows them with the digest, close behind, so that what is
read back is still in memory.  A part that breaks off goes on from where it broke, and only if the object is still the same.
"""

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen.registry.errors import Conflict, Rejected, Unreachable
from kaizen.registry.lanes import Lanes
from kaizen.registry.store import Bucket

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["PART_BYTES", "fetch"]

PART_BYTES = 8 << 20
LANES = 4
AHEAD = 2
"""Parts that may be on disk before the digest gets to them, beside those on their way."""
CHUNK_BYTES = 1 << 18
"""Read at once.  Four times as much is taken from the system and given back each time, which takes longer than the network."""
PAUSES_SECONDS = (0.1, 0.4, 1.6, 3.2)
"""Between attempts that brought nothing: one attempt more than pauses.  Each byte begins anew."""


def fetch(
    bucket: Bucket,
    key: str,
    path: Path,
    size: int,
    sleep: Callable[[float], None] = time.sleep,  # noqa: TID251 -- callers run in threads; tests pass their own
) -> tuple[str, int]:
    """Write an object that should have this size to a new file; its sha256 in hexadecimal, and its size.

    Of another size nothing more than a part is read, and the digest is empty.  Raises Missing, Conflict when the object changed
    meanwhile, what Bucket raises otherwise, and OSError where the file cannot be written.
    """
    with path.open("xb+") as file:
        source = _Source(bucket, key, file.fileno(), size, sleep)
        source.part(0, min(size, PART_BYTES))
        if source.size != size:
            return "", source.size
        digest = hashlib.sha256()
        if size <= PART_BYTES:
            _follow(file.fileno(), 0, size, digest)
        else:
            _read_in_lanes(source, digest)
        return digest.hexdigest(), size


def _read_in_lanes(source: "_Source", digest: "hashlib._Hash") -> None:
    """The first part is there."""
    parts = deque((first, min(first + PART_BYTES, source.size)) for first in range(PART_BYTES, source.size, PART_BYTES))
    coming: deque[tuple[int, int, Future[None]]] = deque()
    with Lanes(LANES) as lanes:

        def begin() -> None:
            if parts:
                first, last = parts.popleft()
                coming.append((first, last, lanes.submit(lambda: source.part(first, last))))

        for _ in range(LANES + AHEAD):
            begin()
        _follow(source.file, 0, PART_BYTES, digest)
        while coming:
            first, last, part = coming.popleft()
            part.result()
            begin()
            _follow(source.file, first, last, digest)


def _follow(file: int, first: int, last: int, digest: "hashlib._Hash") -> None:
    """Take the digest of what is in the file."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    while first < last:
        read = os.preadv(file, [buffer[: last - first]], first)
        digest.update(buffer[:read])
        first += read


class _Source:
    """An object on its way into a file, in parts, by several threads."""

    def __init__(self, bucket: Bucket, key: str, file: int, expected: int, sleep: Callable[[float], None]) -> None:
        self.file = file
        self.size = -1
        """Of the whole object; known with the first answer."""
        self._bucket, self._key, self._expected, self._sleep = bucket, key, expected, sleep
        self._etag = ""

    def part(self, first: int, last: int) -> None:
        """Write the bytes from first to last, unless the object turns out to be of another size."""
        at, failures = [first], 0
        while at[0] < last or self.size < 0:
            before = at[0]
            try:
                self._bucket.call(lambda client: self._stream(client, at, last), self._key)
            except Unreachable:
                failures = 0 if at[0] > before else failures + 1
                if failures > len(PAUSES_SECONDS):
                    raise
                self._sleep(PAUSES_SECONDS[max(0, failures - 1)])
            except Rejected as problem:
                if problem.code != "PreconditionFailed":
                    raise
                raise Conflict(f"{self._key} changed while it was being read", None, "") from problem
            if self.size >= 0 and self.size != self._expected:
                return

    def _stream(self, client: "S3Client", at: list[int], last: int) -> None:
        """Write what comes, and move `at` along."""
        asked: dict[str, Any] = {"IfMatch": self._etag} if self._etag else {}
        if at[0] or last < self._expected:
            asked["Range"] = f"bytes={at[0]}-{last - 1}"
        answer = client.get_object(Bucket=self._bucket.settings.name, Key=self._bucket.settings.key(self._key), **asked)
        self._etag = answer["ETag"]
        body = answer["Body"]
        try:
            self.size = int(answer["ContentRange"].rpartition("/")[2]) if "Range" in asked else answer["ContentLength"]
            if self.size != self._expected:
                return
            for chunk in body.iter_chunks(CHUNK_BYTES):
                at[0] += os.pwrite(self.file, chunk, at[0])
            if at[0] < last:
                raise Unreachable(f"{self._key} broke off at byte {at[0]} of {self.size}")
        finally:
            body.close()
