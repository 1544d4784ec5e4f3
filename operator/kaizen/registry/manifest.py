"""The manifest of a model directory: every other file with its size and digest.  Pure.

A run's manifest was written by a Pod of the user's namespace, and the operator copies what it names with the operator's own
rights: a path that leads anywhere else must never get through.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kaizen.registry.layout import MANIFEST

__all__ = ["File", "Manifest", "parse", "sha256"]

FORMAT = 1
LONGEST_PATH = 512
MOST_FILES = 1000
SIGNATURE = "model.sig"
"""Made over the manifest, so not part of it."""


@dataclass(frozen=True)
class File:
    """One file of a model directory."""

    path: str
    """Relative to the directory, with slashes."""
    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal."""


@dataclass(frozen=True)
class Manifest:
    """A manifest that can be meant."""

    digest: str
    """The version's digest: `sha256:` and the sha256 of the manifest as it is stored."""
    files: tuple[File, ...]
    document: Mapping[str, Any] = field(repr=False)
    """All of it: metrics, gates, versions, …"""


def sha256(body: bytes) -> str:
    """A digest as the registry and the custom resources write it."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def parse(body: bytes) -> Manifest:
    """The manifest with this content.  Raises ValueError that says what is wrong with it."""
    try:
        document = json.loads(body)
    except ValueError as error:
        raise ValueError(f"{MANIFEST} is not JSON") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{MANIFEST} is not of format {FORMAT}")
    listed = document.get("files")
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{MANIFEST} names no files")
    if len(listed) > MOST_FILES:
        raise ValueError(f"{MANIFEST} names {len(listed)} files: {MOST_FILES} are the most that a model may have")
    files = tuple(_file(item) for item in listed)
    paths = {file.path for file in files}
    if len(paths) < len(files):
        raise ValueError(f"{MANIFEST} names a file twice")
    for path in sorted(paths):
        # Some servers keep objects as files, where one cannot be below another.
        parents = path.split("/")[:-1]
        if any("/".join(parents[: depth + 1]) in paths for depth in range(len(parents))):
            raise ValueError(f"{MANIFEST} names a file below another file: {path!r}")
    return Manifest(sha256(body), files, document)


def _file(item: Any) -> File:
    if not isinstance(item, dict):
        raise ValueError(f"{MANIFEST} has something else than a file among its files")  # noqa: TRY004 -- it is the content
    path, size, digest = item.get("path"), item.get("size"), item.get("sha256")
    if not isinstance(path, str) or not _safe(path):
        raise ValueError(f"{MANIFEST} names a file that a model directory cannot have: {path!r}")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"{MANIFEST} gives no size in bytes for {path!r}")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(f"{MANIFEST} gives no sha256 in hexadecimal for {path!r}")
    return File(path, size, digest)


def _safe(path: str) -> bool:
    return (
        len(path) <= LONGEST_PATH
        and path.isprintable()
        and "\\" not in path
        and path not in (MANIFEST, SIGNATURE)
        and all(part not in ("", ".", "..") for part in path.split("/"))
    )
