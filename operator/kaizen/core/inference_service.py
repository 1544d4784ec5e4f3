"""What an InferenceService should be: the newest version that may serve, or the pinned one, answers under one address.

    version wanted → its Deployment and Service → ready → promoted (recorded, switched, recorded) → the old ones go

The stable version is what production/<service>.json in the bucket names.  While another one is being started it goes on
answering, and a version that refuses or crashes never gets a request.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from kaizen.api.inference_service import InferenceServiceSpec
from kaizen.core import endpoint, objects, pods, retraining, runs, serving, watching
from kaizen.core.plan import (
    Allow,
    Change,
    Child,
    ModelRegistry,
    Object,
    Observed,
    Outcome,
    Plan,
    Production,
    Promote,
    Ready,
    RegistryEntry,
    Retry,
    Skip,
    Terminal,
    Waiting,
    Watched,
)
from kaizen.core.retraining import Retraining
from kaizen.core.specs import read_spec

KEEP_OLD_SECONDS = 30
"""How long the version before goes on running after a promotion: clients keep connections to its Pods."""
WINDOW_GRACE_SECONDS = 2.0
"""How long after the end of a window its servers may take to write it."""


def decide(observed: Observed, now: datetime) -> Plan:
    """Plan for one InferenceService: its Service exists from the start, so that its address never changes."""
    spec = read_spec(observed.owner, InferenceServiceSpec)
    if isinstance(spec, Terminal):
        return Plan(spec)
    url = {"url": endpoint.url(spec, observed.name, observed.namespace)}
    present = serving.find(observed.children, "Service", observed.name)
    if not observed.bucket.usable or observed.model is None:
        # What runs goes on; nothing is changed while it is not known what should.
        children = () if present else (_address(observed, spec, None),)
        status = {**observed.owner.get("status", {}), **url}
        return Plan(Retry(observed.bucket.reason, observed.bucket.message), children, status=status)
    if not (observed.settings.server_image and observed.settings.server_sklearn_image):
        return Plan(Terminal("ServerImageMissing", "The operator was installed without server images: set the chart's images."))
    model = observed.model
    production = model.production.get(observed.name)
    stable = model.entry(production.version) if production else None
    choice = _choose(spec, model, observed.name, production)
    rollout = _rollout(observed, spec, production, stable, choice, present)
    servable = stable is not None or choice.entry is not None
    training = retraining.decide(observed, spec, model, stable, servable, now)
    outgoing, outgoing_in = _outgoing(observed, production, rollout.kept, now)
    outcome = _outcome(observed, spec, production, choice, rollout, training)
    beginning = pods.PATIENCE_SECONDS if serving.is_beginning(observed.children) else None
    wakes = (training.after_seconds, outgoing_in, _next_window(spec, production, now), beginning)
    status = {
        **url,
        "stable": _stable_status(observed, production, stable),
        "monitoring": watching.status(observed.watched),
        "training": runs.without_none(training.status) if spec.training else None,
        "history": _history(production),
    }
    return Plan(
        _look_again(outcome, wakes),
        children=(*rollout.children, *training.children),
        deletions=(*outgoing, *training.deletions),
        status=runs.without_none(status),
        conditions=_conditions(outcome, observed.watched, production, rollout, training),
        change=rollout.change or training.change,
        tenant=any(_needs_tenant(observed, child) for child in (*rollout.children, *training.children)),
    )


@dataclass(frozen=True)
class _Choice:
    """Which version is wanted, or why none is."""

    entry: RegistryEntry | None = None
    problem: Outcome | None = None
    """What the spec asks for cannot be served."""
    note: str = ""
    """Why a newer version is not followed, as a sentence."""
    skip: Skip | None = None
    """A version that cannot even be tried."""


@dataclass(frozen=True)
class _Rollout:
    """How far the wanted version is."""

    children: tuple[Child, ...]
    kept: frozenset[int]
    """Versions whose Deployments are wanted."""
    change: Change | None = None
    under_way: tuple[str, str] | None = None
    """The wanted version does not answer yet, or not all of its Pods are of the present spec: reason and message."""
    declared: bool = False
    """What is under way is what the spec says, and not a newer version that turned up."""
    failed: tuple[str, str] | None = None
    """The pinned version cannot answer."""


def _choose(spec: InferenceServiceSpec, model: ModelRegistry, service: str, production: Production | None) -> _Choice:
    stable = production.version if production else 0
    skipped = model.record.rolled_back.get(service, {})
    if spec.version is not None:
        entry = model.entry(spec.version)
        if entry is None:
            message = f"Waiting for version {spec.version} of model {spec.model}."
            return _Choice(problem=Waiting("WaitingForVersion", message))
        if failed := runs.failed_gates(entry.manifest):
            message = f"Version {spec.version} is rejected: gate {', '.join(failed)} failed. Pin another version."
            return _Choice(problem=Terminal("VersionRejected", message))
        if entry.reason:
            return _Choice(
                problem=Terminal("DigestMismatch", _sentence(entry.reason)), skip=_unreadable(spec.model, entry, skipped)
            )
        return _Choice(entry)
    notes: list[str] = []
    for entry in reversed(model.entries):
        if entry.version <= stable:
            break
        if failed := runs.failed_gates(entry.manifest):
            notes.append(f"Version {entry.version} is not followed: gate {', '.join(failed)} failed.")
        elif entry.version in skipped:
            notes.append(f"Version {entry.version} is not followed: {_sentence(skipped[entry.version])}")
        elif entry.reason:
            return _Choice(note=_sentence(entry.reason), skip=_unreadable(spec.model, entry, skipped))
        elif (champion := _champion(entry, model)) < stable:
            judged = f"against version {champion}" if champion else "before anything served"
            notes.append(f"Version {entry.version} is not followed: it was judged {judged}, and version {stable} serves now.")
        else:
            return _Choice(entry, note=" ".join(notes))
    return _Choice(model.entry(stable), note=" ".join(notes[:3]))


def _champion(entry: RegistryEntry, model: ModelRegistry) -> int:
    """The newest version that this one's gates compared it with; what has no such gates follows whatever serves."""
    gates = entry.manifest.get("gates")
    digests = [gate.get("championDigest") for gate in gates if isinstance(gate, Mapping)] if isinstance(gates, list) else []
    if not digests:
        return entry.version
    known = {other.digest: other.version for other in model.entries}
    return max(known.get(digest, 0) if isinstance(digest, str) else 0 for digest in digests)


def _unreadable(model: str, entry: RegistryEntry, skipped: Mapping[int, str]) -> Skip | None:
    reason = f"DigestMismatch: {entry.reason}"
    return None if entry.version in skipped else Skip(model, entry.version, "Refused", reason)


def _rollout(
    observed: Observed,
    spec: InferenceServiceSpec,
    production: Production | None,
    stable: RegistryEntry | None,
    choice: _Choice,
    present: Object | None,
) -> _Rollout:
    target = choice.entry
    selected = serving.selected(present)
    # Between a switch and its record the Service is ahead of the bucket: it stays where it is.
    ahead = target is not None and selected == target.version
    points_to = selected if ahead else production.version if production else None
    children = [_address(observed, spec, points_to)]
    wanted = {entry.version: entry for entry in (stable, target) if entry is not None}
    replicas = spec.replicas.minimum
    for entry in wanted.values():
        children += [serving.version_service(observed, spec, entry.version), serving.deployment(observed, spec, entry, replicas)]
    kept = frozenset(wanted) | ({production.version} if production else frozenset())
    plain = _Rollout(tuple(children), kept, choice.skip, declared=spec.version is not None)
    if target is None or (production is not None and production.version == target.version):
        change = plain.change or _allowed(observed, spec, production)
        renewal = _renewal(observed, spec, stable) if stable is not None else None
        return replace(plain, change=change, under_way=renewal, declared=True)
    found = serving.pods_of(observed, target.version)
    deployment = serving.find(observed.children, "Deployment", serving.version_name(observed.name, target.version))
    if ahead or serving.ready_replicas(deployment) >= replicas:
        promote = Promote(spec.model, target.version, _reason(observed, spec, target), f"operator/{observed.generation}")
        return replace(plain, change=promote, under_way=("Promoting", f"Version {target.version} is ready and takes over."))
    if (given_up := _given_up(found, stable is not None)) is not None:
        action, reason = given_up
        known = observed.model.record.rolled_back.get(observed.name, {}) if observed.model else {}
        skip = None if target.version in known else Skip(spec.model, target.version, action, reason)
        message = f"Version {target.version} does not start: {_sentence(reason)}"
        code = reason.partition(":")[0] if action == "Refused" else "VersionCrashes"
        if spec.version is not None:
            return replace(plain, change=skip, failed=(code, message))
        return replace(plain, change=skip, under_way=("GivenUp", message))
    return replace(plain, under_way=_waits(observed, spec, target.version, "Starting", "is being started"))


def _address(observed: Observed, spec: InferenceServiceSpec, version: int | None) -> Child:
    """The Service that clients call, leading to a version or to none yet."""
    found = [] if version is None else serving.pods_of(observed, version)
    selected = objects.NO_VERSION if version is None else str(version)
    return Child(objects.stable_service(observed, endpoint.service_ports(spec, found), selected))


def _renewal(observed: Observed, spec: InferenceServiceSpec, entry: RegistryEntry) -> tuple[str, str] | None:
    """How far the Pods of the version that answers are with a changed spec: reason and message; None when all are of it."""
    present = serving.find(observed.children, "Deployment", serving.version_name(observed.name, entry.version))
    if not serving.is_renewing(present, serving.deployment(observed, spec, entry, spec.replicas.minimum)):
        return None
    return _waits(observed, spec, entry.version, "Renewing", "gets Pods of the present spec")


def _waits(observed: Observed, spec: InferenceServiceSpec, version: int, reason: str, what: str) -> tuple[str, str]:
    """What the Pods of a version wait for: reason and message."""
    if held := serving.holds_back(spec, serving.pods_of(observed, version), observed.troubled):
        return held[0], f"Version {version} {what}: {held[1]}"
    deployment = serving.find(observed.children, "Deployment", serving.version_name(observed.name, version))
    ready = serving.ready_replicas(deployment)
    return reason, f"Version {version} {what}: {ready} of {spec.replicas.minimum} Pods are ready."


def _given_up(pods: list[Object], has_stable: bool) -> tuple[str, str] | None:
    """Why a version will not answer: the audit's word and the reason.  Without a stable one crashes are waited out."""
    if refusal := serving.refusal(pods):
        return "Refused", f"{refusal[0]}: {refusal[1]}"
    if has_stable and (how := serving.crashes(pods)):
        return "RolledBack", f"it keeps crashing: {how}"
    return None


def _allowed(observed: Observed, spec: InferenceServiceSpec, production: Production | None) -> Allow | None:
    """A version that a person named although it was skipped, and that answers now, is no longer one to skip."""
    if production is None or observed.model is None:
        return None
    if production.version not in observed.model.record.rolled_back.get(observed.name, {}):
        return None
    deployment = serving.find(observed.children, "Deployment", serving.version_name(observed.name, production.version))
    refused = serving.refusal(serving.pods_of(observed, production.version))
    return Allow(spec.model, production.version) if serving.ready_replicas(deployment) and refused is None else None


def _reason(observed: Observed, spec: InferenceServiceSpec, target: RegistryEntry) -> str:
    made = next(
        (
            version["spec"]["source"]["trainingJobName"]
            for version in observed.related
            if version["kind"] == "ModelVersion" and version["spec"].get("digest") == target.digest
        ),
        None,
    )
    why = "pinned by spec.version" if spec.version is not None else "the newest version that may serve"
    return f"{why}, made by TrainingJob {made}{_cause(observed, spec, made)}" if made else why


def _cause(observed: Observed, spec: InferenceServiceSpec, made: str) -> str:
    """Why an automatic TrainingJob was started, as far as the record still knows."""
    record = observed.model.record if observed.model else None
    for job in (record.open, record.last) if record else ():
        if job is not None and made == retraining.job_name(spec.model, job.number):
            drifted = sorted(job.drift, key=lambda name: -job.drift[name])
            return f" because of {job.cause}" + (f" ({runs.some(drifted)})" if drifted else "")
    return ""


def _outgoing(
    observed: Observed, production: Production | None, kept: frozenset[int], now: datetime
) -> tuple[tuple[Object, ...], float | None]:
    """Deployments and Services of versions that are no longer wanted, and in how many seconds they may go."""
    found = [child for child in observed.children if child["kind"] in ("Deployment", "Service")]
    old = tuple(child for child in found if (version := serving.version_of(child)) is not None and version not in kept)
    old = tuple(child for child in old if not child["metadata"].get("deletionTimestamp"))
    if not old or production is None:
        return old, None
    left = (datetime.fromisoformat(production.since) + timedelta(seconds=KEEP_OLD_SECONDS) - now).total_seconds()
    return (old, None) if left <= 0 else ((), left)


def _outcome(
    observed: Observed,
    spec: InferenceServiceSpec,
    production: Production | None,
    choice: _Choice,
    rollout: _Rollout,
    training: Retraining,
) -> Outcome:
    if choice.problem is not None:
        return choice.problem
    if rollout.failed is not None:
        return Terminal(*rollout.failed)
    if production is None:
        return _first_version(spec, choice, rollout, training)
    deployment = serving.find(observed.children, "Deployment", serving.version_name(observed.name, production.version))
    if serving.answering(deployment):
        message = f"Version {production.version} answers."
        return Ready("Serving", f"{message} {choice.note}" if choice.note else message)
    found = serving.pods_of(observed, production.version)
    if refusal := serving.refusal(found):
        return Terminal(refusal[0], f"Version {production.version} does not start: {_sentence(refusal[1])}")
    if held := serving.holds_back(spec, found, observed.troubled):
        return Waiting(*held)
    how = serving.crashes(found)
    return Waiting("NoReadyPods", f"No Pod of version {production.version} is ready" + (f": {how}." if how else "."))


def _first_version(spec: InferenceServiceSpec, choice: _Choice, rollout: _Rollout, training: Retraining) -> Outcome:
    if choice.entry is not None and rollout.under_way is not None:
        return Waiting(*rollout.under_way)
    if training.running is not None:
        return Waiting("Training", f"The first version is being made. {training.running}")
    words = [f"Waiting for a version of model {spec.model}.", choice.note, training.blocked[1] if training.blocked else ""]
    if spec.training is None:
        words.append("Apply a TrainingJob for it, or give this service spec.training.")
    return Waiting("WaitingForVersion", " ".join(word for word in words if word))


def _look_again(outcome: Outcome, wakes: Iterable[float | None]) -> Outcome:
    """The outcome, with the earliest time at which something changes without an event."""
    if isinstance(outcome, Retry):
        return outcome
    times = [wake for wake in (outcome.after_seconds, *wakes) if wake is not None]
    return replace(outcome, after_seconds=max(min(times), 0.0)) if times else outcome


def _next_window(spec: InferenceServiceSpec, production: Production | None, now: datetime) -> float | None:
    if production is None:
        return None
    seconds = spec.monitoring.window_seconds
    return seconds - (now.timestamp() - WINDOW_GRACE_SECONDS) % seconds


def _conditions(
    outcome: Outcome, watched: Watched | None, production: Production | None, rollout: _Rollout, training: Retraining
) -> tuple[tuple[str, str, str, str], ...]:
    found: list[tuple[str, str, str, str]] = []
    if production is not None and rollout.under_way is not None:
        found.append(("RollingOut", "True", *rollout.under_way))
        if rollout.declared and not isinstance(outcome, Terminal):
            found.append(("Reconciling", "True", *rollout.under_way))
    if training.blocked is not None:
        found.append(("TrainingBlocked", "True", *training.blocked))
    if training.running is not None:
        found.append(("Training", "True", "Running", training.running))
    if production is not None:
        found.append(("Healthy", *watching.health(watched)))
    return tuple(found)


def _stable_status(observed: Observed, production: Production | None, entry: RegistryEntry | None) -> dict[str, Any] | None:
    if production is None:
        return None
    deployment = serving.find(observed.children, "Deployment", serving.version_name(observed.name, production.version))
    engine = {"engine": runs.engine(entry.manifest)} if entry is not None else {}
    return {
        "version": production.version,
        "digest": production.digest,
        "since": production.since,
        **engine,
        "replicas": serving.replicas_of(deployment),
        "readyReplicas": serving.answering(deployment),
    }


def _history(production: Production | None) -> list[dict[str, Any]] | None:
    if production is None:
        return None
    return [{"version": one.version, "time": one.time, "reason": one.reason} for one in production.history[-10:]]


def _needs_tenant(observed: Observed, child: Child) -> bool:
    """Whether a child is about to be made whose Pods run with what every namespace has to have."""
    kind, name = child.body["kind"], child.body["metadata"]["name"]
    return kind in ("Deployment", "Job") and serving.find(observed.children, kind, name) is None


def _sentence(text: str) -> str:
    return f"{text.rstrip('.')}."
