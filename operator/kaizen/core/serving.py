"""What a served version consists of in the cluster, a Deployment and a Service, and what their states mean.

The Pod template of a served version changes only with the user's spec: a newer operator, with another image or another way
to build Pods, restarts nobody's Pods.  So a Deployment that was made for the same spec is left as it is.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from kaizen.api.base import GROUP
from kaizen.api.inference_service import InferenceServiceSpec
from kaizen.core import capture, endpoint
from kaizen.core import pods as pod_parts
from kaizen.core.objects import MANAGED_BY, SERVICE_LABEL, VERSION_LABEL, owned, service_spec
from kaizen.core.plan import Child, Object, Observed, RegistryEntry
from kaizen.core.pods import (
    CONTAINER_SECURITY,
    CREDENTIALS,
    PATIENCE_SECONDS,
    POD_SECURITY,
    REASON,
    has_begun,
    last_end,
    newest,
    restarts,
    said,
    variables,
    waits_for,
)

SERVICE_ACCOUNT = "kaizen-server"
CONTAINER = "server"
MADE_FOR = f"{GROUP}/made-for"
"""Annotation of a Deployment: digest of the spec that its Pod template follows."""
REFUSED = 10
"""Exit code of a server that cannot serve its model however often it is tried."""
MOST_RESTARTS = 4
"""Of a Pod that is not ready, before its version is given up: about two minutes of crashes."""
METRICS_PORT = 9091
DRAIN_SECONDS = 5
GRACE_SECONDS = 45
"""More than the server takes: draining, finishing what has begun, and writing its last window."""
PROGRESS_SECONDS = 600


def version_name(service: str, version: int) -> str:
    """The name of a version's Deployment and Service."""
    return f"{service}-v{version}"


def version_service(observed: Observed, spec: InferenceServiceSpec, version: int) -> Child:
    """The Service of one version, whether or not it is the stable one."""
    labels = {SERVICE_LABEL: observed.name, VERSION_LABEL: str(version)}
    ports = endpoint.service_ports(spec, pods_of(observed, version))
    body = owned("v1", "Service", observed, labels, service_spec(labels, ports), name=version_name(observed.name, version))
    return Child(body)


def deployment(observed: Observed, spec: InferenceServiceSpec, entry: RegistryEntry, replicas: int) -> Child:
    """The Deployment of one version."""
    labels = {SERVICE_LABEL: observed.name, VERSION_LABEL: str(entry.version)}
    template = {"metadata": {"labels": {MANAGED_BY: "kaizen", **labels}}, "spec": _pod(observed, spec, entry, labels)}
    body = owned(
        "apps/v1",
        "Deployment",
        observed,
        labels,
        {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "progressDeadlineSeconds": PROGRESS_SECONDS,
            "revisionHistoryLimit": 2,
            "template": template,
        },
        name=version_name(observed.name, entry.version),
    )
    body["metadata"]["annotations"] = {MADE_FOR: _made_for(spec, entry)}
    present = find(observed.children, "Deployment", version_name(observed.name, entry.version))
    if present is None or present["metadata"].get("annotations", {}).get(MADE_FOR) != body["metadata"]["annotations"][MADE_FOR]:
        return Child(body)
    if present["spec"].get("replicas") == replicas:
        return Child(body, created_once=True)
    body["spec"]["template"] = present["spec"]["template"]
    return Child(body)


def find(children: Sequence[Object], kind: str, name: str) -> Object | None:
    """A child by kind and name."""
    return next((child for child in children if (child["kind"], child["metadata"]["name"]) == (kind, name)), None)


def version_of(child: Object) -> int | None:
    """The version that a Deployment, Service or Pod belongs to; None for the stable Service and for everything else."""
    label = child["metadata"].get("labels", {}).get(VERSION_LABEL, "")
    return int(label) if label.isdigit() and child["kind"] in ("Deployment", "Service", "Pod") else None


def pods_of(observed: Observed, version: int) -> list[Object]:
    """The Pods of a version."""
    return [child for child in observed.children if child["kind"] == "Pod" and version_of(child) == version]


def selected(service: Object | None) -> int | None:
    """The version that a Service selects."""
    label = str((service or {}).get("spec", {}).get("selector", {}).get(VERSION_LABEL, ""))
    return int(label) if label.isdigit() else None


def replicas_of(deployment: Object | None) -> int:
    """How many Pods a Deployment is told to have."""
    return int((deployment or {}).get("spec", {}).get("replicas", 0))


def ready_replicas(deployment: Object | None) -> int:
    """How many Pods of a Deployment's present template are ready."""
    if deployment is None:
        return 0
    status = deployment.get("status", {})
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return 0
    return min(int(status.get("readyReplicas", 0)), int(status.get("updatedReplicas", 0)))


def is_renewing(present: Object | None, wanted: Child) -> bool:
    """Whether a Deployment is about to be changed, or still has Pods of an earlier template, or not all of its present one."""
    if present is None:
        return False
    changes = present["metadata"].get("annotations", {}).get(MADE_FOR) != wanted.body["metadata"]["annotations"][MADE_FOR]
    status, replicas = present.get("status", {}), int(wanted.body["spec"]["replicas"])
    unseen = status.get("observedGeneration", 0) < present["metadata"].get("generation", 0)
    updated = int(status.get("updatedReplicas", 0))
    return changes or unseen or updated < replicas or int(status.get("replicas", 0)) > updated


def answering(deployment: Object | None) -> int:
    """How many Pods of a Deployment are ready, of whatever template."""
    return int((deployment or {}).get("status", {}).get("readyReplicas", 0))


def refusal(pods: Sequence[Object]) -> tuple[str, str] | None:
    """Why a version's server will not serve its model: code and message; None when no Pod said so."""
    for pod in pods:
        state = last_end(pod, CONTAINER)
        if state is not None and state.get("exitCode") == REFUSED:
            return _words(state)
    return None


def crashes(pods: Sequence[Object]) -> str | None:
    """How a version's Pods keep crashing, when they do so more often than is worth another try."""
    for pod in pods:
        state = last_end(pod, CONTAINER)
        if state is not None and restarts(pod) >= MOST_RESTARTS and not _is_ready(pod):
            if state.get("reason") == "OOMKilled":
                return "its Pod needed more memory than pod.resources.limits.memory"
            last = " ".join(str(state.get("message", "")).split())[-300:]
            return f"its Pod ended {restarts(pod)} times, last with exit code {state.get('exitCode')}" + (last and f": {last}")
    return None


def may_be_troubled(children: Iterable[Object], now: datetime) -> Object | None:
    """The newest Pod that should have begun by now: what to look for warnings about; None when there is none."""
    return newest([pod for pod in children if _is_kept_waiting(pod) and _is_late(pod, now)])


def is_beginning(children: Iterable[Object]) -> bool:
    """Whether a Pod has yet to begin: what holds it back may be told without an event."""
    return any(_is_kept_waiting(child) for child in children)


def holds_back(spec: InferenceServiceSpec, pods: Sequence[Object], warning: str | None) -> tuple[str, str] | None:
    """What the newest Pod of a version waits for that the version cannot help: no room, no image, no Secret."""
    pod = newest(pods)
    if pod is None:
        return None
    return waits_for(pod) or (endpoint.trouble(spec, warning) if warning and _is_kept_waiting(pod) else None)


def _is_kept_waiting(child: Object) -> bool:
    """Whether this is a Pod of a version that has yet to begin, and does not say why."""
    if version_of(child) is None or child["kind"] != "Pod" or child["metadata"].get("deletionTimestamp"):
        return False
    return not has_begun(child) and waits_for(child) is None


def _is_late(pod: Object, now: datetime) -> bool:
    made = pod["metadata"].get("creationTimestamp")
    return bool(made) and (now - datetime.fromisoformat(str(made))).total_seconds() >= PATIENCE_SECONDS


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _words(state: Mapping[str, Any]) -> tuple[str, str]:
    code, message = said(state).get("code"), said(state).get("message", "")
    if isinstance(code, str) and REASON.fullmatch(code):
        return code, str(message)[:800]
    return "ModelRefused", "the server gave no reason"


def _made_for(spec: InferenceServiceSpec, entry: RegistryEntry) -> str:
    # What was not given counts not, so that a newer operator's further settings restart nothing.
    pod = spec.pod.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    further = [given] if (given := endpoint.given(spec) | capture.given(spec)) else []
    words = [pod, spec.monitoring.window_seconds, entry.uri, entry.digest, *further]
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:16]


def _pod(observed: Observed, spec: InferenceServiceSpec, entry: RegistryEntry, labels: Mapping[str, str]) -> dict[str, Any]:
    settings = observed.settings
    compiled = entry.manifest.get("engine") == "compiled"
    environment = {
        "KAIZEN_MODEL_URI": entry.uri,
        "KAIZEN_MODEL_DIGEST": entry.digest or "",
        "KAIZEN_MODEL_NAME": spec.model,
        "KAIZEN_MODEL_VERSION": str(entry.version),
        "KAIZEN_SERVICE": observed.name,
        "KAIZEN_NAMESPACE": observed.namespace,
        "KAIZEN_WINDOW_SECONDS": str(spec.monitoring.window_seconds),
        "KAIZEN_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "KAIZEN_ADMIN_PORT": "0",
        **endpoint.environment(spec),
        **capture.environment(spec),
        **settings.bucket_environment,
    }
    return {
        "serviceAccountName": SERVICE_ACCOUNT,
        **pod_parts.placement(spec.pod),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": POD_SECURITY,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels},
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *endpoint.volumes(spec)],
        "containers": [
            {
                "name": CONTAINER,
                "image": settings.server_image if compiled else settings.server_sklearn_image,
                "imagePullPolicy": "IfNotPresent",
                "env": [*variables(environment), *pod_parts.environment(spec.pod)],
                "envFrom": CREDENTIALS,
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "ports": [
                    *endpoint.container_ports(spec),
                    {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
                ],
                "readinessProbe": endpoint.readiness(spec),
                "livenessProbe": {
                    "httpGet": {"path": "/healthz", "port": METRICS_PORT},
                    "periodSeconds": 10,
                    "timeoutSeconds": 5,
                    "failureThreshold": 6,
                },
                "resources": pod_parts.resources(spec.pod) or endpoint.resources(spec),
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *endpoint.mounts(spec)],
                "securityContext": CONTAINER_SECURITY,
            }
        ],
    }
