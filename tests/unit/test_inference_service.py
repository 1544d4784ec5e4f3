"""Which version a service wants, when it takes over, and what happens to one that cannot: over literals."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kaizen.core.inference_service import KEEP_OLD_SECONDS, decide
from kaizen.core.objects import VERSION_LABEL
from kaizen.core.plan import Allow, Bucket, Plan, Promote, Ready, Retry, Settings, Skip, Terminal, Waiting
from kaizen.core.training_record import TrainingRecord
from tests.support.services import (
    NOW,
    SERVICE,
    deployment,
    entry,
    observed,
    pod,
    production,
    registry,
    stable_service,
    watched,
)

REFUSAL = json.dumps({"code": "DigestMismatch", "message": "engine.json has another sha256"})
FAILED = [{"name": "no-worse", "outcome": "Failed", "passed": False, "championDigest": "sha256:0"}]


def selector(plan: Plan) -> str:
    """What the stable Service is told to select."""
    (service,) = [child.body for child in plan.children if child.body["metadata"]["name"] == SERVICE]
    return str(service["spec"]["selector"][VERSION_LABEL])


def deployed(plan: Plan) -> list[str]:
    return [child.body["metadata"]["name"] for child in plan.children if child.body["kind"] == "Deployment"]


def condition(plan: Plan, kind: str) -> tuple[str, str, str, str] | None:
    return next((found for found in plan.conditions if found[0] == kind), None)


def test_first_version_is_started_then_promoted() -> None:
    model = registry(entry(1))
    first = decide(observed(model, stable_service(None)), NOW)
    assert (selector(first), deployed(first), first.change) == ("none", [f"{SERVICE}-v1"], None)
    assert first.tenant
    ready = decide(observed(model, stable_service(None), deployment(first, 1)), NOW)
    assert ready.change == Promote("flight-delay", 1, "the newest version that may serve", "operator/3")
    assert selector(ready) == "none"
    assert not ready.tenant


def test_not_promoted_before_all_its_pods_are_ready() -> None:
    model = registry(entry(1))
    first = decide(observed(model, replicas={"minimum": 2}), NOW)
    half = decide(observed(model, deployment(first, 1, ready=1, replicas=2), replicas={"minimum": 2}), NOW)
    assert half.change is None
    assert half.outcome == Waiting("Starting", "Version 1 is being started: 1 of 2 Pods are ready.")


def test_ready_pods_of_an_older_template_do_not_count() -> None:
    model = registry(entry(1))
    body = deployment(decide(observed(model), NOW), 1)
    body["metadata"]["generation"] = 2
    assert decide(observed(model, body), NOW).change is None


def test_newer_version_starts_beside_the_stable_one_which_goes_on_answering() -> None:
    one = decide(observed(registry(entry(1), serves=1)), NOW)
    model = registry(entry(1), entry(2, champion=1), serves=1)
    plan = decide(observed(model, stable_service(1), deployment(one, 1)), NOW)
    assert (selector(plan), deployed(plan)) == ("1", [f"{SERVICE}-v1", f"{SERVICE}-v2"])
    assert isinstance(plan.outcome, Ready)
    assert condition(plan, "RollingOut") == (
        "RollingOut", "True", "Starting", "Version 2 is being started: 0 of 1 Pods are ready.",
    )  # fmt: skip
    assert condition(plan, "Reconciling") is None
    done = decide(observed(model, stable_service(1), deployment(one, 1), deployment(plan, 2)), NOW)
    assert isinstance(done.change, Promote)
    assert selector(done) == "1"


def test_switched_but_not_recorded_is_finished_and_never_switched_back() -> None:
    plan = decide(observed(registry(entry(1), entry(2, champion=1), serves=1), stable_service(2)), NOW)
    assert selector(plan) == "2"
    assert isinstance(plan.change, Promote)
    assert plan.change.version == 2


def test_service_made_anew_or_bent_selects_what_the_bucket_says() -> None:
    for bent in (None, 7):
        plan = decide(observed(registry(entry(1), serves=1), stable_service(bent)), NOW)
        assert (selector(plan), plan.change) == ("1", None)


def test_old_version_goes_when_its_connections_had_time_to_end() -> None:
    one = decide(observed(registry(entry(1), serves=1)), NOW)
    since = "2026-03-01T11:59:50Z"
    model = registry(entry(1), entry(2, champion=1), serves=2, since=since)
    two = decide(observed(model), NOW)
    children = (stable_service(2), deployment(one, 1), deployment(two, 2))
    early = decide(observed(model, *children), NOW)
    assert early.deletions == ()
    assert isinstance(early.outcome, Ready)
    assert early.outcome.after_seconds is not None
    assert 0 < early.outcome.after_seconds <= KEEP_OLD_SECONDS - 10
    late = decide(observed(model, *children), NOW + timedelta(seconds=KEEP_OLD_SECONDS))
    assert [body["metadata"]["name"] for body in late.deletions] == [f"{SERVICE}-v1"]


NOT_FOLLOWED: dict[str, tuple[Any, str]] = {
    "failed gate": (entry(2, gates=FAILED), "Version 2 is not followed: gate no-worse failed."),
    "another champion": (
        entry(2, gates=[{"name": "g", "passed": None, "championDigest": None}]),
        "Version 2 is not followed: it was judged before anything served, and version 1 serves now.",
    ),
}


@pytest.mark.parametrize(("newer", "note"), NOT_FOLLOWED.values(), ids=NOT_FOLLOWED)
def test_version_that_may_not_serve_is_not_followed_and_the_status_says_why(newer: Any, note: str) -> None:
    one = decide(observed(registry(entry(1), serves=1)), NOW)
    plan = decide(observed(registry(entry(1), newer, serves=1), stable_service(1), deployment(one, 1)), NOW)
    assert deployed(plan) == [f"{SERVICE}-v1"]
    assert isinstance(plan.outcome, Ready)
    assert plan.outcome.message == f"Version 1 answers. {note}"


def test_newest_that_may_serve_is_followed_past_one_that_may_not() -> None:
    model = registry(entry(1), entry(2, champion=1), entry(3, gates=FAILED), serves=1)
    assert deployed(decide(observed(model), NOW)) == [f"{SERVICE}-v1", f"{SERVICE}-v2"]


def test_service_never_goes_back_by_itself() -> None:
    model = registry(entry(1), entry(2, champion=1), serves=2, record=TrainingRecord().skip(SERVICE, 2, "it keeps crashing"))
    plan = decide(observed(model, stable_service(2)), NOW)
    assert (selector(plan), deployed(plan)) == ("2", [f"{SERVICE}-v2"])


def test_after_a_pin_was_taken_back_the_newest_is_followed_again() -> None:
    model = registry(entry(1), entry(2, champion=1), entry(3, champion=2), serves=1)
    assert deployed(decide(observed(model), NOW))[-1] == f"{SERVICE}-v3"


def test_pinned_version_is_put_in_place_also_backwards() -> None:
    two = decide(observed(registry(entry(1), entry(2), serves=2)), NOW)
    model = registry(entry(1), entry(2, champion=1), serves=2)
    plan = decide(observed(model, stable_service(2), deployment(two, 2), version=1), NOW)
    assert deployed(plan) == [f"{SERVICE}-v2", f"{SERVICE}-v1"]
    assert isinstance(plan.outcome, Ready)
    assert condition(plan, "Reconciling") is not None
    done = decide(observed(model, stable_service(2), deployment(two, 2), deployment(plan, 1), version=1), NOW)
    assert done.change == Promote("flight-delay", 1, "pinned by spec.version", "operator/3")


def test_refused_version_is_skipped_once_and_stable_goes_on() -> None:
    one = decide(observed(registry(entry(1), serves=1)), NOW)
    model = registry(entry(1), entry(2, champion=1), serves=1)
    children = (stable_service(1), deployment(one, 1), pod(2, exit_code=10, message=REFUSAL))
    plan = decide(observed(model, *children), NOW)
    reason = "DigestMismatch: engine.json has another sha256"
    assert plan.change == Skip("flight-delay", 2, "Refused", reason)
    assert isinstance(plan.outcome, Ready)
    skipped = replace(model, record=TrainingRecord().skip(SERVICE, 2, reason))
    after = decide(observed(skipped, *children), NOW)
    assert (after.change, deployed(after)) == (None, [f"{SERVICE}-v1"])
    assert isinstance(after.outcome, Ready)
    assert after.outcome.message == f"Version 1 answers. Version 2 is not followed: {reason}."


def test_crashing_version_is_given_up_only_where_another_answers() -> None:
    one = decide(observed(registry(entry(1), serves=1)), NOW)
    crashing = pod(2, exit_code=1, message="Segmentation fault", restarts=4)
    model = registry(entry(1), entry(2, champion=1), serves=1)
    plan = decide(observed(model, stable_service(1), deployment(one, 1), crashing), NOW)
    assert isinstance(plan.change, Skip)
    assert plan.change.action == "RolledBack"
    assert "ended 4 times, last with exit code 1: Segmentation fault" in plan.change.reason
    alone = decide(observed(registry(entry(2)), crashing), NOW)
    assert alone.change is None
    assert isinstance(alone.outcome, Waiting)


def test_missing_room_is_never_the_versions_fault() -> None:
    one = decide(observed(registry(entry(1), serves=1)), NOW)
    waiting = pod(2, exit_code=1, restarts=0)
    waiting["status"] = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available."}]}
    model = registry(entry(1), entry(2, champion=1), serves=1)
    plan = decide(observed(model, stable_service(1), deployment(one, 1), waiting), NOW)
    assert plan.change is None
    rolling = condition(plan, "RollingOut")
    assert rolling is not None
    assert rolling[2] == "Unschedulable"


def test_pinned_version_that_is_refused_is_said_once_and_tried_on() -> None:
    model = registry(entry(1), entry(2, champion=1), serves=1)
    children = (stable_service(1), pod(2, exit_code=10, message=REFUSAL))
    plan = decide(observed(model, *children, version=2), NOW)
    assert isinstance(plan.change, Skip)
    assert isinstance(plan.outcome, Terminal)
    assert plan.outcome.reason == "DigestMismatch"
    known = replace(model, record=TrainingRecord().skip(SERVICE, 2, "DigestMismatch: x"))
    again = decide(observed(known, *children, version=2), NOW)
    assert again.change is None
    assert f"{SERVICE}-v2" in deployed(again)


def test_skipped_version_that_a_person_pinned_and_that_answers_is_forgiven() -> None:
    model = registry(entry(1), serves=1, record=TrainingRecord().skip(SERVICE, 1, "DigestMismatch: x"))
    one = decide(observed(model, version=1), NOW)
    assert decide(observed(model, stable_service(1), deployment(one, 1), version=1), NOW).change == Allow("flight-delay", 1)


def test_unreadable_manifest_is_refused_before_any_pod_starts() -> None:
    broken = replace(entry(2), manifest={}, reason="version 2 was changed in the bucket")
    one = decide(observed(registry(entry(1), serves=1)), NOW)
    plan = decide(observed(registry(entry(1), broken, serves=1), stable_service(1), deployment(one, 1)), NOW)
    assert plan.change == Skip("flight-delay", 2, "Refused", "DigestMismatch: version 2 was changed in the bucket")
    assert deployed(plan) == [f"{SERVICE}-v1"]


def test_operator_upgrade_changes_no_running_deployment_and_the_users_spec_does() -> None:
    model = registry(entry(1), serves=1)
    body = deployment(decide(observed(model), NOW), 1)
    upgraded = replace(observed(model, body), settings=Settings("t:2", "kaizen/server:2", "kaizen/server-sklearn:2"))
    (child,) = [child for child in decide(upgraded, NOW).children if child.body["kind"] == "Deployment"]
    assert child.created_once
    scaled = replace(observed(model, body, replicas={"minimum": 3}), settings=upgraded.settings)
    (child,) = [child for child in decide(scaled, NOW).children if child.body["kind"] == "Deployment"]
    assert not child.created_once
    assert child.body["spec"]["replicas"] == 3
    assert child.body["spec"]["template"] == body["spec"]["template"]
    edited = replace(observed(model, body, pod={"resources": {"limits": {"memory": "2Gi"}}}), settings=upgraded.settings)
    (child,) = [child for child in decide(edited, NOW).children if child.body["kind"] == "Deployment"]
    assert not child.created_once
    assert child.body["spec"]["template"]["spec"]["containers"][0]["image"] == "kaizen/server:2"


def test_no_pod_that_is_ready_is_not_ready() -> None:
    model = registry(entry(1), serves=1)
    body = deployment(decide(observed(model), NOW), 1, ready=0)
    waiting = decide(observed(model, stable_service(1), body), NOW).outcome
    assert isinstance(waiting, Waiting)
    assert (waiting.reason, waiting.message) == ("NoReadyPods", "No Pod of version 1 is ready.")
    refused = decide(observed(model, stable_service(1), body, pod(1, exit_code=10, message=REFUSAL)), NOW)
    assert isinstance(refused.outcome, Terminal)
    assert refused.outcome.reason == "DigestMismatch"


def test_status_tells_what_serves_and_how_it_looks() -> None:
    model = registry(entry(1), serves=1)
    body = deployment(decide(observed(model), NOW), 1)
    seen = watched("Drifted", in_a_row=2, temp=4.7, dewp=1.2)
    plan = decide(observed(model, stable_service(1), body, watched=seen), NOW)
    assert plan.status is not None
    assert plan.status["stable"] == {
        "version": 1, "digest": production(1)[SERVICE].digest, "since": "2026-02-01T00:00:00Z", "engine": {"name": "compiled"},
        "replicas": 1, "readyReplicas": 1,
    }  # fmt: skip
    monitoring = plan.status["monitoring"]
    assert (monitoring["verdict"], monitoring["drifted"], monitoring["driftedInARow"]) == ("Drifted", "temp, dewp", 2)
    healthy = condition(plan, "Healthy")
    assert healthy is not None
    assert healthy[1:3] == ("False", "DataDrift")
    assert "temp (PSI 4.7, limit 0.2)" in healthy[3]


def test_bucket_that_is_away_changes_nothing() -> None:
    seen = replace(observed(registry(), stable_service(1)), model=None, bucket=Bucket(False, "BucketUnreachable", "It is away."))
    plan = decide(seen, NOW)
    assert plan.outcome == Retry("BucketUnreachable", "It is away.")
    assert (plan.children, plan.deletions, plan.change) == ((), (), None)
