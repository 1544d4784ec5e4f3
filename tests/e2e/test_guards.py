"""A stale process cannot do harm: each of its writes is refused by the API server itself.

This is what correctness rests on, and not that two operators never run at the same time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from hack.paths import KUBECONFIG
from kaizen.cluster.client import Client, Conflict, NotFound
from kaizen.cluster.lease import Lease, Lost
from kaizen.cluster.store import Store
from kaizen.control.children import Children, NameTaken
from kaizen.control.queue import Queue
from kaizen.control.reconcile import Reconciler
from kaizen.core.plan import Child, Key, Observed, Settings
from tests.support.buckets import EmptyBucket
from tests.support.cluster import Cluster
from tests.support.objects import address, changed, inference_service


def with_client(work: Callable[[Client], Awaitable[None]]) -> None:
    """Run something with a client that has an administrator's rights."""

    async def run() -> None:
        client = await Client.connect(str(KUBECONFIG))
        try:
            await work(client)
        finally:
            await client.close()

    asyncio.run(run())


@pytest.fixture
def service(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """An InferenceService that the operator has answered."""
    cluster.apply(inference_service(), namespace=namespace)
    return cluster.wait_for("inferenceservice", "flight-delay", namespace, "Ready", "Unknown", reason="WaitingForVersion")


def test_stale_writes_are_refused(cluster: Cluster, namespace: str, service: dict[str, Any]) -> None:
    stale_child = cluster.get("service", "flight-delay", namespace)
    assert stale_child is not None
    cluster.kubectl("annotate", "service", "flight-delay", "a=b", "--namespace", namespace)
    cluster.apply(inference_service(version=3), namespace=namespace)
    cluster.wait_for("inferenceservice", "flight-delay", namespace, "Ready", "Unknown", reason="WaitingForVersion")

    async def write(client: Client) -> None:
        body = {key: service[key] for key in ("apiVersion", "kind", "metadata")}
        body = {**body, "metadata": {"name": "flight-delay", "namespace": namespace}}
        with pytest.raises(Conflict):
            await client.apply_status({**body, "status": {"observedGeneration": 1}}, service)
        child = address(Observed(service))
        with pytest.raises(Conflict):
            await client.apply(child, stale_child)
        with pytest.raises(Conflict):
            await client.delete(stale_child)
        with pytest.raises(Conflict):
            await client.create(child)

    with_client(write)
    assert cluster.get("service", "flight-delay", namespace) is not None


def test_status_of_an_object_made_anew_is_not_written_by_who_knew_the_old_one(
    cluster: Cluster, namespace: str, service: dict[str, Any]
) -> None:
    cluster.delete("inferenceservice", "flight-delay", namespace)

    async def write(client: Client) -> None:
        body = {"apiVersion": service["apiVersion"], "kind": service["kind"]}
        metadata = {"name": "flight-delay", "namespace": namespace}
        with pytest.raises((Conflict, NotFound)):
            await client.apply_status({**body, "metadata": metadata, "status": {"observedGeneration": 1}}, service)

    with_client(write)
    assert cluster.get("inferenceservice", "flight-delay", namespace) is None


def test_child_that_was_made_meanwhile_is_fine_and_a_foreign_one_is_not(
    cluster: Cluster, namespace: str, service: dict[str, Any]
) -> None:
    other = changed(service, "metadata.uid", "00000000-0000-0000-0000-000000000000")
    foreign = changed(other, "metadata.name", "other")

    async def ensure(client: Client) -> None:
        children, child = Children(client), Child(address(Observed(service)))
        assert not await children.ensure(child, service, observed=None)
        with pytest.raises(Conflict):  # Ours, of an earlier object of the same name: wait for the garbage collector.
            await children.ensure(child, other, observed=None)
        with pytest.raises(NameTaken):
            await children.ensure(child, foreign, observed=None)

    with_client(ensure)


def test_field_of_a_child_that_is_left_out_goes_away(cluster: Cluster, namespace: str, service: dict[str, Any]) -> None:
    body = changed(dict(address(Observed(service))), "metadata.name", "two")
    more = {"name": "more", "port": 81, "protocol": "TCP", "targetPort": "http"}

    async def ensure(client: Client) -> None:
        children = Children(client)
        both = changed(body, "spec.ports", [*body["spec"]["ports"], more])
        assert await children.ensure(Child(both), service, observed=None)
        assert not await children.ensure(Child(body), service, observed=None)
        made = await client.get("Service", namespace, "two")
        assert [port["port"] for port in made["spec"]["ports"]] == [80, 81]
        assert await children.ensure(Child(body), service, made)
        left = await client.get("Service", namespace, "two")
        assert [port["port"] for port in left["spec"]["ports"]] == [80]

    with_client(ensure)


def test_settled_object_costs_no_request(
    cluster: Cluster, namespace: str, service: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    child = cluster.get("service", "flight-delay", namespace)
    assert child is not None

    async def reconcile(client: Client) -> None:
        store = Store()
        store.put(service)
        store.put(child)

        async def refuse(*_: object, **__: object) -> None:
            raise AssertionError("a settled object needs no request")

        reconciler = Reconciler(client, store, Queue(), EmptyBucket(), Settings("trainer", "server", "server-sklearn"))
        # The first look of a process asks what the Service selects, to close what an earlier one left open.
        await reconciler.reconcile(Key("InferenceService", namespace, "flight-delay"))
        monkeypatch.setattr(client, "_request", refuse)
        await reconciler.reconcile(Key("InferenceService", namespace, "flight-delay"))

    with_client(reconcile)


def test_leader_that_lost_the_lease_stops(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaizen.cluster.lease.RENEW_SECONDS", 0.2)

    async def lead(client: Client) -> None:
        first, second = (Lease(client, namespace, "test", identity) for identity in ("one", "two"))
        await first.acquire()
        # No Pod is named "one", so its Lease may be taken at once.
        await second.acquire()
        with pytest.raises(Lost):
            await asyncio.wait_for(first.hold(), 10)
        await second.release()
        lease = await client.get("Lease", namespace, "test")
        assert lease["spec"].get("holderIdentity", "") == ""
        assert datetime.fromisoformat(lease["spec"]["renewTime"]) <= datetime.now(UTC)

    with_client(lead)
