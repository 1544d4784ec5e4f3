"""When a Lease may be taken."""

from datetime import UTC, datetime
from typing import Any

import pytest

from kaizen.cluster.lease import DURATION_SECONDS, RENEW_SECONDS, RETRY_SECONDS, is_free

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
HELD = {"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": "2026-03-01T11:59:50.000000Z"}

CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "held and renewed": (HELD, False),
    "own": ({**HELD, "holderIdentity": "me"}, True),
    "given up": ({**HELD, "holderIdentity": ""}, True),
    "never held": ({}, True),
    "held without a time": ({"holderIdentity": "other"}, True),
    "time is null": ({**HELD, "renewTime": None}, True),
    "at its last moment": ({**HELD, "renewTime": "2026-03-01T11:59:45.000000Z"}, False),
    "over": ({**HELD, "renewTime": "2026-03-01T11:59:44.999999Z"}, True),
    "over long ago": ({**HELD, "renewTime": "2025-03-01T11:59:44Z"}, True),
    "of a longer duration": ({**HELD, "leaseDurationSeconds": 60, "renewTime": "2026-03-01T11:59:10.000000Z"}, False),
    "of a shorter duration": ({**HELD, "leaseDurationSeconds": 5}, True),
    "without a duration, within ours": ({k: v for k, v in HELD.items() if k != "leaseDurationSeconds"}, False),
    "without a duration, beyond ours": ({"holderIdentity": "other", "renewTime": "2026-03-01T11:59:44.999999Z"}, True),
    "renewed by a clock that is ahead": ({**HELD, "renewTime": "2026-03-01T12:00:05.000000Z"}, False),
    "with an offset instead of Z": ({**HELD, "renewTime": "2026-03-01T12:59:50.000000+01:00"}, False),
}


@pytest.mark.parametrize(("spec", "expected"), CASES.values(), ids=CASES)
def test_is_free(spec: dict[str, Any], expected: bool) -> None:
    assert is_free(spec, "me", NOW) is expected


def test_one_renewal_may_be_missed_and_the_leader_stops_before_another_starts() -> None:
    assert 2 * RENEW_SECONDS + RETRY_SECONDS < DURATION_SECONDS
