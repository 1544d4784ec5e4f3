"""How requests come to a served version: its ports, the Secrets that guard them, and what its servers are told of both.

A port has another name where it is spoken to otherwise, and Services find it in each Pod by its name.  So while a service
goes over to TLS its old Pods go on answering in plain, and a Secret that is missing stops nothing.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kaizen.api.inference_service import InferenceServiceSpec
from kaizen.core import pods as pod_parts
from kaizen.core.plan import Object

__all__ = [
    "SERVING_PORT",
    "container_ports",
    "environment",
    "given",
    "mounts",
    "readiness",
    "resources",
    "service_ports",
    "trouble",
    "url",
    "volumes",
]

SERVING_PORT = 8080
GRPC_PORT = 8081
DIRECTORY = "/etc/kaizen"
TLS_FILES = ("tls.crt", "tls.key")
FIELDS = frozenset({"workers", "authentication", "tls", "endpoint"})
"""Of an InferenceService's spec: what is decided here."""
MISSING_KEY = re.compile(r'volume "([a-z]+)" .*non-existent secret key: (\S{1,253})')


@dataclass(frozen=True)
class Port:
    """A port of a server's Pod, and of the Services that lead to it."""

    name: str
    number: int
    service: int
    protocol: str | None
    """What a Service calls the application's protocol; None where its name says enough."""


HTTP = Port("http", SERVING_PORT, 80, None)
HTTPS = Port("https", SERVING_PORT, 443, "https")
GRPC = Port("grpc", GRPC_PORT, GRPC_PORT, "kubernetes.io/h2c")
GRPCS = Port("grpcs", GRPC_PORT, GRPC_PORT, "https")
PORTS = (HTTP, HTTPS, GRPC, GRPCS)


def url(spec: InferenceServiceSpec, name: str, namespace: str) -> str:
    """Where requests go, inside the cluster."""
    return f"{'https' if spec.tls else 'http'}://{name}.{namespace}.svc"


def given(spec: InferenceServiceSpec) -> dict[str, Any]:
    """What a spec says of the endpoint beyond the defaults; empty when it says nothing."""
    return spec.model_dump(mode="json", include=set(FIELDS), exclude_none=True, exclude_defaults=True)


def container_ports(spec: InferenceServiceSpec) -> list[dict[str, Any]]:
    """The ports of a server's container that clients use."""
    return [{"name": port.name, "containerPort": port.number, "protocol": "TCP"} for port in _wanted(spec)]


def service_ports(spec: InferenceServiceSpec, pods: Iterable[Object] = ()) -> list[dict[str, Any]]:
    """The ports of a Service: those that the spec wants, and those that Pods made for an earlier spec still have."""
    offered = {name for pod in pods for name in _offered(pod)}
    ports = {port.service: port for port in PORTS if port.name in offered}
    ports |= {port.service: port for port in _wanted(spec)}
    return [_service_port(ports[number]) for number in sorted(ports)]


def environment(spec: InferenceServiceSpec) -> dict[str, str]:
    """What a server is told of its endpoint."""
    endpoint = spec.endpoint
    return {
        "KAIZEN_WORKERS": str(spec.workers),
        "KAIZEN_GRPC_PORT": str(GRPC_PORT if endpoint.grpc else 0),
        "KAIZEN_TOKENS_DIRECTORY": f"{DIRECTORY}/tokens" if spec.authentication else "",
        "KAIZEN_TLS_DIRECTORY": f"{DIRECTORY}/tls" if spec.tls else "",
        "KAIZEN_CORS_ORIGINS": ",".join(endpoint.cors_origins or ()),
        "KAIZEN_BODY_BYTES": str(endpoint.body_bytes_at_most),
        "KAIZEN_CONNECTIONS": str(endpoint.connections_at_most),
        "KAIZEN_WAITING": str(endpoint.waiting_at_most),
    }


def volumes(spec: InferenceServiceSpec) -> list[dict[str, Any]]:
    """The Secrets that a Pod mounts.  None is optional: without its Secret a Pod waits, and its event says for which."""
    found: list[dict[str, Any]] = []
    if spec.authentication:
        found.append(_volume("tokens", {"secretName": spec.authentication.secret_name}))
    if spec.tls:
        items = [{"key": name, "path": name} for name in TLS_FILES]
        found.append(_volume("tls", {"secretName": spec.tls.secret_name, "items": items}))
    return found


def mounts(spec: InferenceServiceSpec) -> list[dict[str, Any]]:
    """Where the server finds them: whole directories, in which the kubelet puts what a Secret has become."""
    return [{"name": one["name"], "mountPath": f"{DIRECTORY}/{one['name']}", "readOnly": True} for one in volumes(spec)]


def readiness(spec: InferenceServiceSpec) -> dict[str, Any]:
    """What the kubelet asks whether requests may come; it has no token."""
    scheme = {"scheme": "HTTPS"} if spec.tls else {}
    return {"httpGet": {"path": "/v2/health/ready", "port": SERVING_PORT, **scheme}, "periodSeconds": 1, "failureThreshold": 3}


def resources(spec: InferenceServiceSpec) -> dict[str, Any]:
    """What a Pod asks for where nobody says more: each worker does the work of a Pod with one."""
    count = spec.workers
    return {"requests": {"cpu": f"{100 * count}m", "memory": f"{128 * count}Mi"}, "limits": {"memory": f"{count}Gi"}}


def trouble(spec: InferenceServiceSpec, warning: str) -> tuple[str, str]:
    """A warning of Kubernetes about a Pod that does not begin as reason and message."""
    secrets = {one["name"]: one["secret"]["secretName"] for one in volumes(spec)}
    if (missing := MISSING_KEY.search(warning)) and missing[1] in secrets:
        return (
            "SecretIncomplete",
            f"The Secret {secrets[missing[1]]} has no {missing[2].rstrip('.')}: add it, and the Pods start.",
        )
    return pod_parts.trouble(warning, "the Pods start")


def _wanted(spec: InferenceServiceSpec) -> tuple[Port, ...]:
    plain = (HTTP, GRPC) if spec.tls is None else (HTTPS, GRPCS)
    return plain if spec.endpoint.grpc else plain[:1]


def _offered(pod: Object) -> Iterator[str]:
    if not pod["metadata"].get("deletionTimestamp"):
        for container in pod.get("spec", {}).get("containers", ()):
            yield from (port["name"] for port in container.get("ports", ()) if "name" in port)


def _service_port(port: Port) -> dict[str, Any]:
    body: dict[str, Any] = {"name": port.name, "port": port.service, "protocol": "TCP", "targetPort": port.name}
    return body if port.protocol is None else {**body, "appProtocol": port.protocol}


def _volume(name: str, secret: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "secret": secret}
