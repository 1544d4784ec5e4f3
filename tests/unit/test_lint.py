"""The lint of conditions can fail: each bad status with the words that tell what is wrong with it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.lint import problems, transition_problems
from tests.support.objects import changed, inference_service

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SINCE = "2026-03-01T11:59:00Z"
UID = "3f0c1c52-7f0e-4d55-9d3a-6a3c6d0f7a11"


def condition(kind: str, status: str, **fields: Any) -> dict[str, Any]:
    base = {
        "type": kind,
        "status": status,
        "reason": "ModelAnswers",
        "message": "Version 3 answers.",
        "observedGeneration": 2,
        "lastTransitionTime": SINCE,
    }
    return {**base, **fields}


def body(*conditions: dict[str, Any], observed: int = 2) -> dict[str, Any]:
    made = inference_service()
    made["metadata"] |= {"generation": 2, "uid": UID}
    return {**made, "status": {"observedGeneration": observed, "conditions": list(conditions)}}


GOOD = body(condition("Ready", "True"))
STALLED = body(condition("Ready", "False"), condition("Stalled", "True"))
FRESH = body(observed=-1)

GOOD_BODIES = {
    "ready": GOOD,
    "ready of an older generation": changed(changed(GOOD, "status.observedGeneration", 1), "metadata.generation", 3),
    "ready through a rollout": body(condition("Ready", "True"), condition("Reconciling", "True")),
    "unknown while something retries": body(condition("Ready", "Unknown"), condition("Reconciling", "True")),
    "stalled": STALLED,
    "with a condition of its own kind": body(condition("Ready", "Unknown"), condition("Succeeded", "Unknown")),
    "not seen yet": FRESH,
    "not seen yet, without the list": {**FRESH, "status": {"observedGeneration": -1}},
    "no status": {key: value for key, value in GOOD.items() if key != "status"},
    "slightly fast clock": body(condition("Ready", "True", lastTransitionTime="2026-03-01T12:00:59Z")),
    "words with dashes": body(condition("Ready", "True", message="Serves flight-delay-v2 over plain-https, not-grpcs.")),
    "a date that is no time": body(condition("Ready", "True", message="Data up to 2026-02-28 are used.")),
    "a row of the user's data": body(condition("Ready", "True", message="late is 7 in row 3 (time=2013-01-01 02:00:00+00:00).")),
    "a name of the user's that looks generated": changed(
        changed(GOOD, "metadata.name", "model-x7k2p"), "status.conditions.0.message", "Service model-x7k2p exists."
    ),
}

BAD_BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "no top-level generation": (changed(GOOD, "status.observedGeneration", None), "status.observedGeneration is missing"),
    "generation is text": (changed(GOOD, "status.observedGeneration", "2"), "status.observedGeneration is missing"),
    "generation from the future": (changed(GOOD, "status.observedGeneration", 3), "newer than the object's generation 2"),
    "no Ready": (body(condition("Succeeded", "Unknown")), "Ready is missing"),
    "no conditions at all": (body(), "Ready is missing"),
    "Ready twice": (body(condition("Ready", "True"), condition("Ready", "False")), "Ready: present 2 times"),
    "own type twice": (
        body(condition("Drifted", "True"), condition("Drifted", "True"), condition("Ready", "True")),
        "Drifted: present 2 times",
    ),
    "not sorted": (body(condition("Stalled", "True"), condition("Ready", "False")), "not sorted by type: Stalled, Ready"),
    "no type": (changed(GOOD, "status.conditions.0.type", None), "type is missing"),
    "no status": (changed(GOOD, "status.conditions.0.status", None), "Ready: status is missing"),
    "boolean status": (changed(GOOD, "status.conditions.0.status", True), "status True is none of True, False, Unknown"),
    "no reason": (changed(GOOD, "status.conditions.0.reason", None), "Ready: reason is missing"),
    "empty reason": (changed(GOOD, "status.conditions.0.reason", ""), "reason '' is not CamelCase"),
    "lower-case reason": (changed(GOOD, "status.conditions.0.reason", "modelAnswers"), "is not CamelCase"),
    "sentence as reason": (changed(GOOD, "status.conditions.0.reason", "Model answers"), "is not CamelCase"),
    "no message": (changed(GOOD, "status.conditions.0.message", None), "Ready: message is missing"),
    "empty message": (changed(GOOD, "status.conditions.0.message", " "), "Ready: message is empty"),
    "uid in the message": (changed(GOOD, "status.conditions.0.message", f"Not that of {UID}."), "message has a uid"),
    "time in the message": (
        changed(GOOD, "status.conditions.0.message", "Waiting since 2026-03-01T11:59:00Z."),
        "message has a timestamp",
    ),
    "Pod of a Deployment in the message": (
        changed(GOOD, "status.conditions.0.message", "Pod flight-delay-v2-7c9d8b6f5d-x2klm is not ready."),
        "message has a generated name: '-7c9d8b6f5d-x2klm'",
    ),
    "Pod of a Job in the message": (
        changed(GOOD, "status.conditions.0.message", "Pod flights-q1-x7k2p failed."),
        "message has a generated name: '-x7k2p'",
    ),
    "no generation": (changed(GOOD, "status.conditions.0.observedGeneration", None), "Ready: observedGeneration is missing"),
    "condition from the future": (
        changed(GOOD, "status.conditions.0.observedGeneration", 3),
        "Ready: observedGeneration 3 is newer",
    ),
    "no time": (changed(GOOD, "status.conditions.0.lastTransitionTime", None), "lastTransitionTime is missing"),
    "time with an offset": (
        changed(GOOD, "status.conditions.0.lastTransitionTime", "2026-03-01T12:59:00+01:00"),
        "is not of the form",
    ),
    "time of no calendar": (
        changed(GOOD, "status.conditions.0.lastTransitionTime", "2026-02-30T12:59:00Z"),
        "is not of the form",
    ),
    "time in the future": (
        changed(GOOD, "status.conditions.0.lastTransitionTime", "2026-03-01T12:01:01Z"),
        "lies in the future",
    ),
    "Reconciling False": (
        body(condition("Ready", "True"), condition("Reconciling", "False")),
        "Reconciling: may be present only when True",
    ),
    "Stalled Unknown": (
        body(condition("Ready", "False"), condition("Stalled", "Unknown")),
        "Stalled: may be present only when True",
    ),
    "Reconciling and Stalled": (
        body(condition("Ready", "False"), condition("Reconciling", "True"), condition("Stalled", "True")),
        "Reconciling and Stalled are present together",
    ),
    "Stalled and Ready": (
        body(condition("Ready", "True"), condition("Stalled", "True")),
        "Stalled is True and Ready is True, not False",
    ),
    "Stalled and nobody knows": (
        body(condition("Ready", "Unknown"), condition("Stalled", "True")),
        "Stalled is True and Ready is Unknown, not False",
    ),
}


@pytest.mark.parametrize("good", GOOD_BODIES.values(), ids=GOOD_BODIES)
def test_good_status_has_no_problem(good: dict[str, Any]) -> None:
    assert problems(good, NOW) == []


@pytest.mark.parametrize(("bad", "sentence"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_status_is_found(bad: dict[str, Any], sentence: str) -> None:
    assert any(sentence in problem for problem in problems(bad, NOW)), problems(bad, NOW)


def test_future_is_not_judged_without_a_clock() -> None:
    assert problems(changed(GOOD, "status.conditions.0.lastTransitionTime", "2999-01-01T00:00:00Z")) == []


LATER = "2026-03-01T11:59:30Z"
EARLIER = "2026-03-01T11:58:30Z"

TRANSITIONS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "nothing changed": (GOOD, GOOD, []),
    "first status": (FRESH, GOOD, []),
    "status changed with its time": (GOOD, body(condition("Ready", "False", lastTransitionTime=LATER)), []),
    "status changed within the same second": (GOOD, body(condition("Ready", "False")), []),
    "condition appeared": (body(condition("Ready", "False")), STALLED, []),
    "condition went away": (STALLED, body(condition("Ready", "False")), []),
    "reason changed": (GOOD, body(condition("Ready", "True", reason="Other")), []),
    "time moved without the status": (
        GOOD,
        body(condition("Ready", "True", lastTransitionTime=LATER)),
        [f"Ready: lastTransitionTime moved from {SINCE} to {LATER} although status stayed True"],
    ),
    "time went back": (
        GOOD,
        body(condition("Ready", "False", lastTransitionTime=EARLIER)),
        [f"Ready: lastTransitionTime went back from {SINCE} to {EARLIER}"],
    ),
    "top-level generation went back": (
        GOOD,
        body(condition("Ready", "True"), observed=1),
        ["status: observedGeneration went back"],
    ),
    "generation went away": (
        GOOD,
        changed(GOOD, "status.observedGeneration", None),
        ["status: observedGeneration went back from 2 to None"],
    ),
    "condition's generation went back": (
        GOOD,
        body(condition("Ready", "True", observedGeneration=1)),
        ["Ready: observedGeneration went back from 2 to 1"],
    ),
    "another object of the same name": (GOOD, changed(FRESH, "metadata.uid", "another"), []),
}


@pytest.mark.parametrize(("before", "after", "expected"), TRANSITIONS.values(), ids=TRANSITIONS)
def test_transitions(before: dict[str, Any], after: dict[str, Any], expected: list[str]) -> None:
    found = transition_problems(before, after)
    assert len(found) == len(expected), found
    assert all(sentence in problem for sentence, problem in zip(expected, found, strict=True)), found


def test_sightings_that_are_not_adjacent_allow_a_condition_that_left_and_came_back() -> None:
    after = body(condition("Ready", "True", lastTransitionTime=LATER))
    assert transition_problems(GOOD, after, adjacent=False) == []
