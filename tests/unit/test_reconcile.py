"""What a reconcile does when a decision itself fails: the object says so, and nothing it showed is lost."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from kaizen.cluster.client import ApiError, Client, NotFound
from kaizen.cluster.store import Store
from kaizen.control import reconcile, registry
from kaizen.control.queue import Queue
from kaizen.core.plan import Key, Object, Observed, Plan, Settings
from tests.support import lint, objects
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

    async def create_applied(self, body: Object) -> Object:
        return await self.create(body)


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


class Refusing(Recorder):
    """Takes everything but Jobs."""

    async def create(self, body: Object, manager: str = "kaizen") -> Object:
        if body["kind"] == "Job":
            raise ApiError(422, "Invalid", "Job.batch is invalid: spec.template.spec.tolerations[0].operator: Invalid value")
        return body

    async def newest_warning(self, observed: Object) -> str | None:
        return None


def test_job_that_the_api_server_refuses_ends_its_training_job(monkeypatch: pytest.MonkeyPatch) -> None:
    body = objects.training_job(podTemplate={"spec": {"tolerations": [{"operator": "Perhaps"}]}})
    body["metadata"] |= {"namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 1}
    body["status"] = {"observedGeneration": -1}

    monkeypatch.setattr(registry, "_uri", lambda bucket, key: f"s3://kaizen/{key}")
    client, store = Refusing(), Store()
    store.put(body)

    async def run() -> None:
        reconciler = reconcile.Reconciler(client, store, Queue(), EmptyBucket(), Settings("kaizen/trainer:1"))
        await reconciler.reconcile(Key("TrainingJob", "n", "flights-q1"))

    asyncio.run(run())
    (status,) = client.statuses
    (succeeded,) = [one for one in status["conditions"] if one["type"] == "Succeeded"]
    assert (succeeded["status"], succeeded["reason"]) == ("False", "InvalidPodTemplate")
    assert "tolerations[0].operator" in status["failure"]["message"]
    assert lint.problems({**body, "status": status}, datetime.now(UTC)) == []


class Going(Refusing):
    """Of a namespace that is being deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: list[str] = []

    async def create(self, body: Object, manager: str = "kaizen") -> Object:
        raise NotFound(403, "Forbidden", "unable to create new content in namespace n because it is being terminated")

    async def delete(self, observed: Object) -> None:
        self.deleted.append(f"{observed['kind']} {observed['metadata']['name']}")


def test_job_whose_pods_would_keep_its_namespace_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    body = objects.training_job()
    body["metadata"] |= {"namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 1}

    def owned(kind: str, name: str, holder: Object, **fields: Any) -> Object:
        reference = {
            "apiVersion": "v1",
            "kind": holder["kind"],
            "name": "x",
            "uid": holder["metadata"]["uid"],
            "controller": True,
        }
        metadata = {"name": name, "namespace": "n", "uid": name, "resourceVersion": "1", "ownerReferences": [reference]}
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields}

    job = owned("Job", "flights-q1", body, spec={"backoffLimitPerIndex": 2}, status={})
    pod = owned("Pod", "flights-q1-0", job, status={"phase": "Failed"})
    pod["metadata"]["deletionTimestamp"] = "2026-03-01T11:00:00Z"
    monkeypatch.setattr(registry, "_uri", lambda bucket, key: f"s3://kaizen/{key}")
    client, store = Going(), Store()
    for one in (body, job, pod):
        store.put(one)

    async def run() -> None:
        reconciler = reconcile.Reconciler(client, store, Queue(), EmptyBucket(), Settings("kaizen/trainer:1"))
        with pytest.raises(NotFound):
            await reconciler.reconcile(Key("TrainingJob", "n", "flights-q1"))

    asyncio.run(run())
    assert client.deleted == ["Job flights-q1"]
