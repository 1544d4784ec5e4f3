"""What a TrainingJob shows and does while its Job runs, is queued, or only repeats what there is."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kaizen.api.training_job import TrainingJobSpec
from kaizen.core import jobs, runs, training_job
from kaizen.core.plan import ModelRegistry, Observed, Ready, RegistryEntry, Terminal, Waiting
from kaizen.core.recipes import recipe_digest
from tests.support import objects
from tests.support.training_jobs import NOW, QUEUE, RUN, SEARCH, condition, job, observed, pod, status_of

# Queues: suspend is Kueue's.

RUNS, QUEUES, WAITS = ("True", "Running"), ("Unknown", "Queued"), ("Unknown", "Suspended")
QUEUED: dict[str, tuple[Observed, tuple[str, str], str | None]] = {
    "not admitted": (observed(job(suspend=True, labels=QUEUE), labels=QUEUE), QUEUES, "Queued"),
    "admitted": (observed(job(labels=QUEUE), labels=QUEUE), RUNS, None),
    "label taken off since": (observed(job(suspend=True, labels=QUEUE)), QUEUES, "Queued"),
    "label put on since": (observed(job(), labels=QUEUE), RUNS, None),
    "a person asks beside it": (
        observed(job(labels=QUEUE), labels=QUEUE, suspend=True),
        ("False", "SuspendOwnedByQueue"),
        None,
    ),
    "a person asks while it waits": (observed(job(suspend=True, labels=QUEUE), labels=QUEUE, suspend=True), QUEUES, "Queued"),
    "a person asks before": (observed(labels=QUEUE, suspend=True), WAITS, "Suspended"),
    "no queue": (observed(job(suspend=True), suspend=True), WAITS, "Suspended"),
}


@pytest.mark.parametrize(("seen", "ready", "suspended"), QUEUED.values(), ids=QUEUED)
def test_suspend_is_mirrored_and_a_queues_never_written(seen: Observed, ready: tuple[str, str], suspended: str | None) -> None:
    plan = training_job.decide(seen, NOW)
    status = status_of(plan)
    assert plan.suspend is None
    assert condition(status, "Ready") == ready
    assert condition(status, "Suspended") == (suspended and ("True", suspended))
    assert condition(status, "Succeeded") == ("Unknown", "Running")
    assert not any(child.body["kind"] == "Job" for child in plan.children)


def test_preempted_run_goes_on_where_it_was() -> None:
    run = replace(RUN, progress={"step": "Fit", "done": 3, "total": 8})
    for suspended in (False, True, False):
        plan = training_job.decide(observed(job(suspend=suspended, labels=QUEUE), labels=QUEUE, run=run), NOW)
        assert plan.suspend is None
        assert status_of(plan)["step"] == "Fit"


# Progress, as a tenant's Pod wrote it.

PROGRESS: dict[str, Any] = {
    "step": "Tuning",
    "done": 3,
    "total": 9,
    "startTime": "2026-03-01T11:00:00Z",
    "metrics": [],
    "search": {
        "finished": 12,
        "pruned": 4,
        "failed": 1,
        "total": 40,
        "etaSeconds": 90,
        "best": {"value": 0.41234567, "parameters": {"max_iter": 5}},
    },
    "data": {
        "digest": "sha256:" + "1" * 64,
        "rows": 1000,
        "columns": 8,
        "anomalies": [{"code": "CONSTANT", "severity": "Warning", "column": "wind", "message": "always 1"}],
    },
}


def test_search_is_seen_while_it_runs() -> None:
    status = status_of(training_job.decide(observed(job(), search=SEARCH, run=replace(RUN, progress=PROGRESS)), NOW))
    assert status["step"] == "Tuning 12/40"
    assert status["metric"] == "log_loss=0.4123"
    assert status["progress"] == {"done": 3, "total": 9, "etaSeconds": 90}
    best = {"value": 0.412346, "parameters": '{"max_iter": 5}'}
    assert status["search"] == {"finished": 12, "pruned": 4, "failed": 1, "best": best}
    assert status["data"] == PROGRESS["data"]


HUGE = "x" * 100_000
HOSTILE: dict[str, Any] = {
    "texts for objects": {"search": "x", "data": "x", "metrics": "x", "step": 7},
    "lists for objects": {"search": [1], "data": [1], "step": ["x"], "done": [1]},
    "no numbers": {"search": {"finished": "1", "pruned": None, "failed": 1.5, "total": True}, "done": True, "total": "9"},
    "below zero": {
        "search": {"finished": -1, "pruned": 0, "failed": 0},
        "done": -1,
        "total": 8,
        "data": {"digest": "x", "rows": -1},
    },
    "too large": {
        "step": HUGE,
        "search": {
            "finished": 1,
            "pruned": 0,
            "failed": 0,
            "total": 10**400,
            "best": {"value": 10**400, "parameters": {"a": HUGE}},
        },
        "data": {
            "digest": HUGE,
            "rows": 1,
            "columns": 10**400,
            "anomalies": [{"code": HUGE, "column": HUGE, "message": HUGE}] * 999,
        },
        "metrics": [{"name": HUGE, "value": 1, "dataset": HUGE, "low": 10**400, "high": float("inf")}] * 999,
    },
    "a long list of parameters": {
        "search": {"finished": 1, "pruned": 0, "failed": 0, "best": {"value": 1, "parameters": {f"a{n}": n for n in range(9999)}}}
    },
    "an object in a list": {"data": {"digest": "x", "rows": 1, "anomalies": [{"message": {"a": 1}}, 7, {"column": 3}]}},
}


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE)
def test_what_a_pod_wrote_is_bounded(document: dict[str, Any]) -> None:
    status = status_of(training_job.decide(observed(job(), run=replace(RUN, progress=document)), NOW))
    assert len(json.dumps(status)) < 100_000


METRIC: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "on test rows": ({}, {"metrics": [{"name": "log_loss", "value": 0.41234, "dataset": "test"}]}, "log_loss=0.4123"),
    "the baseline's is none": ({}, {"metrics": [{"name": "log_loss", "value": 0.4, "dataset": "baseline"}]}, None),
    "a regression's": (
        {"task": "Regression"},
        {"metrics": [{"name": "rmse", "value": 12345.6, "dataset": "test"}]},
        "rmse=1.235e+04",
    ),
    "the search's objective": (
        {"search": {**SEARCH, "objective": {"metric": "f1"}}},
        {"metrics": [{"name": "f1", "value": 0.5, "dataset": "test"}], "search": PROGRESS["search"]},
        "f1=0.5",
    ),
    "the best trial's": ({"search": SEARCH}, {"search": PROGRESS["search"]}, "log_loss=0.4123"),
    "none yet": ({}, {}, None),
}


@pytest.mark.parametrize(("spec", "document", "expected"), METRIC.values(), ids=METRIC)
def test_metric_to_look_at_first(spec: dict[str, Any], document: dict[str, Any], expected: str | None) -> None:
    assert runs.metric(TrainingJobSpec.model_validate(objects.training_job(**spec)["spec"]), document) == expected


# The same again.


def repeats(version: int, **manifest: Any) -> Observed:
    seen = observed(job(("Failed", "PodFailurePolicy")), run=replace(RUN, won="p", repeats=version))
    recipe = recipe_digest(TrainingJobSpec.model_validate(seen.owner["spec"]))
    found = {"recipeDigest": recipe, "dataDigest": "sha256:d", "metrics": [], **manifest}
    return replace(seen, model=ModelRegistry((RegistryEntry(7, "Committed", "s3://x/", "sha256:7", None, found),)))


def test_run_that_would_only_repeat_a_version_ends_with_it() -> None:
    plan = training_job.decide(repeats(7), NOW)
    status = status_of(plan)
    assert condition(status, "Succeeded") == ("True", "AlreadyTrained")
    assert status["modelVersionName"] == "flight-delay-v7"
    assert isinstance(plan.outcome, Ready)
    assert (plan.change, plan.records, plan.children) == (None, (), ())


def test_gates_are_shown_as_the_schema_has_them() -> None:
    shown = {"name": "good", "outcome": "Failed", "passed": False, "required": False, "value": 0.6, "low": 0.55, "high": 0.65}
    shown |= {"limit": 0.7, "against": "version 3", "message": "roc_auc is 0.6"}
    further = {"metric": "roc_auc", "championDigest": "sha256:3", "details": [{"name": "x"}]}
    status = status_of(training_job.decide(repeats(7, gates=[{**shown, **further}]), NOW))
    assert status["gates"] == [shown]


@pytest.mark.parametrize(
    "seen", [repeats(8), repeats(0), repeats(7, recipeDigest="sha256:x")], ids=["unknown", "none", "of another"]
)
def test_run_cannot_point_at_a_version_that_it_did_not_repeat(seen: Observed) -> None:
    status = status_of(training_job.decide(seen, NOW))
    assert condition(status, "Succeeded") == ("False", "OutcomeInvalid")


# What the cluster says.


def test_template_that_cannot_be_ends_the_job() -> None:
    plan = training_job.decide(observed(podTemplate={"spec": {"restartPolicy": "Always"}}), NOW)
    assert condition(status_of(plan), "Succeeded") == ("False", "InvalidPodTemplate")
    refused = replace(observed(), refused='Job.batch "flights-q1" is invalid: spec.template.spec: Invalid value')
    plan = training_job.decide(refused, NOW)
    assert condition(status_of(plan), "Succeeded") == ("False", "InvalidPodTemplate")
    assert isinstance(plan.outcome, Terminal)


def test_members_service_is_made_before_the_job() -> None:
    plan = training_job.decide(observed(search=SEARCH), NOW)
    assert [child.body["kind"] for child in plan.children] == ["Service", "Job"]
    going = training_job.decide(observed(job(), search=SEARCH), NOW)
    assert [child.body["kind"] for child in going.children] == ["Service"]


STUCK = {"metadata": {"name": "p"}, "kind": "Pod", "status": {"phase": "Pending"}}
BEGUN = {**STUCK, "status": {"phase": "Pending", "initContainerStatuses": [{"name": "data", "state": {"running": {}}}]}}
TROUBLED: dict[str, tuple[dict[str, Any], list[dict[str, Any]], int, str | None]] = {
    "no Pods": (job(startTime="2026-03-01T12:00:00Z"), [], 9, "Job"),
    "no Pods yet": (job(startTime="2026-03-01T12:00:00Z"), [], 5, None),
    "a Pod that does not begin": (job(startTime="2026-03-01T12:00:00Z"), [STUCK], 9, "Pod"),
    "a Pod at its first step": (job(startTime="2026-03-01T12:00:00Z"), [BEGUN], 9, None),
    "suspended": (job(suspend=True, startTime="2026-03-01T12:00:00Z"), [], 9, None),
    "over": (job(("Complete", "x"), startTime="2026-03-01T12:00:00Z"), [], 9, None),
}


@pytest.mark.parametrize(("one", "pods", "seconds", "expected"), TROUBLED.values(), ids=TROUBLED)
def test_who_is_asked_for_trouble(one: dict[str, Any], pods: list[dict[str, Any]], seconds: int, expected: str | None) -> None:
    about = jobs.may_be_troubled(one, pods, NOW + timedelta(seconds=seconds))
    assert (about and about["kind"]) == expected


INDEXED = {"backoffLimitPerIndex": 2}
DELETED = {"deletionTimestamp": "2026-03-01T11:00:00Z"}
ENDED = pod("trainer", index=1, exitCode=137)
KEPT: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "a deleted member": (INDEXED, DELETED, True),
    "a member that failed": (INDEXED, {}, False),
    "the only Pod": ({}, DELETED, False),
}


@pytest.mark.parametrize(("further", "deleted", "expected"), KEPT.values(), ids=KEPT)
def test_namespace_is_asked_for_while_a_pod_awaits_its_replacement(
    further: dict[str, Any], deleted: dict[str, Any], expected: bool
) -> None:
    one, member = job(), {**ENDED, "metadata": {**ENDED["metadata"], **deleted}}
    one["spec"] |= further
    assert training_job.decide(observed(one, member, search=SEARCH), NOW).tenant is expected
    one["metadata"] |= DELETED
    assert not training_job.decide(observed(one, member, search=SEARCH), NOW).tenant


@pytest.mark.parametrize(("waiting", "expected"), [(0, "Unschedulable"), (1, "Running")], ids=["index 0", "a worker"])
def test_search_waits_for_index_0_alone(waiting: int, expected: str) -> None:
    unschedulable = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}
    members = [pod("trainer", index=index) for index in (0, 1)]
    for index, one in enumerate(members):
        one["status"] = {"phase": "Pending", "conditions": [unschedulable]} if index == waiting else {"phase": "Running"}
    assert training_job.decide(observed(job(), *members, search=SEARCH), NOW).outcome.reason == expected
    own_code: dict[str, Any] = {"estimator": None, "container": {"image": "mine", "replicas": 2}}
    assert training_job.decide(observed(job(), *members, **own_code), NOW).outcome.reason == "Unschedulable"


WARNINGS = {
    'MountVolume.SetUp failed for volume "secret-0" : secret "lake" not found': (
        "SecretMissing", "The Secret lake does not exist: create it, and the run begins."
    ),
    'Error creating: pods "flights-q1-x7k2p" is forbidden: exceeded quota: small': (
        "PodsNotStarted", "Error creating: the Pod is forbidden: exceeded quota: small"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("warning", "expected"), WARNINGS.items(), ids=["secret", "quota"])
def test_trouble_is_told(warning: str, expected: tuple[str, str]) -> None:
    plan = training_job.decide(replace(observed(job()), troubled=warning), NOW)
    assert plan.outcome == Waiting(*expected, after_seconds=training_job.PROGRESS_SECONDS)
    status_of(plan)


def test_sidecar_that_cannot_begin_is_told() -> None:
    said = json.dumps({"step": "Train", "code": "BucketRefused", "message": "the bucket refuses the Secret kaizen-bucket"})
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    one = pod("checkpoints", init=True)
    one["status"]["initContainerStatuses"][0] |= {"state": waiting, "lastState": {"terminated": {"message": said}}}
    plan = training_job.decide(observed(job(), one), NOW)
    assert isinstance(plan.outcome, Waiting)
    assert plan.outcome.message == "The Pod's container checkpoints cannot start: the bucket refuses the Secret kaizen-bucket"
