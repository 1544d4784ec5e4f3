"""What the demo makes of statuses and records: sentences, tables, the timeline, and the figures of a replay."""

import importlib
import io
import json
import threading
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from examples.flights import replay, show
from kaizen.api.inference_service import InferenceServiceSpec
from tests.support import training

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def feature(name: str, distance: float, threshold: float, **more: bool) -> dict[str, Any]:
    return {"name": name, "distance": distance, "threshold": threshold, "drifted": False, "context": False, **more}


def monitoring(kind: str, *features: dict[str, Any], rows: int = 6500) -> dict[str, Any]:
    return {"verdict": kind, "rows": rows, "features": list(features)}


def job(name: str, made: str, *, gate: str = "Passed") -> dict[str, Any]:
    succeeded = {"type": "Succeeded", "status": "True", "reason": "Registered", "lastTransitionTime": made}
    gates = [{"name": "no-worse", "outcome": gate, "message": "0.5 on 100 rows"}]
    status = {"conditions": [succeeded], "gates": gates, "completionTime": "2026-03-01T12:03:00Z"}
    return {"metadata": {"name": name, "creationTimestamp": made}, "status": status}


def record(sequence: int, action: str, time: str, **details: Any) -> dict[str, Any]:
    return {"sequence": sequence, "action": action, "object": "production/a.json", "time": time, "details": details}


def test_the_service_is_valid_and_says_what_the_demo_relies_on() -> None:
    body = yaml.safe_load((FLIGHTS / "service.yaml").read_text())
    spec = InferenceServiceSpec.model_validate(body["spec"])
    drift = spec.monitoring.drift
    assert spec.training is not None
    assert spec.training.triggers == ["Initial", "DataDrift"]
    assert drift.block_seconds == 7 * 86_400
    assert drift.span_seconds % spec.monitoring.window_seconds == 0
    job = yaml.safe_load((FLIGHTS / "job.yaml").read_text())["spec"]
    template = body["spec"]["training"]["template"]
    assert template["data"]["query"] == job["data"]["query"]
    assert (template["estimator"], template["gates"]) == (job["estimator"], job["gates"])


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (monitoring("NotEnoughData", rows=1200), "verdict NotEnoughData on 1,200 rows: fewer than drift.minimumRows"),
        (
            monitoring("Stable", feature("temp", 2, 8), feature("hour", 0.09, 0.1)),
            "verdict Stable on 6,500 rows; nearest to its limit is hour (PSI 0.09, limit 0.10)",
        ),
        (
            monitoring("Drifted", feature("temp", 16.04, 11.8, drifted=True), feature("hour", 0.01, 0.1)),
            "verdict Drifted on 6,500 rows: temp (PSI 16.04, limit 11.80)",
        ),
        (monitoring("Stable", feature("season", 9, 1, context=True)), "verdict Stable on 6,500 rows"),
    ],
)
def test_verdicts_in_words(told: dict[str, Any], said: str) -> None:
    assert show.verdict(told) == said


def test_the_comparison_has_everybody_and_the_truth() -> None:
    late = np.array([True, False, False, True])
    good = replay.figures(np.array([0.9, 0.1, 0.2, 0.8]), late)
    lines = show.comparison([("a model", good), ("always the base rate", replay.figures(np.full(4, 0.25), late))])
    assert [line.split("  ")[0] for line in lines[1:3]] == ["a model", "always the base rate"]
    assert lines[1].split()[-2:] == ["1.0000", "50.0%"]
    assert lines[2].split()[-2:] == ["0.5000", "25.0%"]
    assert lines[-1] == "Flights that were late: 50.0%"


def test_events_come_from_jobs_and_the_audit_chain_with_the_reason() -> None:
    service = {"status": {"history": [{"version": 2, "time": "2026-03-01T12:05:00Z", "reason": "from the history"}]}}
    records = [
        record(1, "PromotionIntended", "2026-03-01T12:03:59Z", version=1, reason="from the intent"),
        record(2, "Promoted", "2026-03-01T12:04:00Z", version=1, intent=1),
        record(3, "Promoted", "2026-03-01T12:05:00Z", version=2, intent=9),
        record(4, "Refused", "2026-03-01T12:06:00Z", version=3, reason="its own"),
    ]
    found = show.events(service, [job("auto-1", "2026-03-01T12:01:00Z")], records)
    assert [(event.source, event.what) for event in found] == [
        ("TrainingJob auto-1", "made by the InferenceService"),
        ("TrainingJob auto-1", "Registered. Gate no-worse: Passed, 0.5 on 100 rows."),
        ("audit record 2", "Promoted production/a.json, version 1: from the intent"),
        ("audit record 3", "Promoted production/a.json, version 2: from the history"),
        ("audit record 4", "Refused production/a.json, version 3: its own"),
    ]


def test_the_timeline_is_sorted_aligned_and_wrapped() -> None:
    events = [
        show.Event(show.moment("2026-03-01T12:01:05Z"), "operator", "word " * 20),
        show.Event(show.moment("2026-03-01T11:59:58Z"), "demo", "first"),
    ]
    lines = show.timeline(events, BEGAN, width=60)
    assert lines[0] == " -0:02  demo      first"
    assert lines[1].startswith("  1:05  operator  word")
    assert all(line.startswith(" " * 18 + "word") for line in lines[2:])
    assert max(map(len, lines)) <= 60


def test_progress_without_a_terminal_is_a_line_now_and_then() -> None:
    now = 0.0
    out = io.StringIO()
    teller = show.Teller(out, lambda: now)
    for now in (1.0, 2.0, 1.0 + show.PROGRESS_SECONDS, 40.0):
        teller.progress(f"at {now:.0f}")
    assert [line.split("at ")[1] for line in out.getvalue().splitlines()] == ["1", "16", "40"]


def test_progress_on_a_terminal_replaces_its_line() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    teller = show.Teller(out, lambda: 0.0)
    teller.progress("half")
    teller.say("done")
    assert out.getvalue() == "\r\x1b[K   0:00  … half\r\x1b[K   0:00  done\n"


class _Server(BaseHTTPRequestHandler):
    """Answers every other request with 503, and everything else with one half."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self) -> None:
        self._say(200, b'{"inputs": [{"name": "hour", "datatype": "INT64"}]}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked += 1
        if type(self).asked % 2:
            self._say(503, b'{"error": "ending"}')
            return
        rows = replay.ROWS_A_REQUEST
        data = ", ".join(["0.5"] * rows * 2)
        text = f'{{"model_version": "1", "outputs": [{{"name": "predict_proba", "shape": [{rows}, 2], "data": [{data}]}}]}}'
        self._say(200, text.encode())

    def log_message(self, *_: Any) -> None:
        pass

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def flights(rows: int) -> pa.Table:
    return pa.table({"hour": list(range(rows)), "dep_delay": [replay.LATE_MINUTES + row % 2 for row in range(rows)]})


@pytest.mark.parametrize("patience", [0.0, 5.0])
def test_a_patient_replay_asks_again(patience: float) -> None:
    _Server.asked = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url, rows = f"http://127.0.0.1:{server.server_port}", 2 * replay.ROWS_A_REQUEST
            report = replay.replay(url, "m", flights(rows), patience=patience)
        finally:
            server.shutdown()
            thread.join()
    if patience:
        assert (report.rows, report.errors) == (list(range(rows)), Counter())
    else:
        assert report.rows == list(range(replay.ROWS_A_REQUEST, rows))
        assert report.errors == Counter({"no answer: 503 ending": 1})
    assert report.late == [bool(row % 2) for row in report.rows]


def test_what_the_demos_own_namespace_left_is_cleared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(FLIGHTS)
    demo = importlib.import_module("demo")
    bucket, gone = training.MemoryBucket({"registry/flights/flight-delay/training.json": b"{}"}), list[str]()
    there = {"metadata": {"labels": {demo.DEMO_LABEL: "true"}}}

    def kubectl(verb: str, what: str, *_: str, **__: object) -> str:
        if (verb, what) == ("delete", "namespace"):
            raise demo.Stop("killed here")
        return json.dumps(there) if (verb, what) == ("get", "namespace") else ""

    monkeypatch.setattr(demo, "kubectl", kubectl)
    monkeypatch.setattr(demo.kube, "delete", lambda _, keys: gone.extend(keys))
    spec = {"metadata": {"namespace": "flights", "name": "flight-delay"}, "spec": {"model": "flight-delay"}}
    story = demo.Demo(show.Teller(io.StringIO()), spec, bucket, tmp_path, BEGAN)
    with pytest.raises(demo.Stop, match="killed here"):
        demo.clear(story)
    # The next one finds no namespace, and a bucket whose objects are known to be the demo's.
    monkeypatch.setattr(demo, "kubectl", lambda *_, **__: "")
    demo.clear(story)
    assert gone == ["registry/flights/flight-delay/training.json"]
    stranger = demo.Demo(show.Teller(io.StringIO()), spec, training.MemoryBucket({gone[0]: b"{}"}), tmp_path, BEGAN)
    with pytest.raises(demo.Stop, match="no demo made them"):
        demo.clear(stranger)
