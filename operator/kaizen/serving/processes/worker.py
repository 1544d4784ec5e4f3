"""One of several processes that answer, from the fork to its end."""

import asyncio
import logging
import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import uvloop

from kaizen.serving.processes.board import Slot
from kaizen.serving.processes.channel import speak
from kaizen.serving.processes.loading import Loaded
from kaizen.serving.processes.process import ENDING
from kaizen.serving.processes.server import Server
from kaizen.serving.settings import Settings
from kaizen.serving.watching.metrics import Metrics
from kaizen.serving.watching.outbox import Item

__all__ = ["Inheritance", "become_worker"]

log = logging.getLogger(__name__)


class _Worker(Server):
    """A worker."""

    def __init__(self, settings: Settings, metrics: Metrics, slot: Slot) -> None:
        super().__init__(settings, metrics)
        self._slot = slot

    def publish(self) -> None:
        """Let the parent see what was counted, and that this process lives."""
        self._slot.publish(self._metrics.words(), self.window())


@dataclass(frozen=True)
class Inheritance:
    """What a worker has from its parent."""

    settings: Settings
    loaded: Loaded
    sockets: list[socket.socket]
    """Listeners of the public port."""
    channel: socket.socket
    slot: Slot
    name: str
    """The source of its windows."""
    rest: list[tuple[str, Item]]
    """What a worker that died had still to write."""


def become_worker(given: Inheritance) -> NoReturn:
    """What happens after a fork: nothing of the parent is touched again, and its stack is never returned to."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (*ENDING, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _let_go({given.channel.fileno(), *(one.fileno() for one in given.sockets)})
        given.loaded.model.schema.renew()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_answer(given))
        code = 0
    except BaseException:
        log.exception("the worker broke")
    finally:
        logging.shutdown()
        os._exit(code)


async def _answer(given: Inheritance) -> None:
    worker = _Worker(given.settings, Metrics(), given.slot)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    voice = await speak(given.channel, lambda: worker.end(signal.SIGINT))
    await worker.begin(given.loaded, given.name, told=voice.tell, rest=given.rest)
    await worker.open(given.sockets)
    worker.publish()
    keeping = asyncio.ensure_future(worker.keep_house())
    try:
        await worker.run()
        await voice.end()
    finally:
        keeping.cancel()
        worker.abort()


def _let_go(keep: set[int]) -> None:
    """Give up the parent's sockets without closing them under objects that still know their numbers."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for path in list(Path("/proc/self/fd").iterdir()):
        number = int(path.name)
        if number > 2 and number != nothing and number not in keep:
            with suppress(OSError):  # the listing itself had one
                os.fstat(number)
                os.dup2(nothing, number, inheritable=False)
