"""From parsed requests to answers: what REST and gRPC have in common, and what is fair between clients.

Few rows for an engine that answers one by one are answered at once.  Everything else waits in one line, of which each turn
of the event loop answers a slice: a large request cannot keep a small one waiting for longer than that, and where a call
costs more than a row does (scikit-learn, ONNX) all that waits is joined into one call.  There are no timers: a lone request
waits for nobody, and what arrives while a call runs is in the next one.  Joined requests get the answers that they would
get alone, and one that the engine refuses is told apart by asking halves.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import cached_property
from time import perf_counter
from typing import Any

from kaizen.serving.bodies.answers import Explained, monitored
from kaizen.serving.bodies.protocol import Parsed
from kaizen.serving.engine.base import Answer, Column, Prepared, Refused, as_columns, as_rows, joined, some_rows
from kaizen.serving.engine.refusals import located
from kaizen.serving.model import Model
from kaizen.serving.problems import Overloaded
from kaizen.serving.watching.capture import Capture
from kaizen.serving.watching.metrics import Metrics
from kaizen.serving.watching.observation import Observer

__all__ = ["Inference"]

ROWS_AT_ONCE = 512
"""Rows of one call."""
EXPLAINED_AT_ONCE = 4
"""An explanation costs a multiple of an answer."""
WAITING = 1024
"""Requests in line above which new ones are refused."""
WAITING_BYTES = 32 << 20
"""The same of their bytes as they came, uncompressed, unless there is one only: values take up to fifteen times as much."""

Finish = Callable[[], None]


class Inference:
    """Answers for one model.  Everything runs in the event loop's thread."""

    def __init__(
        self,
        model: Model,
        observer: Observer | None,
        metrics: Metrics,
        waiting: int = WAITING,
        capture: Capture | None = None,
    ) -> None:
        self._model, self._engine = model, model.engine
        self._observer, self._capture = observer, capture
        self._metrics = metrics
        self._waiting = waiting
        self._joins = model.engine.joins
        # Whether all values of these are of the column's own type decides the type of scikit-learn's column.
        self._strict = [i for i, one in enumerate(model.engine.inputs) if one.datatype in ("INT64", "BOOL")]
        self._line: deque[_Job] = deque()
        self._bytes = 0
        """Of all who wait."""
        self._halves: deque[list[_Part]] = deque()
        """Parts of a call that was refused as a whole."""
        self._turning = False

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._line) + sum(map(len, self._halves))

    def answer(self, parsed: Parsed) -> Answer | Awaitable[Answer]:
        """The answer, an Explained one when that was asked for; now, or when it is this request's turn.

        Counts and observes what is answered; who tells the client of a refusal counts that (Metrics.failed).  Raises, or the
        awaited one raises: Refused, the client's mistake; Overloaded, a RequestError with status 503.
        """
        began = perf_counter()
        columns: Prepared | None = parsed.prepared
        if columns is None:
            columns = self._engine.columns(parsed.columns)
        rows = parsed.rows
        if rows <= (EXPLAINED_AT_ONCE if parsed.explain else ROWS_AT_ONCE) and not self._joins:
            try:
                answer = self._engine.predict(columns, rows)
            except Refused as problem:
                raise self._located(problem, columns, rows) from None
            if parsed.explain:
                answer = Explained(answer, self._engine.explain(columns, rows))
            self._answered(parsed, columns, answer, began)
            return answer
        return self._in_line(parsed, columns, began)

    def _answered(self, parsed: Parsed, columns: Prepared, answer: Answer, began: float) -> None:
        if self._observer is not None:
            self._observer.offer(columns, monitored(answer), parsed.rows)
        if self._capture is not None:
            self._capture.offer(parsed, answer)
        self._metrics.predicted(parsed.rows, perf_counter() - began)

    def _in_line(self, parsed: Parsed, columns: Prepared, began: float) -> "asyncio.Future[Answer]":
        if self.waiting >= self._waiting:
            raise Overloaded(f"{self.waiting} requests are waiting for an answer already; try again in a second")
        if self._bytes and self._bytes + parsed.size > WAITING_BYTES:
            raise Overloaded("requests with many rows are waiting for an answer already; try again in a second")
        self._bytes += parsed.size
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        kinds = _kinds(columns, self._strict) if self._joins else ()
        self._line.append(_Job(parsed, columns, kinds, future, began))
        self._turn_soon()
        return future

    def _turn_soon(self) -> None:
        if not self._turning and (self._line or self._halves):
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """One call of the engine."""
        self._turning = False
        parts = self._halves.popleft() if self._halves else self._next()
        for part in parts:
            if part.job.future.done():  # its client is gone
                self._release(part.job)
        parts = [part for part in parts if not part.job.future.done()]
        if parts:
            try:
                self._call(parts)
            except Exception as problem:
                if len(parts) == 1:
                    self._release(parts[0].job)
                    if isinstance(problem, Refused):
                        problem = self._located(problem, parts[0].columns, parts[0].rows)
                    parts[0].refuse(problem)
                else:
                    middle = len(parts) // 2
                    self._halves.extendleft((parts[middle:], parts[:middle]))
        self._turn_soon()

    def _next(self) -> list["_Part"]:
        """The next slice: of the first in line and, where calls are joined, of those behind it that fit with it."""
        first = self._line.popleft()
        parts = [first.part(EXPLAINED_AT_ONCE if first.parsed.explain else ROWS_AT_ONCE)]
        if not self._joins or first.parsed.explain:
            return parts
        left, others = ROWS_AT_ONCE - parts[0].rows, deque[_Job]()
        while self._line and left:
            job = self._line.popleft()
            if job.kinds == first.kinds and not job.parsed.explain:
                parts.append(job.part(left))
                left -= parts[-1].rows
            else:
                others.append(job)
        self._line.extendleft(reversed(others))
        return parts

    def _call(self, parts: Sequence["_Part"]) -> None:
        rows = sum(part.rows for part in parts)
        columns = parts[0].columns if len(parts) == 1 else joined([part.columns for part in parts])
        answer = self._engine.predict(columns, rows)
        if parts[0].job.parsed.explain:
            answer = Explained(answer, self._engine.explain(columns, rows))
        first = 0
        for part in parts:
            job = part.job
            job.add(answer if len(parts) == 1 else _cut(answer, first, part.rows))
            first += part.rows
            if job.left:
                self._line.append(job)  # behind all who came meanwhile
            else:
                self._release(job)
                whole = job.whole()
                self._answered(job.parsed, job.columns, whole, job.began)
                job.future.set_result(whole)

    def _located(self, problem: Refused, columns: Prepared, rows: int) -> Refused:
        if self._joins or problem.row is not None:  # where calls are joined each costs far more than a refusal
            return problem
        with suppress(Exception):  # where the engine itself breaks in the search, the refusal stays what it is
            return located(self._engine, columns, rows, self._known, problem)
        return problem

    @cached_property
    def _known(self) -> Sequence[Any] | None:
        """A row that the model answers, if it brings one."""
        if not self._model.example:
            return None
        parsed = self._model.schema.parse(self._model.example, None)
        prepared = parsed.prepared
        return as_rows(self._engine.columns(parsed.columns) if prepared is None else prepared)[0]

    def _release(self, job: "_Job") -> None:
        self._bytes -= job.size
        job.size = 0


class _Job:
    """A request in line."""

    __slots__ = ("_answers", "began", "columns", "future", "kinds", "left", "parsed", "size")

    def __init__(
        self, parsed: Parsed, columns: Prepared, kinds: tuple[Any, ...], future: "asyncio.Future[Answer]", began: float
    ) -> None:
        self.parsed, self.columns, self.kinds, self.future, self.began = parsed, columns, kinds, future, began
        self.size = parsed.size
        """In the account of all who wait."""
        self.left = parsed.rows
        """Rows that are not answered yet."""
        self._answers: list[Answer] = []

    def part(self, most: int) -> "_Part":
        """The next rows, so many at most."""
        return _Part(self, min(most, self.left))

    def add(self, answer: Answer) -> None:
        """The answer to the next rows."""
        self._answers.append(answer)
        self.left -= len(answer.labels)

    def whole(self) -> Answer:
        """The answers to all rows."""
        first = self._answers[0]
        if len(self._answers) == 1:
            return first
        labels = [label for answer in self._answers for label in answer.labels]
        scores = None if first.scores is None else [score for answer in self._answers for score in answer.scores or ()]
        whole = Answer(labels, scores, first.classes)
        explained = [answer.attributions for answer in self._answers if isinstance(answer, Explained)]
        return Explained.joined(whole, explained) if explained else whole


class _Part:
    """The rows of a request that are in one call; a request has one such part at a time."""

    __slots__ = ("_first", "columns", "job", "rows")

    def __init__(self, job: _Job, rows: int) -> None:
        self.job, self.rows = job, rows
        self._first = first = job.parsed.rows - job.left
        self.columns = some_rows(job.columns, first, first + rows)

    def refuse(self, problem: Exception) -> None:
        """The whole request has this answer."""
        self.job.future.set_exception(problem.after(self._first) if isinstance(problem, Refused) else problem)


def _kinds(prepared: Prepared, inputs: Sequence[int]) -> tuple[Any, ...]:
    """Of which types the values of these inputs are."""
    if isinstance(prepared, tuple):
        return tuple(frozenset((type(prepared[i]),)) for i in inputs)
    columns = as_columns(prepared) if inputs else []
    return tuple(_kind(columns[i]) for i in inputs)


def _kind(column: Column) -> Any:
    return frozenset(map(type, column)) if isinstance(column, list) else column.dtype


def _cut(answer: Answer, first: int, rows: int) -> Answer:
    scores, classes = answer.scores, answer.classes
    cut = None if scores is None else scores[first * classes : (first + rows) * classes]
    return Answer(answer.labels[first : first + rows], cut, classes)
