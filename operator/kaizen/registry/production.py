"""What a service serves, changed so that the audit chain knows of it before it happens and after.

    intend     audit: PromotionIntended
    …          the caller switches the Service
    finish     production/<service>.json naming that record, with the newest promotions → audit: Promoted
    recover    open intents finished when the Service was switched, else audit: PromotionVoided

After a crash a caller that still wants the version intends it again and gets the same intent; one that does not recovers.
An intent is closed by exactly one record, Promoted or PromotionVoided.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kaizen.core.plan import Production, Served
from kaizen.core.times import timestamp
from kaizen.registry import audit, layout
from kaizen.registry.errors import Malformed, Missing
from kaizen.registry.store import Bucket
from kaizen.registry.swap import swap
from kaizen.registry.versions import list_visible

__all__ = ["Promotion", "PromotionVoided", "audit_object", "finish", "intend", "promoted", "read", "read_all", "recover"]

INTENDED = "PromotionIntended"
PROMOTED = "Promoted"
VOIDED = "PromotionVoided"
MOST_REMEMBERED = 10
"""Promotions in the history of a service; the audit chain has all."""


@dataclass(frozen=True)
class Promotion:
    """An intent that was recorded."""

    service: str
    version: int
    digest: str
    sequence: int
    """Its number in the audit chain."""
    reason: str


class PromotionVoided(Exception):
    """The intent was voided meanwhile: look at the Service again and decide anew."""


def read(bucket: Bucket, namespace: str, model: str, service: str) -> Production | None:
    """What a service serves; None before its first promotion.  Raises Malformed."""
    try:
        document, _ = bucket.read(layout.production(namespace, model, service))
    except Missing:
        return None
    return _production(document, service)


def read_all(bucket: Bucket, namespace: str, model: str) -> dict[str, Production]:
    """What each service of a model serves, or served when it was deleted, by the service's name.  Raises Malformed."""
    prefix, found = f"{layout.registry(namespace, model)}production/", {}
    for entry in bucket.list(prefix):
        service = entry.key.removeprefix(prefix).removesuffix(".json")
        if service and "/" not in service and entry.key == f"{prefix}{service}.json":
            document, _ = bucket.read(entry.key)
            found[service] = _production(document, service)
    return found


def intend(
    bucket: Bucket,
    namespace: str,
    model: str,
    service: str,
    version: int,
    *,
    serving: int | None,
    reason: str,
    now: datetime,
    actor: str = audit.OPERATOR,
) -> Promotion:
    """Record that a service is about to serve a version, before it does; the same intent when that was recorded already.

    `serving` is what the Service selects at this moment, live and not from a cache: intents of another version that a crash
    left open are closed by it.  Raises Missing when the version is not visible.
    """
    digest = next((entry.digest for entry in list_visible(bucket, namespace, model) if entry.version == version), None)
    if digest is None:
        raise Missing(f"model {model} in namespace {namespace} has no committed version {version}")
    current, known = _look(bucket, namespace, model, service)
    resumed = known.open[-1] if known.open and known.open[-1].version == version else None
    for promotion in known.open:
        if promotion is not resumed:
            current = _close(bucket, namespace, model, promotion, current, serving, now)
    if resumed:
        return resumed
    if current and current.version == version and current.audit not in known.voided:
        return Promotion(service, version, current.digest, current.audit, current.history[-1].reason if current.history else "")
    details = {"version": version, "from": current.version if current else None, "reason": reason}
    what = audit_object(namespace, model, service)
    # Another process may be at the same point: of two that intend the same after all that was read here, one writes.
    record = audit.append(
        bucket,
        namespace,
        model,
        audit.Draft(INTENDED, what, digest, details, actor),
        now=now,
        since=known.newest,
        same=lambda found: (found.action, found.object, found.details.get("version")) == (INTENDED, what, version),
    )
    return _promotion(record, service)


def finish(
    bucket: Bucket, namespace: str, model: str, promotion: Promotion, *, now: datetime, actor: str = audit.OPERATOR
) -> Production:
    """Record that the Service was switched.  Raises PromotionVoided when that intent is no longer one."""
    since, service = promotion.sequence, promotion.service
    if any(_closes(record, promotion) and record.action == VOIDED for record in audit.records(bucket, namespace, model, since)):
        raise _voided(promotion)

    def change(document: Mapping[str, Any] | None) -> Mapping[str, Any]:
        if document is None:
            return _to_json(promoted(None, promotion, now))
        before = _production(document, service)
        # Never back to an older intent: that one was closed before a newer one was made.
        return document if before.audit >= promotion.sequence else _to_json(promoted(before, promotion, now))

    current = _production(swap(bucket, layout.production(namespace, model, service), change), service)
    if _record_end(bucket, namespace, model, promotion, PROMOTED, {}, now, actor).action == VOIDED:
        raise _voided(promotion)
    return current


def promoted(before: Production | None, promotion: Promotion, now: datetime) -> Production:
    """What a service serves after a promotion.  Pure."""
    past = before.history if before else ()
    if before and before.version == promotion.version:
        # Only when the intent that it rested on was voided is a version promoted twice in a row: the one that stands counts.
        past = past[:-1]
    history = (*past, Served(promotion.version, timestamp(now), promotion.reason))[-MOST_REMEMBERED:]
    return Production(promotion.version, promotion.digest, timestamp(now), promotion.sequence, history)


def audit_object(namespace: str, model: str, service: str) -> str:
    """What the audit chain calls that which a service serves."""
    return layout.production(namespace, model, service).removeprefix(layout.registry(namespace, model))


def recover(bucket: Bucket, namespace: str, model: str, service: str, *, serving: int | None, now: datetime) -> Production | None:
    """Close the intents that a crash left open, when none is wanted any more; returns what the service serves.

    `serving` is what the Service selects at this moment, live and not from a cache.  Lists the audit chain: for the first
    look at a service after a start, not for every one.
    """
    current, known = _look(bucket, namespace, model, service)
    for promotion in known.open:
        current = _close(bucket, namespace, model, promotion, current, serving, now)
    return current


@dataclass(frozen=True)
class _Intents:
    open: tuple[Promotion, ...]
    """Oldest first."""
    promoted: frozenset[int]
    voided: frozenset[int]
    newest: int
    """The newest record of the chain that was looked at."""


def _look(bucket: Bucket, namespace: str, model: str, service: str) -> tuple[Production | None, _Intents]:
    current = read(bucket, namespace, model, service)
    known = _intents(bucket, namespace, model, service, current)
    if max(known.promoted, default=0) > (current.audit if current else 0):
        # Another process finished one between the two looks; it wrote what serves before it said so in the chain.
        current = read(bucket, namespace, model, service)
    return current, known


def _intents(bucket: Bucket, namespace: str, model: str, service: str, current: Production | None) -> _Intents:
    """The intents from the one that the pointer names on: everything before that is closed."""
    since = current.audit - 1 if current else 0
    found, what = audit.records(bucket, namespace, model, since), audit_object(namespace, model, service)
    ours = tuple(record for record in found if record.object == what)
    ends = {int(record.details.get("intent", 0)): record.action for record in ours if record.action in (PROMOTED, VOIDED)}
    intents = (record for record in ours if record.action == INTENDED and record.sequence not in ends)
    return _Intents(
        tuple(_promotion(record, service) for record in intents),
        frozenset(sequence for sequence, action in ends.items() if action == PROMOTED),
        frozenset(sequence for sequence, action in ends.items() if action == VOIDED),
        max((record.sequence for record in found), default=since),
    )


def _close(
    bucket: Bucket,
    namespace: str,
    model: str,
    promotion: Promotion,
    current: Production | None,
    serving: int | None,
    now: datetime,
) -> Production | None:
    named = current is not None and current.audit == promotion.sequence
    if named or serving == promotion.version:
        return finish(bucket, namespace, model, promotion, now=now)
    reason = "the Service was not switched"
    _record_end(bucket, namespace, model, promotion, VOIDED, {"reason": reason}, now, audit.OPERATOR)
    return current


def _record_end(
    bucket: Bucket,
    namespace: str,
    model: str,
    promotion: Promotion,
    action: str,
    details: Mapping[str, Any],
    now: datetime,
    actor: str,
) -> audit.Record:
    """Close an intent; returns the record that does, which is another's when that came first."""
    details = {"intent": promotion.sequence, "version": promotion.version, **details}
    draft = audit.Draft(action, audit_object(namespace, model, promotion.service), promotion.digest, details, actor)
    return audit.append(
        bucket, namespace, model, draft, now=now, since=promotion.sequence, same=lambda record: _closes(record, promotion)
    )


def _closes(record: audit.Record, promotion: Promotion) -> bool:
    return record.action in (PROMOTED, VOIDED) and record.details.get("intent") == promotion.sequence


def _promotion(record: audit.Record, service: str) -> Promotion:
    details = record.details
    return Promotion(service, details.get("version", 0), str(record.digest), record.sequence, str(details.get("reason", "")))


def _voided(promotion: Promotion) -> PromotionVoided:
    return PromotionVoided(f"the promotion of version {promotion.version} by audit record {promotion.sequence} was voided")


def _to_json(production: Production) -> dict[str, Any]:
    return {
        "version": production.version,
        "digest": production.digest,
        "since": production.since,
        "audit": production.audit,
        "reason": production.history[-1].reason,
        "history": [vars(served) for served in production.history],
    }


def _production(document: Mapping[str, Any], service: str) -> Production:
    try:
        return Production(
            version=int(document["version"]),
            digest=document["digest"],
            since=document["since"],
            audit=int(document["audit"]),
            # The first documents had none.
            history=tuple(Served(int(one["version"]), one["time"], one["reason"]) for one in document.get("history", ())),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Malformed(f"production/{service}.json in the bucket does not say what is served: restore it") from error
