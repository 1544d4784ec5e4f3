"""One server process each: started, waited for, asked, measured and ended; every one listens on the loopback alone.

Only what this module has started is ever ended, by its process id.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kaizen
from bench.serving.install import REQUIREMENTS, Tools

if TYPE_CHECKING:
    from bench.serving.models import Made

__all__ = ["LOADER_CORES", "BucketThatTakesAll", "Server", "kaizen_full", "kaizen_plain", "kserve", "mlserver", "nginx"]

TOKEN = "the-token-of-the-benchmark"
START_SECONDS = 60.0
END_SECONDS = 10.0
WINDOW_SECONDS = 10
TICKS = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES, LOADER_CORES = set(CORES[:1]), set(CORES[1:] or CORES)
"""A server has a core for itself, and so has who loads it: where both wander, they sometimes share one, which halves a rate."""


@dataclass
class Server:
    """A server of one model; `with` starts and ends it."""

    name: str
    command: Sequence[str | Path]
    port: int
    path: str
    """Where requests are posted."""
    ready_path: str
    directory: Path
    """Of its own files and its log."""
    environment: Mapping[str, str] = field(default_factory=dict)
    authorization: str = ""
    ready_seconds: float = 0.0
    """From the start of the process to the first request that says it is ready."""
    _process: "subprocess.Popen[bytes] | None" = None

    def __enter__(self) -> "Server":
        log = self.directory / "log"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **self.environment}
        began = time.monotonic()
        with log.open("wb") as output:
            words = [str(word) for word in self.command]
            self._process = subprocess.Popen(
                words, cwd=self.directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            os.sched_setaffinity(self._process.pid, SERVER_CORES)
        try:
            while not self._ready():
                if self._process.poll() is not None or time.monotonic() - began > START_SECONDS:
                    said = log.read_text(errors="replace")[-1500:]
                    raise RuntimeError(f"{self.name} does not start; the end of its log:\n{said}")
                threading.Event().wait(0.01)
        except BaseException:
            self.__exit__()
            raise
        self.ready_seconds = time.monotonic() - began
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        children = self._tree()[1:]
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, 9)
        self._process = None

    def ask(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and answer of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": "application/json"}
        if self.authorization:
            headers["Authorization"] = self.authorization
        try:
            connection.request("POST", self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def check(self, made: "Made", rows: int) -> None:
        """Raise RuntimeError unless every body is answered with scikit-learn's labels."""
        bodies = made.bodies[rows].read_bytes().splitlines()
        for body, labels in zip(bodies, made.expected[rows], strict=True):
            status, answer = self.ask(body)
            given = next((one["data"] for one in answer.get("outputs", ()) if one["name"] != "predict_proba"), None)
            flat = [item for one in given or () for item in (one if isinstance(one, list) else [one])]
            if status != 200 or flat != labels:
                raise RuntimeError(
                    f"{self.name} answers {made.name} with {status} {str(answer)[:300]}, scikit-learn with {labels[:5]}"
                )

    def pss_mib(self) -> float:
        """Proportional set size of all its processes."""
        total = 0
        for process in self._tree():
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        return total / 1024

    def cpu_seconds(self) -> float:
        """CPU time of all its processes so far."""
        ticks = 0
        for process in self._tree():
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS

    def _tree(self) -> list[int]:
        """Ids of its processes, its own first."""
        assert self._process is not None
        found = [self._process.pid]
        for process in found:
            with suppress(OSError):
                for task in Path(f"/proc/{process}/task").iterdir():
                    found += [int(child) for child in (task / "children").read_text().split()]
        return found

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self.ready_path)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def kaizen_plain(name: str, made: "Made", model: Path, home: Path) -> Server:
    """`kaizen serve DIR`, as a person starts it in a terminal."""
    port = _free_port()
    command = (sys.executable, "-m", "kaizen", "serve", model, "--port", str(port))
    return _kaizen(name, made, command, port, home, {})


def kaizen_full(name: str, made: "Made", model: Path, home: Path, bucket: "BucketThatTakesAll") -> Server:
    """`kaizen serve` as in a Pod: observations, windows written to a bucket, metrics, tokens, the admin port."""
    port, metrics, admin = _free_port(), _free_port(), _free_port()
    directory = _made(home / name.replace(" ", "-"))
    tokens = _made(directory / "tokens")
    (tokens / "bench").write_text(TOKEN)
    environment = {
        "KAIZEN_MODEL_URI": str(model),
        "KAIZEN_MODEL_VERSION": "1",
        "KAIZEN_SERVICE": "bench",
        "KAIZEN_NAMESPACE": "bench",
        "KAIZEN_WINDOW_SECONDS": str(WINDOW_SECONDS),
        "KAIZEN_HOST": "127.0.0.1",
        "KAIZEN_PORT": str(port),
        "KAIZEN_METRICS_PORT": str(metrics),
        "KAIZEN_ADMIN_PORT": str(admin),
        "KAIZEN_TOKENS_DIRECTORY": str(tokens),
        "KAIZEN_CONNECTIONS": "1000",
        "KAIZEN_WAITING": "500",
        "KAIZEN_BUCKET_NAME": "bench",
        "KAIZEN_BUCKET_ENDPOINT": bucket.url,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
    }
    server = _kaizen(name, made, (sys.executable, "-m", "kaizen", "serve"), port, home, environment)
    server.authorization = f"Bearer {TOKEN}"
    return server


def _kaizen(
    name: str, made: "Made", command: Sequence[str | Path], port: int, home: Path, environment: Mapping[str, str]
) -> Server:
    base = f"/v2/models/{made.name}"
    files = {
        # Compiled once, as in the image, and not into the checkout.
        "PYTHONPATH": str(Path(kaizen.__file__).parent.parent),
        "PYTHONPYCACHEPREFIX": str(home.parent / "pycache"),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    directory = _made(home / name.replace(" ", "-"))
    # /v2/health/ready asks for no token, and says yes only when the model answers.
    return Server(name, command, port, f"{base}/infer", "/v2/health/ready", directory, {**files, **environment})


def mlserver(made: "Made", python: Path, home: Path) -> Server:
    """MLServer with the model in its own process, without debugging and access log."""
    directory = _made(home / "mlserver")
    settings: dict[str, Any] = {
        "name": made.name,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(made.joblib)},
    }
    if made.columns:
        settings["inputs"] = [
            {"name": name, "datatype": kind, "shape": [-1], "parameters": {"content_type": "str" if kind == "BYTES" else "np"}}
            for name, kind in made.columns.items()
        ]
    (directory / "model-settings.json").write_text(json.dumps(settings))
    port = _free_port()
    environment = {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(port),
        "MLSERVER_GRPC_PORT": str(_free_port()),
        "MLSERVER_METRICS_PORT": str(_free_port()),
        "MLSERVER_DEBUG": "false",
        "MLSERVER_PARALLEL_WORKERS": "0",
    }
    base = f"/v2/models/{made.name}"
    command = (python.parent / "mlserver", "start", directory)
    return Server("MLServer", command, port, f"{base}/infer", f"{base}/ready", directory, environment)


def kserve(made: "Made", python: Path, home: Path) -> Server:
    """KServe's model server with a model class as its own sklearnserver has one."""
    port = _free_port()
    base = f"/v2/models/{made.name}"
    command = (python, REQUIREMENTS / "kserve_server.py", made.name, made.joblib, str(port))
    return Server("KServe", command, port, f"{base}/infer", f"{base}/ready", _made(home / "kserve"))


def nginx(answer: bytes, tools: Tools, home: Path) -> Server:
    """nginx with one worker and a static answer of the same size: where the machine ends."""
    directory, port = _made(home / "nginx"), _free_port()
    (directory / "nginx.conf").write_text(
        f"""daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/errors;
        events {{ worker_connections 4096; }}
        http {{
          access_log off; keepalive_requests 1000000000; default_type application/json;
          {"".join(f"{kind}_temp_path {directory}/temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))}
          server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{answer.decode()}'; }} }}
        }}"""
    )
    command = (tools.nginx, "-p", directory, "-c", directory / "nginx.conf")
    return Server("nginx", command, port, "/infer", "/", directory, tools.environment)


class BucketThatTakesAll:
    """An object store that says yes to everything and keeps nothing, for the windows; `with` starts and ends it."""

    def __init__(self) -> None:
        self.written = 0
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                if self.headers.get("Expect"):
                    self.send_response_only(100)
                    self.end_headers()
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                bucket.written += 1
                self.send_response(200)
                self.send_header("ETag", '"bench"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "BucketThatTakesAll":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
