"""Labels: what is kept, in which form, and the sentence for everything else."""

import gzip
import json
from typing import Any

import pytest

from kaizen.serving.problems import Overloaded, RequestError
from kaizen.serving.watching.feedback import Feedback

NOW = 1_795_000_000.25
TOLD = "2026-11-18T11:06:40.250Z"


def sent(*labels: Any) -> bytes:
    return json.dumps({"labels": labels}).encode()


def taken(feedback: Feedback) -> list[Any]:
    found = feedback.take()
    return [] if found is None else [json.loads(line) for line in gzip.decompress(found).splitlines()]


def test_labels_are_kept_until_they_are_taken() -> None:
    feedback = Feedback(("early", "late"), ("flight", "day"))
    first = {"id": "a-0", "label": "late"}
    second = {"keys": {"day": "2026-11-21", "flight": 7}, "label": "early", "time": "2026-11-19T08:30:00+01:00"}
    assert feedback.offer(sent(first, second), NOW) == 2
    assert feedback.offer(sent({"id": "b-1", "label": "diverted"}), NOW) == 1
    assert feedback.waiting > 0
    assert taken(feedback) == [
        {"id": "a-0", "label": "late", "time": TOLD},
        {"keys": {"day": "2026-11-21", "flight": 7}, "label": "early", "time": "2026-11-19T07:30:00.000Z"},
        {"id": "b-1", "label": "diverted", "time": TOLD},
    ]
    assert feedback.waiting == 0
    assert feedback.take() is None


def test_memory_is_bounded_and_a_request_is_kept_as_a_whole_or_not() -> None:
    line = len(b'{"id":"a-0","label":"late","time":"%s"}\n' % TOLD.encode())
    feedback = Feedback(("early", "late"), (), buffered_bytes=3 * line)
    one = {"id": "a-0", "label": "late"}
    assert feedback.offer(sent(one, one), NOW) == 2
    with pytest.raises(Overloaded, match="too many labels wait") as refused:
        feedback.offer(sent(one, one), NOW)
    assert (refused.value.status, refused.value.seconds) == (503, 60)
    assert feedback.offer(sent(one), NOW) == 1
    assert len(taken(feedback)) == 3
    assert feedback.offer(sent(one, one, one), NOW) == 3


def test_more_than_there_is_ever_room_for_is_not_to_be_tried_again() -> None:
    one = {"id": "a-0", "label": "late"}
    feedback = Feedback(("early", "late"), (), buffered_bytes=200)
    with pytest.raises(RequestError, match="more than the 200 that are kept; send fewer at once") as refused:
        feedback.offer(sent(*[one] * 10), NOW)
    assert refused.value.status == 413
    with pytest.raises(RequestError, match="the request has 10001 labels; send at most 10000 at once") as refused:
        feedback.offer(sent(*[one] * 10_001), NOW)
    assert refused.value.status == 413


LABELS = {
    "a class": (("early", "late"), "late", "late"),
    "a class never seen": (("early", "late"), "diverted", "diverted"),
    "a number of a class": ((0, 1), 1, 1),
    "as pandas writes it": ((0, 1), 1.0, 1),
    "a number never seen": ((0, 1), 2, 2),
    "never seen, as pandas writes it": ((0, 1), 2.0, 2),
    "the smallest number": ((0, 1), -(2**63), -(2**63)),
    "the smallest number as a double": ((0, 1), -(2.0**63), -(2**63)),
    "a double never seen": ((0.0, 1.0), 2.5, 2.5),
    "a whole number of doubles never seen": ((0.0, 1.0), 2, 2.0),
    "the largest double": ((0.0, 1.0), 1.7976931348623157e308, 1.7976931348623157e308),
    "never seen among both kinds of numbers": ((1, 2.5), 3, 3.0),
    "a truth": ((False, True), True, True),
    "a double": ((0.5, 1.0), 1, 1.0),
    "of a regression": (None, 1.5, 1.5),
    "a whole number of a regression": (None, 2, 2),
}


@pytest.mark.parametrize(("classes", "label", "kept"), LABELS.values(), ids=LABELS)
def test_labels(classes: Any, label: Any, kept: Any) -> None:
    feedback = Feedback(classes, ())
    feedback.offer(sent({"id": "a-0", "label": label}), NOW)
    (found,) = taken(feedback)
    assert repr(found["label"]) == repr(kept)


REFUSED: dict[str, tuple[Any, bytes, str]] = {
    "nothing": (("a", "b"), b"", "the body is empty; send a JSON object"),
    "no labels": (("a", "b"), sent(), '"labels" is empty; send at least one, as {"id": "<row id>", "label": …}'),
    "no label": (("a", "b"), sent({"id": "x-0"}), "the request does not fit at labels[0]: object missing required field `label`"),
    "a misspelt field": (
        ("a", "b"),
        sent({"id": "x-0", "label": "a", "tme": ""}),
        "the request does not fit at labels[0]: object contains unknown field `tme`",
    ),
    "null": (("a", "b"), sent({"id": "x-0", "label": None}), "the request does not fit at labels[0].label: expected"),
    "neither id nor keys": (("a", "b"), sent({"label": "a"}), 'label 0 must have either "id", as the answer\'s output id gives'),
    "both": (("a", "b"), sent({"label": "a", "id": "x", "keys": {}}), 'label 0 must have either "id"'),
    "an empty id": (("a", "b"), sent({"label": "a", "id": ""}), "label 0 has an id of 0 characters; it must have 1 to 280"),
    "an endless id": (("a", "b"), sent({"label": "a", "id": "x" * 281}), "label 0 has an id of 281 characters"),
    "other keys": (("a", "b"), sent({"label": "a", "keys": {"x": 1}}), 'label 0 has the keys "x"; send flight'),
    "a number for a class": (("a", "b"), sent({"label": 1, "id": "x"}), 'label 0 is 1; send a class, as "a", "b"'),
    "a truth for a number": ((0, 1), sent({"label": True, "id": "x"}), "label 0 is true; send a class, as 0, 1"),
    "a number for a truth": ((False, True), sent({"label": 1, "id": "x"}), "label 0 is 1; send a class, as false, true"),
    "a truth for a double": ((0.0, 1.0), sent({"label": True, "id": "x"}), "label 0 is true; send a class, as 0.0, 1.0"),
    "a string for a double": ((0.0, 1.0), sent({"label": "1", "id": "x"}), 'label 0 is "1"; send a class, as 0.0, 1.0'),
    "half a number": ((0, 1), sent({"label": 0.5, "id": "x"}), "label 0 is 0.5; send a class, as 0, 1"),
    "a double beyond whole numbers": ((0, 1), sent({"label": 2.0**63, "id": "x"}), "; send a class, as 0, 1"),
    "beyond a double": ((0.0, 1.0), sent({"label": 2, "id": "x"}).replace(b"2", b"1e999"), "number out of range"),
    "bare NaN": ((0.0, 1.0), sent({"label": float("nan"), "id": "x"}), "the token NaN is not JSON"),
    "bare Infinity": ((0, 1), sent({"label": float("inf"), "id": "x"}), "the token Infinity is not JSON"),
    "a string for a number": (None, sent({"label": "x", "id": "x"}), 'label 0 is "x"; this model predicts a number, so send one'),
    "a truth for a prediction": (None, sent({"label": True, "id": "x"}), "label 0 is true; this model predicts a number"),
    "a number of 400 digits": (
        None,
        sent({"label": 10**400, "id": "x"}),
        "the request does not fit at labels[0].label: expected `int` <= 9223372036854775807",
    ),
    "a time without a zone": (
        None,
        sent({"label": 1, "id": "x", "time": "2026-11-21T08:30:00"}),
        'label 0 has the time "2026-11-21T08:30:00"; send it as RFC 3339, like 2026-11-21T08:30:00Z',
    ),
    "no time": (None, sent({"label": 1, "id": "x", "time": "yesterday"}), 'label 0 has the time "yesterday"; send it as RFC'),
    "a time that nobody lives to correct": (
        None,
        sent({"label": 1, "id": "x-0"}, {"label": 1, "id": "x-1", "time": "9999-12-31T00:00:00Z"}),
        'label 1 has the time "9999-12-31T00:00:00Z", more than a day after now, which is 2026-11-18T11:06:40.250Z by the '
        "server's clock; send when it happened",
    ),
    "a time more than a day ahead": (
        None,
        sent({"label": 1, "id": "x", "time": "2026-11-19T13:06:40.251+02:00"}),
        'label 0 has the time "2026-11-19T13:06:40.251+02:00", more than a day after now',
    ),
    "a time before all": (None, sent({"label": 1, "id": "x", "time": "0001-01-01T00:00:00+23:59"}), "label 0 has the time"),
}


@pytest.mark.parametrize(("classes", "body", "says"), REFUSED.values(), ids=REFUSED)
def test_refused(classes: Any, body: bytes, says: str) -> None:
    feedback = Feedback(classes, ("flight",))
    with pytest.raises(RequestError) as refused:
        feedback.offer(body, NOW)
    assert refused.value.status == 400
    assert says in str(refused.value)
    assert feedback.take() is None


def test_clocks_may_differ_by_a_day() -> None:
    feedback = Feedback(None, ())
    feedback.offer(sent({"id": "a-0", "label": 1, "time": "2026-11-19T13:06:40.250+02:00"}), NOW)
    assert [label["time"] for label in taken(feedback)] == ["2026-11-19T11:06:40.250Z"]


def test_keys_that_were_not_declared() -> None:
    with pytest.raises(RequestError, match='label 0 has "keys", but the model\'s dataset declares none; send "id"'):
        Feedback(None, ()).offer(sent({"label": 1, "keys": {"x": 1}}), NOW)
