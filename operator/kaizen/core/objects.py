"""Builders of child objects: names, labels, and the bodies that the API server is given."""

from collections.abc import Mapping, Sequence
from typing import Any

from kaizen.api.base import GROUP
from kaizen.core.plan import Object, Observed

MANAGED_BY = "app.kubernetes.io/managed-by"
SERVICE_LABEL = f"{GROUP}/service"
VERSION_LABEL = f"{GROUP}/version"
NO_VERSION = "none"
"""Value of the version label that no Pod has: what a Service selects before there is a version."""


def stable_service(observed: Observed, ports: Sequence[Mapping[str, Any]], version: str = NO_VERSION) -> Object:
    """The Service that clients call: it selects the Pods of the stable version."""
    selector = {SERVICE_LABEL: observed.name, VERSION_LABEL: version}
    return owned("v1", "Service", observed, {SERVICE_LABEL: observed.name}, service_spec(selector, ports))


def service_spec(selector: Mapping[str, str], ports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The spec of a Service that leads to servers."""
    return {"type": "ClusterIP", "ports": [dict(port) for port in ports], "selector": dict(selector)}


def selecting(service: Object, version: int) -> Object:
    """The same Service, leading to another version."""
    spec = service["spec"]
    return {**service, "spec": {**spec, "selector": {**spec["selector"], VERSION_LABEL: str(version)}}}


def controller_reference(owner: Object) -> dict[str, Any]:
    """The owner reference that makes the garbage collector delete a child with its owner."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owned(
    api_version: str, kind: str, observed: Observed, labels: Mapping[str, str], spec: dict[str, Any], name: str = ""
) -> dict[str, Any]:
    """A child, by default under its owner's own name: labelled so that it is watched, owned so that it is collected."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name or observed.name,
            "namespace": observed.namespace,
            "labels": {MANAGED_BY: "kaizen", **labels},
            "ownerReferences": [controller_reference(observed.owner)],
        },
        "spec": spec,
    }
