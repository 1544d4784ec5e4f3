"""An HTTP proxy before an S3 server that fails on demand: by method, key and occurrence.

In a test, in a thread of its own:

    with S3Proxy(upstream="http://127.0.0.1:7070") as proxy:
        proxy.plan(Rule(Fault.LOST_ANSWER, method="PUT", key=r"/index\\.json$", times=(1,)))
        ...                                   # clients use proxy.url
        assert proxy.log[0].upstream == 200

In a Pod, `python -m tests.support.s3proxy --upstream URL --port N --host 0.0.0.0`, or the file by itself (it needs nothing but
aiohttp), with the plan at /__faults (GET, PUT a JSON list of rules, DELETE) and the log at /__log (GET, DELETE).

Signatures cover the Host header, the path and the query: they are passed on exactly as they came.
"""

import argparse
import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from yarl import URL  # comes with aiohttp: the only way to keep it from rewriting a signed path

__all__ = ["Entry", "Fault", "Rule", "S3Proxy", "application", "rules_from"]

LARGEST_BODY = 1 << 30
START_SECONDS = 10.0
PER_HOP = frozenset(
    {"connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length"}
)
ERROR = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{}</Code><Message>{}</Message></Error>'


class Fault(StrEnum):
    """What goes wrong with a request."""

    ERROR_500 = "Error500"
    """Answered 500 InternalError; upstream sees nothing."""
    ERROR_503 = "Error503"
    """Answered 503 SlowDown; upstream sees nothing."""
    TIMEOUT = "Timeout"
    """Never answered; upstream sees nothing."""
    CUT_BODY = "CutBody"
    """Upstream answers; half of the body arrives, then the connection ends.  An empty body: as LostAnswer."""
    CUT_REQUEST_BODY = "CutRequestBody"
    """Upstream sees half of the body, then both connections end.  An empty body: as LostRequest."""
    LOST_ANSWER = "LostAnswer"
    """Upstream does it and answers; the connection ends without an answer."""
    LOST_REQUEST = "LostRequest"
    """The connection ends; upstream sees nothing."""
    DELAY = "Delay"
    """Passed on after some seconds."""


@dataclass(frozen=True)
class Rule:
    """Which requests fail, and how.  Of several rules for a request the first one decides."""

    fault: Fault
    method: str = ""
    """PUT, GET, ...; empty for every method."""
    key: str = ""
    """Regular expression searched for in the decoded path, /bucket/key."""
    query: str = ""
    """Regular expression searched for in the query, as it was sent."""
    times: tuple[int, ...] = ()
    """Which of the matching requests, counted from 1 for each rule alone; empty for every one."""
    seconds: float = 1.0
    """Of a Delay."""

    def matches(self, method: str, path: str, query: str) -> bool:
        return self.method in ("", method) and bool(re.search(self.key, path)) and bool(re.search(self.query, query))


@dataclass(frozen=True)
class Entry:
    """One request in the log, written before the client can know its outcome."""

    method: str
    path: str
    """Decoded."""
    query: str
    fault: str | None
    upstream: int | None
    """The status that upstream answered; None when it was not asked or did not answer."""


def rules_from(plan: Any) -> tuple[Rule, ...]:
    """The rules of a JSON plan: a list of objects with the fields of Rule.  Raises TypeError or ValueError."""
    if not isinstance(plan, list):
        raise TypeError("a plan must be a list of rules")
    rules = []
    for item in plan:
        try:
            rule = Rule(**{**item, "fault": Fault(item["fault"]), "times": tuple(item.get("times", ()))})
            re.compile(rule.key)
            re.compile(rule.query)
        except (AttributeError, KeyError, TypeError, ValueError, re.error) as error:
            raise ValueError(f"not a rule: {item!r}: {error!r}; faults are {', '.join(Fault)}") from error
        rules.append(rule)
    return tuple(rules)


class State:
    """The plan and the log, shared between the proxy's thread and the test's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: tuple[Rule, ...] = ()
        self._seen: list[int] = []
        self._log: list[Entry] = []

    def plan(self, rules: tuple[Rule, ...]) -> None:
        with self._lock:
            self._rules = rules
            self._seen = [0] * len(rules)

    @property
    def rules(self) -> tuple[Rule, ...]:
        with self._lock:
            return self._rules

    @property
    def log(self) -> tuple[Entry, ...]:
        with self._lock:
            return tuple(self._log)

    def forget(self) -> None:
        with self._lock:
            self._log.clear()

    def add(self, entry: Entry) -> None:
        with self._lock:
            self._log.append(entry)

    def decide(self, method: str, path: str, query: str) -> Rule | None:
        """The rule for this request, which counts as an occurrence of every rule that matches it."""
        decided = None
        with self._lock:
            for number, rule in enumerate(self._rules):
                if not rule.matches(method, path, query):
                    continue
                self._seen[number] += 1
                if decided is None and (not rule.times or self._seen[number] in rule.times):
                    decided = rule
        return decided


@dataclass(frozen=True)
class Answer:
    """What upstream answered."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    length: int
    """As declared; differs from the body's for HEAD."""


class Forwarder:
    """Handles one request after the other."""

    def __init__(self, upstream: str, state: State) -> None:
        self._upstream = upstream.rstrip("/")
        self._state = state
        self._session: aiohttp.ClientSession | None = None

    async def lifetime(self, _: web.Application) -> AsyncIterator[None]:
        # A connection of its own for each request: a stale one would be a fault that nobody planned.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            timeout=aiohttp.ClientTimeout(total=None, connect=10),
        )
        yield
        await self._session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        target, _, query = request.raw_path.partition("?")
        rule = self._state.decide(request.method, unquote(target), query)
        fault = rule.fault if rule else None

        def log(upstream: int | None = None) -> None:
            self._state.add(Entry(request.method, unquote(target), query, fault, upstream))

        if fault is Fault.TIMEOUT:
            log()
            await asyncio.Event().wait()
        body = await request.read()
        if fault is Fault.LOST_REQUEST or (fault is Fault.CUT_REQUEST_BODY and not body):
            log()
            return _drop(request)
        if fault in (Fault.ERROR_500, Fault.ERROR_503):
            log()
            return _error(500, "InternalError") if fault is Fault.ERROR_500 else _error(503, "SlowDown")
        if fault is Fault.DELAY and rule:
            await asyncio.sleep(rule.seconds)
        try:
            answer = await self._ask(request, body, cut=fault is Fault.CUT_REQUEST_BODY)
        except (aiohttp.ClientError, ConnectionError):
            log()
            return _drop(request) if fault is Fault.CUT_REQUEST_BODY else _error(502, "UpstreamUnreachable")
        log(answer.status)
        if fault in (Fault.LOST_ANSWER, Fault.CUT_REQUEST_BODY) or (fault is Fault.CUT_BODY and not answer.body):
            return _drop(request)
        return await _give(request, answer, cut=fault is Fault.CUT_BODY)

    async def _ask(self, request: web.Request, body: bytes, cut: bool) -> Answer:
        assert self._session is not None
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in PER_HOP]
        headers.append(("Content-Length", str(len(body))))
        async with self._session.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            headers=headers,
            data=_half(body) if cut else body or None,
            allow_redirects=False,
        ) as response:
            content = await response.read()
            kept = tuple((name, value) for name, value in response.headers.items() if name.lower() not in PER_HOP)
            return Answer(response.status, kept, content, int(response.headers.get("Content-Length", len(content))))


async def _half(body: bytes) -> AsyncIterator[bytes]:
    yield body[: len(body) // 2]
    raise ConnectionAbortedError("the request body is cut here")


def _error(status: int, code: str) -> web.Response:
    return web.Response(status=status, text=ERROR.format(code, "injected by s3proxy"), content_type="application/xml")


def _drop(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _give(request: web.Request, answer: Answer, cut: bool) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status)
    for name, value in answer.headers:
        response.headers.add(name, value)
    if answer.status not in (204, 304):
        response.content_length = answer.length
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    await response.write(answer.body[: len(answer.body) // 2] if cut else answer.body)
    if cut:
        # Not abort(), which would throw away the half that is to arrive.
        if request.transport is not None:
            request.transport.close()
        return response
    await response.write_eof()
    return response


def application(upstream: str, state: State) -> web.Application:
    """The proxy with its admin paths."""
    forwarder = Forwarder(upstream, state)

    async def plan(request: web.Request) -> web.Response:
        if request.method == "PUT":
            try:
                state.plan(rules_from(json.loads(await request.read())))
            except (TypeError, ValueError) as error:
                return web.json_response({"error": str(error)}, status=400)
        elif request.method == "DELETE":
            state.plan(())
        return web.json_response([asdict(rule) for rule in state.rules])

    async def log(request: web.Request) -> web.Response:
        if request.method == "DELETE":
            state.forget()
        return web.json_response([asdict(entry) for entry in state.log])

    app = web.Application(client_max_size=LARGEST_BODY)
    app.cleanup_ctx.append(forwarder.lifetime)
    for method in ("GET", "PUT", "DELETE"):
        app.router.add_route(method, "/__faults", plan)
    for method in ("GET", "DELETE"):
        app.router.add_route(method, "/__log", log)
    app.router.add_route("*", "/{key:.*}", forwarder.handle)
    return app


class S3Proxy:
    """The proxy in a thread of its own, on a free port of the loopback, for the time of a `with`."""

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self._upstream = upstream
        self._state = State()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="s3proxy", daemon=True)
        self._started = threading.Event()
        self._stop: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def plan(self, *rules: Rule) -> None:
        """Replace the plan, counting from the first occurrence again, and empty the log."""
        self._state.plan(rules)
        self._state.forget()

    @property
    def log(self) -> tuple[Entry, ...]:
        """The requests since the plan was made."""
        return self._state.log

    def __enter__(self) -> "S3Proxy":
        self._thread.start()
        if not self._started.wait(START_SECONDS) or not self.url:
            raise RuntimeError("the S3 proxy did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._stop:
            loop, stop = self._stop
            loop.call_soon_threadsafe(stop.set)
        self._thread.join(START_SECONDS)

    async def _serve(self) -> None:
        stop = asyncio.Event()
        # A Timeout ends when its client gives up: without cancellation its handler would wait for ever.
        runner = web.AppRunner(
            application(self._upstream, self._state), handler_cancellation=True, shutdown_timeout=0.1, access_log=None
        )
        try:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self._stop = (asyncio.get_running_loop(), stop)
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._started.set()
            await stop.wait()
        finally:
            self._started.set()
            await runner.cleanup()


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description="An S3 proxy that fails on demand.")
    parser.add_argument("--upstream", required=True, help="URL of the S3 server")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 inside a Pod")
    options = parser.parse_args()
    web.run_app(
        application(options.upstream, State()),
        host=options.host,
        port=options.port,
        handler_cancellation=True,
        shutdown_timeout=1.0,
        access_log=None,
    )


if __name__ == "__main__":
    main()
