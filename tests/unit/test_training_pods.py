"""Pods that train: where they run, what they see, and how a user's own image runs between our steps."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from kaizen.api.inference_service import InferenceServiceSpec
from kaizen.api.training_job import TrainingJobSpec
from kaizen.core import distributed, jobs, serving
from kaizen.core.plan import ModelRegistry, Observed, Production, RegistryEntry, Run, Served, Settings
from kaizen.core.podtemplate import InvalidPodTemplate
from kaizen.core.recipes import recipe_digest
from tests.support import objects

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SETTINGS = Settings("kaizen/trainer:1", "kaizen/server:1", bucket_environment={"KAIZEN_BUCKET_NAME": "kaizen"})
IMAGE = "registry.example/mine@sha256:" + "a" * 64


def observed(
    labels: dict[str, str] | None = None, run: Run | None = None, model: ModelRegistry | None = None, **spec: Any
) -> Observed:
    body = objects.training_job(**spec)
    body["metadata"] |= {"namespace": "team-a", "uid": "u", "generation": 1, "resourceVersion": "7", "labels": labels or {}}
    body["spec"] = {name: value for name, value in body["spec"].items() if value is not None}
    return Observed(body, settings=SETTINGS, run=run or Run("s3://x/"), model=model)


def spec_of(seen: Observed) -> TrainingJobSpec:
    return TrainingJobSpec.model_validate(seen.owner["spec"])


def made(**fields: Any) -> dict[str, Any]:
    seen = observed(**fields)
    return dict(jobs.training_job(seen, spec_of(seen), NOW))


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


def containers(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in (*pod.get("initContainers", ()), *pod["containers"])}


def told(container: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def own_code(image: str = IMAGE, **fields: Any) -> dict[str, Any]:
    return made(estimator=None, container={"image": image, **fields.pop("container", {})}, **fields)


SETTINGS_OF_PODS = {
    "resources": {"requests": {"cpu": 2}, "limits": {"nvidia.com/gpu": 1, "memory": "8Gi"}},
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "serviceAccountName": "mine",
    "priorityClassName": "low",
    "env": [
        {"name": "PROXY", "value": "$(KAIZEN_NAMESPACE)"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ],
}


def test_pod_settings_take_effect_in_training() -> None:
    pod = pod_of(made(pod=SETTINGS_OF_PODS))
    for name in ("nodeSelector", "tolerations", "serviceAccountName", "priorityClassName"):
        assert pod[name] == SETTINGS_OF_PODS[name]
    (container,) = pod["containers"]
    assert container["resources"] == SETTINGS_OF_PODS["resources"]
    assert container["env"][-2:] == SETTINGS_OF_PODS["env"]


def test_pod_settings_take_effect_in_serving_and_absent_ones_restart_nothing() -> None:
    def deployed(**fields: Any) -> dict[str, Any]:
        body = objects.inference_service(**fields)
        body["metadata"] |= {"namespace": "team-a", "uid": "s", "generation": 1}
        seen, entry = Observed(body, settings=SETTINGS), RegistryEntry(3, "Committed", "s3://x/", "sha256:ab")
        return dict(serving.deployment(seen, InferenceServiceSpec.model_validate(body["spec"]), entry, 1).body)

    pod = deployed(pod=SETTINGS_OF_PODS)["spec"]["template"]["spec"]
    for name in ("nodeSelector", "tolerations", "serviceAccountName", "priorityClassName"):
        assert pod[name] == SETTINGS_OF_PODS[name]
    assert pod["containers"][0]["env"][-2:] == SETTINGS_OF_PODS["env"]
    # As the operator before these settings wrote it.
    assert deployed()["metadata"]["annotations"][serving.MADE_FOR] == "813c338b06a48e39"
    limited = deployed(pod={"resources": {"limits": {"memory": "2Gi"}}})
    assert limited["metadata"]["annotations"][serving.MADE_FOR] == "47f0e9f3d910f21e"


def test_template_yields_defaults_and_settings_win_by_being_the_only_word() -> None:
    pod = pod_of(made(podTemplate={"spec": {"serviceAccountName": "theirs", "runtimeClassName": "nvidia"}}))
    assert (pod["serviceAccountName"], pod["runtimeClassName"]) == ("theirs", "nvidia")
    with pytest.raises(InvalidPodTemplate, match=r"podTemplate\.spec\.serviceAccountName is for Kaizen to set \(mine\)"):
        made(pod={"serviceAccountName": "mine"}, podTemplate={"spec": {"serviceAccountName": "theirs"}})
    limits = {"limits": {"memory": "1Gi"}}
    named = made(podTemplate={"spec": {"containers": [{"name": "trainer", "resources": limits}]}})
    assert containers(pod_of(named))["trainer"]["resources"] == limits


def test_what_the_recipe_names_is_mounted_to_be_read() -> None:
    sources = [{"name": "a", "uri": "pvc://lake.x/a/*.csv"}, {"name": "b", "uri": "https://x/b.csv", "secretName": "web"}]
    pod = pod_of(
        made(
            estimator=None,
            code={"uri": "pvc://code/model.py", "secretName": "git"},
            data={"sources": sources, "query": "SELECT 1", "target": "delayed"},
            tracking={"mlflow": {"uri": "http://mlflow:5000", "secretName": "mlflow"}},
        )
    )
    mounts = {one["mountPath"]: one for one in pod["containers"][0]["volumeMounts"]}
    expected = [*(f"secrets/{name}" for name in ("git", "mlflow", "web")), *(f"claims/{name}" for name in ("code", "lake.x"))]
    assert list(mounts) == ["/tmp", *(f"/var/run/kaizen/{name}" for name in expected)]
    assert all(one.get("readOnly") for path, one in mounts.items() if path != "/tmp")
    volumes = [one["persistentVolumeClaim"] for one in pod["volumes"] if "persistentVolumeClaim" in one]
    assert volumes == [{"claimName": "code", "readOnly": True}, {"claimName": "lake.x", "readOnly": True}]


def test_kubernetes_changes_no_text_that_the_pod_is_told() -> None:
    query = "SELECT $$it's$$ AS a, '$(KAIZEN_NAMESPACE)' AS b"
    body = made(data={"sources": [{"name": "a", "uri": "s3://x/y"}], "query": query, "target": "a"})
    spec = told(containers(pod_of(body))["trainer"])["KAIZEN_SPEC"]
    assert json.loads(spec.replace("$$", "$"))["data"]["query"] == query
    assert "$" not in spec.replace("$$", "")


def test_users_code_runs_between_our_steps_without_credentials() -> None:
    pod = pod_of(
        own_code(container={"command": ["python"], "args": ["train.py"], "parameters": {"learning-rate": 0.1, "loss": "mse"}})
    )
    assert [one["name"] for one in pod["initContainers"]] == ["data", "checkpoints", "training"]
    found = containers(pod)
    assert found["data"]["command"] == ["python", "-m", "kaizen.training.container", "data"]
    assert found["checkpoints"]["command"] == ["python", "-m", "kaizen.training.checkpoints"]
    assert found["trainer"]["command"] == ["python", "-m", "kaizen.training.pod"]
    assert [name for name, one in found.items() if one.get("restartPolicy") == "Always"] == ["checkpoints"]
    assert found["checkpoints"]["startupProbe"]["exec"]["command"] == [
        "test",
        "-f",
        told(found["checkpoints"])["KAIZEN_RESTORED_FILE"],
    ]
    training = found["training"]
    assert (training["image"], training["command"], training["args"]) == (IMAGE, ["python"], ["train.py"])
    assert "envFrom" not in training
    assert "livenessProbe" not in training
    assert told(training) == {
        "HOME": "/tmp",
        "KAIZEN_CHECKPOINT_DIR": "/var/run/kaizen/checkpoints",
        "KAIZEN_DATA_DIR": "/var/run/kaizen/data",
        "KAIZEN_METRICS_FILE": "/var/run/kaizen/metrics/metrics.jsonl",
        "KAIZEN_MODEL_DIR": "/var/run/kaizen/model",
        "KAIZEN_PARAMETERS": '{"learning-rate": 0.1, "loss": "mse"}',
        "KAIZEN_PARAMETER_LEARNING_RATE": "0.1",
        "KAIZEN_PARAMETER_LOSS": "mse",
    }


def test_users_code_may_not_touch_what_judges_it() -> None:
    found = containers(pod_of(own_code()))
    seen = {name: {one["name"]: one.get("readOnly", False) for one in body["volumeMounts"]} for name, body in found.items()}
    assert seen["training"]["data"] is True
    assert "prepared" not in seen["training"]
    assert not any(name.startswith("secret-") for name in seen["training"])
    assert seen["trainer"]["prepared"] is True
    assert {name for name, mounts in seen.items() if "checkpoints" in mounts} == {"training", "checkpoints"}
    temporary = [name for mounts in seen.values() for name in mounts if name.startswith("tmp-")]
    assert len(set(temporary)) == len(found)


def test_resources_belong_to_the_users_code() -> None:
    found = containers(pod_of(own_code(pod=SETTINGS_OF_PODS)))
    assert found["training"]["resources"] == SETTINGS_OF_PODS["resources"]
    for name in ("data", "checkpoints", "trainer"):
        assert "nvidia.com/gpu" not in json.dumps(found[name]["resources"])
        assert found[name]["resources"]["limits"]["memory"]


def test_exit_code_of_users_code_is_not_ours_to_read() -> None:
    rules = own_code()["spec"]["podFailurePolicy"]["rules"]
    assert [rule["onExitCodes"]["containerName"] for rule in rules if rule["action"] == "FailJob"] == ["data", "trainer"]


REFUSED = {
    "two parameters of one name": (lambda: own_code(container={"parameters": {"a-b": 1, "a_b": 2}}), "KAIZEN_PARAMETER_A_B"),
    "a variable of ours": (
        lambda: own_code(container={"replicas": 2}, pod={"env": [{"name": "RANK", "value": "7"}]}),
        "pod.env: RANK is for Kaizen to set",
    ),
    "a host name": (
        lambda: own_code(container={"replicas": 2}, podTemplate={"spec": {"hostname": "a"}}),
        "podTemplate.spec.hostname",
    ),
    "our command": (
        lambda: made(podTemplate={"spec": {"containers": [{"name": "trainer", "command": ["sh"]}]}}),
        "command of container trainer",
    ),
}


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_take_effect_is_refused(make: Any, words: str) -> None:
    with pytest.raises(InvalidPodTemplate, match=words.replace(".", r"\.")):
        make()


SEARCH = {"trials": 40, "parallelism": 3, "space": [{"parameter": "max_iter", "type": "Integer", "low": 1, "high": 9}]}


def test_search_side_by_side_is_an_indexed_job_that_index_0_decides() -> None:
    body = made(search=SEARCH, backoffLimit=4)
    spec = body["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert (spec["backoffLimitPerIndex"], "backoffLimit" in spec, "maxFailedIndexes" in spec) == (4, False, False)
    assert spec["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
    found = told(containers(pod_of(body))["trainer"])
    assert found["KAIZEN_STUDY_ADDRESS"] == "flights-q1-0.flights-q1-workers:13000"
    assert found["KAIZEN_WORKER_INDEX"]["fieldRef"]["fieldPath"] == f"metadata.annotations['{distributed.INDEX}']"
    assert pod_of(body)["subdomain"] == "flights-q1-workers"


def test_search_of_one_worker_is_a_plain_job() -> None:
    for search in ({**SEARCH, "parallelism": 1}, {**SEARCH, "trials": 1}):
        body = made(search=search)
        assert "completionMode" not in body["spec"]
        assert "KAIZEN_STUDY_ADDRESS" not in told(containers(pod_of(body))["trainer"])
        seen = observed(search=search)
        assert distributed.workers(seen, spec_of(seen), {}) == ()


def test_members_find_each_other_before_they_are_ready() -> None:
    seen = observed(search=SEARCH)
    (child,) = distributed.workers(seen, spec_of(seen), {"x": "y"})
    assert child.body["metadata"]["name"] == "flights-q1-workers"
    assert child.body["metadata"]["ownerReferences"][0]["uid"] == "u"
    wanted = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"x": "y"}}
    assert wanted.items() <= child.body["spec"].items()


def test_replicas_are_told_what_pytorch_reads_and_fail_together() -> None:
    body = own_code(container={"replicas": 4})
    assert body["spec"]["maxFailedIndexes"] == 0
    found = containers(pod_of(body))
    training = told(found["training"])
    assert (training["WORLD_SIZE"], training["MASTER_ADDR"], training["MASTER_PORT"]) == (
        "4",
        "flights-q1-0.flights-q1-workers",
        "29500",
    )
    assert training["RANK"] == told(found["trainer"])["KAIZEN_RANK"] == told(found["data"])["KAIZEN_RANK"]
    assert "KAIZEN_STUDY_ADDRESS" not in told(found["trainer"])
    assert "RANK" not in told(containers(pod_of(own_code()))["training"])


@pytest.mark.parametrize(
    ("given", "expected"), [("0", {0}), ("0,3-5", {0, 3, 4, 5}), ("", set()), (None, set()), ("7-8", {7, 8})]
)
def test_failed_indexes(given: str | None, expected: set[int]) -> None:
    assert distributed.failed_indexes({"status": {"failedIndexes": given}}) == expected


QUEUED = {
    "kueue.x-k8s.io/queue-name": "gpu",
    "kueue.x-k8s.io/priority-class": "low",
    "kueue.x-k8s.io/max-exec-time-seconds": "60",
}


def test_queue_is_handed_down_and_the_job_waits_for_it() -> None:
    body = made(labels={**QUEUED, "team": "a"})
    assert QUEUED.items() <= body["metadata"]["labels"].items()
    assert "team" not in body["metadata"]["labels"]
    assert body["spec"]["suspend"] is True
    assert made(labels={"kueue.x-k8s.io/priority-class": "low"})["spec"]["suspend"] is False


def entry(version: int, **manifest: Any) -> RegistryEntry:
    return RegistryEntry(version, "Committed", "s3://x/", f"sha256:{version}", None, manifest)


def test_run_knows_the_versions_of_its_own_recipe() -> None:
    recipe = recipe_digest(spec_of(observed()))
    same = {"recipeDigest": recipe, "dataDigest": "sha256:d", "codeDigest": "sha256:c"}
    model = ModelRegistry((entry(1, **same), entry(2, **{**same, "recipeDigest": "sha256:x"}), entry(3, **same), entry(4)))
    found = told(containers(pod_of(made(model=model)))["trainer"])
    assert found["KAIZEN_RECIPE_DIGEST"] == recipe
    assert json.loads(found["KAIZEN_KNOWN"]) == [{"version": n, "digest": f"sha256:{n}", **same} for n in (3, 1)]
    assert "KAIZEN_KNOWN" not in told(containers(pod_of(made(model=ModelRegistry((entry(4),)))))["trainer"])


def test_image_by_tag_is_never_known() -> None:
    for image, times in (("mine:latest", 0), (IMAGE, 1)):
        seen = observed(estimator=None, container={"image": image})
        model = ModelRegistry((entry(1, recipeDigest=recipe_digest(spec_of(seen)), dataDigest="sha256:d"),))
        data = told(containers(pod_of(own_code(image, model=model)))["data"])
        assert len(json.loads(data.get("KAIZEN_KNOWN", "[]"))) == times


def test_recipe_is_what_makes_the_model() -> None:
    first = recipe_digest(spec_of(observed()))
    same = (
        {"pod": SETTINGS_OF_PODS},
        {"backoffLimit": 5},
        {"suspend": True},
        {"ttlSecondsAfterFinished": 5},
        {"refit": "Automatic"},
    )
    assert {recipe_digest(spec_of(observed(**fields))) for fields in same} == {first}
    assert recipe_digest(spec_of(observed(refit="None"))) != first


def test_run_knows_who_served_in_the_last_year() -> None:
    def pointer(*served: tuple[int, str]) -> Production:
        history = tuple(Served(version, f"{day}T00:00:00Z", "") for version, day in served)
        return Production(history[-1].version, "sha256:x", history[-1].time, 1, history)

    model = ModelRegistry(
        tuple(entry(version) for version in (1, 2, 3, 4, 6)),
        {
            # Version 1 was replaced more than a year ago; version 2 less than that.
            "a": pointer((1, "2024-01-01"), (2, "2024-06-01"), (3, "2025-06-01"), (5, "2025-07-01"), (4, "2026-01-01")),
            "b": pointer((6, "2023-01-01")),
        },
    )
    run = Run("s3://x/", champion=model.production["a"])
    found = told(containers(pod_of(made(model=model, run=run)))["trainer"])
    assert json.loads(found["KAIZEN_ANCHORS"]) == [{"version": n, "digest": f"sha256:{n}"} for n in (3, 2, 6)]
    assert json.loads(found["KAIZEN_CHAMPION"])["version"] == 4
    assert json.loads(found["KAIZEN_LINEAGE"]) == {"parentVersion": 4, "trainingJob": "flights-q1", "trigger": "Manual"}
