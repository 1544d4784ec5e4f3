"""The operator killed again and again while people work: the end is the same as without."""

import random
from typing import Any

from kaizen.api.base import GROUP
from kaizen.control.children import APPLIED
from tests.support.chaos import Killer, kill_operator_pod
from tests.support.cluster import Cluster, condition_of
from tests.support.objects import changed, inference_service, training_job
from tests.support.wait import pause, until

SEED = 20261121
KILLS = 20
SERVICES = 12
_VOLATILE = ("uid", "resourceVersion", "creationTimestamp", "clusterIP", "clusterIPs", "lastTransitionTime", "runURI", APPLIED)


def test_twenty_kills_change_nothing(cluster: Cluster, namespace: str) -> None:
    calm = _story(cluster, namespace, random.Random(SEED), pauses=False)
    for kind in ("inferenceservice", "trainingjob"):
        cluster.kubectl("delete", kind, "--all", "--namespace", namespace)
    until("all children are gone", lambda: not _children(cluster, namespace), 60)
    killer = Killer(lambda: kill_operator_pod(cluster), times=KILLS, seed=SEED, shortest=0.5, longest=5.0)
    killer.start()
    stormy = _story(cluster, namespace, random.Random(SEED), pauses=True, until_done=killer.finish)
    assert killer.killed == KILLS
    assert stormy == calm


def _story(cluster: Cluster, namespace: str, chance: random.Random, *, pauses: bool, until_done: Any = lambda: None) -> list[Any]:
    """Create, change and delete objects by a seeded script; returns the end state once it has settled."""
    names = [f"service-{number}" for number in range(SERVICES)]
    alive: dict[str, dict[str, Any]] = {}
    for _ in range(5 * SERVICES):
        name, act = chance.choice(names), chance.random()
        if name in alive and act < 0.2:
            cluster.delete("inferenceservice", name, namespace, "--wait=false")
            del alive[name]
        elif name in alive and act < 0.6:
            alive[name] = changed(alive[name], "spec.version", chance.randint(1, 9))
            cluster.apply(alive[name], namespace=namespace)
        elif name in alive and act < 0.7:
            cluster.delete("service", name, namespace, "--wait=false")
        else:
            alive[name] = alive.get(name) or inference_service(name)
            cluster.apply(alive[name], namespace=namespace)
        if pauses:
            pause(chance.uniform(0.2, 1.6))
        else:
            chance.uniform(0.2, 1.6)
    cluster.apply(training_job(suspend=True), namespace=namespace)
    until_done()
    until(
        f"{len(alive)} services settle",
        lambda: _settled(cluster, namespace, alive),
        90,
        lambda: cluster.dump("inferenceservice", "", namespace),
    )
    return _state(cluster, namespace)


def _settled(cluster: Cluster, namespace: str, alive: dict[str, dict[str, Any]]) -> bool:
    owners = cluster.list(f"inferenceservices.{GROUP}", namespace) + cluster.list(f"trainingjobs.{GROUP}", namespace)
    ready = [
        body
        for body in owners
        if (condition := condition_of(body, "Ready"))
        and condition["reason"] in ("WaitingForVersion", "Suspended")
        and condition["observedGeneration"] == body["metadata"]["generation"]
    ]
    children = {child["metadata"]["ownerReferences"][0]["uid"] for child in _children(cluster, namespace)}
    services = {body["metadata"]["uid"] for body in owners if body["kind"] == "InferenceService"}
    return len(owners) == len(ready) == len(alive) + 1 and children == services


def _children(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    return cluster.list("services", namespace, "app.kubernetes.io/managed-by=kaizen")


def _state(cluster: Cluster, namespace: str) -> list[Any]:
    kinds = f"inferenceservices.{GROUP},trainingjobs.{GROUP}"
    return [_stable(body) for body in cluster.list(kinds, namespace) + _children(cluster, namespace)]


def _stable(value: Any) -> Any:
    """An object without what differs between any two runs."""
    if isinstance(value, dict):
        return {key: _stable(child) for key, child in value.items() if key not in _VOLATILE}
    if isinstance(value, list):
        return [_stable(child) for child in value]
    return value
