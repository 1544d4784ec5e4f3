"""`kaizen serve` as in a Pod, with everything on: tokens, windows, labels and captured rows to real S3, gRPC, metrics."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kaizen.registry.embedded import ensure_bucket
from kaizen.registry.policy import as_document, owner_statements, single_tenant_policy
from kaizen.registry.store import Bucket
from tests.e2e.local_s3 import OPERATOR, TENANT, s3_server
from tests.soak.problems import Problem
from tests.soak.targets import AUTHORIZATION, TOKEN, Right, complete, questions, right
from tests.support.models import MODEL, MadeModel
from tests.support.ports import free_ports
from tests.support.rawhttp import ask
from tests.support.sockets import memory_bytes
from tests.support.wait import until

__all__ = ["Pod", "bucket_environment", "pod", "rights"]

ROOT = Path(__file__).parents[2]
BUCKET, PREFIX = "soak", "here"
ROWS = (1, 3, 32, 100, 100)
"""Of the requests: large enough for a client in Python to ask for twice as much as the server can do."""
HEADER = AUTHORIZATION.decode()
NEVER = ("Traceback", " broke", "exc_info", "never retrieved")
"""What no log has."""


@dataclass
class Pod:
    """A server."""

    process: "subprocess.Popen[bytes]"
    port: int
    metrics_port: int
    admin_port: int
    grpc_port: int
    output: Path

    def log(self) -> str:
        """What it has written."""
        return self.output.read_text(errors="replace")

    def check_log(self) -> None:
        """Raises Problem when something broke."""
        for line in self.log().splitlines():
            if any(word in line for word in NEVER):
                raise Problem(f"the log says: {line[:3000]}")

    def workers(self) -> list[int]:
        """The processes that it has started."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def memory(self) -> int:
        """Of all its processes."""
        found = memory_bytes(self.process.pid)
        for worker in self.workers():
            try:
                found += memory_bytes(worker)
            except OSError:  # it has just ended
                continue
        return found

    def peak(self) -> int:
        """The most that the first process ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        text = ask(self.metrics_port, "/metrics").body.decode()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)

    def end(self, seconds: float = 40.0) -> None:
        """Ask it to end; raises Problem when it does not, or not well."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Problem(f"the server did not end within {seconds:g} s of SIGTERM") from None
        if code:
            raise Problem(f"the server ended with {code}: {self.log()[-2000:]}")
        self.check_log()


@contextmanager
def bucket_environment(made: MadeModel, directory: Path) -> Iterator[dict[str, str]]:
    """The environment of a Pod whose model is at hand and whose bucket is real."""
    with s3_server(directory) as server:
        statements = [*owner_statements(BUCKET, OPERATOR.access_key), *single_tenant_policy(BUCKET, PREFIX, TENANT.access_key)]
        ensure_bucket(Bucket(server.settings(OPERATOR, BUCKET, PREFIX)), as_document(statements))
        yield {
            "KAIZEN_MODEL_URI": str(made.directory),
            "KAIZEN_MODEL_NAME": MODEL,
            "KAIZEN_MODEL_VERSION": "7",
            "KAIZEN_SERVICE": "soak",
            "KAIZEN_NAMESPACE": "flights",
            "KAIZEN_POD_UID": "pod",
            "KAIZEN_HOST": "127.0.0.1",
            "KAIZEN_WINDOW_SECONDS": "10",
            "KAIZEN_CAPTURE_SHARE": "0.05",
            "KAIZEN_CAPTURE_HASH": json.dumps(["flight"]),
            "KAIZEN_DRAIN_SECONDS": "1",
            "KAIZEN_CORS_ORIGINS": "https://a.example",
            "KAIZEN_BUCKET_NAME": BUCKET,
            "KAIZEN_BUCKET_PREFIX": PREFIX,
            "KAIZEN_BUCKET_ENDPOINT": server.url,
            "AWS_ACCESS_KEY_ID": TENANT.access_key,
            "AWS_SECRET_ACCESS_KEY": TENANT.secret_key,
        }


@contextmanager
def pod(environment: dict[str, str], directory: Path, workers: int = 1) -> Iterator[Pod]:
    """A server that is ready; its files go into an empty directory."""
    tokens, output = directory / "tokens", directory / "output"
    tokens.mkdir(parents=True)
    (tokens / "shop").write_text(TOKEN)
    ports = free_ports(4)
    names = ("KAIZEN_PORT", "KAIZEN_METRICS_PORT", "KAIZEN_ADMIN_PORT", "KAIZEN_GRPC_PORT")
    own = {"KAIZEN_TOKENS_DIRECTORY": str(tokens), "KAIZEN_WORKERS": str(workers), "PYTHONPATH": str(ROOT / "operator")}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("KAIZEN_", "AWS_"))}
    with output.open("wb") as sink:
        process = subprocess.Popen(
            (sys.executable, "-m", "kaizen", "serve"),
            env={**inherited, **environment, **own, **dict(zip(names, map(str, ports), strict=True))},
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    found = Pod(process, ports[0], ports[1], ports[2], ports[3], output)
    try:
        until("the server is ready", lambda: _ready(found), 30, found.log)
        yield found
    finally:
        process.kill()
        process.wait()


def rights(made: MadeModel, server: Pod) -> list[Right]:
    """Requests with their right answers, from a server that is not busy."""
    found = []
    for part, sent in questions(complete(300), AUTHORIZATION, rows=ROWS):
        head, _, body = sent.partition(b"\r\n\r\n")
        target = head.split(b" ")[1].decode()
        answer = ask(server.port, target, body, HEADER)
        if answer.status != 200:
            raise Problem(f"a good request is answered {answer}")
        found.append(right(made, part, sent, answer.body))
    return found


def _ready(server: Pod) -> bool:
    if server.process.poll() is not None:
        raise Problem(f"the server ended: {server.log()}")
    try:
        return ask(server.port, "/v2/health/ready").status == 200
    except (OSError, EOFError):
        return False
