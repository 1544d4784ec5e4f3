"""Mutated requests for connections of servers in this process: as many a second as one processor can make and answer.

What must hold for each: no answer is a 500 and nothing is logged as an error; what is answered is a sequence of well-formed
answers, one for each request that reached a handler and at most one refusal more, which is the last; a client that has sent
all it will is not left hanging; who sends a good request behind it gets exactly the right answer.  And at the end nothing of
all of it is left.
"""

import asyncio
import gc
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import msgspec

from kaizen.serving.transport.connection import Connection
from kaizen.serving.transport.messages import Request, Response
from tests.soak.corpus import Input, Mutator
from tests.soak.problems import Problem
from tests.soak.targets import Right, Target, numbers_model, target
from tests.support.models import make_model
from tests.support.serving import FakeTransport, connect

__all__ = ["Figures", "fuzz", "well_formed"]

BATCH = 16
MOST_PROBLEMS = 5
MOST_TURNS = 2000
"""Of the loop, until every answer is there."""
WARM_SHARE = 0.5
MOST_REFUSED = 0.001
"""Of good requests."""
GROWTH = 0.05
SMALL_BYTES = 4 << 20
"""Growth that is no growth: one arena of the allocator more or less."""
TOLD_SECONDS = 120.0
"""Between two words about how far a long run is."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
STATUSES = frozenset({200, 202, 204, 400, 401, 404, 405, 408, 413, 415, 417, 431, 501, 503})

_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z ]+\r\n((?:[A-Za-z0-9\-]+: [^\r\n]*\r\n)*)\r\n")
_LENGTH = re.compile(rb"^Content-Length: (\d+)\r$", re.MULTILINE)
_decode = msgspec.json.decode


@dataclass
class Figures:
    """What a run has seen."""

    inputs: int = 0
    seconds: float = 0.0
    answers: Counter[int] = field(default_factory=Counter)
    right: int = 0
    """Good requests that got the right answer between the others."""
    refused: int = 0
    """Good requests that got a 503 with Retry-After: this thread, which makes the inputs too, had fallen behind."""
    before_bytes: int = 0
    after_bytes: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(self.answers.items()))
        return (
            f"{self.inputs:,} inputs in {self.seconds:.0f} s ({self.inputs / max(self.seconds, 1e-9):,.0f} a second); "
            f"answers {statuses}; {self.right:,} good requests between them answered right, {self.refused:,} refused; "
            f"memory {self.before_bytes / 2**20:.1f} → {self.after_bytes / 2**20:.1f} MiB"
        )


class _Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


def well_formed(written: bytes) -> list[int]:
    """The statuses of answers that are well-formed; raises Problem."""
    statuses: list[int] = []
    place = 0
    while place < len(written):
        if written.startswith(CONTINUE, place):
            place += len(CONTINUE)
            continue
        head = _HEAD.match(written, place)
        if head is None:
            raise Problem(f"what follows {len(statuses)} answers is none: {written[place : place + 200]!r}")
        status, headers = int(head.group(1)), head.group(2)
        if status not in STATUSES:
            raise Problem(f"an answer has the status {status}: {written[place : place + 500]!r}")
        lengths = _LENGTH.findall(headers)
        if len(lengths) != 1:
            raise Problem(f"an answer has {len(lengths)} lengths: {headers!r}")
        place, length = head.end(), int(lengths[0])
        if length and not (place == len(written) or written.startswith(b"HTTP/1.1 ", place)):  # else to HEAD
            body = written[place : place + length]
            place += length
            if len(body) != length:
                raise Problem(f"an answer is cut off: {headers!r}")
            if b"Content-Type: application/json\r\n" in headers and b"Content-Encoding: " not in headers:
                try:
                    _decode(body)
                except msgspec.DecodeError as problem:
                    raise Problem(f"an answer is no JSON: {problem}: {body[:300]!r}") from None
        statuses.append(status)
        if b"Connection: close\r\n" in headers and place < len(written):
            raise Problem(f"an answer follows the last one: {written[place : place + 200]!r}")
    return statuses


class _Fuzz:
    def __init__(self, targets: list[Target], seed: int) -> None:
        self.targets, self.seed = targets, seed
        self.mutators = [Mutator(each.good) for each in targets]
        self.figures = Figures()
        self.errors = _Errors()
        self._calls = 0
        for each in targets:
            self._count_calls(each)

    def _count_calls(self, each: Target) -> None:
        handler = each.host.handler

        def counting(request: Request) -> Response | Awaitable[Response]:
            self._calls += 1
            return handler(request)

        each.host.handler = counting

    def made(self, number: int) -> tuple[Target, Input]:
        place = number // BATCH % len(self.targets)
        return self.targets[place], self.mutators[place].make(self.seed, number)

    async def batch(self, numbers: list[int]) -> None:
        """Raises Problem."""
        inputs = [self.made(number)[1] for number in numbers]
        one = self.made(numbers[0])[0]
        right = one.right[numbers[0] // BATCH % len(one.right)]
        between = len(inputs) // 2
        inputs.insert(between, Input((right.sent,), 1))  # in the same turns: where calls are joined, it is joined with these
        calls, clients = self._calls, [connect(one.host) for _ in inputs]
        try:
            await self._send(clients, inputs)
            found = [well_formed(bytes(transport.written)) for _, transport in clients]
            self._check(right, clients[between][1])
            handled, answered = self._calls - calls, sum(map(len, found))
            if not handled <= answered <= handled + len(clients):
                raise Problem(f"{handled} requests were handled and {answered} answered")
            for (_, transport), given, statuses in zip(clients, inputs, found, strict=True):
                self.figures.answers.update(statuses)
                if given.answers is not None and (len(statuses) != given.answers or transport.ended):
                    raise Problem(f"{given.answers} whole requests have the answers {statuses}")
            await self._good(right, clients)
            self._end(clients)
        finally:
            for connection, _ in clients:
                connection.connection_lost(None)
        if self.errors.found:
            raise Problem("the log says: " + self.errors.found.pop())

    async def _send(self, clients: list[tuple[Connection, FakeTransport]], inputs: list[Input]) -> None:
        """Send all pieces, those of the same place in one turn; returns when nothing is on its way."""
        left = [(*client, list(given.pieces)) for client, given in zip(clients, inputs, strict=True)]
        turns = 0
        while left:
            for connection, transport, pieces in left:
                if pieces and not transport.paused:
                    connection.data_received(pieces.pop(0))
            left = [each for each in left if each[2] and not each[1].aborted]
            await asyncio.sleep(0)
            turns += 1
            if turns > MOST_TURNS:
                raise Problem("a client is not read any more")
        await self._settle(clients)

    async def _settle(self, clients: list[tuple[Connection, FakeTransport]]) -> None:
        for _ in range(MOST_TURNS):
            if not any(connection._task or transport.paused for connection, transport in clients):
                return
            await asyncio.sleep(0)
        raise Problem("a request is never answered")

    async def _good(self, right: Right, clients: list[tuple[Connection, FakeTransport]]) -> None:
        """Send a good request where one may follow."""
        waiting = [each for each in clients if not (each[1].ended or each[1].aborted or each[0].busy)]
        for connection, transport in waiting[:2]:
            transport.written.clear()
            connection.data_received(right.sent)
            await self._settle([(connection, transport)])
            self._check(right, transport)

    def _check(self, right: Right, transport: FakeTransport) -> None:
        head, _, body = bytes(transport.written).partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: " in head:
            self.figures.refused += 1
            return
        if not head.startswith(b"HTTP/1.1 200 ") or body != right.answer:
            raise Problem(f"a good request is answered {bytes(transport.written)!r}")
        self.figures.right += 1

    def _end(self, clients: list[tuple[Connection, FakeTransport]]) -> None:
        for connection, transport in clients:
            if not transport.ended and not transport.aborted and connection.eof_received() and not connection._task:
                raise Problem("a client that has sent all it will is left hanging")


async def fuzz(
    directory: Path, seed: int, inputs: int, seconds: float, first: int = 0, names: str = "everything numbers joins"
) -> Figures:
    """Send so many inputs, or as many as there is time for."""
    made, numbers = make_model(directory / "model", "boosting"), numbers_model(directory / "numbers")
    async with AsyncExitStack() as stack:
        targets = [
            await stack.enter_async_context(target(name, numbers if name == "numbers" else made, directory))
            for name in names.split()
        ]
        run = _Fuzz(targets, seed)
        logging.getLogger().addHandler(run.errors)
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: run.errors.found.append(str(context)))
        try:
            await _all(run, first, inputs, seconds, directory)
        finally:
            logging.getLogger().removeHandler(run.errors)
        for each in targets:
            left = (len(each.host.connections), each.host.waiting, each.host.buffered)
            if left != (0, 0, 0):
                run.figures.problems.append(f"{each.name}: connections, unfinished requests and bytes are left: {left}")
    return run.figures


async def _all(run: _Fuzz, first: int, inputs: int, seconds: float, directory: Path) -> None:
    figures, began = run.figures, monotonic()
    warm, told = False, began
    while figures.inputs < inputs and (spent := monotonic() - began) < seconds and len(figures.problems) < MOST_PROBLEMS:
        if not warm and (figures.inputs >= WARM_SHARE * inputs or spent >= WARM_SHARE * seconds):
            warm, figures.before_bytes = True, resident_bytes()
        if began + spent > told + TOLD_SECONDS:
            told, figures.seconds = began + spent, spent
            print(f"  so far: {figures}", flush=True)
        numbers = list(range(first + figures.inputs, first + figures.inputs + BATCH))
        try:
            await run.batch(numbers)
        except (Problem, AssertionError) as problem:
            figures.problems.append(await _culprit(run, numbers, repr(problem)))
        figures.inputs += BATCH
    figures.seconds = monotonic() - began
    figures.after_bytes = resident_bytes()
    if figures.refused > max(1, MOST_REFUSED * figures.right):
        figures.problems.append(f"{figures.refused} good requests are refused, and {figures.right} are answered")
    growth = figures.after_bytes - figures.before_bytes
    if warm and growth > max(SMALL_BYTES, GROWTH * figures.before_bytes):
        figures.problems.append(f"memory grew by {growth / 2**20:.1f} MiB")


async def _culprit(run: _Fuzz, numbers: list[int], problem: str) -> str:
    """The input of a batch that is wrong also alone, in a file."""
    run.errors.found.clear()
    for number in numbers:
        try:
            await run.batch([number])
        except (Problem, AssertionError) as alone:
            run.errors.found.clear()
            one, given = run.made(number)
            path = Path(tempfile.gettempdir()) / f"soak-{run.seed}-{number}.bin"
            path.write_bytes(given.whole)
            again = f"python -m tests.soak --only fuzz --seed {run.seed} --first {number} --inputs 1"
            return f"{one.name}, input {number} in {len(given.pieces)} pieces ({path}): {alone!r}\n  again: {again}"
    return f"inputs {numbers[0]} to {numbers[-1]} together: {problem}"


def resident_bytes() -> int:
    """What this process has in memory, after looking for what is not needed."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("this process has no figures about its memory")
