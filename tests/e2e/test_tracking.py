"""MLflow is told what happened, by a real server's own word; and whatever state it is in, it costs the run nothing."""

import base64
import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hack import mlflow
from kaizen.api.training_job import MLflow
from kaizen.training.access import Access
from kaizen.training.mlflow_rest import MLflowError, Server, batches, clean
from kaizen.training.tracking import MOST_POINTS, Subject, Tracker
from tests.support.wait import until

USER = {"username": "admin", "password": "correct horse battery"}
METRICS = [{"name": "log_loss", "value": 0.5, "dataset": "test"}, {"name": "log_loss", "value": 0.7, "dataset": "baseline"}]
MANIFEST = {"estimator": {"name": "Ridge", "parameters": {"alpha": 0.5, "deep": {"a": [1, 2]}}}, "metrics": METRICS}
DOCUMENT = {"codeDigest": "sha256:c", "dataDigest": "sha256:d", "cpuSeconds": 3.5, "metricsOverTime": []}


@dataclass(frozen=True)
class Trial:
    """As of tuning.py."""

    number: int
    state: str
    value: float | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 1.5
    steps: tuple[float, ...] = ()
    worker: int = 0


def subject(job: str) -> Subject:
    return Subject("flights", job, "flight-delay-2013q1", "flight-delay", "Classification", "s3://lake/runs/1/")


class Tracking:
    """A tracking server and what it says itself."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def ask(self, path: str, body: Any = None) -> Any:
        """MLflow's answer."""
        basic = base64.b64encode(f"{USER['username']}:{USER['password']}".encode()).decode()
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.uri}/api/2.0/mlflow/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def runs(self, experiment: str, **tags: str) -> list[dict[str, Any]]:
        """All runs of an experiment with these tags, the oldest first."""
        number = self.ask(f"experiments/get-by-name?experiment_name={experiment}")["experiment"]["experiment_id"]
        wanted = " and ".join(f"tags.`{name.replace('_', '.')}` = '{value}'" for name, value in tags.items())
        body = {"experiment_ids": [number], "filter": wanted, "order_by": ["attributes.start_time ASC"], "max_results": 1000}
        return list(self.ask("runs/search", body).get("runs", []))

    def history(self, run: str, metric: str) -> list[tuple[int, float]]:
        """Steps and values."""
        found = self.ask(f"metrics/get-history?run_id={run}&metric_key={metric}").get("metrics", [])
        return sorted((int(one.get("step", 0)), one["value"]) for one in found)


def pairs(run: dict[str, Any], kind: str) -> dict[str, Any]:
    return {one["key"]: one["value"] for one in run["data"].get(kind, [])}


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """MLflow's own server, from PyPI, that asks for a password."""
    python, home = mlflow.install(), tmp_path_factory.mktemp("mlflow")
    (home / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{home}/auth.db\n"
        f"admin_username = {USER['username']}\nadmin_password = {USER['password']}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 600\n"  # it takes 0.3 s to check a password
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "MLFLOW_AUTH_CONFIG_PATH": str(home / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    stores = ("--backend-store-uri", f"sqlite:///{home}/runs.db", "--artifacts-destination", str(home / "artifacts"))
    listens = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--app-name", "basic-auth")
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [python, "-m", "mlflow", "server", *stores, *listens],
            env=environment, cwd=home, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    made = Tracking(f"http://127.0.0.1:{port}")

    def answers() -> bool:
        assert process.poll() is None, (home / "log").read_text()
        with suppress(OSError):
            return bool(made.ask("experiments/get-by-name?experiment_name=Default"))
        return False

    try:
        until("MLflow's server answers", answers, 120, (home / "log").read_text)
        yield made
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def tracker(uri: str, job: str, experiment: str = "flights", **more: Any) -> Tracker:
    return Tracker(Server(uri, USER, timeout_seconds=5), experiment, subject(job), **more)


def test_a_run_as_mlflow_shows_it(tracking: Tracking, capsys: pytest.CaptureFixture[str]) -> None:
    told = tracker(tracking.uri, "job-1")
    told.step("Fit")
    told.points([{"name": "train/loss", "step": step, "value": 1 / (step + 1)} for step in range(1500)])
    told.points([{"name": "train/loss", "step": 1500, "value": float("nan")}])
    told.parameters({f"p{number}": number for number in range(250)})
    trials = [
        Trial(0, "Complete", 0.6, {"alpha": 0.1}, 2.0, (0.7, 0.65)),
        Trial(1, "Pruned", None, {"alpha": 9.0}),
        Trial(2, "Failed", None, {"alpha": -1.0}),
        Trial(3, "Complete", 0.5, {"alpha": 0.5}),
    ]
    told.trials(trials, "log_loss")
    told.metric("log_loss", 0.5, "test")
    again = [{"name": "search/log_loss", "step": 0, "value": 0.6}]
    told.result(MANIFEST, {**DOCUMENT, "metricsOverTime": again}, "sha256:m")
    told.close("FINISHED", 60)
    assert capsys.readouterr().err == ""
    (run,) = tracking.runs("flights", kaizen_job="job-1")
    assert (run["info"]["status"], run["info"]["run_name"]) == ("FINISHED", "flight-delay-2013q1")
    assert run["info"]["end_time"] >= run["info"]["start_time"]
    tags = pairs(run, "tags")
    assert tags["mlflow.source.name"] == "flights/flight-delay-2013q1"
    assert (tags["mlflow.user"], tags["kaizen.model"], tags["kaizen.namespace"]) == ("kaizen", "flight-delay", "flights")
    assert (tags["kaizen.dataDigest"], tags["kaizen.codeDigest"], tags["kaizen.digest"]) == ("sha256:d", "sha256:c", "sha256:m")
    parameters = pairs(run, "params")
    assert len(parameters) == 253
    assert (parameters["estimator"], parameters["alpha"], parameters["deep"]) == ("Ridge", "0.5", "{'a': [1, 2]}")
    metrics = pairs(run, "metrics")
    assert (metrics["test/log_loss"], metrics["baseline/log_loss"], metrics["run/cpuSeconds"]) == (0.5, 0.7, 3.5)
    history = tracking.history(run["info"]["run_id"], "train/loss")
    assert history == [(step, 1 / (step + 1)) for step in range(1500)]
    assert tracking.history(run["info"]["run_id"], "search/log_loss") == [(0, 0.6), (3, 0.5)]
    assert tracking.history(run["info"]["run_id"], "test/log_loss") == [(0, 0.5)]
    children = {
        pairs(child, "tags")["kaizen.trial"]: child
        for child in tracking.runs("flights", mlflow_parentRunId=run["info"]["run_id"])
    }
    assert {number: child["info"]["status"] for number, child in children.items()} == {
        "0": "FINISHED", "1": "KILLED", "2": "FAILED", "3": "FINISHED"
    }  # fmt: skip
    assert pairs(children["0"], "params") == {"alpha": "0.1"}
    assert pairs(children["0"], "metrics") == {"log_loss": 0.6, "fold/log_loss": 0.65, "seconds": 2.0}


def test_a_retried_pod_counts_nothing_twice(tracking: Tracking) -> None:
    """The first attempt dies without a word; the second one begins anew, and gets further."""
    first = tracker(tracking.uri, "job-2")
    first.points([{"name": "loss", "step": step, "value": 0.5} for step in range(3)])
    first.parameters({"alpha": 0.5})
    first.trials([Trial(0, "Complete", 0.6)], "log_loss")
    first.close("FAILED", 60)
    second = tracker(tracking.uri, "job-2")
    second.points([{"name": "loss", "step": step, "value": 0.4} for step in range(5)])
    second.parameters({"alpha": 0.25, "beta": 1})
    second.trials([Trial(0, "Complete", 0.6), Trial(1, "Complete", 0.5)], "log_loss")
    second.result(MANIFEST, DOCUMENT, "sha256:m")
    second.close("FINISHED", 60)
    (run,) = tracking.runs("flights", kaizen_job="job-2")
    number = run["info"]["run_id"]
    assert run["info"]["status"] == "FINISHED"
    assert tracking.history(number, "loss") == [(0, 0.5), (1, 0.5), (2, 0.5), (3, 0.4), (4, 0.4)]
    assert tracking.history(number, "search/log_loss") == [(0, 0.6), (1, 0.5)]
    assert (pairs(run, "params")["alpha"], pairs(run, "params")["beta"]) == ("0.5", "1")
    assert [pairs(child, "tags")["kaizen.trial"] for child in tracking.runs("flights", mlflow_parentRunId=number)] == ["0", "1"]


def test_of_many_trials_the_best_have_runs_and_all_are_metrics(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told as they end, and all at once at the end."""
    monkeypatch.setattr("kaizen.training.tracking.MOST_CHILDREN", 8)
    trials = [Trial(number, "Complete", -float(number)) for number in range(20)]
    for job, first, best in (("job-3", 0, range(12, 20)), ("job-3b", 3, (0, 1, 2, *range(15, 20)))):
        told = tracker(tracking.uri, job, experiment="many")
        told.trials(trials[:first], "rmse")
        told.trials(trials, "rmse")
        told.close("FINISHED", 60)
        assert capsys.readouterr().err == ""
        (run,) = tracking.runs("many", kaizen_job=job)
        assert tracking.history(run["info"]["run_id"], "search/rmse") == [(number, -float(number)) for number in range(20)]
        children = tracking.runs("many", mlflow_parentRunId=run["info"]["run_id"])
        assert {int(pairs(child, "tags")["kaizen.trial"]) for child in children} == set(best)


def test_the_end_is_told_before_the_trials(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the server is with them."""

    def slow(*_: Any) -> None:
        raise MLflowError("MLflow is too slow for trials")

    monkeypatch.setattr(Tracker, "_child", slow)
    warned: list[str] = []
    told = tracker(tracking.uri, "job-9", warn=warned.append)
    told.trials([Trial(0, "Complete", 0.5)], "rmse")
    told.close("FINISHED", 5)
    assert warned == ["tracking: MLflow is too slow for trials; not told: 1 trials"]
    assert tracking.runs("flights", kaizen_job="job-9")[0]["info"]["status"] == "FINISHED"


def test_two_runs_make_one_experiment(tracking: Tracking) -> None:
    many = [tracker(tracking.uri, f"job-4-{number}", experiment="new one's") for number in range(4)]
    for told in many:
        told.close("FINISHED", 60)
    assert len(tracking.runs("new%20one's")) == 4


def test_wrong_credentials_are_one_line_and_no_wait(tracking: Tracking, tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "username").write_text("admin\n")
    (tmp_path / "mlflow" / "password").write_text("wrong\n")
    access = Access(None, secrets=tmp_path)
    warned: list[str] = []
    told = Tracker.open(MLflow(uri=tracking.uri, experiment="flights", secret_name="mlflow"), access, subject("job-5"))
    told._warn = warned.append
    told.metric("log_loss", 0.5, "test")
    begun = time.monotonic()
    told.close("FINISHED")
    assert time.monotonic() - begun < 5
    assert warned == [
        f"tracking: MLflow at {tracking.uri}: it refuses the credentials (401 Unauthorized): see tracking.mlflow.secretName;"
        " not told: 1 metrics, how the run ended"
    ]
    assert tracking.runs("flights", kaizen_job="job-5") == []


def test_right_credentials_from_a_mounted_secret(tracking: Tracking, tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    for name, value in USER.items():
        (tmp_path / "mlflow" / name).write_text(value + "\n")
    settings = MLflow(uri=tracking.uri + "/", experiment="flights", secret_name="mlflow")
    Tracker.open(settings, Access(None, secrets=tmp_path), subject("job-6")).close("FINISHED", 60)
    assert len(tracking.runs("flights", kaizen_job="job-6")) == 1


def test_a_secret_that_is_not_there_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = MLflow(uri="http://127.0.0.1:9", secret_name="mlflow")
    told = Tracker.open(settings, Access(None, secrets=tmp_path), subject("job-7"))
    told.metric("log_loss", 0.5, "test")
    told.close("FINISHED")
    assert capsys.readouterr().err.startswith("tracking: the Secret mlflow is not mounted at ")


class Answers(http.server.BaseHTTPRequestHandler):
    """Says what it is told to say, and remembers what it was asked."""

    status, body = 500, b"{}"
    headers_more: Mapping[str, str] = {}
    asked: list[tuple[str, str | None]] = []

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append((self.path, self.headers.get("Authorization")))
        self.send_response(self.status)
        for name, value in self.headers_more.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def stub() -> Iterator[tuple[str, Any]]:
    """An HTTP server that is no MLflow."""
    handler: Any = type("Handler", (Answers,), {"asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    thread.join()
    server.server_close()


WRONG: dict[str, tuple[int, bytes, dict[str, str], str]] = {
    "500": (500, b"oops", {}, "answers 500: Internal Server Error"),
    "503 with MLflow's words": (503, b'{"error_code": "X", "message": "it is\\nlocked."}', {}, "answers 503: it is locked"),
    "400": (400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "bad name"}', {}, "answers 400: bad name"),
    "no JSON": (200, b"<html>", {}, "does not answer: Expecting value: line 1 column 1 (char 0)"),
    "no object": (200, b"[]", {}, "answers something else than MLflow does"),
    "no run": (200, b'{"experiment": {"experiment_id": 1}, "runs": [{}]}', {}, "a run that is none"),
    "no experiment": (200, b"{}", {}, "KeyError: 'experiment'"),
    "elsewhere": (302, b"", {"Location": "http://127.0.0.1:9/"}, "answers 302: Found"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "body", "headers", "sentence"), WRONG.values(), ids=WRONG)
def test_a_server_that_is_wrong(stub: Any, status: int, body: bytes, headers: dict[str, str], sentence: str) -> None:
    uri, handler = stub
    handler.status, handler.body, handler.headers_more = status, body, headers
    warned: list[str] = []
    told = Tracker(Server(uri, {"token": "t0k3n"}), "flights", subject("job"), warn=warned.append, first_pause_seconds=0.05)
    told.metric("log_loss", 0.5, "test")
    begun = time.monotonic()
    told.close("FINISHED", 1)
    assert time.monotonic() - begun < 10
    (line,) = warned
    assert sentence in line
    assert line.endswith("not told: 1 metrics, how the run ended")
    assert {authorization for _, authorization in handler.asked} == {"Bearer t0k3n"}


def hanging() -> Iterator[str]:
    """Takes the connection and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def down() -> Iterator[str]:
    """Nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}"


def nowhere() -> Iterator[str]:
    """A name that nobody has."""
    yield "http://mlflow.invalid:5000"


@pytest.mark.parametrize("where", [hanging, down, nowhere])
def test_a_server_that_is_away_costs_the_run_nothing(where: Any) -> None:
    warned: list[str] = []
    server = where()
    uri = next(server)
    begun = time.monotonic()
    told = Tracker(Server(uri), "flights", subject("job"), warn=warned.append)
    for step in range(MOST_POINTS + 5):
        told.points([{"name": "loss", "step": step, "value": 1.0}])
    told.result(MANIFEST, DOCUMENT, "sha256:m")
    assert time.monotonic() - begun < 5
    told.close("FINISHED", 1)
    assert time.monotonic() - begun < 10
    (line,) = warned
    assert uri in line
    assert line.endswith(f"3 parameters, 3 tags, {MOST_POINTS + 8} metrics, how the run ended")
    server.close()


def test_a_server_that_comes_back_is_told_everything(tracking: Tracking, stub: Any) -> None:
    uri, handler = stub
    warned: list[str] = []
    told = Tracker(Server(uri, USER), "flights", subject("job-8"), warn=warned.append, first_pause_seconds=0.1)
    told.metric("log_loss", 0.5, "test")
    until("it was asked twice", lambda: len(handler.asked) >= 2, 10)
    told._server = Server(tracking.uri, USER)
    told.close("FINISHED", 60)
    assert warned == []
    assert len(tracking.runs("flights", kaizen_job="job-8")) == 1


def test_credentials_in_the_address_are_used_and_never_shown(stub: Any) -> None:
    uri, handler = stub
    handler.status = 403
    server = Server(uri.replace("http://", "http://alice:s3cret@"))
    with pytest.raises(MLflowError, match="refuses the credentials") as refused:
        server.experiment("flights")
    assert "s3cret" not in str(refused.value)
    assert handler.asked[0][1] == f"Basic {base64.b64encode(b'alice:s3cret').decode()}"


@settings(deadline=None, derandomize=True, database=None)
@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.just("ü" * 9000), max_size=250),
    st.lists(st.tuples(st.text(max_size=5), st.integers(0, 9), st.just(0.5), st.just(1)), max_size=30),
    st.integers(0, 60),
    st.dictionaries(st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=5), max_size=120),
)
def test_batches_are_what_the_server_takes(parameters: dict[str, str], metrics: Any, times: int, tags: dict[str, str]) -> None:
    made = list(batches(parameters, metrics * times, tags))
    for batch in made:
        assert len(batch.get("params", ())) <= 100
        assert len(batch.get("tags", ())) <= 100
        assert sum(map(len, batch.values())) <= 1000
        assert len(json.dumps({"run_id": "r" * 32, **batch})) < 1_000_000
    counts = [sum(len(batch.get(kind, ())) for batch in made) for kind in ("params", "metrics", "tags")]
    assert counts == [len(parameters), len(metrics) * times, len(tags)]


NAMES = {
    "test/log_loss": "test/log_loss",
    "a//b": "a/b",
    "../x": "x",
    "": "_",
    "/": "_",
    "ü=1": "__1",
    "a/": "a",
    "x" * 300: "x" * 250,
}


@pytest.mark.parametrize(("given_name", "expected"), NAMES.items())
def test_names_are_made_to_fit(given_name: str, expected: str) -> None:
    assert clean(given_name) == expected
