"""From servers' windows to a verdict, through the real S3 server: pages, late writers, failing requests.

Needs no cluster, only the versitygw that `make cluster` builds.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

import boto3
import numpy as np
import pytest

from kaizen.api.inference_service import Monitoring
from kaizen.control.monitoring import Monitor
from kaizen.core.plan import Watched
from kaizen.monitoring import reference, windows
from kaizen.monitoring.bins import count
from kaizen.monitoring.verdict import judge
from kaizen.monitoring.windows import Window, merge
from kaizen.registry.embedded import ensure_bucket
from kaizen.registry.store import Bucket, BucketError
from kaizen.serving.watching.metrics import Metrics
from kaizen.serving.watching.observation import Cells, Observer
from kaizen.serving.watching.outbox import Outbox
from tests.e2e.local_s3 import OPERATOR, LocalS3, running_s3  # noqa: F401 -- the fixture local_s3
from tests.support.s3proxy import Entry, Fault, Rule, S3Proxy

Result = TypeVar("Result")
BUCKET, PREFIX = "kaizen", "monitoring"
T0, WINDOW = 1_700_000_100, 300
RANDOM = np.random.default_rng(0)
REFERENCE = reference.build(
    {"temp": RANDOM.standard_normal(5000), "carrier": RANDOM.choice(["AA", "B6", "UA"], 5000).astype(object)},
    {"temp": "Numeric", "carrier": "Categorical"}, None, RANDOM.random(1000), None,
)  # fmt: skip


class Process:
    """An operator's monitor."""

    def __init__(self, bucket: Bucket, threads: ThreadPoolExecutor, runner: asyncio.Runner) -> None:
        self._threads, self._runner = threads, runner
        self.monitor = Monitor(self._in_thread, lambda: bucket, self._reference)

    async def _in_thread(self, work: Callable[[], Result], /) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _reference(self, namespace: str, model: str, version: int) -> bytes:
        return json.dumps(reference.to_json(REFERENCE)).encode()

    def look(self, service: str, number: float, span: int) -> Watched:
        """The answer, so many windows after T0, on spans of so many windows."""
        policy = Monitoring.model_validate({"windowSeconds": WINDOW, "drift": {"spanSeconds": span * WINDOW, "minimumRows": 1}})
        now = datetime.fromtimestamp(T0 + WINDOW * number + 1, UTC)
        return self._runner.run(self.monitor.observe("flights", service, "late", 7, policy, {}, 2, now))


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def bucket(local_s3: LocalS3) -> Bucket:
    made = Bucket(local_s3.settings(OPERATOR, BUCKET, PREFIX))
    ensure_bucket(made, None)
    return made


@pytest.fixture(scope="module")
def proxy(local_s3: LocalS3) -> Iterator[S3Proxy]:
    with S3Proxy(local_s3.url) as running:
        yield running


@pytest.fixture(scope="module")
def proxied(local_s3: LocalS3, proxy: S3Proxy) -> Bucket:
    settings = local_s3.settings(OPERATOR, BUCKET, PREFIX, proxy.url)
    return Bucket(
        settings, connect_timeout_seconds=1, read_timeout_seconds=1, sleep=lambda _: None, session=boto3.session.Session()
    )


def window(service: str, number: int, source: str, rows: int = 40, shift: float = 0.0) -> Window:
    start, random = T0 + WINDOW * number, np.random.default_rng(number)
    temp = tuple(count(REFERENCE.features[0].bins, random.standard_normal(rows) + shift).tolist())
    carrier = tuple(count(REFERENCE.features[1].bins, random.choice(["AA", "B6", "UA"], rows).astype(object)).tolist())
    prediction = tuple(count(REFERENCE.prediction.bins, random.random(rows)).tolist())
    return Window(service, 7, start, start + WINDOW, source, rows, {"temp": temp, "carrier": carrier}, prediction)


def write(bucket: Bucket, threads: ThreadPoolExecutor, some: list[Window]) -> None:
    def put(one: Window) -> None:
        key = windows.key(one.service, one.start, one.version, one.source)
        bucket.put(f"workloads/flights/{key}", json.dumps(windows.to_json(one)).encode())

    list(threads.map(put, some))


def requests(log: tuple[Entry, ...]) -> tuple[int, int]:
    """Listings and reads."""
    assert {entry.method for entry in log} <= {"GET"}
    reads = sum(entry.path.endswith(".json") for entry in log)
    return len(log) - reads, reads


def test_a_listing_begins_after_a_key_on_every_page(bucket: Bucket, threads: ThreadPoolExecutor) -> None:
    keys = [f"pages/{start}/{source}.json" for start in range(10_000, 10_700) for source in "abc"]
    list(threads.map(lambda key: bucket.put(key, b"{}"), ("pagesafter/1.json", *keys)))
    for after, skipped in (
        ("", 0),
        ("pages/", 0),
        ("pages/0", 0),
        (keys[0], 1),
        ("pages/10000", 0),
        ("pages/10001", 3),
        (keys[999], 1000),
        (keys[1000], 1001),
        ("pages/10400", 1200),
        (keys[-1], 2100),
        ("pages/9", 2100),
        ("pagesafter", 2100),
    ):
        assert [entry.key for entry in bucket.list("pages/", after)] == keys[skipped:], after
    assert [entry.key for entry in bucket.list("pages", keys[-2])] == [keys[-1], "pagesafter/1.json"]


def test_what_servers_count_is_judged(bucket: Bucket, threads: ThreadPoolExecutor, runner: asyncio.Runner) -> None:
    """Two Pods, one of which cannot write for a while and shuts down in the middle of a window."""
    away = False
    moments = iter(range(T0, T0 + 20 * WINDOW, 100))

    def put(key: str, body: bytes, content_type: str) -> None:
        if away:
            raise OSError("away")
        bucket.put(f"workloads/flights/{key}", body, content_type)

    outboxes = [Outbox("window", put), Outbox("window", put)]
    cells = Cells(REFERENCE, "served", 7, WINDOW)
    pods = [Observer(cells, Metrics(), outbox, source=name, now=T0) for name, outbox in zip("ab", outboxes, strict=True)]
    process = Process(bucket, threads, runner)
    random, seen = np.random.default_rng(1), []
    for now in moments:
        number = (now - T0) // WINDOW
        away = 5 <= number < 9
        for pod, outbox in zip(pods, outboxes, strict=False):
            pod.tick(now)
            outbox.write()
            temp, carrier = random.standard_normal(20) + 2.0 * (number >= 12), random.choice(["AA", "B6", "UA"], 20)
            pod.offer([temp.tolist(), carrier.tolist()], random.random(20).tolist(), 20)
            while pod.count():
                pass
        if now == T0 + 16 * WINDOW + 100:
            last = pods.pop()
            last.close(now)
            outboxes[1].write()
        seen.append(process.look("served", (now - T0) / WINDOW, 4))
    fresh = Process(bucket, threads, runner).look("served", (now - T0) / WINDOW, 4)
    assert seen[-1] == fresh
    rows = [one.verdict.rows if one.verdict else 0 for one in seen]
    assert rows[:7] == [0, 0, 0, 120, 120, 120, 240]
    assert rows[15:28] == [480] * 13, "the newest span stays while the bucket is away"
    assert rows[3 * 9 + 1 : 3 * 16 + 1] == [480] * 21, "and what was written late is in the ones after it"
    assert rows[-1] == 120 + (60 + 40) + 60 + 60
    assert (seen[-1].verdict and seen[-1].verdict.kind, seen[-1].drifted_in_a_row, seen[-1].problem) == ("Drifted", 2, None)
    kinds = [one.verdict.kind for one in seen if one.verdict]
    assert kinds == sorted(kinds, key=["Stable", "Drifted"].index)
    assert kinds.index("Drifted") == 3 * 13 - 3, "with the end of the first window that drifted"


def test_a_week_of_windows_takes_a_request_each_and_then_one_for_each_boundary(
    bucket: Bucket, proxied: Bucket, proxy: S3Proxy, threads: ThreadPoolExecutor, runner: asyncio.Runner
) -> None:
    some = [window("week", number, source) for number in range(600) for source in "ab"]
    write(bucket, threads, [*some, *(replace(one, version=6) for one in some)])
    patient = Bucket(proxied.settings, session=boto3.session.Session())  # what is sent again would be counted
    process = Process(patient, threads, runner)
    proxy.plan()
    found = process.look("week", 600, 580)
    inside = [one for one in some if one.start >= T0 + 20 * WINDOW]
    assert found.verdict == judge(REFERENCE, merge(inside), floor=0.1, span_seconds=580 * WINDOW, minimum_rows=1)
    assert requests(proxy.log) == (3, 2 * 581), "three pages, and two spans that end one window apart"
    write(bucket, threads, [window("week", 600, source, rows=41) for source in "ab"])
    proxy.plan()
    found = process.look("week", 601, 580)
    assert (found.verdict and found.verdict.rows, requests(proxy.log)) == (579 * 80 + 82, (1, 2))
    assert found == Process(bucket, threads, runner).look("week", 601, 580)


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.value) for fault in Fault])
def test_every_request_survives_every_fault(
    bucket: Bucket, proxied: Bucket, proxy: S3Proxy, threads: ThreadPoolExecutor, runner: asyncio.Runner, fault: Fault
) -> None:
    write(bucket, threads, [window("faults", number, source, shift=2.0) for number in range(6) for source in "ab"])
    undisturbed = Process(bucket, threads, runner).look("faults", 6, 4)
    assert (undisturbed.verdict and undisturbed.verdict.kind, undisturbed.drifted_in_a_row) == ("Drifted", 2)
    for number in (1, 2, 7, 11):
        process = Process(proxied, threads, runner)
        proxy.plan(Rule(fault, times=(number,), seconds=0.05))
        try:
            found = process.look("faults", 6, 4)
        except BucketError:
            found = process.look("faults", 6, 4)
        assert found == undisturbed
        assert [entry.fault for entry in proxy.log].count(fault) == 1


def test_a_bucket_that_fails_in_the_middle_is_asked_for_the_rest(
    bucket: Bucket, proxied: Bucket, proxy: S3Proxy, threads: ThreadPoolExecutor, runner: asyncio.Runner
) -> None:
    write(bucket, threads, [window("rest", number, source) for number in range(40) for source in "abc"])
    process = Process(proxied, threads, runner)
    proxy.plan(Rule(Fault.ERROR_503, key=f"/{T0 + 30 * WINDOW}/7-b"))
    with pytest.raises(BucketError):
        process.look("rest", 40, 40)
    proxy.plan()
    found = process.look("rest", 40, 40)
    assert found == Process(bucket, threads, runner).look("rest", 40, 40)
    # Five chunks of 16 came before the failing one: three of them had ended.  Two that had not may still show in the log.
    _, reads = requests(proxy.log)
    assert reads <= 120 - 3 * 16 + 2 * 16
