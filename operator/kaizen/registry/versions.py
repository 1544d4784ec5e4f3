"""The versions of a model: a number reserved for a run, its files copied and checked, then committed.

    reserve    index.json: Reserved, keyed by the run
    register   files copied and each digest checked at the destination → manifest.json → index.json: Committed → audit
    abandon    index.json: Abandoned → audit

Every function looks at what is there and does what is missing, so a process may die between any two requests and the next
one ends with the same number and the same bytes.  Only what is Committed is visible; a state once left never comes back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, get_args

from kaizen.core.times import timestamp
from kaizen.registry import audit, layout
from kaizen.registry.errors import BucketError, Conflict, Malformed, Missing
from kaizen.registry.manifest import File, Manifest, parse
from kaizen.registry.store import Bucket, Entry
from kaizen.registry.swap import swap

__all__ = [
    "DigestMismatch",
    "State",
    "Version",
    "VersionAbandoned",
    "abandon",
    "find_mismatch",
    "list_versions",
    "list_visible",
    "register",
    "reserve",
    "show",
]

State = Literal["Reserved", "Committed", "Abandoned"]


@dataclass(frozen=True)
class Version:
    """An entry of index.json."""

    version: int
    state: State
    run: str
    """What it was reserved for."""
    created_at: str
    audit: int
    """The newest audit record when the number was reserved: those about this version come after it."""
    digest: str | None = None
    """Of the manifest; None until Committed."""
    reason: str | None = None
    """Why it was abandoned."""


class DigestMismatch(BucketError):
    """What is stored is not what was registered."""


class VersionAbandoned(Exception):
    """The version will never be visible; the message says why, in a sentence for a person."""

    def __init__(self, version: Version) -> None:
        super().__init__(version.reason)
        self.version = version


class _Unfit(Exception):
    """What a run left cannot become a version, and no repetition changes that."""


def reserve(bucket: Bucket, namespace: str, model: str, run: str, *, now: datetime) -> int:
    """The version number of a run: the same one however often it is asked for, and never another run's."""
    newest = audit.newest(bucket, namespace, model)

    def change(index: Mapping[str, Any] | None) -> Mapping[str, Any]:
        versions = _parsed(index, namespace, model)
        if index is not None and any(entry.run == run for entry in versions):
            return index
        number = max((entry.version for entry in versions), default=0) + 1
        return _document((*versions, Version(number, "Reserved", run, timestamp(now), newest)))

    versions = _parsed(swap(bucket, layout.index(namespace, model), change), namespace, model)
    return next(entry.version for entry in versions if entry.run == run)


def register(
    bucket: Bucket,
    namespace: str,
    model: str,
    version: int,
    run_prefix: str,
    *,
    now: datetime,
    actor: str = audit.OPERATOR,
) -> Version:
    """Make a reserved version visible: its files are copied from a run's model directory and checked.

    Raises VersionAbandoned when they are not what the run's manifest says, and whenever it is called again after that;
    Missing when the number was never reserved; ValueError for a directory outside of the namespace's runs.
    """
    if not run_prefix.startswith(layout.workloads(namespace)) or not run_prefix.endswith("/"):
        raise ValueError(f"a version is registered from a directory below {layout.workloads(namespace)}, not {run_prefix!r}")
    found = _find(list_versions(bucket, namespace, model), namespace, model, version)
    if found.state == "Reserved":
        try:
            digest = _transfer(bucket, run_prefix, layout.version(namespace, model, version))
        except _Unfit as problem:
            found = _settle(bucket, namespace, model, version, "Abandoned", reason=str(problem))
        else:
            found = _settle(bucket, namespace, model, version, "Committed", digest=digest)
    _record(bucket, namespace, model, found, actor, now)
    if found.state == "Abandoned":
        raise VersionAbandoned(found)
    return found


def abandon(
    bucket: Bucket, namespace: str, model: str, version: int, reason: str, *, now: datetime, actor: str = audit.OPERATOR
) -> Version:
    """Give up a reserved version for good; its first reason stays.  Raises ValueError when it is committed, and Missing."""
    found = _settle(bucket, namespace, model, version, "Abandoned", reason=reason)
    if found.state == "Committed":
        raise ValueError(f"version {version} of model {model} is committed: it can no longer be abandoned")
    _record(bucket, namespace, model, found, actor, now)
    return found


def list_versions(bucket: Bucket, namespace: str, model: str) -> tuple[Version, ...]:
    """Every version in the order of the numbers, whatever its state.  Raises Malformed."""
    try:
        index, _ = bucket.read(layout.index(namespace, model))
    except Missing:
        return ()
    return _parsed(index, namespace, model)


def list_visible(bucket: Bucket, namespace: str, model: str) -> tuple[Version, ...]:
    """The versions that may be used, in the order of their numbers.  Raises Malformed."""
    return tuple(entry for entry in list_versions(bucket, namespace, model) if entry.state == "Committed")


def show(bucket: Bucket, namespace: str, model: str, version: int) -> tuple[Version, Manifest]:
    """A visible version and its manifest.  Raises Missing, Malformed, and DigestMismatch for a manifest that was changed."""
    found = _find(list_visible(bucket, namespace, model), namespace, model, version)
    body, _ = bucket.get(layout.manifest(namespace, model, version))
    try:
        manifest = parse(body)
    except ValueError as error:
        raise DigestMismatch(f"version {version} of model {model} was changed in the bucket: {error}") from error
    if manifest.digest != found.digest:
        raise DigestMismatch(
            f"version {version} of model {model} was changed in the bucket: {layout.MANIFEST} has the digest {manifest.digest}, "
            f"registered was {found.digest}"
        )
    return found, manifest


def find_mismatch(bucket: Bucket, namespace: str, model: str, version: int) -> str | None:
    """The first file of a visible version that is not what was registered, or is too many; None when all is well.

    Reads every file.  Raises as show() does.
    """
    _, manifest = show(bucket, namespace, model, version)
    prefix = layout.version(namespace, model, version)
    there = _below(bucket, prefix)
    for file in manifest.files:
        if file.path not in there or not _intact(bucket, prefix, file):
            return file.path
    return next(iter(_stray(there, manifest)), None)


def _transfer(bucket: Bucket, source: str, target: str) -> str:
    """Bring a run's files to the version's prefix, the manifest last; returns the manifest's digest.  Raises _Unfit."""
    there = _below(bucket, target)
    # A manifest at the destination was written after everything it names had been checked: it outlives the run's.
    written = layout.MANIFEST in there
    try:
        body, _ = bucket.get(f"{target if written else source}{layout.MANIFEST}")
        manifest = parse(body)
    except Missing as problem:
        raise _Unfit(f"the run left no {layout.MANIFEST}") from problem
    except ValueError as problem:
        raise _Unfit(f"the run's {problem}") from problem
    for path in _stray(there, manifest):
        raise _Unfit(f"{path} is left from an earlier attempt and is not in the run's {layout.MANIFEST}: the run was changed")
    offered = _below(bucket, source)
    for file in manifest.files:
        if file.path not in there or not _intact(bucket, target, file):
            _copy(bucket, offered, source, target, file)
    if not written:
        bucket.put(f"{target}{layout.MANIFEST}", body, "application/json")
    return manifest.digest


def _copy(bucket: Bucket, offered: Mapping[str, Entry], source: str, target: str, file: File) -> None:
    entry = offered.get(file.path)
    if entry is None:
        raise _Unfit(f"{file.path} is in the run's {layout.MANIFEST} but not in the run")
    try:
        bucket.copy(f"{source}{file.path}", f"{target}{file.path}", entry.etag)
    except (Conflict, Missing) as problem:
        raise _Unfit(f"{file.path} was changed while it was copied") from problem
    if not _intact(bucket, target, file):
        raise _Unfit(f"{file.path} does not have the digest that the run's {layout.MANIFEST} gives for it")


def _intact(bucket: Bucket, prefix: str, file: File) -> bool:
    return bucket.digest(f"{prefix}{file.path}") == (file.sha256, file.size)


def _below(bucket: Bucket, prefix: str) -> dict[str, Entry]:
    return {entry.key.removeprefix(prefix): entry for entry in bucket.list(prefix)}


def _stray(there: Mapping[str, Entry], manifest: Manifest) -> list[str]:
    return sorted(there.keys() - {file.path for file in manifest.files} - {layout.MANIFEST})


def _settle(
    bucket: Bucket,
    namespace: str,
    model: str,
    version: int,
    state: State,
    *,
    digest: str | None = None,
    reason: str | None = None,
) -> Version:
    """Leave Reserved for this state; returns the entry as it then is, which is another's when that came first."""

    def change(index: Mapping[str, Any] | None) -> Mapping[str, Any]:
        versions = _parsed(index, namespace, model)
        entry = _find(versions, namespace, model, version)
        if index is not None and entry.state != "Reserved":
            return index
        settled = replace(entry, state=state, digest=digest, reason=reason)
        return _document(settled if other == entry else other for other in versions)

    index = swap(bucket, layout.index(namespace, model), change)
    return _find(_parsed(index, namespace, model), namespace, model, version)


def _record(bucket: Bucket, namespace: str, model: str, entry: Version, actor: str, now: datetime) -> None:
    action = "Registered" if entry.state == "Committed" else "Abandoned"
    what = layout.version(namespace, model, entry.version).removeprefix(layout.registry(namespace, model))
    details = {"run": entry.run, **({"reason": entry.reason} if entry.reason else {})}
    audit.append(
        bucket,
        namespace,
        model,
        audit.Draft(action, what, entry.digest, details, actor),
        now=now,
        since=entry.audit,
        same=lambda record: (record.action, record.object) == (action, what),
    )


def _find(versions: tuple[Version, ...], namespace: str, model: str, version: int) -> Version:
    for entry in versions:
        if entry.version == version:
            return entry
    raise Missing(f"model {model} in namespace {namespace} has no version {version}")


def _document(versions: Iterable[Version]) -> dict[str, Any]:
    return {"versions": [_entry(version) for version in versions]}


def _entry(version: Version) -> dict[str, Any]:
    return {
        "version": version.version,
        "state": version.state,
        "run": version.run,
        "digest": version.digest,
        "createdAt": version.created_at,
        "audit": version.audit,
        "reason": version.reason,
    }


def _parsed(index: Mapping[str, Any] | None, namespace: str, model: str) -> tuple[Version, ...]:
    if index is None:
        return ()
    try:
        found = tuple(
            Version(
                int(entry["version"]), entry["state"], entry["run"], entry["createdAt"], int(entry["audit"]),
                entry["digest"], entry.get("reason"),
            )
            for entry in index["versions"]
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise _malformed(namespace, model) from error
    if any(entry.state not in get_args(State) for entry in found):
        raise _malformed(namespace, model)
    return tuple(sorted(found, key=lambda entry: entry.version))


def _malformed(namespace: str, model: str) -> Malformed:
    return Malformed(f"{layout.index(namespace, model)} in the bucket is not an index of versions: restore it")
