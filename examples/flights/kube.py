"""The demo's hands: kubectl, ports that stay forwarded, and Kaizen's bucket."""

import base64
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from kaizen.registry.settings import BucketSettings
from kaizen.registry.store import Bucket

SYSTEM = "kaizen-system"
BUCKET = "kaizen"
POLL_SECONDS = 1.0
Found = TypeVar("Found")


class Stop(Exception):
    """The demo cannot go on; the text is what its user reads."""


def kubectl(*words: str, stdin: str | None = None, seconds: float = 60) -> str:
    """What kubectl prints.  Raises Stop with its words when it fails."""
    try:
        done = subprocess.run(
            ["kubectl", *words], input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )  # fmt: skip
    except FileNotFoundError:
        raise Stop("kubectl is not on the PATH: export PATH=~/.cache/kaizen/bin:$PATH") from None
    except subprocess.TimeoutExpired:
        raise Stop(f"kubectl {' '.join(words[:3])} did not answer within {seconds:.0f} s") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Stop(f"kubectl {' '.join(words[:3])}: {said[-1]}")
    return done.stdout


def objects(kinds: str, namespace: str) -> list[dict[str, Any]]:
    """All objects of some kinds in a namespace."""
    found: list[dict[str, Any]] = json.loads(kubectl("get", kinds, "--namespace", namespace, "--output", "json"))["items"]
    return found


def wait_for(what: str, look: Callable[[], Found | None], seconds: float, advice: str) -> Found:
    """Look once a second until something is found.  Raises Stop at the deadline, with what to look at."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise Stop(f"{what} did not happen within {seconds:.0f} s.\n{advice}")
        pause(POLL_SECONDS)


def pause(seconds: float) -> None:
    """Wait a moment."""
    if seconds > 0:
        time.sleep(seconds)  # noqa: TID251 -- wait_for has the deadline, and a replay is a matter of time


class Forward:
    """A port of this machine that leads to a Service: to one of its Pods at a time, until that is gone or `again` is called."""

    def __init__(self, target: str, port: int, namespace: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        self._command = ["kubectl", "port-forward", target, f"{self._port}:{port}", "--namespace", namespace]
        self._process: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> "Forward":
        self._thread.start()
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._end()
        self._thread.join()

    def again(self) -> None:
        """Let go of the Pod, and take one that the Service selects now."""
        self._end()
        self._wait()

    def _keep(self) -> None:
        while not self._over.is_set():
            # A session of its own: Ctrl-C is for the demo, which then ends this.
            process = subprocess.Popen(
                self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )  # fmt: skip
            self._process = process
            if self._over.is_set():
                process.terminate()
            process.wait()
            self._over.wait(0.2)

    def _end(self) -> None:
        process = self._process
        if process is not None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            process.wait()

    def _wait(self) -> None:
        def open_() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return True
            return False

        pause(0.3)
        command = " ".join(self._command)
        wait_for("A forwarded port", open_, 30, f"Try it yourself: {command}")


def bucket(endpoint: str) -> Bucket:
    """Kaizen's bucket on its embedded server, as the operator."""
    try:
        secret = json.loads(kubectl("get", "secret", "kaizen-s3", "--namespace", SYSTEM, "--output", "json"))
    except Stop as problem:
        raise Stop(f"The demo uses the embedded S3 server, which this installation does not have: {problem}") from None
    keys = {name: base64.b64decode(secret["data"][f"AWS_{name}"]).decode() for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")}
    settings = BucketSettings(endpoint, BUCKET, access_key=keys["ACCESS_KEY_ID"], secret_key=keys["SECRET_ACCESS_KEY"])
    return Bucket(settings)


def delete(bucket: Bucket, keys: Iterable[str]) -> None:
    """Delete objects; the registry itself never does, so Bucket has no word for it."""
    for key in keys:
        bucket.call(partial(_delete, bucket.settings.name, bucket.settings.key(key)), key)


def _delete(name: str, key: str, client: Any) -> None:
    client.delete_object(Bucket=name, Key=key)


def operator_memory() -> tuple[int, int]:
    """Peak and present resident memory of the operator's process, in bytes."""
    script = "print(open('/proc/1/status').read())"
    text = kubectl("exec", "deployment/kaizen-operator", "--namespace", SYSTEM, "--", "python", "-c", script)
    sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(("VmHWM", "VmRSS"))}
    return sizes["VmHWM"], sizes["VmRSS"]
