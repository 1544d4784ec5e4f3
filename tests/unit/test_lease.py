"""When a Lease may be taken."""

from typing import Any

import pytest

from kaizen.cluster.lease import DURATION_SECONDS, RENEW_SECONDS, RETRY_SECONDS, is_free

HELD = {"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": "2026-03-01T11:59:50.000000Z"}

CASES: dict[str, tuple[dict[str, Any], float, bool]] = {
    "held and just seen": (HELD, 0, False),
    "own": ({**HELD, "holderIdentity": "me"}, 0, True),
    "given up": ({**HELD, "holderIdentity": ""}, 0, True),
    "never held": ({}, 0, True),
    "at its last moment": (HELD, 15, False),
    "over": (HELD, 15.001, True),
    "renewed by a clock that is far behind": ({**HELD, "renewTime": "2025-03-01T11:59:44Z"}, 1, False),
    "renewed by a clock that is far ahead": ({**HELD, "renewTime": "2027-03-01T11:59:44Z"}, 16, True),
    "of a longer duration": ({**HELD, "leaseDurationSeconds": 60}, 50, False),
    "of a shorter duration": ({**HELD, "leaseDurationSeconds": 5}, 6, True),
    "without a duration, within ours": ({"holderIdentity": "other"}, DURATION_SECONDS, False),
    "without a duration, beyond ours": ({"holderIdentity": "other"}, DURATION_SECONDS + 1, True),
}


@pytest.mark.parametrize(("spec", "unchanged_seconds", "expected"), CASES.values(), ids=CASES)
def test_is_free(spec: dict[str, Any], unchanged_seconds: float, expected: bool) -> None:
    assert is_free(spec, "me", unchanged_seconds) is expected


def test_one_renewal_may_be_missed_and_the_leader_stops_before_another_starts() -> None:
    assert 2 * RENEW_SECONDS + RETRY_SECONDS < DURATION_SECONDS
