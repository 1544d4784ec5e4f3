"""Rows in, windows out: nothing is lost unseen, nothing is kept without bound, and nothing is written twice or empty."""

import json
from typing import Any

import numpy as np
import pytest

from kaizen.monitoring import reference, windows
from kaizen.serving.watching import observation
from kaizen.serving.watching.metrics import Metrics
from kaizen.serving.watching.observation import (
    BUFFERED_ROWS,
    LEAST_ROWS,
    ROWS_A_SECOND,
    SLICE_VALUES,
    SPARED_ROWS,
    Cells,
    Observer,
    source,
)
from kaizen.serving.watching.outbox import Outbox

HOURS = np.arange(24, dtype=np.float64)
CARRIERS = np.array(["AA", "B6"] * 12, dtype=object)
REFERENCE = reference.build(
    {"hour": HOURS, "carrier": CARRIERS}, {"hour": "Numeric", "carrier": "Categorical"}, None, HOURS / 24, None
)
CELLS = Cells(REFERENCE, "flight-delay", 7, 300, ("other", "carrier", "hour"))
SLICE = SLICE_VALUES // 3


@pytest.fixture(autouse=True)
def all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sample, but in the tests of that."""
    monkeypatch.setattr(observation, "SPARED_ROWS", 10**9)


class Watched:
    """An observer, and what it gave to the bucket."""

    def __init__(self, now: float = 1000.0, **more: Any) -> None:
        self.objects: dict[str, Any] = {}
        self.metrics = Metrics()
        self.outbox = Outbox("window", self._write)
        self.observer = Observer(CELLS, self.metrics, self.outbox, source="pod-boot-0", now=now, **more)

    def offer(self, rows: int, carrier: str | None = "AA", hour: float | None = 3) -> None:
        columns: Any = ("x", carrier, hour) if rows == 1 else [["x"] * rows, [carrier] * rows, [hour] * rows]
        self.observer.offer(columns, [0.5] * rows, rows)

    def count(self) -> int:
        slices = 0
        while self.observer.count():
            slices += 1
        return slices

    def _write(self, key: str, body: bytes, content_type: str) -> None:
        assert content_type == "application/json"
        self.objects[key] = json.loads(body)


def test_a_window_holds_what_was_offered() -> None:
    made = Watched()
    made.offer(2)
    made.offer(1, carrier=None, hour=None)
    made.offer(1, carrier="ZZ", hour=1e9)
    assert made.count() == 1
    made.observer.tick(1199.9)
    assert not made.outbox.pending
    made.observer.tick(1200.0)
    made.outbox.write()
    ((key, document),) = made.objects.items()
    assert key == "windows/flight-delay/900/7-pod-boot-0.json"
    window = windows.from_json(document)
    assert (window.start, window.end, window.rows, window.rejected) == (900, 1200, 4, 0)
    assert window.counts["carrier"] == (2, 0, 1, 1)  # AA, B6, others, missing
    assert window.counts["hour"][-2:] == (1, 0)  # missing, infinite
    assert sum(window.prediction) == 4


def test_windows_follow_each_other_and_empty_ones_are_not_written() -> None:
    made = Watched()
    made.observer.tick(1200.0)
    assert not made.outbox.pending
    made.offer(1)
    made.count()
    made.observer.tick(9999.0)
    made.offer(2)
    made.observer.close(10000.5)
    made.outbox.write()
    assert {key.split("/")[2]: one["rows"] for key, one in made.objects.items()} == {"1200": 1, "9900": 2}
    assert [one["end"] for one in made.objects.values()] == [1500, 10000]


@pytest.mark.parametrize("request_rows", [1, SLICE * 2 + 1], ids=["small requests", "one large request"])
def test_counting_goes_in_slices(request_rows: int) -> None:
    made = Watched()
    rows = SLICE * 2 + 1
    for _ in range(rows // request_rows):
        made.offer(request_rows)
    assert made.count() == 3
    current = windows.from_json(made.observer.report()["current"])
    assert (current.rows, current.counts["carrier"][0], sum(current.prediction)) == (rows, rows, rows)


def test_a_full_slice_is_counted_without_waiting_for_a_tick() -> None:
    soon: list[Any] = []
    made = Watched(soon=soon.append)
    for _ in range(SLICE - 1):
        made.offer(1)
    assert not soon
    made.offer(1)
    made.offer(SLICE)
    assert len(soon) == 1
    soon.pop()()
    assert (made.observer.report()["current"]["rows"], len(soon)) == (SLICE, 1), "and the next slice in another turn"
    soon.pop()()
    assert (made.observer.report()["buffered"], soon) == (0, [])


def test_a_turn_of_many_clients_is_caught_up_with() -> None:
    soon: list[Any] = []
    made = Watched(soon=soon.append)
    rows = []
    for _ in range(30):
        for _ in range(4 * SLICE):
            made.offer(1)
        soon.pop(0)()
        rows.append(made.observer.report()["buffered"])
    assert max(rows) == rows[-1] < 8 * SLICE, "the buffer does not grow for ever"
    made.offer(SLICE * 20)
    soon.pop(0)()
    while soon:
        soon.pop(0)()
    assert made.observer.report()["buffered"] < SLICE


def test_slices_of_wide_models_are_not_too_small() -> None:
    names = [f"x{number}" for number in range(SLICE_VALUES // LEAST_ROWS)]
    wide = reference.build(dict.fromkeys(names, HOURS), dict.fromkeys(names, "Numeric"), None, HOURS / 24, None)
    made = Observer(Cells(wide, "s", 1, 300), Metrics(), Outbox("window", None), source="x", now=0.0)
    made.offer([[1.0] * (LEAST_ROWS + 1)] * len(names), [0.5] * (LEAST_ROWS + 1), LEAST_ROWS + 1)
    made.count()
    assert made.report()["buffered"] == 1


def test_what_the_buffer_cannot_hold_is_counted_as_dropped() -> None:
    made = Watched()
    made.offer(BUFFERED_ROWS)
    made.offer(3)
    made.count()
    made.offer(4)
    made.count()
    current = made.observer.report()["current"]
    assert (current["rows"], current["rejected"]) == (BUFFERED_ROWS + 4, 3)
    assert (made.metrics.observed_rows, made.metrics.dropped_rows) == (BUFFERED_ROWS + 4, 3)


def test_a_batch_that_is_larger_than_the_buffer_is_counted_when_nothing_else_waits() -> None:
    made = Watched()
    made.offer(BUFFERED_ROWS + 1)
    made.offer(1)
    while made.count():
        pass
    current = made.observer.report()["current"]
    assert (current["rows"], current["rejected"]) == (BUFFERED_ROWS + 1, 1)


def test_what_is_given_up_for_want_of_room_is_not_taken_from_what_may_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "SPARED_ROWS", 1000)
    made = Watched()
    made.offer(1)
    for _ in range(10):
        made.offer(BUFFERED_ROWS)
    made.offer(1)
    while made.count():
        pass
    current = made.observer.report()["current"]
    assert (current["rows"], current["rejected"]) == (2, 10 * BUFFERED_ROWS)


def test_of_more_rows_than_it_takes_to_judge_a_sample_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "SPARED_ROWS", SPARED_ROWS)
    made = Watched()
    seconds, rows = 20, 4 * ROWS_A_SECOND // 10
    for tenth in range(10 * seconds):
        for _ in range(10):
            made.offer(rows // 10)
        made.count()
        made.observer.tick(1000.0 + tenth / 10)
    current = made.observer.report()["current"]
    assert current["rows"] + current["rejected"] == 10 * seconds * rows
    assert current["rows"] == pytest.approx(SPARED_ROWS + seconds * ROWS_A_SECOND, rel=0.02)
    made.observer.tick(1099.0)
    before = current["rows"]
    for _ in range(4):
        made.offer(SPARED_ROWS // 4)
        made.count()
    assert made.observer.report()["current"]["rows"] == before + SPARED_ROWS, "after a quiet time all are counted"


def test_a_clock_that_goes_back_takes_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "SPARED_ROWS", SPARED_ROWS)
    made = Watched()
    for _ in range(4):
        made.offer(SPARED_ROWS // 4)
        made.count()
    made.observer.tick(900.0)
    made.observer.tick(900.1)
    made.offer(1)
    assert (made.count(), made.metrics.dropped_rows) == (1, 0)


def test_arrays_count_like_lists() -> None:
    made = Watched()
    columns: Any = [np.arange(3), np.array(["AA", "B6", None], dtype=object), np.array([3, 4, 5])]
    made.observer.offer(columns, [0.1, 0.2, 0.3], 3)
    made.offer(1)
    made.count()
    current = made.observer.report()["current"]
    assert (current["rows"], current["counts"]["carrier"]) == (4, [2, 1, 0, 1])


def test_the_report_names_the_windows() -> None:
    made = Watched()
    made.offer(1)
    made.count()
    made.observer.tick(1200.0)
    key = "windows/flight-delay/900/7-pod-boot-0.json"
    assert [one["key"] for one in made.observer.report()["unwritten"]] == [key]
    made.outbox.write()
    made.offer(1)
    report = made.observer.report()
    assert report["written"] == [{"key": key, "start": 900, "end": 1200, "rows": 1}]
    assert (report["unwritten"], report["current"]["rows"], report["buffered"]) == ([], 0, 1)
    json.dumps(report)


def test_another_process_reads_the_window_from_its_words() -> None:
    made = Watched()
    made.offer(5, carrier="B6")
    made.count()
    made.offer(2)
    words = made.observer.words()
    assert len(words) == CELLS.words
    seen = CELLS.window(words, "pod-boot-0")
    assert windows.to_json(seen) == made.observer.report()["current"]
    assert (seen.rows, seen.counts["carrier"]) == (5, (0, 5, 0, 0))
    assert observation.item(CELLS.window(words, "pod-boot-0", 1000)).about == {"start": 900, "end": 1000, "rows": 5}


def test_sources_differ_after_a_restart() -> None:
    first, second = source("pod"), source("pod")
    assert first.startswith("pod-")
    assert first != second
    assert source("").startswith("terminal-")
