"""Jobs: what is made of a TrainingJob and of a question for new rows, what ends mean, and what follows from them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kaizen.api.training_job import TrainingJobSpec
from kaizen.core import jobs, training_job
from kaizen.core.conditions import conclude
from kaizen.core.jobs import Counted
from kaizen.core.objects import SERVICE_LABEL
from kaizen.core.plan import Observed, Plan, Production, Ready, Register, Run, Settings, Terminal, Waiting
from tests.support import objects
from tests.support.lint import problems

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
RUN = Run("s3://kaizen/workloads/team-a/runs/u/")
SETTINGS = Settings("kaizen/trainer:1", bucket_environment={"KAIZEN_BUCKET_NAME": "kaizen"})


def observed(*children: dict[str, Any], run: Run = RUN, status: dict[str, Any] | None = None, **spec: Any) -> Observed:
    body = objects.training_job(**spec)
    body["metadata"] |= {"namespace": "team-a", "uid": "u", "generation": 1, "resourceVersion": "7"}
    body["status"] = status or {"observedGeneration": -1}
    return Observed(body, children, settings=SETTINGS, run=run)


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


def spec_of(seen: Observed) -> TrainingJobSpec:
    return TrainingJobSpec.model_validate(seen.owner["spec"])


def made(**spec: Any) -> dict[str, Any]:
    seen = observed(**spec)
    return dict(jobs.training_job(seen, spec_of(seen), NOW))


def made_environment(body: Any) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in container_of(body)["env"]}


def container_of(body: Any) -> dict[str, Any]:
    (container,) = body["spec"]["template"]["spec"]["containers"]
    return dict(container)


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


def test_champion_is_told_when_something_serves() -> None:
    served = Production(7, "sha256:ab", "2026-02-01T00:00:00Z", 3)
    told = made_environment(jobs.training_job(observed(run=Run("s3://x/", champion=served)), spec_of(observed()), NOW))
    assert json.loads(told["KAIZEN_CHAMPION"]) == {"version": 7, "digest": "sha256:ab"}
    assert "KAIZEN_CHAMPION" not in made_environment(made())


SAID = json.dumps({"step": "Prepare", "code": "TargetNotFound", "message": "there is no column late"})
ENDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "its own words": ({"exitCode": 10, "message": SAID}, "TargetNotFound", "there is no column late"),
    "out of memory": ({"exitCode": 137, "reason": "OOMKilled"}, "OOMKilled", "needed more memory than its limit"),
    "no words": ({"exitCode": 1, "reason": "Error", "message": "Traceback\nboom"}, "Error", "exit code 1: Traceback boom"),
    "words that are not ours": ({"exitCode": 1, "reason": "Error", "message": '{"code": "a b"}'}, "Error", "exit code 1"),
    "a code that is no reason": ({"exitCode": 1, "reason": "Error", "message": '{"code": "1é"}'}, "Error", "exit code 1"),
    "words without an end": ({"exitCode": 1, "reason": "Error", "message": "[" * 4096}, "Error", "exit code 1"),
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
    assert plan.change == Register("flight-delay", "u", "p")


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


RECIPE = {**objects.recipe(), "pod": {"resources": {"limits": {"memory": "1Gi"}}}}
SINCE = "2013-03-31T23:00:00Z"


def service() -> Observed:
    body = objects.inference_service("delays", training={"template": RECIPE})
    body["metadata"] |= {"namespace": "team-a", "uid": "s", "generation": 1, "resourceVersion": "7"}
    return Observed(body, settings=SETTINGS)


def test_counting_job_asks_its_question_with_the_trainers_image_and_rights() -> None:
    body = jobs.count_job(service(), RECIPE, SINCE)
    metadata, training = body["metadata"], made()
    assert metadata["name"] == jobs.count_name("delays") == "delays-rows"
    assert metadata["labels"] == {
        "app.kubernetes.io/managed-by": "kaizen", SERVICE_LABEL: "delays", "mlops.kaizen.dev/counts": "rows"
    }  # fmt: skip
    assert metadata["annotations"] == {"mlops.kaizen.dev/question": jobs.question(RECIPE, SINCE)}
    assert [owner["uid"] for owner in metadata["ownerReferences"]] == ["s"]
    assert (body["spec"]["backoffLimit"], body["spec"]["activeDeadlineSeconds"]) == (2, 600)
    assert body["spec"]["podFailurePolicy"] == training["spec"]["podFailurePolicy"]
    mine, its = container_of(body), container_of(training)
    assert mine.pop("command") == ["python", "-m", "kaizen.training.count"]
    assert mine.pop("resources") == RECIPE["pod"]["resources"]
    assert its.pop("command") == ["python", "-m", "kaizen.training.pod"]
    for one in (mine, its):
        del one["env"]
    assert mine == {name: value for name, value in its.items() if name != "resources"}
    told = made_environment(body)
    assert json.loads(told["KAIZEN_SPEC"]) == {**RECIPE, "model": "flight-delay"}
    assert (told["KAIZEN_COUNT_SINCE"], told["KAIZEN_BUCKET_NAME"], told["KAIZEN_NAMESPACE"]) == (SINCE, "kaizen", "team-a")
    assert made_environment(jobs.count_job(service(), RECIPE, None))["KAIZEN_COUNT_SINCE"] == ""


def test_no_service_selects_the_pods_that_count() -> None:
    labels = jobs.count_job(service(), RECIPE, SINCE)["spec"]["template"]["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/managed-by": "kaizen", jobs.COUNTS_FOR_LABEL: "delays"}


def test_another_question_has_another_digest() -> None:
    asked = [jobs.question(*words) for words in ((RECIPE, SINCE), (RECIPE, None), ({**RECIPE, "task": "Regression"}, SINCE))]
    assert len(set(asked)) == 3
    assert jobs.question(dict(reversed(RECIPE.items())), SINCE) == asked[0]


AT = datetime(2026, 3, 1, 11, 30, tzinfo=UTC)
DONE, GONE = ("Complete", "CompletionsReached"), "The Pod that counted is gone, and its answer with it."
GAVE_UP, TOO_LONG = ("Failed", "BackoffLimitExceeded"), ("Failed", "DeadlineExceeded")
ANSWER = '{"rows": 1234, "newest": "2013-06-30T23:00:00Z"}'


def counting(*conditions: tuple[str, str]) -> dict[str, Any]:
    body = job(*conditions)
    for condition in body["status"]["conditions"]:
        condition["lastTransitionTime"] = "2026-03-01T11:30:00Z"
    return body


def ended_pod(message: str | None, exit_code: int = 0, *, of: str = "j", at: str = "11:29:00", **state: Any) -> dict[str, Any]:
    body = pod(terminated={"exitCode": exit_code, "finishedAt": f"2026-03-01T{at}Z", "message": message, **state})
    body["metadata"]["ownerReferences"] = [{"kind": "Job", "uid": of, "controller": True}]
    body["status"]["phase"] = "Failed" if exit_code else "Succeeded"
    return body


def running_pod() -> dict[str, Any]:
    body = pod(running={})
    body["metadata"]["ownerReferences"] = [{"kind": "Job", "uid": "j", "controller": True}]
    body["status"]["phase"] = "Running"
    return body


def no_answer(said: str) -> Counted:
    return Counted(0, None, AT, f"The Pod that counted gave no answer; it said: {said}")


COUNTED: dict[str, tuple[tuple[tuple[str, str], ...], list[dict[str, Any]], Counted | None]] = {
    "runs": ((), [running_pod()], None),
    "not begun": ((), [], None),
    "the Pod's end is not seen yet": ((DONE,), [running_pod()], None),
    "an answer": ((DONE,), [ended_pod(ANSWER)], Counted(1234, "2013-06-30T23:00:00Z", AT)),
    "nothing new": ((DONE,), [ended_pod('{"rows": 0, "newest": null}')], Counted(0, None, AT)),
    "the second attempt": (
        (DONE,),
        [ended_pod(ANSWER), ended_pod(SAID, 1, at="11:28:00")],
        Counted(1234, "2013-06-30T23:00:00Z", AT),
    ),
    "only the first attempt is left": ((DONE,), [ended_pod(SAID, 1)], Counted(0, None, AT, GONE)),
    "the Pod is gone": ((DONE,), [], Counted(0, None, AT, GONE)),
    "a Pod of the Job before": ((DONE,), [ended_pod(ANSWER, of="before")], Counted(0, None, AT, GONE)),
    "failed": ((GAVE_UP,), [ended_pod(SAID, 10)], Counted(0, None, AT, "there is no column late")),
    "failed, and the Pod's end is not seen yet": ((GAVE_UP,), [running_pod()], None),
    "failed without Pods": ((GAVE_UP,), [], Counted(0, None, AT, "The Job failed: said")),
    "out of memory": (
        (GAVE_UP,),
        [ended_pod("", 137, reason="OOMKilled")],
        Counted(0, None, AT, "The run needed more memory than its limit: raise pod.resources.limits.memory."),
    ),
    "took too long": (
        (TOO_LONG,),
        [running_pod()],
        Counted(0, None, AT, "The rows were not counted in 600 s: the Pod cannot start, or reads too much."),
    ),
    "silence": ((DONE,), [ended_pod(None)], no_answer("nothing")),
    "no JSON": ((DONE,), [ended_pod("12\n rows")], no_answer("12 rows")),
    "no object": ((DONE,), [ended_pod("[1234]")], no_answer("[1234]")),
    "no rows": ((DONE,), [ended_pod('{"newest": null}')], no_answer('{"newest": null}')),
    "fewer than none": ((DONE,), [ended_pod('{"rows": -1}')], no_answer('{"rows": -1}')),
    "a fraction": ((DONE,), [ended_pod('{"rows": 3.0}')], no_answer('{"rows": 3.0}')),
    "a truth": ((DONE,), [ended_pod('{"rows": true}')], no_answer('{"rows": true}')),
    "a text": ((DONE,), [ended_pod('{"rows": "3"}')], no_answer('{"rows": "3"}')),
    "no number": ((DONE,), [ended_pod('{"rows": NaN}')], no_answer('{"rows": NaN}')),
    "more than there can be": ((DONE,), [ended_pod('{"rows": 9007199254740993}')], no_answer('{"rows": 9007199254740993}')),
    "more than anybody reads": ((DONE,), [ended_pod('{"rows": ' + "9" * 4000)], no_answer("9" * 400)),
    "words without an end": ((DONE,), [ended_pod("[" * 4096)], no_answer("[" * 400)),
    "no time": ((DONE,), [ended_pod('{"rows": 3, "newest": "soon"}')], no_answer('{"rows": 3, "newest": "soon"}')),
    "a time of no zone": (
        (DONE,),
        [ended_pod('{"rows": 3, "newest": "2013-06-30"}')],
        no_answer('{"rows": 3, "newest": "2013-06-30"}'),
    ),
}


@pytest.mark.parametrize(("conditions", "children", "expected"), COUNTED.values(), ids=COUNTED)
def test_counted(conditions: tuple[tuple[str, str], ...], children: list[dict[str, Any]], expected: Counted | None) -> None:
    serving = {"kind": "Pod", "metadata": {"name": "x", "ownerReferences": [{"uid": "r"}]}, "status": {"phase": "Running"}}
    assert jobs.counted(counting(*conditions), [serving, *children]) == expected
