"""The study over the network: Optuna's gRPC proxy, with what a Pod that comes and goes needs around it.

A worker repeats a call while index 0 is away.  Every call names the session of the study's file, so that a trial of a file
that is gone is never written to another trial with its number.  Reached by whoever knows the token; the stored state of CMA-ES
is a pickle, so the port must not be open to others.

Built on `optuna.storages._grpc`, whose public doors neither stop, nor tell of a written trial, nor set a deadline.
"""

import hmac
import logging
import threading
import time
import warnings
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, GrpcStorageProxy
from optuna.storages._grpc.auto_generated import api_pb2_grpc
from optuna.storages._grpc.client import GrpcClientCache
from optuna.storages._grpc.servicer import OptunaStorageProxyService

from kaizen.training.errors import Failure
from kaizen.training.search.trials import STEP

__all__ = ["Address", "Proxy", "Replaced", "Server"]

log = logging.getLogger(__name__)

TOKEN, SESSION, WORKER = "kaizen-token", "kaizen-session", "kaizen-worker"
LEFT = "left-"
"""Begins the study's attribute by which a worker says goodbye."""
CALL_SECONDS = 20.0
POLL_SECONDS = 0.3
PATIENCE_SECONDS = 600.0
"""How long a worker waits for index 0: its Pod may have to be scheduled, and to read the data again."""
SAY_AGAIN_SECONDS = 15.0
THREADS = 4
AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
CHANNEL = [
    ("grpc.max_receive_message_length", -1),
    # A Pod that vanished answers nothing: the name is looked up again soon, and a dead connection noticed.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
]


@dataclass(frozen=True)
class Address:
    """Where index 0 holds the study."""

    host: str
    port: int
    token: str = ""
    """Known to the workers of this job only."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Replaced(Exception):
    """The study is another file than the one that the running trial belongs to."""


class Server:
    """Serves a storage to other workers, and knows whom it heard of last and when."""

    def __init__(self, storage: BaseStorage, address: Address, session: str, changed: Callable[[], None]) -> None:
        """`changed` is called after each trial that was taken or ended, before the worker gets its answer.

        Raises Failure PortTaken.
        """
        self._seen: dict[int, float] = {}
        self._begun = time.monotonic()
        pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="study")
        options = [("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 5_000)]
        self._server = grpc.server(pool, interceptors=(_Door(address.token, session, self._seen),), options=options)
        service = _Service(storage, changed, self._seen)
        api_pb2_grpc.add_StorageServiceServicer_to_server(service, self._server)  # type: ignore[no-untyped-call]
        try:
            self._server.add_insecure_port(str(address))
        except RuntimeError as problem:
            raise Failure(STEP, "PortTaken", f"the study cannot be served at {address}: {problem}", retry=True) from problem
        self._server.start()

    def silent_seconds(self, worker: int) -> float:
        """Since a worker was heard of, or since this server began."""
        return time.monotonic() - self._seen.get(worker, self._begun)

    @property
    def present(self) -> int:
        """Workers that have not said goodbye."""
        return sum(time.monotonic() - seen < CALL_SECONDS for seen in self._seen.values())

    def close(self) -> None:
        """Let calls that run end."""
        self._server.stop(grace=1.0).wait(2.0)


class Proxy(GrpcStorageProxy):
    """The study of index 0 as a storage: waits and repeats while index 0 is away.

    Calls raise Replaced, or Failure StudyUnreachable after `patience` seconds.
    """

    def __init__(self, address: Address, worker: int, patience: float = PATIENCE_SECONDS) -> None:
        self._caller = _Caller(address, worker, patience)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            super().__init__(host=address.host, port=address.port)

    def _setup(self) -> None:
        self._channel = grpc.insecure_channel(f"{self._host}:{self._port}", options=CHANNEL)
        channel = grpc.intercept_channel(self._channel, self._caller)
        self._stub = api_pb2_grpc.StorageServiceStub(channel)  # type: ignore[no-untyped-call]
        self._cache = GrpcClientCache(self._stub)

    def bind(self, session: str) -> None:
        """From now on speak of this session's trials only."""
        self._caller.session = session


class _Service(OptunaStorageProxyService):
    def __init__(self, storage: BaseStorage, changed: Callable[[], None], seen: dict[int, float]) -> None:
        super().__init__(storage)
        self._changed = changed
        self._seen = seen

    def SetTrialStateValues(self, request: Any, context: Any) -> Any:  # noqa: N802 -- Optuna's name
        reply = super().SetTrialStateValues(request, context)
        self._changed()
        return reply

    def SetStudyUserAttribute(self, request: Any, context: Any) -> Any:  # noqa: N802 -- Optuna's name
        reply = super().SetStudyUserAttribute(request, context)
        if request.key.startswith(LEFT):
            self._seen.pop(int(request.key.removeprefix(LEFT)), None)
        return reply


class _Door(grpc.ServerInterceptor):  # type: ignore[misc]
    def __init__(self, token: str, session: str, seen: dict[int, float]) -> None:
        self._token = token
        self._session = session
        self._seen = seen

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        said = {key: value for key, value in details.invocation_metadata if isinstance(value, str)}
        if not hmac.compare_digest(said.get(TOKEN, "").encode(), self._token.encode()):
            return _refusal(grpc.StatusCode.PERMISSION_DENIED, "not a worker of this job")
        if said.get(SESSION, self._session) != self._session:
            return _refusal(grpc.StatusCode.ABORTED, "another study")
        if said.get(WORKER, "").isdecimal():
            self._seen[int(said[WORKER])] = time.monotonic()
        return continuation(details)


def _refusal(code: grpc.StatusCode, message: str) -> Any:
    return grpc.unary_unary_rpc_method_handler(lambda _request, context: context.abort(code, message))


_Details = namedtuple("_Details", ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression"))


class _Caller(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Adds who calls, and repeats while nobody answers."""

    def __init__(self, address: Address, worker: int, patience: float) -> None:
        self.session: str | None = None
        self._address = address
        self._worker = worker
        self._patience = patience

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = [(TOKEN, self._address.token), (WORKER, str(self._worker))]
        if self.session is not None:
            metadata.append((SESSION, self.session))
        asked = _Details(details.method, CALL_SECONDS, metadata, None, None, None)
        begun = said = time.monotonic()
        away = False
        while True:
            answer = continuation(asked, request)
            code = answer.code()
            if code == grpc.StatusCode.ABORTED:
                raise Replaced
            if code == grpc.StatusCode.PERMISSION_DENIED:
                raise Failure(STEP, "StudyRefused", f"index 0 at {self._address} holds the study of another job")
            if code not in AWAY:
                if away:
                    log.info("index 0 is back after %.0f s", time.monotonic() - begun)
                return answer
            now = time.monotonic()
            if now - begun > self._patience:
                message = f"index 0, which holds the study at {self._address}, was away for {self._patience:.0f} s"
                raise Failure(STEP, "StudyUnreachable", message, retry=True)
            if not away or now - said > SAY_AGAIN_SECONDS:
                log.warning("index 0 is away (%s, %s): waiting up to %.0f s", self._address, code.name, self._patience)
                away, said = True, now
            threading.Event().wait(POLL_SECONDS)
