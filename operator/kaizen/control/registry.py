"""The registry as reconciles see it: what it says of a run, a version or a model, and what they do to it but promote.

What cannot change any more is remembered for good: a committed version and its manifest are immutable.  What it says of a
model is remembered for a while, because only the operator that leads writes there, through here and through Promotions:
each of its own changes drops it, and time does, so that a restored bucket or a former leader's last write is seen.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol, TypeVar, assert_never

from kaizen.cluster.store import owner_of
from kaizen.core.plan import (
    Allow,
    ModelRegistry,
    Object,
    Production,
    Register,
    RegistryEntry,
    Run,
    SettleTraining,
    Skip,
    StartTraining,
)
from kaizen.registry import audit, layout, production, record, versions
from kaizen.registry.errors import Malformed, Missing
from kaizen.registry.manifest import sha256
from kaizen.registry.store import Bucket

__all__ = ["InThread", "Registry", "champion"]

MOST_REMEMBERED = 2000
MODEL_SECONDS = 300.0
"""How long at most what the registry says of a model is remembered."""
REFERENCE = "reference.json"
"""The file of a version that the requests are compared with."""
Result = TypeVar("Result")


class InThread(Protocol):
    """Runs blocking work."""

    async def __call__(self, work: Callable[[], Result], /) -> Result: ...


class Registry:
    """Reads and changes in a thread; every method raises BucketError."""

    def __init__(self, in_thread: InThread, bucket: Callable[[], Bucket], clock: Callable[[], float] = time.monotonic) -> None:
        self._in_thread = in_thread
        self._bucket = bucket
        self._clock = clock
        self._entries: dict[tuple[str, str, int, str], RegistryEntry] = {}
        """Committed versions by namespace, model, number and digest: two runs may end in the same files."""
        self._models: dict[tuple[str, str], tuple[float, ModelRegistry]] = {}
        """By namespace and model, with the time at which the reading began.  Touched in the event loop only."""
        self._forgotten = 0
        """How often something was: what was being read meanwhile may be from before, and is not remembered."""

    async def model(self, namespace: str, model: str) -> ModelRegistry:
        """What the registry says of a model."""
        key, began, forgotten = (namespace, model), self._clock(), self._forgotten
        if (known := self._models.get(key)) and began - known[0] < MODEL_SECONDS:
            return known[1]
        found = await self._in_thread(lambda: self._model(namespace, model))
        if forgotten == self._forgotten:
            if len(self._models) >= MOST_REMEMBERED:
                self._models.clear()
            self._models[key] = (began, found)
        return found

    def forget(self, namespace: str, model: str) -> None:
        """Drop what is remembered of a model: it was changed, or may have been."""
        self._models.pop((namespace, model), None)
        self._forgotten += 1

    async def run(self, owner: Object) -> Run:
        """What the bucket says of a TrainingJob's run."""
        namespace, uid, model = owner["metadata"]["namespace"], owner["metadata"]["uid"], owner["spec"]["model"]
        reference = owner_of(owner)
        service = reference["name"] if reference and reference["kind"] == "InferenceService" else None
        serving = champion((await self.model(namespace, model)).production, service)
        return await self._in_thread(lambda: self._run(namespace, uid, model, serving))

    async def entry(self, owner: Object) -> RegistryEntry | None:
        """What the registry has under a ModelVersion's digest; None when there is no such version."""
        found = await self.model(owner["metadata"]["namespace"], owner["spec"]["model"])
        return next((entry for entry in found.entries if entry.digest == owner["spec"]["digest"]), None)

    async def reference(self, namespace: str, model: str, version: int) -> bytes:
        """A version's reference.json as it was registered; raises DigestMismatch when it is not that any more, and Missing."""
        return await self._in_thread(lambda: _reference(self._bucket(), namespace, model, version))

    async def change(
        self, namespace: str, service: str, change: Register | Skip | Allow | StartTraining | SettleTraining
    ) -> None:
        """Do what was planned for an object; done when it was done before.  A run that cannot become a version is abandoned."""
        try:
            await self._in_thread(lambda: _change(self._bucket(), namespace, service, change, datetime.now(UTC)))
        finally:
            # Also after a failure: the write may have happened.
            self.forget(namespace, change.model)

    def _run(self, namespace: str, uid: str, model: str, serving: Production | None) -> Run:
        bucket = self._bucket()
        won = repeats = None
        try:
            outcome, _ = bucket.read(layout.run_outcome(namespace, uid))
            won = outcome.get("pod")
            repeats = _repeated(outcome)
        except Missing:
            pass
        entry = next((v for v in versions.list_versions(bucket, namespace, model) if v.run == uid), None)
        return Run(
            uri=_uri(bucket, layout.run(namespace, uid)),
            progress=_progress(bucket, namespace, uid, won if isinstance(won, str) else None),
            won=won if isinstance(won, str) else None,
            repeats=repeats,
            entry=self._described(bucket, namespace, model, entry) if entry else None,
            champion=serving,
        )

    def _model(self, namespace: str, model: str) -> ModelRegistry:
        bucket = self._bucket()
        # The pointers first: each names a version that was committed before.
        pointers = production.read_all(bucket, namespace, model)
        return ModelRegistry(
            entries=tuple(
                self._shown(bucket, namespace, model, entry) for entry in versions.list_visible(bucket, namespace, model)
            ),
            production=pointers,
            record=record.read(bucket, namespace, model),
        )

    def _shown(self, bucket: Bucket, namespace: str, model: str, entry: versions.Version) -> RegistryEntry:
        """A committed version, also when its manifest is not what it was: that must not hide the others."""
        try:
            return self._described(bucket, namespace, model, entry)
        except (Missing, versions.DigestMismatch) as problem:
            uri = _uri(bucket, layout.version(namespace, model, entry.version))
            return RegistryEntry(entry.version, entry.state, uri, entry.digest, str(problem))

    def _described(self, bucket: Bucket, namespace: str, model: str, entry: versions.Version) -> RegistryEntry:
        uri = _uri(bucket, layout.version(namespace, model, entry.version))
        if entry.state != "Committed" or entry.digest is None:
            return RegistryEntry(entry.version, entry.state, uri, entry.digest, entry.reason)
        key = (namespace, model, entry.version, entry.digest)
        if key in self._entries:
            return self._entries[key]
        _, manifest = versions.show(bucket, namespace, model, entry.version)
        described = RegistryEntry(entry.version, entry.state, uri, entry.digest, None, manifest.document)
        if len(self._entries) >= MOST_REMEMBERED:
            self._entries.clear()
        self._entries[key] = described
        return described


def champion(pointers: Mapping[str, Production], service: str | None) -> Production | None:
    """What a model's gates compare with: what the service serves that trains it, else what was promoted last anywhere."""
    if service is not None and service in pointers:
        return pointers[service]
    return max(pointers.values(), key=lambda pointer: (pointer.since, pointer.audit), default=None)


def _change(
    bucket: Bucket,
    namespace: str,
    service: str,
    change: Register | Skip | Allow | StartTraining | SettleTraining,
    now: datetime,
) -> None:
    model = change.model
    match change:
        case Register():
            _register(bucket, namespace, change, now)
        case Skip():
            _skip(bucket, namespace, service, change, now)
        case Allow():
            record.change(bucket, namespace, model, lambda found: found.allow(service, change.version))
        case StartTraining():
            record.change(
                bucket, namespace, model, lambda found: found.start(service, change.cause, change.drift, change.spec, now)
            )
        case SettleTraining():
            record.change(
                bucket,
                namespace,
                model,
                lambda found: found.settle(change.number, failed=change.failed, answered=change.answered),
            )
        case _:
            assert_never(change)


def _register(bucket: Bucket, namespace: str, register: Register, now: datetime) -> None:
    version = versions.reserve(bucket, namespace, register.model, register.run, now=now)
    files = f"{layout.attempt(namespace, register.run, register.attempt)}model/"
    try:
        versions.register(bucket, namespace, register.model, version, files, now=now)
    except versions.VersionAbandoned:
        return  # It stands in the index, with the reason, and is observed there.


def _skip(bucket: Bucket, namespace: str, service: str, skip: Skip, now: datetime) -> None:
    """Recorded in the audit chain, then skipped: dead in between, the next one finds that record."""
    model = skip.model
    entry = next((found for found in versions.list_visible(bucket, namespace, model) if found.version == skip.version), None)
    if entry is None:
        raise Missing(f"model {model} in namespace {namespace} has no committed version {skip.version}")
    what = production.audit_object(namespace, model, service)
    serves = production.read(bucket, namespace, model, service)
    # A version that a person allowed, that was promoted again and comes back again, is another story than the first time.
    promoted = serves.audit if serves and serves.version == skip.version else 0
    audit.append(
        bucket,
        namespace,
        model,
        audit.Draft(skip.action, what, entry.digest, {"version": skip.version, "reason": skip.reason}),
        now=now,
        since=max(entry.audit, promoted),
        same=lambda found: (found.action, found.object, found.details.get("version")) == (skip.action, what, skip.version),
    )
    record.change(bucket, namespace, model, lambda found: found.skip(service, skip.version, skip.reason))


def _reference(bucket: Bucket, namespace: str, model: str, version: int) -> bytes:
    _, manifest = versions.show(bucket, namespace, model, version)
    file = next((file for file in manifest.files if file.path == REFERENCE), None)
    if file is None:
        raise Missing(f"version {version} of model {model} has no {REFERENCE}")
    body, _ = bucket.get(f"{layout.version(namespace, model, version)}{REFERENCE}")
    if sha256(body) != f"sha256:{file.sha256}":
        raise versions.DigestMismatch(
            f"version {version} of model {model} was changed in the bucket: {REFERENCE} has the digest {sha256(body)}, "
            f"registered was sha256:{file.sha256}"
        )
    return body


def _repeated(outcome: Mapping[str, object]) -> int | None:
    """The version in the outcome of a run that would only have made it again; 0 where that says none."""
    if "alreadyTrained" not in outcome:
        return None
    said = outcome["alreadyTrained"]
    version = said.get("version") if isinstance(said, Mapping) else None
    return version if type(version) is int and version > 0 else 0


def _progress(bucket: Bucket, namespace: str, uid: str, won: str | None) -> dict[str, object] | None:
    """The progress of the attempt that won, or of the one that wrote last."""
    if won is None:
        run = layout.run(namespace, uid)
        # An attempt's own file: what the user's code left further below may have any name.
        names = ((entry, entry.key.removeprefix(run)) for entry in bucket.list(run))
        files = [entry for entry, name in names if name.endswith("/progress.json") and name.count("/") == 1]
        if not files:
            return None
        key = max(files, key=lambda entry: entry.modified).key
    else:
        key = f"{layout.attempt(namespace, uid, won)}progress.json"
    try:
        document, _ = bucket.read(key)
    except (Missing, Malformed):
        return None
    return document


def _uri(bucket: Bucket, key: str) -> str:
    return f"s3://{bucket.settings.name}/{bucket.settings.key(key)}"
