"""How a Job's end is explained: by a user's own code, and by one Pod among many."""

from typing import Any

import pytest

from kaizen.core import jobs, training_job
from kaizen.core.plan import Ready
from tests.support.training_jobs import NOW, SEARCH, job, observed, pod, status_of

OOM: dict[str, Any] = {"exitCode": 137, "reason": "OOMKilled"}
CRASHED: dict[str, Any] = {"exitCode": 1, "reason": "Error", "message": "Traceback\n  ...\nValueError: no loss"}
ENDS: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "an exit code": (
        [pod("training", init=True, **CRASHED)],
        "ExitCode",
        "The container ended with exit code 1: Traceback ... ValueError: no loss",
    ),
    "an exit code like ours": (
        [pod("training", init=True, exitCode=10, reason="Error", message='{"code": "TargetMissing", "message": "x"}')],
        "ExitCode",
        'The container ended with exit code 10: {"code": "TargetMissing", "message": "x"}',
    ),
    "a signal": (
        [pod("training", init=True, exitCode=139, reason="Error")], "Signal", "The container was ended by signal 11 (SIGSEGV)."
    ),
    "an unknown signal": ([pod("training", init=True, exitCode=255, reason="Error")], "Signal", "was ended by signal 127."),
    "out of memory": ([pod("training", init=True, **OOM)], "OOMKilled", "its limit: raise pod.resources.limits.memory."),
    "no such command": (
        [pod("training", init=True, exitCode=128, reason="StartError", message="exec: no such file")],
        "StartError",
        "ended with exit code 128: exec: no such file",
    ),
    "our first step": (
        [pod("data", init=True, exitCode=10, message='{"step": "Ingest", "code": "DataMissing", "message": "no s3"}')],
        "DataMissing",
        "no s3",
    ),
    "the second try": (
        [pod("training", 5, init=True, **CRASHED), pod("training", 9, init=True, **OOM)], "OOMKilled", "needed more memory"
    ),
    "the rank that took the others along": (
        [pod("training", 5, 0, True, **CRASHED), pod("training", 6, 1, True, **CRASHED), pod("training", 7, 2, True, **OOM)],
        "OOMKilled",
        "needed more memory",
    ),
    "the first rank to end": (
        [pod("training", 6, 0, True, **CRASHED), pod("training", 5, 1, True, exitCode=3, reason="Error", message="first")],
        "ExitCode",
        "exit code 3: first",
    ),
    "a final word before others": (
        [pod("trainer", 9, 1, **CRASHED), pod("trainer", 5, 0, exitCode=10, message='{"code": "Late", "message": "late"}')],
        "Late",
        "late",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("pods", "code", "words"), ENDS.values(), ids=ENDS)
def test_end_is_explained(pods: list[dict[str, Any]], code: str, words: str) -> None:
    plan = training_job.decide(observed(job(("Failed", "BackoffLimitExceeded")), *pods), NOW)
    failure = status_of(plan)["failure"]
    assert failure["code"] == code
    assert words in failure["message"]
    assert isinstance(failure["exitCode"], int)


def test_users_step_and_limit_are_named() -> None:
    one = pod("training", init=True, **OOM)
    one["spec"] = {"initContainers": [{"name": "training", "resources": {"limits": {"memory": "8Gi"}}}]}
    failure = jobs.failure(job(("Failed", "BackoffLimitExceeded")), [one])
    assert failure is not None
    assert (failure["step"], failure["exitCode"]) == ("Train", 137)
    assert failure["message"] == "The container needed more memory than its limit of 8Gi: raise pod.resources.limits.memory."
    one["status"] = {"containerStatuses": pod("trainer", **OOM)["status"]["containerStatuses"]}
    failure = jobs.failure(job(("Failed", "BackoffLimitExceeded")), [one])
    assert failure is not None
    assert "resources.limits.memory of container trainer in podTemplate" in failure["message"]


def test_evicted_pods_are_an_end_too() -> None:
    gone = {"kind": "Pod", "metadata": {"name": "p"}, "status": {"phase": "Failed", "message": "The node was low on memory."}}
    failure = jobs.failure(job(("Failed", "BackoffLimitExceeded")), [gone])
    assert failure == {"code": "PodsLost", "message": "The Job failed: The node was low on memory."}


def test_search_ends_when_index_0_has_failed_for_good_and_its_workers_are_sent_home() -> None:
    pods = [pod("trainer", 5, 0, **CRASHED), pod("trainer", 6, 1, **OOM)]
    going = job(failedIndexes="1")
    seen = observed(going, *pods, search=SEARCH)
    assert isinstance(training_job.decide(seen, NOW).outcome, Ready)
    given_up = job(failedIndexes="0-1")
    plan = training_job.decide(observed(given_up, *pods, search=SEARCH), NOW)
    status = status_of(plan)
    assert "ValueError: no loss" in status["failure"]["message"]
    assert not plan.deletions  # Not before the status says why: a Job that is gone would be made again.
    service = {"kind": "Service", "metadata": {"name": "flights-q1-workers"}}
    after = observed(given_up, service, *pods, search=SEARCH)
    after.owner["status"].update(status)
    assert training_job.decide(after, NOW).deletions == (service, given_up)


def test_job_that_ended_is_kept_for_its_logs() -> None:
    ended = job(("Failed", "BackoffLimitExceeded"))
    seen = observed(ended, pod("trainer", **CRASHED))
    seen.owner["status"].update(status_of(training_job.decide(seen, NOW)))
    assert training_job.decide(seen, NOW).deletions == ()
