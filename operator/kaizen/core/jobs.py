"""The Job of a TrainingJob: its body, and what its Pods' ends mean."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kaizen.api.base import GROUP
from kaizen.api.training_job import TrainingJobSpec
from kaizen.core.objects import MANAGED_BY, owned
from kaizen.core.plan import Object, Observed

TRAINING_JOB_LABEL = f"{GROUP}/training-job"
SERVICE_ACCOUNT = "kaizen-trainer"
CREDENTIALS_SECRET = "kaizen-bucket"
DO_NOT_RETRY = 10
"""Exit code of a failure that comes back however often it is tried."""
SECRETS_DIRECTORY = "/var/run/kaizen/secrets"
DEFAULT_REQUESTS = {"cpu": "500m", "memory": "512Mi"}
DEFAULT_LIMITS = {"memory": "4Gi"}


def training_job(observed: Observed, spec: TrainingJobSpec) -> Object:
    """The Job that trains; made once and never changed."""
    labels = {MANAGED_BY: "kaizen", TRAINING_JOB_LABEL: observed.name}
    job_spec: dict[str, Any] = {
        "backoffLimit": spec.backoff_limit,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onExitCodes": {"containerName": "trainer", "operator": "In", "values": [DO_NOT_RETRY]}},
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "suspend": spec.suspend,
        "template": {"metadata": {"labels": labels}, "spec": _pod(observed, spec)},
    }
    if spec.active_deadline_seconds is not None:
        job_spec["activeDeadlineSeconds"] = spec.active_deadline_seconds
    return owned("batch/v1", "Job", observed, labels, job_spec)


def _pod(observed: Observed, spec: TrainingJobSpec) -> dict[str, Any]:
    secrets = sorted({source.secret_name for source in spec.data.sources if source.secret_name})
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    volumes += [{"name": f"secret-{number}", "secret": {"secretName": name}} for number, name in enumerate(secrets)]
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]
    mounts += [
        {"name": f"secret-{number}", "mountPath": f"{SECRETS_DIRECTORY}/{name}", "readOnly": True}
        for number, name in enumerate(secrets)
    ]
    return {
        "restartPolicy": "Never",
        "serviceAccountName": SERVICE_ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": volumes,
        "containers": [
            {
                "name": "trainer",
                "image": observed.settings.trainer_image,
                "imagePullPolicy": "IfNotPresent",
                "env": _environment(observed),
                # Optional: a workload identity on the ServiceAccount needs no Secret.
                "envFrom": [{"secretRef": {"name": CREDENTIALS_SECRET, "optional": True}}],
                "resources": _resources(spec),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": mounts,
                "securityContext": {
                    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }  # fmt: skip


def _environment(observed: Observed) -> list[dict[str, Any]]:
    plain = {
        "KAIZEN_SPEC": json.dumps(observed.owner["spec"], sort_keys=True),
        "KAIZEN_NAMESPACE": observed.namespace,
        "KAIZEN_JOB_UID": observed.uid,
        **observed.settings.bucket_environment,
    }
    environment: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in sorted(plain.items())]
    return [*environment, {"name": "KAIZEN_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}]


def _resources(spec: TrainingJobSpec) -> dict[str, Any]:
    given = spec.pod.resources.model_dump(by_alias=True, exclude_none=True) if spec.pod.resources else {}
    return given or {"requests": DEFAULT_REQUESTS, "limits": DEFAULT_LIMITS}


def own_job(children: Sequence[Object]) -> Object | None:
    """The Job among an owner's children, or None."""
    return next((child for child in children if child["kind"] == "Job"), None)


def failure(job: Object, children: Sequence[Object]) -> dict[str, Any] | None:
    """Why a Job has failed for good: step, code, message, exitCode; None while it has not."""
    failed = _condition(job, "Failed")
    if failed is None:
        return None
    ended = [state for pod in _pods(children) if (state := _terminated(pod))]
    ended.sort(key=lambda state: str(state.get("finishedAt", "")))
    if failed.get("reason") == "DeadlineExceeded":
        return {
            "code": "DeadlineExceeded",
            "message": "The run took longer than activeDeadlineSeconds: raise it, or train on less.",
        }
    return (
        _explain(ended[-1])
        if ended
        else {"code": "PodsLost", "message": f"The Job failed: {failed.get('message', 'no reason given')}"}
    )


def waits_for(children: Sequence[Object]) -> tuple[str, str] | None:
    """What the newest Pod waits for before it can run: reason and message; None when it runs."""
    pods = sorted(_pods(children), key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    if not pods:
        return None
    status = pods[-1].get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return "Unschedulable", f"The Pod cannot be scheduled: {condition.get('message', '')}"
    for container in status.get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return str(waiting["reason"]), f"The Pod's container cannot start: {waiting.get('message', '')}"
    return None


def _explain(state: Mapping[str, Any]) -> dict[str, Any]:
    """The end of a container in words: its own last ones where it could still write them."""
    code = state.get("exitCode")
    try:
        said = json.loads(state.get("message") or "")
    except ValueError:
        said = None
    if isinstance(said, dict) and isinstance(said.get("code"), str) and said["code"].isalnum():
        words = {
            "step": str(said.get("step", ""))[:64],
            "code": said["code"][:128],
            "message": str(said.get("message", ""))[:1024],
        }
        return {**words, "exitCode": code}
    if state.get("reason") == "OOMKilled":
        sentence = "The run needed more memory than its limit: raise pod.resources.limits.memory."
        return {"code": "OOMKilled", "message": sentence, "exitCode": code}
    last = " ".join(str(state.get("message", "")).split())[-400:]
    return {
        "code": str(state.get("reason") or "Error"),
        "message": f"The container ended with exit code {code}: {last}",
        "exitCode": code,
    }


def _pods(children: Sequence[Object]) -> list[Object]:
    return [child for child in children if child["kind"] == "Pod"]


def _terminated(pod: Object) -> Mapping[str, Any] | None:
    for container in pod.get("status", {}).get("containerStatuses", ()):
        if container["name"] == "trainer" and (state := container.get("state", {}).get("terminated")):
            found: Mapping[str, Any] = state
            return found
    return None


def _condition(job: Object, kind: str) -> Mapping[str, Any] | None:
    conditions = job.get("status", {}).get("conditions", ())
    return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)
