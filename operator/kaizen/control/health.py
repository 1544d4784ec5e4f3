"""/metrics, /healthz and /readyz, answered from the first second of the process."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from kaizen import metrics
from kaizen.control.queue import Queue

STALE_RESYNCS = 3
Summary = Mapping[tuple[str, str], int]
"""Number of objects by kind and status of Ready."""


@dataclass
class Health:
    """What the probes say; the parts of the operator write it."""

    resync_seconds: float
    ready: bool = False
    """The API server has answered, and this process leads with everything listed, or knows who leads."""
    leading: bool = False
    resynced: float = field(default_factory=time.monotonic)
    """When the last full list of everything ended."""

    def note_ready(self) -> None:
        """From now on /readyz says ok."""
        if not self.ready:
            metrics.READY_TIME.set_to_current_time()
        self.ready = True

    def note_resync(self) -> None:
        """A full list of everything has ended just now."""
        self.resynced = time.monotonic()

    def problem(self) -> str | None:
        """Why the process should be restarted, or None."""
        overdue = time.monotonic() - self.resynced
        if self.leading and overdue > STALE_RESYNCS * self.resync_seconds:
            return f"the last full list of the watched objects ended {overdue:.0f} s ago"
        return None


@asynccontextmanager
async def serving(health: Health, queue: Queue, summary: Callable[[], Summary], port: int) -> AsyncIterator[None]:
    """Serve the three paths while the block runs."""
    app = web.Application()

    async def healthz(_: web.Request) -> web.Response:
        problem = health.problem()
        return web.Response(status=500 if problem else 200, text=problem or "ok")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(status=200 if health.ready else 503, text="ok" if health.ready else "starting")

    async def show_metrics(_: web.Request) -> web.Response:
        depth, oldest = queue.keys.waiting(asyncio.get_running_loop().time())
        metrics.OBJECTS.clear()
        for (kind, ready), count in summary().items():
            metrics.OBJECTS.labels(kind, ready).set(count)
        metrics.QUEUE_DEPTH.set(depth)
        metrics.QUEUE_OLDEST_SECONDS.set(oldest)
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", show_metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    try:
        yield
    finally:
        await runner.cleanup()
