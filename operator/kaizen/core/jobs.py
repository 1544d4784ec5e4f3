"""The Jobs that run in users' namespaces, training and counting: their bodies, and what their Pods' ends mean.

What a Pod says of its end was written with a tenant's rights: it is bounded and checked before anybody acts on it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kaizen.api.base import GROUP
from kaizen.api.training_job import Recipe, TrainingJobSpec
from kaizen.core import pods
from kaizen.core.objects import MANAGED_BY, SERVICE_LABEL, owned
from kaizen.core.plan import Object, Observed

__all__ = [
    "COUNTS_FOR_LABEL",
    "COUNTS_LABEL",
    "QUESTION_ANNOTATION",
    "SERVICE_ACCOUNT",
    "TRAINING_JOB_LABEL",
    "Counted",
    "count_job",
    "count_name",
    "counted",
    "failure",
    "own_job",
    "question",
    "training_job",
    "waits_for",
]

TRAINING_JOB_LABEL = f"{GROUP}/training-job"
COUNTS_LABEL = f"{GROUP}/counts"
"""Of a Job that counts: what."""
COUNTS_FOR_LABEL = f"{GROUP}/counts-for"
"""Of a counting Job's Pods: the InferenceService.  Not SERVICE_LABEL, by which Services select what answers requests."""
QUESTION_ANNOTATION = f"{GROUP}/question"
"""Of a Job that counts: which question its answer is to."""
SERVICE_ACCOUNT = "kaizen-trainer"
CONTAINER = "trainer"
DO_NOT_RETRY = 10
"""Exit code of a failure that comes back however often it is tried."""
SECRETS_DIRECTORY = "/var/run/kaizen/secrets"
DEFAULT_REQUESTS = {"cpu": "500m", "memory": "512Mi"}
COUNT_REQUESTS = {"cpu": "100m", "memory": "256Mi"}
DEFAULT_LIMITS = {"memory": "4Gi"}
COUNT_COMMAND = ("python", "-m", "kaizen.training.count")
COUNT_RETRIES = 2
COUNT_SECONDS = 600
MOST_ROWS = 2**53
"""Whoever reads JSON numbers as floats would not know more."""


@dataclass(frozen=True)
class Counted:
    """What a counting Job found."""

    rows: int
    newest: str | None
    """ISO 8601 time of the newest of them."""
    at: datetime
    """When the Job ended."""
    problem: str | None = None
    """Why there is no answer, in a sentence; `rows` is 0 then."""


def training_job(observed: Observed, spec: TrainingJobSpec) -> Object:
    """The Job that trains; made once and never changed."""
    labels = {MANAGED_BY: "kaizen", TRAINING_JOB_LABEL: observed.name}
    environment = {
        "KAIZEN_SPEC": json.dumps(observed.owner["spec"], sort_keys=True),
        "KAIZEN_NAMESPACE": observed.namespace,
        "KAIZEN_JOB_UID": observed.uid,
    }
    if observed.run is not None and (champion := observed.run.champion):
        environment["KAIZEN_CHAMPION"] = json.dumps({"version": champion.version, "digest": champion.digest})
    pod = _pod(observed, spec, environment, DEFAULT_REQUESTS)
    job_spec = {**_job_spec(labels, pod, spec.backoff_limit, spec.active_deadline_seconds), "suspend": spec.suspend}
    return owned("batch/v1", "Job", observed, labels, job_spec)


def count_job(observed: Observed, recipe: Mapping[str, Any], since: str | None) -> Object:
    """The Job that counts an InferenceService's labelled rows newer than `since`, or all of them; never changed.

    `recipe` is a TrainingJob's spec, with or without its model.
    """
    document = {**recipe, "model": observed.owner["spec"]["model"]}
    environment = {"KAIZEN_SPEC": json.dumps(document, sort_keys=True), "KAIZEN_COUNT_SINCE": since or ""}
    pod = _pod(observed, TrainingJobSpec.model_validate(document), environment, COUNT_REQUESTS, COUNT_COMMAND)
    job_spec = _job_spec({MANAGED_BY: "kaizen", COUNTS_FOR_LABEL: observed.name}, pod, COUNT_RETRIES, COUNT_SECONDS)
    labels = {SERVICE_LABEL: observed.name, COUNTS_LABEL: "rows"}
    job = owned("batch/v1", "Job", observed, labels, job_spec, name=count_name(observed.name))
    return {**job, "metadata": {**job["metadata"], "annotations": {QUESTION_ANNOTATION: question(recipe, since)}}}


def count_name(service: str) -> str:
    """The name of an InferenceService's counting Job."""
    return f"{service}-rows"


def question(recipe: Mapping[str, Any], since: str | None) -> str:
    """A short digest of what a counting Job is asked."""
    return hashlib.sha256(json.dumps([recipe, since], sort_keys=True).encode()).hexdigest()[:16]


def _job_spec(labels: Mapping[str, str], pod: Mapping[str, Any], retries: int, deadline: int | None) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "backoffLimit": retries,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [DO_NOT_RETRY]}},
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return spec if deadline is None else {**spec, "activeDeadlineSeconds": deadline}


def _pod(
    observed: Observed,
    recipe: Recipe,
    environment: Mapping[str, str],
    requests: Mapping[str, str],
    command: Sequence[str] = (),
) -> dict[str, Any]:
    secrets = sorted({source.secret_name for source in recipe.data.sources if source.secret_name})
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
        "securityContext": pods.POD_SECURITY,
        "volumes": volumes,
        "containers": [
            {
                "name": CONTAINER,
                "image": observed.settings.trainer_image,
                "imagePullPolicy": "IfNotPresent",
                **({"command": list(command)} if command else {}),
                "env": pods.variables({**environment, **observed.settings.bucket_environment}),
                "envFrom": pods.CREDENTIALS,
                "resources": _resources(recipe, requests),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": mounts,
                "securityContext": pods.CONTAINER_SECURITY,
            }
        ],
    }


def _resources(recipe: Recipe, requests: Mapping[str, str]) -> dict[str, Any]:
    given = recipe.pod.resources.model_dump(by_alias=True, exclude_none=True) if recipe.pod.resources else {}
    return given or {"requests": dict(requests), "limits": DEFAULT_LIMITS}


def own_job(children: Sequence[Object]) -> Object | None:
    """The Job among an owner's children, or None."""
    return next((child for child in children if child["kind"] == "Job"), None)


def failure(job: Object, children: Sequence[Object]) -> dict[str, Any] | None:
    """Why a Job has failed for good: step, code, message, exitCode; None while it has not."""
    failed = _condition(job, "Failed")
    if failed is None:
        return None
    tried = _pods(children)
    ended = _ended(tried)
    if failed.get("reason") == "DeadlineExceeded":
        return {
            "code": "DeadlineExceeded",
            "message": "The run took longer than activeDeadlineSeconds: raise it, or train on less.",
        }
    if ended:
        return _explain(ended[-1])
    if tried:
        return None  # The Job's end was seen before its Pods': theirs has the reason.
    return {"code": "PodsLost", "message": f"The Job failed: {failed.get('message', 'no reason given')}"}


def counted(job: Object, children: Sequence[Object]) -> Counted | None:
    """What a counting Job found; None while it or a Pod of it has not been seen to end."""
    ended = _condition(job, "Failed") or _condition(job, "Complete")
    if ended is None:
        return None
    at = datetime.fromisoformat(ended["lastTransitionTime"])
    if ended.get("reason") == "DeadlineExceeded":
        return Counted(0, None, at, f"The rows were not counted in {COUNT_SECONDS} s: the Pod cannot start, or reads too much.")
    # A Job that was deleted and made anew has the name of the one before, whose Pods may still be there.
    tried = [pod for pod in _pods(children) if _controls(job, pod)]
    if not all(map(_has_ended, tried)):
        return None
    if why := failure(job, tried):
        return Counted(0, None, at, why["message"])
    succeeded = [state for state in _ended(tried) if state.get("exitCode") == 0]
    if not succeeded:
        return Counted(0, None, at, "The Pod that counted is gone, and its answer with it.")
    return _answer(succeeded[-1], at)


def waits_for(children: Sequence[Object]) -> tuple[str, str] | None:
    """What the newest Pod waits for before it can run: reason and message; None when it runs."""
    newest = pods.newest(_pods(children))
    return None if newest is None else pods.waits_for(newest)


def _answer(state: Mapping[str, Any], at: datetime) -> Counted:
    """The answer in a Pod's last words, if they are one."""
    said = pods.said(state)
    rows, newest = said.get("rows"), said.get("newest")
    # JSON's true is an int to Python.
    if type(rows) is int and 0 <= rows <= MOST_ROWS and (newest is None or _is_time(newest)):
        return Counted(rows, newest, at)
    return Counted(0, None, at, f"The Pod that counted gave no answer; it said: {_last_words(state) or 'nothing'}")


def _explain(state: Mapping[str, Any]) -> dict[str, Any]:
    """The end of a container in words: its own last ones where it could still write them."""
    exit_code, said = state.get("exitCode"), pods.said(state)
    if isinstance(said.get("code"), str) and pods.REASON.fullmatch(said["code"]):
        words = {"step": str(said.get("step", ""))[:64], "code": said["code"], "message": str(said.get("message", ""))[:1024]}
        return {**words, "exitCode": exit_code}
    if state.get("reason") == "OOMKilled":
        sentence = "The run needed more memory than its limit: raise pod.resources.limits.memory."
        return {"code": "OOMKilled", "message": sentence, "exitCode": exit_code}
    return {
        "code": str(state.get("reason") or "Error"),
        "message": f"The container ended with exit code {exit_code}: {_last_words(state)}",
        "exitCode": exit_code,
    }


def _last_words(state: Mapping[str, Any]) -> str:
    return " ".join(str(state.get("message") or "").split())[-400:]


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and len(value) <= 64 and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _pods(children: Sequence[Object]) -> list[Object]:
    return [child for child in children if child["kind"] == "Pod"]


def _controls(job: Object, pod: Object) -> bool:
    references = pod["metadata"].get("ownerReferences", ())
    return any(reference["uid"] == job["metadata"]["uid"] for reference in references)


def _has_ended(pod: Object) -> bool:
    # A Pod that was evicted may have ended without its container's end being told.
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed") or pods.last_end(pod, CONTAINER) is not None


def _ended(tried: Sequence[Object]) -> list[Mapping[str, Any]]:
    """How the Pods' containers ended, the newest end last."""
    ended = [state for pod in tried if (state := pods.last_end(pod, CONTAINER))]
    return sorted(ended, key=lambda state: str(state.get("finishedAt", "")))


def _condition(job: Object, kind: str) -> Mapping[str, Any] | None:
    conditions = job.get("status", {}).get("conditions", ())
    return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)
