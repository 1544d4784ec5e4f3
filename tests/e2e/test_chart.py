"""The chart as rendered: what values change, and what every Pod of it keeps."""

import json
import subprocess
from typing import Any

import pytest
import yaml

from hack.paths import REPOSITORY, TOOLS

CHART = REPOSITORY / "charts" / "kaizen"


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects that `helm install` would make; raises ValueError with helm's words."""
    done = subprocess.run(
        [TOOLS / "helm", "template", "kaizen", CHART, "--namespace", "kaizen-system", "--values", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ValueError(done.stderr)
    return [body for body in yaml.safe_load_all(done.stdout) if body]


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any] | None:
    return next((o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)), None)


def operator_environment(objects: list[dict[str, Any]]) -> dict[str, str]:
    deployment = named(objects, "Deployment", "kaizen-operator")
    assert deployment is not None
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


@pytest.mark.parametrize("values", [{}, {"bucket": {"endpoint": "https://s3.example.com"}}], ids=["embedded", "own bucket"])
def test_every_pod_is_restricted(values: dict[str, Any]) -> None:
    deployments = [o for o in render(values) if o["kind"] == "Deployment"]
    assert deployments
    for deployment in deployments:
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


def test_embedded_server_is_the_default() -> None:
    objects = render({})
    assert named(objects, "Deployment", "kaizen-s3")
    assert named(objects, "PersistentVolumeClaim", "kaizen-s3")
    environment = operator_environment(objects)
    assert environment["KAIZEN_BUCKET_ENDPOINT"] == "http://kaizen-s3.kaizen-system.svc:7070"
    assert environment["KAIZEN_BUCKET_EMBEDDED"] == "true"


def test_own_bucket_replaces_the_embedded_server() -> None:
    bucket = {"endpoint": "https://s3.example.com", "name": "models", "secretName": "models-key", "prefix": "prod/eu"}
    objects = render({"bucket": bucket})
    assert not any("s3" in o["metadata"]["name"] for o in objects)
    environment = operator_environment(objects)
    assert environment["KAIZEN_BUCKET_ENDPOINT"] == bucket["endpoint"]
    assert environment["KAIZEN_BUCKET_NAME"] == bucket["name"]
    assert environment["KAIZEN_BUCKET_SECRET"] == bucket["secretName"]
    assert environment["KAIZEN_BUCKET_PREFIX"] == bucket["prefix"]
    assert "KAIZEN_BUCKET_EMBEDDED" not in environment
    role = named(objects, "Role", "kaizen-operator")
    assert role is not None
    assert [rule for rule in role["rules"] if "secrets" in rule["resources"]] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["models-key"], "verbs": ["get"]}
    ]


def test_pod_identity_needs_no_secret() -> None:
    objects = render({"embeddedServer": {"enabled": False}, "serviceAccount": {"annotations": {"role": "arn"}}})
    role, account = named(objects, "Role", "kaizen-operator"), named(objects, "ServiceAccount", "kaizen-operator")
    assert role is not None
    assert not any("secrets" in rule["resources"] for rule in role["rules"])
    assert account is not None
    assert account["metadata"]["annotations"] == {"role": "arn"}


def test_no_rule_has_a_wildcard() -> None:
    roles = [o for o in render({}) if o["kind"] in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], role["metadata"]["name"]


def test_operator_is_told_the_images_of_what_it_starts() -> None:
    environment = operator_environment(render({"images": {"server": {"repository": "example.com/server", "tag": "7"}}}))
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert environment["KAIZEN_SERVER_IMAGE"] == "example.com/server:7"
    assert environment["KAIZEN_SERVER_SKLEARN_IMAGE"] == f"kaizen/server-sklearn:{version}"
    assert environment["KAIZEN_TRAINER_IMAGE"] == f"kaizen/trainer:{version}"


def test_bucket_named_like_a_number_stays_a_text() -> None:
    assert operator_environment(render({"bucket": {"name": "20240101"}}))["KAIZEN_BUCKET_NAME"] == "20240101"


@pytest.mark.parametrize(("keep", "annotations"), [(True, {"helm.sh/resource-policy": "keep"}), (False, {})])
def test_crds_stay_unless_told_otherwise(keep: bool, annotations: dict[str, str]) -> None:
    crds = [o for o in render({"crds": {"keep": keep}}) if o["kind"] == "CustomResourceDefinition"]
    assert len(crds) == 3
    assert all(crd["metadata"]["annotations"] == annotations for crd in crds)


def test_crds_can_be_left_out() -> None:
    assert not any(o["kind"] == "CustomResourceDefinition" for o in render({"crds": {"enabled": False}}))


@pytest.mark.parametrize(
    ("values", "sentence"),
    {
        "unknown value": ({"bukcet": {}}, "bukcet"),
        "endpoint without scheme": ({"bucket": {"endpoint": "s3.example.com"}}, "endpoint"),
        "bucket in capitals": ({"bucket": {"name": "Models"}}, "name"),
        "secret without endpoint": ({"bucket": {"secretName": "key"}}, "secretName is for your own bucket"),
        "no replicas": ({"operator": {"replicas": 0}}, "replicas"),
        "log level": ({"operator": {"logLevel": "loud"}}, "logLevel"),
        "storage without unit": ({"embeddedServer": {"storage": "10"}}, "storage"),
    }.values(),
)
def test_wrong_values_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        render(values)
