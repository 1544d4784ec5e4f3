"""Which answer belongs to which request: the paths of the public port, and those of the two ports beside it."""

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from kaizen.serving import openapi, page
from kaizen.serving.bodies.protocol import Parsed
from kaizen.serving.engine.base import Answer, Refused
from kaizen.serving.inference import Inference
from kaizen.serving.model import Model
from kaizen.serving.problems import Overloaded, RequestError, error, shortened
from kaizen.serving.settings import Limits
from kaizen.serving.transport import encodings
from kaizen.serving.transport.heads import Head, path_of
from kaizen.serving.transport.messages import Request, Response
from kaizen.serving.watching.feedback import Feedback
from kaizen.serving.watching.metrics import CONTENT_TYPE, Metrics

__all__ = ["AdminRoutes", "MetricsRoutes", "PublicRoutes"]

LONGEST_NUMBER = 18
"""Digits of a length."""

_encode = msgspec.json.Encoder().encode
_ALIVE = Response(b'{"live":true}')
_READY = Response(b'{"ready":true}')
_READING = frozenset({b"GET", b"HEAD"})

Get = Callable[[], Response]
Post = Callable[[Request], Response | Awaitable[Response]]
Parse = Callable[[Request], Parsed]
Respond = Callable[[Request, Parsed, Answer], Response | Awaitable[Response]]

_DESCRIPTIONS = {
    b"/": "server",
    b"/v2": "server",
    b"/v2/models": "models",
    b"/v1/models": "models",
    b"/openapi.json": "openapi",
}


class PublicRoutes:
    """The public port.  Before there is a model, and while the process ends, readiness says no."""

    def __init__(self, metrics: Metrics, body_bytes: int = Limits.body_bytes) -> None:
        """`body_bytes` is what a compressed body may have when it is not."""
        self._metrics = metrics
        self._body_bytes = body_bytes
        self._serving: _Serving | None = None
        self.ready = False
        """Whether new requests should be sent here."""
        self.lacks = ""
        """Why not, when it is for tokens or a certificate."""
        self._gets: dict[bytes, Get] = {
            b"/v2/health/live": lambda: _ALIVE,
            b"/v2/health/ready": lambda: _READY if self.ready else _not_ready(self.lacks),
            b"/docs": page.response,
        }
        self._posts: dict[bytes, Post] = {}

    def serve(self, model: Model, inference: Inference, feedback: Feedback | None = None) -> None:
        """Answer for this model from now on; without `feedback` labels have nowhere to go."""
        serving = self._serving = _Serving(model, inference, feedback, self._metrics, self._body_bytes)
        described = serving.described()
        name, version = quote(model.name, safe=":").encode(), serving.version.encode()
        self._gets |= {path: _always(described[key]) for path, key in _DESCRIPTIONS.items()}
        self._gets[b"/v1/models/" + name] = self._model_ready
        for base in (b"/v2/models/" + name, *((b"/v2/models/" + name + b"/versions/" + version,) if version else ())):
            self._gets |= {base: _always(described["model"]), base + b"/ready": self._model_ready}
            self._posts |= {base + b"/infer": serving.infer, base + b"/feedback": serving.feedback}
        self._posts[b"/v1/models/" + name + b":predict"] = serving.predict

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        """For Host."""
        method, target = request.method, request.target
        if method == b"POST":
            post = self._posts.get(target)
            if post is not None:
                return post(request)
        elif method in _READING and (get := self._gets.get(target)) is not None:
            return _small(request, get())
        plain = quote(unquote(path_of(target).decode("latin-1")), safe="/:*").encode()
        plain = plain.rstrip(b"/") or b"/"
        if plain != target and (plain in self._gets or plain in self._posts):
            return self(replace(request, target=plain))
        return self._elsewhere(method, plain)

    def _elsewhere(self, method: bytes, path: bytes) -> Response:
        fits = b"GET, HEAD" if path in self._gets else b"POST" if path in self._posts else None
        if method == b"OPTIONS" and (fits is not None or path == b"*"):
            return Response(b"", headers=b"Allow: %b, OPTIONS\r\n" % (fits or b"GET, HEAD, POST"))
        if fits is not None:
            message = f"{method.decode('latin-1')} does not fit this path; send {fits.decode()}"
            return Response(error(message), 405, b"Allow: %b, OPTIONS\r\n" % fits)
        if self._serving is None:
            return Response(error("the model is still being loaded; try again in a second"), 503, b"Retry-After: 1\r\n")
        return Response(error(self._serving.unknown(path)), 404)

    def _model_ready(self) -> Response:
        assert self._serving is not None
        return self._serving.ready(self.ready)


class _Serving:
    """The model's part of the public port."""

    def __init__(self, model: Model, inference: Inference, feedback: Feedback | None, metrics: Metrics, body_bytes: int) -> None:
        self.version = "" if model.version is None else str(model.version)
        self._model, self._inference, self._labels, self._metrics = model, inference, feedback, metrics
        self._body_bytes = body_bytes
        self._headers = f"X-Model-Digest: {model.digest}\r\n".encode()
        if self.version:
            self._headers = f"X-Model-Version: {self.version}\r\n".encode() + self._headers

    def described(self) -> dict[str, Response]:
        """Answers that never change."""
        renderer = self._model.renderer
        return {
            "server": Response(renderer.server()),
            "models": Response(renderer.models()),
            "model": Response(renderer.model(), headers=self._headers),
            "openapi": Response(openapi.document(self._model, feedback=self._labels is not None), headers=self._headers),
        }

    def ready(self, ready: bool) -> Response:
        return Response(self._model.renderer.model_ready(ready), 200 if ready else 503, self._headers)

    def unknown(self, path: bytes) -> str:
        """What a path asks for that is not here."""
        name, parts = self._model.name, path.decode().split("/")
        if parts[1:3] in (["v2", "models"], ["v1", "models"]) and len(parts) > 3:
            asked = unquote(parts[3].partition(":")[0])
            if asked != name:
                return f"there is no model {shortened(asked)} here; this server has {shortened(name)}"
            if parts[4:5] == ["versions"] and len(parts) > 5 and parts[5] != self.version:
                has = f"version {self.version}" if self.version else "no versions"
                return f"there is no version {shortened(parts[5])} of this model here; this server has {has}"
        known = "/v2/models/" + quote(name, safe=":")
        return f"there is nothing at {shortened(path.decode())}; try GET {known} or POST {known}/infer"

    def infer(self, request: Request) -> Response | Awaitable[Response]:
        """POST /v2/models/NAME/infer."""
        return self._answer(request, self._parse, self._infer_response)

    def predict(self, request: Request) -> Response | Awaitable[Response]:
        """POST /v1/models/NAME:predict."""
        return self._answer(request, self._parse_instances, self._predict_response)

    def feedback(self, request: Request) -> Response:
        """POST /v2/models/NAME/feedback."""
        if self._labels is None:
            return Response(error("this server has no bucket, so it cannot keep labels"), 501, self._headers)
        try:
            taken = self._labels.offer(self._body(request), time.time())
        except RequestError as problem:
            return self._told(problem)
        return Response(_encode({"accepted": taken}), 202, self._headers)

    def _answer(self, request: Request, parse: Parse, respond: Respond) -> Response | Awaitable[Response]:
        try:
            parsed = parse(request)
            answer = self._inference.answer(parsed)
            if isinstance(answer, Answer):
                return respond(request, parsed, answer)
        except (RequestError, Refused) as problem:
            return self._refused(problem)
        except Exception:
            self._metrics.failed += 1
            raise
        return self._later(request, parsed, answer, respond)

    async def _later(self, request: Request, parsed: Parsed, answer: Awaitable[Answer], respond: Respond) -> Response:
        try:
            response = respond(request, parsed, await answer)
        except (RequestError, Refused) as problem:
            return self._refused(problem)
        except Exception:
            self._metrics.failed += 1
            raise
        return response if isinstance(response, Response) else await response

    def _parse(self, request: Request) -> Parsed:
        length = request.headers.get(b"inference-header-content-length")
        json_bytes = None
        if length is not None:
            if not length.isdigit() or len(length) > LONGEST_NUMBER:
                raise RequestError("the header Inference-Header-Content-Length must be the number of bytes of the JSON")
            json_bytes = int(length)
        return self._model.schema.parse(self._body(request), json_bytes)

    def _parse_instances(self, request: Request) -> Parsed:
        return self._model.schema.parse_instances(self._body(request))

    def _body(self, request: Request) -> bytes:
        coding = request.headers.get(b"content-encoding")
        return request.body if coding is None else encodings.inflated(request.body, coding, self._body_bytes)

    def _infer_response(self, request: Request, parsed: Parsed, answer: Answer) -> Response | Awaitable[Response]:
        renderer = self._model.renderer
        if not parsed.binary:
            return _compressed(request, Response(renderer.infer(parsed, answer), headers=self._headers))
        body, json_bytes = renderer.infer_binary(parsed, answer)
        headers = self._headers + b"Inference-Header-Content-Length: %d\r\n" % json_bytes
        return _compressed(request, Response(body, headers=headers, content_type=b"application/octet-stream"))

    def _predict_response(self, request: Request, parsed: Parsed, answer: Answer) -> Response | Awaitable[Response]:
        return _compressed(request, Response(self._model.renderer.predictions(answer), headers=self._headers))

    def _refused(self, problem: RequestError | Refused) -> Response:
        self._metrics.failed += 1
        return self._told(problem)

    def _told(self, problem: RequestError | Refused) -> Response:
        status, again = (problem.status, b"") if isinstance(problem, RequestError) else (400, b"")
        if isinstance(problem, Overloaded):
            self._metrics.shed += 1
            again = b"Retry-After: %d\r\n" % problem.seconds
        return Response(error(str(problem)), status, again + self._headers)


def _always(response: Response) -> Get:
    return lambda: response


def _compressed(request: Request, response: Response) -> Response | Awaitable[Response]:
    """The answer as the client asked for it; a large one later."""
    if len(response.body) <= encodings.LARGE_BYTES:
        return _small(request, response)
    coding = encodings.accepted(request.headers.get(b"accept-encoding", b""))
    return _varying(response) if coding is None else _large(response, coding)


def _small(request: Request, response: Response) -> Response:
    if len(response.body) <= encodings.SMALL_BYTES or (header := request.headers.get(b"accept-encoding")) is None:
        return response
    coding = encodings.accepted(header)
    return _varying(response) if coding is None else _coded(response, encodings.deflated(response.body, coding), coding)


async def _large(response: Response, coding: bytes) -> Response:
    return _coded(response, await encodings.deflated_slowly(response.body, coding), coding)


def _coded(response: Response, body: bytes, coding: bytes) -> Response:
    return _varying(replace(response, body=body, headers=response.headers + b"Content-Encoding: %b\r\n" % coding))


def _varying(response: Response) -> Response:
    return replace(response, headers=response.headers + b"Vary: Accept-Encoding\r\n")


def _not_ready(lacks: str) -> Response:
    return Response(_encode({"ready": False, "reason": lacks} if lacks else {"ready": False}), 503)


class MetricsRoutes:
    """The port that Prometheus and the kubelet ask."""

    def __init__(self, text: Callable[[], bytes]) -> None:
        """`text` gives the metrics as Prometheus reads them."""
        self._text = text

    def __call__(self, request: Request) -> Response:
        """For Host."""
        path = path_of(request.target)
        if request.method in _READING and path == b"/metrics":
            return Response(self._text(), content_type=CONTENT_TYPE)
        if request.method in _READING and path == b"/healthz":
            return Response(b"ok", content_type=b"text/plain")
        return Response(error("this port has GET /metrics and GET /healthz"), 404)


class AdminRoutes:
    """The port that the operator asks, with the bearer token of this service."""

    def __init__(self, report: Callable[[], Mapping[str, Any]], token_file: Path | None) -> None:
        self._report = report
        self._token_file = token_file

    def __call__(self, request: Request) -> Response:
        """For Host."""
        if refusal := self.refusal(request):
            return refusal
        if request.method in _READING and path_of(request.target) == b"/observations":
            return Response(_encode(self._report()))
        return Response(error("this port has GET /observations"), 404)

    def refusal(self, request: Request | Head) -> Response | None:
        """The answer to who is not the operator."""
        if self._known(request.headers.get(b"authorization", b"")):
            return None
        message = error("the header Authorization must be `Bearer` and this service's admin token")
        return Response(message, 401, b"WWW-Authenticate: Bearer\r\n")

    def _known(self, given: bytes) -> bool:
        """Whether the token is right; a file that cannot be read lets nobody in."""
        if self._token_file is None:
            return True
        try:
            expected = self._token_file.read_bytes().strip()
        except OSError:
            return False
        return bool(expected) and hmac.compare_digest(given, b"Bearer " + expected)
