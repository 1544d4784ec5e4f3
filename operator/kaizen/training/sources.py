"""Brings the files of a source onto the local disk and names each by its digest."""

import fnmatch
import glob
import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from kaizen.api.training_data import DataSource
from kaizen.registry import errors
from kaizen.training.access import Access
from kaizen.training.errors import Failure

if TYPE_CHECKING:
    from kaizen.registry.store import Bucket

__all__ = ["Format", "SourceFile", "SourceFiles", "collect"]

Format = Literal["Parquet", "CSV"]
SUFFIXES: dict[str, Format] = {".parquet": "Parquet", ".csv": "CSV", ".csv.gz": "CSV"}
DOWNLOADS = 4
"""At once; each holds one file in memory."""
WILD = "*?["


@dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    name: str
    """The URI or path as a person would write it."""
    path: Path
    """Where it can be read."""
    sha256: str
    size: int


@dataclass(frozen=True)
class SourceFiles:
    """The files that make one table."""

    source: str
    format: Format
    files: tuple[SourceFile, ...]
    """Sorted by name, never empty."""


def collect(source: DataSource, access: Access, scratch: Path) -> SourceFiles:
    """Find a source's files; those in S3 are downloaded into `scratch`.  Raises Failure."""
    if source.uri.startswith("s3://"):
        try:
            return _collect_s3(source, access, scratch)
        except errors.BucketError as problem:
            raise _explain(source, problem) from problem
    if "://" in source.uri:
        raise _failure("InvalidSource", f"{source.uri} must be s3://BUCKET/PATH, or a local path with `kaizen train`")
    return _collect_local(source)


def _collect_local(source: DataSource) -> SourceFiles:
    if any(character in source.uri for character in WILD):
        paths = [Path(found) for found in glob.glob(source.uri, recursive=True)]  # noqa: PTH207 -- the path may be absolute
    elif Path(source.uri).is_dir():
        paths = [path for path in Path(source.uri).rglob("*") if not _hidden(path.relative_to(source.uri).parts)]
    else:
        paths = [Path(source.uri)]
    paths = sorted(path for path in paths if path.is_file())
    chosen, format_ = _choose(source, [str(path) for path in paths])
    try:
        files = tuple(SourceFile(name, Path(name), *_digest(Path(name))) for name in chosen)
    except OSError as problem:
        raise _failure("DataUnreadable", f"{problem.filename} cannot be read: {problem.strerror}") from problem
    return SourceFiles(source.name, format_, files)


def _collect_s3(source: DataSource, access: Access, scratch: Path) -> SourceFiles:
    name, _, key = source.uri.removeprefix("s3://").partition("/")
    bucket = access.open(source, name)
    chosen, format_ = _choose(source, _keys(bucket, key))
    directory = scratch / source.name
    directory.mkdir(parents=True)

    def download(numbered: tuple[int, str]) -> SourceFile:
        number, key = numbered
        # By number: a key may hold what a file name may not.
        path = directory / f"{number:06d}{_suffix(key) or ''}"
        body, _ = bucket.get(key)
        path.write_bytes(body)
        return SourceFile(f"s3://{name}/{key}", path, hashlib.sha256(body).hexdigest(), len(body))

    with ThreadPoolExecutor(DOWNLOADS) as threads:
        return SourceFiles(source.name, format_, tuple(threads.map(download, enumerate(chosen))))


def _keys(bucket: "Bucket", key: str) -> list[str]:
    wild = next((position for position, character in enumerate(key) if character in WILD), None)
    if wild is not None:
        entries = bucket.list(key[:wild])
        return [entry.key for entry in entries if _matches(entry.key, key)]
    if key.endswith("/"):
        return [entry.key for entry in bucket.list(key) if not _hidden(PurePosixPath(entry.key[len(key) :]).parts)]
    return [key]


def _matches(key: str, pattern: str) -> bool:
    """A shell's glob: * and ? stop at a slash, ** does not."""
    parts, patterns = key.split("/"), pattern.split("/")
    if "**" in patterns:
        return PurePosixPath("/" + key).match("/" + pattern) or fnmatch.fnmatchcase(key, pattern.replace("**/", "*"))
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def _hidden(parts: Iterable[str]) -> bool:
    """As Hive and Spark have it: _SUCCESS, .crc and the like are no data."""
    return any(part.startswith(("_", ".")) for part in parts)


def _choose(source: DataSource, names: list[str]) -> tuple[list[str], Format]:
    """The names that are data, sorted, and their format."""
    wanted = source.format
    if wanted is None:
        known = {name: SUFFIXES[suffix] for name in names if (suffix := _suffix(name))}
        formats = sorted(set(known.values()))
        if names and not known:
            how = f"name it so, say source {source.name}'s format, or end the path of a directory in /"
            raise _failure("FormatUnknown", f"{names[0]} ends in none of {', '.join(SUFFIXES)}: {how}")
        if len(formats) > 1:
            how = f"narrow the path, or say source {source.name}'s format"
            raise _failure("FormatUnknown", f"{source.uri} holds both Parquet and CSV: {how}")
        names = list(known)
        wanted = formats[0] if formats else None
    names = sorted(name for name in names if name and not name.endswith("/"))
    if not names or wanted is None:
        raise _failure("DataMissing", f"there are no files at {source.uri} (source {source.name})")
    return names, wanted


def _suffix(name: str) -> str | None:
    folded = name.lower()
    return next((suffix for suffix in SUFFIXES if folded.endswith(suffix)), None)


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size


def _explain(source: DataSource, problem: errors.BucketError) -> Failure:
    message = f"source {source.name} ({source.uri}): {problem}"
    match problem:
        case errors.Missing() | errors.NoBucket():
            return _failure("DataMissing", message)
        case errors.Refused():
            return _failure("DataRefused", message, retry=True)
        case errors.Unreachable():
            return _failure("DataUnreachable", message, retry=True)
        case _:
            return _failure("DataUnreadable", message)


def _failure(code: str, message: str, *, retry: bool = False) -> Failure:
    return Failure("Ingest", code, message, retry=retry)
