"""What every status of ours must satisfy, whoever wrote it: rules as pure functions that list what is broken.

kstatus, `kubectl wait`, Flux and Argo CD each read a part of these conventions; fluxcd/pkg checks its own controllers in
the same way (runtime/conditions/check).  Nothing here raises: a missing field is a problem like any other.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeGuard

__all__ = ["Object", "problems", "transition_problems"]

Object = Mapping[str, Any]

_FIELDS = ("type", "status", "reason", "message", "observedGeneration", "lastTransitionTime")
_STATUSES = ("True", "False", "Unknown")
_ONLY_WHEN_TRUE = ("Reconciling", "Stalled")
_CAMEL_CASE = re.compile(r"[A-Z][A-Za-z0-9]*")
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
_RANDOM = "[bcdfghjklmnpqrstvwxz2456789]"
"""Kubernetes makes up names from these letters, so that no word appears by accident."""
_GENERATED = {
    "a uid": re.compile(r"\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"),
    "a timestamp": re.compile(r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}"),
    # Of a Deployment's Pod; five letters alone could be a word ("-https"), so those need a digit among them.
    "a generated name": re.compile(rf"-{_RANDOM}{{8,10}}-{_RANDOM}{{5}}(?![-a-z0-9])|-(?=[a-z]*\d){_RANDOM}{{5}}(?![-a-z0-9])"),
}
_ROW = re.compile(r"\brow \d+ \([^)]*\)")
"""A row of the user's data is named by its time and keys."""
_CLOCK_TOLERANCE = timedelta(minutes=1)


def problems(body: Object, now: datetime | None = None) -> list[str]:
    """Every rule that an object's status breaks, one sentence each; empty for a good status or none at all.

    `now` (with time zone) also checks that no transition lies in the future.
    """
    status = body.get("status")
    if status is None:
        return []
    generation, conditions = _generation(body), _conditions(status)
    found = _of_top_level(status, generation)
    for condition in conditions:
        found += [f"{_name(condition)}: {problem}" for problem in _of_condition(condition, body, generation, now)]
    return found + _of_types(conditions) + _of_summary(status, conditions)


def transition_problems(before: Object, after: Object, *, adjacent: bool = True) -> list[str]:
    """What is wrong between two sightings of an object: times move exactly when statuses do, generations never go back.

    Times have whole seconds, so a status may change twice within one.  Pass `adjacent=False` when other states may have
    been missed in between: a condition that left and came back has the same status and rightly a new time.
    """
    if before["metadata"]["uid"] != after["metadata"]["uid"]:
        return []
    old, new = before.get("status") or {}, after.get("status") or {}
    found = _went_back("status", old, new)
    previous = {_name(condition): condition for condition in _conditions(old)}
    for condition in _conditions(new):
        if known := previous.get(_name(condition)):
            found += _went_back(_name(condition), known, condition)
            found += _time_problems(known, condition, adjacent)
    return found


def _of_top_level(status: Object, generation: int) -> list[str]:
    observed = status.get("observedGeneration")
    if not _is_integer(observed):
        return ["status.observedGeneration is missing"]
    if observed > generation:
        return [f"status.observedGeneration {observed} is newer than the object's generation {generation}"]
    return []


def _of_condition(condition: Object, body: Object, generation: int, now: datetime | None) -> list[str]:
    found = [f"{field} is missing" for field in _FIELDS if condition.get(field) is None]
    if condition.get("status") not in (None, *_STATUSES):
        found.append(f"status {condition['status']!r} is none of {', '.join(_STATUSES)}")
    if condition.get("type") in _ONLY_WHEN_TRUE and condition.get("status") != "True":
        found.append("may be present only when True")
    reason = condition.get("reason")
    if reason is not None and not _CAMEL_CASE.fullmatch(str(reason)):
        found.append(f"reason {reason!r} is not CamelCase")
    observed = condition.get("observedGeneration")
    if observed is not None and (not _is_integer(observed) or observed > generation):
        found.append(f"observedGeneration {observed!r} is newer than the object's generation {generation}, or no number")
    return found + _of_message(condition.get("message"), body) + _of_time(condition.get("lastTransitionTime"), now)


def _of_message(message: Any, body: Object) -> list[str]:
    if message is None:
        return []
    if not isinstance(message, str) or not message.strip():
        return ["message is empty"]
    # What a person wrote may look generated and still be repeated to them.
    written = json.dumps([body["metadata"].get("name"), body.get("spec")], default=str)
    return [
        f"message has {what}: {match.group()!r}"
        for what, pattern in _GENERATED.items()
        for match in pattern.finditer(_ROW.sub("", message))
        if match.group() not in written
    ]


def _of_time(text: Any, now: datetime | None) -> list[str]:
    if text is None:
        return []
    moment = _moment(text)
    if moment is None:
        return [f"lastTransitionTime {text!r} is not of the form 2026-01-31T23:59:59Z"]
    if now is not None and moment > now + _CLOCK_TOLERANCE:
        return [f"lastTransitionTime {text} lies in the future"]
    return []


def _of_types(conditions: Sequence[Object]) -> list[str]:
    types = [_name(condition) for condition in conditions]
    found = [f"{kind}: present {count} times" for kind, count in Counter(types).items() if count > 1]
    if types != sorted(types):
        found.append(f"conditions are not sorted by type: {', '.join(types)}")
    return found


def _of_summary(status: Object, conditions: Sequence[Object]) -> list[str]:
    """Ready, Reconciling and Stalled together."""
    statuses = {_name(condition): condition.get("status") for condition in conditions}
    observed = status.get("observedGeneration")
    found = []
    if _is_integer(observed) and observed >= 0 and "Ready" not in statuses:
        found.append("Ready is missing although observedGeneration is not -1")
    if statuses.get("Stalled") == "True" and statuses.get("Ready") != "False":
        found.append(f"Stalled is True and Ready is {statuses.get('Ready')}, not False")
    if statuses.get("Stalled") == statuses.get("Reconciling") == "True":
        found.append("Reconciling and Stalled are present together")
    return found


def _went_back(what: str, old: Object, new: Object) -> list[str]:
    one, other = old.get("observedGeneration"), new.get("observedGeneration")
    if _is_integer(one) and (not _is_integer(other) or other < one):
        return [f"{what}: observedGeneration went back from {one} to {other}"]
    return []


def _time_problems(old: Object, new: Object, adjacent: bool) -> list[str]:
    name, since, until = _name(new), old.get("lastTransitionTime"), new.get("lastTransitionTime")
    earlier, later = _moment(since), _moment(until)
    if earlier is None or later is None:
        return []  # `problems` says so.
    if later < earlier:
        return [f"{name}: lastTransitionTime went back from {since} to {until}"]
    if adjacent and later != earlier and old.get("status") == new.get("status"):
        return [f"{name}: lastTransitionTime moved from {since} to {until} although status stayed {new.get('status')}"]
    return []


def _generation(body: Object) -> int:
    return int(body["metadata"].get("generation", 0))


def _conditions(status: Object) -> Sequence[Object]:
    return status.get("conditions") or ()


def _name(condition: Object) -> str:
    return str(condition.get("type", "a condition"))


def _moment(text: Any) -> datetime | None:
    if not isinstance(text, str) or not _TIMESTAMP.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _is_integer(value: Any) -> TypeGuard[int]:
    return type(value) is int
