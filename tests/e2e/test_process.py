"""The operator's process: it ends when it is told to, whatever it waits for, and says how."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hack.paths import KUBECONFIG, REPOSITORY
from tests.support.cluster import Cluster
from tests.support.wait import until

END_SECONDS = 10
"""A third of the grace period, on a busy machine."""


@contextmanager
def operator(namespace: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A second operator, as a process of this machine with a Lease of its own, and the port of its probes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "USER": "kaizen",
        "PYTHONPATH": str(REPOSITORY / "operator"),
        "KUBECONFIG": str(KUBECONFIG),
        "KAIZEN_NAMESPACE": namespace,
        "KAIZEN_POD_NAME": "local",
        "KAIZEN_BUCKET_NAME": "kaizen",
        "KAIZEN_PORT": str(port),
        **environment,
    }
    words = [sys.executable, "-m", "kaizen", "operator"]
    with subprocess.Popen(words, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process, port
        finally:
            process.kill()


def answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def end(process: "subprocess.Popen[str]") -> str:
    process.send_signal(signal.SIGTERM)
    words, _ = process.communicate(timeout=END_SECONDS)
    return words


def test_ends_cleanly_while_the_bucket_is_silent(cluster: Cluster, namespace: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)  # Accepts connections and never says a word.
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        with operator(namespace, KAIZEN_BUCKET_ENDPOINT=endpoint, **keys) as (process, port):
            until("the operator is ready", lambda: answers(port, "/readyz"), 30)
            words = end(process)
        assert process.returncode == 0, words
    lines = [json.loads(line) for line in words.splitlines()]
    assert lines[-1]["message"] == "stopped"
    lease = cluster.get("lease", "kaizen-operator", namespace)
    assert lease is not None
    assert lease["spec"].get("holderIdentity", "") == ""


@pytest.mark.parametrize("holder", ["somebody-else"])
def test_standby_is_ready_and_ends_cleanly(cluster: Cluster, namespace: str, holder: str) -> None:
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": holder},
        "spec": {
            "schedulingGates": [{"name": "kaizen.dev/never"}],
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "x", "image": "none",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    }  # fmt: skip
    lease = {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "kaizen-operator"},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 600, "renewTime": "2026-01-01T00:00:00.000000Z"},
    }  # fmt: skip
    cluster.apply(pod, lease, namespace=namespace)
    with operator(namespace) as (process, port):
        until("the standby is ready", lambda: answers(port, "/readyz"), 30)
        words = end(process)
    assert process.returncode == 0, words
    kept = cluster.get("lease", "kaizen-operator", namespace)
    assert kept is not None
    assert kept["spec"]["holderIdentity"] == holder


def test_says_which_setting_is_missing() -> None:
    with operator("", KAIZEN_BUCKET_NAME="") as (process, _):
        words, _ = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 1
    assert "The environment variable KAIZEN_NAMESPACE is not set" in words
