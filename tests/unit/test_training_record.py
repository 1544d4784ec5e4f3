"""What automatic training must not forget: transitions that happen once, however often they are asked for."""

from datetime import UTC, datetime
from typing import Any

import pytest

from kaizen.core.training_record import OpenJob, TrainingRecord, from_json, to_json

NOW = datetime(2013, 7, 1, 6, tzinfo=UTC)
MOMENT = "2013-07-01T06:00:00Z"
OPEN = TrainingRecord().start("a", "DataDrift", {"temp": 4.7}, "u/1", NOW)
JOB = OpenJob(1, "a", "DataDrift", MOMENT, "u/1", {"temp": 4.7})


def failed_once_more(record: TrainingRecord, spec: str) -> TrainingRecord:
    return record.start("a", "DataDrift", {"temp": 4.7}, spec, NOW).settle(record.next_job, failed=True, answered=False)


def test_one_job_at_a_time_keeps_its_number() -> None:
    assert TrainingRecord(next_job=2, open=JOB) == OPEN
    assert OPEN.start("b", "Initial", {}, "v/1", datetime(2014, 1, 1, tzinfo=UTC)) is OPEN


def test_a_number_is_never_used_twice() -> None:
    after = OPEN.settle(1, failed=True, answered=False).start("a", "DataDrift", {}, "u/1", NOW)
    assert after.open is not None
    assert (after.open.number, after.next_job) == (2, 3)


def test_a_job_is_settled_once() -> None:
    failed = OPEN.settle(1, failed=True, answered=False)
    assert failed == TrainingRecord(next_job=2, last=JOB, failures_in_a_row=1)
    assert failed.settle(1, failed=True, answered=False) is failed
    assert OPEN.settle(7, failed=True, answered=False) is OPEN


def test_failures_count_until_a_success() -> None:
    found = TrainingRecord(acknowledged={"hour": 0.2, "temp": 1.0})
    for _ in range(3):
        found = failed_once_more(found, "u/1")
    assert (found.failures_in_a_row, found.acknowledged) == (3, {"hour": 0.2, "temp": 1.0})
    found = found.start("a", "DataDrift", {"temp": 4.7}, "u/1", NOW).settle(4, failed=False, answered=True)
    assert (found.failures_in_a_row, found.acknowledged) == (0, {"hour": 0.2, "temp": 4.7})


def test_failures_of_another_spec_do_not_count() -> None:
    found = failed_once_more(failed_once_more(TrainingRecord(), "u/1"), "u/1")
    assert found.failures_in_a_row == 2
    assert failed_once_more(found, "u/2").failures_in_a_row == 1


def test_a_version_rolled_back_is_skipped_until_it_is_named() -> None:
    found = TrainingRecord().skip("a", 8, "crashes").skip("a", 7, "slow").skip("b", 7, "wrong")
    assert found.rolled_back == {"a": {7: "slow", 8: "crashes"}, "b": {7: "wrong"}}
    assert list(found.rolled_back["a"]) == [7, 8]
    assert found.skip("a", 7, "another reason") is found
    assert found.allow("a", 7).rolled_back == {"a": {8: "crashes"}, "b": {7: "wrong"}}
    assert found.allow("b", 7).rolled_back == {"a": {7: "slow", 8: "crashes"}}
    assert found.allow("b", 9) is found
    assert found.allow("c", 7) is found


STORED = {
    "nextJob": 2,
    "open": None,
    "last": {
        "number": 1, "service": "a", "cause": "DataDrift", "started": MOMENT, "spec": "u/1", "drift": {"temp": 4.7},
    },
    "failuresInARow": 0,
    "acknowledged": {"temp": 4.7},
    "rolledBack": {"a": [{"version": 1, "reason": "crashes"}]},
}  # fmt: skip


def test_how_it_is_stored() -> None:
    assert to_json(OPEN.settle(1, failed=False, answered=True).skip("a", 1, "crashes")) == STORED


@pytest.mark.parametrize("record", [TrainingRecord(), OPEN, OPEN.settle(1, failed=False, answered=True).skip("a", 1, "crashes")])
def test_what_is_stored_is_read_back(record: TrainingRecord) -> None:
    assert from_json({**to_json(record), "writer": "w"}) == record


BROKEN: list[dict[str, Any]] = [
    {}, {"nextJob": "x"}, {"open": []}, {"open": {}}, {"last": {"number": 1}}, {"acknowledged": 1}, {"rolledBack": {"a": 1}},
    {"rolledBack": {"a": [1]}},
]  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_a_broken_record_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a record of automatic training"):
        from_json({**to_json(TrainingRecord()), **broken} if broken else {})
