"""What a reconcile does when a decision itself fails: the object says so, and nothing it showed is lost."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from kaizen.cluster.client import Client
from kaizen.cluster.store import Store
from kaizen.control import reconcile
from kaizen.control.queue import Queue
from kaizen.core.plan import Key, Object, Observed, Plan, Settings
from tests.support import lint
from tests.support.buckets import EmptyBucket

OWNER: dict[str, Any] = {
    "apiVersion": "mlops.kaizen.dev/v1alpha1",
    "kind": "InferenceService",
    "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 1},
    "spec": {"model": "m"},
    "status": {"url": "http://a.n.svc", "observedGeneration": -1, "conditions": []},
}


class Recorder(Client):
    """Remembers what would be written."""

    def __init__(self) -> None:
        self.statuses: list[Object] = []

    async def apply_status(self, body: Object, observed: Object) -> Object:
        self.statuses.append(body["status"])
        return {**observed, "metadata": {**observed["metadata"], "resourceVersion": "2"}, "status": body["status"]}

    async def create(self, body: Object, manager: str = "kaizen") -> Object:
        return body


def test_failing_decision_is_shown_on_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(observed: Observed, now: datetime) -> Plan:
        raise ZeroDivisionError

    monkeypatch.setattr(reconcile, "DECIDE", {"InferenceService": fail})
    client, store = Recorder(), Store()
    store.put(OWNER)

    async def run() -> None:
        reconciler = reconcile.Reconciler(client, store, Queue(), EmptyBucket(), Settings())
        await reconciler.reconcile(Key("InferenceService", "n", "a"))

    asyncio.run(run())
    (status,) = client.statuses
    assert status["url"] == "http://a.n.svc"
    assert [(c["type"], c["reason"]) for c in status["conditions"]] == [
        ("Ready", "InternalError"),
        ("Reconciling", "ProgressingWithRetry"),
    ]
    assert lint.problems({**OWNER, "status": status}, datetime.now(UTC)) == []
