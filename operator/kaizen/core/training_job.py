"""What a TrainingJob should be: one Job, whose winning attempt becomes one version.

    no Job → Job → its progress is shown → run.json names the attempt that won → registered → ModelVersion
                 ↘ failed: the Pod's last words say why

A re-created operator, or one that died anywhere in between, finds the run in the bucket by the TrainingJob's uid.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from kaizen.api.base import API_VERSION
from kaizen.api.training_job import TrainingJobSpec
from kaizen.core import jobs, runs
from kaizen.core.conditions import find
from kaizen.core.plan import Child, Object, Observed, Outcome, Plan, Ready, Register, Retry, Run, Terminal, Waiting
from kaizen.core.specs import read_spec

PROGRESS_SECONDS = 4.0
"""How often a running attempt's progress is looked at."""


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
        return _failed(run, {"step": "Register", "code": "RegistrationFailed", "message": run.entry.reason or ""})
    if run.won is not None:
        register = Register(spec.model, observed.uid, run.won)
        return _running(run, Ready("Registering", "The run's files are copied into the registry and checked."), register)
    if job is not None and (why := jobs.failure(job, observed.children)):
        return _failed(run, why)
    if not observed.settings.trainer_image:
        return Plan(
            Terminal("TrainerImageMissing", "The operator was installed without a trainer image: set the chart's images.trainer.")
        )
    children = (Child(jobs.training_job(observed, spec), created_once=True),)
    if job is None:
        return Plan(
            Waiting("Starting", "Its Job is being made."),
            children,
            status=runs.without_none({"runURI": run.uri}),
            conditions=_succeeded("Unknown", "Starting", "The run has not begun."),
            tenant=True,
        )
    if job["spec"].get("suspend", False) != spec.suspend:
        outcome = Waiting(
            "Suspended" if spec.suspend else "Resuming",
            "The Job is told to stop." if spec.suspend else "The Job is told to go on.",
        )
        return replace(_running(run, outcome), suspend=(job, spec.suspend))
    if spec.suspend:
        return _running(run, Waiting("Suspended", "Suspended: set spec.suspend to false to go on."))
    if waits := jobs.waits_for(observed.children):
        return _running(run, Waiting(*waits, after_seconds=PROGRESS_SECONDS))
    return _running(run, Ready("Running", "The run goes on; the condition Succeeded will say how it ended.", PROGRESS_SECONDS))


def is_over(owner: Object) -> bool:
    """Whether a TrainingJob has ended, well or not; nothing of it changes after that."""
    succeeded = find(owner.get("status", {}).get("conditions", ()), "Succeeded")
    return succeeded is not None and succeeded["status"] != "Unknown"


def _running(run: Run, outcome: Outcome, register: Register | None = None) -> Plan:
    progress = run.progress or {}
    step = runs.text(progress.get("step"), 64) or "Starting"
    return Plan(
        outcome,
        status=runs.without_none({**_progress(progress), "step": step, "runURI": run.uri}),
        conditions=_succeeded("Unknown", "Running", f"Step {step}."),
        change=register,
    )


def _registered(observed: Observed, spec: TrainingJobSpec, run: Run) -> Plan:
    entry = run.entry
    assert entry is not None
    name, manifest = f"{spec.model}-v{entry.version}", entry.manifest
    failed = runs.failed_gates(manifest)
    if failed:
        reason, message = "GatesFailed", f"Version {entry.version} is registered as rejected: gate {', '.join(failed)} failed."
    else:
        reason, message = "Registered", f"Version {entry.version} of model {spec.model} is registered."
    status = {
        **_progress(run.progress or {}),
        "step": "Done",
        "metrics": runs.metrics(manifest),
        "gates": runs.gates(manifest) or None,
        "data": _data(manifest),
        "modelVersionName": name,
        "runURI": run.uri,
        "completionTime": runs.text((run.progress or {}).get("time")),
    }
    return Plan(
        Ready(reason, message),
        status=runs.without_none(status),
        conditions=_succeeded("True", reason, message),
        records=(_model_version(observed, spec, name, entry.digest or ""),),
    )


def _failed(run: Run, why: Mapping[str, Any]) -> Plan:
    status = {**_progress(run.progress or {}), "runURI": run.uri, "failure": runs.without_none(why)}
    return Plan(
        Terminal(why["code"], why["message"]),
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
        deletions=(observed.owner,) if left is not None and left <= 0 else (),
        status=None,
        conditions=_succeeded(succeeded["status"], succeeded["reason"], succeeded["message"]),
    )


def _progress(progress: Mapping[str, Any]) -> dict[str, Any]:
    done, total = progress.get("done"), progress.get("total")
    known = isinstance(done, int) and isinstance(total, int)
    return {
        "progress": {"done": done, "total": total} if known else None,
        "metrics": runs.metrics(progress) or None,
        "startTime": runs.text(progress.get("startTime")),
    }


def _data(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    digest, rows = runs.text(manifest.get("dataDigest"), 71), (manifest.get("data") or {}).get("rows")
    if digest is None or not isinstance(rows, int):
        return None
    return runs.without_none({"digest": digest, "rows": rows, "trainedUntil": runs.text(manifest.get("trainedUntil"), 64)})


def _succeeded(status: str, reason: str, message: str) -> tuple[tuple[str, str, str, str], ...]:
    return (("Succeeded", status, reason, message),)


def _model_version(observed: Observed, spec: TrainingJobSpec, name: str, digest: str) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelVersion",
        "metadata": {"name": name, "namespace": observed.namespace},
        "spec": {"model": spec.model, "source": {"trainingJobName": observed.name}, "digest": digest},
    }
