"""Requests to a service in the cluster as an application sends them, and the rows they are made of."""

import itertools
import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

import pyarrow as pa

from kaizen.core.endpoint import SERVING_PORT
from tests.support.cluster import Cluster, Object, Rejected, condition_of

ROWS_A_REQUEST = 24
"""A day of the hourly table."""
FLOWING_SECONDS = 5
"""After which a forwarded port is given up that lets nothing through any more."""


def request(rows: pa.Table, inputs: list[dict[str, Any]]) -> bytes:
    """The body of an infer request for these rows, with the inputs that the model says it has."""
    columns = [
        {"name": one["name"], "datatype": one["datatype"], "shape": [rows.num_rows], "data": rows[one["name"]].to_pylist()}
        for one in inputs
    ]
    return json.dumps({"inputs": columns}).encode()


def ask(url: str, body: bytes | None = None, seconds: float = 20) -> tuple[dict[str, Any], dict[str, str]]:
    """An answer's document and headers; raises urllib.error.HTTPError for another status than 200."""
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=seconds) as answer:
        return json.load(answer), dict(answer.headers)


@dataclass(frozen=True)
class Sent:
    """A request that was sent to a Pod."""

    pod: str
    """Its uid."""
    version: int | None
    """Of the model that answered with 200; None when no such answer came back, whatever the server did."""
    rows: int
    at: float
    """When the answer was read, in seconds since 1970."""


@contextmanager
def flowing(
    cluster: Cluster, namespace: str, service: str, model: str, rows: pa.Table, a_second: float = 100
) -> Iterator[Sequence[Sent]]:
    """Send the rows to a service, over and over, while the block runs; gives what was sent so far, in its order.

    A client keeps to the Pod that it found behind the Service until that no longer answers.
    """
    stop = threading.Event()
    sent: list[Sent] = []

    def send() -> None:
        starts = itertools.cycle(range(0, rows.num_rows - ROWS_A_REQUEST + 1, ROWS_A_REQUEST))
        while not stop.is_set():
            try:
                pod = _pod_behind(cluster, namespace, service)["metadata"]
                with cluster.port_forward(f"pod/{pod['name']}", SERVING_PORT, namespace) as url:
                    inputs = ask(f"{url}/v2/models/{model}", seconds=FLOWING_SECONDS)[0]["inputs"]
                    while not stop.wait(ROWS_A_REQUEST / a_second):
                        body = request(rows.slice(next(starts), ROWS_A_REQUEST), inputs)
                        version = None
                        try:
                            version = int(ask(f"{url}/v2/models/{model}/infer", body, FLOWING_SECONDS)[1]["X-Model-Version"])
                        finally:
                            sent.append(Sent(pod["uid"], version, ROWS_A_REQUEST, time.time()))
            except (OSError, AssertionError, ValueError, HTTPException, Rejected, subprocess.TimeoutExpired):
                stop.wait(0.5)  # the Pod behind the forward went away

    thread = threading.Thread(target=send, name="traffic", daemon=True)
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join(30)


def _pod_behind(cluster: Cluster, namespace: str, service: str) -> Object:
    """A Pod that the Service sends requests to."""
    body = cluster.get("service", service, namespace)
    assert body is not None
    selector = ",".join(f"{name}={value}" for name, value in body["spec"]["selector"].items())
    for pod in cluster.list("pod", namespace, selector):
        ready = condition_of(pod, "Ready")
        if ready and ready["status"] == "True" and "deletionTimestamp" not in pod["metadata"]:
            return pod
    raise AssertionError(f"no Pod is ready behind Service {service}")
