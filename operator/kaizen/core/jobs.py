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
from kaizen.api.training_job import TrainingJobSpec
from kaizen.core import distributed, ends, pods, recipes
from kaizen.core.container_pods import DATA, container_pod
from kaizen.core.objects import MANAGED_BY, SERVICE_LABEL, owned
from kaizen.core.plan import ModelRegistry, Object, Observed
from kaizen.core.trainer_pods import CONTAINER, SERVICE_ACCOUNT, count_pod, train_pod

__all__ = [
    "COUNTS_FOR_LABEL",
    "COUNTS_LABEL",
    "QUESTION_ANNOTATION",
    "SERVICE_ACCOUNT",
    "TRAINING_JOB_LABEL",
    "Counted",
    "awaits_replacement",
    "count_job",
    "count_name",
    "counted",
    "failure",
    "is_over",
    "may_be_troubled",
    "own_job",
    "question",
    "queue_labels",
    "queue_of",
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
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
QUEUE_LABELS = (QUEUE_LABEL, "kueue.x-k8s.io/priority-class", "kueue.x-k8s.io/max-exec-time-seconds")
"""Of a TrainingJob, handed to its Job: Kueue then owns the Job's suspend."""
OUR_STEPS = (DATA, CONTAINER)
"""The containers that run our image beside a user's own; the user's exit codes mean what the user says."""
DO_NOT_RETRY = 10
"""Exit code of a failure that comes back however often it is tried."""
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


def training_job(observed: Observed, spec: TrainingJobSpec, now: datetime, trigger: str = "Manual") -> Object:
    """The Job that trains; made once and never changed.  `trigger` is why it is made.  Raises InvalidPodTemplate."""
    labels = {MANAGED_BY: "kaizen", TRAINING_JOB_LABEL: observed.name}
    plain, further = distributed.variables(observed, spec)
    environment = {**_environment(observed, spec, now, trigger), **plain}
    if spec.container:
        template = container_pod(observed, spec, labels, environment)
    else:
        template = train_pod(observed, spec, labels, environment, further, distributed.fields(observed, spec))
    job_spec = {
        **distributed.completion(spec),
        **_job_spec(template, spec.active_deadline_seconds, OUR_STEPS if spec.container else (CONTAINER,)),
        "suspend": spec.suspend or QUEUE_LABEL in queue_labels(observed.owner),
    }
    return owned("batch/v1", "Job", observed, {**labels, **queue_labels(observed.owner)}, job_spec)


def queue_labels(body: Object) -> dict[str, str]:
    """Kueue's labels of a TrainingJob, for its Job."""
    labels = body["metadata"].get("labels", {})
    return {name: labels[name] for name in QUEUE_LABELS if name in labels}


def queue_of(body: Object) -> str | None:
    """The queue that owns the suspend of a Job; None when we do."""
    return queue_labels(body).get(QUEUE_LABEL)


def _environment(observed: Observed, spec: TrainingJobSpec, now: datetime, trigger: str) -> dict[str, str]:
    environment = {
        "KAIZEN_SPEC": json.dumps(observed.owner["spec"], sort_keys=True),
        "KAIZEN_IMAGE": observed.settings.trainer_image,
        "KAIZEN_NAMESPACE": observed.namespace,
        "KAIZEN_JOB_UID": observed.uid,
        "KAIZEN_RECIPE_DIGEST": recipes.recipe_digest(spec),
    }
    champion = observed.run.champion if observed.run else None
    model = observed.model or ModelRegistry()
    parent = {"parentVersion": champion.version} if champion else {}
    lineage = {"trainingJob": observed.name, "trigger": trigger, **parent}
    told: dict[str, Any] = {
        "KAIZEN_ANCHORS": recipes.anchors(model, champion, now),
        "KAIZEN_CHAMPION": {"version": champion.version, "digest": champion.digest} if champion else None,
        "KAIZEN_KNOWN": recipes.known(spec, model, champion),
        "KAIZEN_LINEAGE": lineage,
    }
    return {**environment, **{name: json.dumps(value, sort_keys=True) for name, value in told.items() if value}}


def count_job(observed: Observed, recipe: Mapping[str, Any], since: str | None) -> Object:
    """The Job that counts an InferenceService's labelled rows newer than `since`, or all of them; never changed.

    `recipe` is a TrainingJob's spec, with or without its model.
    """
    document = {**recipe, "model": observed.owner["spec"]["model"]}
    environment = {
        "KAIZEN_SPEC": json.dumps(document, sort_keys=True),
        "KAIZEN_NAMESPACE": observed.namespace,
        "KAIZEN_COUNT_SINCE": since or "",
    }
    pod_labels = {MANAGED_BY: "kaizen", COUNTS_FOR_LABEL: observed.name}
    template = count_pod(observed, TrainingJobSpec.model_validate(document), pod_labels, environment)
    job_spec = {"backoffLimit": COUNT_RETRIES, **_job_spec(template, COUNT_SECONDS, (CONTAINER,))}
    labels = {SERVICE_LABEL: observed.name, COUNTS_LABEL: "rows"}
    job = owned("batch/v1", "Job", observed, labels, job_spec, name=count_name(observed.name))
    return {**job, "metadata": {**job["metadata"], "annotations": {QUESTION_ANNOTATION: question(recipe, since)}}}


def count_name(service: str) -> str:
    """The name of an InferenceService's counting Job."""
    return f"{service}-rows"


def question(recipe: Mapping[str, Any], since: str | None) -> str:
    """A short digest of what a counting Job is asked."""
    return hashlib.sha256(json.dumps([recipe, since], sort_keys=True).encode()).hexdigest()[:16]


def _job_spec(template: Mapping[str, Any], deadline: int | None, ours: Sequence[str]) -> dict[str, Any]:
    """What our Jobs have in common; `ours` are the containers whose exit code 10 is our word."""
    final = ({"containerName": name, "operator": "In", "values": [DO_NOT_RETRY]} for name in ours)
    spec: dict[str, Any] = {
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                *({"action": "FailJob", "onExitCodes": codes} for codes in final),
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": template,
    }
    return spec if deadline is None else {**spec, "activeDeadlineSeconds": deadline}


def own_job(children: Sequence[Object]) -> Object | None:
    """The Job among an owner's children, or None."""
    return next((child for child in children if child["kind"] == "Job"), None)


def is_over(job: Object) -> bool:
    """Whether a Job has ended, well or not."""
    return _condition(job, "Complete") is not None or _condition(job, "Failed") is not None


def awaits_replacement(job: Object, children: Sequence[Object]) -> bool:
    """Whether a Pod that was deleted is kept until another has its index, as Kubernetes does to count its failures (KEP-3850)."""
    if "backoffLimitPerIndex" not in job["spec"] or is_over(job) or job["metadata"].get("deletionTimestamp"):
        return False
    return any(pod["metadata"].get("deletionTimestamp") and ends.has_ended(pod) for pod in _pods(children))


def failure(job: Object, children: Sequence[Object]) -> dict[str, Any] | None:
    """Why a Job has failed for good: step, code, message, exitCode; None while it has not."""
    failed = _condition(job, "Failed")
    given_up = 0 in distributed.failed_indexes(job)
    if failed is None and not given_up:
        return None
    if failed is not None and failed.get("reason") == "DeadlineExceeded":
        return {
            "code": "DeadlineExceeded",
            "message": "The run took longer than activeDeadlineSeconds: raise it, or train on less.",
        }
    tried = _pods(children)
    if cause := ends.cause(job, tried):
        return ends.explain(cause)
    if not all(map(ends.has_ended, tried)):
        return None  # The Job's end was seen before its Pods': theirs has the reason.
    said = failed.get("message") if failed else None
    lost = next((str(status["message"]) for pod in tried if (status := pod.get("status", {})).get("message")), None)
    return {"code": "PodsLost", "message": f"The Job failed: {lost or said or 'no reason given'}"}


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
    if not all(map(ends.has_ended, tried)):
        return None
    if why := failure(job, tried):
        return Counted(0, None, at, why["message"])
    succeeded = ends.last_success(tried)
    if succeeded is None:
        return Counted(0, None, at, "The Pod that counted is gone, and its answer with it.")
    return _answer(succeeded, at)


def waits_for(children: Sequence[Object], *, together: bool = True) -> tuple[str, str] | None:
    """What a member's newest Pod waits for before it can run: reason and message; None when all run.

    Where the members do not work `together`, only index 0 counts: the others may come when they can.
    """
    return next((why for pod in _newest(children, together=together) if (why := pods.waits_for(pod))), None)


def may_be_troubled(job: Object, children: Sequence[Object], now: datetime, *, together: bool = True) -> Object | None:
    """What to look for warnings about: a Job that makes no Pods, or a Pod that does not begin; None when all goes well."""
    began = job.get("status", {}).get("startTime") or job["metadata"].get("creationTimestamp")
    if is_over(job) or job["spec"].get("suspend") or not began:
        return None
    if (now - datetime.fromisoformat(str(began))).total_seconds() < pods.PATIENCE_SECONDS:
        return None
    newest = _newest(children, together=together)
    return next((pod for pod in newest if not pods.has_begun(pod)), None) if newest else job


def _answer(state: Mapping[str, Any], at: datetime) -> Counted:
    """The answer in a Pod's last words, if they are one."""
    said = pods.said(state)
    rows, newest = said.get("rows"), said.get("newest")
    # JSON's true is an int to Python.
    if type(rows) is int and 0 <= rows <= MOST_ROWS and (newest is None or _is_time(newest)):
        return Counted(rows, newest, at)
    return Counted(0, None, at, f"The Pod that counted gave no answer; it said: {ends.last_words(state) or 'nothing'}")


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and len(value) <= 64 and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _pods(children: Sequence[Object]) -> list[Object]:
    return [child for child in children if child["kind"] == "Pod"]


def _newest(children: Sequence[Object], *, together: bool) -> list[Object]:
    """The newest Pod of each index, or of index 0; of a Job without indexes, the newest of all."""
    members = dict[int | None, list[Object]]()
    for pod in _pods(children):
        members.setdefault(distributed.index_of(pod), []).append(pod)
    chosen = [found for index, found in members.items() if together or not index]
    return [newest for found in chosen if (newest := pods.newest(found)) is not None]


def _controls(job: Object, pod: Object) -> bool:
    references = pod["metadata"].get("ownerReferences", ())
    return any(reference["uid"] == job["metadata"]["uid"] for reference in references)


def _condition(job: Object, kind: str) -> Mapping[str, Any] | None:
    conditions = job.get("status", {}).get("conditions", ())
    return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)
