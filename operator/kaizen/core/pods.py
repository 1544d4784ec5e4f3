"""What all of Kaizen's Pods have in common: how they are confined, how they reach the bucket, and how their ends are read."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kaizen.api.base import PodSettings
from kaizen.core.plan import Object

CREDENTIALS_SECRET = "kaizen-bucket"
POD_SECURITY: Mapping[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
CREDENTIALS = [{"secretRef": {"name": CREDENTIALS_SECRET, "optional": True}}]
"""envFrom; optional: a workload identity on the ServiceAccount needs no Secret."""
REASON = re.compile("[A-Za-z][A-Za-z0-9]{0,127}")
"""What may become a condition's reason; a Pod's words are not trusted further than that."""
MISSING_SECRET = re.compile(r'secrets? "([-a-z0-9.]{1,253})" not found')
GENERATED_POD = re.compile(r'pods "[^"]{1,253}"')
PATIENCE_SECONDS = 8
"""How long a Pod may take to begin before somebody asks why."""
POD_UID = {"name": "KAIZEN_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}


def variables(plain: Mapping[str, str]) -> list[dict[str, Any]]:
    """Environment variables, sorted, with the Pod's own uid."""
    # Kubernetes expands $(NAME) and turns $$ into $, which SQL quotes with: each $ is to be one.
    return [*({"name": name, "value": value.replace("$", "$$")} for name, value in sorted(plain.items())), POD_UID]


PLACEMENT = ("nodeSelector", "tolerations", "priorityClassName", "serviceAccountName")


def placement(settings: PodSettings) -> dict[str, Any]:
    """The fields of a Pod's spec that say where it runs and as whom; only those that were given."""
    given = settings.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)
    return {name: given[name] for name in PLACEMENT if name in given}


def environment(settings: PodSettings) -> list[dict[str, Any]]:
    """The user's own variables, in their order."""
    return [variable.model_dump(by_alias=True, exclude_none=True) for variable in settings.env]


def resources(settings: PodSettings) -> dict[str, Any]:
    """The requests and limits that were given; empty when none were."""
    return settings.resources.model_dump(by_alias=True, exclude_none=True) if settings.resources else {}


def newest(pods: Sequence[Object]) -> Object | None:
    """The Pod that was created last."""
    return max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)


def waits_for(pod: Object) -> tuple[str, str] | None:
    """What a Pod waits for before it can run: reason and message; None when it runs."""
    status = pod.get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return "Unschedulable", f"The Pod cannot be scheduled: {condition.get('message', '')}"
    for container in status.get("initContainerStatuses", ()):
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            last = container.get("lastState", {}).get("terminated", {})
            why = " ".join(str(said(last).get("message") or last.get("message") or waiting.get("message") or "").split())
            return str(waiting["reason"])[:128], f"The Pod's container {container['name']} cannot start: {why[-800:]}"
    for container in status.get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing", "CrashLoopBackOff"):
            return str(waiting["reason"]), f"The Pod's container cannot start: {waiting.get('message', '')}"
    return None


def has_begun(pod: Object) -> bool:
    """Whether a container of a Pod has been started."""
    status = pod.get("status", {})
    statuses = status.get("initContainerStatuses") or status.get("containerStatuses") or ()
    begun = any(state in one.get("state", {}) for one in statuses for state in ("running", "terminated"))
    return begun or status.get("phase", "Pending") != "Pending"


def trouble(warning: str, then: str) -> tuple[str, str]:
    """A warning of Kubernetes about Pods that do not begin as reason and message; `then` is what happens once it is mended."""
    if missing := MISSING_SECRET.search(warning):
        return "SecretMissing", f"The Secret {missing[1]} does not exist: create it, and {then}."
    # Names that Kubernetes made up say nothing.
    return "PodsNotStarted", GENERATED_POD.sub("the Pod", warning)[:1000]


def restarts(pod: Object) -> int:
    """How often the containers of a Pod have been started again."""
    return sum(int(container.get("restartCount", 0)) for container in pod.get("status", {}).get("containerStatuses", ()))


def last_end(pod: Object, container: str) -> Mapping[str, Any] | None:
    """The state in which a container of a Pod last ended; None when it never did."""
    status = pod.get("status", {})
    for one in (*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())):
        if one["name"] == container:
            state: Mapping[str, Any] | None = one.get("state", {}).get("terminated") or one.get("lastState", {}).get("terminated")
            return state
    return None


def said(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON object that a container left; empty when it left something else."""
    try:
        said = json.loads(state.get("message") or "")
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
