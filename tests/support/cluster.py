"""The cluster as a user sees it: kubectl, with deadlines, and a readable account when something does not come true.

Every status that passes through here is linted (tests/support/lint.py).
"""

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from hack.cluster import s3_url
from hack.paths import KUBECONFIG, TOOLS
from kaizen.api.base import GROUP
from kaizen.registry.settings import BucketSettings
from kaizen.registry.store import Bucket
from tests.support import lint
from tests.support.wait import pause, until

Object = dict[str, Any]
SYSTEM = "kaizen-system"
REPEATABLE = frozenset({"apply", "delete", "get", "label", "rollout", "scale", "set"})
"""Words of kubectl that may be said twice."""
AWAY = re.compile(r"connection (refused|reset|lost)|handshake timeout|i/o timeout|unexpected EOF|etcdserver|ServiceUnavailable")
AWAY_SECONDS = 10
OPERATOR_PODS = "app.kubernetes.io/component=operator"


class Rejected(Exception):
    """kubectl ended with an error; the text is what a user reads."""


class Cluster:
    """kubectl against the test cluster."""

    def __init__(self) -> None:
        self._seen: dict[str, Object] = {}

    def kubectl(self, *words: str, stdin: str | None = None, seconds: float = 60) -> str:
        """Run kubectl; raises Rejected with its words when it fails, again and again where the API server is only away."""
        began = time.monotonic()
        while True:
            done = subprocess.run(
                [TOOLS / "kubectl", *words],
                env={**os.environ, "KUBECONFIG": str(KUBECONFIG)},
                input=stdin,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
            if done.returncode == 0:
                return done.stdout
            away = words[0] in REPEATABLE and AWAY.search(done.stderr) and time.monotonic() < began + AWAY_SECONDS
            if not away:
                raise Rejected(done.stderr.strip())
            pause(0.5)

    def apply(self, *objects: Mapping[str, Any], namespace: str, dry_run: bool = False) -> str:
        """`kubectl apply` with strict validation, as a careful user does; returns what it says."""
        trying = ["--dry-run=server"] if dry_run else []
        text = yaml.safe_dump_all([dict(o) for o in objects], sort_keys=False)
        return self.kubectl("apply", "--namespace", namespace, "--validate=strict", *trying, "--filename", "-", stdin=text)

    def get(self, kind: str, name: str, namespace: str) -> Object | None:
        """An object, or None when it does not exist."""
        try:
            body: Object = json.loads(self.kubectl("get", kind, name, "--namespace", namespace, "--output", "json"))
        except Rejected as problem:
            if "NotFound" in str(problem):
                return None
            raise
        self._lint(body)
        return body

    def list(self, kind: str, namespace: str | None = None, selector: str = "") -> list[Object]:
        """All objects of a kind, of one namespace or of all."""
        where = ["--namespace", namespace] if namespace else ["--all-namespaces"]
        words = ["get", kind, *where, "--output", "json", *(["--selector", selector] if selector else [])]
        items: list[Object] = json.loads(self.kubectl(*words))["items"]
        for body in items:
            self._lint(body)
        return items

    def delete(self, kind: str, name: str, namespace: str, *words: str) -> None:
        """Delete an object and wait until it is gone; one that does not exist is fine."""
        self.kubectl("delete", kind, name, "--namespace", namespace, "--ignore-not-found", *words)

    def wait_for(
        self, kind: str, name: str, namespace: str, condition: str, status: str, *, reason: str | None = None, seconds: float = 30
    ) -> Object:
        """Wait for a condition of the object's present generation; fails with a dump of all that surrounds it."""

        def look() -> Object | None:
            body = self.get(kind, name, namespace)
            found = condition_of(body, condition) if body else None
            if body is None or found is None or found["observedGeneration"] != body["metadata"]["generation"]:
                return None
            return body if found["status"] == status and reason in (None, found["reason"]) else None

        wanted = f"{kind}/{name} {condition}={status}" + (f" ({reason})" if reason else "")
        return until(wanted, look, seconds, lambda: self.dump(kind, name, namespace))

    def wait_ready(self, deployment: str, namespace: str = SYSTEM, seconds: float = 90) -> None:
        """Wait until all Pods of a Deployment are the newest and ready."""
        self.kubectl(
            "rollout", "status", f"deployment/{deployment}", "--namespace", namespace, f"--timeout={seconds:.0f}s",
            seconds=seconds + 5,
        )  # fmt: skip

    def operator_pod(self) -> Object:
        """The operator's Pod that is running and not being deleted."""

        def look() -> Object | None:
            pods = [p for p in self.list("pod", SYSTEM, OPERATOR_PODS) if "deletionTimestamp" not in p["metadata"]]
            return next((p for p in pods if p["status"].get("phase") == "Running"), None)

        return until("a running operator Pod", look, 60, lambda: self.dump("deployment", "kaizen-operator", SYSTEM))

    def metrics(self) -> dict[str, float]:
        """The operator's metrics: name with labels → value."""
        pod = self.operator_pod()["metadata"]["name"]
        text = self.kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{pod}:9091/proxy/metrics")
        rows = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    @contextmanager
    def port_forward(self, target: str, port: int, namespace: str = SYSTEM) -> Iterator[str]:
        """Forward a free port of this machine to a Service or Pod while the block runs; gives its http URL.

        For short blocks: kubectl may forward nothing any more after a connection was broken off.
        """
        words = [str(TOOLS / "kubectl"), "port-forward", target, f":{port}", "--namespace", namespace]
        env = {**os.environ, "KUBECONFIG": str(KUBECONFIG)}
        with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forwarding:
            try:
                assert forwarding.stdout is not None
                line = forwarding.stdout.readline()
                assert line.startswith("Forwarding from 127.0.0.1:"), line
                yield f"http://127.0.0.1:{line.split(':')[1].split()[0]}"
            finally:
                forwarding.terminate()

    def bucket(self, account: str = "AWS") -> Bucket:
        """The embedded server's bucket as the operator (AWS) or a workload (WORKLOAD) sees it."""
        secret = self.get("secret", "kaizen-s3", SYSTEM)
        assert secret is not None
        keys = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
        access, secret_key = keys[f"{account}_ACCESS_KEY_ID"], keys[f"{account}_SECRET_ACCESS_KEY"]
        return Bucket(BucketSettings(endpoint=s3_url(), name="kaizen", access_key=access, secret_key=secret_key))

    def dump(self, kind: str, name: str, namespace: str) -> str:
        """The object, its events, its children's logs, and the operator's last words."""
        selector = f"involvedObject.name={name}"
        parts = {
            f"{kind}/{name}": ("get", kind, name, "--namespace", namespace, "--output", "yaml", "--ignore-not-found"),
            "events": ("get", "events", "--namespace", namespace, "--field-selector", selector),
            "pods": ("get", "pods", "--namespace", namespace, "--output", "wide"),
            "logs": ("logs", "--namespace", namespace, "--selector", f"{GROUP}/service", "--tail=30", "--prefix"),
            "operator": ("logs", "--namespace", SYSTEM, "--selector", OPERATOR_PODS, "--tail=40", "--prefix"),
        }
        return "\n".join(f"--- {title}\n{self._or_error(*words)}" for title, words in parts.items())

    def _or_error(self, *words: str) -> str:
        try:
            return self.kubectl(*words)
        except (Rejected, subprocess.TimeoutExpired) as problem:
            return str(problem)

    def _lint(self, body: Object) -> None:
        if not body["apiVersion"].startswith(GROUP):
            return
        uid = body["metadata"]["uid"]
        found = lint.problems(body)
        if before := self._seen.get(uid):
            found += lint.transition_problems(before, body, adjacent=False)
        self._seen[uid] = body
        assert not found, f"{body['kind']}/{body['metadata']['name']}: {found}\n{json.dumps(body.get('status'), indent=1)}"


def condition_of(body: Mapping[str, Any], kind: str) -> Object | None:
    """A condition of an object, or None."""
    conditions = body.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), None)


def load(path: Path) -> list[Object]:
    """The objects of a YAML file."""
    return [body for body in yaml.safe_load_all(path.read_text()) if body]
