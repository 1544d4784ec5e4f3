"""The Open Inference Protocol over gRPC: `inference.GRPCInferenceService`, and gRPC's own health check, on a port of their own.

Only imported when that port is asked for: grpcio and protobuf take memory that a server without it should not need, and they
do not survive a fork, so each worker has a server of its own.  Requests and answers are those of REST, with its sentences;
tensors come typed or raw, and are answered as they came.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
import msgspec
import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from kaizen.serving.bodies import binary
from kaizen.serving.bodies.protocol import Parsed, Tensor
from kaizen.serving.engine.base import Answer, Refused
from kaizen.serving.grpc.messages import HEALTH, INFERENCE, INFERENCE_METHODS
from kaizen.serving.inference import Inference
from kaizen.serving.model import Model
from kaizen.serving.problems import Overloaded, RequestError, passes, shortened
from kaizen.serving.protobuf import Messages
from kaizen.serving.settings import Settings
from kaizen.serving.transport.authentication import Tokens
from kaizen.serving.transport.tls import CERTIFICATE, KEY
from kaizen.serving.watching.metrics import Metrics

__all__ = ["GrpcServer"]

log = logging.getLogger(__name__)

SERVICE, HEALTH_SERVICE = "inference.GRPCInferenceService", "grpc.health.v1.Health"
FREE = frozenset({"ServerLive", "ServerReady", "Check"})
"""Methods that need no token."""
SERVING, NOT_SERVING = 1, 2
FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where the values of a datatype are, in typed contents."""
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
AGE_SECONDS = 10
"""After so long a connection ends between two calls and its client makes another: by itself it would stay with a Pod for ever,
also with one that is going to end.  Whatever comes in the moment in which gRPC's own library stops is lost."""
QUIET_SECONDS = 0.5
"""Without a call for so long, at the end, all clients have gone elsewhere."""
PING_SECONDS = 10
"""Clients may ask so often whether the connection lives."""
CERTIFICATE_SECONDS = 1.0
UNKNOWN_TOKEN = "the metadata authorization must be `Bearer` and a token of this service"

Method = Callable[[Any], Any]
Call = Any
"""A call that is being answered: grpc.aio.ServicerContext."""


class GrpcServer:
    """One process's gRPC port; to be made inside its event loop."""

    def __init__(
        self,
        model: Model,
        inference: Inference,
        metrics: Metrics,
        settings: Settings,
        *,
        ready: Callable[[], bool],
        tokens: Tokens | None = None,
    ) -> None:
        self._model, self._inference, self._metrics, self._settings = model, inference, metrics, settings
        self._ready, self._tokens = ready, tokens
        self._version = "" if model.version is None else str(model.version)
        self._metadata = (("x-model-digest", model.digest), *((("x-model-version", self._version),) if self._version else ()))
        self._messages = Messages("inference", INFERENCE)
        self._metadata_of_model = self._described()
        self._following: asyncio.Task[None] | None = None
        """Who looks after the certificate."""
        self._called = 0.0
        """When the last call came."""
        limits = settings.limits
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=limits.waiting,
            options=[
                ("grpc.max_receive_message_length", limits.body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", limits.header_bytes),
                ("grpc.so_reuseport", int(settings.workers > 1)),
                ("grpc.max_connection_idle_ms", int(limits.idle_seconds * 1000)),
                ("grpc.max_connection_age_ms", AGE_SECONDS * 1000),
                ("grpc.max_connection_age_grace_ms", int(settings.finish_seconds * 1000)),
                ("grpc.http2.min_ping_interval_without_data_ms", PING_SECONDS * 1000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        self._server.add_generic_rpc_handlers((self._inference_handlers(), self._health_handlers()))

    async def start(self) -> None:
        """Answer from now on, with TLS as soon as there is a certificate.  Raises OSError: the port is taken."""
        directory = self._settings.tls_directory
        if directory is None:
            await self._listen(None)
            return
        certificate = _Certificate(directory)
        if certificate.current is None:
            log.warning("gRPC waits for %s and %s in %s", CERTIFICATE, KEY, directory)
        else:
            await self._listen(certificate)
        self._following = asyncio.ensure_future(self._follow(certificate))

    async def stop(self, seconds: float, *, wait: bool) -> None:
        """Take no more calls, and let those that have begun end within so many seconds; with `wait` answer until none comes."""
        if self._following is not None:
            self._following.cancel()
        deadline = monotonic() + seconds
        while wait and monotonic() < min(deadline - 1.0, self._called + QUIET_SECONDS):
            await asyncio.sleep(QUIET_SECONDS / 10)
        await self._server.stop(max(0.0, deadline - monotonic()))

    async def _listen(self, certificate: "_Certificate | None") -> None:
        port, host = self._settings.grpc_port, self._settings.host or "[::]"
        address = f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
        try:
            if certificate is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, certificate.credentials())
        except RuntimeError as problem:
            raise OSError(f"cannot listen on port {port} for gRPC: {problem}") from problem
        await self._server.start()

    async def _follow(self, certificate: "_Certificate") -> None:
        """Look at the files as often as HTTP does, also when nobody connects: else a broken pair could hide a good one."""
        listens = certificate.current is not None
        while True:
            await asyncio.sleep(CERTIFICATE_SECONDS)
            certificate.look()
            if not listens and certificate.current is not None:
                await self._listen(certificate)
                listens = True

    # The methods

    def _inference_handlers(self) -> Any:
        methods: Mapping[str, Method] = {
            "ServerLive": lambda request: self._messages["ServerLiveResponse"](live=True),
            "ServerReady": lambda request: self._messages["ServerReadyResponse"](ready=self._ready()),
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
            "RepositoryIndex": self._repository_index,
        }
        handlers = {name: self._handler(name, self._messages[f"{name}Request"], methods[name]) for name in INFERENCE_METHODS}
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _health_handlers(self) -> Any:
        messages = Messages("grpc.health.v1", HEALTH)

        def check(request: Any) -> Any:
            if request.service not in ("", SERVICE, self._model.name):
                raise RequestError(f"there is no service {shortened(request.service)} here; this server has {SERVICE}", 404)
            return messages["HealthCheckResponse"](status=SERVING if self._ready() else NOT_SERVING)

        handler = self._handler("Check", messages["HealthCheckRequest"], check)
        return grpc.method_handlers_generic_handler(HEALTH_SERVICE, {"Check": handler})

    def _model_ready(self, request: Any) -> Any:
        self._check_model(request.name, request.version)
        return self._messages["ModelReadyResponse"](ready=self._ready())

    def _server_metadata(self, request: Any) -> Any:
        return self._messages["ServerMetadataResponse"](**msgspec.json.decode(self._model.renderer.server()))

    def _model_metadata(self, request: Any) -> Any:
        self._check_model(request.name, request.version)
        return self._metadata_of_model

    def _repository_index(self, request: Any) -> Any:
        ready = self._ready()
        response = self._messages["RepositoryIndexResponse"]()
        if ready or not request.ready:
            state = "READY" if ready else "UNAVAILABLE"
            response.models.add(name=self._model.name, version=self._version, state=state)
        return response

    def _infer(self, request: Any) -> Any:
        self._check_model(request.model_name, request.model_version)
        try:
            self._model.schema.refuse_many(len(request.inputs))
            parsed = self._model.schema.accept(
                _tensors(request),
                request.id,
                _parameters(request.parameters),
                [one.name for one in request.outputs],
                request.ByteSize(),
            )
            answer = self._inference.answer(parsed)
        except (RequestError, Refused):
            self._metrics.failed += 1
            raise
        raw = bool(request.raw_input_contents)
        return self._response(parsed, answer, raw) if isinstance(answer, Answer) else self._later(parsed, answer, raw)

    async def _later(self, parsed: Parsed, answer: Awaitable[Answer], raw: bool) -> Any:
        try:
            return self._response(parsed, await answer, raw)
        except (RequestError, Refused):
            self._metrics.failed += 1
            raise

    def _response(self, parsed: Parsed, answer: Answer, raw: bool) -> Any:
        response = self._messages["ModelInferResponse"](model_name=self._model.name, model_version=self._version, id=parsed.id)
        for one in self._model.renderer.tensors(parsed, answer):
            datatype, values = one["datatype"], one["data"]
            made = response.outputs.add(name=one["name"], datatype=datatype, shape=one["shape"])
            _set_parameters(made.parameters, one.get("parameters", {}))
            if raw:
                response.raw_output_contents.append(binary.encoded(datatype, values))
            else:
                texts = datatype == "BYTES"
                getattr(made.contents, FIELDS[datatype]).extend([value.encode() for value in values] if texts else values)
        return response

    # What all methods have in common

    def _handler(self, name: str, request_class: Any, method: Method) -> Any:
        async def handle(content: bytes, call: Call) -> bytes:
            self._called = monotonic()
            if self._tokens is not None and name not in FREE and not self._tokens.knows(_authorization(call)):
                self._metrics.unauthorized += 1
                await call.abort(grpc.StatusCode.UNAUTHENTICATED, UNKNOWN_TOKEN)
            remaining = call.time_remaining()
            if remaining is not None and remaining <= 0:
                await call.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline was over before the call was looked at")
            try:
                response = method(request_class.FromString(content))
                if isinstance(response, Awaitable):
                    response = await response
            except DecodeError:
                await call.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the message is no {request_class.DESCRIPTOR.name}")
            except Overloaded as problem:
                self._metrics.shed += 1
                pushback = (("grpc-retry-pushback-ms", str(problem.seconds * 1000)),)
                await call.abort(grpc.StatusCode.UNAVAILABLE, str(problem), pushback)
            except RequestError as problem:
                await call.abort(CODES.get(problem.status, grpc.StatusCode.INVALID_ARGUMENT), str(problem), self._metadata)
            except Refused as problem:
                await call.abort(grpc.StatusCode.INVALID_ARGUMENT, str(problem), self._metadata)
            except Exception:
                if name == "ModelInfer":
                    self._metrics.failed += 1
                log.exception("%s broke", name)
                await call.abort(grpc.StatusCode.INTERNAL, "the server failed to answer; its log says why")
            call.set_trailing_metadata(self._metadata)
            made: bytes = response.SerializeToString()
            return made

        return grpc.unary_unary_rpc_method_handler(handle)

    def _check_model(self, name: str, version: str) -> None:
        if name != self._model.name:
            raise RequestError(f"there is no model {shortened(name)} here; this server has {shortened(self._model.name)}", 404)
        if version and version != self._version:
            has = f"version {self._version}" if self._version else "no versions"
            raise RequestError(f"there is no version {shortened(version)} of this model here; this server has {has}", 404)

    def _described(self) -> Any:
        """What ModelMetadata answers: REST's."""
        found = msgspec.json.decode(self._model.renderer.model())
        response = self._messages["ModelMetadataResponse"](
            name=found["name"], versions=found.get("versions", []), platform=found["platform"]
        )
        for place in ("inputs", "outputs"):
            for one in found[place]:
                made = getattr(response, place).add(name=one["name"], datatype=one["datatype"], shape=one["shape"])
                _set_parameters(made.parameters, one.get("parameters", {}))
        return response


class _Certificate:
    """The files of a mounted Secret, read anew when they change."""

    def __init__(self, directory: Path) -> None:
        self._files = (directory / KEY, directory / CERTIFICATE)
        self._signature: Any = None
        self._given: Any = None
        self.current: Any = None
        self.look()

    def credentials(self) -> Any:
        """For a port."""
        self._given = self.current
        return grpc.dynamic_ssl_server_credentials(self.current, self.newer)

    def newer(self) -> Any:
        """What each handshake, in a thread of gRPC's, asks: the certificate, unless it is the one that was given last."""
        current = self.current
        if current is self._given:
            return None
        self._given = current
        return current

    def look(self) -> None:
        """Put changed files to use.  Those that cannot be used leave the certificate before in place; tls.py says why."""
        before = self._signature
        try:
            if (signature := self._look()) == before:
                return
            self._signature = signature
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._files[1], self._files[0], password="")
            key, chain = (file.read_bytes() for file in self._files)
            if self._look() != signature:  # two pairs may be mixed
                self._signature = before
                return
        except (OSError, ValueError) as problem:
            if passes(problem):
                self._signature = before
            return
        self.current = grpc.ssl_server_certificate_configuration([(key, chain)])

    def _look(self) -> Any:
        return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in (file.stat() for file in self._files))


def _tensors(request: Any) -> list[Tensor]:
    """The inputs with their values, typed or raw.  Raises RequestError."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise RequestError(
            f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs; send one for each, in their order"
        )
    found = []
    for number, one in enumerate(request.inputs):
        shape = list(one.shape)
        if not raw:
            values = _typed(one)
        elif one.HasField("contents") and one.contents.ByteSize():
            raise RequestError(
                f"input {shortened(one.name)} has contents, but the request has raw_input_contents; send one of them"
            )
        else:
            values = binary.decoded(one.name, one.datatype, shape, raw[number])
        found.append(Tensor(one.name, one.datatype, shape, values, _parameters(one.parameters) or None))
    return found


def _typed(tensor: Any) -> Any:
    name, datatype = tensor.name, tensor.datatype
    field = FIELDS.get(datatype)
    if field is None:
        if datatype in binary.DATATYPES:
            raise RequestError(f"input {shortened(name)} is {datatype}, which has no typed contents; send raw_input_contents")
        raise RequestError(f"input {shortened(name)} is {shortened(datatype)}; known are {', '.join(FIELDS)}")
    values = getattr(tensor.contents, field)
    if not values and tensor.contents.ByteSize():
        raise RequestError(f"input {shortened(name)} is {datatype}, but its contents have no {field}")
    if datatype == "BYTES":
        return list(values)
    kind = np.dtype(np.bool_) if datatype == "BOOL" else binary.DATATYPES[datatype]
    try:
        return np.array(values, dtype=kind)
    except OverflowError:
        raise RequestError(f"input {shortened(name)} has a value that is outside the range of {datatype}") from None


def _parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Names and plain values; what has none is left out."""
    chosen = ((name, one, one.WhichOneof("parameter_choice")) for name, one in parameters.items())
    return {name: getattr(one, choice) for name, one, choice in chosen if choice is not None}


def _set_parameters(made: Any, parameters: Mapping[str, Any]) -> None:
    for name, value in parameters.items():
        kind = "bool" if isinstance(value, bool) else "int64" if isinstance(value, int) else "string"
        setattr(made[name], f"{kind}_param", value)


def _authorization(call: Call) -> bytes:
    for name, value in call.invocation_metadata() or ():
        if name == "authorization":
            return value.encode() if isinstance(value, str) else bytes(value)
    return b""
