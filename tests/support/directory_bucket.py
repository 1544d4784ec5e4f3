"""A directory that answers like a bucket, for reading; answers break off and servers vanish on demand."""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from kaizen.registry.errors import Missing, Rejected, Unreachable
from kaizen.registry.settings import BucketSettings

__all__ = ["DirectoryBucket"]

T = TypeVar("T")
Fault = Callable[[int, str, int], int | None]
"""Of a request (its number from 1, key and first byte): how many bytes of the answer arrive; None: all, -1: no answer."""


class DirectoryBucket:
    """Keys are paths below the directory."""

    def __init__(self, directory: Path, fault: Fault = lambda number, key, first: None) -> None:
        self.settings = BucketSettings(None, "kaizen")
        self.requests: list[tuple[str, str | None, bool]] = []
        """Key, Range, and whether only the known object was wanted."""
        self._directory, self._fault = directory, fault

    def get(self, key: str) -> tuple[bytes, str]:
        try:
            body = (self._directory / key).read_bytes()
        except OSError as error:
            raise Missing(f"there is no {key}") from error
        return body, hashlib.sha256(body).hexdigest()

    def call(self, action: Callable[[Any], T], what: str) -> T:
        return action(self)

    def get_object(self, Bucket: str, Key: str, Range: str | None = None, IfMatch: str | None = None) -> dict[str, Any]:  # noqa: N803
        body, etag = self.get(Key)
        self.requests.append((Key, Range, IfMatch is not None))
        if IfMatch not in (None, etag):
            raise Rejected("changed", "PreconditionFailed")
        first, last = map(int, re.findall(r"\d+", Range)) if Range else (0, len(body) - 1)
        arrives = self._fault(len(self.requests), Key, first)
        if arrives == -1:
            raise Unreachable("no answer")
        answer: dict[str, Any] = {"ETag": etag, "Body": Body(body[first : last + 1], arrives)}
        answer["ContentLength"] = len(body[first : last + 1])
        if Range:
            answer["ContentRange"] = f"bytes {first}-{last}/{len(body)}"
        return answer


class Body:
    """A body as it arrives."""

    def __init__(self, content: bytes, arrives: int | None) -> None:
        self._content, self._arrives = content, arrives

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        there = self._content if self._arrives is None else self._content[: self._arrives]
        for first in range(0, len(there), size):
            yield there[first : first + size]
        if self._arrives is not None:
            raise Unreachable("the connection broke")

    def close(self) -> None:
        """Close."""
