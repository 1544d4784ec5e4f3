"""The words that a run and a version are described with in statuses: manifests and progress documents, bounded and checked.

They were written by Pods, so nothing in them is taken for granted.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LONGEST = 1024


def metrics(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The metrics of a manifest or progress document as a status shows them."""
    found = []
    for item in _objects(document.get("metrics"))[:64]:
        value = item.get("value")
        if isinstance(value, int | float) and math.isfinite(value):
            found.append(
                {"name": _text(item.get("name"), 64), "value": round(float(value), 6), "dataset": _text(item.get("dataset"), 64)}
            )
    return found


def gates(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The gate results of a manifest as a status shows them."""
    found = []
    for item in _objects(document.get("gates"))[:16]:
        result: dict[str, Any] = {"name": _text(item.get("name"), 63), "outcome": _text(item.get("outcome"), 64)}
        for number in ("value", "limit"):
            value = item.get(number)
            if isinstance(value, int | float) and math.isfinite(value):
                result[number] = round(float(value), 6)
        if item.get("message"):
            result["message"] = _text(item["message"], LONGEST)
        found.append(result)
    return found


def failed_gates(document: Mapping[str, Any]) -> list[str]:
    """Names of the gates that a version did not pass."""
    return [_text(item.get("name"), 63) for item in _objects(document.get("gates")) if item.get("passed") is False]


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A status without what is not known."""
    return {name: value for name, value in fields.items() if value is not None}


def text(value: Any, longest: int = LONGEST) -> str | None:
    """A text of a document, cut to length; None when it is no text."""
    return value[:longest] if isinstance(value, str) and value else None


def _text(value: Any, longest: int) -> str:
    return str(value)[:longest]


def _objects(value: Any) -> Sequence[Mapping[str, Any]]:
    items: Iterable[Any] = value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, Mapping)]
