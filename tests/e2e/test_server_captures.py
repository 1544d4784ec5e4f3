"""The loop from an answer to a table to learn from: a real server, the real S3 server, labels, and the reader of a training.

Needs no cluster.
"""

import asyncio
import gzip
import json
import os
import signal
import threading
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kaizen.api.training_data import Captures, DataSource
from kaizen.control.retention import Retention
from kaizen.registry import errors, layout
from kaizen.registry.store import Bucket
from kaizen.serving.watching.pseudonyms import Pseudonyms
from kaizen.training.access import Access
from kaizen.training.data.captures import captured
from tests.e2e.local_s3 import OPERATOR, TENANT, LocalS3, running_s3  # noqa: F401 -- the fixture local_s3
from tests.e2e.test_server_process import (  # noqa: F401 -- the fixtures models and pod
    BUCKET,
    INFER,
    PREFIX,
    made_models,
    pod_environment,
    started,
)
from tests.support.models import COLUMNS, DATATYPES, flights
from tests.support.rawhttp import Client, ask
from tests.support.wait import until

FEEDBACK = "/v2/models/flight-delay/feedback"
SHARE = {"KAIZEN_CAPTURE_SHARE": "1", "KAIZEN_DRAIN_SECONDS": "0"}


def request(number: int, rows: int, **more: list[Any]) -> tuple[bytes, list[dict[str, Any]]]:
    """A request with keys, and its rows."""
    frame = flights(rows, seed=number)
    columns = {name: [None if value != value else value for value in frame[name].tolist()] for name in COLUMNS}
    columns["flight"] = [number * 100 + row for row in range(rows)]
    kinds = DATATYPES | {"flight": "INT64"}
    inputs = [{"name": name, "shape": [rows], "datatype": kinds[name], "data": data} for name, data in columns.items()]
    body = json.dumps({"id": f"r{number}", "inputs": inputs, **more}).encode()
    return body, [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def table(pod: Mapping[str, str], service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a training Pod of the namespace makes of it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, pod[name])
    source = DataSource(name="seen", captures=Captures(inference_service_name=service))
    found = captured(source, Access.from_environment(pod), tmp_path)
    rows: list[dict[str, Any]] = pq.read_table(found.path).to_pylist()
    return rows


@pytest.mark.parametrize("workers", [1, 2])
def test_answers_and_labels_become_a_labelled_table(
    pod: dict[str, str], local_s3: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    service = f"seen-{workers}"
    told = {"KAIZEN_SERVICE": service, "KAIZEN_WORKERS": str(workers), "KAIZEN_CAPTURE_HASH": '["flight"]'}
    told["KAIZEN_CAPTURE_EXCLUDE"] = '["temp"]'
    expected: dict[str, dict[str, Any]] = {}
    with started(environment=pod | SHARE | told) as server:
        for number in range(20):
            body, rows = request(number, 5)
            answer = ask(server.port, INFER, body)
            assert answer.status == 200
            outputs = {one["name"]: one["data"] for one in json.loads(answer.body)["outputs"]}
            for id, row, prediction in zip(outputs["id"], rows, outputs["predict"], strict=True):
                expected[id] = row | {"prediction": prediction, "label": bool(row["flight"] % 2)}
            if number == 9:
                until("a file is written", lambda: server.metric("kaizen_server_capture_files_written_total"), 20)
        by_id = [{"id": id, "label": row["label"]} for id, row in list(expected.items())[:50]]
        by_keys = [{"keys": {"flight": row["flight"]}, "label": row["label"]} for row in list(expected.values())[50:]]
        assert ask(server.port, FEEDBACK, json.dumps({"labels": [*by_id, *by_keys]}).encode()).status == 202
        until("all are captured", lambda: server.metric("kaizen_server_captured_rows_total") == 100, 10)
        assert server.metric("kaizen_server_capture_dropped_rows_total") == 0
        assert server.end(signal.SIGTERM) == 0, server.log()
    found = table(pod, service, tmp_path, monkeypatch)
    pseudonyms = Pseudonyms("flights", service, ("flight",))
    assert {row["prediction_id"]: row for row in found}.keys() == expected.keys()
    for row in found:
        wanted = expected[row["prediction_id"]]
        assert {name: row[name] for name in ("carrier", "distance", "hour", "prediction", "label")} == {
            name: wanted[name] for name in ("carrier", "distance", "hour", "prediction", "label")
        }
        assert (row["flight"], row["prediction_version"]) == (pseudonyms.of("flight", wanted["flight"]), 7)
        assert "temp" not in row
    bucket = Bucket(local_s3.settings(TENANT, BUCKET, PREFIX))
    keys = [entry.key for entry in bucket.list(layout.captures("flights", service))]
    assert len(keys) >= 2
    assert {date.fromisoformat(key.split("/")[4]) for key in keys} <= {
        datetime.now(UTC).date() - timedelta(days=n) for n in (0, 1)
    }
    assert all(key.split("/")[5].startswith("pod-") for key in keys)
    assert len({key.rpartition("/")[2] for key in keys}) == len(keys)


def test_a_killed_workers_files_are_written_and_the_others_rows_go_on(pod: dict[str, str], local_s3: LocalS3) -> None:
    told = {"KAIZEN_SERVICE": "seen-killed", "KAIZEN_WORKERS": "2"}
    with started(environment=pod | SHARE | told) as server:
        for number in range(10):
            assert ask(server.port, INFER, request(number, 5)[0]).status == 200
        until("the files are written", lambda: rows_of(local_s3, "seen-killed") == 50, 20)
        pid = server.process.pid
        for victim in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(victim), signal.SIGKILL)
        until("they are replaced", lambda: server.metric("kaizen_server_workers") == 2, 20)
        for number in range(10, 20):
            assert ask(server.port, INFER, request(number, 5)[0]).status == 200
        assert server.end(signal.SIGTERM) == 0, server.log()
    assert rows_of(local_s3, "seen-killed") == 100


def test_files_are_written_while_requests_never_stop(pod: dict[str, str], local_s3: LocalS3) -> None:
    """Every turn of the server's event loop brings requests, of clients that send the next ones before they read."""
    body = request(1, 1)[0]
    batch = 16 * (f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    written = threading.Event()
    statuses: set[int] = set()

    def ask_on(port: int) -> None:
        with Client(port) as client:
            client.send(batch)
            while not written.is_set():
                client.send(batch)
                statuses.update(client.read().status for _ in range(16))

    with started(environment=pod | SHARE | {"KAIZEN_SERVICE": "seen-always"}) as server:
        clients = [threading.Thread(target=ask_on, args=(server.port,)) for _ in range(8)]
        for client in clients:
            client.start()
        try:
            until("windows are written", lambda: len(server.observations()["written"]) >= 2, 60)
            until("files are written", lambda: server.metric("kaizen_server_capture_files_written_total") >= 2, 60)
        finally:
            written.set()
            for client in clients:
                client.join()
        assert server.end(signal.SIGTERM) == 0, server.log()
    assert statuses in ({200}, {200, 503})  # more may come than a slow machine can answer


def rows_of(local_s3: LocalS3, service: str) -> int:
    bucket = Bucket(local_s3.settings(TENANT, BUCKET, PREFIX))
    entries = bucket.list(layout.captures("flights", service))
    return sum(len(gzip.decompress(bucket.get(entry.key)[0]).splitlines()) for entry in entries)


def test_only_the_operator_deletes_and_only_what_is_over(pod: dict[str, str], local_s3: LocalS3) -> None:
    tenant, owner = (Bucket(local_s3.settings(account, BUCKET, PREFIX)) for account in (TENANT, OPERATOR))
    place = layout.captures("flights", "old")
    for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
        for number in range(3):
            tenant.put(f"{place}{day}/pod-{number}.jsonl.gz", b"")
    assert [entry.key for entry in owner.list(place, most=2)] == [f"{place}2026-01-01/pod-{number}.jsonl.gz" for number in (0, 1)]
    with pytest.raises(errors.Refused):
        tenant.delete(f"{place}2026-01-01/pod-0.jsonl.gz")

    class Keeper:
        def bucket(self) -> Bucket:
            return owner

        async def in_thread(self, work: Any) -> Any:
            return await asyncio.to_thread(work)

    spec = {"model": "m", "capture": {"retentionSeconds": 86_400}}
    service = {"kind": "InferenceService", "metadata": {"namespace": "flights", "name": "old"}, "spec": spec}
    asyncio.run(Retention(Keeper(), lambda: [service]).round(datetime(2026, 1, 3, 23, tzinfo=UTC)))
    assert sorted({entry.key.split("/")[4] for entry in owner.list(place)}) == ["2026-01-02", "2026-01-03"]
    owner.delete(f"{place}2026-01-01/pod-0.jsonl.gz")


@pytest.mark.parametrize("told", [{}, {"KAIZEN_CAPTURE_SHARE": "0"}], ids=["nobody asked", "no more"])
def test_nothing_is_captured_where(pod: dict[str, str], local_s3: LocalS3, told: dict[str, str]) -> None:
    with started(environment=pod | told | {"KAIZEN_SERVICE": "unseen", "KAIZEN_DRAIN_SECONDS": "0"}) as server:
        assert ask(server.port, INFER, request(1, 5)[0]).status == 200
        assert server.end(signal.SIGTERM) == 0
    assert rows_of(local_s3, "unseen") == 0
