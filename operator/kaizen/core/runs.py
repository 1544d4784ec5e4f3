"""The words that a run and a version are described with in statuses: manifests and progress documents, bounded and checked.

They were written by Pods, so nothing in them is taken for granted.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kaizen.api.training_job import Recipe

LONGEST = 1024
LONGEST_PARAMETERS = 2048
MOST_ANOMALIES = 32
MOST = 2**53
"""Whoever reads JSON numbers as floats would not know more."""
TUNING = ("Tune", "Tuning")
"""The step whose trials are counted."""
DEFAULT_METRIC = {"Classification": "log_loss", "Regression": "rmse"}


def metrics(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The metrics of a manifest or progress document as a status shows them."""
    found = []
    for item in _objects(document.get("metrics"))[:64]:
        if (value := _number(item.get("value"))) is not None:
            between = {name: _number(item.get(name)) for name in ("low", "high")}
            named = {"name": _text(item.get("name"), 64), "value": value, "dataset": _text(item.get("dataset"), 64)}
            found.append({**named, **without_none(between)})
    return found


def gates(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The gate results of a manifest as a status shows them."""
    found = []
    for item in _objects(document.get("gates"))[:16]:
        result: dict[str, Any] = {"name": _text(item.get("name"), 63), "outcome": _text(item.get("outcome"), 64)}
        result |= {name: item[name] for name in ("passed", "required") if isinstance(item.get(name), bool)}
        result |= without_none({name: _number(item.get(name)) for name in ("value", "low", "high", "limit")})
        result |= without_none({"against": text(item.get("against"), 64)})
        if item.get("message"):
            result["message"] = _text(item["message"], LONGEST)
        found.append(result)
    return found


def step(document: Mapping[str, Any]) -> str:
    """The step of a progress document, with its trials while they run: `Tuning 12/40`."""
    name, trials = text(document.get("step"), 48) or "Starting", _object(document.get("search"))
    finished, total = _count(trials.get("finished")), _count(trials.get("total"))
    return f"Tuning {finished}/{total}" if name in TUNING and finished is not None and total is not None else name


def progress(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """How many steps are done, and how long the remaining trials take."""
    done, total = _count(document.get("done")), _count(document.get("total"))
    if done is None or total is None:
        return None
    return without_none({"done": done, "total": total, "etaSeconds": _count(_object(document.get("search")).get("etaSeconds"))})


def search(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The trials of a progress document as a status shows them."""
    trials = _object(document.get("search"))
    found: dict[str, Any] = {name: _count(trials.get(name)) for name in ("finished", "pruned", "failed")}
    if None in found.values():
        return None
    best = _object(trials.get("best"))
    if (value := _number(best.get("value"))) is not None:
        parameters = best.get("parameters")
        words = json.dumps(parameters, sort_keys=True) if isinstance(parameters, Mapping) else "{}"
        found["best"] = {"value": value, "parameters": _shortened(words, LONGEST_PARAMETERS)}
    return found


def metric(spec: Recipe, document: Mapping[str, Any]) -> str | None:
    """The figure to show first, `log_loss=0.412`: on test rows, and before there is one the best trial's."""
    objective = spec.search.objective if spec.search else None
    name = objective.metric if objective else DEFAULT_METRIC[spec.task]
    for item in metrics(document):
        if (item["name"], item["dataset"]) == (name, "test"):
            return f"{name}={item['value']:.4g}"
    best = (search(document) or {}).get("best")
    return f"{name}={best['value']:.4g}" if best else None


def data(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a run read as a status shows it: `digest`, `rows`, `columns`, `trainedUntil`, `anomalies`."""
    digest, rows = text(document.get("digest"), 71), _count(document.get("rows"))
    if digest is None or rows is None:
        return None
    found = {"digest": digest, "rows": rows, "columns": _count(document.get("columns"))}
    found["trainedUntil"] = text(document.get("trainedUntil"), 64)
    anomalies = [
        without_none(
            {
                "code": text(item.get("code"), 64) or "UNKNOWN",
                "severity": text(item.get("severity"), 16) or "Warning",
                "column": text(item.get("column"), 128),
                "message": text(item.get("message")) or "",
            }
        )
        for item in _objects(document.get("anomalies"))[:MOST_ANOMALIES]
    ]
    return without_none({**found, "anomalies": anomalies or None})


def failed_gates(document: Mapping[str, Any]) -> list[str]:
    """Names of the required gates that a version did not pass."""
    results = _objects(document.get("gates"))
    return [_text(item.get("name"), 63) for item in results if item.get("passed") is False and item.get("required") is not False]


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A status without what is not known."""
    return {name: value for name, value in fields.items() if value is not None}


def text(value: Any, longest: int = LONGEST) -> str | None:
    """A text of a document, cut to length; None when it is no text."""
    return value[:longest] if isinstance(value, str) and value else None


def some(words: list[str]) -> str:
    """The first words of a list, and how many more there are."""
    return ", ".join(words[:5]) + (f" and {len(words) - 5} more" if len(words) > 5 else "")


def engine(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What answers a version's requests, and why it is not the compiled engine."""
    name, reason = text(manifest.get("engine"), 64), text(manifest.get("engineReason"))
    return without_none({"name": name or "unknown", "reason": reason})


def _text(value: Any, longest: int) -> str:
    return str(value)[:longest]


def _shortened(words: str, longest: int) -> str:
    return words if len(words) <= longest else f"{words[: longest - 1]}…"


def _number(value: Any) -> float | None:
    # JSON's true is an int to Python, and an int of JSON may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300 or not math.isfinite(value):
        return None
    return round(float(value), 6)


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MOST else None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _objects(value: Any) -> Sequence[Mapping[str, Any]]:
    items: Iterable[Any] = value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, Mapping)]
