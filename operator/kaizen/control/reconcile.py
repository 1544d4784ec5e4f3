"""One reconcile: observe from the store, decide purely, apply with guarded writes.  The same for all kinds.

Crash at any instruction: nothing here lives longer than the call.  Children are named, so a repetition finds them; the
status is computed anew from what is observed; events are recorded after the status that they tell of, so a crash
between the two loses a hint and no fact.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from kaizen import metrics
from kaizen.cluster import events
from kaizen.cluster.client import ApiError, Client, Conflict, NotFound
from kaizen.cluster.store import Store, key_of, owner_of
from kaizen.control.bucket import sentence
from kaizen.control.children import Children, NameTaken, with_digest
from kaizen.control.kinds import DECIDE
from kaizen.control.monitoring import Monitor
from kaizen.control.observation import Observation
from kaizen.control.promotion import Promotions
from kaizen.control.queue import Queue
from kaizen.control.registry import Registry
from kaizen.control.tenancy import ensure_tenant
from kaizen.core.conditions import conclude, find
from kaizen.core.objects import selecting
from kaizen.core.plan import (
    Bucket,
    Child,
    Key,
    Object,
    Observed,
    Plan,
    Promote,
    Ready,
    Retry,
    Settings,
    Skip,
    StartTraining,
    Terminal,
    Waiting,
)
from kaizen.registry import store as registry_store
from kaizen.registry.errors import BucketError

NAME_TAKEN_SECONDS = 30.0
REFUSED = (400, 422)
"""What the API server answers to an object that cannot be."""
REFUSED_SECONDS = 300.0
"""Until it is tried again: what refused it may have been an admission policy."""
TOLD = ("Healthy", "Ready", "RollingOut", "TrainingBlocked")
"""Conditions whose transitions are events."""
_log = logging.getLogger(__name__)


class BucketAccess(Protocol):
    """What reconciles need of the bucket."""

    def state(self) -> Bucket:
        """Whether it can be used."""

    def bucket(self) -> registry_store.Bucket:
        """The bucket itself."""

    def workload_keys(self) -> Mapping[str, str]:
        """Credentials shared by all namespaces, or none."""

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        """Run blocking work."""


class Reconciler:
    """Works on keys from a queue until cancelled."""

    def __init__(self, client: Client, store: Store, queue: Queue, bucket: BucketAccess, settings: Settings) -> None:
        self._client = client
        self._store = store
        self._queue = queue
        self._bucket = bucket
        self._children = Children(client)
        self._registry = Registry(bucket.in_thread, bucket.bucket)
        self._promotions = Promotions(client, self._registry, bucket.in_thread, bucket.bucket)
        self._monitor = Monitor(bucket.in_thread, bucket.bucket, self._registry.reference)
        self._observation = Observation(store, self._registry, self._monitor, settings, client.newest_warning)
        self._recovered: set[str] = set()
        """Uids of InferenceServices whose open intents this process has looked for."""

    async def work(self) -> None:
        """Take keys and reconcile them; a failure of one never ends the loop."""
        while True:
            key = await self._queue.take()
            started = time.perf_counter()
            try:
                result = await self._one(key)
            except Exception:
                result = "Failed"
                metrics.RECONCILE_ERRORS.labels(key.kind, "InternalError").inc()
                delay = self._queue.failed(key)
                _log.exception("reconcile failed; again in %.0f s", delay, extra={"object": str(key)})
            metrics.RECONCILE_SECONDS.labels(key.kind, result).observe(time.perf_counter() - started)

    def forget_gone(self) -> None:
        """Drop what is remembered of objects that are no longer there."""
        self._children.forget_gone(self._store)
        services = [body for key in self._store if key.kind == "InferenceService" and (body := self._store.get(key))]
        self._recovered &= {body["metadata"]["uid"] for body in services}
        self._monitor.forget_gone({(body["metadata"]["namespace"], body["metadata"]["name"]) for body in services})

    async def _one(self, key: Key) -> str:
        try:
            plan = await self.reconcile(key)
        except (Conflict, NotFound):
            # Observed too early: the event that brings the newer state is on its way, and makes the key due at once.
            self._queue.failed(key)
            return "Conflict"
        match plan.outcome if plan else None:
            case Retry(reason, message):
                metrics.RECONCILE_ERRORS.labels(key.kind, reason).inc()
                delay = self._queue.failed(key)
                _log.warning("%s: %s Again in %.0f s.", reason, message, delay, extra={"object": str(key)})
            case Waiting(after_seconds=after) | Terminal(after_seconds=after) | Ready(after_seconds=after):
                self._queue.done(key, after)
            case _:
                self._queue.done(key)
        return "Done"

    async def reconcile(self, key: Key) -> Plan | None:
        """Bring one object and its children to what is decided; None when it is gone or going."""
        owner = self._store.get(key)
        if owner is None or owner["metadata"].get("deletionTimestamp"):
            return None
        now = datetime.now(UTC)
        observed = await self._observation.observe(owner, self._bucket.state(), now)
        plan = _decided(observed, now)
        plan = await self._apply_children(observed, plan)
        if owner in plan.deletions:
            return plan
        await self._apply_status(observed, plan, now)
        return await self._change(observed, plan)

    async def _change(self, observed: Observed, plan: Plan) -> Plan:
        """Do what the plan wants of the registry; the object is due again at once, to see it there."""
        if plan.change is None:
            if isinstance(plan.outcome, Ready | Waiting):  # What is wanted is known, and it is nothing new.
                await self._recover_once(observed)
            return plan
        try:
            if isinstance(plan.change, Promote):
                await self._promote(observed, plan.change, plan.children)
            else:
                await self._registry.change(observed.namespace, observed.name, plan.change)
        except (Conflict, NotFound):
            raise
        except (BucketError, ApiError) as problem:
            return replace(plan, outcome=Retry("RegistryDelayed", sentence(problem)))
        match plan.change:
            case Promote(version=version, reason=reason):
                await self._record(observed.owner, "Normal", "Promoted", f"Version {version} answers: {reason}.")
            case Skip(version=version, action=action, reason=reason):
                await self._record(observed.owner, "Warning", action, f"Version {version} is not followed: {reason.rstrip('.')}.")
            case StartTraining(cause=cause):
                await self._record(observed.owner, "Normal", "TrainingStarted", f"A TrainingJob is started: {cause}.")
        # Others of the model show or follow what was changed.
        for body in self._store.of_model(observed.namespace, plan.change.model):
            if body["kind"] in ("InferenceService", "ModelVersion"):
                self._queue.add(key_of(body))
        return replace(plan, outcome=Waiting("Changed", "", after_seconds=0.0))

    async def _promote(self, observed: Observed, promote: Promote, children: Sequence[Child]) -> None:
        # Until it is done there may be an intent that nobody wants any more.
        self._recovered.discard(observed.uid)
        address = next(
            child.body for child in children if key_of(child.body) == Key("Service", observed.namespace, observed.name)
        )
        service = with_digest(selecting(address, promote.version))
        self._store.put(await self._promotions.promote(observed.namespace, service, promote))

    async def _recover_once(self, observed: Observed) -> None:
        """Close what an earlier process left open, once nothing that it began is wanted any more."""
        if observed.owner["kind"] != "InferenceService" or observed.model is None or observed.uid in self._recovered:
            return
        try:
            await self._promotions.recover(observed.namespace, str(observed.owner["spec"]["model"]), observed.name)
        except (Conflict, NotFound):
            raise
        except (BucketError, ApiError) as problem:
            _log.info("not recovered yet: %s", problem, extra={"object": str(key_of(observed.owner))})
            return
        self._recovered.add(observed.uid)

    async def _apply_children(self, observed: Observed, plan: Plan) -> Plan:
        """Write the children; what goes wrong becomes the plan's outcome."""
        known = {key_of(child): child for child in observed.children}
        try:
            if plan.tenant:
                await self._ensure_tenant(observed)
            for record in plan.records:
                await self._children.ensure_record(record, self._store.get(key_of(record)))
            for child in plan.children:
                await self._children.ensure(child, observed.owner, known.get(key_of(child.body)))
            if plan.suspend is not None:
                await self._client.suspend(*plan.suspend)
            for body in plan.deletions:
                await self._client.delete(body)
        except NameTaken as problem:
            return replace(plan, outcome=Terminal("NameTaken", str(problem), NAME_TAKEN_SECONDS), change=None)
        except (Conflict, NotFound):
            raise
        except ApiError as problem:
            if problem.status in REFUSED:
                return _refused(observed, plan, problem)
            return replace(plan, outcome=Retry("ApplyFailed", str(problem)), change=None)
        return plan

    async def _ensure_tenant(self, observed: Observed) -> None:
        try:
            await ensure_tenant(self._client, observed.namespace, self._bucket.workload_keys())
        except NotFound:
            # The namespace is going, and waits for Pods that may be kept until they are replaced, which cannot be any more.
            for child in observed.children:
                if child["kind"] == "Job" and not child["metadata"].get("deletionTimestamp"):
                    await self._client.delete(child)
            raise

    async def _apply_status(self, observed: Observed, plan: Plan, now: datetime) -> None:
        owner, before = observed.owner, observed.owner.get("status", {})
        conditions = conclude(plan.outcome, before.get("conditions", ()), observed.generation, now, plan.conditions)
        fields = plan.status if plan.status is not None else before
        status = {**fields, "observedGeneration": observed.generation, "conditions": conditions}
        if status == before:
            return
        metadata = owner["metadata"]
        body = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
            "status": status,
        }
        self._store.put(await self._client.apply_status(body, owner))
        if holder := owner_of(owner):
            # The watch will show nothing that is not known by now, so nobody else tells whom it concerns.
            self._queue.add(Key(holder["kind"], metadata["namespace"], holder["name"]))
        await self._tell(owner, before, status)

    async def _tell(self, owner: Object, before: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """Record an event and a log line for each condition whose status or reason has changed."""
        troubled = find(status["conditions"], "Reconciling") is not None
        told: set[tuple[str, str]] = set()
        for condition in status["conditions"]:
            kind, reason, message = condition["type"], condition["reason"], condition["message"]
            old = find(before.get("conditions", ()), kind)
            same = old is not None and (old["status"], old["reason"]) == (condition["status"], reason)
            if kind not in TOLD or same or (reason, message) in told:
                continue
            told.add((reason, message))
            bad = condition["status"] == "False" or (kind == "Ready" and troubled)
            await self._record(owner, "Warning" if bad else "Normal", reason, message)

    async def _record(self, owner: Object, kind: str, reason: str, message: str) -> None:
        _log.info("%s: %s", reason, message, extra={"object": str(key_of(owner))})
        try:
            await events.record(self._client, owner, kind, reason, message)
        except ApiError as problem:
            _log.info("an event was not recorded: %s", problem, extra={"object": str(key_of(owner))})


def _refused(observed: Observed, plan: Plan, problem: ApiError) -> Plan:
    """The API server will not have a child as it is, however often it is asked: only a person can change that."""
    if observed.owner["kind"] == "TrainingJob" and observed.refused is None:
        # Its spec never changes, so this is how it ends; the decision knows how to say that.
        return replace(_decided(replace(observed, refused=str(problem)), datetime.now(UTC)), children=(), deletions=())
    return replace(plan, outcome=Terminal("InvalidPod", str(problem), REFUSED_SECONDS), change=None)


def _decided(observed: Observed, now: datetime) -> Plan:
    try:
        return DECIDE[observed.owner["kind"]](observed, now)
    except Exception:
        _log.exception("a decision failed", extra={"object": str(key_of(observed.owner))})
        sentence = "Kaizen failed on this object; the operator's log has the details: please report them."
        return Plan(Retry("InternalError", sentence), status=None)
