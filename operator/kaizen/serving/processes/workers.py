"""Several processes that answer on one port, and the one that loads the model, starts them and watches over them.

The parent loads and warms the model, then forks: workers share its memory.  It keeps the metrics and the admin port, adds up
what the workers publish, and replaces a worker that died or gives no sign of life.  What a dead worker has counted stays
counted, and its window is written by its successor; at most what it counted after its last publication is lost.

Forks are safe because nothing can be half done in the parent at that time: it has no threads after loading, its event loop
stands still, and its connections to the bucket are closed.
"""

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kaizen.monitoring import windows
from kaizen.serving.model import Model
from kaizen.serving.processes.board import Board, Slot
from kaizen.serving.processes.channel import follow
from kaizen.serving.processes.loading import Loaded, load
from kaizen.serving.processes.process import ENDING, SWEEP_SECONDS, Port, Process
from kaizen.serving.processes.worker import Inheritance, become_worker
from kaizen.serving.routes import AdminRoutes, MetricsRoutes, PublicRoutes
from kaizen.serving.settings import Settings
from kaizen.serving.transport import tls
from kaizen.serving.transport.http import Door
from kaizen.serving.transport.sockets import listening
from kaizen.serving.watching.delivery import WINDOWS, Delivery
from kaizen.serving.watching.metrics import WORDS, Metrics
from kaizen.serving.watching.observation import item, source
from kaizen.serving.watching.outbox import REMEMBERED, Item

__all__ = ["watch"]

log = logging.getLogger(__name__)

YOUNG_SECONDS = 10.0
"""A worker that dies sooner after its start makes the next start wait: briefly, because clients wait in its listener."""
PAUSES_SECONDS = (0.0, 0.05, 0.1, 0.2, 0.5)
HOPELESS = 5
"""Workers in a row that died before they answered anything."""
END_SECONDS = 3.0
"""How much longer than a worker's own deadline it may take to end."""


def watch(settings: Settings, public: Sequence[list[socket.socket]], ready: Callable[[Model], None]) -> int:
    """Serve with several workers until a signal; the exit code.  Raises what loading raises."""
    loop = asyncio.new_event_loop()
    parent: _Parent | None = None
    try:
        parent = loop.run_until_complete(_made(settings, public, ready))
        if loop.run_until_complete(parent.load()):
            while (vacant := loop.run_until_complete(parent.vacancy())) is not None:
                parent.fill(vacant)
        return loop.run_until_complete(parent.finish())
    finally:
        if parent is not None:
            loop.run_until_complete(parent.leave())
        loop.close()


async def _made(settings: Settings, public: Sequence[list[socket.socket]], ready: Callable[[Model], None]) -> "_Parent":
    return _Parent(settings, public, ready)


@dataclass
class _Worker:
    """One process that answers, as its parent sees it."""

    number: int
    """No other worker of this parent ever has it."""
    pid: int
    source: str
    slot: Slot
    channel: socket.socket
    since: float = field(default_factory=time.monotonic)
    waiting: dict[tuple[str, str], Item] = field(default_factory=dict)
    """What it has for the bucket, by kind and key."""
    closed: set[str] = field(default_factory=set)
    """Keys of its windows."""
    following: "asyncio.Task[None] | None" = None
    beat: int = 0
    quiet_seconds: float = 0.0

    @property
    def answers(self) -> bool:
        return self.slot.beat > 0


class _Parent(Process):
    def __init__(self, settings: Settings, public: Sequence[list[socket.socket]], ready: Callable[[Model], None]) -> None:
        super().__init__(settings.limits)
        self._settings, self._sockets, self._on_ready = settings, public, ready
        self._source = source(settings.pod_uid)
        self._own = Metrics()
        self._past = np.zeros(WORDS, dtype=np.int64)
        """What workers that ended have counted."""
        self._loaded: Loaded | None = None
        self._slots: list[Slot] = []
        self._workers: dict[int, _Worker] = {}
        """By slot."""
        self._due: dict[int, float] = {}
        """When the vacant slots get a worker."""
        self._numbers = 0
        self._in_a_row = 0
        """Workers that died young."""
        self._unborn = 0
        """Workers in a row that never answered."""
        self._rest: list[tuple[str, Item]] = []
        """What dead workers have left."""
        self._written: deque[Item] = deque(maxlen=REMEMBERED)
        self._announced = self._failed = False
        self._wake = asyncio.Event()
        self._early: Port | None = None
        self.stop.add_done_callback(lambda _: self._wake.set())
        self.loop.add_signal_handler(signal.SIGCHLD, self._wake.set)
        self._keeping = asyncio.ensure_future(self.keep_house())

    # Before the first worker

    async def load(self) -> bool:
        """Open the ports and load the model; False when a signal came first."""
        settings = self._settings
        # Workers keep the listeners; until there are any, who asks hears that the model is being loaded.
        borrowed = [one.dup() for sockets in self._sockets for one in sockets]
        secure = tls.Context(settings.tls_directory).ssl if settings.tls_directory else None
        self._early = await self.listen(borrowed, PublicRoutes(self._own), self._own.answered, secure)
        if settings.metrics_port is not None:
            await self.listen(listening(settings.host, settings.metrics_port)[0], MetricsRoutes(self._text))
        if settings.admin_port is not None:
            routes = AdminRoutes(self._report, settings.admin_token_file)
            await self.listen(listening(settings.host, settings.admin_port)[0], routes, door=Door(refusal=routes.refusal))
        if settings.grpc_port is not None:  # which workers share, and gRPC would share with strangers as well
            for probe in listening(settings.host, settings.grpc_port)[0]:
                probe.close()
        loading = self.in_thread(lambda: load(settings))
        await asyncio.wait((loading, self.stop), return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            return False
        loaded = self._loaded = loading.result()
        loaded.disconnect()
        model = loaded.model
        self._own.describe(model.name, model.version, model.digest, model.kind, model.reason)
        self._slots = Board(settings.workers, 0 if loaded.cells is None else loaded.cells.words).slots
        self._due = dict.fromkeys(range(settings.workers), 0.0)
        self._early.host.refuse()
        self._early.host.closing = True
        return True

    # Starting

    async def vacancy(self) -> int | None:
        """The next slot that is to get a worker; None when the end has come."""
        while True:
            self._wake.clear()
            await self._reap()
            if self.stop.done():
                return None
            if self._unborn >= HOPELESS:
                log.error("%d workers in a row ended before they answered anything; the log says why", self._unborn)
                self._failed = True
                return None
            now = time.monotonic()
            slot = min(self._due, key=lambda slot: self._due[slot], default=None)
            if slot is not None and self._due[slot] <= now:
                return slot
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), None if slot is None else self._due[slot] - now)

    def fill(self, slot: int) -> None:
        """Start a worker.  Never returns in the worker."""
        loaded = self._loaded
        assert loaded is not None
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join()  # the one that loaded, which is about to end
        del self._due[slot]
        number, self._numbers = self._numbers, self._numbers + 1
        rest, self._rest = self._rest, []
        here, there = socket.socketpair()
        name, place = f"{self._source}-{number}", self._slots[slot]
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # until the worker has its own handlers
        try:
            pid = os.fork()
        except OSError as problem:  # no room for another process now: the others go on
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            log.error("no worker can be started: %s; trying again", problem.strerror)
            here.close()
            there.close()
            self._rest, self._due[slot] = rest, time.monotonic() + PAUSES_SECONDS[-1]
            return
        if not pid:
            become_worker(Inheritance(self._settings, loaded, self._sockets[slot], there, place, name, rest))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        there.close()
        worker = self._workers[slot] = _Worker(number, pid, name, place, here)
        for kind, left in rest:
            self._hear(worker, kind, "waiting", left)
        worker.following = self.loop.create_task(follow(here, lambda kind, what, item: self._hear(worker, kind, what, item)))

    def _hear(self, worker: _Worker, kind: str, what: str, item: Item) -> None:
        if kind == WINDOWS:
            worker.closed.add(item.key)
        if what == "waiting":
            worker.waiting[kind, item.key] = item
            return
        worker.waiting.pop((kind, item.key), None)
        if kind == WINDOWS and what == "written":
            self._written.append(item)

    # Watching

    async def each_tick(self, now: float) -> None:
        """Say when all is ready, and be rid of those who asked while the model was being loaded."""
        if self._early is not None:
            self._early.host.close_idle(now, 0.0)
        loaded = self._loaded
        if loaded is not None and not self._announced and all(slot.beat for slot in self._slots):
            self._announced = True
            self._on_ready(loaded.model)

    def each_second(self) -> None:
        """Kill who hangs.  Counted in turns of our own: when all processes stand still, nobody hangs."""
        for worker in self._workers.values():
            beat = worker.slot.beat
            worker.quiet_seconds = 0.0 if beat != worker.beat else worker.quiet_seconds + SWEEP_SECONDS
            worker.beat = beat
            if worker.quiet_seconds >= self._settings.stall_seconds:
                log.error("worker %d gives no sign of life for %g s and is killed", worker.number, worker.quiet_seconds)
                os.kill(worker.pid, signal.SIGKILL)

    async def _reap(self) -> None:
        """See who has died, also of processes that were left to the container's first one."""
        for pid, status in list(_dead()):
            for slot, worker in list(self._workers.items()):
                if worker.pid == pid:
                    await self._bury(slot, worker, os.waitstatus_to_exitcode(status))

    async def _bury(self, slot: int, worker: _Worker, code: int) -> None:
        if worker.following is not None:
            await worker.following  # to the last that it told
        del self._workers[slot]  # not before: what it has counted must always be in a sum
        words, window = worker.slot.read()
        self._past += np.array(words)
        cells = self._loaded.cells if self._loaded else None
        if cells is not None and (window[1] or window[2]):
            start = int(window[0])
            left = item(cells.window(window, worker.source, min(int(time.time()) + 1, start + cells.seconds)))
            if left.key not in worker.closed:
                worker.waiting[WINDOWS, left.key] = left
        answered, lived = worker.answers, time.monotonic() - worker.since
        worker.slot.clear()
        if code == 0 and self.stop.done():
            return
        self._rest += [(kind, left) for (kind, _), left in worker.waiting.items()]
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        log.warning("worker %d %s after %.1f s", worker.number, how, lived)
        self._own.restarts += 1
        self._unborn = 0 if answered else self._unborn + 1
        self._in_a_row = self._in_a_row + 1 if lived < YOUNG_SECONDS else 0
        self._due[slot] = time.monotonic() + PAUSES_SECONDS[min(self._in_a_row, len(PAUSES_SECONDS) - 1)]

    # Telling

    def _text(self) -> bytes:
        """The metrics of all processes."""
        own, total = self._own, Metrics(started=self._own.started, restarts=self._own.restarts)
        total.statuses = dict(own.statuses)
        total.model, total.version, total.digest = own.model, own.version, own.digest
        total.engine, total.reason = own.engine, own.reason
        total.add(self._past.tolist(), living=False)
        for worker in self._workers.values():
            total.add(worker.slot.read()[0], living=True)
        total.workers = sum(worker.answers for worker in self._workers.values())
        return total.text([worker.pid for worker in self._workers.values()])

    def _report(self) -> dict[str, Any]:
        """What GET /observations tells: of all workers together."""
        cells = self._loaded.cells if self._loaded else None
        if cells is None:
            return {}
        seen = [worker.slot.read()[1] for worker in self._workers.values()]
        start = max([cells.start(time.time()), *(int(words[0]) for words in seen)])
        total = sum((words for words in seen if words[0] == start), np.zeros(cells.words, dtype=np.int64))
        total[0] = start
        waiting = [item for worker in self._workers.values() for (kind, _), item in worker.waiting.items() if kind == WINDOWS]
        waiting += [item for kind, item in self._rest if kind == WINDOWS]
        return {
            "service": cells.service,
            "version": cells.version,
            "source": self._source,
            "windowSeconds": cells.seconds,
            "written": [{"key": item.key, **item.about} for item in self._written],
            "unwritten": [{"key": item.key, **item.about} for item in waiting],
            "current": windows.to_json(cells.window(total, self._source)),
            "buffered": sum(int(words[3]) for words in seen),
        }

    # The end

    async def finish(self) -> int:
        """Let all workers end as one process would; the exit code."""
        settings = self._settings
        number = self.stop.result() if self.stop.done() else signal.SIGTERM
        if not self.stop.done():
            self.stop.set_result(number)
        for sockets in self._sockets:
            for one in sockets:
                one.close()
        drain = settings.drain_seconds if number == signal.SIGTERM else 0.0
        deadline = time.monotonic() + drain + settings.finish_seconds + END_SECONDS
        self._send(number)
        hurried = killed = False
        while self._workers:
            self._wake.clear()
            await self._reap()
            if self.hurry.is_set() and not hurried:
                hurried = True
                self._send(number)
            if time.monotonic() > deadline and not killed:
                killed = True
                log.error("%d workers do not end and are killed", len(self._workers))
                self._send(signal.SIGKILL)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), 0.2)
        await self._write_rest()
        return 1 if self._failed else 0

    async def _write_rest(self) -> None:
        """What a worker that died during the end has left."""
        loaded = self._loaded
        if loaded is None or loaded.write is None or not self._rest:
            return
        service = self._settings.service
        delivery = Delivery(self._own, loaded.write, service=service, source=self._source, rest=self._rest)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.in_thread(delivery.write), self._settings.finish_seconds)

    async def leave(self) -> None:
        """Close everything."""
        self._keeping.cancel()
        self.abort()
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
        await asyncio.sleep(0)

    def _send(self, number: int) -> None:
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                os.kill(worker.pid, number)


def _dead() -> Iterator[tuple[int, int]]:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, status
