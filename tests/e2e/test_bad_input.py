"""What a user reads when a spec is wrong: every rule of the schemas, with its sentence, from the real API server."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import Cluster, Rejected
from tests.support.objects import changed, edited, inference_service, model_version, recipe, training_job
from tests.support.recipes import BROKEN, CODE, CONTAINER, GATE, RATE, broken_jobs, good_jobs

JOB, VERSION, SERVICE = training_job(), model_version(), inference_service()
TRAINED = inference_service(training={"template": recipe(), "minimumNewRows": 0})

REJECTED: dict[str, tuple[dict[str, Any], str]] = {
    **broken_jobs(),
    "no target": (changed(JOB, "spec.data.target", None), "spec.data.target: Required value"),
    "no source": (
        changed(JOB, "spec.data.sources", []),
        "spec.data.sources: Invalid value: 0: spec.data.sources in body should have at least 1",
    ),
    "unknown field": (changed(JOB, "spec.learningRate", 1), 'unknown field "spec.learningRate"'),
    "unknown task": (
        changed(JOB, "spec.task", "Ranking"),
        'spec.task: Unsupported value: "Ranking": supported values: "Classification", "Regression"',
    ),
    "unknown format": (
        changed(JOB, "spec.data.sources.0.format", "Excel"),
        'supported values: "Parquet", "CSV", "JSONLines"',
    ),
    "local path": (
        changed(JOB, "spec.data.sources.0.uri", "/data/flights"),
        "spec.data.sources[0].uri in body should match '^(s3://[^/]+/.+|https://[^/]+/.+|pvc://",
    ),
    "local code": (
        edited(JOB, {"spec.estimator": None, "spec.code": {"uri": "model.py"}}),
        "spec.code.uri in body should match '^(s3://[^/]+/.+\\.py|https://[^/]+/.+|pvc://[^/]+/.+)$'",
    ),
    "unencrypted source": (
        changed(JOB, "spec.data.sources.0.uri", "http://lake.example.com/flights.csv"),
        "spec.data.sources[0].uri in body should match",
    ),
    "number as text": (
        changed(JOB, "spec.data.minimumRows", "1000"),
        'spec.data.minimumRows: Invalid value: "string": spec.data.minimumRows in body must be of type integer: "string"',
    ),
    "no replica": (
        edited(JOB, {"spec.estimator": None, "spec.container": {**CONTAINER, "replicas": 0}}),
        "spec.container.replicas in body should be greater than or equal to 1",
    ),
    "too many trials": (
        changed(JOB, "spec.search", {"space": [RATE], "trials": 100_000}),
        "spec.search.trials in body should be less than or equal to 10000",
    ),
    "unknown sampler": (
        changed(JOB, "spec.search", {"space": [RATE], "sampler": "Bayes"}),
        'spec.search.sampler: Unsupported value: "Bayes": supported values: "TPE", "Random", "Grid", "QMC", "CMAES"',
    ),
    "gate name too long": (
        changed(JOB, "spec.gates", [{**GATE, "name": "g" * 64}]),
        "spec.gates[0].name: Too long: may not be more than 63 bytes",
    ),
    "column name too long": (
        changed(JOB, "spec.data.target", "c" * 129),
        "spec.data.target: Too long: may not be more than 128 bytes",
    ),
    "too few rows asked": (changed(JOB, "spec.data.minimumRows", 1), "minimumRows in body should be greater than or equal to 10"),
    "negative tolerance": (
        changed(JOB, "spec.gates", [{**GATE, "againstProduction": {"worseByAtMost": -1}}]),
        "worseByAtMost in body should be greater than or equal to 0",
    ),
    "too many retries": (changed(JOB, "spec.backoffLimit", 100), "backoffLimit in body should be less than or equal to 20"),
    "no quantity": (
        changed(JOB, "spec.pod.resources.limits.memory", "much"),
        "spec.pod.resources.limits.memory in body should match",
    ),
    "model name in capitals": (changed(JOB, "spec.model", "FlightDelay"), "spec.model in body should match '^[a-z]"),
    "model name too long": (changed(JOB, "spec.model", "m" * 41), "spec.model: Too long: may not be more than 40 bytes"),
    "job name too long": (
        changed(JOB, "metadata.name", "j" * 51),
        "metadata.name must have at most 50 characters, so that its Job's Pods can be named after it",
    ),
    "job name with a dot": (
        changed(JOB, "metadata.name", "a.b"),
        "metadata.name must start with a lower-case letter and have only lower-case letters, digits and dashes",
    ),
    "version name with a dot": (changed(VERSION, "metadata.name", "a.b"), "metadata.name must start with a lower-case letter"),
    "version name too long": (
        changed(VERSION, "metadata.name", "v" * 53),
        "metadata.name must have at most 52 characters, the model's name and its version",
    ),
    "digest of another kind": (
        changed(VERSION, "spec.digest", "md5:0"),
        "spec.digest in body should match '^sha256:[0-9a-f]{64}$'",
    ),
    "version in the operator's name space": (
        changed(VERSION, "metadata.name", "flight-delay-v7"),
        "metadata.name must not end in -v and a number: the operator gives such names to the versions it registers",
    ),
    "service name with a digit first": (
        changed(SERVICE, "metadata.name", "7up"),
        "metadata.name must start with a lower-case letter",
    ),
    "service name too long": (
        changed(SERVICE, "metadata.name", "s" * 51),
        "metadata.name must have at most 50 characters, so that its versions' Services can be named after it",
    ),
    "service name like a version's": (
        changed(SERVICE, "metadata.name", "flight-delay-v2"),
        "metadata.name must not end in -v and a number: such names belong to the services of single versions",
    ),
    "version zero": (changed(SERVICE, "spec.version", 0), "spec.version in body should be greater than or equal to 1"),
    "no replicas": (
        changed(SERVICE, "spec.replicas.minimum", 0),
        "spec.replicas.minimum in body should be greater than or equal to 1",
    ),
    "span shorter than a window": (
        changed(SERVICE, "spec.monitoring", {"windowSeconds": 300, "drift": {"spanSeconds": 60}}),
        "monitoring.drift.spanSeconds must be at least monitoring.windowSeconds",
    ),
    "unknown distance": (changed(SERVICE, "spec.monitoring.drift.distance", "Hellinger"), 'supported values: "PSI"'),
    "span shorter than a day": (
        changed(SERVICE, "spec.monitoring", {"drift": {"spanSeconds": 3600}}),
        "monitoring.drift.spanSeconds must be at least 86400: parts of a day always differ from whole days",
    ),
    "every origin and one more": (
        changed(SERVICE, "spec.endpoint.corsOrigins", ["*", "https://app.example.com"]),
        "endpoint.corsOrigins must be either * alone or a list of origins",
    ),
    "origin with a path": (
        changed(SERVICE, "spec.endpoint.corsOrigins", ["https://app.example.com/"]),
        "spec.endpoint.corsOrigins[0] in body should match",
    ),
    "no workers": (changed(SERVICE, "spec.workers", 0), "spec.workers in body should be greater than or equal to 1"),
    "authentication without a Secret": (
        changed(SERVICE, "spec.authentication", {}),
        "spec.authentication.secretName: Required value",
    ),
    "new rows that nothing tells from old ones": (
        changed(TRAINED, "spec.training.minimumNewRows", 100),
        "training.minimumNewRows needs training.template.data.timestamp",
    ),
    "template with a field that would do nothing": (
        changed(TRAINED, "spec.training.template.ttlSecondsAfterFinished", 60),
        'unknown field "spec.training.template.ttlSecondsAfterFinished"',
    ),
    "unknown trigger": (changed(TRAINED, "spec.training.triggers", ["Monday"]), 'supported values: "Initial", "DataDrift"'),
    "no trigger": (changed(TRAINED, "spec.training.triggers", []), "spec.training.triggers in body should have at least 1 items"),
    "trigger twice": (changed(TRAINED, "spec.training.triggers", ["Initial", "Initial"]), "Duplicate value"),
    "template with a model": (
        changed(TRAINED, "spec.training.template.model", "x"),
        'unknown field "spec.training.template.model"',
    ),
}

CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a job's model": (JOB, {"model": "other"}, "create a new TrainingJob"),
    "a job's data": (JOB, {"data": {"target": "late"}}, "create a new TrainingJob"),
    "a job's way of training": (JOB, {"estimator": None, "code": CODE}, "create a new TrainingJob"),
    "a job's search": (JOB, {"search": {"space": [RATE]}}, "create a new TrainingJob"),
    "a job's calibration": (JOB, {"calibration": "None"}, "create a new TrainingJob"),
    "a job's decision": (JOB, {"decision": {"maximise": "f1"}}, "create a new TrainingJob"),
    "a job's explanation": (JOB, {"explain": {"method": "SHAP"}}, "create a new TrainingJob"),
    "a job's tracking": (JOB, {"tracking": {"mlflow": {"uri": "http://mlflow:5000"}}}, "create a new TrainingJob"),
    "a job's Pod template": (JOB, {"podTemplate": {"metadata": {"labels": {"a": "b"}}}}, "create a new TrainingJob"),
    "a job's estimator": (JOB, {"estimator": {"name": "Ridge"}}, "create a new TrainingJob"),
    "a job's parameters": (JOB, {"estimator": {"parameters": {"max_iter": 99}}}, "create a new TrainingJob"),
    "a job's new parameter": (JOB, {"estimator": {"parameters": {"max_depth": 3}}}, "create a new TrainingJob"),
    "a job's gates": (JOB, {"gates": [GATE]}, "create a new TrainingJob"),
    "a job's task": (JOB, {"task": "Regression"}, "create a new TrainingJob"),
    "a job's refit": (JOB, {"refit": "None"}, "create a new TrainingJob"),
    "a job's Pod": (JOB, {"pod": {"resources": {"limits": {"memory": "1Gi"}}}}, "create a new TrainingJob"),
    "a job's retries": (JOB, {"backoffLimit": 5}, "create a new TrainingJob"),
    "a version's source": (VERSION, {"source": {"trainingJobName": "other"}}, "a ModelVersion cannot be changed"),
    "a job's deadline": (JOB, {"activeDeadlineSeconds": 60}, "create a new TrainingJob"),
    "a version's digest": (VERSION, {"digest": "sha256:" + "1" * 64}, "a ModelVersion cannot be changed"),
    "a version's model": (VERSION, {"model": "other"}, "a ModelVersion cannot be changed"),
    "a service's model": (SERVICE, {"model": "other"}, "spec.model cannot be changed: create another InferenceService"),
}


TEMPLATES = {
    name: (changed(TRAINED, "spec.training.template", edited({"spec": recipe()}, changes)["spec"]), sentence)
    for name, (changes, sentence) in BROKEN.items()
    if name.startswith(("nothing", "all", "low", "metric", "fairness of", "window", "decision", "search of a"))
}
"""Some of the rules of a TrainingJob; that they all are a template's too is in test_crd.py."""


@pytest.mark.parametrize(("body", "sentence"), TEMPLATES.values(), ids=TEMPLATES)
def test_template_is_rejected_likewise(cluster: Cluster, body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Rejected) as rejected:
        cluster.apply(body, namespace="default", dry_run=True)
    assert sentence in str(rejected.value)
    assert "spec.training.template" in str(rejected.value)


@pytest.mark.parametrize(("body", "sentence"), REJECTED.values(), ids=REJECTED)
def test_is_rejected_at_apply_with_one_sentence(cluster: Cluster, body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Rejected) as rejected:
        cluster.apply(body, namespace="default", dry_run=True)
    assert sentence in str(rejected.value)


def test_good_objects_are_accepted_and_the_same_again_is_no_change(cluster: Cluster, namespace: str) -> None:
    gated = changed(changed(TRAINED, "metadata.name", "gated"), "spec.training.template.gates", [GATE])
    suspended = [changed(job, "spec.suspend", True) for job in good_jobs()]
    objects = (JOB, VERSION, SERVICE, changed(TRAINED, "metadata.name", "trained"), gated, *suspended)
    assert cluster.apply(*objects, namespace=namespace).count(" created") == len(objects)
    assert cluster.apply(*objects, namespace=namespace).count(" unchanged") == len(objects)


@pytest.fixture(scope="module")
def existing(cluster: Cluster) -> Iterator[str]:
    """A namespace with one object of each kind, for changes that are refused."""
    name = "test-refused-changes"
    cluster.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=60s", seconds=65)
    cluster.kubectl("create", "namespace", name)
    cluster.apply(JOB, VERSION, SERVICE, namespace=name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize(("body", "change", "sentence"), CHANGES.values(), ids=CHANGES)
def test_change_is_rejected(cluster: Cluster, existing: str, body: dict[str, Any], change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Rejected) as rejected:
        patch(cluster, existing, body, change)
    assert sentence in str(rejected.value)


def test_what_may_change_in_a_job(cluster: Cluster, existing: str) -> None:
    patch(cluster, existing, JOB, {"suspend": True, "ttlSecondsAfterFinished": 60})


def patch(cluster: Cluster, namespace: str, body: dict[str, Any], spec: dict[str, Any]) -> None:
    import json

    name = f"{body['kind']}/{body['metadata']['name']}"
    cluster.kubectl("patch", name, "--namespace", namespace, "--type=merge", "--patch", json.dumps({"spec": spec}))
