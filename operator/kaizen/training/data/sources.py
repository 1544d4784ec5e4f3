"""Brings the files of a source onto the local disk and names each by its digest."""

import errno
import fnmatch
import glob
import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kaizen.api.training_data import DataSource
from kaizen.registry import errors
from kaizen.training.access import Access
from kaizen.training.data import web
from kaizen.training.data.formats import SUFFIXES, Format, is_empty, suffix
from kaizen.training.errors import Failure

if TYPE_CHECKING:
    from kaizen.registry.store import Bucket

__all__ = ["Format", "SourceFile", "SourceFiles", "collect", "no_space"]

DOWNLOADS = 4
"""At once."""
WILD = "*?["
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    name: str
    """The URI or path as a person would write it."""
    path: Path
    """Where it can be read."""
    sha256: str
    size: int
    etag: str | None = None
    """What its server calls this content of it, where it said so."""
    version: str | None = None
    """By which a bucket that keeps versions gives it back after it was changed."""


@dataclass(frozen=True)
class SourceFiles:
    """The files that make one table."""

    source: str
    format: Format
    files: tuple[SourceFile, ...]
    """Sorted by name, never empty."""
    empty: tuple[SourceFile, ...] = ()
    """Files without any content, left out."""
    said: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person might want to know about them."""
        if not self.empty:
            return self.said
        others = f" and {len(self.empty) - 1} more files" if len(self.empty) > 1 else ""
        return (f"{self.empty[0].name}{others} of source {self.source} are empty: left out", *self.said)


def collect(source: DataSource, access: Access, scratch: Path) -> SourceFiles:
    """Find a source's files; those on other machines are downloaded into `scratch`.  Raises Failure."""
    scheme, separator, rest = (source.uri or "").partition("://")
    try:
        if source.captures is not None:
            return _collect_captures(source, access, scratch)
        if not separator:
            return _sorted_out(source, _collect_local(source, source.where))
        if scheme == "s3":
            return _sorted_out(source, _collect_s3(source, access, scratch))
        if scheme == "pvc":
            return _sorted_out(source, _collect_claim(source, access, rest))
        if scheme == "https":
            return _sorted_out(source, _collect_web(source, access, scratch))
    except errors.BucketError as problem:
        raise _explain(source, problem) from problem
    except OSError as problem:
        if problem.errno in NO_SPACE:
            raise no_space(f"the files of source {source.name}") from problem
        raise _failure("DataUnreadable", f"{problem.filename or source.where} cannot be read: {problem.strerror}") from problem
    message = (
        f"{source.where} must be s3://BUCKET/PATH, pvc://CLAIM/PATH or https://HOST/PATH, or a local path with `kaizen train`"
    )
    raise _failure("InvalidSource", message)


def no_space(what: str) -> Failure:
    """`what` does not fit on the Pod's disk."""
    message = f"{what} do not fit on the disk: raise pod.resources.requests and limits of ephemeral-storage"
    return _failure("DiskFull", message, retry=True)


def _collect_local(source: DataSource, uri: str) -> SourceFiles:
    if any(character in uri for character in WILD):
        paths = [Path(found) for found in glob.glob(uri, recursive=True)]  # noqa: PTH207 -- the path may be absolute
    elif Path(uri).is_dir():
        paths = [path for path in Path(uri).rglob("*") if not _hidden(path.relative_to(uri).parts)]
    else:
        paths = [Path(uri)]
    paths = sorted(path for path in paths if path.is_file())
    chosen, format_ = _choose(source, [str(path) for path in paths])
    return SourceFiles(source.name, format_, tuple(SourceFile(name, Path(name), *_digest(Path(name))) for name in chosen))


def _collect_claim(source: DataSource, access: Access, rest: str) -> SourceFiles:
    claim, _, path = rest.partition("/")
    root = access.claims / claim
    if not root.is_dir():
        raise _failure("ClaimMissing", f"the PersistentVolumeClaim {claim} is not mounted at {root}", retry=True)
    found = _collect_local(source, f"{root}/{path}")
    for file in found.files:
        if not file.path.resolve().is_relative_to(root.resolve()):
            name = file.path.relative_to(root)
            raise _failure("InvalidSource", f"{name} leads out of the PersistentVolumeClaim {claim}: name a path inside it")
    files = tuple(
        SourceFile(f"pvc://{claim}/{file.path.relative_to(root)}", file.path, file.sha256, file.size) for file in found.files
    )
    return SourceFiles(found.source, found.format, files)


def _collect_captures(source: DataSource, access: Access, scratch: Path) -> SourceFiles:
    from kaizen.training.data.captures import captured

    found = captured(source, access, scratch)
    file = SourceFile(source.where, found.path, found.sha256, found.path.stat().st_size)
    return SourceFiles(source.name, "Parquet", (file,), said=found.notes)


def _collect_s3(source: DataSource, access: Access, scratch: Path) -> SourceFiles:
    from kaizen.registry import files

    name, _, key = source.where.removeprefix("s3://").partition("/")
    bucket = access.open(source, name)
    pinned = access.pinned.get(source.name)
    found = _keys(bucket, key) if pinned is None else dict.fromkeys(pinned, None)
    chosen, format_ = _choose(source, list(found))
    directory = scratch / source.name
    directory.mkdir(parents=True)

    def download(numbered: tuple[int, str]) -> SourceFile:
        number, key = numbered
        # By number: a key may hold what a file name may not.
        path = directory / f"{number:06d}{suffix(key) or ''}"
        version = files.download(bucket, key, path, None if pinned is None else pinned[key])
        return SourceFile(f"s3://{name}/{key}", path, *_digest(path), found[key], version)

    with ThreadPoolExecutor(DOWNLOADS) as threads:
        return SourceFiles(source.name, format_, tuple(threads.map(download, enumerate(chosen))))


def _collect_web(source: DataSource, access: Access, scratch: Path) -> SourceFiles:
    headers = {}
    if source.secret_name:
        headers = web.authorization(access.secret(source.secret_name))
        if not headers:
            message = f"the Secret {source.secret_name} has neither token nor username and password: add them"
            raise _failure("SecretIncomplete", message, retry=True)
    name = urlsplit(source.where).path
    _, format_ = _choose(source, [name])
    directory = scratch / source.name
    directory.mkdir(parents=True)
    path = directory / f"000000{suffix(name) or ''}"
    return SourceFiles(source.name, format_, (SourceFile(source.where, path, *web.download(source.where, path, headers)),))


def _keys(bucket: "Bucket", key: str) -> dict[str, str | None]:
    """The keys of a file, prefix or glob, with their ETags where they were listed."""
    wild = next((position for position, character in enumerate(key) if character in WILD), None)
    if wild is not None:
        entries = bucket.list(key[:wild])
        return {entry.key: entry.etag for entry in entries if _matches(entry.key, key)}
    if key.endswith("/"):
        entries = bucket.list(key)
        return {entry.key: entry.etag for entry in entries if not _hidden(PurePosixPath(entry.key[len(key) :]).parts)}
    return {key: None}


def _matches(key: str, pattern: str) -> bool:
    """A shell's glob: * and ? stop at a slash, ** does not."""
    parts, patterns = key.split("/"), pattern.split("/")
    if "**" in patterns:
        return PurePosixPath("/" + key).match("/" + pattern) or fnmatch.fnmatchcase(key, pattern.replace("**/", "*"))
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def _hidden(parts: Iterable[str]) -> bool:
    """As Hive and Spark have it: _SUCCESS, .crc and the like are no data."""
    return any(part.startswith(("_", ".")) for part in parts)


def _choose(source: DataSource, names: Sequence[str]) -> tuple[list[str], Format]:
    """The names that are data, sorted, and their format."""
    wanted = source.format
    if wanted is None:
        known = {name: SUFFIXES[found] for name in names if (found := suffix(name))}
        formats = sorted(set(known.values()))
        if names and not known:
            how = f"name it so, say source {source.name}'s format, or end the path of a directory in /"
            raise _failure("FormatUnknown", f"{names[0]} ends in none of {', '.join(SUFFIXES)}: {how}")
        if len(formats) > 1:
            how = f"narrow the path, or say source {source.name}'s format"
            raise _failure("FormatUnknown", f"{source.where} holds both {' and '.join(formats)}: {how}")
        names = list(known)
        wanted = formats[0] if formats else None
    names = sorted(name for name in names if name and not name.endswith("/"))
    if not names or wanted is None:
        raise _failure("DataMissing", f"there are no files at {source.where} (source {source.name})")
    return names, wanted


def _sorted_out(source: DataSource, found: SourceFiles) -> SourceFiles:
    """Without the empty files, of which a directory may have some."""
    empty = tuple(file for file in found.files if is_empty(found.format, file.path))
    if not empty:
        return found
    full = tuple(file for file in found.files if file not in empty)
    if not full:
        what = f"{empty[0].name} is empty" if len(empty) == 1 else f"all {len(empty)} files at {source.where} are empty"
        raise _failure("DataEmpty", f"{what} (source {source.name})")
    return SourceFiles(found.source, found.format, full, empty)


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size


def _explain(source: DataSource, problem: errors.BucketError) -> Failure:
    message = f"source {source.name} ({source.where}): {problem}"
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
