"""The server process: ports, loading, readiness, housekeeping, and an end that loses no request.

At SIGTERM readiness turns to no, and every answer from then on ends its connection; new connections are still accepted for
a while, because the routes to this Pod disappear later than the signal arrives.  Then the port closes, what has begun is
answered, the last window is written, and the process ends.  SIGINT does the same without the while.
"""

import asyncio
import json
import logging
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from kaizen.registry.settings import BucketSettings, checked_prefix
from kaizen.serving.http import Host
from kaizen.serving.messages import Handler
from kaizen.serving.metrics import Metrics
from kaizen.serving.model import Model, Refused, fetch, open_model, remove
from kaizen.serving.observation import Observer, Write, source
from kaizen.serving.routes import AdminRoutes, MetricsRoutes, PublicRoutes
from kaizen.serving.settings import Settings

if TYPE_CHECKING:
    from kaizen.registry.store import Bucket

__all__ = ["EXIT_REFUSED", "serve"]

log = logging.getLogger(__name__)

EXIT_REFUSED = 10
"""The model cannot be served, however often it is tried."""
TERMINATION_LOG = Path("/dev/termination-log")
"""Kubernetes copies it into the Pod's status."""
BACKLOG = 2048
COUNT_SECONDS = 0.2
SWEEP_SECONDS = 1.0
UNUSED_SECONDS = 1.0
"""How long a connection without a request is left alone at the end."""
REWRITE_SECONDS = 10.0
"""Until windows are written again after a failure."""

Ready = Callable[[Model], None]
T = TypeVar("T")


def serve(settings: Settings, ready: Ready = lambda model: None) -> int:
    """Serve until a signal; the exit code: 0, or EXIT_REFUSED.  Calls `ready` once requests are answered.

    Raises OSError when a port is taken, BucketError when the model's bucket does not answer.
    """
    _allow_many_connections()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(settings, ready))
        except Refused as refused:
            log.error("%s: %s", refused.code, refused)
            _leave_word(refused)
            return EXIT_REFUSED
    return 0


async def _serve(settings: Settings, ready: Ready) -> None:
    await _Server(settings, ready).run()


@dataclass(frozen=True)
class _Port:
    """A port and its clients."""

    host: Host
    listener: asyncio.Server


@dataclass(frozen=True)
class _Loaded:
    model: Model
    write: Write | None


class _Server:
    """One process's worth of state."""

    def __init__(self, settings: Settings, ready: Ready) -> None:
        self._settings = settings
        self._on_ready = ready
        self._loop = asyncio.get_running_loop()
        self._stop: asyncio.Future[signal.Signals] = self._loop.create_future()
        self._hurry = asyncio.Event()
        self._metrics = Metrics()
        self._routes = PublicRoutes(self._metrics)
        self._observer: Observer | None = None
        self._last_words = False
        self._ports: list[_Port] = []
        self._writing: asyncio.Future[None] | None = None
        self._write_again = 0.0

    async def run(self) -> None:
        """Until a signal; raises what loading raises."""
        settings = self._settings
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._signalled, number)
        keeping = asyncio.ensure_future(self._keep_house())
        try:
            public = await self._listen(settings.port, self._routes, self._metrics.answered)
            if settings.metrics_port is not None:
                await self._listen(settings.metrics_port, MetricsRoutes(self._metrics))
            if settings.admin_port is not None:
                await self._listen(settings.admin_port, AdminRoutes(self._report, settings.admin_token_file))
            loading = self._in_thread(lambda: _load(settings))
            await asyncio.wait((loading, self._stop), return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                self._begin(loading.result())
                number = await self._stop
                await self._drain(public, settings.drain_seconds if number == signal.SIGTERM else 0.0)
        finally:
            keeping.cancel()
            for port in self._ports:
                port.listener.close()
                port.host.abort()

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.done():
            self._hurry.set()
        else:
            self._stop.set_result(number)

    async def _listen(self, number: int, handler: Handler, answered: Callable[[int], None] = lambda status: None) -> _Port:
        host = Host(handler, self._settings.limits, answered)
        listener = await self._loop.create_server(host.connection, self._settings.host, number, backlog=BACKLOG)
        port = _Port(host, listener)
        self._ports.append(port)
        return port

    def _begin(self, loaded: _Loaded) -> None:
        model, settings, metrics = loaded.model, self._settings, self._metrics
        if model.reference is not None and (loaded.write is not None or settings.admin_port is not None):
            self._observer = Observer(
                model.reference,
                metrics,
                service=settings.service,
                version=model.version or 0,
                source=source(settings.pod_uid),
                window_seconds=settings.window_seconds,
                now=time.time(),
                write=loaded.write,
            )
        metrics.model, metrics.version = model.name, str(model.version or "")
        metrics.digest, metrics.engine = model.digest, model.kind
        self._routes.serve(model, self._observer)
        self._routes.ready = metrics.ready = True
        self._on_ready(model)

    async def _drain(self, public: _Port, seconds: float) -> None:
        log.info("stopping: new requests are answered for another %g s", seconds)
        self._routes.ready = self._metrics.ready = False
        public.host.closing = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)
        public.listener.close()
        deadline = self._loop.time() + self._settings.finish_seconds
        while public.host.connections and self._loop.time() < deadline:
            public.host.close_idle(self._loop.time(), UNUSED_SECONDS)
            await asyncio.sleep(0.02)
        self._last_words = True
        if self._observer is not None and self._observer.close(time.time()):
            with suppress(TimeoutError):
                if self._writing is not None:
                    await asyncio.wait((self._writing,), timeout=max(0.0, deadline - self._loop.time()))
                await asyncio.wait_for(self._in_thread(self._observer.write), max(1.0, deadline - self._loop.time()))
        log.info("stopped")

    async def _keep_house(self) -> None:
        """Deadlines of clients, counting of rows, closing and writing of windows."""
        sweep = 0.0
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            try:
                now = self._loop.time()
                if now >= sweep:
                    sweep = now + SWEEP_SECONDS
                    for port in self._ports:
                        port.host.sweep(now)
                if self._observer is not None:
                    await self._observe(self._observer, now)
            except Exception:
                log.exception("housekeeping broke")
            if self._ports:
                self._metrics.connections = len(self._ports[0].host.connections)

    async def _observe(self, observer: Observer, now: float) -> None:
        while observer.count():
            await asyncio.sleep(0)
        wanted = observer.close_if_over(time.time())
        if self._last_words:
            return  # the drain writes what is left, and one at a time is written
        if wanted and now >= self._write_again and (self._writing is None or self._writing.done()):
            self._writing = asyncio.ensure_future(self._write(observer))

    async def _write(self, observer: Observer) -> None:
        if not await self._in_thread(observer.write):
            self._write_again = self._loop.time() + REWRITE_SECONDS

    def _report(self) -> dict[str, Any]:
        return {} if self._observer is None else self._observer.report()

    def _in_thread(self, action: Callable[[], T]) -> "asyncio.Future[T]":
        """The result of a call in a thread that does not keep the process alive when it never returns."""
        future: asyncio.Future[T] = self._loop.create_future()

        def settle(result: Callable[[], None]) -> None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(lambda: None if future.done() else result())

        def run() -> None:
            try:
                found = action()
            except Exception as problem:
                error = problem
                settle(lambda: future.set_exception(error))
            else:
                settle(lambda: future.set_result(found))

        threading.Thread(target=run, daemon=True).start()
        return future


def _load(settings: Settings) -> _Loaded:
    """The model, and where its windows go; in a thread, so that probes are answered meanwhile."""
    buckets: dict[BucketSettings, Bucket] = {}

    def bucket(at: BucketSettings) -> "Bucket":
        from kaizen.registry.store import Bucket  # not in a terminal: half as much memory and time

        bare = replace(at, prefix="")
        if bare not in buckets:
            buckets[bare] = Bucket(bare)
        return buckets[bare]

    write: Write | None = None
    if (windows := settings.bucket) is not None and settings.service and settings.namespace:
        place, prefix = bucket(windows), checked_prefix(windows.prefix) + settings.windows_prefix

        def write(key: str, body: bytes) -> object:
            return place.put(prefix + key, body, "application/json")

    def opened(directory: Path) -> _Loaded:
        return _Loaded(open_model(directory, name=settings.name, version=settings.version, digest=settings.digest), write)

    if (origin := settings.model_bucket) is None:
        return opened(Path(settings.model))
    directory = Path(tempfile.mkdtemp(prefix="kaizen-model-"))
    try:
        fetch(bucket(origin), checked_prefix(origin.prefix), directory, settings.digest)
        return opened(directory)
    except Refused as refused:
        # A person knows the model by its place in the bucket, and each start fetches it to another directory.
        raise Refused(refused.code, str(refused).replace(str(directory), settings.model)) from refused
    finally:
        remove(directory)


def _allow_many_connections() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _leave_word(refused: Refused) -> None:
    """For the Pod's status; elsewhere there is no such file."""
    if TERMINATION_LOG.is_file():
        with suppress(OSError):
            TERMINATION_LOG.write_text(json.dumps({"code": refused.code, "message": str(refused)[:2000]}))
