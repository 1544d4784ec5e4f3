"""When a service's next TrainingJob is made, and what holds it back: at most one at a time for a model.

    reason (no version yet, drift) → nothing holds it back → the record opens job N → TrainingJob <model>-auto-N
           → it ends → the record settles it

The record lies in the bucket, so that the count, the cooldown and the answered drift outlive every object; the
TrainingJob's name follows from the record, so that a repetition finds it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kaizen.api.base import API_VERSION
from kaizen.api.inference_service import InferenceServiceSpec, Training
from kaizen.core import jobs
from kaizen.core.conditions import find
from kaizen.core.objects import MANAGED_BY, controller_reference
from kaizen.core.plan import Change, Child, ModelRegistry, Object, Observed, RegistryEntry, SettleTraining, StartTraining
from kaizen.core.serving import find as find_child
from kaizen.core.training_record import OpenJob, TrainingRecord

KEPT_JOBS = 10
"""Ended TrainingJobs of a service that are not deleted."""
FIRST_RETRY_SECONDS = 60
"""After the first version's training failed, when the cooldown is longer: nothing answers meanwhile."""
RECOUNT_SECONDS = (30, 600)
"""New rows are counted again after a window's length, within these bounds."""


@dataclass(frozen=True)
class Retraining:
    """What is to be done about training, and what to tell."""

    change: Change | None = None
    children: tuple[Child, ...] = ()
    deletions: tuple[Object, ...] = ()
    blocked: tuple[str, str] | None = None
    """Why nothing is started although there is a reason to: reason and message."""
    running: str | None = None
    """What is being trained, in a sentence."""
    status: Mapping[str, Any] = field(default_factory=dict)
    after_seconds: float | None = None


def job_name(model: str, number: int) -> str:
    """The name of a model's automatic TrainingJob."""
    return f"{model}-auto-{number}"


def decide(
    observed: Observed,
    spec: InferenceServiceSpec,
    model: ModelRegistry,
    stable: RegistryEntry | None,
    servable: bool,
    now: datetime,
) -> Retraining:
    """What training needs now.  `stable` is the version that answers; `servable` says whether any could."""
    training = spec.training
    if training is None:
        return Retraining(deletions=_counting(observed))
    record = model.record
    own = sorted((child for child in observed.children if child["kind"] == "TrainingJob"), key=_created)
    status = _status(record, own)
    if record.open is not None:
        return _opened(observed, spec, record.open, status)
    old = [job for job in own if _ended(job) is not None][:-KEPT_JOBS]
    reason = _reason(observed, training, servable)
    if reason is None:
        return Retraining(deletions=(*old, *_counting(observed)), status=status)
    cause, drift = reason
    if held := _held_back(observed, training, record, cause, own, now):
        (code, message), after = held
        return Retraining(
            deletions=tuple(old), blocked=(code, message), status={**status, "blockedBy": code}, after_seconds=after
        )
    if cause != "Initial" and stable is not None and training.minimum_new_rows > 0:
        counting = _enough_rows(observed, spec, training, stable, status, now)
        if counting is not None:
            return counting
    start = StartTraining(spec.model, cause, drift, _spec_of(observed))
    return Retraining(change=start, deletions=(*old, *_counting(observed)), status=status)


def _opened(observed: Observed, spec: InferenceServiceSpec, job: OpenJob, status: dict[str, Any]) -> Retraining:
    """The record says that a job is open: make it, wait for it, or settle it."""
    name = job_name(spec.model, job.number)
    if job.service != observed.name:
        if any((one["kind"], one["metadata"]["name"]) == ("InferenceService", job.service) for one in observed.related):
            message = f"InferenceService {job.service} is training this model: TrainingJob {name}."
            return Retraining(status=status, running=message)
        return Retraining(change=SettleTraining(spec.model, job.number, failed=False, answered=False), status=status)
    present = find_child(observed.children, "TrainingJob", name)
    if present is None:
        body = _training_job(observed, spec, name)
        return Retraining(children=(Child(body, created_once=True),), status=status, running=f"TrainingJob {name} is being made.")
    succeeded = _ended(present)
    if succeeded is None:
        step = present.get("status", {}).get("step") or "Starting"
        return Retraining(status=status, running=f"TrainingJob {name} trains: step {step}.")
    return Retraining(change=SettleTraining(spec.model, job.number, failed=not succeeded, answered=succeeded), status=status)


def _reason(observed: Observed, training: Training, servable: bool) -> tuple[str, Mapping[str, float]] | None:
    """Why something should be trained: the trigger and, for drift, the drifted features' distances."""
    if not servable:
        return ("Initial", {}) if "Initial" in training.triggers else None
    watched = observed.watched
    if "DataDrift" not in training.triggers or watched is None or watched.verdict is None:
        return None
    if watched.verdict.kind != "Drifted" or watched.drifted_in_a_row < training.consecutive_windows:
        return None
    return "DataDrift", {feature.name: round(feature.distance, 6) for feature in watched.verdict.features if feature.drifted}


def _held_back(
    observed: Observed, training: Training, record: TrainingRecord, cause: str, own: list[Object], now: datetime
) -> tuple[tuple[str, str], float | None] | None:
    """What speaks against starting now: reason and message, and when that ends by itself."""
    if training.suspend:
        return ("Suspended", "training.suspend is true: set it to false to let TrainingJobs start."), None
    last = record.last
    if last is None:
        return None
    failed = record.failures_in_a_row > 0
    if failed and last.spec != _spec_of(observed):
        return None  # Somebody changed the spec since: that is worth a try at once.
    why = _failure(own)
    if record.failures_in_a_row >= training.stop_after_failures:
        message = (
            f"{record.failures_in_a_row} TrainingJobs failed in a row{why}: any change of this spec lets the next one start."
        )
        return ("StoppedAfterFailures", message), None
    seconds = training.cooldown_seconds if cause != "Initial" else min(training.cooldown_seconds, FIRST_RETRY_SECONDS)
    left = (datetime.fromisoformat(last.started) + timedelta(seconds=seconds) - now).total_seconds()
    if left <= 0:
        return None
    if failed:
        return ("WaitingAfterFailure", f"The last TrainingJob failed{why}: it is tried again after {seconds} s."), left
    return ("Cooldown", f"The last TrainingJob started less than training.cooldownSeconds ({seconds} s) ago."), left


def _enough_rows(
    observed: Observed,
    spec: InferenceServiceSpec,
    training: Training,
    stable: RegistryEntry,
    status: dict[str, Any],
    now: datetime,
) -> Retraining | None:
    """Wait until there are enough new rows, counted by a Job; None when there are."""
    since = stable.manifest.get("trainedUntil")
    if not isinstance(since, str):
        return None  # The version does not say until when it learned, so nothing tells new rows from old.
    recipe, job = _template(observed), _count_job(observed)
    if job is None:
        body = jobs.count_job(observed, recipe, since)
        blocked = ("CountingNewRows", "The labelled rows that are new to the serving version are being counted.")
        return Retraining(children=(Child(body, created_once=True),), blocked=blocked, status={**status, "blockedBy": blocked[0]})
    if job["metadata"].get("annotations", {}).get(jobs.QUESTION_ANNOTATION) != jobs.question(recipe, since):
        return Retraining(deletions=(job,), status=status, after_seconds=1.0)
    counted = jobs.counted(job, observed.children)
    if counted is None:
        blocked = ("CountingNewRows", "The labelled rows that are new to the serving version are being counted.")
        return Retraining(blocked=blocked, status={**status, "blockedBy": blocked[0]})
    status = {**status, "newRows": counted.rows}
    if counted.problem is None and counted.rows >= training.minimum_new_rows:
        return None
    shortest, longest = RECOUNT_SECONDS
    left = (counted.at - now).total_seconds() + min(max(spec.monitoring.window_seconds, shortest), longest)
    if counted.problem is not None:
        blocked = ("NewRowsUnknown", f"The new rows could not be counted: {counted.problem}")
    else:
        message = (
            f"{counted.rows} labelled rows are newer than those that version {stable.version} learned from (until {since[:10]}); "
            f"training.minimumNewRows asks for {training.minimum_new_rows}."
        )
        blocked = ("WaitingForLabelledData", message)
    deletions = (job,) if left <= 0 else ()
    return Retraining(
        deletions=deletions, blocked=blocked, status={**status, "blockedBy": blocked[0]}, after_seconds=max(left, 1.0)
    )


def _status(record: TrainingRecord, own: list[Object]) -> dict[str, Any]:
    newest = record.open or record.last
    found: dict[str, Any] = {"failuresInARow": record.failures_in_a_row}
    if newest is not None:
        found |= {"lastTime": newest.started, "lastTrigger": newest.cause}
        names = [job["metadata"]["name"] for job in own if job["metadata"]["name"].endswith(f"-auto-{newest.number}")]
        found |= {"lastTrainingJobName": names[0]} if names else {}
    return found


def _training_job(observed: Observed, spec: InferenceServiceSpec, name: str) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainingJob",
        "metadata": {
            "name": name,
            "namespace": observed.namespace,
            "labels": {MANAGED_BY: "kaizen"},
            "ownerReferences": [controller_reference(observed.owner)],
        },
        "spec": {"model": spec.model, **_template(observed)},
    }


def _template(observed: Observed) -> Mapping[str, Any]:
    """The recipe as it stands in the spec, with what the API server filled in."""
    template: Mapping[str, Any] = observed.owner["spec"]["training"]["template"]
    return template


def _ended(job: Object) -> bool | None:
    """Whether a TrainingJob ended well; None while it has not ended."""
    succeeded = find(job.get("status", {}).get("conditions", ()), "Succeeded")
    if succeeded is None or succeeded["status"] == "Unknown":
        return None
    return bool(succeeded["status"] == "True")


def _failure(own: list[Object]) -> str:
    """The newest TrainingJob's failure, to go on a sentence with."""
    for job in reversed(own):
        succeeded = find(job.get("status", {}).get("conditions", ()), "Succeeded")
        if succeeded is not None and succeeded["status"] == "False":
            return f" ({job['metadata']['name']}: {succeeded['reason']}: {str(succeeded.get('message', ''))[:500].rstrip('.')})"
    return ""


def _counting(observed: Observed) -> tuple[Object, ...]:
    """The Job that counted rows, once nobody asks."""
    job = _count_job(observed)
    return (job,) if job is not None else ()


def _count_job(observed: Observed) -> Object | None:
    return next((job for job in observed.children if jobs.COUNTS_LABEL in job["metadata"].get("labels", {})), None)


def _spec_of(observed: Observed) -> str:
    return f"{observed.uid}/{observed.generation}"


def _created(job: Object) -> str:
    return str(job["metadata"].get("creationTimestamp", ""))
