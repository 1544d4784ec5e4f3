"""An InferenceService as the operator observes it, piece by piece, for decisions over literals."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from kaizen.core.objects import SERVICE_LABEL, VERSION_LABEL
from kaizen.core.plan import ModelRegistry, Observed, Plan, Production, RegistryEntry, Served, Settings, Watched
from kaizen.core.training_record import TrainingRecord
from kaizen.monitoring.verdict import FeatureVerdict, Kind, Verdict
from tests.support.objects import inference_service, recipe

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LONG_AGO = "2026-02-01T00:00:00Z"
SERVICE = "flight-delay"
SETTINGS = Settings("kaizen/trainer:1", "kaizen/server:1", "kaizen/server-sklearn:1", {"KAIZEN_BUCKET_NAME": "kaizen"})


def digest(version: int) -> str:
    """Of a version."""
    return f"sha256:{version:064x}"


def entry(version: int, *, champion: int | None = None, gates: Sequence[Mapping[str, Any]] | None = None) -> RegistryEntry:
    """A committed version; `champion` is what its gate compared it with."""
    if gates is None and champion is not None:
        gates = [{"name": "no-worse", "outcome": "Passed", "passed": True, "championDigest": digest(champion)}]
    manifest = {"engine": "compiled", "trainedUntil": "2013-03-31T23:00:00Z", "gates": list(gates or [])}
    uri = f"s3://kaizen/registry/team-a/{SERVICE}/versions/{version}/"
    return RegistryEntry(version, "Committed", uri, digest(version), None, manifest)


def production(version: int, since: str = LONG_AGO) -> dict[str, Production]:
    """The service serves this version."""
    return {SERVICE: Production(version, digest(version), since, 7, (Served(version, since, "the newest version"),))}


def registry(
    *entries: RegistryEntry, serves: int | None = None, since: str = LONG_AGO, record: TrainingRecord | None = None
) -> ModelRegistry:
    """The registry with these versions."""
    return ModelRegistry(entries, production(serves, since) if serves else {}, record or TrainingRecord())


def observed(
    model: ModelRegistry, *children: Mapping[str, Any], watched: Watched | None = None, generation: int = 3, **spec: Any
) -> Observed:
    """The service in namespace team-a with these children."""
    body = inference_service(SERVICE, **copy.deepcopy(spec))
    body["metadata"] |= {"namespace": "team-a", "uid": "uid-1", "generation": generation, "resourceVersion": "7"}
    return Observed(body, tuple(children), settings=SETTINGS, model=model, watched=watched)


def training(**changes: Any) -> dict[str, Any]:
    """spec.training."""
    template = recipe()
    template["data"]["timestamp"] = "time"
    return {"template": template, "minimumNewRows": 100, "cooldownSeconds": 3600, **changes}


def stable_service(version: int | None) -> dict[str, Any]:
    """The Service as it stands in the cluster."""
    selector = {SERVICE_LABEL: SERVICE, VERSION_LABEL: str(version or "none")}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(SERVICE, {}), "spec": {"selector": selector}}


def deployment(plan: Plan, version: int, *, ready: int = 1, replicas: int = 1) -> dict[str, Any]:
    """The Deployment that a plan made, some seconds later."""
    body = copy.deepcopy(
        next(
            dict(child.body)
            for child in plan.children
            if child.body["kind"] == "Deployment" and child.body["metadata"]["name"] == f"{SERVICE}-v{version}"
        )
    )
    body["metadata"] |= {"generation": 1, "uid": f"deployment-{version}"}
    body["status"] = {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": ready}
    return body


def pod(version: int, *, exit_code: int | None = None, message: str = "", restarts: int = 0) -> dict[str, Any]:
    """A Pod of a version, whose container has ended before when there is an exit code."""
    container: dict[str, Any] = {"name": "server", "restartCount": restarts, "state": {"running": {}}}
    if exit_code is not None:
        container["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
        container["lastState"] = {"terminated": {"exitCode": exit_code, "message": message, "reason": "Error"}}
    labels = {SERVICE_LABEL: SERVICE, VERSION_LABEL: str(version)}
    metadata = _metadata(f"{SERVICE}-v{version}-x", labels)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"containerStatuses": [container]}}


def watched(kind: Kind, *, in_a_row: int = 0, **distances: float) -> Watched:
    """A verdict with these features drifted."""
    features = tuple(FeatureVerdict(name, distance, 0.2, True, False, False) for name, distance in distances.items())
    return Watched(1, Verdict(kind, 5000, features, 0.1), "2026-03-01T11:59:00Z", in_a_row)


def with_record(seen: Observed, record: TrainingRecord) -> Observed:
    """The same with another record of training."""
    assert seen.model is not None
    return replace(seen, model=replace(seen.model, record=record))


def _metadata(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"name": name, "namespace": "team-a", "labels": dict(labels), "uid": f"uid-of-{name}"}
