"""Which answer belongs to which request: the paths of the public port, and those of the two ports beside it."""

import hmac
from asyncio import sleep
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from kaizen.serving.answers import error, monitored
from kaizen.serving.engine.base import Answer, Column, Refused
from kaizen.serving.messages import Request, Response
from kaizen.serving.metrics import CONTENT_TYPE, Metrics
from kaizen.serving.model import Model
from kaizen.serving.observation import Observer
from kaizen.serving.problems import RequestError, shortened
from kaizen.serving.protocol import Parsed, Schema

__all__ = ["AdminRoutes", "MetricsRoutes", "PublicRoutes"]

ROWS_AT_ONCE = 512
"""More rows are answered in slices, and other clients between them."""

_encode = msgspec.json.Encoder().encode
_ALIVE = Response(b'{"live":true}')
_READY = Response(b'{"ready":true}')
_NOT_READY = Response(b'{"ready":false}', 503)
_READING = frozenset({b"GET", b"HEAD"})

Get = Callable[[], Response]
Post = Callable[[Request], Response | Awaitable[Response]]
Parse = Callable[[Schema, bytes], Parsed]
Render = Callable[[Parsed, Answer], bytes]


class PublicRoutes:
    """The public port.  Before there is a model, and while the process ends, readiness says no."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._model: Model | None = None
        self._observer: Observer | None = None
        self.ready = False
        """Whether new requests should be sent here."""
        self._gets: dict[bytes, Get] = {
            b"/v2/health/live": lambda: _ALIVE,
            b"/v2/health/ready": lambda: _READY if self.ready else _NOT_READY,
        }
        self._posts: dict[bytes, Post] = {}
        self._headers = b""
        self._name, self._version = "", ""

    def serve(self, model: Model, observer: Observer | None) -> None:
        """Answer for this model from now on."""
        self._model, self._observer = model, observer
        renderer = model.renderer
        version = "" if model.version is None else str(model.version)
        self._name, self._version = model.name, version
        self._headers = f"X-Model-Digest: {model.digest}\r\n".encode()
        if version:
            self._headers = f"X-Model-Version: {version}\r\n".encode() + self._headers
        server, described = Response(renderer.server()), Response(renderer.model(), headers=self._headers)
        name = quote(model.name, safe=":").encode()
        self._gets |= {b"/": lambda: server, b"/v2": lambda: server, b"/v1/models/" + name: self._model_ready}
        for base in (b"/v2/models/" + name, *((b"/v2/models/" + name + b"/versions/" + version.encode(),) if version else ())):
            self._gets |= {base: lambda: described, base + b"/ready": self._model_ready}
            self._posts[base + b"/infer"] = self._infer
        self._posts[b"/v1/models/" + name + b":predict"] = self._predict

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        """For Host."""
        target = request.target
        if request.method == b"POST":
            post = self._posts.get(target)
            if post is not None:
                return post(request)
        elif request.method in _READING and (get := self._gets.get(target)) is not None:
            return get()
        plain = quote(unquote(target.partition(b"?")[0].decode("latin-1")), safe="/:").encode()
        if plain != target and (plain in self._gets or plain in self._posts):
            request.target = plain
            return self(request)
        return self._no_route(request.method, plain)

    def _no_route(self, method: bytes, path: bytes) -> Response:
        allowed = b"GET, HEAD" if path in self._gets else b"POST" if path in self._posts else None
        if allowed is not None:
            message = f"{method.decode('latin-1')} does not fit this path; send {allowed.decode()}"
            return Response(error(message), 405, b"Allow: " + allowed + b"\r\n")
        if self._model is None:
            return Response(error("the model is still being loaded; try again in a second"), 503, b"Retry-After: 1\r\n")
        parts = path.decode().split("/")
        if parts[1:3] in (["v2", "models"], ["v1", "models"]) and len(parts) > 3:
            asked = unquote(parts[3].partition(":")[0])
            if asked != self._name:
                return Response(error(f"there is no model {shortened(asked)} here; this server has {shortened(self._name)}"), 404)
            if parts[4:5] == ["versions"] and len(parts) > 5 and parts[5] != self._version:
                has = f"version {self._version}" if self._version else "no versions"
                return Response(
                    error(f"there is no version {shortened(parts[5])} of this model here; this server has {has}"), 404
                )
        known = "/v2/models/" + quote(self._name, safe=":")
        return Response(error(f"there is nothing at {shortened(path.decode())}; try GET {known} or POST {known}/infer"), 404)

    def _model_ready(self) -> Response:
        assert self._model is not None
        return Response(self._model.renderer.model_ready(self.ready), 200 if self.ready else 503, self._headers)

    def _infer(self, request: Request) -> Response | Awaitable[Response]:
        return self._answer(request, Schema.parse, self._infer_body)

    def _predict(self, request: Request) -> Response | Awaitable[Response]:
        return self._answer(request, Schema.parse_instances, self._predict_body)

    def _infer_body(self, parsed: Parsed, answer: Answer) -> bytes:
        assert self._model is not None
        return self._model.renderer.infer(parsed, answer)

    def _predict_body(self, parsed: Parsed, answer: Answer) -> bytes:
        assert self._model is not None
        return self._model.renderer.predictions(answer)

    def _answer(self, request: Request, parse: Parse, render: Render) -> Response | Awaitable[Response]:
        model = self._model
        assert model is not None
        began = perf_counter()
        try:
            _refuse_encoding(request.headers)
            parsed = parse(model.schema, request.body)
            prepared = model.engine.columns(parsed.columns)
            if parsed.rows > ROWS_AT_ONCE:
                return self._in_slices(parsed, prepared, render, began)
            return self._done(parsed, model.engine.predict(prepared, parsed.rows), render, began)
        except (RequestError, Refused) as problem:
            return self._refused(problem)
        except Exception:
            self._metrics.failed += 1
            raise

    async def _in_slices(self, parsed: Parsed, prepared: list[Column], render: Render, began: float) -> Response:
        assert self._model is not None
        whole = Answer([], None, 0)
        try:
            for first in range(0, parsed.rows, ROWS_AT_ONCE):
                rows = min(ROWS_AT_ONCE, parsed.rows - first)
                part = self._model.engine.predict([column[first : first + rows] for column in prepared], rows)
                whole.classes = part.classes
                whole.labels += part.labels
                if part.scores is not None:
                    whole.scores = (whole.scores or []) + part.scores
                await sleep(0)
            return self._done(parsed, whole, render, began)
        except Refused as problem:
            return self._refused(problem)
        except Exception:
            self._metrics.failed += 1
            raise

    def _done(self, parsed: Parsed, answer: Answer, render: Render, began: float) -> Response:
        body = render(parsed, answer)
        if self._observer is not None:
            self._observer.offer(parsed.columns, monitored(answer), parsed.rows)
        self._metrics.predicted(parsed.rows, perf_counter() - began)
        return Response(body, headers=self._headers)

    def _refused(self, problem: Exception) -> Response:
        self._metrics.failed += 1
        return Response(error(str(problem)), problem.status if isinstance(problem, RequestError) else 400, self._headers)


class MetricsRoutes:
    """The port that Prometheus and the kubelet ask."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(self, request: Request) -> Response:
        """For Host."""
        if request.method in _READING and request.target == b"/metrics":
            return Response(self._metrics.text(), content_type=CONTENT_TYPE)
        if request.method in _READING and request.target == b"/healthz":
            return Response(b"ok", content_type=b"text/plain")
        return Response(error("this port has GET /metrics and GET /healthz"), 404)


class AdminRoutes:
    """The port that the operator asks, with the bearer token of this service."""

    def __init__(self, report: Callable[[], Mapping[str, Any]], token_file: Path | None) -> None:
        self._report = report
        self._token_file = token_file

    def __call__(self, request: Request) -> Response:
        """For Host."""
        if not self._known(request.headers.get(b"authorization", b"")):
            refusal = error("the header Authorization must be `Bearer` and this service's admin token")
            return Response(refusal, 401, b"WWW-Authenticate: Bearer\r\n")
        if request.method in _READING and request.target == b"/observations":
            return Response(_encode(self._report()))
        return Response(error("this port has GET /observations"), 404)

    def _known(self, given: bytes) -> bool:
        """Whether the token is right; a file that cannot be read lets nobody in."""
        if self._token_file is None:
            return True
        try:
            expected = self._token_file.read_bytes().strip()
        except OSError:
            return False
        return bool(expected) and hmac.compare_digest(given, b"Bearer " + expected)


def _refuse_encoding(headers: Mapping[bytes, bytes]) -> None:
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise RequestError("the body is compressed; send it without Content-Encoding", 415)
    if b"inference-header-content-length" in headers:
        raise RequestError("this server has no binary tensors; send JSON data, without Inference-Header-Content-Length")
