"""The operator's process: wait for the Lease, fill the store, reconcile, and stop cleanly.

Killed at any instruction it leaves nothing behind but the Lease, which ends by itself; the next process reads the
world anew.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from kaizen import metrics
from kaizen.cluster.client import ApiError, Client
from kaizen.cluster.lease import Lease
from kaizen.cluster.resources import CHILDREN, OWN, WATCHED
from kaizen.cluster.store import Store, key_of, owner_of
from kaizen.control import health
from kaizen.control.bucket import BucketKeeper
from kaizen.control.config import Config
from kaizen.control.queue import FIRST_DELAY_SECONDS, Queue
from kaizen.control.reconcile import Reconciler
from kaizen.control.retention import Retention
from kaizen.core.conditions import find
from kaizen.core.jobs import COUNTS_FOR_LABEL, TRAINING_JOB_LABEL
from kaizen.core.objects import MANAGED_BY, SERVICE_LABEL
from kaizen.core.plan import Key, Object

LEASE_NAME = "kaizen-operator"
CHILD_SELECTOR = f"{MANAGED_BY}=kaizen"
LONGEST_LIST_DELAY_SECONDS = 30.0
FIRST_CHECK_SECONDS = 10.0
_OWN_KINDS = frozenset(resource.kind for resource in OWN)
_log = logging.getLogger(__name__)


class Operator:
    """Everything of one process, wired together."""

    def __init__(self, config: Config, client: Client) -> None:
        self._config = config
        self._client = client
        self._store = Store()
        self._queue = Queue()
        self._health = health.Health(config.resync_seconds)
        self._bucket = BucketKeeper(config, client, self._queue_everything)
        self._retention = Retention(self._bucket, self._own_objects)
        self._reconciler = Reconciler(client, self._store, self._queue, self._bucket, config.settings())

    async def run(self, watch: Callable[["Operator"], Awaitable[None]]) -> None:
        """Serve probes at once, reconcile once the Lease is held; `watch` delivers events until it is cancelled.

        Ends when `watch` does or when cancelled, with the Lease released; raises lease.Lost (in an ExceptionGroup).
        """
        lease = Lease(self._client, self._config.namespace, LEASE_NAME, self._config.pod_name)
        async with health.serving(self._health, self._queue, self._store_summary, self._config.port):
            try:
                await self._wait_for_lease(lease)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(lease.hold())
                    tasks.create_task(self._bucket.keep())
                    tasks.create_task(self._retention.keep())
                    await self._resync()
                    self._health.note_ready()
                    tasks.create_task(self._resync_forever())
                    # Before the watch: kopf takes tasks that are younger than itself for its own, and ends them its way.
                    for _ in range(self._config.workers):
                        tasks.create_task(self._work())
                    tasks.create_task(_until_stopped(watch(self)))
            except* _Stopped:
                _log.info("stopping")
            finally:
                metrics.LEADER.set(0)
                await lease.release()

    def on_event(self, kind: str | None, body: Object) -> None:
        """Take one watch event: remember the object, and queue whom it concerns.  `kind` is DELETED or anything else."""
        metrics.WATCH_EVENTS.labels(body["kind"]).inc()
        changed = self._store.remove(body) if kind == "DELETED" else self._store.put(body)
        if changed:
            self._queue_for(body)

    async def _wait_for_lease(self, lease: Lease) -> None:
        acquired = asyncio.ensure_future(lease.acquire())
        try:
            known = asyncio.ensure_future(lease.known.wait())
            await asyncio.wait({acquired, known}, return_when=asyncio.FIRST_COMPLETED)
            known.cancel()
            if not acquired.done():
                self._health.note_ready()  # A standby is as ready as it can be.
                _log.info("another process holds the Lease %s: waiting", LEASE_NAME)
            await acquired
        finally:
            acquired.cancel()
        self._health.leading = True
        self._health.note_resync()
        metrics.LEADER.set(1)
        _log.info("leading")

    async def _work(self) -> None:
        # A status that says "not checked yet" helps nobody, unless the check takes long.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._bucket.checked.wait(), FIRST_CHECK_SECONDS)
        await self._reconciler.work()

    async def _resync_forever(self) -> None:
        while True:
            await asyncio.sleep(self._config.resync_seconds)
            await self._resync()
            self._reconciler.forget_gone()
            for key in self._own_keys():
                self._queue.add(key, random.uniform(0, self._config.resync_seconds / 2))

    async def _resync(self) -> None:
        """List everything that is watched; tried again until it succeeds."""
        for resource in WATCHED:
            selector = CHILD_SELECTOR if resource in CHILDREN else None
            delay = FIRST_DELAY_SECONDS
            while True:
                before = self._store.begin_list(resource.kind)
                try:
                    listed, as_of = await self._client.list_all(resource, selector)
                    break
                except ApiError as problem:
                    _log.warning("%s cannot be listed: %s Again in %.0f s.", resource.plural, problem, delay)
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, LONGEST_LIST_DELAY_SECONDS)
            for body in self._store.replace(listed, before, as_of):
                self._queue_for(body)
        self._health.note_resync()
        metrics.RESYNC_TIME.set_to_current_time()

    def _queue_for(self, body: Object) -> None:
        if body["kind"] in _OWN_KINDS:
            self._queue.add(key_of(body))
        if (owner := owner_of(body)) and owner["kind"] in _OWN_KINDS:
            self._queue.add(Key(owner["kind"], body["metadata"]["namespace"], owner["name"]))
        elif belongs := _belongs_to(body):
            self._queue.add(belongs)
        if body["kind"] == "ModelVersion":
            # A service follows versions, whoever made them.
            for other in self._store.of_model(body["metadata"]["namespace"], str(body.get("spec", {}).get("model"))):
                if other["kind"] == "InferenceService":
                    self._queue.add(key_of(other))

    def _queue_everything(self) -> None:
        for key in self._own_keys():
            self._queue.add(key)

    def _own_keys(self) -> list[Key]:
        return [key for key in self._store if key.kind in _OWN_KINDS]

    def _own_objects(self) -> list[Object]:
        return [body for key in self._own_keys() if (body := self._store.get(key)) is not None]

    def _store_summary(self) -> Counter[tuple[str, str]]:
        """How many objects there are of each kind and status of Ready."""
        summary: Counter[tuple[str, str]] = Counter()
        for key in self._own_keys():
            status = (self._store.get(key) or {}).get("status", {})
            ready = find(status.get("conditions", ()), "Ready")
            summary[key.kind, ready["status"] if ready else "Unknown"] += 1
        return summary


def _belongs_to(body: Object) -> Key | None:
    """Whose Pod this is, by its labels: its owners are Jobs and ReplicaSets."""
    labels, namespace = body["metadata"].get("labels", {}), body["metadata"].get("namespace", "")
    for label, kind in (
        (TRAINING_JOB_LABEL, "TrainingJob"),
        (COUNTS_FOR_LABEL, "InferenceService"),
        (SERVICE_LABEL, "InferenceService"),
    ):
        if name := labels.get(label):
            return Key(kind, namespace, name)
    return None


class _Stopped(Exception):
    """The watches ended because the process was asked to."""


async def _until_stopped(watching: Awaitable[None]) -> None:
    await watching
    raise _Stopped
