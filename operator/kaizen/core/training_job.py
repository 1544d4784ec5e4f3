"""What a TrainingJob should be: one Job, whose winning attempt becomes one version.

    no Job → Job → its progress is shown → run.json names the attempt that won → registered → ModelVersion
                 ↘ failed: the Pod's last words say why
                 ↘ run.json names the version that it would only make again

A re-created operator, or one that died anywhere in between, finds the run in the bucket by the TrainingJob's uid.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from kaizen.api.base import API_VERSION
from kaizen.api.training_job import TrainingJobSpec
from kaizen.core import distributed, jobs, pods, recipes, retraining, runs
from kaizen.core.conditions import find
from kaizen.core.objects import MANAGED_BY
from kaizen.core.plan import Child, Object, Observed, Outcome, Plan, Ready, Register, Retry, Run, Terminal, Waiting
from kaizen.core.podtemplate import InvalidPodTemplate
from kaizen.core.specs import read_spec

PROGRESS_SECONDS = 4.0
"""How often a running attempt's progress is looked at."""
ALREADY_TRAINED = "AlreadyTrained"


def decide(observed: Observed, now: datetime) -> Plan:
    """Plan for one TrainingJob."""
    spec = read_spec(observed.owner, TrainingJobSpec)
    if isinstance(spec, Terminal):
        return Plan(spec)
    if is_over(observed.owner):
        return _as_before(observed, spec, now)
    if not observed.bucket.usable or observed.run is None:
        # Its Job goes on; only looking at it has to wait.
        return Plan(
            Retry(observed.bucket.reason, observed.bucket.message),
            status=None,
            conditions=_succeeded("Unknown", observed.bucket.reason, observed.bucket.message),
        )
    run, job = observed.run, jobs.own_job(observed.children)
    if run.entry is not None and run.entry.state == "Committed":
        return _registered(observed, spec, run)
    if run.entry is not None and run.entry.state == "Abandoned":
        return _failed(spec, run, {"step": "Register", "code": "RegistrationFailed", "message": run.entry.reason or ""})
    if run.repeats is not None:
        return _repeated(observed, spec, run, run.repeats)
    if run.won is not None:
        register = Register(spec.model, observed.uid, run.won)
        return _running(spec, run, Ready("Registering", "The run's files are copied into the registry and checked."), register)
    if job is not None and (why := jobs.failure(job, observed.children)):
        return _failed(spec, run, why)
    if observed.refused is not None:
        return _failed(spec, run, {"code": "InvalidPodTemplate", "message": observed.refused})
    if not observed.settings.trainer_image:
        return Plan(
            Terminal("TrainerImageMissing", "The operator was installed without a trainer image: set the chart's images.trainer.")
        )
    if job is None:
        return _start(observed, spec, run, now)
    plan = _goes_on(observed, spec, run, job)
    return replace(plan, children=_workers(observed, spec), tenant=jobs.awaits_replacement(job, observed.children))


def is_over(owner: Object) -> bool:
    """Whether a TrainingJob has ended, well or not; nothing of it changes after that."""
    succeeded = find(owner.get("status", {}).get("conditions", ()), "Succeeded")
    return succeeded is not None and succeeded["status"] != "Unknown"


def _start(observed: Observed, spec: TrainingJobSpec, run: Run, now: datetime) -> Plan:
    """Make the Job."""
    if spec.suspend and jobs.queue_of(observed.owner):
        waiting = Waiting("Suspended", "Suspended: its Job is made and queued when spec.suspend is false.")
        return replace(_running(spec, run, waiting), conditions=_conditions(run, waiting))
    opened = observed.model.record.open if observed.model else None
    automatic = opened is not None and observed.name == retraining.job_name(spec.model, opened.number)
    try:
        body = jobs.training_job(observed, spec, now, opened.cause if opened is not None and automatic else "Manual")
    except InvalidPodTemplate as problem:
        return _failed(spec, run, {"code": "InvalidPodTemplate", "message": str(problem)})
    return Plan(
        Waiting("Starting", "Its Job is being made."),
        # The Service first: a member's name resolves when it starts.
        (*_workers(observed, spec), Child(body, created_once=True)),
        status=runs.without_none({"runURI": run.uri}),
        conditions=_succeeded("Unknown", "Starting", "The run has not begun."),
        tenant=True,
    )


def _goes_on(observed: Observed, spec: TrainingJobSpec, run: Run, job: Object) -> Plan:
    """The Job is there and has not ended."""
    suspended, queue = bool(job["spec"].get("suspend", False)), jobs.queue_of(job)
    if queue is not None:
        # Kueue alone writes suspend here, in both directions and at any time.
        if spec.suspend and not suspended:
            message = f"spec.suspend has no effect while queue {queue} owns the run: set it to false."
            return _running(spec, run, Terminal("SuspendOwnedByQueue", message, PROGRESS_SECONDS))
        if suspended:
            message = f"The queue {queue} has not admitted the run, or has taken its place back."
            return _running(spec, run, Waiting("Queued", message))
    elif suspended != spec.suspend:
        outcome = Waiting(
            "Suspended" if spec.suspend else "Resuming",
            "The Job is told to stop." if spec.suspend else "The Job is told to go on.",
        )
        return replace(_running(spec, run, outcome), suspend=(job, spec.suspend))
    elif spec.suspend:
        return _running(spec, run, Waiting("Suspended", "Suspended: set spec.suspend to false to go on."))
    if waits := jobs.waits_for(observed.children, together=spec.container is not None):
        return _running(spec, run, Waiting(*waits, after_seconds=PROGRESS_SECONDS))
    if observed.troubled is not None:
        return _running(spec, run, Waiting(*pods.trouble(observed.troubled, "the run begins"), after_seconds=PROGRESS_SECONDS))
    going = Ready("Running", "The run goes on; the condition Succeeded will say how it ended.", PROGRESS_SECONDS)
    return _running(spec, run, going)


def _workers(observed: Observed, spec: TrainingJobSpec) -> tuple[Child, ...]:
    return distributed.workers(observed, spec, {MANAGED_BY: "kaizen", jobs.TRAINING_JOB_LABEL: observed.name})


def _running(spec: TrainingJobSpec, run: Run, outcome: Outcome, register: Register | None = None) -> Plan:
    progress = run.progress or {}
    return Plan(
        outcome,
        status=runs.without_none({**_progress(spec, progress), "step": runs.step(progress), "runURI": run.uri}),
        conditions=_conditions(run, outcome),
        change=register,
    )


def _conditions(run: Run, outcome: Outcome) -> tuple[tuple[str, str, str, str], ...]:
    succeeded = _succeeded("Unknown", "Running", f"Step {runs.step(run.progress or {})}.")
    if outcome.reason in ("Queued", "Suspended"):
        return (*succeeded, ("Suspended", "True", outcome.reason, outcome.message))
    return succeeded


def _registered(observed: Observed, spec: TrainingJobSpec, run: Run) -> Plan:
    entry = run.entry
    assert entry is not None
    name, manifest = f"{spec.model}-v{entry.version}", entry.manifest
    failed = runs.failed_gates(manifest)
    if failed:
        reason, message = "GatesFailed", f"Version {entry.version} is registered as rejected: gate {', '.join(failed)} failed."
    else:
        reason, message = "Registered", f"Version {entry.version} of model {spec.model} is registered."
    status = _done(spec, run, name, manifest)
    return Plan(
        Ready(reason, message, _tidied_after(spec)),
        status=status,
        conditions=_succeeded("True", reason, message),
        records=(_model_version(observed, spec, name, entry.digest or ""),),
    )


def _repeated(observed: Observed, spec: TrainingJobSpec, run: Run, version: int) -> Plan:
    """The attempt found that a version was made of the same data by the same recipe and code, and made nothing."""
    entry = recipes.repeated(spec, observed.model, version)
    if entry is None:
        message = "The run says that it was trained before, and names no version that this recipe made: create a new one."
        return _failed(spec, run, {"step": "Register", "code": "OutcomeInvalid", "message": message})
    message = f"Version {version} of model {spec.model} was made of the same data by the same recipe and code."
    return Plan(
        Ready(ALREADY_TRAINED, message, _tidied_after(spec)),
        status=_done(spec, run, f"{spec.model}-v{version}", entry.manifest),
        conditions=_succeeded("True", ALREADY_TRAINED, message),
    )


def _done(spec: TrainingJobSpec, run: Run, name: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The status of a run that ended well."""
    progress = run.progress or {}
    return runs.without_none(
        {
            **_progress(spec, progress),
            "step": "Done",
            "metric": runs.metric(spec, {**progress, "metrics": manifest.get("metrics")}),
            "metrics": runs.metrics(manifest),
            "gates": runs.gates(manifest) or None,
            "data": runs.data({**_object(progress.get("data")), **_object(manifest.get("data")), **_data_of(manifest)}),
            "modelVersionName": name,
            "runURI": run.uri,
            "completionTime": runs.text(progress.get("time")),
        }
    )


def _failed(spec: TrainingJobSpec, run: Run, why: Mapping[str, Any]) -> Plan:
    status = {**_progress(spec, run.progress or {}), "runURI": run.uri, "failure": runs.without_none(why)}
    return Plan(
        Terminal(why["code"], why["message"], _tidied_after(spec)),
        status=runs.without_none(status),
        conditions=_succeeded("False", why["code"], why["message"]),
    )


def _as_before(observed: Observed, spec: TrainingJobSpec, now: datetime) -> Plan:
    """An ended TrainingJob: its conditions again, until its time to live is over."""
    conditions = observed.owner["status"]["conditions"]
    ready, succeeded = find(conditions, "Ready"), find(conditions, "Succeeded")
    assert ready is not None
    assert succeeded is not None
    left = None
    if spec.ttl_seconds_after_finished is not None:
        ended = datetime.fromisoformat(succeeded["lastTransitionTime"])
        left = (ended - now).total_seconds() + spec.ttl_seconds_after_finished
    kind = Ready if ready["status"] == "True" else Terminal
    return Plan(
        kind(ready["reason"], ready["message"], left),
        deletions=(observed.owner,) if left is not None and left <= 0 else _no_longer_needed(observed, succeeded),
        status=None,
        conditions=_succeeded(succeeded["status"], succeeded["reason"], succeeded["message"]),
    )


def _no_longer_needed(observed: Observed, succeeded: Mapping[str, Any]) -> tuple[Object, ...]:
    """Of an ended TrainingJob: the members' Service, and the Job where nothing but its end ends its Pods."""
    services = tuple(child for child in observed.children if child["kind"] == "Service")
    job = jobs.own_job(observed.children)
    if job is None or jobs.is_over(job) or job["metadata"].get("deletionTimestamp"):
        return services
    # Workers of a search wait for an index 0 that will not come back.
    return (*services, job) if succeeded["status"] == "False" else services


def _tidied_after(spec: TrainingJobSpec) -> float | None:
    """When to look for what an ended run leaves behind."""
    return 1.0 if spec.container is not None or distributed.members(spec) > 1 else None


def _progress(spec: TrainingJobSpec, progress: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "progress": runs.progress(progress),
        "search": runs.search(progress),
        "metric": runs.metric(spec, progress),
        "metrics": runs.metrics(progress) or None,
        "data": runs.data(_object(progress.get("data"))),
        "startTime": runs.text(progress.get("startTime"), 64),
    }


def _data_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return runs.without_none({"digest": manifest.get("dataDigest"), "trainedUntil": manifest.get("trainedUntil")})


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _succeeded(status: str, reason: str, message: str) -> tuple[tuple[str, str, str, str], ...]:
    return (("Succeeded", status, reason, message),)


def _model_version(observed: Observed, spec: TrainingJobSpec, name: str, digest: str) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelVersion",
        "metadata": {"name": name, "namespace": observed.namespace},
        "spec": {"model": spec.model, "source": {"trainingJobName": observed.name}, "digest": digest},
    }
