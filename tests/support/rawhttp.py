"""A client that shows what really happens on a connection: no retries, no pool, nothing mended.

Standard library only: it also runs by itself in a Pod, `python rawhttp.py HOST PORT PATH BODY`, until /tmp/stop is there.
"""

import json
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

__all__ = ["Answer", "Client", "Load", "ask"]

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection."""

    def __init__(self, port: int, timeout_seconds: float = TIMEOUT_SECONDS, host: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection((host, port), timeout_seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def post(self, path: str, body: bytes, *headers: str) -> Answer:
        """Send one request and read its answer."""
        lines = (f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *headers, "", "")
        self.send("\r\n".join(lines).encode() + body)
        return self.read()

    def read(self) -> Answer:
        """One answer; raises EOFError when the server ends before it."""
        while b"\r\n\r\n" not in self._unread:
            self._more()
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        while len(self._unread) < length:
            self._more()
        body, self._unread = self._unread[:length], self._unread[length:]
        return Answer(int(lines[0].split(" ")[1]), headers, body)

    def ended(self) -> bool:
        """Whether the server has ended the connection and sent nothing more before."""
        return not self._unread and self._socket.recv(1) == b""

    def close(self) -> None:
        """Close."""
        self._socket.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _more(self) -> None:
        part = self._socket.recv(1 << 16)
        if not part:
            raise EOFError(f"the server ended the connection after {self._unread!r}")
        self._unread += part


def ask(port: int, target: str, body: bytes | None = None, *headers: str) -> Answer:
    """One request on a new connection: GET, or POST with a body."""
    with Client(port) as client:
        if body is not None:
            return client.post(target, body, *headers)
        client.send("\r\n".join((f"GET {target} HTTP/1.1", "Host: test", *headers, "", "")).encode())
        return client.read()


@dataclass
class Load:
    """Clients that send the same request until told to stop; half keep their connection, half make one for each request."""

    port: int
    path: str
    body: bytes
    clients: int = 8
    pause_seconds: float = 0.01
    host: str = "127.0.0.1"
    answers: list[Answer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Start all clients."""
        self._threads = [threading.Thread(target=self._run, args=(number % 2 == 0,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop after the answers that are on their way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS)

    def _run(self, keeps: bool) -> None:
        client: Client | None = None
        while not self._stop.wait(self.pause_seconds):
            try:
                client = client or Client(self.port, host=self.host)
                answer = client.post(self.path, self.body)
                self.answers.append(answer)
                if not keeps or answer.headers.get("connection") == "close":
                    client.close()
                    client = None
            except (OSError, EOFError) as problem:
                self.problems.append(f"{'kept' if keeps else 'new'} connection: {problem!r}")
                client = None
        if client:
            client.close()


def main(host: str, port: str, path: str, body: str, clients: str = "8", a_second: str = "100") -> None:
    """Load a server from inside the cluster, and print what came back as one JSON object."""
    load = Load(int(port), path, body.encode(), clients=int(clients), pause_seconds=int(clients) / float(a_second), host=host)
    load.start()
    print("started", flush=True)
    deadline = time.monotonic() + 900
    while not Path("/tmp/stop").exists() and time.monotonic() < deadline:
        threading.Event().wait(0.1)
    load.stop()
    seen: Counter[str] = Counter()
    for answer in load.answers:
        version = json.loads(answer.body).get("model_version", "") if answer.status == 200 else ""
        seen[f"{answer.status} {answer.headers.get('x-model-version', '')} {version}"] += 1
    print(json.dumps({"answers": seen, "problems": load.problems}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
