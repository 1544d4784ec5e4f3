"""Kubernetes events: one object per situation, counted, so that a repeated transition adds no second event."""

import hashlib
from datetime import UTC, datetime

from kaizen import metrics
from kaizen.cluster.client import Client, Conflict, NotFound
from kaizen.core.plan import Object
from kaizen.core.times import timestamp

COMPONENT = "kaizen"


async def record(client: Client, involved: Object, kind: str, reason: str, message: str) -> None:
    """Record that something happened to an object.  `kind` is Normal or Warning.

    The event's name is a digest of object, reason and message: a repetition raises its count.
    """
    metrics.EVENTS.labels(kind, reason).inc()
    metadata, now = involved["metadata"], timestamp(datetime.now(UTC))
    situation = hashlib.sha256(f"{metadata['uid']}\0{reason}\0{message}".encode()).hexdigest()[:16]
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{situation}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": involved["apiVersion"],
            "kind": involved["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": kind,
        "reason": reason,
        "message": message[:1024],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    try:
        await client.create(body)
    except Conflict:
        await _count(client, body, now)


async def _count(client: Client, body: Object, now: str) -> None:
    try:
        known = await client.get("Event", body["metadata"]["namespace"], body["metadata"]["name"])
        await client.replace({**known, "count": int(known.get("count", 1)) + 1, "lastTimestamp": now})
    except (Conflict, NotFound):
        return  # Expired, or counted by another process at this moment: an event is a hint, not a record.
