"""What is decided for each kind, over literals; every plan's status passes the lint, whatever the status before."""

import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kaizen.api.base import GROUP
from kaizen.control.kinds import DECIDE
from kaizen.core.conditions import conclude
from kaizen.core.objects import NO_VERSION, SERVICE_LABEL, VERSION_LABEL
from kaizen.core.plan import (
    Bucket,
    ModelRegistry,
    Observed,
    Outcome,
    Plan,
    Ready,
    RegistryEntry,
    Retry,
    Run,
    Settings,
    Terminal,
    Waiting,
)
from tests.support.lint import problems, transition_problems
from tests.support.objects import address, changed, inference_service, model_version, recipe, training_job

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
UNREACHABLE = Bucket(False, "BucketUnreachable", "The bucket kaizen does not answer.")
USABLE = Bucket(True)
URL = "http://flight-delay.team-a.svc"


SETTINGS = Settings("kaizen/trainer:1", "kaizen/server:1", "kaizen/server-sklearn:1")
NO_VERSIONS = ModelRegistry()
RUN = Run("s3://kaizen/workloads/team-a/runs/u/")


@dataclass(frozen=True)
class Case:
    """An object, the bucket's state, and what must be decided; of a Terminal's message, how it begins."""

    body: dict[str, Any]
    expected: Outcome
    bucket: Bucket = USABLE
    children: tuple[str, ...] = ()
    url: str | None = None
    run: Run | None = RUN
    entry: RegistryEntry | None = None
    model: ModelRegistry | None = NO_VERSIONS
    settings: Settings = SETTINGS


def invalid(beginning: str) -> Terminal:
    return Terminal("InvalidSpec", beginning)


RETRY = Retry("BucketUnreachable", "The bucket kaizen does not answer.")
TRAINING = {"template": recipe(), "minimumNewRows": 0}

MANIFEST: dict[str, Any] = {
    "files": [{"path": "engine.json", "size": 10, "sha256": "0" * 64}],
    "metrics": [{"name": "log_loss", "value": 0.4, "dataset": "test"}, {"name": "odd", "value": float("nan"), "dataset": "test"}],
    "gates": [{"name": "no-worse", "outcome": "Passed", "passed": True, "value": 0.1, "limit": 0.2, "message": "fine"}],
    "dataDigest": "sha256:" + "1" * 64,
    "modelDigest": "sha256:" + "2" * 64,
    "data": {"rows": 1000},
    "trainedUntil": "2013-03-31T23:00:00Z",
    "engine": "compiled",
}
ENTRY = RegistryEntry(
    3, "Committed", "s3://kaizen/registry/team-a/flight-delay/versions/3/", "sha256:" + "0" * 64, None, MANIFEST
)
FAILED_GATE = {"name": "no-worse", "outcome": "Failed", "passed": False, "message": "worse by 0.1"}
REJECTED = replace(ENTRY, manifest={**MANIFEST, "gates": [FAILED_GATE]})

CASES = {
    "TrainingJob": Case(
        training_job(),
        Waiting("Starting", "Its Job is being made."),
        children=("flights-q1",),
    ),
    "TrainingJob whose attempt won": Case(
        training_job(),
        Ready("Registering", "The run's files are copied into the registry and checked."),
        run=replace(RUN, won="pod-1"),
    ),
    "TrainingJob that is registered": Case(
        training_job(),
        Ready("Registered", "Version 3 of model flight-delay is registered."),
        run=replace(RUN, won="pod-1", entry=ENTRY),
    ),
    "TrainingJob with a failed gate": Case(
        training_job(),
        Ready("GatesFailed", "Version 3 is registered as rejected: gate no-worse failed."),
        run=replace(RUN, won="pod-1", entry=REJECTED),
    ),
    "TrainingJob whose files were changed": Case(
        training_job(),
        Terminal("RegistrationFailed", "model.skops does not have"),
        run=replace(
            RUN, won="pod-1", entry=RegistryEntry(3, "Abandoned", "s3://x/", reason="model.skops does not have the digest.")
        ),
    ),
    "TrainingJob, bucket not usable": Case(training_job(), RETRY, UNREACHABLE),
    "TrainingJob of an unknown task": Case(training_job(task="Guessing"), invalid("spec.task: Input should be")),
    "TrainingJob without a model": Case(changed(training_job(), "spec.model", None), invalid("spec.model: Field required")),
    "TrainingJob with a bad item": Case(
        changed(training_job(), "spec.data.sources.0.uri", "/lake/flights"),
        invalid("spec.data.sources.0.uri: String should match"),
    ),
    "TrainingJob of camel case": Case(
        changed(training_job(), "spec.activeDeadlineSeconds", 0), invalid("spec.activeDeadlineSeconds: Input should be")
    ),
    "TrainingJob with an unknown field": Case(training_job(colour="red"), invalid("spec.colour: Extra inputs")),
    "invalid spec comes before the bucket": Case(training_job(task="Guessing"), invalid("spec.task: "), UNREACHABLE),
    "ModelVersion": Case(
        model_version(), Terminal("NotRegistered", "The registry has no version of model flight-delay with this digest.")
    ),
    "ModelVersion in the registry": Case(model_version(), Ready("Registered", "Version 3 is in the registry."), entry=ENTRY),
    "ModelVersion with a failed gate": Case(
        model_version(), Ready("GatesFailed", "Registered and rejected: gate no-worse failed."), entry=REJECTED
    ),
    "ModelVersion, bucket not usable": Case(model_version(), RETRY, UNREACHABLE),
    "ModelVersion with a bad digest": Case(model_version(digest="sha256:0"), invalid("spec.digest: String should match")),
    "ModelVersion without a source": Case(model_version(source={}), invalid("spec.source.trainingJobName: Field required")),
    "InferenceService": Case(
        inference_service(),
        Waiting(
            "WaitingForVersion",
            "Waiting for a version of model flight-delay. Apply a TrainingJob for it, or give this service spec.training.",
        ),
        children=("flight-delay",),
        url=URL,
    ),
    "InferenceService of one version": Case(
        inference_service(version=4),
        Waiting("WaitingForVersion", "Waiting for version 4 of model flight-delay."),
        children=("flight-delay",),
        url=URL,
    ),
    "InferenceService of a rejected version": Case(
        inference_service(version=3),
        Terminal("VersionRejected", "Version 3 is rejected: gate no-worse failed. Pin another version."),
        children=("flight-delay",),
        url=URL,
        model=ModelRegistry((REJECTED,)),
    ),
    "InferenceService that trains": Case(
        inference_service(training=TRAINING),
        Waiting("WaitingForVersion", "Waiting for a version of model flight-delay."),
        children=("flight-delay",),
        url=URL,
    ),
    "InferenceService that starts a version": Case(
        inference_service(),
        Waiting("Starting", "Version 3 is being started: 0 of 1 Pods are ready."),
        children=("flight-delay", "flight-delay-v3", "flight-delay-v3"),
        url=URL,
        model=ModelRegistry((ENTRY,)),
    ),
    "InferenceService without server images": Case(
        inference_service(),
        Terminal("ServerImageMissing", "The operator was installed without server images"),
        settings=Settings("kaizen/trainer:1"),
    ),
    "InferenceService has its address without a bucket": Case(
        inference_service(), RETRY, UNREACHABLE, children=("flight-delay",), url=URL
    ),
    "InferenceService of version 0": Case(inference_service(version=0), invalid("spec.version: Input should be")),
    "InferenceService with a bad template": Case(
        inference_service(training={"template": {**recipe(), "task": "Guessing"}}), invalid("spec.training.template.task: ")
    ),
}


def observed(case: Case, status: dict[str, Any] | None = None, generation: int = 3) -> Observed:
    """The case's object as the API server would hold it."""
    body = copy.deepcopy(case.body)
    body["metadata"] |= {
        "namespace": "team-a",
        "uid": "3f0c1c52-7f0e-4d55-9d3a-6a3c6d0f7a11",
        "generation": generation,
        "resourceVersion": "7",
        "labels": {"team": "a"},
    }
    body["status"] = status or {"observedGeneration": -1}
    return Observed(body, bucket=case.bucket, settings=case.settings, run=case.run, entry=case.entry, model=case.model)


def decided(case: Case, status: dict[str, Any] | None = None, generation: int = 3, now: datetime = NOW) -> Plan:
    return DECIDE[case.body["kind"]](observed(case, status, generation), now)


def written(case: Case, before: dict[str, Any], generation: int = 3, now: datetime = NOW) -> dict[str, Any]:
    """The status that a reconcile writes after this decision."""
    plan = decided(case, before, generation, now)
    conditions = conclude(plan.outcome, before.get("conditions", ()), generation, now, plan.conditions)
    fields = before if plan.status is None else plan.status
    return {**fields, "observedGeneration": generation, "conditions": conditions}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_decide(case: Case) -> None:
    plan = decided(case)
    if isinstance(case.expected, Terminal):
        assert isinstance(plan.outcome, Terminal)
        assert plan.outcome.reason == case.expected.reason
        assert plan.outcome.message.startswith(case.expected.message), plan.outcome.message
        assert plan.outcome.message.endswith(".")
    else:
        assert plan.outcome == case.expected
    assert tuple(child.body["metadata"]["name"] for child in plan.children) == case.children
    assert (plan.status or {}).get("url") == case.url
    assert plan.deletions == ()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_deciding_changes_nothing_and_depends_on_nothing_else(case: Case) -> None:
    seen = observed(case)
    original = copy.deepcopy(seen)
    decide = DECIDE[case.body["kind"]]
    assert decide(seen, NOW) == decide(copy.deepcopy(seen), NOW + timedelta(days=1))
    assert seen == original


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_status_passes_the_lint_from_any_status_before(case: Case) -> None:
    for previous in CASES.values():
        if previous.body["kind"] != case.body["kind"]:
            continue
        for grown, seconds in ((0, 0), (0, 90), (1, 0), (1, 90)):
            now = NOW + timedelta(seconds=seconds)
            before = written(previous, {"observedGeneration": -1})
            after = written(case, before, 3 + grown, now)
            old, new = observed(previous, before), observed(case, after, 3 + grown)
            assert problems(old.owner, NOW) == []
            assert problems(new.owner, now) == []
            assert transition_problems(old.owner, new.owner) == []


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_second_reconcile_writes_nothing(case: Case) -> None:
    first = written(case, {"observedGeneration": -1})
    assert written(case, first, now=NOW + timedelta(hours=1)) == first


def test_service_selects_no_pod_before_there_is_a_version_and_then_just_that_version() -> None:
    seen = observed(CASES["InferenceService"])
    assert address(seen)["spec"]["selector"] == {SERVICE_LABEL: "flight-delay", VERSION_LABEL: NO_VERSION}
    assert address(seen, "4")["spec"]["selector"] == {SERVICE_LABEL: "flight-delay", VERSION_LABEL: "4"}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_children_are_owned_labelled_as_ours_and_carry_nothing_of_the_parents_labels(case: Case) -> None:
    for child in decided(case).children:
        metadata = child.body["metadata"]
        assert metadata["namespace"] == "team-a"
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "kaizen"
        assert all(label.startswith(("app.kubernetes.io/", GROUP)) for label in metadata["labels"])
        assert metadata["ownerReferences"] == [
            {
                "apiVersion": f"{GROUP}/v1alpha1",
                "kind": case.body["kind"],
                "name": case.body["metadata"]["name"],
                "uid": "3f0c1c52-7f0e-4d55-9d3a-6a3c6d0f7a11",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]


def test_every_kind_is_decided() -> None:
    assert {case.body["kind"] for case in CASES.values()} == set(DECIDE)
