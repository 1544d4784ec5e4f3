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
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from kaizen.api.inference_service import Monitoring
from kaizen.control.bucket import sentence
from kaizen.control.registry import InThread
from kaizen.control.window_sums import (
    Object,
    Place,
    Shape,
    Spans,
    Sum,
    added,
    by_start,
    changed,
    digits,
    joined,
    left_out,
    total,
    unread,
)
from kaizen.core.plan import Watched
from kaizen.core.times import timestamp
from kaizen.registry.errors import Missing
from kaizen.registry.store import Bucket

if TYPE_CHECKING:
    # NumPy is loaded when the first version is judged: an operator without services never needs it.
    from kaizen.monitoring.reference import Reference
    from kaizen.monitoring.verdict import Verdict

__all__ = ["Monitor"]

Result = TypeVar("Result")

LATE_WINDOWS = 64
"""How many windows a server keeps while it cannot write them (serving.watching.outbox)."""
WHOLE_SECONDS = 3600
"""After which everything is listed again."""
MOST_WINDOWS = 10_000
"""Of different starts, for all spans of a service: 20 MB with a dozen features."""
CHUNK = 16
"""Windows that are read in one go of a thread."""
THREADS = 3
"""At work at once for all services: one of the pool's four always stays free for the registry."""
MOST_REFERENCES = 16


@dataclass(frozen=True)
class _Policy:
    """All that an answer depends on besides the bucket and the time."""

    spans: Spans
    floor: float
    block_seconds: int | None
    minimum_rows: int
    context: tuple[str, ...]
    acknowledged: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class _Looked:
    """How far the bucket is known."""

    spans: Spans
    until: int
    whole: int
    """When everything was listed."""


class _Memory:
    """What is remembered of a service."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.sums: dict[int, Sum] = {}
        """By start."""
        self.looked: _Looked | None = None
        self.policy: _Policy | None = None
        """What the verdicts were made by."""
        self.verdicts: dict[int, Verdict] = {}
        """By the start of the span's last window."""
        self.answer: tuple[_Policy, int, Watched] | None = None

    def put(self, start: int, found: Sum | None) -> None:
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
        self._references: OrderedDict[tuple[str, str, int], tuple[Reference, Shape]] = OrderedDict()
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
        memory = self._memory(Place(namespace, service, model, version))
        until = policy.spans.boundary(now)
        if memory.answer is None or memory.answer[:2] != (policy, until):
            memory.answer = (policy, until, await self._watch(memory, policy, until))
        return memory.answer[2]

    def forget_gone(self, alive: Collection[tuple[str, str]]) -> None:
        """Drop what is remembered of services that are not among these namespaces and names."""
        self._services = {key: memory for key, memory in self._services.items() if key in alive}

    def _memory(self, place: Place) -> _Memory:
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

    async def _reference(self, place: Place) -> "tuple[Reference, Shape]":
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

    async def _look(self, memory: _Memory, spans: Spans, shape: Shape, until: int) -> None:
        """Bring the sums up to date with the bucket."""
        place, looked = memory.place, memory.looked
        whole = looked is None or looked.spans != spans or not 0 <= until - looked.whole < WHOLE_SECONDS
        first = spans.horizon(until)
        if looked is not None and not whole:
            first = max(first, looked.until - LATE_WINDOWS * spans.window)
        after = f"{place.prefix}{digits(first, until)}"
        last = until - spans.window
        listed = await self._threaded(lambda: by_start(self._bucket().list(place.prefix, after), place, first, last))
        for start in changed(memory.sums, listed, first, last):
            memory.put(start, None)
        gone: set[int] = set()
        while True:
            new = unread(listed, memory.sums, gone)
            starts = {start: known.rows > 0 for start, known in memory.sums.items()} | dict.fromkeys(new, True)
            _, begin = spans.ends(starts, until)
            wanted = [(start, one) for start in sorted(new) if begin is not None and start >= begin for one in new[start]]
            if not wanted:
                break
            gone |= await self._read(memory, shape, wanted)
        memory.sums = {start: known for start, known in memory.sums.items() if begin is not None and start >= begin}
        memory.looked = _Looked(spans, until, until if looked is None or whole else looked.whole)

    async def _read(self, memory: _Memory, shape: Shape, wanted: Sequence[tuple[int, Object]]) -> set[int]:
        """Add windows to the sums; returns the hashes of those that are gone."""
        place = memory.place
        gone: set[int] = set()

        async def read(chunk: Sequence[tuple[int, Object]]) -> None:
            found = await self._threaded(lambda: added(self._bucket(), place, shape, chunk))
            for start, more in found.items():
                memory.put(start, joined(memory.sums.get(start, Sum()), more))
            gone.update({hash(one) for _, one in chunk}.difference(*(more.objects for more in found.values())))

        try:
            async with asyncio.TaskGroup() as group:
                for at in range(0, len(wanted), CHUNK):
                    group.create_task(read(wanted[at : at + CHUNK]))
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        return gone

    async def _judge(self, memory: _Memory, policy: _Policy, reference: "Reference", shape: Shape, until: int) -> Watched:
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
            problem=left_out(known.values()),
        )

    async def _threaded(self, work: Callable[[], Result]) -> Result:
        async with self._threads:
            return await self._in_thread(work)


def _policy(monitoring: Monitoring, acknowledged: Mapping[str, float], consecutive: int) -> _Policy:
    drift = monitoring.drift
    return _Policy(
        Spans(monitoring.window_seconds, drift.span_seconds, consecutive),
        drift.floor,
        drift.block_seconds,
        drift.minimum_rows,
        tuple(drift.context),
        tuple(sorted(acknowledged.items())),
    )


def _too_many(spans: Spans) -> str | None:
    if spans.length // spans.window + spans.consecutive <= MOST_WINDOWS:
        return None
    return (
        f"monitoring.drift.spanSeconds holds {spans.length // spans.window} windows of {spans.window} s, and more than"
        f" {MOST_WINDOWS} are not added up: set monitoring.windowSeconds to at least {-(-spans.length // (MOST_WINDOWS // 2))}."
    )


def _parsed(body: bytes, version: int) -> "tuple[Reference, Shape]":
    """A reference, and what is counted for it; raises ValueError."""
    from kaizen.monitoring import reference

    try:
        made = reference.from_json(json.loads(body))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as problem:
        why = problem if isinstance(problem, ValueError) else repr(problem)
        raise ValueError(f"reference.json of version {version} cannot be used: {why}") from problem
    features = tuple((feature.bins.name, feature.bins.cells) for feature in made.features)
    return made, Shape(version, features, made.prediction.bins.cells)


def _verdict(reference: "Reference", shape: Shape, parts: "Sequence[array[int]]", policy: _Policy) -> "Verdict":
    """The verdict on the sum of a span's windows, at least one; raises ValueError.  For a thread."""
    from kaizen.monitoring.verdict import judge

    try:
        return judge(
            reference,
            shape.unpack(total(parts)),
            floor=policy.floor,
            span_seconds=policy.spans.length,
            block_seconds=policy.block_seconds,
            minimum_rows=policy.minimum_rows,
            context=policy.context,
            acknowledged=dict(policy.acknowledged),
        )
    except ArithmeticError as problem:
        raise ValueError(f"reference.json of version {shape.version} cannot be used: {problem!r}") from problem
