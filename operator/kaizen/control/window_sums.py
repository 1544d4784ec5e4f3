"""Windows of the bucket: which of them matter, and what those of one start add up to.

Functions that read are for a thread; everything else is pure.
"""

import json
import logging
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from operator import add
from typing import NamedTuple

from kaizen.monitoring import windows
from kaizen.monitoring.windows import Counts, Window
from kaizen.registry import layout
from kaizen.registry.errors import Missing
from kaizen.registry.store import Bucket, Entry

__all__ = [
    "Object",
    "Place",
    "Shape",
    "Spans",
    "Sum",
    "added",
    "by_start",
    "changed",
    "digits",
    "joined",
    "left_out",
    "total",
    "unread",
]

_log = logging.getLogger(__name__)

GRACE_SECONDS = 1.0
"""How long after a boundary of windows their servers are left to write them."""
LARGEST_BYTES = 4 << 20
"""Of a window: a thousand features have half of that."""
LONGEST_REASON = 200
"""Characters of what is said of a window: Pods write the names in it."""


@dataclass(frozen=True)
class Place:
    """Where a version's windows lie."""

    namespace: str
    service: str
    model: str
    version: int

    @property
    def prefix(self) -> str:
        return layout.windows(self.namespace, self.service)

    @property
    def base(self) -> str:
        """What the keys of windows are relative to."""
        return layout.workloads(self.namespace)


@dataclass(frozen=True)
class Spans:
    """Which stretches of time are judged."""

    window: int
    length: int
    """Seconds of a span."""
    consecutive: int

    def boundary(self, now: datetime) -> int:
        """The end of the newest window that its servers have had time to write; later windows do not count yet."""
        return int((now.timestamp() - GRACE_SECONDS) // self.window) * self.window

    def oldest_end(self, until: int) -> int:
        """The earliest start of a window that may end a span."""
        return until - 2 * self.length - self.consecutive * self.window

    def horizon(self, until: int) -> int:
        """The earliest start of a window that may matter."""
        return self.oldest_end(until) - self.length

    def begin(self, end: int) -> int:
        """The earliest start of a span's windows, where `end` is the start of its last one."""
        return end + self.window - self.length

    def ends(self, starts: Mapping[int, bool], until: int) -> tuple[tuple[int, ...], int | None]:
        """The starts of the windows that end spans, newest first, and the earliest start of what is needed for them.

        `starts` says whether there may be rows; one without any ends no span, but is passed on the way.
        """
        found: list[int] = []
        begin = None
        for start in sorted(starts, reverse=True):
            if start > until - self.window:
                continue
            if start < self.oldest_end(until) or len(found) == self.consecutive:
                break
            begin = self.begin(start)
            if starts[start]:
                found.append(start)
        return tuple(found), begin


class Object(NamedTuple):
    """A window as it is listed."""

    name: str
    """Its key below the namespace's part of the bucket."""
    etag: str
    size: int


@dataclass(frozen=True)
class Shape:
    """What is counted for a version.  Packed counts are rows, rejected rows and all cells in this order."""

    version: int
    features: tuple[tuple[str, int], ...]
    """Each with its number of cells."""
    prediction: int

    def pack(self, window: Window) -> "array[int]":
        """Raises ValueError for a window with other cells."""
        cells = {name: len(counts) for name, counts in window.counts.items()}
        if cells != dict(self.features) or len(window.prediction) != self.prediction:
            raise ValueError(f"it was not counted in the bins of version {self.version}")
        counts = chain.from_iterable(window.counts[name] for name, _ in self.features)
        return array("q", (window.rows, window.rejected, *counts, *window.prediction))

    def unpack(self, packed: Sequence[int]) -> Counts:
        """The counts again."""
        counts, at = {}, 2
        for name, cells in self.features:
            counts[name] = tuple(packed[at : at + cells])
            at += cells
        return Counts(packed[0], counts, tuple(packed[at:]), packed[1])


@dataclass(frozen=True)
class Sum:
    """The windows of one start, added up."""

    packed: "array[int] | None" = None
    """Eight bytes a cell: as objects the numbers of a busy service take six times as much."""
    objects: frozenset[int] = frozenset()
    """Hashes of the objects in it: their names take more memory than their counts."""
    broken: int = 0
    """Objects that are no windows."""
    example: str = ""
    """Why the first of them is none, in a sentence."""

    @property
    def rows(self) -> int:
        return self.packed[0] if self.packed else 0


def digits(first: int, until: int) -> str:
    """A start as keys have it, but before all keys of later starts also where it has fewer digits than they have."""
    return str(max(first, 0)).zfill(len(str(until)))


def by_start(entries: Iterable[Entry], place: Place, first: int, last: int) -> dict[int, tuple[Object, ...]]:
    """The windows of the version from one start to another."""
    found: dict[int, list[Object]] = {}
    for entry in entries:
        name = entry.key.removeprefix(place.base)
        match windows.start_and_version(name):
            case (start, version) if version == place.version and first <= start <= last:
                found.setdefault(start, []).append(Object(name, entry.etag, entry.size))
    return {start: tuple(objects) for start, objects in found.items()}


def changed(sums: Mapping[int, Sum], listed: Mapping[int, tuple[Object, ...]], first: int, last: int) -> list[int]:
    """The starts whose sum holds what is no longer in the bucket."""
    return [
        start
        for start, known in sums.items()
        if first <= start <= last and not known.objects <= {hash(one) for one in listed.get(start, ())}
    ]


def unread(listed: Mapping[int, tuple[Object, ...]], sums: Mapping[int, Sum], gone: Collection[int]) -> dict[int, list[Object]]:
    found: dict[int, list[Object]] = {}
    for start, objects in listed.items():
        known = sums[start].objects if start in sums else frozenset()
        if unread := [one for one in objects if hash(one) not in known and hash(one) not in gone]:
            found[start] = unread
    return found


def added(bucket: Bucket, place: Place, shape: Shape, chunk: Iterable[tuple[int, Object]]) -> dict[int, Sum]:
    """What the windows there still are add up to, by start; for a thread."""
    found: dict[int, Sum] = {}
    for start, one in chunk:
        try:
            more = Sum(_packed(bucket, place, shape, one), frozenset({hash(one)}))
        except Missing:
            continue
        except (ValueError, RecursionError) as problem:
            reason = str(problem)[:LONGEST_REASON].rstrip(".")
            # Its key names a Pod, which is for the log: a status must not change with every Pod.
            _log.warning("the window %s%s is left out: %s", place.base, one.name, reason)
            more = Sum(None, frozenset({hash(one)}), 1, f"{reason}.")
        found[start] = joined(found.get(start, Sum()), more)
    return found


def _packed(bucket: Bucket, place: Place, shape: Shape, one: Object) -> "array[int]":
    """A window's counts; raises Missing, and ValueError or RecursionError for what no server wrote."""
    if one.size > LARGEST_BYTES:
        raise ValueError(f"it has {one.size} bytes, and a window has at most {LARGEST_BYTES}")
    body, _ = bucket.get(f"{place.base}{one.name}")
    window = windows.from_json(json.loads(body))
    told = windows.key(window.service, window.start, window.version, window.source)
    if told != one.name:
        raise ValueError("its content is that of another window than its key says")
    return shape.pack(window)


def joined(one: Sum, other: Sum) -> Sum:
    packed = [part for part in (one.packed, other.packed) if part is not None]
    return Sum(
        total(packed) if packed else None,
        one.objects | other.objects,
        one.broken + other.broken,
        min((example for example in (one.example, other.example) if example), default=""),
    )


def total(packed: "Sequence[array[int]]") -> "array[int]":
    if len(packed) == 1:
        return packed[0]
    if len(packed) == 2:
        return array("q", map(add, *packed))
    return array("q", map(sum, zip(*packed, strict=True)))


def left_out(sums: Iterable[Sum]) -> str | None:
    """What is wrong with windows, in a sentence; None when nothing is."""
    broken = [one for one in sums if one.broken]
    number = sum(one.broken for one in broken)
    if not number:
        return None
    first = min(one.example for one in broken)
    return f"1 window is left out: {first}" if number == 1 else f"{number} windows are left out, one because {first}"
