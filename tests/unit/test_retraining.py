"""When a service's next TrainingJob is made, what holds it back, and that each step is found again after a crash."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kaizen.core import jobs
from kaizen.core.inference_service import decide
from kaizen.core.plan import ModelRegistry, Observed, Plan, SettleTraining, StartTraining, Waiting
from kaizen.core.training_record import TrainingRecord
from tests.support.objects import training_job
from tests.support.services import NOW, SERVICE, entry, observed, registry, stable_service, training, watched, with_record

SPEC = "uid-1/3"
DRIFT = watched("Drifted", in_a_row=2, temp=4.7)
SERVING = registry(entry(1), serves=1)


def drifted(*children: Any, model: ModelRegistry = SERVING, seen: Any = DRIFT, **changes: Any) -> Observed:
    return observed(model, stable_service(1), *children, watched=seen, training=training(**changes))


def blocked(plan: Plan) -> tuple[str, str]:
    """Reason and message of TrainingBlocked."""
    found = next((words for words in plan.conditions if words[0] == "TrainingBlocked"), None)
    assert found is not None, plan.conditions
    assert (plan.status or {})["training"]["blockedBy"] == found[2]
    return found[2], found[3]


def job(number: int, succeeded: str = "Unknown", reason: str = "Running", message: str = "Step Fit.") -> dict[str, Any]:
    """A TrainingJob of the service."""
    body = training_job(f"flight-delay-auto-{number}")
    body["metadata"] |= {"namespace": "team-a", "uid": f"job-{number}", "creationTimestamp": f"2026-03-01T10:00:{number:02}Z"}
    conditions = [{"type": "Succeeded", "status": succeeded, "reason": reason, "message": message}]
    return {**body, "status": {"step": "Fit", "conditions": conditions}}


def count_job(seen: Observed, rows: int | None, *, age: float = 5.0) -> list[dict[str, Any]]:
    """The counting Job that a plan made, and its Pod; finished when it has rows."""
    (body,) = [dict(child.body) for child in decide(seen, NOW).children if child.body["kind"] == "Job"]
    body["metadata"] = {**body["metadata"], "uid": "count", "resourceVersion": "1"}
    if rows is None:
        return [{**body, "status": {}}]
    ended = (NOW - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ")
    body["status"] = {
        "completionTime": ended,
        "conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": ended}],
    }
    said = json.dumps({"rows": rows, "newest": "2013-06-30T23:00:00Z"})
    state = {"terminated": {"exitCode": 0, "finishedAt": ended, "message": said}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "rows-x",
            "namespace": "team-a",
            "labels": {jobs.COUNTS_FOR_LABEL: SERVICE},
            "ownerReferences": [{"controller": True, "uid": "count", "kind": "Job", "name": body["metadata"]["name"]}],
        },
        "status": {"containerStatuses": [{"name": "trainer", "state": state}]},
    }
    return [body, pod]


def test_first_model_is_trained_step_by_step() -> None:
    seen = observed(registry(), training=training())
    assert decide(seen, NOW).change == StartTraining("flight-delay", "Initial", {}, SPEC)
    record = TrainingRecord().start(SERVICE, "Initial", {}, SPEC, NOW)
    plan = decide(with_record(seen, record), NOW)
    (made,) = [child for child in plan.children if child.body["kind"] == "TrainingJob"]
    assert (made.body["metadata"]["name"], made.created_once) == ("flight-delay-auto-1", True)
    assert made.body["spec"] == {"model": "flight-delay", **training()["template"]}
    running = decide(with_record(observed(registry(), job(1), training=training()), record), NOW)
    assert running.outcome == Waiting(
        "Training", "The first version is being made. TrainingJob flight-delay-auto-1 trains: step Fit."
    )
    assert running.change is None
    done = decide(with_record(observed(registry(), job(1, "True"), training=training()), record), NOW)
    assert done.change == SettleTraining("flight-delay", 1, failed=False, answered=True)


def test_nothing_is_trained_while_a_version_can_serve() -> None:
    assert decide(observed(registry(entry(1)), training=training()), NOW).change is None
    assert decide(observed(registry(), training=training(triggers=["DataDrift"])), NOW).change is None


def test_drift_starts_a_job_when_enough_new_rows_were_counted() -> None:
    first = decide(drifted(), NOW)
    assert first.change is None
    assert first.tenant
    assert blocked(first)[0] == "CountingNewRows"
    assert decide(drifted(*count_job(drifted(), None)), NOW).change is None
    few = decide(drifted(*count_job(drifted(), 99)), NOW)
    assert few.change is None
    assert blocked(few) == (
        "WaitingForLabelledData",
        "99 labelled rows are newer than those that version 1 learned from (until 2013-03-31);"
        " training.minimumNewRows asks for 100.",
    )
    assert (few.status or {})["training"]["newRows"] == 99
    enough = decide(drifted(*count_job(drifted(), 100)), NOW)
    assert enough.change == StartTraining("flight-delay", "DataDrift", {"temp": 4.7}, SPEC)


def test_rows_are_counted_again_after_a_while_and_for_another_question_at_once() -> None:
    old = decide(drifted(*count_job(drifted(), 99, age=301)), NOW)
    assert [body["metadata"]["name"] for body in old.deletions] == [f"{SERVICE}-rows"]
    other = entry(2)
    newer = registry(replace(other, manifest={**other.manifest, "trainedUntil": "2013-06-30T23:00:00Z"}), serves=2)
    asked = decide(drifted(*count_job(drifted(), 5000), model=newer), NOW)
    assert (asked.change, [body["kind"] for body in asked.deletions]) == (None, ["Job"])


def test_counting_job_goes_when_nobody_asks_any_more() -> None:
    calm = decide(drifted(*count_job(drifted(), 5000), seen=watched("Stable")), NOW)
    assert (calm.change, [body["kind"] for body in calm.deletions]) == (None, ["Job"])


def test_no_rows_are_counted_where_none_are_asked_for() -> None:
    assert isinstance(decide(drifted(minimumNewRows=0), NOW).change, StartTraining)


@pytest.mark.parametrize("seen", [watched("Drifted", in_a_row=1, temp=4.7), watched("Stable"), watched("NotEnoughData"), None])
def test_less_than_drift_in_enough_windows_starts_nothing(seen: Any) -> None:
    plan = decide(drifted(seen=seen, minimumNewRows=0), NOW)
    assert (plan.change, [words for words in plan.conditions if words[0] == "TrainingBlocked"]) == (None, [])


def record(*, failed: bool = False, age: float = 60.0, spec: str = SPEC, jobs: int = 1) -> TrainingRecord:
    """The last of some jobs started so many seconds ago."""
    found = TrainingRecord()
    for number in range(1, jobs + 1):
        found = found.start(SERVICE, "DataDrift", {"temp": 2.0}, spec, NOW - timedelta(seconds=age))
        found = found.settle(number, failed=failed, answered=not failed)
    return found


HELD: dict[str, tuple[TrainingRecord, dict[str, Any], str, str]] = {
    "suspended": (
        TrainingRecord(),
        {"suspend": True},
        "Suspended",
        "training.suspend is true: set it to false to let TrainingJobs start.",
    ),
    "cooldown": (record(), {}, "Cooldown", "The last TrainingJob started less than training.cooldownSeconds (3600 s) ago."),
    "after a failure": (
        record(failed=True),
        {},
        "WaitingAfterFailure",
        "The last TrainingJob failed (flight-delay-auto-1: DataMissing: no files): it is tried again after 3600 s.",
    ),
    "three failures": (
        record(failed=True, age=9e5, jobs=3),
        {},
        "StoppedAfterFailures",
        "3 TrainingJobs failed in a row (flight-delay-auto-1: DataMissing: no files): any change of this spec lets the next one"
        " start.",
    ),
}


@pytest.mark.parametrize(("before", "changes", "reason", "message"), HELD.values(), ids=HELD)
def test_what_holds_a_job_back_is_said(before: TrainingRecord, changes: dict[str, Any], reason: str, message: str) -> None:
    failed = job(1, "False", "DataMissing", "no files.")
    plan = decide(with_record(drifted(failed, minimumNewRows=0, **changes), before), NOW)
    assert plan.change is None
    assert blocked(plan) == (reason, message)


FREE: dict[str, TrainingRecord] = {
    "the cooldown is over": record(age=3600),
    "the spec was changed after a failure": record(failed=True, spec="uid-1/2"),
    "the spec was changed after three failures": record(failed=True, spec="uid-1/2", jobs=3),
}


@pytest.mark.parametrize("before", FREE.values(), ids=FREE)
def test_what_held_a_job_back_ends(before: TrainingRecord) -> None:
    assert isinstance(decide(with_record(drifted(minimumNewRows=0), before), NOW).change, StartTraining)


def test_a_changed_spec_ends_no_cooldown_after_a_success() -> None:
    plan = decide(with_record(drifted(minimumNewRows=0), record(spec="uid-1/2")), NOW)
    assert blocked(plan)[0] == "Cooldown"


def test_first_model_is_tried_again_soon() -> None:
    seen = observed(registry(), training=training(cooldownSeconds=86400))
    assert decide(with_record(seen, record(failed=True, age=59)), NOW).change is None
    assert isinstance(decide(with_record(seen, record(failed=True, age=60)), NOW).change, StartTraining)


def test_failed_job_is_settled_as_failed() -> None:
    seen = with_record(drifted(job(1, "False")), TrainingRecord().start(SERVICE, "DataDrift", {"temp": 2.0}, SPEC, NOW))
    assert decide(seen, NOW).change == SettleTraining("flight-delay", 1, failed=True, answered=False)


def test_one_job_at_a_time_for_a_model_also_of_two_services() -> None:
    before = TrainingRecord().start("another", "Initial", {}, "uid-9/1", NOW)
    other = {"kind": "InferenceService", "metadata": {"name": "another"}, "spec": {"model": SERVICE}}
    seen = with_record(drifted(minimumNewRows=0), before)
    waits = decide(replace(seen, related=(other,)), NOW)
    assert (waits.change, [child.body["kind"] for child in waits.children if child.body["kind"] == "TrainingJob"]) == (None, [])
    assert decide(seen, NOW).change == SettleTraining("flight-delay", 1, failed=False, answered=False)


def test_old_jobs_are_cleaned_up() -> None:
    old = [job(number, "True") for number in range(1, 14)]
    plan = decide(drifted(*old, seen=watched("Stable")), NOW)
    assert [body["metadata"]["name"] for body in plan.deletions] == [f"flight-delay-auto-{number}" for number in (1, 2, 3)]
