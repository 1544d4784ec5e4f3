"""A TrainingJob from its Job's point of view: what is made, what ends mean, and what follows from them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kaizen.api.training_job import TrainingJobSpec
from kaizen.core import jobs, training_job
from kaizen.core.conditions import conclude
from kaizen.core.plan import Observed, Plan, Ready, Run, Settings, Terminal, Waiting
from tests.support import objects
from tests.support.lint import problems

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
RUN = Run("s3://kaizen/workloads/team-a/runs/u/")


def observed(*children: dict[str, Any], run: Run = RUN, status: dict[str, Any] | None = None, **spec: Any) -> Observed:
    body = objects.training_job(**spec)
    body["metadata"] |= {"namespace": "team-a", "uid": "u", "generation": 1, "resourceVersion": "7"}
    body["status"] = status or {"observedGeneration": -1}
    return Observed(body, children, settings=Settings("kaizen/trainer:1", {"KAIZEN_BUCKET_NAME": "kaizen"}), run=run)


def job(*conditions: tuple[str, str], suspend: bool = False) -> dict[str, Any]:
    listed = [{"type": kind, "status": "True", "reason": reason, "message": "said"} for kind, reason in conditions]
    metadata = {"name": "flights-q1", "namespace": "team-a", "uid": "j", "resourceVersion": "1"}
    return {"kind": "Job", "metadata": metadata, "spec": {"suspend": suspend}, "status": {"conditions": listed}}


def pod(**state: Any) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {"name": "p", "creationTimestamp": "2026-03-01T11:00:00Z"},
        "status": {"containerStatuses": [{"name": "trainer", "state": state}]},
    }


def made(**spec: Any) -> dict[str, Any]:
    seen = observed(**spec)
    return dict(jobs.training_job(seen, TrainingJobSpec.model_validate(seen.owner["spec"])))


def test_pod_is_restricted_and_holds_no_kubernetes_credentials() -> None:
    spec = made()["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"name": "KAIZEN_BUCKET_NAME", "value": "kaizen"} in container["env"]


def test_each_secret_is_mounted_once_where_the_trainer_looks() -> None:
    sources = [
        {"name": name, "uri": f"s3://lake/{name}/", "secretName": secret} for name, secret in (("a", "x"), ("b", "y"), ("c", "x"))
    ]
    data = {"sources": sources, "query": "SELECT 1", "target": "delayed"}
    spec = made(data=data)["spec"]["template"]["spec"]
    mounts = [m["mountPath"] for m in spec["containers"][0]["volumeMounts"]]
    assert mounts == ["/tmp", "/var/run/kaizen/secrets/x", "/var/run/kaizen/secrets/y"]


def test_failures_that_come_back_end_the_job_and_disruptions_do_not_count() -> None:
    rules = made(backoffLimit=5)["spec"]
    assert rules["backoffLimit"] == 5
    assert rules["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [10]
    assert rules["podFailurePolicy"]["rules"][1]["onPodConditions"][0]["type"] == "DisruptionTarget"


def test_resources_are_the_users_or_bounded_defaults() -> None:
    wanted = {"limits": {"memory": "1Gi"}, "requests": {"cpu": 2}}
    assert made(pod={"resources": wanted})["spec"]["template"]["spec"]["containers"][0]["resources"] == wanted
    assert made()["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]


SAID = json.dumps({"step": "Prepare", "code": "TargetNotFound", "message": "there is no column late"})
ENDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "its own words": ({"exitCode": 10, "message": SAID}, "TargetNotFound", "there is no column late"),
    "out of memory": ({"exitCode": 137, "reason": "OOMKilled"}, "OOMKilled", "needed more memory than its limit"),
    "no words": ({"exitCode": 1, "reason": "Error", "message": "Traceback\nboom"}, "Error", "exit code 1: Traceback boom"),
    "words that are not ours": ({"exitCode": 1, "reason": "Error", "message": '{"code": "a b"}'}, "Error", "exit code 1"),
}


@pytest.mark.parametrize(("state", "code", "sentence"), ENDS.values(), ids=ENDS)
def test_failed_job_is_explained(state: dict[str, Any], code: str, sentence: str) -> None:
    plan = training_job.decide(observed(job(("Failed", "BackoffLimitExceeded")), pod(terminated=state)), NOW)
    assert isinstance(plan.outcome, Terminal)
    assert plan.outcome.reason == code
    assert sentence in plan.outcome.message
    assert plan.conditions[0][:3] == ("Succeeded", "False", code)
    assert (plan.status or {})["failure"]["code"] == code


def test_deadline_and_lost_pods_are_explained() -> None:
    late = training_job.decide(observed(job(("Failed", "DeadlineExceeded"))), NOW)
    assert isinstance(late.outcome, Terminal)
    assert late.outcome.reason == "DeadlineExceeded"
    lost = training_job.decide(observed(job(("Failed", "BackoffLimitExceeded"))), NOW)
    assert isinstance(lost.outcome, Terminal)
    assert lost.outcome.reason == "PodsLost"


def test_attempt_that_won_counts_more_than_a_job_that_failed_afterwards() -> None:
    plan = training_job.decide(observed(job(("Failed", "BackoffLimitExceeded")), run=Run("s3://x/", won="p")), NOW)
    assert plan.register is not None
    assert plan.register.attempt == "p"


def test_pod_that_cannot_start_says_why() -> None:
    waiting = pod(waiting={"reason": "ImagePullBackOff", "message": "no such image"})
    plan = training_job.decide(observed(job(), waiting), NOW)
    assert plan.outcome == Waiting(
        "ImagePullBackOff", "The Pod's container cannot start: no such image", training_job.PROGRESS_SECONDS
    )


@pytest.mark.parametrize("suspend", [True, False])
def test_suspend_is_handed_to_the_job(suspend: bool) -> None:
    there = job(suspend=not suspend)
    assert training_job.decide(observed(there, suspend=suspend), NOW).suspend == (there, suspend)
    assert training_job.decide(observed(job(suspend=suspend), suspend=suspend), NOW).suspend is None


def ended(plan: Plan) -> dict[str, Any]:
    conditions = conclude(plan.outcome, (), 1, NOW, plan.conditions)
    return {**(plan.status or {}), "observedGeneration": 1, "conditions": conditions}


def test_ended_job_stays_as_it_is_and_goes_when_its_time_is_over() -> None:
    failed = ended(training_job.decide(observed(job(("Failed", "DeadlineExceeded"))), NOW))
    again = training_job.decide(observed(status=failed), NOW)
    assert isinstance(again.outcome, Terminal)
    assert again.status is None
    assert not again.children
    assert not again.deletions
    for seconds, deletions in ((59, 0), (60, 1)):
        seen = observed(status=failed, ttlSecondsAfterFinished=60)
        assert len(training_job.decide(seen, NOW + timedelta(seconds=seconds)).deletions) == deletions


def test_running_job_is_ready_and_not_yet_successful() -> None:
    progress = {"step": "Fit", "done": 3, "total": 8, "metrics": [], "startTime": "2026-03-01T11:00:00Z"}
    plan = training_job.decide(observed(job(), pod(running={}), run=Run("s3://x/", progress=progress)), NOW)
    assert isinstance(plan.outcome, Ready)
    assert plan.conditions[0][:2] == ("Succeeded", "Unknown")
    status = ended(plan)
    assert status["step"] == "Fit"
    assert status["progress"] == {"done": 3, "total": 8}
    body = objects.training_job()
    assert problems({**body, "metadata": {"generation": 1}, "status": status}, NOW) == []
