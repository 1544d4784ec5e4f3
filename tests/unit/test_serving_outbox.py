"""What waits for the bucket is written in order and once, again after failures, and never kept without bound."""

import gzip
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from kaizen.serving.watching.delivery import LABEL_SECONDS, Delivery
from kaizen.serving.watching.feedback import Feedback
from kaizen.serving.watching.metrics import Metrics
from kaizen.serving.watching.outbox import WAITING, Item, Outbox


class Bucket:
    """Remembers what is written; may be away, or refuse some keys."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.writes = 0
        self.away: Callable[[str], bool] = lambda key: False

    def write(self, key: str, body: bytes, content_type: str) -> None:
        self.writes += 1
        if self.away(key):
            raise OSError("away")
        self.objects[key] = body


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def item(key: str) -> Item:
    return Item(key, key.encode(), "text/plain", {"rows": len(key)}, 1)


def test_a_bucket_that_is_away_gets_everything_later(bucket: Bucket) -> None:
    told: list[tuple[str, str]] = []
    box = Outbox("window", bucket.write, told=lambda what, item: told.append((what, item.key)))
    bucket.away = lambda key: True
    for key in "abc":
        box.add(item(key))
        assert not box.write()
    assert bucket.writes == 3, "one attempt a time, not one an item"
    assert box.report() == {"written": [], "unwritten": [{"key": key, "rows": 1} for key in "abc"]}
    bucket.away = lambda key: False
    assert box.write()
    assert box.write()
    assert (list(bucket.objects), bucket.writes, box.pending) == (["a", "b", "c"], 6, False)
    assert box.report() == {"written": [{"key": key, "rows": 1} for key in "abc"], "unwritten": []}
    assert told == [(what, key) for what in ("waiting", "written") for key in "abc"]


def test_the_oldest_is_given_up(bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    lost: list[int] = []
    box = Outbox("window", bucket.write, lost=lost.append)
    for number in range(WAITING + 2):
        box.add(item(f"{number}"))
    assert (box.full, lost) == (True, [1, 1])
    assert "window 1 is given up: too many wait for the bucket" in caplog.text
    box.write()
    assert len(bucket.objects) == WAITING
    assert "1" not in bucket.objects


def test_without_a_bucket_items_are_only_told() -> None:
    box = Outbox("window", None)
    box.add(item("a"))
    assert not box.pending
    assert box.report()["written"] == [{"key": "a", "rows": 1}]


def test_what_another_left_is_written_first(bucket: Bucket) -> None:
    box = Outbox("window", bucket.write, waiting=[item("left")])
    box.add(item("own"))
    box.write()
    assert list(bucket.objects) == ["left", "own"]


def labels(number: int) -> bytes:
    return json.dumps({"labels": [{"id": f"r-{row}", "label": True} for row in range(number)]}).encode()


def delivery(bucket: Bucket, feedback: Feedback | None, **more: Any) -> tuple[Delivery, Metrics]:
    metrics = Metrics()
    return Delivery(metrics, bucket.write, service="late", source="pod-boot-0", feedback=feedback, **more), metrics


def test_labels_wait_for_company_and_become_a_file(bucket: Bucket) -> None:
    feedback = Feedback((False, True), ())
    made, metrics = delivery(bucket, feedback)
    assert not made.due(100.0)
    feedback.offer(labels(2), 0.0)
    assert not made.due(100.0)
    feedback.offer(labels(1), 0.0)
    assert not made.due(100.0 + LABEL_SECONDS / 2)
    assert made.due(100.0 + LABEL_SECONDS)
    made.write()
    ((key, body),) = bucket.objects.items()
    assert re.fullmatch(r"labels/late/\d{4}-\d\d-\d\d/pod-boot-0-1\.jsonl\.gz", key)
    assert [json.loads(line)["id"] for line in gzip.decompress(body).splitlines()] == ["r-0", "r-1", "r-0"]
    assert not made.due(200.0)
    assert (metrics.labels_taken, metrics.labels_written, made.pending) == (3, 3, False)
    feedback.offer(labels(4), 0.0)
    made.write()
    assert [key[-10:] for key in bucket.objects] == ["1.jsonl.gz", "2.jsonl.gz"]
    assert metrics.labels_written == 7


def test_labels_stay_in_their_buffer_while_there_is_no_room(bucket: Bucket) -> None:
    feedback = Feedback((False, True), ())
    made, metrics = delivery(bucket, feedback)
    bucket.away = lambda key: True
    for _ in range(WAITING + 3):
        feedback.offer(labels(1), 0.0)
        made.write()
    assert (metrics.labels_lost, feedback.waiting > 0) == (0, True)
    bucket.away = lambda key: False
    made.write()
    made.write()
    assert (len(bucket.objects), metrics.labels_written, made.pending) == (WAITING + 1, WAITING + 3, False)


def test_one_kind_does_not_hold_up_the_other(bucket: Bucket) -> None:
    feedback = Feedback((False, True), ())
    made, metrics = delivery(bucket, feedback)
    bucket.away = lambda key: key.startswith("windows/")
    made.windows.add(item("windows/1"))
    feedback.offer(labels(1), 0.0)
    assert made.due(0.0)
    made.write()
    assert (metrics.windows_written, metrics.labels_written) == (0, 1)
    assert not made.due(0.0), "a bucket that refused is left alone for a while"


def test_a_successor_writes_what_was_left(bucket: Bucket) -> None:
    made, metrics = delivery(bucket, None, rest=[("window", item("windows/1")), ("labels", item("labels/1"))])
    assert made.due(0.0)
    made.write()
    assert (sorted(bucket.objects), metrics.windows_written, metrics.labels_written) == (["labels/1", "windows/1"], 1, 1)
