"""How a served version can be asked: ports, Secrets, variables, and what of it restarts Pods, over literals."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kaizen.core.endpoint import SERVING_PORT
from kaizen.core.inference_service import decide
from kaizen.core.plan import Object, Observed, Plan, Ready, Waiting
from kaizen.core.pods import PATIENCE_SECONDS
from kaizen.core.serving import MADE_FOR, may_be_troubled
from kaizen.serving.settings import Limits, Settings
from tests.support.services import NOW, SERVICE, deployment, entry, observed, pod, registry, stable_service

TOKENS: dict[str, Any] = {"authentication": {"secretName": "api-keys"}}
TLS: dict[str, Any] = {"tls": {"secretName": "certificate"}}
GRPC: dict[str, Any] = {"endpoint": {"grpc": True}}
PLAIN_PORT = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}
TLS_PORT = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": "https", "appProtocol": "https"}
GRPC_PORT = {"name": "grpc", "port": 8081, "protocol": "TCP", "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"}
GRPCS_PORT = {"name": "grpcs", "port": 8081, "protocol": "TCP", "targetPort": "grpcs", "appProtocol": "https"}
MODEL = registry(entry(1), serves=1)


def body_of(plan: Plan, kind: str, name: str) -> dict[str, Any]:
    (found,) = [child.body for child in plan.children if (child.body["kind"], child.body["metadata"]["name"]) == (kind, name)]
    return dict(found)


def pod_spec(**spec: Any) -> dict[str, Any]:
    """Of the Pods of version 1."""
    found: dict[str, Any] = body_of(decide(observed(MODEL, **spec), NOW), "Deployment", f"{SERVICE}-v1")["spec"]["template"][
        "spec"
    ]
    return found


def variables(**spec: Any) -> dict[str, str]:
    return {one["name"]: one["value"] for one in pod_spec(**spec)["containers"][0]["env"] if "value" in one}


def seconds_ago(body: Object, seconds: float) -> dict[str, Any]:
    """A Pod that was made a while ago and has not begun."""
    made = (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    status = {
        "phase": "Pending",
        "containerStatuses": [{"name": "server", "state": {"waiting": {"reason": "ContainerCreating"}}}],
    }
    return {**body, "metadata": {**body["metadata"], "creationTimestamp": made}, "status": status}


def spoken_to(body: Object, *ports: str) -> dict[str, Any]:
    """A Pod that runs, with these ports."""
    containers = [{"name": "server", "ports": [{"name": name, "containerPort": 8080} for name in ports]}]
    return {**body, "spec": {"containers": containers}}


MADE_FOR_BY_EARLIER_OPERATORS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "afe9eaef04a31d36"),
    "a limit": ({"pod": {"resources": {"limits": {"memory": "2Gi"}}}}, "29f8beb6ef109400"),
    "a window": ({"monitoring": {"windowSeconds": 60}}, "e366c116a5516201"),
    "what the API server fills in": (
        {
            "workers": 1,
            "endpoint": {"grpc": False, "bodyBytesAtMost": 8388608, "connectionsAtMost": 16384, "waitingAtMost": 1024},
        },
        "afe9eaef04a31d36",
    ),
}


@pytest.mark.parametrize(("spec", "digest"), MADE_FOR_BY_EARLIER_OPERATORS.values(), ids=MADE_FOR_BY_EARLIER_OPERATORS)
def test_upgrade_restarts_no_pod_of_a_spec_without_these_fields(spec: dict[str, Any], digest: str) -> None:
    body = body_of(decide(observed(MODEL, **spec), NOW), "Deployment", f"{SERVICE}-v1")
    assert body["metadata"]["annotations"][MADE_FOR] == digest
    old = copy.deepcopy(body)
    old["spec"]["template"]["spec"]["containers"][0] |= {"env": [], "readinessProbe": {}}
    (child,) = [one for one in decide(observed(MODEL, old, **spec), NOW).children if one.body["kind"] == "Deployment"]
    assert child.created_once


CHANGES: dict[str, dict[str, Any]] = {
    "workers": {"workers": 2},
    "authentication": TOKENS,
    "tls": TLS,
    "grpc": GRPC,
    "cors": {"endpoint": {"corsOrigins": ["*"]}},
    "limits": {"endpoint": {"bodyBytesAtMost": 1024}},
    "capture": {"capture": {}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_change_makes_new_pods(change: dict[str, Any]) -> None:
    before = deployment(decide(observed(MODEL), NOW), 1)
    plan = decide(observed(MODEL, before, **change), NOW)
    after = body_of(plan, "Deployment", f"{SERVICE}-v1")
    assert after["metadata"]["annotations"][MADE_FOR] != before["metadata"]["annotations"][MADE_FOR]
    assert after["spec"]["template"] != before["spec"]["template"]
    assert after["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


VARIABLES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "nothing": ({}, {
        "KAIZEN_WORKERS": "1", "KAIZEN_GRPC_PORT": "0", "KAIZEN_TOKENS_DIRECTORY": "", "KAIZEN_TLS_DIRECTORY": "",
        "KAIZEN_CORS_ORIGINS": "", "KAIZEN_BODY_BYTES": "8388608", "KAIZEN_CONNECTIONS": "16384", "KAIZEN_WAITING": "1024",
    }),
    "workers": ({"workers": 4}, {"KAIZEN_WORKERS": "4"}),
    "grpc": (GRPC, {"KAIZEN_GRPC_PORT": "8081"}),
    "tokens": (TOKENS, {"KAIZEN_TOKENS_DIRECTORY": "/etc/kaizen/tokens"}),
    "tls": (TLS, {"KAIZEN_TLS_DIRECTORY": "/etc/kaizen/tls"}),
    "cors": ({"endpoint": {"corsOrigins": ["https://a", "http://b:80"]}}, {"KAIZEN_CORS_ORIGINS": "https://a,http://b:80"}),
    "limits": (
        {"endpoint": {"bodyBytesAtMost": 1024, "connectionsAtMost": 3, "waitingAtMost": 2}},
        {"KAIZEN_BODY_BYTES": "1024", "KAIZEN_CONNECTIONS": "3", "KAIZEN_WAITING": "2"},
    ),
    "capture": ({"capture": {"exclude": ["a,b"]}}, {
        "KAIZEN_CAPTURE_SHARE": "1", "KAIZEN_CAPTURE_EXCLUDE": '["a,b"]', "KAIZEN_CAPTURE_HASH": "[]",
    }),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), VARIABLES.values(), ids=VARIABLES)
def test_server_is_told(spec: dict[str, Any], expected: Mapping[str, str]) -> None:
    assert expected.items() <= variables(**spec).items()


def test_server_understands_what_it_is_told() -> None:
    told = variables(
        **TOKENS, **TLS, workers=32, endpoint={"grpc": True, "corsOrigins": ["https://a.example.com", "http://[::1]:8000"]}
    )
    settings = Settings.from_environment(told)
    assert (settings.workers, settings.port, settings.grpc_port) == (32, SERVING_PORT, 8081)
    assert (settings.tokens_directory, settings.tls_directory) == (Path("/etc/kaizen/tokens"), Path("/etc/kaizen/tls"))
    assert settings.cors_origins == ("https://a.example.com", "http://[::1]:8000")
    plain = Settings.from_environment(variables())
    assert (plain.grpc_port, plain.tokens_directory, plain.tls_directory, plain.cors_origins) == (None, None, None, ())
    assert plain.limits == Limits()


PORTS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], list[str]]] = {
    "plain": ({}, [PLAIN_PORT], ["http"]),
    "tls": (TLS, [TLS_PORT], ["https"]),
    "grpc": (GRPC, [PLAIN_PORT, GRPC_PORT], ["http", "grpc"]),
    "grpc with tls": (GRPC | TLS, [TLS_PORT, GRPCS_PORT], ["https", "grpcs"]),
}


@pytest.mark.parametrize(("spec", "expected", "names"), PORTS.values(), ids=PORTS)
def test_ports(spec: dict[str, Any], expected: list[dict[str, Any]], names: list[str]) -> None:
    plan = decide(observed(MODEL, stable_service(1), **spec), NOW)
    for name in (SERVICE, f"{SERVICE}-v1"):
        assert body_of(plan, "Service", name)["spec"]["ports"] == expected
    (container,) = pod_spec(**spec)["containers"]
    assert [port["name"] for port in container["ports"]] == [*names, "metrics"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]}[names[0]] == 8080
    assert plan.status is not None
    assert plan.status["url"] == ("https" if "tls" in spec else "http") + "://flight-delay.team-a.svc"


def test_old_pods_are_asked_as_before_until_they_are_gone() -> None:
    old = spoken_to(pod(1), "http", "grpc", "metrics")
    plan = decide(observed(MODEL, stable_service(1), old, **TLS), NOW)
    both = [PLAIN_PORT, TLS_PORT, GRPC_PORT]
    assert [body_of(plan, "Service", name)["spec"]["ports"] for name in (SERVICE, f"{SERVICE}-v1")] == [both, both]
    # One number cannot be both: it goes to what the spec says.
    plan = decide(observed(MODEL, stable_service(1), old, **TLS, **GRPC), NOW)
    assert body_of(plan, "Service", SERVICE)["spec"]["ports"] == [PLAIN_PORT, TLS_PORT, GRPCS_PORT]
    going = {**old, "metadata": {**old["metadata"], "deletionTimestamp": "2026-03-01T11:59:59Z"}}
    plan = decide(observed(MODEL, stable_service(1), going, **TLS), NOW)
    assert body_of(plan, "Service", SERVICE)["spec"]["ports"] == [TLS_PORT]
    # What another version's Pods have is theirs.
    plan = decide(observed(MODEL, stable_service(1), spoken_to(pod(2), "http"), **TLS), NOW)
    assert body_of(plan, "Service", SERVICE)["spec"]["ports"] == [TLS_PORT]


def test_secrets_are_mounted_whole_and_only_where_they_are_named() -> None:
    spec = pod_spec(**TOKENS, **TLS)
    assert spec["volumes"][1:] == [
        {"name": "tokens", "secret": {"secretName": "api-keys"}},
        {
            "name": "tls",
            "secret": {
                "secretName": "certificate",
                "items": [{"key": "tls.crt", "path": "tls.crt"}, {"key": "tls.key", "path": "tls.key"}],
            },
        },
    ]
    assert spec["containers"][0]["volumeMounts"][1:] == [
        {"name": "tokens", "mountPath": "/etc/kaizen/tokens", "readOnly": True},
        {"name": "tls", "mountPath": "/etc/kaizen/tls", "readOnly": True},
    ]
    assert (len(pod_spec()["volumes"]), len(pod_spec()["containers"][0]["volumeMounts"])) == (1, 1)


def test_probe_needs_no_token_and_speaks_tls_where_the_server_does() -> None:
    plain = {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1, "failureThreshold": 3}
    assert pod_spec(**TOKENS)["containers"][0]["readinessProbe"] == plain
    assert pod_spec(**TLS)["containers"][0]["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    assert "scheme" not in pod_spec(**TLS)["containers"][0]["livenessProbe"]["httpGet"]


def test_workers_ask_for_as_much_as_pods_with_one() -> None:
    assert pod_spec()["containers"][0]["resources"] == {
        "requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"},
    }  # fmt: skip
    assert pod_spec(workers=4)["containers"][0]["resources"] == {
        "requests": {"cpu": "400m", "memory": "512Mi"}, "limits": {"memory": "4Gi"},
    }  # fmt: skip
    own = {"requests": {"cpu": 2}}
    assert pod_spec(workers=4, pod={"resources": own})["containers"][0]["resources"] == own


@pytest.mark.parametrize("engine", ["sklearn", "onnx"])
def test_engines_beside_the_compiled_one_have_their_image_and_the_status_says_why(engine: str) -> None:
    why = "transformer MyScaler is not covered"
    model = registry(replace(entry(1), manifest={"engine": engine, "engineReason": why}), serves=1)
    plan = decide(observed(model), NOW)
    template = body_of(plan, "Deployment", f"{SERVICE}-v1")["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == "kaizen/server-sklearn:1"
    assert plan.status is not None
    assert plan.status["stable"]["engine"] == {"name": engine, "reason": why}


TROUBLES: dict[str, tuple[str, tuple[str, str]]] = {
    "no Secret": (
        'MountVolume.SetUp failed for volume "tokens" : secret "api-keys" not found',
        ("SecretMissing", "The Secret api-keys does not exist: create it, and the Pods start."),
    ),
    "no key": (
        'MountVolume.SetUp failed for volume "tls" : references non-existent secret key: tls.key',
        ("SecretIncomplete", "The Secret certificate has no tls.key: add it, and the Pods start."),
    ),
    "another": ("Error: cannot find volume", ("PodsNotStarted", "Error: cannot find volume")),
}


@pytest.mark.parametrize(("warning", "expected"), TROUBLES.values(), ids=TROUBLES)
def test_missing_secret_is_told_and_the_pods_before_answer_on(warning: str, expected: tuple[str, str]) -> None:
    spec = TOKENS | TLS
    waiting = seconds_ago(pod(1), 20)
    alone = decide(replace(observed(MODEL, stable_service(1), waiting, **spec), troubled=warning), NOW)
    assert isinstance(alone.outcome, Waiting)
    assert (alone.outcome.reason, alone.outcome.message) == expected
    renewing = deployment(decide(observed(MODEL, **spec), NOW), 1)
    renewing["status"] |= {"replicas": 2, "updatedReplicas": 1}
    beside = decide(replace(observed(MODEL, stable_service(1), renewing, waiting, **spec), troubled=warning), NOW)
    assert isinstance(beside.outcome, Ready)
    told = (expected[0], f"Version 1 gets Pods of the present spec: {expected[1]}")
    assert [one for one in beside.conditions if one[0] in ("RollingOut", "Reconciling")] == [
        ("RollingOut", "True", *told),
        ("Reconciling", "True", *told),
    ]


def test_pod_that_has_yet_to_begin_is_looked_at_again() -> None:
    seen = replace(observed(registry(entry(1)), seconds_ago(pod(1), 20), **TOKENS), troubled=TROUBLES["no Secret"][0])
    message = "Version 1 is being started: The Secret api-keys does not exist: create it, and the Pods start."
    assert decide(seen, NOW).outcome == Waiting("SecretMissing", message, after_seconds=PATIENCE_SECONDS)


def renewal(seen: Observed) -> tuple[str, str] | None:
    return next((one[2:] for one in decide(seen, NOW).conditions if one[0] == "RollingOut"), None)


def test_renewed_pods_are_told_of_until_all_are_there() -> None:
    body = deployment(decide(observed(MODEL, replicas={"minimum": 2}), NOW), 1, ready=2, replicas=2)
    spec: dict[str, Any] = {"replicas": {"minimum": 2}}
    assert renewal(observed(MODEL, stable_service(1), body, **spec)) is None
    for status, ready in (
        ({"observedGeneration": 0}, 0),
        ({"updatedReplicas": 1, "replicas": 3, "readyReplicas": 2}, 1),
        ({"updatedReplicas": 2, "replicas": 3, "readyReplicas": 3}, 2),
    ):
        changed = {**body, "status": {**body["status"], **status}}
        message = f"Version 1 gets Pods of the present spec: {ready} of 2 Pods are ready."
        assert renewal(observed(MODEL, stable_service(1), changed, **spec)) == ("Renewing", message)


def test_change_is_told_of_from_the_first_reconcile_on() -> None:
    """Else the new generation would look done before its Deployment was changed."""
    body = deployment(decide(observed(MODEL), NOW), 1)
    assert renewal(observed(MODEL, stable_service(1), body)) is None
    assert renewal(observed(MODEL, stable_service(1), body, workers=2)) is not None
    assert renewal(observed(MODEL, stable_service(1), body, replicas={"minimum": 2})) is not None


def test_only_a_pod_that_should_have_begun_is_asked_about() -> None:
    late, early = seconds_ago(pod(1), PATIENCE_SECONDS + 1), seconds_ago(pod(1), PATIENCE_SECONDS - 1)
    assert may_be_troubled([late], NOW) == late
    unschedulable = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available."}
    for other in (
        early,
        {**late, "status": {"phase": "Running", "containerStatuses": [{"name": "server", "state": {"running": {}}}]}},
        {**late, "status": {"conditions": [unschedulable]}},
        {**late, "metadata": {**late["metadata"], "deletionTimestamp": "2026-03-01T11:59:59Z"}},
        {**late, "metadata": {**late["metadata"], "labels": {}}},
    ):
        assert may_be_troubled([other], NOW) is None
