"""Runs of several Pods: an Indexed Job whose index 0 decides, and the Service by which the others find it.

Nothing here needs all indexes at once: a search's workers come and go, and only code of the user's own (RANK, WORLD_SIZE) waits
for its like.
"""

from collections.abc import Mapping
from typing import Any

from kaizen.api.training_job import TrainingJobSpec
from kaizen.core.objects import owned
from kaizen.core.plan import Child, Object, Observed

__all__ = [
    "INDEX",
    "MASTER_PORT",
    "STUDY_PORT",
    "completion",
    "failed_indexes",
    "fields",
    "index_of",
    "members",
    "variables",
    "workers",
]

INDEX = "batch.kubernetes.io/job-completion-index"
"""Label and annotation of an Indexed Job's Pods."""
STUDY_PORT = 13000
MASTER_PORT = 29500


def members(spec: TrainingJobSpec) -> int:
    """How many Pods the run has, when nothing is retried."""
    if spec.container:
        return spec.container.replicas
    return min(spec.search.parallelism, spec.search.trials) if spec.search else 1


def completion(spec: TrainingJobSpec) -> dict[str, Any]:
    """The fields of the Job's spec that say when it has ended."""
    count = members(spec)
    if count == 1:
        return {"backoffLimit": spec.backoff_limit}
    return {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": count,
        "backoffLimitPerIndex": spec.backoff_limit,
        # A search does without a worker that fails for good; ranks wait for each other for ever.
        **({"maxFailedIndexes": 0} if spec.container else {}),
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
    }


def fields(observed: Observed, spec: TrainingJobSpec) -> dict[str, Any]:
    """The fields of the Pod's spec by which its name resolves: empty for a run of one Pod."""
    return {"subdomain": _service(observed)} if members(spec) > 1 else {}


def variables(observed: Observed, spec: TrainingJobSpec) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """What a member of a search is told: plain variables, and those that Kubernetes fills in."""
    if members(spec) == 1 or spec.container:
        return {}, []
    plain = {"KAIZEN_STUDY_ADDRESS": f"{_first(observed)}:{STUDY_PORT}"}
    return plain, [from_index("KAIZEN_WORKER_INDEX")]


def ranks(observed: Observed, spec: TrainingJobSpec) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """What a replica of the user's code is told, as PyTorch's env:// reads it."""
    if members(spec) == 1:
        return {}, []
    plain = {"WORLD_SIZE": str(members(spec)), "MASTER_ADDR": _first(observed), "MASTER_PORT": str(MASTER_PORT)}
    return plain, [from_index("RANK")]


def from_index(name: str) -> dict[str, Any]:
    """A variable with the Pod's index."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}}


def workers(observed: Observed, spec: TrainingJobSpec, selector: Mapping[str, str]) -> tuple[Child, ...]:
    """The headless Service that gives the Pods their names; none for a run of one Pod."""
    if members(spec) == 1:
        return ()
    name, port = ("master", MASTER_PORT) if spec.container else ("study", STUDY_PORT)
    body = owned(
        "v1",
        "Service",
        observed,
        selector,
        {
            "clusterIP": "None",
            # Members find each other before they are ready, and readiness means nothing to them.
            "publishNotReadyAddresses": True,
            "selector": dict(selector),
            "ports": [{"name": name, "port": port, "protocol": "TCP", "targetPort": port}],
        },
        name=_service(observed),
    )
    return (Child(body),)


def index_of(pod: Object) -> int | None:
    """Which member a Pod is; None when its Job is not indexed."""
    label = str(pod["metadata"].get("labels", {}).get(INDEX, ""))
    return int(label) if label.isdigit() else None


def failed_indexes(job: Object) -> frozenset[int]:
    """The indexes that have failed for good, of "0,3-5"."""
    found = set[int]()
    for part in str(job.get("status", {}).get("failedIndexes") or "").split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _service(observed: Observed) -> str:
    return f"{observed.name}-workers"


def _first(observed: Observed) -> str:
    """The host name of index 0."""
    return f"{observed.name}-0.{_service(observed)}"
