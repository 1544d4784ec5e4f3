"""A client inside the cluster, as an application's Pod would be: it asks through the Service's ClusterIP."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import rawhttp
from tests.support.cluster import SYSTEM, Cluster
from tests.support.wait import until

NAME = "client"


@dataclass
class Report:
    """What the client saw; filled when it was stopped."""

    answers: dict[str, int] = field(default_factory=dict)
    """By "<status> <version in the header> <version in the body>"."""
    problems: list[str] = field(default_factory=list)
    """Requests that were not answered."""

    @property
    def total(self) -> int:
        """How many answers there were."""
        return sum(self.answers.values())


@contextmanager
def load(cluster: Cluster, namespace: str, service: str, path: str, body: bytes, a_second: int = 100) -> Iterator[Report]:
    """Ask a service so often, half on kept-alive and half on new connections, while the block runs."""
    files = {"rawhttp.py": Path(rawhttp.__file__).read_text()}
    command = ["python", "/client/rawhttp.py", service, "80", path, body.decode(), "8", str(a_second)]
    cluster.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": files},
        _pod(_image(cluster), command),
        namespace=namespace,
    )
    report = Report()
    logs = lambda: cluster.kubectl("logs", NAME, "--namespace", namespace)  # noqa: E731
    until("the client asks", lambda: "started" in _or_nothing(logs), 60, lambda: cluster.dump("pod", NAME, namespace))
    try:
        yield report
    finally:
        cluster.kubectl("exec", NAME, "--namespace", namespace, "--", "touch", "/tmp/stop")
        found = until("the client's report", lambda: _last_object(_or_nothing(logs)), 60, lambda: _or_nothing(logs))
        report.answers, report.problems = found["answers"], found["problems"]
        cluster.delete("pod", NAME, namespace, "--now")


def _or_nothing(logs: Any) -> str:
    try:
        return str(logs())
    except Exception:
        return ""


def _last_object(text: str) -> dict[str, Any] | None:
    line = text.strip().splitlines()[-1] if text.strip() else ""
    return json.loads(line) if line.startswith("{") else None


def _image(cluster: Cluster) -> str:
    """The trainer's: it has Python and is in the cluster."""
    (container,) = _deployment(cluster)["spec"]["template"]["spec"]["containers"]
    return next(str(one["value"]) for one in container["env"] if one["name"] == "KAIZEN_TRAINER_IMAGE")


def _deployment(cluster: Cluster) -> dict[str, Any]:
    found = cluster.get("deployment", "kaizen-operator", SYSTEM)
    assert found is not None
    return found


def _pod(image: str, command: list[str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "client", "configMap": {"name": NAME}}],
            "containers": [
                {
                    "name": "client",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": command,
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "client", "mountPath": "/client"}],
                }
            ],
        },
    }
