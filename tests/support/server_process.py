"""The server as processes of its own, for tests: started, asked, watched, and ended whatever happens."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.ports import free_ports
from tests.support.rawhttp import ask
from tests.support.wait import until

__all__ = ["ServerProcess", "server_process"]

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
from pathlib import Path
from kaizen.serving.processes.server import serve
from kaizen.serving.settings import Settings
{before}
options = json.loads(sys.argv[1])
for name in ("tokens_directory", "tls_directory"):
    if name in options:
        options[name] = Path(options[name])
sys.exit(serve(Settings(**options), lambda model: print("ready", flush=True)))
"""


@dataclass
class ServerProcess:
    """A server that was started."""

    process: "subprocess.Popen[str]"
    port: int
    metrics_port: int
    admin_port: int
    lines: list[str] = field(default_factory=list)

    def log(self) -> str:
        """What it has written."""
        return "".join(self.lines)

    def workers(self) -> list[int]:
        """The processes that it has started."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        text = ask(self.metrics_port, "/metrics").body.decode()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)

    def observations(self) -> dict[str, Any]:
        """What GET /observations tells."""
        found: dict[str, Any] = json.loads(ask(self.admin_port, "/observations").body)
        return found


@contextmanager
def server_process(model: Path, *, before: str = "", ready: bool = True, **options: Any) -> Iterator[ServerProcess]:
    """A server with these settings; `before` is code that its process runs first."""
    port, metrics_port, admin_port = free_ports(3)
    settings = {"model": str(model), "host": "127.0.0.1", "port": port, "metrics_port": metrics_port, "admin_port": admin_port}
    process = subprocess.Popen(
        (sys.executable, "-c", PROGRAM.format(before=before), json.dumps({"drain_seconds": 0, **settings, **options})),
        env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = ServerProcess(process, port, metrics_port, admin_port)
    reader = threading.Thread(target=lambda: server.lines.extend(process.stdout or ()))
    reader.start()
    try:
        if ready:
            until("the server is ready", lambda: "ready\n" in server.lines or process.poll() is not None, 20, server.log)
        yield server
    finally:
        process.kill()
        process.wait()
        reader.join(5)
        if process.stdout:
            process.stdout.close()
