"""The audit chain: whatever is changed, taken out, added or moved in it is found."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaizen.registry.audit import Break, verify
from kaizen.registry.manifest import sha256

Stored = tuple[int, bytes]


def chain(length: int) -> list[Stored]:
    stored: list[Stored] = []
    for sequence in range(1, length + 1):
        document: dict[str, Any] = {
            "sequence": sequence, "time": "2013-04-01T00:00:00Z", "actor": "operator", "action": "Registered",
            "object": f"versions/{sequence}/", "digest": None, "details": {}, "writer": "w",
            "previous": sha256(stored[-1][1]) if stored else None,
        }  # fmt: skip
        stored.append((sequence, json.dumps(document).encode()))
    return stored


def edited(stored: Stored, **changes: Any) -> Stored:
    return stored[0], json.dumps({**json.loads(stored[1]), **changes}).encode()


@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_a_sound_chain(length: int) -> None:
    assert verify(chain(length)) is None


def test_a_change_shows_at_the_record_after_it() -> None:
    stored = chain(3)
    stored[1] = edited(stored[1], actor="mallory")
    assert verify(stored) == Break(3, "record 3 does not follow record 2: one of the two was changed")


def test_a_missing_record_is_named() -> None:
    assert verify(chain(3)[1:]) == Break(1, "record 1 is missing")
    assert verify([*chain(3)[:1], *chain(3)[2:]]) == Break(2, "record 2 is missing")


def test_a_forged_record_is_named() -> None:
    stored = chain(3)
    assert verify([*stored[:2], edited(stored[2], previous=None)]) == Break(
        3, "record 3 does not follow record 2: one of the two was changed"
    )
    assert verify([*stored[:2], edited(stored[2], sequence=9)]) == Break(3, "record 3 says that it is record 9")
    assert verify([edited(stored[0], previous="sha256:0")]) == Break(1, "record 1 does not begin the chain: it was changed")
    for body in (b"{", b"[]", b"{}", b'"text"'):
        assert verify([*stored[:2], (3, body)]) == Break(3, "record 3 cannot be read")


@given(st.data())
def test_any_edit_but_the_newest_records_is_found(data: st.DataObject) -> None:
    """The newest record has none after it: its content is covered by the next."""
    stored = chain(6)
    at = data.draw(st.integers(0, 4))
    kind = data.draw(st.sampled_from(["edit", "drop", "swap", "repeat"]))
    if kind == "edit":
        stored[at] = edited(stored[at], **{data.draw(st.sampled_from(["time", "actor", "action", "digest", "writer"])): "x"})
    elif kind == "drop":
        del stored[at]
    elif kind == "swap":
        stored[at], stored[at + 1] = (at + 1, stored[at + 1][1]), (at + 2, stored[at][1])
    else:
        stored.insert(at, stored[at])
    assert verify(stored) is not None
