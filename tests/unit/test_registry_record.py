"""What automatic training must not forget: transitions that happen once, however often they are asked for."""

from datetime import UTC, datetime
from typing import Any

import pytest

from kaizen.registry.errors import Malformed
from kaizen.registry.record import OpenJob, TrainingRecord, from_json, to_json

NOW = datetime(2013, 7, 1, 6, tzinfo=UTC)
MOMENT = "2013-07-01T06:00:00Z"
OPEN = TrainingRecord().start("DataDrift", {"temp": 4.7}, NOW)


def test_one_job_at_a_time_keeps_its_number() -> None:
    assert TrainingRecord(2, OpenJob(1, "DataDrift", MOMENT, {"temp": 4.7}), MOMENT) == OPEN
    assert OPEN.start("Staleness", {}, datetime(2014, 1, 1, tzinfo=UTC)) is OPEN


def test_a_number_is_never_used_twice() -> None:
    after = OPEN.settle(1, failed=True, answered=False).start("DataDrift", {}, NOW)
    assert after.open is not None
    assert (after.open.number, after.next_job) == (2, 3)


def test_a_job_is_settled_once() -> None:
    failed = OPEN.settle(1, failed=True, answered=False)
    assert (failed.open, failed.failures_in_a_row, failed.acknowledged, failed.last_started) == (None, 1, {}, MOMENT)
    assert failed.settle(1, failed=True, answered=False) is failed
    assert OPEN.settle(7, failed=True, answered=False) is OPEN


def test_failures_count_until_a_success() -> None:
    found = TrainingRecord(acknowledged={"hour": 0.2, "temp": 1.0})
    for _ in range(3):
        found = found.start("DataDrift", {"temp": 4.7}, NOW)
        found = found.settle(found.next_job - 1, failed=True, answered=False)
    assert (found.failures_in_a_row, found.acknowledged) == (3, {"hour": 0.2, "temp": 1.0})
    found = found.start("DataDrift", {"temp": 4.7}, NOW).settle(4, failed=False, answered=True)
    assert (found.failures_in_a_row, found.acknowledged) == (0, {"hour": 0.2, "temp": 4.7})


def test_a_version_rolled_back_is_skipped_until_it_is_named() -> None:
    found = TrainingRecord().skip("a", 8).skip("a", 7).skip("b", 7)
    assert found.rolled_back == {"a": (7, 8), "b": (7,)}
    assert found.skip("a", 7) is found
    assert found.allow("a", 7).rolled_back == {"a": (8,), "b": (7,)}
    assert found.allow("b", 7).rolled_back == {"a": (7, 8)}
    assert found.allow("b", 9) is found
    assert found.allow("c", 7) is found


@pytest.mark.parametrize("record", [TrainingRecord(), OPEN, OPEN.settle(1, failed=False, answered=True).skip("a", 1)])
def test_what_is_stored_is_read_back(record: TrainingRecord) -> None:
    assert from_json({**to_json(record), "writer": "w"}) == record


BROKEN: list[dict[str, Any]] = [{}, {"nextJob": "x"}, {"open": []}, {"open": {}}, {"acknowledged": 1}, {"rolledBack": {"a": 1}}]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_a_broken_record_is_malformed(broken: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match=r"training\.json in the bucket is not a record"):
        from_json({**to_json(TrainingRecord()), **broken} if broken else {})
