"""The registry as reconciles see it: what it says of a run or a version, and the one thing they do to it.

Reads that cannot change any more are remembered: a committed version and its manifest are immutable.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from kaizen.core.plan import Object, Register, RegistryEntry, Run
from kaizen.registry import layout, versions
from kaizen.registry.errors import Malformed, Missing
from kaizen.registry.store import Bucket

MOST_REMEMBERED = 2000


class Registry:
    """Reads and registers in a thread; every method raises BucketError."""

    def __init__(self, in_thread: Callable[[Callable[[], object]], Awaitable[object]], bucket: Callable[[], Bucket]) -> None:
        self._in_thread = in_thread
        self._bucket = bucket
        self._entries: dict[tuple[str, str, str], RegistryEntry] = {}
        """Committed versions by namespace, model and digest."""

    async def run(self, owner: Object) -> Run:
        """What the bucket says of a TrainingJob's run."""
        namespace, uid, model = owner["metadata"]["namespace"], owner["metadata"]["uid"], owner["spec"]["model"]
        found = await self._in_thread(lambda: self._run(namespace, uid, model))
        assert isinstance(found, Run)
        return found

    async def entry(self, owner: Object) -> RegistryEntry | None:
        """What the registry has under a ModelVersion's digest; None when there is no such version."""
        namespace, model, digest = owner["metadata"]["namespace"], owner["spec"]["model"], owner["spec"]["digest"]
        if known := self._entries.get((namespace, model, digest)):
            return known
        found = await self._in_thread(lambda: self._find(namespace, model, digest))
        assert found is None or isinstance(found, RegistryEntry)
        return found

    async def register(self, namespace: str, register: Register) -> None:
        """Make a run's files a version; done when it was done before.  A run that cannot become one is abandoned."""
        await self._in_thread(lambda: self._register(namespace, register))

    def _run(self, namespace: str, uid: str, model: str) -> Run:
        bucket = self._bucket()
        won = None
        try:
            outcome, _ = bucket.read(layout.run_outcome(namespace, uid))
            won = outcome.get("pod")
        except Missing:
            pass
        entry = next((v for v in versions.list_versions(bucket, namespace, model) if v.run == uid), None)
        return Run(
            uri=_uri(bucket, layout.run(namespace, uid)),
            progress=_progress(bucket, namespace, uid, won if isinstance(won, str) else None),
            won=won if isinstance(won, str) else None,
            entry=self._described(bucket, namespace, model, entry) if entry else None,
        )

    def _find(self, namespace: str, model: str, digest: str) -> RegistryEntry | None:
        bucket = self._bucket()
        for entry in versions.list_visible(bucket, namespace, model):
            if entry.digest == digest:
                return self._described(bucket, namespace, model, entry)
        return None

    def _described(self, bucket: Bucket, namespace: str, model: str, entry: versions.Version) -> RegistryEntry:
        uri = _uri(bucket, layout.version(namespace, model, entry.version))
        if entry.state != "Committed" or entry.digest is None:
            return RegistryEntry(entry.version, entry.state, uri, entry.digest, entry.reason)
        key = (namespace, model, entry.digest)
        if key in self._entries:
            return self._entries[key]
        _, manifest = versions.show(bucket, namespace, model, entry.version)
        described = RegistryEntry(entry.version, entry.state, uri, entry.digest, None, manifest.document)
        if len(self._entries) >= MOST_REMEMBERED:
            self._entries.clear()
        self._entries[key] = described
        return described

    def _register(self, namespace: str, register: Register) -> None:
        bucket, now = self._bucket(), datetime.now(UTC)
        version = versions.reserve(bucket, namespace, register.model, register.run, now=now)
        files = f"{layout.attempt(namespace, register.run, register.attempt)}model/"
        try:
            versions.register(bucket, namespace, register.model, version, files, now=now)
        except versions.VersionAbandoned:
            return  # It stands in the index, with the reason, and is observed there.


def _progress(bucket: Bucket, namespace: str, uid: str, won: str | None) -> dict[str, object] | None:
    """The progress of the attempt that won, or of the one that wrote last."""
    if won is None:
        files = [entry for entry in bucket.list(layout.run(namespace, uid)) if entry.key.endswith("/progress.json")]
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
