"""The server as its own process, with real model directories and the real S3 server.  Needs no cluster."""

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kaizen.monitoring import windows
from kaizen.registry.embedded import ensure_bucket
from kaizen.registry.policy import as_document, owner_statements, single_tenant_policy
from kaizen.registry.store import Bucket
from tests.e2e.local_s3 import OPERATOR, TENANT, LocalS3, running_s3  # noqa: F401 -- the fixture local_s3
from tests.support.models import ESTIMATORS, MadeModel, flights, make_model, tamper
from tests.support.ports import free_ports
from tests.support.rawhttp import Client, Load, ask
from tests.support.wait import until

ROOT = Path(__file__).parents[2]
INFER = "/v2/models/flight-delay/infer"
READY = "/v2/models/flight-delay/ready"
VERSION = "registry/flights/flight-delay/versions/7"
BUCKET = "serving"
PREFIX = "here"
START_SECONDS = 1.5
MOST_MIB = 90.0
TOKEN = "admin-token"


@dataclass
class Server:
    """A running `kaizen serve`."""

    process: "subprocess.Popen[str]"
    port: int
    metrics_port: int
    admin_port: int
    lines: list[str] = field(default_factory=list)
    start_seconds: float = 0.0

    def log(self) -> str:
        return "".join(self.lines)

    def end(self, number: int = signal.SIGTERM, seconds: float = 30.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def pss_mib(self) -> float:
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith("Pss:"))

    def metric(self, name: str) -> float:
        text = ask(self.metrics_port, "/metrics").body.decode()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)

    def observations(self) -> dict[str, Any]:
        answer = ask(self.admin_port, "/observations", None, f"Authorization: Bearer {TOKEN}")
        assert answer.status == 200
        found: dict[str, Any] = json.loads(answer.body)
        return found


@contextmanager
def started(*arguments: str, environment: Mapping[str, str] | None = None, ready: bool = True) -> Iterator[Server]:
    """`kaizen serve` with these arguments, or as a Pod with this environment."""
    ports = free_ports(3)
    named = dict(zip(("KAIZEN_PORT", "KAIZEN_METRICS_PORT", "KAIZEN_ADMIN_PORT"), map(str, ports), strict=True))
    more = [] if environment is not None else ["--port", str(ports[0]), "--metrics-port", str(ports[1])]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("KAIZEN_", "AWS_"))}
    began = time.monotonic()
    process = subprocess.Popen(
        (sys.executable, "-m", "kaizen", "serve", *arguments, *more),
        env={**inherited, **named, **(environment or {}), "PYTHONPATH": str(ROOT / "operator")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = Server(process, ports[0], ports[1], ports[2])
    reader = threading.Thread(target=lambda: server.lines.extend(process.stdout or ()))
    reader.start()
    try:
        if ready:
            wait_ready(server)
            server.start_seconds = time.monotonic() - began
        yield server
    finally:
        process.kill()
        process.wait()
        reader.join()
        if process.stdout:
            process.stdout.close()


def wait_ready(server: Server) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if ask(server.port, READY).status == 200:
                return
        except (OSError, EOFError):
            pass
        threading.Event().wait(0.01)
    pytest.fail(f"the server did not become ready:\n{server.log()}")


@pytest.fixture(scope="module", name="models")
def made_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, MadeModel]:
    directory = tmp_path_factory.mktemp("models")
    return {name: make_model(directory / name, name) for name in ESTIMATORS}


@pytest.fixture(scope="module")
def served(models: dict[str, MadeModel]) -> Iterator[Server]:
    """One server for the tests that leave it as it was."""
    with started(str(models["boosting"].directory)) as server:
        yield server
        assert server.end(signal.SIGINT) == 0, server.log()


@pytest.fixture(scope="module", name="pod")
def pod_environment(local_s3: LocalS3, models: dict[str, MadeModel], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Pod whose model is in the bucket, and which may do what a workload identity may."""
    owner = Bucket(local_s3.settings(OPERATOR, BUCKET, PREFIX))
    statements = [*owner_statements(BUCKET, OPERATOR.access_key), *single_tenant_policy(BUCKET, PREFIX, TENANT.access_key)]
    ensure_bucket(owner, as_document(statements))
    upload(owner, models["boosting"].directory, VERSION)
    token = tmp_path_factory.mktemp("admin") / "token"
    token.write_text(TOKEN)
    return {
        "KAIZEN_MODEL_URI": f"s3://{BUCKET}/{PREFIX}/{VERSION}",
        "KAIZEN_MODEL_DIGEST": models["boosting"].digest,
        "KAIZEN_MODEL_NAME": "flight-delay",
        "KAIZEN_MODEL_VERSION": "7",
        "KAIZEN_SERVICE": "flight-delay",
        "KAIZEN_NAMESPACE": "flights",
        "KAIZEN_POD_UID": "pod",
        "KAIZEN_HOST": "127.0.0.1",
        "KAIZEN_WINDOW_SECONDS": "2",
        "KAIZEN_DRAIN_SECONDS": "2",
        "KAIZEN_ADMIN_TOKEN_FILE": str(token),
        "KAIZEN_BUCKET_NAME": BUCKET,
        "KAIZEN_BUCKET_PREFIX": PREFIX,
        "KAIZEN_BUCKET_ENDPOINT": local_s3.url,
        "AWS_ACCESS_KEY_ID": TENANT.access_key,
        "AWS_SECRET_ACCESS_KEY": TENANT.secret_key,
    }


def upload(bucket: Bucket, directory: Path, prefix: str) -> None:
    for path in sorted(directory.iterdir()):
        bucket.put(f"{prefix}/{path.name}", path.read_bytes())


def hostile(frame: pd.DataFrame) -> pd.DataFrame:
    """Every column missing in turn, an unseen category, and numbers one step beside those of training."""
    rows = [frame.head(1).assign(**{name: None}) for name in frame.columns if name != "hour"]
    rows.append(frame.head(1).assign(carrier="ZZ"))
    for name in ("distance", "temp"):
        rows += [frame.head(20).assign(**{name: np.nextafter(frame[name].head(20), towards)}) for towards in (-np.inf, np.inf)]
        rows.append(frame.head(2).assign(**{name: [1e30, -1e30]}))
    return pd.concat([frame, *rows], ignore_index=True).astype({"distance": float, "temp": float})


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_answers_are_scikit_learns(models: dict[str, MadeModel], estimator: str) -> None:
    made = models[estimator]
    frame = hostile(flights(700, seed=3).drop(columns="late"))
    labels, probabilities = made.expected(frame)
    with started(str(made.directory)) as server:
        whole = ask(server.port, INFER, made.request(frame))
        assert (whole.status, whole.headers["x-model-digest"]) == (200, made.digest), whole
        outputs = {output["name"]: output["data"] for output in json.loads(whole.body)["outputs"]}
        with Client(server.port) as client:
            rows = [json.loads(client.post(INFER, made.request(frame.iloc[[row]])).body) for row in range(-150, 0)]
    alone = [output["outputs"][0]["data"][0] for output in rows]
    if probabilities is None:
        assert outputs["predict"] == pytest.approx(labels, rel=1e-12)
        assert alone == pytest.approx(labels[-150:], rel=1e-12)
    else:
        assert outputs["predict"] == labels
        assert alone == labels[-150:]
        assert np.abs(np.array(outputs["predict_proba"]) - probabilities).max() <= 1e-12


def test_start_and_memory(pod: dict[str, str]) -> None:
    """With everything on: model from the bucket, windows to it, three ports."""
    seconds: list[float] = []
    mib = 0.0
    for _ in range(10):  # the machine may have other things to do at any one
        if len(seconds) >= 3 and min(seconds) < START_SECONDS:
            break
        with started(environment=pod) as server:
            seconds.append(server.start_seconds)
            mib = max(mib, server.pss_mib())
    print(f"\nserver process start → ready {min(seconds):.2f} to {max(seconds):.2f} s, {mib:.1f} MiB")
    assert min(seconds) < START_SECONDS
    assert mib < MOST_MIB


def one(**changed: Any) -> bytes:
    """A request with one input."""
    return json.dumps({"inputs": [{"name": "temp", "shape": [1], "datatype": "FP64", "data": [1], **changed}]}).encode()


BAD = {
    # what: (request, what the sentence says)
    "a bare NaN": (one(data=[float("nan")]), 'input "temp": row 0: the token NaN is not JSON; send null'),
    "a wrong name": (one(name="tmp"), 'there is no input "tmp"; the model takes carrier (BYTES), distance'),
    "a wrong shape": (one(shape=[2]), 'input "temp" has shape [2], but its data hold 1 values; send shape [1]'),
    "a wrong type": (one(datatype="BYTES", data=["1"]), 'input "temp" is "BYTES"; send FP64'),
    "a wrong value": (one(data=["1"]), 'input "temp": row 0: expected `float | null`, got `str`; send FP64 values'),
    "one of four": (one(), 'input "carrier" is missing, and 2 more; send it as BYTES with shape [1], null where one is missing'),
    "broken JSON": (b'{"inputs":[', "the body is not JSON"),
    "deep JSON": (b'{"inputs":' + b"[" * 1_000_000, "the request does not fit at inputs[0]"),
    "no JSON": (os.urandom(1000), ""),
}


@pytest.mark.parametrize(("sent", "says"), BAD.values(), ids=BAD)
def test_bad_requests(served: Server, sent: bytes, says: str) -> None:
    with Client(served.port) as client:
        for _ in range(2):  # and the connection goes on
            answer = client.post(INFER, sent)
            assert answer.status == 400
            assert says in json.loads(answer.body)["error"]


def test_a_gigabyte_is_refused_at_once(served: Server) -> None:
    began = time.monotonic()
    with Client(served.port) as client:
        client.send(b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n" % INFER.encode())
        answer = client.read()
        assert client.ended()
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert "send fewer rows at a time" in json.loads(answer.body)["error"]
    # Also by a client that goes on sending: no reset takes the answer away.
    with Client(served.port) as client:
        client.send(b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % INFER.encode())
        for _ in range(12):
            client.send(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
        assert client.read().status == 413
    assert time.monotonic() - began < 2
    assert served.pss_mib() < MOST_MIB


def test_a_slow_client_is_cut_off_and_keeps_nobody_waiting(served: Server, models: dict[str, MadeModel]) -> None:
    slow, idle = Client(served.port), Client(served.port)
    stop = threading.Event()

    def drip() -> None:
        for byte in b"POST /v2/models/flight-delay/infer HTTP/1.1\r\n" + b"X-Header: value\r\n" * 10:
            if stop.wait(0.2):
                return
            try:
                slow.send(bytes((byte,)))
            except OSError:
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    body = models["boosting"].request(flights(1))
    slowest = 0.0

    def answered() -> bool:
        nonlocal slowest
        began = time.monotonic()
        assert ask(served.port, INFER, body).status == 200
        slowest = max(slowest, time.monotonic() - began)
        return served.metric("rest_server_requests_total") > 0 and '"408"' in ask(served.metrics_port, "/metrics").body.decode()

    until("the slow client is cut off", answered, 15)
    stop.set()
    answer = slow.read()
    dripping.join()
    assert (answer.status, json.loads(answer.body)["error"]) == (408, "the request's headers did not arrive within 10 s")
    assert slowest < 5
    idle.send(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
    assert idle.read().status == 200, "a client that has sent nothing may wait longer"
    slow.close()
    idle.close()


def test_a_large_request_lets_others_pass(served: Server, models: dict[str, MadeModel]) -> None:
    made = models["boosting"]
    large, small = made.request(flights(60_000, seed=5)), made.request(flights(1))
    with Client(served.port) as client, Client(served.port) as other:
        client.send(f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(large)}\r\n\r\n".encode() + large)
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            assert other.post(INFER, small).status == 200
            slowest = max(slowest, time.monotonic() - began)
        answer = client.read()
    assert answer.status == 200
    assert json.loads(answer.body)["outputs"][0]["shape"] == [60_000]
    assert slowest < 0.7


@pytest.mark.parametrize("workers", [1, 2])
def test_stopping_loses_no_request_and_no_row(
    pod: dict[str, str], local_s3: LocalS3, models: dict[str, MadeModel], workers: int
) -> None:
    body = models["boosting"].request(flights(3))
    place = Bucket(local_s3.settings(TENANT, BUCKET, PREFIX))
    before = {entry.key for entry in place.list("workloads/flights/windows/")}
    with started(environment=pod | {"KAIZEN_WORKERS": str(workers), "KAIZEN_DRAIN_SECONDS": "6"}) as server:
        load = Load(server.port, INFER, body)
        load.start()
        until("some windows are written", lambda: len(server.observations()["written"]) >= 2, 20)
        slow = Client(server.port)
        head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        slow.send(head + body[:50])
        server.process.send_signal(signal.SIGTERM)
        until("it says that it is not ready", lambda: ask(server.port, READY).status == 503, 3)
        pause(1.2)  # routes to a Pod disappear after its signal
        load.stop()
        until("the port is closed", lambda: refused(server.port), 15)
        slow.send(body[50:])
        late = slow.read()
        slow.close()
        assert server.process.wait(15) == 0, server.log()
    assert (late.status, late.headers["connection"]) == (200, "close")
    assert load.problems == []
    assert len(load.answers) > 100
    assert {answer.status for answer in load.answers} == {200}
    assert {answer.headers["x-model-version"] for answer in load.answers} == {"7"}
    assert "close" in {answer.headers.get("connection") for answer in load.answers}
    written = [
        windows.from_json(place.read(entry.key)[0])
        for entry in place.list("workloads/flights/windows/")
        if entry.key not in before
    ]
    assert windows.merge(written).rows == 3 * (len(load.answers) + 1)
    assert all(window.rows for window in written)
    assert len({(window.start, window.source) for window in written}) == len(written) > 2
    sources = {window.source for window in written}
    assert len(sources) == workers
    assert all(source.startswith("pod-") for source in sources)


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def refused(port: int) -> bool:
    try:
        Client(port, 1.0).close()
    except OSError:
        return True
    return False


def test_the_admin_port_tells_which_windows_are_written(pod: dict[str, str], models: dict[str, MadeModel]) -> None:
    with started(environment=pod) as server:
        assert ask(server.admin_port, "/observations").status == 401
        first = server.observations()
        assert (first["service"], first["version"], first["written"]) == ("flight-delay", 7, [])
        assert ask(server.port, INFER, models["boosting"].request(flights(5))).status == 200
        told = until("the window is written", lambda: server.observations()["written"], 10)
        assert [one["rows"] for one in told] == [5]
        assert told[0]["key"].startswith("windows/flight-delay/")
        assert server.metric("kaizen_server_windows_written_total") == 1
        pause(2.5)
        assert len(server.observations()["written"]) == 1, "no empty windows"


def test_a_killed_workers_window_is_written_by_its_successor(
    pod: dict[str, str], local_s3: LocalS3, models: dict[str, MadeModel]
) -> None:
    place = Bucket(local_s3.settings(TENANT, BUCKET, PREFIX))
    service = {"KAIZEN_SERVICE": "killed", "KAIZEN_WORKERS": "2", "KAIZEN_WINDOW_SECONDS": "604800"}
    body = models["boosting"].request(flights(5))
    with started(environment=pod | service) as server:
        for _ in range(20):
            assert ask(server.port, INFER, body).status == 200
        until("all is counted", lambda: server.observations()["current"]["rows"] == 100, 5)
        pid = server.process.pid
        for victim in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(victim), signal.SIGKILL)
        told = until("both windows are written", lambda: two_of(server.observations()["written"]), 15)
        assert server.metric("kaizen_server_worker_restarts_total") == 2
        until("it is counted", lambda: server.metric("kaizen_server_windows_written_total") == 2, 5)
        assert ask(server.port, INFER, body).status == 200
        assert server.end() == 0
    written = [windows.from_json(place.read(entry.key)[0]) for entry in place.list("workloads/flights/windows/killed/")]
    assert sorted(window.rows for window in written) == sorted([*(one["rows"] for one in told), 5])
    assert windows.merge(written).rows == 105


def two_of(told: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    return told if len(told) == 2 else None


@pytest.mark.parametrize("workers", [1, 2])
def test_labels_come_into_the_bucket(pod: dict[str, str], local_s3: LocalS3, models: dict[str, MadeModel], workers: int) -> None:
    place = Bucket(local_s3.settings(TENANT, BUCKET, PREFIX))
    service = {"KAIZEN_SERVICE": f"labelled-{workers}", "KAIZEN_WORKERS": str(workers), "KAIZEN_DRAIN_SECONDS": "0"}
    with started(environment=pod | service) as server:
        for number in range(6):
            labels = json.dumps({"labels": [{"id": f"r{number}-{row}", "label": True} for row in range(3)]}).encode()
            assert ask(server.port, "/v2/models/flight-delay/feedback", labels).status == 202
        until("they are written", lambda: server.metric("kaizen_server_labels_written_total") == 18, 15)
        assert ask(server.port, "/v2/models/flight-delay/feedback", labels).status == 202
        assert server.end() == 0, "and what is left at the end"
    files = [place.get(entry.key)[0] for entry in place.list(f"workloads/flights/labels/labelled-{workers}/")]
    lines = [json.loads(line) for file in files for line in gzip.decompress(file).splitlines()]
    assert sorted({line["id"] for line in lines}) == [f"r{number}-{row}" for number in range(6) for row in range(3)]
    assert len(lines) == 21
    assert all(line["label"] is True for line in lines)


def test_windows_wait_for_a_bucket_that_is_away(pod: dict[str, str], models: dict[str, MadeModel]) -> None:
    """The model is at hand and the bucket is not: requests are answered all the same, and the end is not held up for long."""
    away = {
        "KAIZEN_MODEL_URI": str(models["boosting"].directory),
        "KAIZEN_BUCKET_ENDPOINT": "http://127.0.0.1:9",
        "KAIZEN_DRAIN_SECONDS": "0",
    }
    with started(environment=pod | away) as server:
        assert ask(server.port, INFER, models["boosting"].request(flights(5))).status == 200
        until("a window waits", lambda: server.observations()["unwritten"], 10)
        assert ask(server.port, INFER, models["boosting"].request(flights(5))).status == 200
        assert server.end(seconds=25) == 0
    assert "is not written yet: bucket serving at http://127.0.0.1:9 cannot be reached" in server.log()


def test_a_changed_file_is_refused(models: dict[str, MadeModel], tmp_path: Path) -> None:
    copy = shutil.copytree(models["boosting"].directory, tmp_path / "copy")
    tamper(copy / "trees-0.treelite")
    with started(str(copy), ready=False) as server:
        assert server.process.wait(20) == 10
    assert f"DigestMismatch: trees-0.treelite of {copy} has the sha256" in server.log()


def test_a_changed_file_in_the_bucket_is_refused(pod: dict[str, str], local_s3: LocalS3, models: dict[str, MadeModel]) -> None:
    owner = Bucket(local_s3.settings(OPERATOR, BUCKET, PREFIX))
    other = VERSION.replace("/7", "/8")
    upload(owner, models["boosting"].directory, other)
    uri = {"KAIZEN_MODEL_URI": f"s3://{BUCKET}/{PREFIX}/{other}"}
    content = bytearray(owner.get(f"{other}/trees-0.treelite")[0])
    content[100] ^= 1
    owner.put(f"{other}/trees-0.treelite", bytes(content))
    with started(environment=pod | uri, ready=False) as server:
        assert server.process.wait(20) == 10
    assert f"DigestMismatch: trees-0.treelite of s3://{BUCKET}/{PREFIX}/{other}/ has the sha256" in server.log()
    with started(environment=pod | {"KAIZEN_MODEL_DIGEST": "sha256:" + "0" * 64}, ready=False) as server:
        assert server.process.wait(20) == 10
    assert f"has the digest {models['boosting'].digest}, but sha256:{'0' * 64} was asked for" in server.log()


def test_a_model_that_is_not_there(pod: dict[str, str], tmp_path: Path) -> None:
    with started(str(tmp_path / "nothing"), ready=False) as server:
        assert server.process.wait(20) == 10
    assert "does not exist; give a directory that `kaizen train` has written" in server.log()
    with started(environment=pod | {"KAIZEN_MODEL_URI": f"s3://{BUCKET}/{PREFIX}/{VERSION}0"}, ready=False) as server:
        assert server.process.wait(20) == 10
    assert "ModelMissing: there is no model at s3://serving/here/" in server.log()


def test_a_bucket_that_does_not_answer_is_worth_another_start(pod: dict[str, str]) -> None:
    with started(environment=pod | {"KAIZEN_BUCKET_ENDPOINT": "http://127.0.0.1:9"}, ready=False) as server:
        until("it answers while loading", lambda: not refused(server.port) and ask(server.port, READY).status == 503, 5)
        assert ask(server.metrics_port, "/healthz").status == 200
        assert server.process.wait(20) == 1
    assert "bucket serving at http://127.0.0.1:9 cannot be reached" in server.log()


def test_a_signal_while_loading_ends_at_once(pod: dict[str, str]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with started(environment=pod | {"KAIZEN_BUCKET_ENDPOINT": endpoint}, ready=False) as server:
            until("it answers while loading", lambda: not refused(server.port) and ask(server.port, READY).status == 503, 5)
            assert server.end(seconds=3) == 0


def test_a_taken_port_is_one_sentence(served: Server, models: dict[str, MadeModel]) -> None:
    taken = subprocess.run(
        (sys.executable, "-m", "kaizen", "serve", str(models["boosting"].directory), "--port", str(served.port)),
        env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert taken.returncode == 1
    assert "address already in use" in taken.stderr
    assert "Traceback" not in taken.stderr
