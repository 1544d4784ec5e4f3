"""A process that answers requests: the whole server, or one of its workers.

At SIGTERM readiness turns to no, and every answer from then on ends its connection; new connections are still accepted for
a while, because the routes to this Pod disappear later than the signal arrives.  Then the port closes, what has begun is
answered, what was observed is written, and the process ends.  SIGINT does the same without the while.
"""

import asyncio
import json
import logging
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import uvloop

from kaizen.serving.inference import Inference
from kaizen.serving.model import Model, Refused
from kaizen.serving.processes.loading import Loaded, load
from kaizen.serving.processes.process import Port, Process
from kaizen.serving.routes import AdminRoutes, MetricsRoutes, PublicRoutes
from kaizen.serving.settings import Settings
from kaizen.serving.transport import tls
from kaizen.serving.transport.authentication import Authentication, Tokens
from kaizen.serving.transport.cors import Cors
from kaizen.serving.transport.http import Door
from kaizen.serving.transport.messages import Handler
from kaizen.serving.transport.sockets import listening, refuse_new, waiting
from kaizen.serving.watching.capture import Capture
from kaizen.serving.watching.delivery import Delivery, Told
from kaizen.serving.watching.feedback import Feedback
from kaizen.serving.watching.metrics import Metrics
from kaizen.serving.watching.observation import Observer, source
from kaizen.serving.watching.outbox import Item
from kaizen.serving.watching.pseudonyms import Pseudonyms

if TYPE_CHECKING:
    from kaizen.serving.grpc.service import GrpcServer

__all__ = ["EXIT_REFUSED", "Server", "serve"]

log = logging.getLogger(__name__)

EXIT_REFUSED = 10
"""The model cannot be served, however often it is tried."""
TERMINATION_LOG = Path("/dev/termination-log")
"""Kubernetes copies it into the Pod's status."""
UNUSED_SECONDS = 1.0
"""How long a connection without a request is left alone at the end."""
ACCEPTED_TURNS = 3
"""After which whoever was accepted is among the connections."""
SLICES = 4
"""Of what was answered, that a tick counts or captures."""
LAST_SECONDS = 0.1
"""How long whoever has begun to connect may take to."""

Ready = Callable[[Model], None]


def serve(settings: Settings, ready: Ready = lambda model: None) -> int:
    """Serve until a signal; the exit code: 0, EXIT_REFUSED, or 1 when workers cannot be kept alive.

    Calls `ready` once requests are answered.  Raises OSError when a port is taken, BucketError when the model's bucket does
    not answer.
    """
    _allow_many_connections()
    public = listening(settings.host, settings.port, settings.workers)
    if settings.grpc_port is not None:  # gRPC's library listens itself, and much later: look whether it can
        for probe in listening(settings.host, settings.grpc_port)[0]:
            probe.close()
    try:
        if settings.workers > 1:
            from kaizen.serving.processes.workers import watch

            return watch(settings, public, ready)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_alone(settings, public[0], ready))
    except Refused as refused:
        log.error("%s: %s", refused.code, refused)
        _leave_word(refused)
        return EXIT_REFUSED
    return 0


async def _alone(settings: Settings, public: list[socket.socket], ready: Ready) -> None:
    """One process that does everything."""
    metrics = Metrics()
    server = Server(settings, metrics)
    keeping = asyncio.ensure_future(server.keep_house())
    try:
        await server.open(public)
        if settings.metrics_port is not None:
            await server.listen(listening(settings.host, settings.metrics_port)[0], MetricsRoutes(metrics.text))
        if settings.admin_port is not None:
            routes = AdminRoutes(server.report, settings.admin_token_file)
            await server.listen(listening(settings.host, settings.admin_port)[0], routes, door=Door(refusal=routes.refusal))
        loading = server.in_thread(lambda: load(settings))
        await asyncio.wait((loading, server.stop), return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loaded = loading.result()
            await server.begin(loaded, source(settings.pod_uid) + "-0")
            ready(loaded.model)
            await server.run()
    finally:
        keeping.cancel()
        server.abort()


class Server(Process):
    """Answers on the public port, and observes."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        super().__init__(settings.limits)
        self._settings, self._metrics = settings, metrics
        self._routes = PublicRoutes(metrics, settings.limits.body_bytes)
        self._public: Port | None = None
        self._observer: Observer | None = None
        self._capture: Capture | None = None
        self._delivery: Delivery | None = None
        self._writing: asyncio.Future[None] | None = None
        self._last_words = False
        self._grpc: GrpcServer | None = None
        self._shed = 0
        """What the public port has refused, as far as that is in the metrics."""
        self._able = False
        """There is a model, and no signal to end."""
        self.tokens = Tokens(settings.tokens_directory) if settings.tokens_directory else None
        self.tls = tls.Context(settings.tls_directory) if settings.tls_directory else None

    async def open(self, sockets: list[socket.socket]) -> None:
        """Answer on the public port; that the model is being loaded, until it is."""
        handler, door = cast(Handler, self._routes), Door()
        if self.tokens is not None:
            handler = authentication = Authentication(self.tokens, handler, self._unauthorized)
            door = replace(door, refusal=authentication.refusal)
        if self._settings.cors_origins:
            handler = cors = Cors(self._settings.cors_origins, handler)
            door = replace(door, lines=cors.lines)
        self._public = await self.listen(sockets, handler, self._metrics.answered, self.tls.ssl if self.tls else None, door)

    async def begin(
        self,
        loaded: Loaded,
        source: str,
        *,
        told: Told = lambda kind, what, item: None,
        rest: Iterable[tuple[str, Item]] = (),
    ) -> None:
        """Answer with the model.  `told` hears of what goes to the bucket, `rest` is what somebody else has left for it."""
        settings, metrics, model = self._settings, self._metrics, loaded.model
        feedback = None
        if loaded.write is not None:
            pseudonyms = self._keep_rows(model)
            feedback = Feedback(model.engine.classes, model.engine.keys, pseudonyms=pseudonyms)
        self._delivery = Delivery(
            metrics,
            loaded.write,
            service=settings.service,
            source=source,
            feedback=feedback,
            capture=self._capture,
            told=told,
            rest=rest,
        )
        if loaded.cells is not None:
            self._observer = Observer(
                loaded.cells, metrics, self._delivery.windows, source=source, now=time.time(), soon=self.loop.call_soon
            )
        metrics.describe(model.name, model.version, model.digest, model.kind, model.reason)
        inference = Inference(model, self._observer, metrics, settings.limits.waiting, self._capture)
        self._routes.serve(model, inference, feedback)
        if settings.grpc_port is not None:
            from kaizen.serving.grpc.service import GrpcServer  # its libraries are for those who ask for it

            self._grpc = GrpcServer(model, inference, metrics, settings, ready=lambda: self._routes.ready, tokens=self.tokens)
            await self._grpc.start()
        self._able = True
        self._say_whether_ready()

    def _keep_rows(self, model: Model) -> Pseudonyms | None:
        """Capture rows where that is asked for; the digests that labels need as well."""
        settings = self._settings
        wanted = settings.capture
        if wanted is None:
            return None
        inputs = [one.name for one in model.engine.inputs]
        for name in sorted({*wanted.exclude, *wanted.hash} - {*inputs, *model.schema.ignored}):
            log.warning("capture names the column %r, which the model neither takes nor has as a key: it changes nothing", name)
        pseudonyms = Pseudonyms(settings.namespace, settings.service, wanted.hash)
        if not wanted.share:
            return pseudonyms
        model.schema.keep_all()
        self._capture = Capture(
            self._metrics,
            version=model.version or 0,
            inputs=inputs,
            share=wanted.share,
            exclude=wanted.exclude,
            pseudonyms=pseudonyms,
            seconds=settings.window_seconds,
            soon=self.loop.call_soon,
        )
        return pseudonyms

    async def run(self) -> None:
        """Until a signal, and then to the end."""
        number = await self.stop
        await self._drain(self._settings.drain_seconds if number == signal.SIGTERM else 0.0)

    def report(self) -> dict[str, Any]:
        """What GET /observations tells."""
        return {} if self._observer is None else self._observer.report()

    def publish(self) -> None:
        """For workers: let others see what was counted."""

    def window(self) -> Any:
        """The words of the window; None when nothing is observed."""
        return None if self._observer is None else self._observer.words()

    def each_second(self) -> None:
        """Put changed tokens and certificates to use."""
        if self.tokens is not None:
            self._metrics.token_reloads += self.tokens.reload_if_changed()
        if self.tls is not None:
            self._metrics.tls_reloads += self.tls.reload_if_changed()
        self._say_whether_ready()

    def _say_whether_ready(self) -> None:
        self._routes.lacks = " and ".join(part.problem for part in (self.tokens, self.tls) if part and not part.usable)
        self._routes.ready = self._metrics.ready = self._able and not self._routes.lacks

    def _unauthorized(self) -> None:
        self._metrics.unauthorized += 1

    async def each_tick(self, now: float) -> None:
        """Count and capture the rest of what was answered, and have all of it written."""
        if self._observer is not None:
            await _some(self._observer.count)
            self._observer.tick(time.time())
        if self._capture is not None:
            await _some(self._capture.make)
        idle = self._writing is None or self._writing.done()
        if self._delivery is not None and idle and not self._last_words and self._delivery.due(now):
            self._writing = self.in_thread(self._delivery.write)
        self._measure()
        self.publish()

    def _measure(self) -> None:
        if self._public is not None:
            host = self._public.host
            self._metrics.connections, self._metrics.waiting = len(host.connections), host.waiting
            self._metrics.backlog = waiting(self._public.sockets)
            self._metrics.shed += host.shed - self._shed  # others count there too
            self._shed = host.shed

    async def _drain(self, seconds: float) -> None:
        public = self._public
        assert public is not None
        log.info("stopping: new requests are answered for another %g s", seconds)
        self._able = False
        self._say_whether_ready()
        public.host.closing = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self.hurry.wait(), seconds)
        refuse_new(public.sockets)
        deadline = self.loop.time() + self._settings.finish_seconds
        await asyncio.sleep(LAST_SECONDS)
        while waiting(public.sockets) and self.loop.time() < deadline:
            await asyncio.sleep(0)
        public.host.refuse()
        for _ in range(ACCEPTED_TURNS):
            await asyncio.sleep(0)
        calls = None
        if self._grpc is not None:
            calls = asyncio.ensure_future(self._grpc.stop(self._settings.finish_seconds, wait=seconds > 0))
        shaken = self.loop.time() + UNUSED_SECONDS
        while self.loop.time() < deadline and (public.host.connections or (public.host.accepting and self.loop.time() < shaken)):
            public.host.close_idle(time.monotonic(), UNUSED_SECONDS)
            await asyncio.sleep(0.02)
        if calls is not None:
            await calls
        await self._last(deadline)
        self._measure()
        self.publish()
        log.info("stopped")

    async def _last(self, deadline: float) -> None:
        """Write what was observed to the end."""
        self._last_words = True
        if self._observer is not None:
            self._observer.close(time.time())
        if self._capture is not None:
            self._capture.finish()
        delivery = self._delivery
        if delivery is not None and delivery.pending:
            with suppress(TimeoutError):
                if self._writing is not None:
                    await asyncio.wait((self._writing,), timeout=max(0.0, deadline - self.loop.time()))
                await asyncio.wait_for(self.in_thread(delivery.finish), max(1.0, deadline - self.loop.time()))


async def _some(next_slice: Callable[[], bool]) -> None:
    """A few slices: what is more has turns of its own, and a tick must end also when requests never do."""
    for _ in range(SLICES):
        if not next_slice():
            return
        await asyncio.sleep(0)


def _allow_many_connections() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _leave_word(refused: Refused) -> None:
    """For the Pod's status; elsewhere there is no such file."""
    if TERMINATION_LOG.is_file():
        with suppress(OSError):
            TERMINATION_LOG.write_text(json.dumps({"code": refused.code, "message": str(refused)[:2000]}))
