"""How long a user waits and how much memory is used, on the cluster that `make cluster` made: one training, one service.

    PYTHONPATH=operator:. .venv/bin/python bench/cluster/figures.py

Kubernetes gives the start of a container in whole seconds, rounded down: what is counted from there is an upper bound, up to
a second too long.
"""

import re
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support import service_stories
from tests.support.cluster import SYSTEM, Cluster
from tests.support.service_stories import SERVICE, fresh_model, job, serves, service
from tests.support.wait import until

NAMESPACE = "bench-figures"
PSS = "print(sum(int(l.split()[1]) for l in open('/proc/1/smaps_rollup') if l.startswith('Pss:')))"


def main() -> int:
    """Measure and print; 0 when every figure is within its limit."""
    cluster, model = Cluster(), fresh_model()
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=90s", seconds=95)
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    with tempfile.TemporaryDirectory() as directory:
        lake = service_stories.lake(cluster, NAMESPACE, Path(directory))
        body = job("one", model, lake)
        cluster.apply(body, namespace=NAMESPACE)
        applied = time.monotonic()
        trainer = until("the training Pod", lambda: _pod(cluster, "mlops.kaizen.dev/training-job=one"), 30)
        to_pod = time.monotonic() - applied
        cluster.wait_for("trainingjob", "one", NAMESPACE, "Succeeded", "True", seconds=180)
        to_version = time.monotonic() - applied
        cluster.apply(service(model), namespace=NAMESPACE)
        until("the service answers", lambda: serves(cluster, NAMESPACE, 1), 120)
    server = _pod(cluster, f"mlops.kaizen.dev/service={SERVICE}")
    assert server is not None
    figures = [
        ("TrainingJob applied → Pod seen by kubectl", to_pod, 1.0, "s"),
        ("trainer container → first step", _first_line(cluster, trainer, "Ingest"), 5.0, "s"),
        ("TrainingJob applied → registered", to_version, None, "s"),
        ("server container → ready", _first_line(cluster, server, "is ready"), 1.5, "s"),
        ("server, proportional set size", _memory(cluster, server), 90.0, "MiB"),
        ("operator, proportional set size", _memory(cluster, cluster.operator_pod()), 120.0, "MiB"),
    ]
    for name, value, limit, unit in figures:
        print(f"{name:<44} {value:7.2f} {unit:<4}" + (f" limit {limit:g}" if limit else ""))
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    return 0 if all(limit is None or value < limit for _, value, limit, _ in figures) else 1


def _pod(cluster: Cluster, selector: str) -> dict[str, Any] | None:
    return next(iter(cluster.list("pod", NAMESPACE, selector)), None)


def _first_line(cluster: Cluster, pod: dict[str, Any], words: str) -> float:
    """Seconds from the start of a Pod's container to its first line with these words."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    lines = cluster.kubectl("logs", name, "--namespace", namespace, "--timestamps").splitlines()
    said = next(line.split(" ", 1)[0] for line in lines if words in line)
    current = cluster.get("pod", name, namespace)
    assert current is not None
    state = current["status"]["containerStatuses"][0]["state"]
    started = (state.get("running") or state["terminated"])["startedAt"]
    return (datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", said)) - datetime.fromisoformat(started)).total_seconds()


def _memory(cluster: Cluster, pod: dict[str, Any]) -> float:
    metadata = pod["metadata"]
    words = ("exec", metadata["name"], "--namespace", metadata.get("namespace", SYSTEM), "--")
    return int(cluster.kubectl(*words, "/opt/kaizen/bin/python", "-c", PSS)) / 1024


if __name__ == "__main__":
    sys.exit(main())
