"""Several processes on one port behave as one: counts add up, a dead one is replaced, and an end loses no request."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kaizen.serving.processes.board import Board
from kaizen.serving.processes.channel import follow, speak
from kaizen.serving.transport.sockets import listening
from kaizen.serving.watching.metrics import WORDS, Metrics
from kaizen.serving.watching.outbox import Item
from tests.support.models import MadeModel, flights, make_model
from tests.support.ports import free_ports
from tests.support.rawhttp import Client, Load, ask
from tests.support.server_process import ServerProcess, server_process
from tests.support.wait import until

INFER = "/v2/models/flight-delay/infer"
READY = "/v2/health/ready"
TWO: dict[str, Any] = {"workers": 2, "service": "flight-delay", "window_seconds": 3600}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeModel:
    return make_model(tmp_path_factory.mktemp("models") / "model", "ridge")


@pytest.fixture(scope="module")
def body(made: MadeModel) -> bytes:
    return made.request(flights(3))


@pytest.fixture(scope="module")
def two(made: MadeModel) -> Iterator[ServerProcess]:
    with server_process(made.directory, **TWO) as server:
        yield server
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0, server.log()
        assert "broke" not in server.log()


def counted(server: ServerProcess) -> int:
    """Rows in all windows, written and current."""
    found = server.observations()
    return int(found["current"]["rows"]) + sum(int(one["rows"]) for one in found["written"])


def test_counts_of_all_workers_add_up(two: ServerProcess, body: bytes) -> None:
    ids = [json.loads(ask(two.port, INFER, body).body)["id"] for _ in range(40)]
    assert len({id.partition("-")[0] for id in ids}) == 2, "both workers answer, and neither makes the other's ids"
    assert len(set(ids)) == 40
    until("the requests are counted", lambda: two.metric("model_infer_request_success_total") == 40, 5)
    assert two.metric("kaizen_server_rows_total") == 120
    assert two.metric("kaizen_server_workers") == two.metric("kaizen_server_ready") + 1 == 2
    until("the rows are observed", lambda: counted(two) == 120, 5)
    assert two.observations()["current"]["service"] == "flight-delay"


def test_workers_share_their_memory(two: ServerProcess) -> None:
    def mib(pid: int, kind: str) -> float:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind + ":"))

    pids = [two.process.pid, *two.workers()]
    together, alone = sum(mib(pid, "Pss") for pid in pids), max(mib(pid, "Rss") for pid in pids)
    print(f"\n{len(pids) - 1} workers and their parent {together:.1f} MiB, one process alone about {alone:.1f} MiB")
    assert together < 1.5 * alone


def test_a_dead_worker_is_replaced_and_what_it_counted_stays(two: ServerProcess, body: bytes) -> None:
    before, restarts = counted(two), two.metric("kaizen_server_worker_restarts_total")
    answered = two.metric("model_infer_request_success_total")
    for _ in range(20):
        assert ask(two.port, INFER, body).status == 200
    until("all is counted", lambda: counted(two) == before + 60, 5)
    victim = two.workers()[0]
    os.kill(victim, signal.SIGKILL)
    until("it is replaced", lambda: two.metric("kaizen_server_worker_restarts_total") == restarts + 1, 5)
    until("there are two again", lambda: two.metric("kaizen_server_workers") == 2, 5)
    assert victim not in two.workers()
    for _ in range(20):  # also those that were dealt to the dead one's listener
        assert ask(two.port, INFER, body).status == 200
    until("nothing is lost", lambda: counted(two) == before + 120, 5)
    assert two.metric("model_infer_request_success_total") == answered + 40
    windows = two.observations()["written"]
    assert windows, "the dead worker's window is closed on its behalf"
    assert len({one["key"] for one in windows}) == len(windows)
    assert "was ended by SIGKILL" in two.log()


def test_a_worker_that_hangs_is_replaced(made: MadeModel, body: bytes) -> None:
    with server_process(made.directory, **TWO, stall_seconds=2) as server:
        stopped = server.workers()[0]
        os.kill(stopped, signal.SIGSTOP)
        until("it is replaced", lambda: stopped not in server.workers() and len(server.workers()) == 2, 10)
        assert ask(server.port, INFER, body).status == 200
        assert "gives no sign of life for 2 s and is killed" in server.log()


def test_when_there_is_no_room_for_another_worker_the_others_go_on(made: MadeModel, body: bytes) -> None:
    """As after one was killed for want of memory."""
    full = """
import errno, itertools, os
fork, numbers = os.fork, itertools.count(1)
def failing():
    if next(numbers) in (3, 4):
        raise OSError(errno.ENOMEM, "no memory")
    return fork()
os.fork = failing
"""
    with server_process(made.directory, **TWO, before=full) as server:
        victim, other = server.workers()
        os.kill(victim, signal.SIGKILL)
        until("it cannot be replaced", lambda: "no worker can be started: no memory" in server.log(), 5, server.log)
        assert ask(server.port, INFER, body).status == 200
        until("it is replaced", lambda: len(server.workers()) == 2, 5, server.log)
        assert other in server.workers()
        until("both answer", lambda: server.metric("kaizen_server_workers") == 2, 5)
        assert ask(server.port, INFER, body).status == 200


def test_workers_that_never_start_end_the_server(made: MadeModel) -> None:
    broken = """
import kaizen.serving.processes.worker as worker
async def begin(*_, **__):
    raise OSError("no")
worker._Worker.begin = begin
"""
    with server_process(made.directory, **TWO, before=broken, ready=False) as server:
        assert server.process.wait(20) == 1
    assert "5 workers in a row ended before they answered anything" in server.log()
    assert "OSError: no" in server.log()


def test_workers_do_not_outlive_their_parent(made: MadeModel) -> None:
    with server_process(made.directory, **TWO) as server:
        workers = server.workers()
        server.process.kill()
        server.process.wait()
        until("all have ended", lambda: not any(map(alive, workers)), 5)


def alive(pid: int) -> bool:
    with suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@pytest.mark.parametrize("workers", [1, 2])
def test_an_end_under_load_loses_no_request(made: MadeModel, body: bytes, workers: int) -> None:
    """Clients go on beyond the end: kept connections, and a new one for each request."""
    with server_process(made.directory, workers=workers, drain_seconds=0.5) as server:
        load = Load(server.port, INFER, body, clients=8, pause_seconds=0.002)
        load.start()
        until("there is load", lambda: len(load.answers) > 200, 10)
        server.process.send_signal(signal.SIGTERM)
        until("it says that it is not ready", lambda: ask(server.port, READY).status == 503, 2)
        assert server.process.wait(10) == 0, server.log()
        load.stop()
    assert {answer.status for answer in load.answers} == {200}
    lost = [problem for problem in load.problems if "ConnectionRefusedError" not in problem]
    assert lost == [], "who could connect was answered"


def test_a_port_of_another_server_is_not_shared(two: ServerProcess, made: MadeModel) -> None:
    with pytest.raises(OSError, match=f"cannot listen on port {two.port} of 127.0.0.1: address already in use"):
        listening("127.0.0.1", two.port, 2)
    (port,) = free_ports(1)
    listeners = listening("127.0.0.1", port, 2)
    assert [len(sockets) for sockets in listeners] == [1, 1]
    for (one,) in listeners:
        one.close()
    with pytest.raises(OSError, match="cannot listen on no-such-host"):
        listening("no-such-host.invalid", port)


def test_a_signal_while_loading_ends_all(made: MadeModel) -> None:
    slow = (
        "import threading, kaizen.serving.processes.workers as workers\nworkers.load = lambda settings: threading.Event().wait()"
    )
    with server_process(made.directory, **TWO, before=slow, ready=False) as server:

        def status() -> int:
            try:
                return ask(server.port, READY).status
            except OSError:
                return 0

        until("it answers while loading", lambda: status() == 503, 10, server.log)
        with Client(server.metrics_port) as client:
            client.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.read().status == 200
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(5) == 0, server.log()


def test_a_board_shows_whole_publications_only() -> None:
    slot, other = Board(2, 3).slots
    metrics = Metrics()
    metrics.predicted(2, 0.5)
    assert (slot.beat, slot.read()[1].tolist()) == (0, [0, 0, 0])
    slot.publish(metrics.words(), np.array([1, 2, 3]))
    metrics.predicted(2, 0.5)
    slot.publish(metrics.words(), np.array([4, 5, 6]))
    words, window = slot.read()
    assert (slot.beat, len(words), window.tolist()) == (2, WORDS, [4, 5, 6])
    total = Metrics()
    total.add(words, living=True)
    assert (total.succeeded, total.rows, total.predict_seconds) == (2, 4, 1.0)
    assert other.beat == 0
    slot.clear()
    assert (slot.beat, slot.read()[1].tolist()) == (0, [0, 0, 0])


def test_connections_of_a_dead_worker_are_gone_and_its_answers_are_not() -> None:
    metrics, total = Metrics(connections=3, waiting=2), Metrics()
    metrics.answered(200)
    metrics.answered(599)
    total.add(metrics.words(), living=False)
    assert (total.connections, total.waiting, total.statuses) == (0, 0, {200: 1, 599: 1})
    total.add(metrics.words(), living=True)
    assert (total.connections, total.statuses) == (3, {200: 2, 599: 2})


@pytest.mark.parametrize("kind", ["tls", "token"])
def test_each_worker_counts_a_change_and_the_metric_says_so(kind: str) -> None:
    metrics, total = Metrics(tls_reloads=1, token_reloads=1), Metrics()
    for _ in range(2):
        total.add(metrics.words(), living=True)
    name = f"kaizen_server_{kind}_reloads_total"
    lines = [line for line in total.text().decode().splitlines() if name in line]
    assert lines[0].endswith("put to use, by each worker.")
    assert lines[-1] == f"{name} 2"


def test_what_a_worker_tells_is_heard_to_its_end() -> None:
    heard: list[tuple[str, str, Item]] = []
    said = [Item(f"k{number}", bytes(number) * 100_000, "text/plain", {"rows": number}, 1) for number in range(5)]

    async def talk() -> None:
        here, there = socket.socketpair()
        following = asyncio.ensure_future(follow(there, lambda *what: heard.append(what)))
        gone = asyncio.Event()
        voice = await speak(here, gone.set)
        for item in said:
            voice.tell("window", "waiting", item)
        await voice.end()
        await following
        await asyncio.wait_for(gone.wait(), 5)

    asyncio.run(talk())
    assert heard == [("window", "waiting", item) for item in said]
