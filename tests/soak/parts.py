"""The parts of a soak: each starts the servers that it needs, says what it saw, and raises Problem for what did not hold."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.soak import attacks as misbehaving
from tests.soak import fuzz as fuzzing
from tests.soak import overload as overloading
from tests.soak.bystander import bystander
from tests.soak.document import check_document
from tests.soak.grpc_attacks import grpc_attacks
from tests.soak.plan import Plan
from tests.soak.pods import Pod, bucket_environment, pod, rights
from tests.soak.problems import Problem
from tests.soak.wire import fuzz_sockets
from tests.support.models import MadeModel, make_model

__all__ = ["PARTS", "Soak"]


@dataclass(frozen=True)
class Soak:
    """One run."""

    plan: Plan
    directory: Path
    """Empty."""
    seed: int = 6
    first: int = 0
    """Number of the first input."""

    def fuzz(self) -> Iterator[str]:
        """Mutated requests in this process."""
        figures = uvloop.run(fuzzing.fuzz(self.directory, self.seed, self.plan.inputs, self.plan.fuzz_seconds, self.first))
        yield str(figures)
        if figures.problems:
            raise Problem("\n".join(figures.problems))

    def sockets(self) -> Iterator[str]:
        """Mutated requests over real sockets, beside a client that does nothing wrong."""
        with self._server() as (server, made), bystander(server.port, rights(made, server)[:3]) as other:
            yield fuzz_sockets(server, self.seed, self.plan.socket_inputs, self.first)
            server.check_log()
        yield str(other)

    def attacks(self) -> Iterator[str]:
        """Clients that behave badly, beside one that does not."""
        with self._server() as (server, made), ThreadPoolExecutor() as threads:
            with bystander(server.port, rights(made, server)[:3]) as other:
                slow = [threads.submit(attack, server) for attack in misbehaving.SLOW_ATTACKS]
                for attack in misbehaving.QUICK_ATTACKS:
                    yield attack(server)
                for one in slow:
                    yield one.result()
                yield misbehaving.idle_connections(server, self.plan.connections)
            yield str(other)
            server.end()

    def document(self) -> Iterator[str]:
        """What others read in /openapi.json."""
        with self._server() as (server, _):
            yield check_document(server, self.plan.examples, self.directory)

    def grpc(self) -> Iterator[str]:
        """Bad clients of gRPC, beside one of REST that is good."""
        with self._server() as (server, made):
            with bystander(server.port, rights(made, server)[:3]) as other:
                yield grpc_attacks(server, made, self.seed, self.plan.calls)
            yield str(other)
            server.end()

    def overload(self, workers: int = 1) -> Iterator[str]:
        """Twice the saturation load, from clients that die; with several workers, these die as well."""
        with self._server(workers) as (server, made):
            yield f"{workers} worker{'s' * (workers > 1)}: {overloading.overload(server, rights(made, server), self.plan)}"

    def overload_of_workers(self) -> Iterator[str]:
        """The same with two workers."""
        return self.overload(2)

    @contextmanager
    def _server(self, workers: int = 1) -> Iterator[tuple[Pod, MadeModel]]:
        made = make_model(self.directory / "model", "boosting")
        (self.directory / "s3").mkdir()
        with (
            bucket_environment(made, self.directory / "s3") as environment,
            pod(environment, self.directory / "pod", workers) as server,
        ):
            yield server, made


PARTS: dict[str, Callable[[Soak], Iterator[str]]] = {
    "fuzz": Soak.fuzz,
    "sockets": Soak.sockets,
    "attacks": Soak.attacks,
    "document": Soak.document,
    "grpc": Soak.grpc,
    "overload": Soak.overload,
    "overload-workers": Soak.overload_of_workers,
}
