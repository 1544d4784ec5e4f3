"""Outcomes become conditions: what each means, what is kept from before, and the laws that hold over any history."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaizen.core.conditions import LONGEST_MESSAGE, conclude, find
from kaizen.core.plan import Outcome, Ready, Retry, Terminal, Waiting
from kaizen.core.times import timestamp
from tests.support.lint import problems, transition_problems

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
THEN = "2026-03-01T11:00:00Z"
AT_NOW = "2026-03-01T12:00:00Z"


def condition(kind: str, status: str, reason: str, message: str, generation: int, since: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }


READY = condition("Ready", "True", "Answering", "Version 3 answers.", 2, THEN)
NOT_READY = condition("Ready", "False", "InvalidSpec", "spec.task: wrong.", 2, THEN)
STALLED = condition("Stalled", "True", "InvalidSpec", "spec.task: wrong.", 2, THEN)
UNKNOWN = condition("Ready", "Unknown", "BucketUnreachable", "No answer.", 2, THEN)
RECONCILING = condition("Reconciling", "True", "ProgressingWithRetry", "No answer.", 2, THEN)
OWN = condition("Drifted", "True", "Drift", "Two features drifted.", 2, THEN)

CASES: dict[str, tuple[Outcome, list[dict[str, Any]], list[dict[str, Any]]]] = {
    "ready from nothing": (
        Ready("Answering", "Version 3 answers."),
        [],
        [{**READY, "lastTransitionTime": AT_NOW}],
    ),
    "still ready keeps its time": (Ready("Answering", "Version 3 answers."), [READY], [READY]),
    "still ready with another reason keeps its time": (
        Ready("RolledOut", "Version 4 answers."),
        [READY],
        [{**READY, "reason": "RolledOut", "message": "Version 4 answers."}],
    ),
    "ready after a spec change speaks of the new generation": (
        Ready("Answering", "Version 3 answers."),
        [{**READY, "observedGeneration": 1}],
        [READY],
    ),
    "waiting": (
        Waiting("WaitingForVersion", "No version yet."),
        [],
        [condition("Ready", "Unknown", "WaitingForVersion", "No version yet.", 2, AT_NOW)],
    ),
    "waiting after ready": (
        Waiting("WaitingForVersion", "No version yet."),
        [READY],
        [condition("Ready", "Unknown", "WaitingForVersion", "No version yet.", 2, AT_NOW)],
    ),
    "terminal": (
        Terminal("InvalidSpec", "spec.task: wrong."),
        [],
        [{**NOT_READY, "lastTransitionTime": AT_NOW}, {**STALLED, "lastTransitionTime": AT_NOW}],
    ),
    "terminal again": (Terminal("InvalidSpec", "spec.task: wrong."), [NOT_READY, STALLED], [NOT_READY, STALLED]),
    "mended": (
        Ready("Answering", "Version 3 answers."),
        [NOT_READY, STALLED],
        [{**READY, "lastTransitionTime": AT_NOW}],
    ),
    "retry from nothing": (
        Retry("BucketUnreachable", "No answer."),
        [],
        [{**UNKNOWN, "lastTransitionTime": AT_NOW}, {**RECONCILING, "lastTransitionTime": AT_NOW}],
    ),
    "retry again": (Retry("BucketUnreachable", "No answer."), [UNKNOWN, RECONCILING], [UNKNOWN, RECONCILING]),
    "ready stays through a failure that a retry may mend": (Retry("BucketUnreachable", "No answer."), [READY], [READY]),
    "but not when it spoke of an older spec": (
        Retry("BucketUnreachable", "No answer."),
        [{**READY, "observedGeneration": 1}],
        [{**UNKNOWN, "lastTransitionTime": AT_NOW}, {**RECONCILING, "lastTransitionTime": AT_NOW}],
    ),
    "retry after terminal": (
        Retry("BucketUnreachable", "No answer."),
        [NOT_READY, STALLED],
        [{**UNKNOWN, "lastTransitionTime": AT_NOW}, {**RECONCILING, "lastTransitionTime": AT_NOW}],
    ),
    "other conditions are not its business": (Ready("Answering", "Version 3 answers."), [OWN, READY], [READY]),
}


@pytest.mark.parametrize(("outcome", "before", "expected"), CASES.values(), ids=CASES)
def test_conclude(outcome: Outcome, before: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert conclude(outcome, before, 2, NOW) == expected


def test_longest_message_is_kept_and_a_longer_one_ends_in_an_ellipsis() -> None:
    longest = "x" * LONGEST_MESSAGE
    assert conclude(Ready("Answering", longest), [], 1, NOW)[0]["message"] == longest
    cut = conclude(Ready("Answering", longest + "x"), [], 1, NOW)[0]["message"]
    assert len(cut) == LONGEST_MESSAGE
    assert cut.endswith("x…")


def test_find() -> None:
    assert find([UNKNOWN, RECONCILING], "Reconciling") == RECONCILING
    assert find([UNKNOWN], "Stalled") is None


def test_timestamp_has_whole_seconds() -> None:
    assert timestamp(NOW.replace(microsecond=999_999)) == AT_NOW


_REASONS = st.sampled_from(["Answering", "BucketUnreachable", "InvalidSpec", "NameTaken"])
_MESSAGES = st.sampled_from(["Version 3 answers.", "No answer.", "The name is taken. " * 100])
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Ready, _REASONS, _MESSAGES),
    st.builds(Waiting, _REASONS, _MESSAGES),
    st.builds(Retry, _REASONS, _MESSAGES),
    st.builds(Terminal, _REASONS, _MESSAGES),
)
STEPS = st.tuples(OUTCOMES, st.integers(0, 1), st.integers(1, 600))
"""What happened, by how much the generation grew before it, and how many seconds after the step before."""


def _body(generation: int, status: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "flight-delay", "uid": "u", "generation": generation}, "status": status}


@given(history=st.lists(STEPS, min_size=1, max_size=12))
def test_any_history_passes_the_lint_and_moves_times_exactly_when_statuses_change(
    history: list[tuple[Outcome, int, int]],
) -> None:
    now, body = NOW, _body(1, {"observedGeneration": -1})
    for outcome, grown, seconds in history:
        now += timedelta(seconds=seconds)
        generation = body["metadata"]["generation"] + grown
        old = body["status"].get("conditions", [])
        conditions = conclude(outcome, old, generation, now)
        following = _body(generation, {"observedGeneration": generation, "conditions": conditions})
        assert problems(following, now) == []
        assert transition_problems(body, following) == []
        for one in conditions:
            known = find(old, one["type"])
            unchanged = known is not None and known["status"] == one["status"]
            assert (one["lastTransitionTime"] != timestamp(now)) == unchanged
        body = following


@given(history=st.lists(STEPS, min_size=1, max_size=6))
def test_concluding_the_same_again_changes_nothing(history: list[tuple[Outcome, int, int]]) -> None:
    conditions: list[Any] = []
    for outcome, _, _ in history:
        conditions = conclude(outcome, conditions, 1, NOW)
    assert conclude(history[-1][0], conditions, 1, NOW + timedelta(hours=1)) == conditions
