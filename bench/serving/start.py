"""Process start to first answer, for models of 1 MB, 100 MB and 1 GB: from a directory, and from a real S3 server.

    PYTHONPATH=operator:. .venv/bin/python bench/serving/start.py [--largest MB] [--runs N]

The models are random forests of as many trees as the size takes, each file as a training run writes it.  The S3 server
(versitygw) runs beside on the loopback and takes its share of the same cores.
"""

import argparse
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from kaizen.registry import files
from kaizen.registry.embedded import ensure_bucket
from kaizen.registry.policy import as_document, owner_statements
from kaizen.registry.store import Bucket
from kaizen.serving.engine import compile as engine_compile
from kaizen.serving.engine import runtime
from tests.e2e.local_s3 import OPERATOR, LocalS3, s3_server
from tests.support.models import flights, seal
from tests.support.ports import free_ports
from tests.support.rawhttp import ask

SIZES_MB = (1, 100, 1000)
COLUMNS = ["distance", "temp", "hour"]
BUCKET = "start"
ROOT = Path(__file__).parents[2]


def make(directory: Path, megabytes: int) -> None:
    """A model directory of about this size."""
    rows = min(200_000, 4_000 * megabytes)
    frame = flights(rows)[COLUMNS].astype(float)
    labels = np.random.default_rng(1).random(rows) < 0.5  # nothing to learn: trees grow to single rows
    forest = RandomForestClassifier(n_estimators=1, random_state=0)
    fitted = make_pipeline(SimpleImputer(), forest).fit(frame, labels)
    size = save(fitted, frame, directory)
    forest.n_estimators = max(1, math.ceil(megabytes * 1e6 / size))
    forest.estimators_ = forest.estimators_ * forest.n_estimators
    save(fitted, frame, directory)
    some = frame.head(8)
    examples = {
        "format": 1,
        "rows": len(some),
        "columns": {name: [None if math.isnan(value) else value for value in some[name]] for name in COLUMNS},
        "predict": fitted.predict(some).tolist(),
        "probabilities": fitted.predict_proba(some).tolist(),
    }
    (directory / "examples.json").write_text(json.dumps(examples))
    seal(directory)


def save(fitted: Any, frame: Any, directory: Path) -> int:
    """Write the compiled form; its bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    compiled = engine_compile.compile_pipeline(fitted, frame, keys=(), timestamp=None)
    assert isinstance(compiled, engine_compile.Compiled), compiled
    engine_compile.save(compiled, directory)
    return sum(path.stat().st_size for path in directory.iterdir())


@contextmanager
def started(environment: Mapping[str, str]) -> Iterator[tuple[float, float]]:
    """A server: seconds until it is ready, and its proportional set size in MiB."""
    (port,) = free_ports(1)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("KAIZEN_", "AWS_"))}
    own = {"KAIZEN_HOST": "127.0.0.1", "KAIZEN_PORT": str(port), "KAIZEN_METRICS_PORT": "0", "KAIZEN_ADMIN_PORT": "0"}
    own |= {"KAIZEN_DRAIN_SECONDS": "0", "PYTHONPATH": str(ROOT / "operator"), "KAIZEN_LOG_LEVEL": "error"}
    began = time.monotonic()
    process = subprocess.Popen((sys.executable, "-m", "kaizen", "serve"), env={**inherited, **own, **environment})
    try:
        while not answers(port):
            if process.poll() is not None or time.monotonic() > began + 120:
                raise SystemExit("the server did not become ready")
        seconds = time.monotonic() - began
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        yield seconds, next(int(line.split()[1]) / 1024 for line in rollup if line.startswith("Pss:"))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def answers(port: int) -> bool:
    """Whether the server is ready; takes its time."""
    try:
        if ask(port, "/v2/health/ready").status == 200:
            return True
    except (OSError, EOFError):
        pass
    time.sleep(0.005)  # noqa: TID251 -- a figure, not a test
    return False


def in_bucket(server: LocalS3, directory: Path, prefix: str) -> dict[str, str]:
    """Put a model into the bucket; the environment of a server that fetches it."""
    bucket = Bucket(server.settings(OPERATOR, BUCKET))
    for path in directory.iterdir():
        files.upload(bucket, path, f"{prefix}/{path.name}")
    return {
        "KAIZEN_MODEL_URI": f"s3://{BUCKET}/{prefix}",
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": OPERATOR.access_key,
        "AWS_SECRET_ACCESS_KEY": OPERATOR.secret_key,
    }


def measure(environment: Mapping[str, str], runs: int) -> tuple[float, float]:
    """The best time to readiness, and the memory."""
    found = []
    for _ in range(runs):
        with started(environment) as figures:
            found.append(figures)
    return min(seconds for seconds, _ in found), max(mib for _, mib in found)


def parts(directory: Path) -> tuple[float, float]:
    """Seconds for all digests one after the other, and for the engine."""
    began = time.monotonic()
    for path in directory.iterdir():
        with path.open("rb") as opened:
            hashlib.file_digest(opened, "sha256")
    hashed = time.monotonic()
    runtime.load(directory)
    return hashed - began, time.monotonic() - hashed


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=SIZES_MB[-1], help="leave out larger models (MB)")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print("| model | from a directory | from S3 | sha256 alone | Treelite alone | memory |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        (home / "s3").mkdir()
        with s3_server(home / "s3") as server:
            ensure_bucket(Bucket(server.settings(OPERATOR, BUCKET)), as_document(owner_statements(BUCKET, OPERATOR.access_key)))
            for megabytes in (size for size in SIZES_MB if size <= options.largest):
                directory = home / str(megabytes)
                make(directory, megabytes)
                size = sum(path.stat().st_size for path in directory.iterdir()) / 1e6
                near, mib = measure({"KAIZEN_MODEL_URI": str(directory)}, options.runs)
                far, most = measure(in_bucket(server, directory, str(megabytes)), options.runs)
                hashed, loaded = parts(directory)
                figures = f"{near:.2f} s | {far:.2f} s | {hashed:.2f} s | {loaded:.2f} s | {max(mib, most):.0f} MiB"
                print(f"| {size:.0f} MB | {figures} |", flush=True)


if __name__ == "__main__":
    main()
