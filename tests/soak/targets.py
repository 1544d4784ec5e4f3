"""Servers for a soak: in this process, with everything switched on and nothing replaced, and what their right answers are."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from socket import socket
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kaizen.serving.engine import compile as engine_compile
from kaizen.serving.engine.base import Answer, Attributions, Engine, Prepared
from kaizen.serving.processes.loading import load
from kaizen.serving.processes.process import ENDING
from kaizen.serving.processes.server import Server
from kaizen.serving.settings import Capturing, Settings
from kaizen.serving.transport.http import Host
from kaizen.serving.watching.metrics import Metrics
from tests.soak.corpus import Sent, corpus
from tests.support import models
from tests.support.serving import connect

__all__ = [
    "AUTHORIZATION",
    "INFER",
    "TOKEN",
    "Right",
    "Target",
    "complete",
    "inputs_of",
    "numbers_model",
    "questions",
    "right",
    "table_of",
    "target",
]

TOKEN = "shop-token"
AUTHORIZATION = b"Authorization: Bearer " + TOKEN.encode()
INFER = f"/v2/models/{models.MODEL}/infer"
ROWS = (1, 1, 3, 32)


@dataclass(frozen=True)
class Right:
    """A request, whose own id makes its answer the same each time, and that answer's body."""

    sent: bytes
    """All of the request."""
    answer: bytes


@dataclass(frozen=True)
class Target:
    """A server in this process."""

    name: str
    host: Host
    good: list[Sent]
    right: tuple[Right, ...]


class _Joining:
    """The same engine, said to cost as much for many requests as for one: they are then joined, as scikit-learn's are."""

    joins = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def predict(self, columns: Prepared, rows: int) -> Answer:
        return self._engine.predict(columns, rows)

    def explain(self, columns: Prepared, rows: int) -> Attributions:
        return self._engine.explain(columns, rows)


def numbers_model(directory: Path) -> models.MadeModel:
    """A model all of whose inputs are numbers, so that tables are taken."""
    frame = models.flights()[["temp", "hour"]].astype(np.float64)
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, models.flights()["late"])
    directory.mkdir(parents=True)
    compiled = engine_compile.compile_pipeline(fitted, frame)
    assert isinstance(compiled, engine_compile.Compiled), compiled
    engine_compile.save(compiled, directory)
    models.seal(directory)
    return models.MadeModel(directory, fitted)


def complete(rows: int) -> pd.DataFrame:
    """Rows of the tests' model without missing values."""
    return models.flights(2 * rows, seed=11)[list(models.COLUMNS)].dropna().head(rows)


def inputs_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The inputs of a v2 request for these rows."""
    kinds = {"f": "FP64", "i": "INT64", "O": "BYTES"}
    return [
        {"name": name, "shape": [len(frame)], "datatype": kinds[column.dtype.kind], "data": column.tolist()}
        for name, column in frame.items()
    ]


def table_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Inputs that are one table; only models of numbers take it."""
    values = [value for row in frame.itertuples(index=False) for value in row]
    return [{"name": "table", "shape": list(frame.shape), "datatype": "FP64", "data": values}]


def questions(frame: pd.DataFrame, *headers: bytes, rows: Sequence[int] = ROWS) -> Iterator[tuple[pd.DataFrame, bytes]]:
    """Requests for so many of these rows each."""
    first = 0
    for number, count in enumerate(rows):
        part = frame.iloc[first : first + count]
        first += count
        body = json.dumps({"id": f"right-{number}", "inputs": inputs_of(part)}).encode()
        length = b"Content-Length: %d" % len(body)
        yield part, b"\r\n".join((f"POST {INFER} HTTP/1.1".encode(), b"Host: a", *headers, length, b"", body))


def right(made: models.MadeModel, part: pd.DataFrame, sent: bytes, answer: bytes) -> Right:
    """The answer's body, compared with scikit-learn's answer; fails when that is another."""
    outputs = {one["name"]: one["data"] for one in json.loads(answer)["outputs"]}
    labels, probabilities = made.expected(part)
    assert outputs["predict"] == labels
    assert probabilities is not None
    assert np.abs(np.array(outputs["predict_proba"]) - probabilities).max() <= 1e-12
    return Right(sent, answer)


@asynccontextmanager
async def target(name: str, made: models.MadeModel, directory: Path) -> AsyncIterator[Target]:
    """A server by what is special about it: "everything", "joins" or "numbers"."""
    everything = name != "numbers"
    tokens = directory / f"tokens-{name}"
    tokens.mkdir()
    (tokens / "shop").write_text(TOKEN)
    settings = Settings(
        str(made.directory),
        version=7,
        service="soak",
        namespace="soak",
        window_seconds=1,
        name=models.MODEL,
        tokens_directory=tokens if everything else None,
        cors_origins=("https://a.example",) if everything else (),
        capture=Capturing(0.2, hash=("flight",)) if everything else None,
        host="127.0.0.1",
    )
    loaded = replace(load(settings), write=(lambda key, body, kind: None) if everything else None)
    if name == "joins":
        engine: Any = _Joining(loaded.model.engine)
        loaded = replace(loaded, model=replace(loaded.model, engine=engine))
    server = Server(settings, Metrics())
    for number in ENDING:
        asyncio.get_running_loop().remove_signal_handler(number)  # they are this process's own
    listener = socket()
    listener.bind(("127.0.0.1", 0))
    await server.open([listener])
    await server.begin(loaded, "soak-0")
    keeping = asyncio.ensure_future(server.keep_house())
    host = server.ports[0].host
    headers = (AUTHORIZATION,) if everything else ()
    frame = complete(80) if everything else complete(80)[["temp", "hour"]].astype(np.float64)
    one = frame.head(1)
    good = corpus(inputs_of(one), one.astype(object).to_dict("records"), table_of(frame.head(3)), *headers)
    found = [right(made, part, sent, await _body(host, sent)) for part, sent in questions(frame, *headers, rows=ROWS[:3])]
    try:
        yield Target(name, host, good, tuple(found))
    finally:
        keeping.cancel()
        server.abort()


async def _body(host: Host, sent: bytes) -> bytes:
    connection, transport = connect(host)
    await asyncio.sleep(0)  # in a turn of its own: one that takes long refuses
    connection.data_received(sent)
    while not transport.written:
        await asyncio.sleep(0)
    connection.connection_lost(None)
    head, _, body = bytes(transport.written).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), transport.written
    return body
