"""gRPC clients that send garbage, too much, or hang up: the server lives, and answers others rightly."""

import socket
from collections import Counter
from random import Random
from time import monotonic
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from tests.soak.corpus import damaged
from tests.soak.pods import Pod
from tests.soak.problems import Problem
from tests.soak.targets import TOKEN, complete
from tests.support.models import DATATYPES, MODEL, MadeModel

__all__ = ["grpc_attacks"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
METHODS = ("ModelInfer", "ModelMetadata", "ModelReady", "ServerMetadata", "RepositoryIndex", "Nothing")
TOO_LARGE = 9 << 20
ROWS = 20
TOKENS = (("authorization", f"Bearer {TOKEN}"),)
SECONDS = 20.0
NEVER = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS"})


def _frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _garbage(random: Random) -> bytes:
    """What an HTTP/2 server may be sent by anybody."""
    chance = random.random()
    if chance < 0.2:
        return random.randbytes(random.randrange(1, 500))
    if chance < 0.3:
        return b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    if chance < 0.4:
        return PREFACE[: random.randrange(1, len(PREFACE))]
    sent = PREFACE + SETTINGS
    for _ in range(random.randrange(1, 20)):
        payload = random.randbytes(random.choice((0, 1, 4, 5, 8, 100)))
        length = random.choice((None, None, None, 0, 6, 1 << 14, (1 << 24) - 1))
        stream = random.choice((0, 1, 1, 2, 3, 0x7FFFFFFF, 0xFFFFFFFF))
        sent += _frame(random.randrange(12), random.randrange(256), stream, payload, length)
    return sent


def _request(frame: Any) -> Any:
    fields = {"FP64": "fp64_contents", "INT64": "int64_contents", "BYTES": "bytes_contents"}
    request = service_pb2.ModelInferRequest(model_name=MODEL, id="right")
    for name, column in frame.items():
        values = [value.encode() if isinstance(value, str) else value for value in column.tolist()]
        datatype = DATATYPES[name]
        request.inputs.add(name=name, datatype=datatype, shape=[len(frame)], contents={fields[datatype]: values})
    return request


class _Client:
    def __init__(self, server: Pod, made: MadeModel) -> None:
        self.address = f"127.0.0.1:{server.grpc_port}"
        self._channel = grpc.insecure_channel(self.address)
        frame = complete(ROWS)
        self.right = _request(frame).SerializeToString()
        labels, probabilities = made.expected(frame)
        answer = service_pb2.ModelInferResponse.FromString(self.call(self.right))
        outputs = {one.name: one.contents for one in answer.outputs}
        assert list(outputs["predict"].bool_contents) == labels
        assert np.allclose(outputs["predict_proba"].fp64_contents, probabilities or [], rtol=0, atol=1e-12)
        self._answer = answer

    def call(self, request: bytes, method: str = "ModelInfer", seconds: float = SECONDS) -> bytes:
        answer: bytes = self._method(method)(request, timeout=seconds, metadata=TOKENS)
        return answer

    def begin(self, request: bytes) -> Any:
        return self._method("ModelInfer").future(request, timeout=SECONDS, metadata=TOKENS)

    def status(self, request: bytes, method: str = "ModelInfer", seconds: float = SECONDS) -> str:
        try:
            self.call(request, method, seconds)
        except grpc.RpcError as problem:
            return str(problem.code().name)
        return "OK"

    def check(self, after: str) -> None:
        """Raises Problem when a good request does not get its right answer."""
        answer = service_pb2.ModelInferResponse.FromString(self.call(self.right))
        if answer != self._answer:
            raise Problem(f"after {after} a good call is answered {answer}")

    def close(self) -> None:
        self._channel.close()

    def _method(self, name: str) -> Any:
        return self._channel.unary_unary(f"/inference.GRPCInferenceService/{name}")


def grpc_attacks(server: Pod, made: MadeModel, seed: int, calls: int) -> str:
    """So many of each kind; what was seen."""
    client, random, began = _Client(server, made), Random(seed), monotonic()
    try:
        for _ in range(calls):
            with socket.create_connection(("127.0.0.1", server.grpc_port), 10) as one:
                try:
                    one.sendall(_garbage(random))
                    if random.random() < 0.5:
                        one.settimeout(0.02)
                        one.recv(1 << 16)
                except OSError:
                    pass
        client.check("garbage frames")

        statuses = Counter[str]()
        for _ in range(calls):
            statuses[client.status(damaged(random, client.right), random.choice(METHODS))] += 1
        if wrong := NEVER & statuses.keys():
            raise Problem(f"damaged messages are answered {wrong}: {statuses}; {server.log()[-3000:]}")
        client.check("damaged messages")

        for _ in range(5):
            if (status := client.status(bytes(TOO_LARGE))) != "RESOURCE_EXHAUSTED":
                raise Problem(f"a huge message is answered {status}")
        client.check("huge messages")

        for _ in range(calls // 10):
            begun = [client.begin(client.right) for _ in range(20)]
            for number, one in enumerate(begun):
                if number % 2:
                    one.cancel()
            for number, one in enumerate(begun):
                if not number % 2 and service_pb2.ModelInferResponse.FromString(one.result()) != client._answer:
                    raise Problem("a call beside cancelled ones is answered wrongly")
            client.status(client.right, seconds=random.choice((0.0, 0.0005, 0.002)))
        client.check("cancelled calls")
    finally:
        client.close()
    server.check_log()
    seconds = monotonic() - began
    return (
        f"{calls:,} garbage connections, {calls:,} damaged messages ({dict(statuses)}), 5 huge ones, "
        f"{2 * calls:,} calls of which half were cancelled, in {seconds:.0f} s"
    )
