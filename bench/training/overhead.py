"""What a TrainingJob costs beyond the fit: applied → version Ready, less the time inside `fit`, on `make cluster`'s cluster.

    PYTHONPATH=operator:. .venv/bin/python bench/training/overhead.py

One month of flights (27,000 rows), histogram boosting, three runs; what the trainer's log says of its steps is subtracted:
everything between `Fit` and `Evaluate`, which holds the inner folds too, and `Refit`.
"""

import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from examples.flights.lake import write_months
from tests.support import service_stories
from tests.support.cluster import Cluster
from tests.support.service_stories import fresh_model
from tests.support.wait import until

NAMESPACE, RUNS, LIMIT = "bench-overhead", 3, 12.0
QUERY = "SELECT carrier, origin, dest, hour, distance, temp, humid, wind_speed, precip, pressure, visib, time_hour, flight, \
dep_delay > 15 AS late FROM flights WHERE dep_delay IS NOT NULL"
LINE = re.compile(r"^\[ *([0-9.]+) s\] (\w+)", re.MULTILINE)


def main() -> int:
    """Measure and print; 0 when the median is within the limit."""
    cluster, model = Cluster(), fresh_model()
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=90s", seconds=95)
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    overheads = []
    with tempfile.TemporaryDirectory() as directory:
        lake = service_stories.lake(cluster, NAMESPACE, Path(directory))
        (path,) = write_months(range(1, 2), Path(directory))
        for number in range(RUNS):
            uri = f"{lake.uri}2013-01.parquet"
            lake.bucket.put(uri.removeprefix(f"s3://{lake.bucket.settings.name}/"), path.read_bytes())
            body = service_stories.job(f"run-{number}", model, lake)
            body["spec"]["data"] = {
                "sources": [{"name": "flights", "uri": uri}],
                "query": QUERY,
                "target": "late",
                "timestamp": "time_hour",
                "keys": ["flight"],
                # Each run reads the same rows again: other data in name only.
                "minimumRows": 1000 + number,
            }
            body["spec"]["estimator"] = {"name": "HistGradientBoostingClassifier", "parameters": {"max_iter": 200}}
            begun = time.monotonic()
            cluster.apply(body, namespace=NAMESPACE)
            until("the version is Ready", lambda: _ready(cluster, f"run-{number}"), 240)  # noqa: B023
            whole = time.monotonic() - begun
            inside = _fit(cluster, f"run-{number}")
            overheads.append(whole - inside)
            print(f"run {number}: {whole:.1f} s from applied to Ready, {inside:.1f} s fitting: {whole - inside:.1f} s overhead")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    median = statistics.median(overheads)
    print(f"median overhead {median:.1f} s, limit {LIMIT:g} s")
    return 0 if median <= LIMIT else 1


def _ready(cluster: Cluster, job: str) -> bool:
    """The job's version exists and is Ready."""
    body = cluster.get("trainingjob", job, NAMESPACE) or {}
    name = body.get("status", {}).get("modelVersionName")
    version = cluster.get("modelversion", name, NAMESPACE) if name else None
    conditions = (version or {}).get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _fit(cluster: Cluster, job: str) -> float:
    """Seconds between the log's lines that begin and end a fit."""
    log = cluster.kubectl("logs", "--namespace", NAMESPACE, f"job/{job}", "--container", "trainer")
    lines = [(float(at), step) for at, step in LINE.findall(log)]
    following = [at for at, _ in lines[1:]] + [lines[-1][0]]
    return sum(end - at for (at, step), end in zip(lines, following, strict=True) if step in ("Fit", "Refit"))


if __name__ == "__main__":
    sys.exit(main())
