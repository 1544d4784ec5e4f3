"""What a service's requests looked like over its newest spans: windows of the bucket, added up and judged.

    boundary of windows passed → LIST the newest keys → GET what is unknown → sums by start → spans → verdicts → Watched

Level-based: the answer follows from the bucket, the arguments and the last boundary, so a new process says what its
predecessor said.  What is remembered spares requests and computing, nothing else.

Decision, other than contracts.md ("Windows") has it: the Pods are not asked which windows they closed.  One LIST for each
service and window says the same.  It needs no token and no network path into users' Pods, knows what vanished Pods left, and
is the same request after a crash.

Windows may come late: a server keeps up to 64 of them while the bucket is away.  So every look lists that far back, and once
an hour a look lists all that may matter; it also notices windows that were deleted or changed by hand.

Traffic may be sparse, so a span ends with a window that has rows, wherever that lies.  Only windows of the last two spans (and
as many windows more as verdicts in a row are asked for) end one: of a service that nobody uses any more, nothing is said.
"""

import asyncio
import json
import logging
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from operator import add
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from kaizen.api.inference_service import Monitoring
from kaizen.control.bucket import sentence
from kaizen.control.registry import InThread
from kaizen.core.plan import Watched
from kaizen.core.times import timestamp
from kaizen.monitoring import windows
from kaizen.monitoring.windows import Counts, Window
from kaizen.registry import layout
from kaizen.registry.errors import Missing
from kaizen.registry.store import Bucket, Entry

if TYPE_CHECKING:
    # NumPy is loaded when the first version is judged: an operator without services never needs it.
    from kaizen.monitoring.reference import Reference
    from kaizen.monitoring.verdict import Verdict

__all__ = ["Monitor"]

Result = TypeVar("Result")
_log = logging.getLogger(__name__)

GRACE_SECONDS = 1.0
"""How long after a boundary of windows their servers are left to write them."""
LATE_WINDOWS = 64
"""How many windows a server keeps while it cannot write them (serving.observation.BACKLOG)."""
WHOLE_SECONDS = 3600
"""After which everything is listed again."""
MOST_WINDOWS = 10_000
"""Of different starts, for all spans of a service: 20 MB with a dozen features."""
LARGEST_BYTES = 4 << 20
"""Of a window: a thousand features have half of that."""
LONGEST_REASON = 200
"""Characters of what is said of a window: Pods write the names in it."""
CHUNK = 16
"""Windows that are read in one go of a thread."""
THREADS = 3
"""At work at once for all services: one of the pool's four always stays free for the registry."""
MOST_REFERENCES = 16


@dataclass(frozen=True)
class _Place:
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
class _Spans:
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


@dataclass(frozen=True)
class _Policy:
    """All that an answer depends on besides the bucket and the time."""

    spans: _Spans
    floor: float
    block_seconds: int | None
    minimum_rows: int
    context: tuple[str, ...]
    acknowledged: tuple[tuple[str, float], ...]


class _Object(NamedTuple):
    """A window as it is listed."""

    name: str
    """Its key below the namespace's part of the bucket."""
    etag: str
    size: int


@dataclass(frozen=True)
class _Shape:
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
class _Sum:
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


@dataclass(frozen=True)
class _Looked:
    """How far the bucket is known."""

    spans: _Spans
    until: int
    whole: int
    """When everything was listed."""


class _Memory:
    """What is remembered of a service."""

    def __init__(self, place: _Place) -> None:
        self.place = place
        self.sums: dict[int, _Sum] = {}
        """By start."""
        self.looked: _Looked | None = None
        self.policy: _Policy | None = None
        """What the verdicts were made by."""
        self.verdicts: dict[int, Verdict] = {}
        """By the start of the span's last window."""
        self.answer: tuple[_Policy, int, Watched] | None = None

    def put(self, start: int, found: _Sum | None) -> None:
        """Replace or drop the sum of a start, and forget the verdicts that may rest on it."""
        self.sums.pop(start, None)
        if found is not None:
            self.sums[start] = found
        self.verdicts = {end: verdict for end, verdict in self.verdicts.items() if end < start}


class Monitor:
    """Judges what services were asked; for each service, one call at a time, which is what the queue gives.

    Methods raise BucketError; whatever was read until then is not read again.
    """

    def __init__(
        self,
        in_thread: InThread,
        bucket: Callable[[], Bucket],
        reference: Callable[[str, str, int], Awaitable[bytes]],
    ) -> None:
        """`reference` gives the reference.json of a namespace's model's version."""
        self._in_thread = in_thread
        self._bucket = bucket
        self._fetch_reference = reference
        self._threads = asyncio.Semaphore(THREADS)
        self._services: dict[tuple[str, str], _Memory] = {}
        self._references: OrderedDict[tuple[str, str, int], tuple[Reference, _Shape]] = OrderedDict()
        """The last one used last."""

    async def observe(
        self,
        namespace: str,
        service: str,
        model: str,
        version: int,
        monitoring: Monitoring,
        acknowledged: Mapping[str, float],
        consecutive: int,
        now: datetime,
    ) -> Watched:
        """What the requests to a service's version looked like until the last boundary of windows.

        Asks the bucket once for each boundary.  `acknowledged` are the distances that were answered, by feature;
        `consecutive` is how many verdicts in a row matter.
        """
        policy = _policy(monitoring, acknowledged, consecutive)
        if problem := _too_many(policy.spans):
            return Watched(version, None, problem=problem)
        memory = self._memory(_Place(namespace, service, model, version))
        until = policy.spans.boundary(now)
        if memory.answer is None or memory.answer[:2] != (policy, until):
            memory.answer = (policy, until, await self._watch(memory, policy, until))
        return memory.answer[2]

    def forget_gone(self, alive: Collection[tuple[str, str]]) -> None:
        """Drop what is remembered of services that are not among these namespaces and names."""
        self._services = {key: memory for key, memory in self._services.items() if key in alive}

    def _memory(self, place: _Place) -> _Memory:
        key = (place.namespace, place.service)
        if key not in self._services or self._services[key].place != place:
            self._services[key] = _Memory(place)
        return self._services[key]

    async def _watch(self, memory: _Memory, policy: _Policy, until: int) -> Watched:
        try:
            reference, shape = await self._reference(memory.place)
            looked = memory.looked
            if looked is None or (looked.spans, looked.until) != (policy.spans, until):
                await self._look(memory, policy.spans, shape, until)
            return await self._judge(memory, policy, reference, shape, until)
        except ValueError as problem:
            return Watched(memory.place.version, None, problem=sentence(problem))

    async def _reference(self, place: _Place) -> "tuple[Reference, _Shape]":
        key = (place.namespace, place.model, place.version)
        if key not in self._references:
            try:
                body = await self._fetch_reference(*key)
            except Missing as problem:
                raise ValueError(str(problem)) from problem  # No failure of the bucket: nobody made one.
            self._references[key] = await self._threaded(lambda: _parsed(body, place.version))
            while len(self._references) > MOST_REFERENCES:
                self._references.popitem(last=False)
        self._references.move_to_end(key)
        return self._references[key]

    async def _look(self, memory: _Memory, spans: _Spans, shape: _Shape, until: int) -> None:
        """Bring the sums up to date with the bucket."""
        place, looked = memory.place, memory.looked
        whole = looked is None or looked.spans != spans or not 0 <= until - looked.whole < WHOLE_SECONDS
        first = spans.horizon(until)
        if looked is not None and not whole:
            first = max(first, looked.until - LATE_WINDOWS * spans.window)
        after = f"{place.prefix}{_digits(first, until)}"
        last = until - spans.window
        listed = await self._threaded(lambda: _by_start(self._bucket().list(place.prefix, after), place, first, last))
        for start in _changed(memory.sums, listed, first, last):
            memory.put(start, None)
        gone: set[int] = set()
        while True:
            unread = _unread(listed, memory.sums, gone)
            starts = {start: known.rows > 0 for start, known in memory.sums.items()} | dict.fromkeys(unread, True)
            _, begin = spans.ends(starts, until)
            wanted = [(start, one) for start in sorted(unread) if begin is not None and start >= begin for one in unread[start]]
            if not wanted:
                break
            gone |= await self._read(memory, shape, wanted)
        memory.sums = {start: known for start, known in memory.sums.items() if begin is not None and start >= begin}
        memory.looked = _Looked(spans, until, until if looked is None or whole else looked.whole)

    async def _read(self, memory: _Memory, shape: _Shape, wanted: Sequence[tuple[int, _Object]]) -> set[int]:
        """Add windows to the sums; returns the hashes of those that are gone."""
        place = memory.place
        gone: set[int] = set()

        async def read(chunk: Sequence[tuple[int, _Object]]) -> None:
            found = await self._threaded(lambda: _added(self._bucket(), place, shape, chunk))
            for start, more in found.items():
                memory.put(start, _joined(memory.sums.get(start, _Sum()), more))
            gone.update({hash(one) for _, one in chunk}.difference(*(more.objects for more in found.values())))

        try:
            async with asyncio.TaskGroup() as group:
                for at in range(0, len(wanted), CHUNK):
                    group.create_task(read(wanted[at : at + CHUNK]))
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        return gone

    async def _judge(self, memory: _Memory, policy: _Policy, reference: "Reference", shape: _Shape, until: int) -> Watched:
        if memory.policy != policy:
            memory.policy, memory.verdicts = policy, {}
        spans, known = policy.spans, memory.sums
        ends, _ = spans.ends({start: one.rows > 0 for start, one in known.items()}, until)
        memory.verdicts = {end: verdict for end, verdict in memory.verdicts.items() if end in ends}
        drifted = 0
        for end in ends:
            if end not in memory.verdicts:
                parts = [one.packed for start, one in known.items() if spans.begin(end) <= start <= end and one.packed]
                memory.verdicts[end] = await self._threaded(partial(_verdict, reference, shape, parts, policy))
            if memory.verdicts[end].kind != "Drifted":
                break
            drifted += 1
        return Watched(
            memory.place.version,
            verdict=memory.verdicts[ends[0]] if ends else None,
            span_end=timestamp(datetime.fromtimestamp(ends[0] + spans.window, UTC)) if ends else None,
            drifted_in_a_row=drifted,
            problem=_left_out(known.values()),
        )

    async def _threaded(self, work: Callable[[], Result]) -> Result:
        async with self._threads:
            return await self._in_thread(work)


def _policy(monitoring: Monitoring, acknowledged: Mapping[str, float], consecutive: int) -> _Policy:
    drift = monitoring.drift
    return _Policy(
        _Spans(monitoring.window_seconds, drift.span_seconds, consecutive),
        drift.floor,
        drift.block_seconds,
        drift.minimum_rows,
        tuple(drift.context),
        tuple(sorted(acknowledged.items())),
    )


def _too_many(spans: _Spans) -> str | None:
    if spans.length // spans.window + spans.consecutive <= MOST_WINDOWS:
        return None
    return (
        f"monitoring.drift.spanSeconds holds {spans.length // spans.window} windows of {spans.window} s, and more than"
        f" {MOST_WINDOWS} are not added up: set monitoring.windowSeconds to at least {-(-spans.length // (MOST_WINDOWS // 2))}."
    )


def _digits(first: int, until: int) -> str:
    """A start as keys have it, but before all keys of later starts also where it has fewer digits than they have."""
    return str(max(first, 0)).zfill(len(str(until)))


def _by_start(entries: Iterable[Entry], place: _Place, first: int, last: int) -> dict[int, tuple[_Object, ...]]:
    """The windows of the version from one start to another."""
    found: dict[int, list[_Object]] = {}
    for entry in entries:
        name = entry.key.removeprefix(place.base)
        match windows.start_and_version(name):
            case (start, version) if version == place.version and first <= start <= last:
                found.setdefault(start, []).append(_Object(name, entry.etag, entry.size))
    return {start: tuple(objects) for start, objects in found.items()}


def _changed(sums: Mapping[int, _Sum], listed: Mapping[int, tuple[_Object, ...]], first: int, last: int) -> list[int]:
    """The starts whose sum holds what is no longer in the bucket."""
    return [
        start
        for start, known in sums.items()
        if first <= start <= last and not known.objects <= {hash(one) for one in listed.get(start, ())}
    ]


def _unread(
    listed: Mapping[int, tuple[_Object, ...]], sums: Mapping[int, _Sum], gone: Collection[int]
) -> dict[int, list[_Object]]:
    found: dict[int, list[_Object]] = {}
    for start, objects in listed.items():
        known = sums[start].objects if start in sums else frozenset()
        if unread := [one for one in objects if hash(one) not in known and hash(one) not in gone]:
            found[start] = unread
    return found


def _added(bucket: Bucket, place: _Place, shape: _Shape, chunk: Iterable[tuple[int, _Object]]) -> dict[int, _Sum]:
    """What the windows there still are add up to, by start; for a thread."""
    found: dict[int, _Sum] = {}
    for start, one in chunk:
        try:
            more = _Sum(_packed(bucket, place, shape, one), frozenset({hash(one)}))
        except Missing:
            continue
        except (ValueError, RecursionError) as problem:
            reason = str(problem)[:LONGEST_REASON].rstrip(".")
            # Its key names a Pod, which is for the log: a status must not change with every Pod.
            _log.warning("the window %s%s is left out: %s", place.base, one.name, reason)
            more = _Sum(None, frozenset({hash(one)}), 1, f"{reason}.")
        found[start] = _joined(found.get(start, _Sum()), more)
    return found


def _packed(bucket: Bucket, place: _Place, shape: _Shape, one: _Object) -> "array[int]":
    """A window's counts; raises Missing, and ValueError or RecursionError for what no server wrote."""
    if one.size > LARGEST_BYTES:
        raise ValueError(f"it has {one.size} bytes, and a window has at most {LARGEST_BYTES}")
    body, _ = bucket.get(f"{place.base}{one.name}")
    window = windows.from_json(json.loads(body))
    told = windows.key(window.service, window.start, window.version, window.source)
    if told != one.name:
        raise ValueError("its content is that of another window than its key says")
    return shape.pack(window)


def _joined(one: _Sum, other: _Sum) -> _Sum:
    packed = [part for part in (one.packed, other.packed) if part is not None]
    return _Sum(
        _total(packed) if packed else None,
        one.objects | other.objects,
        one.broken + other.broken,
        min((example for example in (one.example, other.example) if example), default=""),
    )


def _total(packed: "Sequence[array[int]]") -> "array[int]":
    if len(packed) == 1:
        return packed[0]
    if len(packed) == 2:
        return array("q", map(add, *packed))
    return array("q", map(sum, zip(*packed, strict=True)))


def _left_out(sums: Iterable[_Sum]) -> str | None:
    """What is wrong with windows, in a sentence; None when nothing is."""
    broken = [one for one in sums if one.broken]
    number = sum(one.broken for one in broken)
    if not number:
        return None
    first = min(one.example for one in broken)
    return f"1 window is left out: {first}" if number == 1 else f"{number} windows are left out, one because {first}"


def _parsed(body: bytes, version: int) -> "tuple[Reference, _Shape]":
    """A reference, and what is counted for it; raises ValueError."""
    from kaizen.monitoring import reference

    try:
        made = reference.from_json(json.loads(body))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as problem:
        why = problem if isinstance(problem, ValueError) else repr(problem)
        raise ValueError(f"reference.json of version {version} cannot be used: {why}") from problem
    features = tuple((feature.bins.name, feature.bins.cells) for feature in made.features)
    return made, _Shape(version, features, made.prediction.bins.cells)


def _verdict(reference: "Reference", shape: _Shape, parts: "Sequence[array[int]]", policy: _Policy) -> "Verdict":
    """The verdict on the sum of a span's windows, at least one; raises ValueError.  For a thread."""
    from kaizen.monitoring.verdict import judge

    try:
        return judge(
            reference,
            shape.unpack(_total(parts)),
            floor=policy.floor,
            span_seconds=policy.spans.length,
            block_seconds=policy.block_seconds,
            minimum_rows=policy.minimum_rows,
            context=policy.context,
            acknowledged=dict(policy.acknowledged),
        )
    except ArithmeticError as problem:
        raise ValueError(f"reference.json of version {shape.version} cannot be used: {problem!r}") from problem
