"""What one server process counted in one stretch of time, as it lies in the bucket, and the sum of such windows."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Counts", "Window", "from_json", "key", "merge", "start_and_version", "to_json"]

MOST_ROWS = 2**40
"""In one window: sums stay exact in any number format."""

_KEY = re.compile(r"windows/[^/]+/([0-9]{1,12})/([0-9]{1,10})-[^/]+\.json")


@dataclass(frozen=True)
class Counts:
    """Rows by cell, of any number of windows."""

    rows: int = 0
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By feature; empty when no window was added up."""
    prediction: tuple[int, ...] = ()
    rejected: int = 0


@dataclass(frozen=True)
class Window:
    """Counts of one server process between two moments; every list of counts adds up to rows."""

    service: str
    version: int
    start: int
    """Seconds since 1970; a multiple of the window's length."""
    end: int
    source: str
    """<pod uid>-<boot id>-<worker>: no other process ever writes under this name."""
    rows: int
    counts: Mapping[str, tuple[int, ...]]
    prediction: tuple[int, ...]
    rejected: int = 0
    """Rows that were answered and not counted, because the buffer was full."""


def key(service: str, start: int, version: int, source: str) -> str:
    """Where a window lies, below the namespace's part of the bucket."""
    return f"windows/{service}/{start}/{version}-{source}.json"


def start_and_version(key: str) -> tuple[int, int] | None:
    """What a window's key says of it; None when it is not the key of a window."""
    found = _KEY.fullmatch(key)
    return (int(found[1]), int(found[2])) if found else None


def to_json(window: Window) -> dict[str, Any]:
    """The JSON object of a window."""
    return {
        "format": 1,
        "service": window.service,
        "version": window.version,
        "start": window.start,
        "end": window.end,
        "source": window.source,
        "rows": window.rows,
        "counts": {name: list(counts) for name, counts in window.counts.items()},
        "prediction": list(window.prediction),
        "rejected": window.rejected,
    }


def from_json(document: Mapping[str, Any]) -> Window:
    """The window of to_json's object.

    Raises ValueError for anything else, and for counts that are negative or do not add up: windows are written by Pods that
    hold a namespace's identity, and are not to be trusted further than that.
    """
    try:
        if document["format"] != 1:
            raise ValueError(f"the window has format {document['format']!r}; this Kaizen reads format 1")
        window = Window(
            service=str(document["service"]),
            version=int(document["version"]),
            start=int(document["start"]),
            end=int(document["end"]),
            source=str(document["source"]),
            rows=int(document["rows"]),
            counts={str(name): tuple(map(int, counts)) for name, counts in document["counts"].items()},
            prediction=tuple(map(int, document["prediction"])),
            rejected=int(document["rejected"]),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a window: {error!r}") from error
    if not (0 <= window.rows < MOST_ROWS and 0 <= window.rejected < MOST_ROWS):
        raise ValueError(f"a window of {window.service} claims {window.rows} rows and {window.rejected} rejected ones")
    for name, counts in (*window.counts.items(), ("prediction", window.prediction)):
        if sum(counts) != window.rows or min(counts, default=0) < 0:
            raise ValueError(f"counts of {name!r} in a window of {window.service} do not add up to its {window.rows} rows")
    return window


def merge(windows: Iterable[Window | Counts]) -> Counts:
    """The sum, in any order and grouping; of nothing, Counts().

    The caller names no window twice.  Raises ValueError for windows of different services, versions or cells: their counts
    mean different things.
    """
    everything = list(windows)
    rejected = sum(part.rejected for part in everything)
    parts = [part for part in everything if part.counts]
    if not parts:
        return Counts(rejected=rejected)
    origins = {(part.service, part.version) for part in parts if isinstance(part, Window)}
    shapes = {frozenset((name, len(counts)) for name, counts in _columns(part)) for part in parts}
    if len(origins) > 1 or len(shapes) > 1:
        raise ValueError(f"only windows of one version can be added up; got {sorted(origins)} with {len(shapes)} kinds of cells")
    columns = [dict(_columns(part)) for part in parts]
    totals = {name: tuple(map(sum, zip(*(one[name] for one in columns), strict=True))) for name in columns[0]}
    return Counts(
        rows=sum(part.rows for part in parts),
        counts={name: counts for name, counts in totals.items() if name is not None},
        prediction=totals[None],
        rejected=rejected,
    )


def _columns(part: Window | Counts) -> list[tuple[str | None, tuple[int, ...]]]:
    """Every list of counts by name; the prediction, which a feature could be called as well, under None."""
    return [*part.counts.items(), (None, part.prediction)]
