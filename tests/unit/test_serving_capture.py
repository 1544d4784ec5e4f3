"""Answered rows as lines: those that were chosen, without what must not be kept, bounded, and as their reader wants them."""

import gzip
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from kaizen.api.training_data import CAPTURED_COLUMNS, Captures, DataSource
from kaizen.registry import layout
from kaizen.serving.bodies.answers import Renderer
from kaizen.serving.bodies.protocol import Parsed, Schema, Tensor
from kaizen.serving.engine.base import Answer
from kaizen.serving.inference import Inference
from kaizen.serving.model import Model
from kaizen.serving.watching import capture as module
from kaizen.serving.watching.capture import RESERVED, SLICE_ROWS, Capture
from kaizen.serving.watching.delivery import WAITING_CAPTURES, Delivery
from kaizen.serving.watching.feedback import Feedback
from kaizen.serving.watching.metrics import Metrics
from kaizen.serving.watching.pseudonyms import Pseudonyms
from kaizen.training.data.captures import captured
from tests.support.serving import INPUTS, FakeEngine
from tests.unit.test_training_captures import Memory

ROW = {"carrier": "UA", "distance": 1400.5, "hour": 17, "weekend": False}
NAMES = [one.name for one in INPUTS]


class Captured:
    """A model that answers, and what is captured of that."""

    def __init__(self, share: float = 1.0, **more: Any) -> None:
        self.metrics, self.objects = Metrics(), dict[str, bytes]()
        self.away = False
        self.engine = FakeEngine()
        self.schema = Schema(INPUTS, ("flight", "time", "label"), ("predict", "predict_proba", "id"))
        self.schema.keep_all()
        self.capture = Capture(self.metrics, version=7, inputs=NAMES, share=share, **more)
        model = Model(
            "m", 7, "sha256:", "compiled", "", self.engine, self.schema, Renderer("m", 7, self.engine, ""), None, {}, b""
        )
        self._inference = Inference(model, None, self.metrics, capture=self.capture)
        self.delivery = Delivery(self.metrics, self._write, service="late", source="pod-boot-0", capture=self.capture)

    def ask(self, parsed: Parsed) -> Parsed:
        assert isinstance(self._inference.answer(parsed), Answer)
        return parsed

    def rows(self, rows: int, **more: Any) -> Parsed:
        return self.ask(Parsed(f"r{rows}", rows, {name: [value] * rows for name, value in (ROW | more).items()}))

    def lines(self) -> list[dict[str, Any]]:
        """All that was captured."""
        self.capture.finish()
        self.delivery.finish()
        return [json.loads(line) for body in self.objects.values() for line in gzip.decompress(body).splitlines()]

    def _write(self, key: str, body: bytes, content_type: str) -> None:
        assert content_type == "application/gzip"
        if self.away:
            raise OSError("away")
        self.objects[key] = body


def tensors(rows: int, **more: Sequence[Any]) -> list[dict[str, Any]]:
    kinds = {one.name: one.datatype for one in INPUTS}
    columns = {name: [value] * rows for name, value in ROW.items()} | more
    return [
        {"name": name, "shape": [rows], "datatype": kinds.get(name, "BYTES"), "data": values} for name, values in columns.items()
    ]


def test_a_line_is_what_was_asked_and_answered() -> None:
    made = Captured()
    made.ask(made.schema.parse(json.dumps({"id": "a", "inputs": tensors(2, hour=[6, 18], flight=["UA1", "UA2"])}).encode()))
    first, second = made.lines()
    moment = first.pop("time")
    assert (len(moment), moment[-1]) == (len("2026-11-21T08:30:00.000Z"), "Z")
    assert first == {
        "id": "a-0",
        "version": 7,
        "probability": 1.0,
        "inputs": ROW | {"hour": 6, "flight": "UA1"},
        "outputs": {"predict": "early", "predict_proba": [0.75, 0.25]},
    }
    assert (second["id"], second["inputs"]["flight"]) == ("a-1", "UA2")
    assert second["outputs"] == {"predict": "late", "predict_proba": [0.25, 0.75]}
    assert (made.metrics.captured_rows, made.metrics.capture_dropped_rows, made.metrics.capture_files_written) == (2, 0, 1)


def test_all_ways_to_ask_are_captured_alike() -> None:
    made = Captured()
    made.ask(made.schema.parse(json.dumps({"inputs": tensors(1)}).encode()))
    made.ask(made.schema.parse_instances(json.dumps({"instances": [ROW | {"flight": 5}, ROW]}).encode()))
    arrays: dict[str, Any] = {
        "carrier": [b"UA", b"UA"],
        "distance": np.array([1400.5, np.nan]),
        "hour": np.array([17, 17], dtype=np.int32),
        "weekend": np.array([False, True]),
    }
    kinds = {"carrier": "BYTES", "distance": "FP64", "hour": "INT32", "weekend": "BOOL"}
    sent = [Tensor(name, kinds[name], [2], values) for name, values in arrays.items()]
    made.ask(made.schema.accept([*sent, Tensor("flight", "BYTES", [2], [b"UA1", b"\xff"])], "b"))
    found = [line["inputs"] for line in made.lines()]
    assert found == [
        ROW,
        ROW | {"flight": 5},
        ROW | {"flight": None},
        ROW | {"flight": "UA1"},
        ROW | {"flight": "\ufffd", "distance": None, "weekend": True},
    ]


def test_keys_cost_nothing_where_nobody_keeps_them() -> None:
    schema = Schema(INPUTS, ("flight",))
    assert list(schema.parse(json.dumps({"inputs": tensors(1, flight=["UA1"])}).encode()).columns) == NAMES


def test_keys_of_no_use_become_missing_values_and_names_of_the_reader_are_left_out() -> None:
    made = Captured()
    sent = tensors(3, flight=[["UA1"], {"a": 1}, [1, 2]], label=["x"] * 3)
    made.ask(made.schema.parse(json.dumps({"inputs": sent}).encode()))
    assert [line["inputs"] for line in made.lines()] == [ROW | {"flight": flight} for flight in ("UA1", None, None)]
    assert frozenset(CAPTURED_COLUMNS) == RESERVED


def test_rows_are_chosen_one_by_one() -> None:
    chances = iter([0.1, 0.9, 0.29, 0.31] * 25)
    made = Captured(share=0.3, chance=lambda: next(chances))
    made.rows(90, hour=9)
    made.ask(Parsed("s", 10, {name: [value] * 10 for name, value in ROW.items()} | {"distance": np.arange(10.0)}))
    lines = made.lines()
    assert {line["probability"] for line in lines} == {0.3}
    assert [line["id"] for line in lines] == [
        *(f"r90-{row}" for row in range(0, 90, 2)),
        *(f"s-{row}" for row in range(0, 10, 2)),
    ]
    assert [line["inputs"]["distance"] for line in lines[-5:]] == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert [line["outputs"]["predict"] for line in lines] == ["early"] * 45 + ["late"] * 5
    assert (made.metrics.captured_rows, made.metrics.capture_dropped_rows) == (50, 0)
    many = Captured(share=0.25)
    for _ in range(40):
        many.rows(500)
    assert 4_600 < len(many.lines()) < 5_400


def test_columns_are_left_out_or_become_digests() -> None:
    made = Captured(exclude=("carrier",), pseudonyms=Pseudonyms("flights", "late", ("flight", "hour")))
    made.rows(1, flight=5.0)
    made.rows(2, flight=None)
    first, second, _ = (line["inputs"] for line in made.lines())
    assert first == {
        "distance": 1400.5,
        "hour": hashlib.sha256(b"flights/late/hour/17").hexdigest(),
        "weekend": False,
        "flight": hashlib.sha256(b"flights/late/flight/5").hexdigest(),
    }
    assert second["flight"] is None
    assert duckdb.execute("SELECT sha256('flights/late/flight/' || 5)").fetchall() == [(first["flight"],)]


@pytest.mark.parametrize(
    ("value", "text"), [("ü", "ü"), (True, "true"), (False, "false"), (-0.0, "0"), (1.5, "1.5"), (2**60, str(2**60))]
)
def test_digests_are_of_the_value_and_not_of_how_it_was_sent(value: Any, text: str) -> None:
    made = Pseudonyms("n", "s", ("k",))
    assert made.of("k", value) == made.of("k", text) == hashlib.sha256(f"n/s/k/{text}".encode()).hexdigest()
    assert made.of("k", float("nan")) is None
    assert made.applied({"k": value, "other": value}) == {"k": made.of("k", text), "other": value}


def test_lines_are_made_in_slices_between_two_turns() -> None:
    soon: list[Any] = []
    made = Captured(soon=soon.append)
    for _ in range(SLICE_ROWS - 1):
        made.rows(1)
    assert (soon, made.capture.waiting) == ([], 0)
    made.rows(1)
    made.rows(500)
    made.rows(64)
    assert (len(soon), made.metrics.captured_rows) == (1, 0)
    soon.pop()()
    assert (len(soon), made.metrics.captured_rows) == (1, SLICE_ROWS), "the next slice in another turn"
    soon.pop()()
    assert (soon, made.metrics.captured_rows) == ([], 2 * SLICE_ROWS), "the rest is for a tick"
    assert len(made.lines()) == SLICE_ROWS + 564


def test_rows_beyond_the_buffer_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUFFERED_VALUES", 40)
    made = Captured()
    made.rows(20)  # alone, whatever it holds
    made.rows(1)
    assert made.metrics.capture_dropped_rows == 1
    assert len(made.lines()) == 20
    made.rows(5)
    made.rows(5)
    made.rows(1)
    assert (made.metrics.capture_dropped_rows, len(made.lines())) == (2, 30)


def test_lines_beyond_the_bound_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Captured()
    made.rows(SLICE_ROWS)
    assert made.capture.make()
    monkeypatch.setattr(module, "BUFFERED_BYTES", made.capture.waiting)
    made.rows(3)
    assert (len(made.lines()), made.metrics.capture_dropped_rows) == (SLICE_ROWS, 3)


def test_a_row_that_nobody_could_read_costs_no_other(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    made = Captured()
    made.ask(Parsed("x", 3, {name: [value] * 3 for name, value in ROW.items()} | {"flight": ["1", "\ud800", "3"]}))
    assert [line["id"] for line in made.lines()] == ["x-0", "x-2"]
    assert "a row is not captured" in caplog.text
    made.objects.clear()
    monkeypatch.setattr(module, "LONGEST_LINE", 1000)
    made.ask(Parsed("y", 2, {name: [value] * 2 for name, value in ROW.items()} | {"carrier": ["UA" * 1000, "UA"]}))
    assert [line["id"] for line in made.lines()] == ["y-1"]
    assert (made.metrics.captured_rows, made.metrics.capture_dropped_rows) == (3, 2)


def test_a_file_is_due_when_it_is_large_or_old(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Captured(seconds=60.0)
    monkeypatch.setattr("kaizen.serving.watching.capture.time.monotonic", lambda: 1000.0)
    assert not made.delivery.due(1000.0)
    made.rows(1)
    assert not made.delivery.due(1100.0), "a line is made by somebody else"
    made.capture.finish()
    assert not made.delivery.due(1059.0)
    assert made.delivery.due(1060.0)
    made.delivery.write()
    (key,) = made.objects
    assert (key[:14], key[24:]) == ("captures/late/", "/pod-boot-0-1.jsonl.gz")
    assert not made.delivery.due(2000.0)
    monkeypatch.setattr(module, "FILE_BYTES", 1000)
    made.rows(10)
    made.capture.finish()
    assert made.delivery.due(1000.0)
    made.delivery.write()
    assert [key.rpartition("-")[2] for key in made.objects] == ["1.jsonl.gz", "2.jsonl.gz"]


def test_labels_do_not_make_small_files_of_captures() -> None:
    made = Captured()
    made.rows(1)
    made.capture.finish()
    assert not made.delivery.due(0.0)
    made.delivery.write()
    assert not made.objects
    assert made.delivery.pending
    assert len(made.lines()) == 1


def test_a_bucket_that_is_away_costs_what_there_is_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Captured()
    made.away = True
    for _ in range(WAITING_CAPTURES + 3):
        made.rows(1)
        made.capture.finish()
        made.delivery.finish()
    assert (made.metrics.capture_files_lost, made.delivery.captures.full) == (0, True)
    made.away = False
    assert len(made.lines()) == WAITING_CAPTURES + 3, "and what was still in the buffer, once there was room"
    assert made.metrics.capture_files_written == WAITING_CAPTURES + 1


def test_a_dead_workers_files_are_written_by_its_successor() -> None:
    told: list[tuple[str, str, Any]] = []
    made = Captured()
    made.away = True
    dead = Delivery(
        Metrics(), made._write, service="late", source="pod-boot-0", capture=made.capture, told=lambda *one: told.append(one)
    )
    made.rows(2)
    made.capture.finish()
    dead.finish()
    ((kind, what, item),) = told
    assert what == "waiting"
    made.away = False
    heir = Delivery(made.metrics, made._write, service="late", source="pod-boot-1", rest=[(kind, item)])
    heir.write()
    assert (len(made.lines()), made.metrics.capture_files_written) == (2, 1)


def table(made: Captured, labels: bytes | None, tmp_path: Path, share: float = 1.0) -> pa.Table:
    """What a training makes of it."""
    bucket = Memory(None).bucket
    made.lines()
    for key, body in made.objects.items():
        assert key.startswith("captures/late/")
        bucket.put(f"workloads/flights/{key}", body)
    if labels is not None:
        bucket.put(f"{layout.labels('flights', 'late')}2026-01-01/pod-0.jsonl.gz", labels)
    source = DataSource(name="seen", captures=Captures(inference_service_name="late", labelled_share_at_least=share))
    found = captured(source, Memory(None, bucket=bucket), tmp_path)
    return pa.parquet.read_table(found.path)


def test_the_reader_takes_it_with_labels_by_id(tmp_path: Path) -> None:
    made = Captured()
    made.ask(made.schema.parse(json.dumps({"id": "a", "inputs": tensors(3, hour=[1, 12, 13], distance=[1, None, 2.5])}).encode()))
    feedback = Feedback(made.engine.classes, made.engine.keys)
    feedback.offer(json.dumps({"labels": [{"id": f"a-{row}", "label": "late"} for row in range(3)]}).encode(), 0.0)
    rows = table(made, feedback.take(), tmp_path).to_pylist()
    assert [row["prediction_id"] for row in rows] == ["a-0", "a-1", "a-2"]
    assert [(row["hour"], row["distance"], row["carrier"], row["weekend"]) for row in rows] == [
        (1, 1.0, "UA", False),
        (12, None, "UA", False),
        (13, 2.5, "UA", False),
    ]
    assert [(row["prediction"], row["label"]) for row in rows] == [("early", "late"), ("late", "late"), ("late", "late")]
    assert {(row["prediction_version"], row["sampling_probability"]) for row in rows} == {(7, 1.0)}


def test_the_reader_joins_labels_by_hashed_keys(tmp_path: Path) -> None:
    pseudonyms = Pseudonyms("flights", "late", ("flight",))
    made = Captured(pseudonyms=pseudonyms)
    made.ask(made.schema.parse(json.dumps({"inputs": tensors(2, flight=[11, 12])}).encode()))
    feedback = Feedback(made.engine.classes, made.engine.keys, pseudonyms=pseudonyms)
    sent = [{"keys": {"flight": 11}, "label": "early"}, {"keys": {"flight": 12.0}, "label": "late"}]
    feedback.offer(json.dumps({"labels": sent}).encode(), 0.0)
    labels = feedback.take()
    assert labels is not None
    assert b'"flight":"' in gzip.decompress(labels)
    rows = table(made, labels, tmp_path).to_pylist()
    assert {row["flight"]: row["label"] for row in rows} == {
        pseudonyms.of("flight", 11): "early",
        pseudonyms.of("flight", 12): "late",
    }
