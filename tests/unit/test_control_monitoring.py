"""The monitor: whatever arrives in whatever order, it says what a new process would, and asks no more than it needs."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaizen.api.inference_service import Monitoring
from kaizen.control.monitoring import LATE_WINDOWS, MOST_REFERENCES, WHOLE_SECONDS, Monitor
from kaizen.control.window_sums import LARGEST_BYTES
from kaizen.core.plan import Watched
from kaizen.monitoring import reference, verdict, windows
from kaizen.monitoring.bins import count
from kaizen.monitoring.windows import Window, merge
from kaizen.registry.errors import Missing, Unreachable
from kaizen.registry.store import Entry
from tests.support.training import MemoryBucket

T0 = 1_700_000_100
"""A boundary of windows."""
WINDOW, LENGTH, SPAN = 300, 6, 1800
"""Seconds of a window, windows of a span, seconds of a span."""
HOUR = WHOLE_SECONDS // WINDOW
"""In windows."""
BASE = "workloads/flights/"
SERVICE = ("flights", "delay")
DRIFT = {"spanSeconds": SPAN, "minimumRows": 200}


def made() -> reference.Reference:
    random = np.random.default_rng(0)
    columns = {name: random.standard_normal(1500) for name in ("stays", "moves")}
    times = np.repeat(np.arange(30) * 86400, 50)
    return reference.build(columns, {"stays": "Numeric", "moves": "Numeric"}, times, random.random(1000), None)


REFERENCE = made()
REFERENCE_JSON = json.dumps(reference.to_json(REFERENCE)).encode()


@cache
def cells(shift: float, rows: int, seed: int) -> tuple[dict[str, tuple[int, ...]], tuple[int, ...]]:
    random = np.random.default_rng(seed)
    values = {"stays": random.standard_normal(rows), "moves": random.standard_normal(rows) + shift}
    counted = {one.bins.name: tuple(count(one.bins, values[one.bins.name]).tolist()) for one in REFERENCE.features}
    return counted, tuple(count(REFERENCE.prediction.bins, random.random(rows)).tolist())


def window(number: int, *, shift: float = 0.0, rows: int = 300, source: str = "pod-boot-0", version: int = 7) -> Window:
    """The window that starts `number` windows after T0; one with a shift of 2 drifts by itself."""
    start = T0 + WINDOW * number
    counted, predictions = cells(shift, rows, number % 7)
    return Window("delay", version, start, start + WINDOW, source, rows, counted, predictions)


def key_of(one: Window) -> str:
    return BASE + windows.key(one.service, one.start, one.version, one.source)


class CountedBucket(MemoryBucket):
    """Remembers what it was asked for, and may fail."""

    def __init__(self, *some: Window) -> None:
        super().__init__()
        self.lists: list[str] = []
        self.gets: list[str] = []
        self.fails: Callable[[str], bool] = lambda _: False
        self.write(*some)

    def list(self, prefix: str, after: str = "", most: int | None = None) -> tuple[Entry, ...]:
        assert prefix == f"{BASE}windows/delay/"
        self.lists.append(after.removeprefix(prefix))
        if self.fails(prefix):
            raise Unreachable("the bucket is away")
        return super().list(prefix, after, most)

    def get(self, key: str) -> tuple[bytes, str]:
        self.gets.append(key)
        if self.fails(key):
            raise Unreachable("the bucket is away")
        return super().get(key)

    def write(self, *some: Window) -> None:
        for one in some:
            self.put_json(key_of(one), windows.to_json(one))

    def put_json(self, key: str, document: object) -> None:
        self.objects[key] = json.dumps(document).encode()


class Operator:
    """A process with a monitor, looking at one bucket at given times."""

    def __init__(self, runner: asyncio.Runner, bucket: MemoryBucket) -> None:
        self._runner = runner
        self.references: Counter[tuple[str, str, int]] = Counter()
        self.reference: Callable[[], bytes] = lambda: REFERENCE_JSON
        self.monitor = Monitor(self._in_thread, bucket.as_bucket, self._reference)

    async def _in_thread(self, work: Callable[[], Any], /) -> Any:
        await asyncio.sleep(0)
        return work()

    async def _reference(self, namespace: str, model: str, version: int) -> bytes:
        self.references[namespace, model, version] += 1
        return self.reference()

    def look(
        self,
        number: float,
        *,
        version: int = 7,
        model: str = "late",
        consecutive: int = 2,
        seconds: float = 1.0,
        acknowledged: Mapping[str, float] | None = None,
        window: int = WINDOW,
        service: tuple[str, str] = SERVICE,
        **drift: Any,
    ) -> Watched:
        """The answer, `number` windows and some seconds after T0."""
        policy = Monitoring.model_validate({"windowSeconds": window, "drift": DRIFT | drift})
        now = datetime.fromtimestamp(T0 + WINDOW * number + seconds, UTC)
        return self._runner.run(self.monitor.observe(*service, model, version, policy, acknowledged or {}, consecutive, now))

    @property
    def memory(self) -> Any:
        return self.monitor._services[SERVICE]


@pytest.fixture(name="runner", scope="module")
def one_runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def bucket() -> CountedBucket:
    return CountedBucket()


@pytest.fixture
def operator(runner: asyncio.Runner, bucket: CountedBucket) -> Operator:
    return Operator(runner, bucket)


def iso(number: int) -> str:
    return datetime.fromtimestamp(T0 + WINDOW * number, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def judged(some: list[Window]) -> verdict.Verdict:
    return verdict.judge(REFERENCE, merge(some), floor=0.1, span_seconds=SPAN, minimum_rows=200)


def test_without_windows_there_is_no_verdict(operator: Operator) -> None:
    assert operator.look(0) == Watched(7, None)


def test_the_newest_span_is_judged(operator: Operator, bucket: CountedBucket) -> None:
    inside = [window(number, source=source) for number in range(4, 10) for source in ("a", "b")]
    bucket.write(window(3, shift=9.0), *inside)
    found = operator.look(10)
    assert found == Watched(7, judged(inside), iso(10), 0, None)
    assert found.verdict is not None
    assert (found.verdict.kind, found.verdict.rows) == ("Stable", 3600)


def test_the_span_slides(operator: Operator, bucket: CountedBucket) -> None:
    written = [window(0, shift=2.0, rows=3000), *(window(number) for number in range(1, 9))]
    bucket.write(written[0])
    kinds = []
    for number in range(1, 9):
        bucket.write(written[number])
        found = operator.look(number + 1)
        assert found.verdict == judged(written[max(0, number - 5) : number + 1])
        kinds.append(found.verdict.kind)
    assert kinds == ["Drifted"] * 5 + ["Stable"] * 3


def test_nothing_is_asked_before_the_next_boundary(operator: Operator, bucket: CountedBucket) -> None:
    bucket.write(window(0))
    first = operator.look(1)
    bucket.write(window(1))
    asked = len(bucket.lists), len(bucket.gets)
    assert operator.look(1, seconds=2) is first
    assert operator.look(2, seconds=0.9) is first
    assert (len(bucket.lists), len(bucket.gets)) == asked == (1, 1)
    assert operator.look(2).span_end == iso(2)
    assert len(bucket.lists) == 2
    assert operator.references == {("flights", "late", 7): 1}


def test_each_window_is_read_once(operator: Operator, bucket: CountedBucket) -> None:
    for number in range(1, 40):
        bucket.write(*(window(number - 1, source=source) for source in "abc"))
        operator.look(number)
    assert sorted(bucket.gets) == sorted(bucket.objects)
    assert len(bucket.gets) == 39 * 3


def test_a_look_lists_what_may_come_late_and_an_hourly_one_everything(operator: Operator, bucket: CountedBucket) -> None:
    for number in range(1, HOUR + 3):
        bucket.write(window(number))
        operator.look(number, spanSeconds=90_000)
    horizon, late = 3 * 300 + 2, LATE_WINDOWS
    expected = {1: 1 - horizon, HOUR + 1: HOUR + 1 - horizon}
    starts = [(int(after) - T0) // WINDOW for after in bucket.lists]
    assert starts == [expected.get(number, number - 1 - late) for number in range(1, HOUR + 3)]


def test_a_late_window_is_found_at_the_next_boundary(operator: Operator, bucket: CountedBucket) -> None:
    bucket.write(window(70))
    operator.look(71, spanSeconds=90_000)
    bucket.write(window(70 - LATE_WINDOWS + 1), window(70, source="b"))
    found = operator.look(72, spanSeconds=90_000)
    assert found.verdict is not None
    assert found.verdict.rows == 900
    assert len(bucket.gets) == 3


def test_a_very_late_window_is_found_within_the_hour(operator: Operator, bucket: CountedBucket) -> None:
    bucket.write(window(100))
    operator.look(101, spanSeconds=90_000)
    bucket.write(window(2))
    rows = [found.verdict.rows for n in range(102, 102 + HOUR) if (found := operator.look(n, spanSeconds=90_000)).verdict]
    assert rows == [300] * (HOUR - 1) + [600]


def test_an_operator_that_was_away_finds_everything(operator: Operator, bucket: CountedBucket) -> None:
    bucket.write(window(0))
    operator.look(1, spanSeconds=900_000)
    bucket.write(*(window(number) for number in range(1, 500)))
    found = operator.look(500, spanSeconds=900_000)
    assert found.verdict is not None
    assert found.verdict.rows == 300 * 500


def test_keys_of_fewer_digits_come_before(operator: Operator, bucket: CountedBucket) -> None:
    """In September 2001 seconds got a tenth digit; nobody has clocks so wrong, but tests and replays do."""
    first = -(T0 - 999_999_900) // WINDOW
    some = [window(first + number) for number in range(-2, 3)]
    bucket.write(*some)
    assert {len(str(one.start)) for one in some} == {9, 10}
    assert operator.look(first + 3).verdict == judged(some)


def test_windows_that_are_not_over_do_not_count_yet(operator: Operator, bucket: CountedBucket) -> None:
    """A Pod that shuts down writes its window early; one whose clock is wrong writes into the future."""
    partial = replace(window(1), end=T0 + WINDOW + 17)
    bucket.write(window(0), partial, window(5000))
    assert operator.look(1).span_end == operator.look(1.5).span_end == iso(1)
    assert bucket.gets == [key_of(window(0))]
    found = operator.look(2)
    assert (found.span_end, found.verdict) == (iso(2), judged([window(0), partial]))


def test_other_versions_and_other_files_are_not_read(operator: Operator, bucket: CountedBucket) -> None:
    bucket.write(window(0), window(0, version=6), window(1, version=77))
    for name in ("windows/delay/notes.json", "windows/delay/x/7-a.json", f"windows/delay/{T0}/7-a.json.tmp"):
        bucket.put_json(BASE + name, {})
    bucket.put_json(f"workloads/flights/windows/delayed/{T0}/7-a.json", {})
    assert operator.look(2) == Watched(7, judged([window(0)]), iso(1))
    assert bucket.gets == [key_of(window(0))]


BROKEN: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{", "Expecting property name"),
    "no text": (b"\xff\xfe\xfd", "decode"),
    "no object": (b"[1]", "not a window"),
    "too deep": (b"[" * 100_000, "recursion"),
    "another service": (
        json.dumps(windows.to_json(replace(window(1), service="other"))).encode(),
        "that of another window",
    ),
    "another version": (json.dumps(windows.to_json(replace(window(1), version=8))).encode(), "that of another window"),
    "another start": (json.dumps(windows.to_json(window(2))).encode(), "that of another window"),
    "another source": (json.dumps(windows.to_json(window(1, source="x"))).encode(), "that of another window"),
    "other cells": (
        json.dumps(windows.to_json(replace(window(1), counts={"stays": (300,), "moves": (300,)}))).encode(),
        "it was not counted in the bins of version 7",
    ),
    "other predictions": (
        json.dumps(windows.to_json(replace(window(1), prediction=(300,)))).encode(),
        "in the bins of version 7",
    ),
    "negative": (json.dumps(windows.to_json(window(1)) | {"rows": -1}).encode(), "claims -1 rows"),
    "a long story": (json.dumps({"format": "x" * 100_000}).encode(), "has format 'xxxx"),
    "too large": (b" " * (LARGEST_BYTES + 1), "a window has at most"),
}


@pytest.mark.parametrize(("body", "why"), BROKEN.values(), ids=BROKEN)
def test_a_broken_window_is_named_in_the_log_and_left_out(
    operator: Operator, bucket: CountedBucket, body: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.write(window(0))
    bucket.objects[key_of(window(1))] = body
    found = operator.look(2)
    assert (found.verdict, found.span_end) == (judged([window(0)]), iso(1))
    assert found.problem is not None
    assert found.problem.startswith("1 window is left out: ")
    assert [key_of(window(1)) in message for message in caplog.messages] == [True]
    assert why in found.problem
    assert len(found.problem) < 400
    assert found.problem.endswith(".")
    bucket.write(window(2))
    asked = len(bucket.gets)
    assert operator.look(3).problem == found.problem
    assert bucket.gets[asked:] == [key_of(window(2))]


def test_several_broken_windows_are_counted(operator: Operator, bucket: CountedBucket) -> None:
    for number, source in ((1, "a"), (1, "b"), (0, "c"), (3, "a")):
        bucket.objects[key_of(window(number, source=source))] = b""
    found = operator.look(5)
    assert found.verdict is None
    assert found.problem is not None
    assert found.problem.startswith("4 windows are left out, one because ")


def test_a_broken_window_that_was_mended_or_deleted_is_forgotten_within_the_hour(
    operator: Operator, bucket: CountedBucket
) -> None:
    options: dict[str, Any] = {"spanSeconds": 90_000}
    bucket.write(window(10), window(11))
    bucket.objects[key_of(window(10, source="b"))] = bucket.objects[key_of(window(11, source="b"))] = b""
    found = operator.look(12, **options)
    assert found.problem is not None
    assert found.problem.startswith("2 windows are left out")
    bucket.write(window(10, source="b"))
    del bucket.objects[key_of(window(11, source="b"))]
    found = operator.look(12 + HOUR, **options)
    assert (found.problem, found.verdict and found.verdict.rows) == (None, 900)


@pytest.mark.parametrize(
    ("shifts", "consecutive", "expected"),
    [
        ("....DDDD", 2, 2),
        ("....DDDD", 100, 4),
        ("DDD.DDDD", 100, 4),
        ("DDDDDDD.", 2, 0),
        ("D", 3, 1),
        (".......D", 2, 1),
        ("DDDDDDDD", 3, 3),
        ("DDsDD", 3, 2),
        ("DD  DD", 3, 3),
        ("DD    DD", 3, 2),
    ],
)
def test_drifted_verdicts_in_a_row(runner: asyncio.Runner, shifts: str, consecutive: int, expected: int) -> None:
    """Spans of one window: D drifts, a dot does not, s has too few rows, and nobody asked where there is a space."""
    bucket = CountedBucket(
        *(window(n, shift=2.0 * (s == "D"), rows=199 if s == "s" else 300) for n, s in enumerate(shifts) if s != " ")
    )
    options: dict[str, Any] = {"consecutive": consecutive, "spanSeconds": WINDOW}
    fresh = Operator(runner, bucket).look(len(shifts), **options)
    grown = Operator(runner, bucket)
    found = [grown.look(number, **options) for number in range(1, len(shifts) + 1)][-1]
    assert found == fresh
    assert found.drifted_in_a_row == expected
    assert len(grown.memory.sums) <= consecutive


def test_windows_without_rows_end_no_span(operator: Operator, bucket: CountedBucket) -> None:
    empty = replace(window(2, rows=0), rejected=9)
    bucket.write(window(0, shift=2.0), window(1, shift=2.0), empty)
    found = operator.look(3)
    assert (found.span_end, found.drifted_in_a_row) == (iso(2), 2)


def test_a_nightly_service_drifts_in_a_row(operator: Operator, bucket: CountedBucket) -> None:
    """Spans of a day, with one window a night that is not always the same."""
    nights = [0, 288 + 3, 2 * 288 - 4]
    for night in nights:
        bucket.write(window(night, shift=2.0))
    for after in (1, 2, 20, 280):
        assert operator.look(nights[-1] + after, spanSeconds=86_400).drifted_in_a_row == 2


def test_of_a_service_that_nobody_asks_nothing_is_said(operator: Operator, bucket: CountedBucket) -> None:
    bucket.write(window(0, shift=2.0))
    last = 2 * LENGTH + 2
    assert {number: operator.look(number).drifted_in_a_row for number in (1, 9, last, last + 1)} == {
        1: 1,
        9: 1,
        last: 1,
        last + 1: 0,
    }
    assert operator.look(last + 1) == Watched(7, None)
    assert operator.memory.sums == {}


def test_only_what_spans_need_is_read(operator: Operator, bucket: CountedBucket) -> None:
    bucket.write(*(window(number) for number in range(40)))
    operator.look(40)
    assert sorted(bucket.gets) == [key_of(window(number)) for number in range(33, 40)]


def test_spans_that_were_judged_are_not_judged_again(
    operator: Operator, bucket: CountedBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []

    def judge(made: Any, counts: windows.Counts, **options: Any) -> verdict.Verdict:
        rows.append(counts.rows)
        return original(made, counts, **options)

    original = verdict.judge
    monkeypatch.setattr(verdict, "judge", judge)
    bucket.write(*(window(number, shift=2.0) for number in range(9)))
    assert operator.look(9, consecutive=3).drifted_in_a_row == 3
    assert rows == [1800] * 3
    bucket.write(window(9, shift=2.0))
    operator.look(10, consecutive=3)
    assert rows == [1800] * 4
    bucket.write(window(8, shift=2.0, rows=200, source="b"))
    operator.look(11, consecutive=3)
    assert rows == [1800] * 4 + [2000] * 2, "the span that ended before the late window stands"
    operator.look(12, consecutive=3)
    assert len(rows) == 6


def test_another_policy_is_judged_from_memory(operator: Operator, bucket: CountedBucket) -> None:
    bucket.write(*(window(number, shift=2.0) for number in range(8)))
    first = operator.look(8)
    assert first.verdict is not None
    distance = first.verdict.features[1].distance
    asked = len(bucket.lists), len(bucket.gets)
    assert (first.verdict.kind, first.drifted_in_a_row) == ("Drifted", 2)
    for options in (
        {"floor": 15.0},
        {"context": ["moves"]},
        {"acknowledged": {"moves": distance}},
        {"minimumRows": 100_000},
        {"minimumRows": 1801},
    ):
        found = operator.look(8, **options)
        assert found.verdict is not None
        assert (found.verdict.kind != "Drifted", found.drifted_in_a_row) == (True, 0)
    assert operator.look(8) == first
    assert (len(bucket.lists), len(bucket.gets)) == asked


def test_other_spans_are_read_from_the_bucket(operator: Operator, bucket: CountedBucket) -> None:
    bucket.write(*(window(number) for number in range(200)))
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"spanSeconds": 45_000},
        {"spanSeconds": WINDOW},
        {"consecutive": 90},
        {"window": 600},
    )
    for options in changes:
        found = operator.look(200, **options)
        assert found == Operator(operator._runner, bucket).look(200, **options)
        assert found.verdict is not None


def test_another_version_starts_anew(operator: Operator, bucket: CountedBucket) -> None:
    bucket.write(window(0), window(1), window(1, version=8, shift=2.0))
    operator.look(2)
    found = operator.look(2, version=8)
    assert (found.version, found.verdict and found.verdict.kind, len(operator.memory.sums)) == (8, "Drifted", 1)
    assert operator.look(2, version=9) == Watched(9, None)


def test_memory_is_bounded(operator: Operator, bucket: CountedBucket) -> None:
    for number in range(1, 300):
        bucket.write(window(number - 1, shift=2.0), window(number - 1, source="b", shift=2.0))
        operator.look(number, consecutive=4)
        memory = operator.memory
        assert len(memory.sums) <= LENGTH + 3
        assert len(memory.verdicts) <= 4
        assert all(len(known.objects) <= 2 for known in memory.sums.values())


def test_a_service_that_is_gone_is_forgotten(operator: Operator, bucket: CountedBucket) -> None:
    bucket.write(window(0))
    operator.look(1)
    operator.monitor.forget_gone({SERVICE, ("flights", "other")})
    operator.look(1)
    assert len(bucket.lists) == 1
    operator.monitor.forget_gone({("other", "delay")})
    assert operator.monitor._services == {}
    operator.look(1)
    assert len(bucket.lists) == 2


def test_references_are_parsed_once_and_the_longest_unused_is_dropped(operator: Operator) -> None:
    for version in (*range(1, MOST_REFERENCES + 1), 1, MOST_REFERENCES + 1, 1, 2):
        operator.look(version, version=version)
    counted = {version: number for (_, _, version), number in operator.references.items()}
    assert counted == dict.fromkeys(range(1, MOST_REFERENCES + 2), 1) | {2: 2}
    assert len(operator.monitor._references) == MOST_REFERENCES


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"format": 1}', b'{"format": 1, "features": 3}', b"[" * 100_000],
    ids=lambda body: str(body[:40]),
)
def test_a_broken_reference_is_a_problem(operator: Operator, bucket: CountedBucket, body: bytes) -> None:
    bucket.write(window(0))
    operator.reference = lambda: body
    found = operator.look(1)
    assert (found.verdict, found.span_end) == (None, None)
    assert str(found.problem).startswith("reference.json of version 7 cannot be used: ")
    assert operator.look(1) is found
    assert (bucket.lists, bucket.gets) == ([], [])
    operator.reference = lambda: REFERENCE_JSON
    assert operator.look(2).verdict is not None


def test_a_version_without_a_reference_is_a_problem(operator: Operator) -> None:
    def missing() -> bytes:
        raise Missing("version 7 of model late has no reference.json")

    operator.reference = missing
    assert operator.look(1) == Watched(7, None, problem="version 7 of model late has no reference.json.")


def test_a_reference_that_cannot_be_judged_with_is_a_problem(operator: Operator, bucket: CountedBucket) -> None:
    document = reference.to_json(REFERENCE)
    for change, why in (({"blockSeconds": 0}, "ZeroDivisionError"), ({"prediction": None}, "TypeError")):
        operator.reference = lambda change=change: json.dumps(document | change).encode()  # type: ignore[misc]
        bucket.write(window(0))
        operator.monitor.forget_gone(())
        operator.monitor._references.clear()
        found = operator.look(1)
        assert why in str(found.problem)


def test_a_bucket_that_is_away_is_raised_and_what_was_read_is_kept(operator: Operator, bucket: CountedBucket) -> None:
    bucket.write(*(window(number, source=f"{source:02}") for number in range(6) for source in range(20)))
    bucket.fails = lambda key: key.endswith("windows/delay/")
    with pytest.raises(Unreachable):
        operator.look(6)
    bucket.fails = lambda key: key == key_of(window(4, source="03"))
    with pytest.raises(Unreachable):
        operator.look(6)
    assert 16 <= sum(len(known.objects) for known in operator.memory.sums.values()) < 120
    bucket.fails = lambda _: False
    known, asked = sum(len(known.objects) for known in operator.memory.sums.values()), len(bucket.gets)
    found = operator.look(6)
    assert found == Operator(operator._runner, bucket).look(6)
    assert found.verdict is not None
    assert found.verdict.rows == 6 * 20 * 300
    assert len(bucket.gets) - asked - 120 == 120 - known, "a fresh operator read 120"


def test_a_window_that_goes_between_list_and_get_is_ignored(operator: Operator, bucket: CountedBucket) -> None:
    def vanishing(key: str) -> bool:
        if key == key_of(window(1)):
            bucket.objects.pop(key, None)
        return False

    bucket.write(window(0), window(1), window(1, source="b"))
    bucket.fails = vanishing
    assert operator.look(2) == Watched(7, judged([window(0), window(1, source="b")]), iso(2))
    assert len(bucket.gets) == 3


def test_when_the_clock_goes_back_the_answer_does_too(operator: Operator, bucket: CountedBucket) -> None:
    bucket.write(*(window(number, shift=2.0 * (number > 3)) for number in (*range(9), *range(190, 200))))
    times = (9, 3, 200, 9, 5, 10, 200)
    assert [operator.look(number) for number in times] == [Operator(operator._runner, bucket).look(number) for number in times]


def test_spans_of_too_many_windows_are_refused(operator: Operator, bucket: CountedBucket) -> None:
    found = operator.look(1, window=5, spanSeconds=604_800)
    assert found.verdict is None
    assert str(found.problem).startswith("monitoring.drift.spanSeconds holds 120960 windows of 5 s")
    assert str(found.problem).endswith("set monitoring.windowSeconds to at least 121.")
    assert operator.look(1, window=121, spanSeconds=604_800, consecutive=100) == Watched(7, None)
    assert len(bucket.lists) == 1


def test_one_thread_stays_free(bucket: CountedBucket) -> None:
    bucket.write(*(window(number, source=f"{source}") for number in range(6) for source in range(30)))
    busy: list[int] = [0]

    async def in_thread(work: Callable[[], Any], /) -> Any:
        busy.append(busy[-1] + 1)
        await asyncio.sleep(0)
        busy.append(busy[-1] - 1)
        return work()

    async def fetch(namespace: str, model: str, version: int) -> bytes:
        return REFERENCE_JSON

    async def look() -> list[Watched]:
        monitor = Monitor(in_thread, bucket.as_bucket, fetch)
        policy, now = Monitoring.model_validate({"windowSeconds": WINDOW, "drift": DRIFT}), datetime.fromtimestamp(T0 + 1801, UTC)
        services = (("delay", version) for version in (6, 7))
        looks = [monitor.observe("flights", name, "late", version, policy, {}, 2, now) for name, version in services]
        return await asyncio.gather(*looks)

    _, found = asyncio.run(look())
    assert found.verdict is not None
    assert found.verdict.rows == 6 * 30 * 300
    assert max(busy) == 3


def test_an_operator_without_services_does_not_load_numpy() -> None:
    program = "import sys, kaizen.control.monitoring; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, env={"PYTHONPATH": "operator"}).returncode == 0


def expected(some: list[Window], until: int, consecutive: int) -> Watched:
    """What is to be said, computed at once from all windows that lie in the bucket: none of them too old."""
    over = [one for one in some if one.version == 7 and one.start + WINDOW <= T0 + WINDOW * until]
    ends = sorted({one.start for one in over if one.rows}, reverse=True)[:consecutive]
    verdicts = [judged([one for one in over if end + WINDOW - SPAN <= one.start <= end]) for end in ends]
    drifted = next((n for n, one in enumerate(verdicts) if one.kind != "Drifted"), len(verdicts))
    return Watched(7, verdicts[0], iso((ends[0] - T0) // WINDOW + 1), drifted) if ends else Watched(7, None)


ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 11),  # its number
        st.sampled_from("ab"),
        st.sampled_from([0.0, 2.0]),
        st.sampled_from([0, 120, 300]),
        st.integers(0, 14),  # when it arrives
        st.sampled_from([7, 7, 7, 8]),
    ),
    max_size=20,
    unique_by=lambda arrival: arrival[:2],
)


@settings(max_examples=60)
@given(ARRIVALS, st.lists(st.integers(1, 14), max_size=8), st.integers(1, 4))
def test_any_order_of_arrival_and_any_looks_end_as_one_look_would(
    runner: asyncio.Runner, arrivals: list[tuple[int, str, float, int, int, int]], looks: list[int], consecutive: int
) -> None:
    bucket = CountedBucket()
    grown = Operator(runner, bucket)
    made = [
        (arrives, window(number, shift=shift, rows=rows, source=source, version=version))
        for number, source, shift, rows, arrives, version in arrivals
    ]
    for now in sorted({*looks, 14}):
        there = [one for arrives, one in made if arrives <= now]
        bucket.write(*there)
        found = grown.look(now, consecutive=consecutive)
        assert found == Operator(runner, bucket).look(now, consecutive=consecutive)
        assert found == expected(there, now, consecutive)
