"""Rows in, windows out: nothing is lost unseen, nothing is kept without bound, and nothing is written twice or empty."""

import json
from typing import Any

import numpy as np
import pytest

from kaizen.monitoring import reference, windows
from kaizen.serving import observation
from kaizen.serving.metrics import Metrics
from kaizen.serving.observation import BACKLOG, BUFFERED_ROWS, SLICE_ROWS, Observer, source

HOURS = np.arange(24, dtype=np.float64)
CARRIERS = np.array(["AA", "B6"] * 12, dtype=object)
REFERENCE = reference.build(
    {"hour": HOURS, "carrier": CARRIERS}, {"hour": "Numeric", "carrier": "Categorical"}, None, HOURS / 24, None
)


class Bucket:
    """Remembers what is written; may be away."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.writes = 0
        self.away = False

    def write(self, key: str, body: bytes) -> None:
        self.writes += 1
        if self.away:
            raise OSError("away")
        self.objects[key] = json.loads(body)


def observer(bucket: Bucket | None, now: float = 1000.0) -> Observer:
    write = None if bucket is None else bucket.write
    options: dict[str, Any] = {"service": "flight-delay", "version": 7, "source": "pod-boot-0", "window_seconds": 300}
    return Observer(REFERENCE, Metrics(), now=now, write=write, **options)


def offer(to: Observer, rows: int, carrier: str | None = "AA", hour: float | None = 3) -> None:
    to.offer({"hour": [hour] * rows, "carrier": [carrier] * rows, "other": [1] * rows}, [0.5] * rows, rows)


def count(of: Observer) -> int:
    slices = 0
    while of.count():
        slices += 1
    return slices


def test_a_window_holds_what_was_offered() -> None:
    bucket = Bucket()
    made = observer(bucket)
    offer(made, 2)
    offer(made, 1, carrier=None, hour=None)
    offer(made, 1, carrier="ZZ", hour=1e9)
    assert count(made) == 1
    assert not made.close_if_over(1199.9)
    assert made.close_if_over(1200.0)
    made.write()
    ((key, document),) = bucket.objects.items()
    assert key == "windows/flight-delay/900/7-pod-boot-0.json"
    window = windows.from_json(document)
    assert (window.start, window.end, window.rows, window.rejected) == (900, 1200, 4, 0)
    assert window.counts["carrier"] == (2, 0, 1, 1)  # AA, B6, others, missing
    assert window.counts["hour"][-2:] == (1, 0)  # missing, infinite
    assert sum(window.prediction) == 4


def test_windows_follow_each_other_and_empty_ones_are_not_written() -> None:
    bucket = Bucket()
    made = observer(bucket)
    assert not made.close_if_over(1200.0)
    offer(made, 1)
    count(made)
    assert made.close_if_over(9999.0)
    offer(made, 2)
    assert made.close(10000.5)
    made.write()
    assert {key.split("/")[2]: one["rows"] for key, one in bucket.objects.items()} == {"1200": 1, "9900": 2}
    assert [one["end"] for one in bucket.objects.values()] == [1500, 10000]
    assert bucket.writes == 2


def test_counting_goes_in_slices() -> None:
    made = observer(None)
    for _ in range(SLICE_ROWS * 2 + 1):
        offer(made, 1)
    assert count(made) == 3
    assert made.report()["current"]["rows"] == SLICE_ROWS * 2 + 1


def test_what_the_buffer_cannot_hold_is_counted_as_dropped() -> None:
    made = observer(None)
    offer(made, BUFFERED_ROWS)
    offer(made, 3)
    count(made)
    offer(made, 4)
    count(made)
    current = made.report()["current"]
    assert (current["rows"], current["rejected"]) == (BUFFERED_ROWS + 4, 3)


def test_a_bucket_that_is_away_gets_its_windows_later() -> None:
    bucket = Bucket()
    bucket.away = True
    made = observer(bucket)
    for number in range(3):
        offer(made, number + 1)
        count(made)
        assert made.close_if_over(1200.0 + 300 * number)
        made.write()
    assert bucket.writes == 3, "one attempt a time, not one a window"
    bucket.away = False
    made.write()
    made.write()
    assert [one["rows"] for one in bucket.objects.values()] == [1, 2, 3]
    assert bucket.writes == 6
    assert not made.close_if_over(1900.0)


def test_windows_beyond_the_backlog_are_given_up(caplog: pytest.LogCaptureFixture) -> None:
    bucket = Bucket()
    bucket.away = True
    made = observer(bucket)
    for number in range(BACKLOG + 2):
        offer(made, 1)
        count(made)
        made.close_if_over(1200.0 + 300 * number)
    report = made.report()
    assert (len(report["unwritten"]), report["unwritten"][0]["start"]) == (BACKLOG, 1500)
    assert "is given up" in caplog.text


def test_the_report_names_the_windows() -> None:
    bucket = Bucket()
    made = observer(bucket)
    offer(made, 1)
    count(made)
    made.close_if_over(1200.0)
    assert [one["key"] for one in made.report()["unwritten"]] == ["windows/flight-delay/900/7-pod-boot-0.json"]
    made.write()
    offer(made, 1)
    report = made.report()
    assert report["written"] == [{"key": "windows/flight-delay/900/7-pod-boot-0.json", "start": 900, "end": 1200, "rows": 1}]
    assert (report["unwritten"], report["current"]["rows"], report["buffered"]) == ([], 0, 1)
    json.dumps(report)


def test_without_a_bucket_windows_are_only_told() -> None:
    made = observer(None)
    offer(made, 1)
    assert not made.close(1100.0)
    assert made.report()["written"][0]["rows"] == 1


def test_sources_differ_after_a_restart() -> None:
    first, second = source("pod"), source("pod")
    assert first.startswith("pod-")
    assert first.endswith("-0")
    assert first != second
    assert observation.source("").startswith("terminal-")
