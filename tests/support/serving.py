"""A server without sockets: an engine of literals, and a connection that is fed bytes and keeps what it answers."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from kaizen.serving.engine.base import Answer, Attributions, Column, Input, Label, Prepared, Refused, Task, as_columns, prepare
from kaizen.serving.transport.http import Connection, Host

__all__ = ["INPUTS", "FakeEngine", "FakeTransport", "answers", "connect"]

INPUTS = (
    Input("carrier", "BYTES", True),
    Input("distance", "FP64", True),
    Input("hour", "INT64", False),
    Input("weekend", "BOOL", False),
)


class FakeEngine:
    """Answers the hour: late from 12 on, with the probability hour / 24."""

    inputs: tuple[Input, ...] = INPUTS
    classes: tuple[Label, ...] | None = ("early", "late")
    task: Task = "Classification"
    threshold: float | None = None
    keys: tuple[str, ...] = ("flight",)
    timestamp: str | None = "time"
    joins: bool = False

    def columns(self, data: Mapping[str, Sequence[Any] | NDArray[Any]]) -> list[Column]:
        return prepare(self.inputs, data)

    def predict(self, columns: Prepared, rows: int) -> Answer:
        hours = [float(hour) for hour in as_columns(columns)[2]]
        assert len(hours) == rows
        scores = [score for hour in hours for score in (1 - hour / 24, hour / 24)]
        return Answer(["late" if hour >= 12 else "early" for hour in hours], scores, 2)

    def explain(self, columns: Prepared, rows: int) -> Attributions:
        raise Refused("no explanations")


class FakeTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host
        self._written = bytearray()
        self.ended = self.aborted = self.paused = False
        self.unsent = 0

    @property
    def written(self) -> bytearray:
        """All of it, and what the host sends at the end of this turn."""
        self._host.send()
        return self._written

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "written after the end"
        self._written += data

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def abort(self) -> None:
        self.aborted = True


def connect(host: Host) -> tuple[Connection, FakeTransport]:
    """A new client; call inside a running loop."""
    connection, transport = host.connection(), FakeTransport(host)
    connection.connection_made(transport)
    return connection, transport


def answers(written: bytes | bytearray, heads: Sequence[int] = ()) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, headers by lower-case name and body of each answer; `heads` are the places of answers without bodies."""
    found: list[tuple[int, dict[str, str], bytes]] = []
    rest = bytes(written)
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = 0 if len(found) in heads else int(headers.get("content-length", 0))
        assert len(rest) >= length, "an answer was cut off"
        found.append((int(lines[0].split(" ")[1]), headers, rest[:length]))
        rest = rest[length:]
    return found
