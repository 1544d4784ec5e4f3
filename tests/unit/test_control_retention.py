"""Captured rows end with their retention: whole days, of each service's own, a bounded number at once."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import pytest

from kaizen.control import retention
from kaizen.control.retention import AT_ONCE, ROUNDS, Retention, expire
from kaizen.core.inference_service import decide
from kaizen.core.serving import MADE_FOR
from kaizen.registry import layout
from kaizen.registry.errors import Unreachable
from kaizen.registry.store import Entry
from tests.support.services import NOW, entry, observed, registry
from tests.support.training import MemoryBucket

TODAY = datetime(2026, 3, 31, 12, tzinfo=UTC)
DAY = 86_400


class Keeper:
    def __init__(self, bucket: MemoryBucket) -> None:
        self._bucket = bucket

    def bucket(self) -> MemoryBucket:
        return self._bucket

    async def in_thread(self, work: Any) -> Any:
        return work()


def service(name: str, **capture: Any) -> dict[str, Any]:
    spec = {"model": "m", **({"capture": capture} if capture else {})}
    return {"kind": "InferenceService", "metadata": {"namespace": "flights", "name": name}, "spec": spec}


def filled(
    *names: str, days: Sequence[str] = ("2026-01-01", "2026-03-01", "2026-03-29", "2026-03-30", "2026-03-31")
) -> MemoryBucket:
    return MemoryBucket({f"{layout.captures('flights', name)}{day}/pod-1.jsonl.gz": b"x" for name in names for day in days})


def left(bucket: MemoryBucket, name: str) -> list[str]:
    return [entry.key.split("/")[4] for entry in bucket.list(layout.captures("flights", name))]


def round_of(bucket: MemoryBucket, *objects: dict[str, Any]) -> None:
    asyncio.run(Retention(Keeper(bucket), lambda: objects).round(TODAY))


def test_days_that_are_over_are_deleted_service_by_service() -> None:
    bucket = filled("late", "late-2", "never", "unset")
    other = {"kind": "ModelVersion", "metadata": {"namespace": "flights", "name": "m-v1"}, "spec": {}}
    broken = service("broken", retentionSeconds="soon")
    round_of(bucket, other, broken, service("late", retentionSeconds=DAY), service("late-2", sampleShare=0), service("never"))
    assert left(bucket, "late") == ["2026-03-30", "2026-03-31"], "yesterday's rows are younger than a day until its end"
    assert left(bucket, "late-2") == ["2026-03-01", "2026-03-29", "2026-03-30", "2026-03-31"]
    assert len(left(bucket, "never")) == len(left(bucket, "unset")) == 5


def test_what_names_no_day_is_left_alone() -> None:
    place = layout.captures("flights", "late")
    bucket = MemoryBucket(
        {place + name: b"" for name in ("0", "2020", "2020-01-01", "2020-13-01/a", "20200101xx/a", "notes/2020-01-01/a")}
    )
    assert expire(bucket, place, date(2026, 1, 1)) == 0
    assert len(bucket.objects) == 6


def test_a_round_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 3)
    monkeypatch.setattr(retention, "ROUNDS", 2)
    place = layout.captures("flights", "late")
    bucket = MemoryBucket({f"{place}2026-01-01/{number:02d}": b"" for number in range(10)})
    assert [expire(bucket, place, date(2026, 2, 1)) for _ in range(3)] == [6, 4, 0]
    assert AT_ONCE * ROUNDS >= 4 * 3600, "more than four files a second"


def test_a_bucket_that_is_away_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    class Away(MemoryBucket):
        def list(self, prefix: str, after: str = "", most: int | None = None) -> tuple[Entry, ...]:
            if "/late/" in prefix:
                raise Unreachable("away")
            return super().list(prefix, after, most)

    bucket = Away(filled("late", "other").objects)
    caplog.set_level(logging.INFO)
    round_of(bucket, service("late", retentionSeconds=DAY), service("other", retentionSeconds=DAY))
    assert left(bucket, "other") == ["2026-03-30", "2026-03-31"]
    assert "what flights/late captured is not looked at: away" in caplog.text
    assert "3 files that flights/other captured are deleted" in caplog.text


def test_retention_restarts_no_pod() -> None:
    def digest(**capture: Any) -> str:
        plan = decide(observed(registry(entry(1), serves=1), capture=capture), NOW)
        (made,) = [child.body for child in plan.children if child.body["kind"] == "Deployment"]
        found: str = made["metadata"]["annotations"][MADE_FOR]
        return found

    assert digest(retentionSeconds=DAY) == digest() == digest(sampleShare=1)
    assert digest(sampleShare=0.5) != digest() != digest(hash=["flight"])
