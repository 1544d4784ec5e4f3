"""What a service serves after a promotion, how its past is kept, and whom a model's gates compare with."""

from datetime import UTC, datetime
from typing import Any

import pytest

from kaizen.control.registry import champion
from kaizen.core.plan import Production, Served
from kaizen.registry.production import Promotion, promoted

NOW = datetime(2013, 7, 1, 6, tzinfo=UTC)
MOMENT = "2013-07-01T06:00:00Z"
BEFORE = "2013-06-01T06:00:00Z"
SECOND = Promotion("a", 2, "sha256:2", 9, "NewestVersion")


def past(*versions: int) -> tuple[Served, ...]:
    return tuple(Served(version, BEFORE, "NewestVersion") for version in versions)


NEWEST = Served(2, MOMENT, "NewestVersion")
PASTS: dict[str, tuple[Production | None, tuple[Served, ...]]] = {
    "the first": (None, (NEWEST,)),
    "after one without a history": (Production(1, "sha256:1", BEFORE, 5), (NEWEST,)),
    "after others": (Production(1, "sha256:1", BEFORE, 5, past(3, 1)), (*past(3, 1), NEWEST)),
    "the eleventh": (Production(1, "sha256:1", BEFORE, 5, past(*range(11, 20), 1)), (*past(*range(12, 20), 1), NEWEST)),
    "again, because the first intent was voided": (Production(2, "sha256:2", BEFORE, 5, past(1, 2)), (*past(1), NEWEST)),
}


@pytest.mark.parametrize(("before", "history"), PASTS.values(), ids=PASTS)
def test_a_promotion_is_added_to_the_newest_ten(before: Production | None, history: tuple[Served, ...]) -> None:
    assert promoted(before, SECOND, NOW) == Production(2, "sha256:2", MOMENT, 9, history)
    assert len(history) <= 10


OLD, NEW = Production(1, "sha256:1", BEFORE, 5), Production(2, "sha256:2", MOMENT, 7)
SAME_SECOND = Production(3, "sha256:3", MOMENT, 9)
CHAMPIONS: list[tuple[dict[str, Production], str | None, Production | None]] = [
    ({}, None, None),
    ({}, "a", None),
    ({"a": OLD, "b": NEW}, "a", OLD),
    ({"a": OLD, "b": NEW}, "c", NEW),
    ({"a": OLD, "b": NEW}, None, NEW),
    ({"a": SAME_SECOND, "b": NEW}, None, SAME_SECOND),
]


@pytest.mark.parametrize(("pointers", "service", "expected"), CHAMPIONS)
def test_whom_the_gates_compare_with(pointers: dict[str, Production], service: str | None, expected: Any) -> None:
    assert champion(pointers, service) == expected
