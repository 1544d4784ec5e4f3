"""Requests to a service in the cluster as an application sends them, and the rows they are made of."""

import itertools
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from tests.support.cluster import Cluster

ROWS_A_REQUEST = 24
"""A day of the hourly table."""


def request(rows: pa.Table, inputs: list[dict[str, Any]]) -> bytes:
    """The body of an infer request for these rows, with the inputs that the model says it has."""
    columns = [
        {"name": one["name"], "datatype": one["datatype"], "shape": [rows.num_rows], "data": rows[one["name"]].to_pylist()}
        for one in inputs
    ]
    return json.dumps({"inputs": columns}).encode()


def ask(url: str, body: bytes | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """An answer's document and headers; raises urllib.error.HTTPError for another status than 200."""
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=20) as answer:
        return json.load(answer), dict(answer.headers)


@contextmanager
def flowing(cluster: Cluster, namespace: str, service: str, model: str, rows: pa.Table, a_second: float = 100) -> Iterator[None]:
    """Send the rows to a service, over and over, while the block runs; a broken forward is made again."""
    stop = threading.Event()

    def send() -> None:
        starts = itertools.cycle(range(0, rows.num_rows - ROWS_A_REQUEST + 1, ROWS_A_REQUEST))
        while not stop.is_set():
            try:
                with cluster.port_forward(f"service/{service}", 80, namespace) as url:
                    inputs = ask(f"{url}/v2/models/{model}")[0]["inputs"]
                    while not stop.wait(ROWS_A_REQUEST / a_second):
                        ask(f"{url}/v2/models/{model}/infer", request(rows.slice(next(starts), ROWS_A_REQUEST), inputs))
            except (OSError, AssertionError, ValueError):
                stop.wait(0.5)  # the Pod behind the forward went away

    thread = threading.Thread(target=send, name="traffic", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
