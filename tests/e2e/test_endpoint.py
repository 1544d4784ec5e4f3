"""What clients may do with an InferenceService: many workers, tokens, TLS, gRPC, other people's clients, feedback."""

import gzip
import json
import math
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from typing import Any

import pytest
import tritonclient.grpc

from tests.support import client_pod, endpoint_stories, rawhttp
from tests.support.cluster import Cluster
from tests.support.endpoint_stories import FIRST, ROW, SECOND, Place, asked, distrusts, example
from tests.support.wait import pause, until

SYNC_SECONDS = 150
"""Until a changed Secret is in a Pod: the kubelet looks about once a minute."""
MOUNT_SECONDS = 180
"""Until a Pod whose Secret was missing begins: the kubelet tries again with growing delay."""
KILL_A_WORKER = """
import os, signal
from pathlib import Path
parents = {}
for found in Path("/proc").glob("[0-9]*/stat"):
    number, rest = found.read_text().split(" ", 1)
    parents[int(number)] = int(rest.rsplit(")", 1)[1].split()[1])
os.kill(min(number for number, parent in parents.items() if parent == 1), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def place(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One model for all stories; each has a service of its own."""
    with endpoint_stories.place(cluster, "test-endpoint", tmp_path_factory.mktemp("endpoint")) as found:
        yield found


def test_changed_spec_loses_no_request_and_a_dead_worker_is_replaced(place: Place) -> None:
    place.apply("busy")
    place.wait_settled("busy")
    with client_pod.load(place.cluster, place.namespace, "busy", place.infer, example()) as report:
        place.apply("busy", workers=2, endpoint={"waitingAtMost": 512, "corsOrigins": ["*"]})
        place.wait_settled("busy", 120)
        pod = place.wait_one_pod("busy")
    assert report.problems == []
    assert set(report.answers) == {"200 1 1"}
    assert report.total > 50
    assert pod["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "200m", "memory": "256Mi"}

    name = pod["metadata"]["name"]
    before = place.metrics(name)
    assert before["kaizen_server_workers"] == 2
    with client_pod.load(place.cluster, place.namespace, "busy", place.infer, example()) as report:
        place.cluster.kubectl("exec", name, "--namespace", place.namespace, "--", "python", "-c", KILL_A_WORKER)
        until("the worker is replaced", lambda: place.metrics(name)["kaizen_server_worker_restarts_total"] == 1, 30)
        until("two answer", lambda: place.metrics(name)["kaizen_server_workers"] == 2, 30)
    # A killed process takes its connections along, also one that it had not yet accepted; nobody else notices.
    assert len([problem for problem in report.problems if problem.startswith("new")]) <= 4
    assert len(report.problems) <= 8
    assert set(report.answers) == {"200 1 1"}
    # What a dead worker had counted stays, up to its last fifth of a second.
    counted = report.total - 20
    until("what was answered is counted", lambda: answered(place.metrics(name)) - answered(before) >= counted, 5)
    same = place.wait_one_pod("busy")
    assert (same["metadata"]["uid"], restarts(same)) == (pod["metadata"]["uid"], 0)


def answered(metrics: Mapping[str, float]) -> float:
    return sum(value for name, value in metrics.items() if name.startswith("model_infer_request_success_total"))


def restarts(pod: Mapping[str, Any]) -> int:
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def test_only_with_a_token_over_tls_and_both_are_renewed_without_a_restart(place: Place) -> None:
    secrets = {"authentication": {"secretName": "api-keys"}, "tls": {"secretName": "certificate"}}
    place.apply("guarded", **secrets, endpoint={"grpc": True})
    message = place.wait_told("guarded", "Ready", "Unknown", "SecretMissing")
    assert " does not exist: create it, and the Pods start." in message
    place.secret("api-keys", {"alice": "first-token", "bob": "second-token"})
    place.certificate("certificate", FIRST)
    body = place.wait_settled("guarded", MOUNT_SECONDS)
    assert body["status"]["url"] == f"https://guarded.{place.namespace}.svc"
    assert place.ports("guarded") == {"https": 443, "grpcs": 8081}
    pod = place.wait_one_pod("guarded")
    with place.https("guarded") as url:
        assert asked(f"{url}/v2/health/ready") == 200
        assert [asked(url + place.infer, token) for token in (None, "wrong", "first-token", "second-token")] == [
            401,
            401,
            200,
            200,
        ]
        assert asked(f"{url}/v2/models/{place.model}") == 401
        assert distrusts(f"{url}/v2/health/ready", SECOND)
    with place.https("guarded") as url, pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(url.replace("https:", "http:") + "/v2/health/ready", timeout=20)
    with place.grpc("guarded") as address:
        assert place.by_grpc(address, "first-token", FIRST) == place.by_grpc(address, "second-token", FIRST)
        for wrong in (None, "wrong"):
            with pytest.raises(tritonclient.grpc.InferenceServerException, match="UNAUTHENTICATED"):
                place.by_grpc(address, wrong, FIRST)

    place.secret("api-keys", {"alice": "third-token"})
    place.certificate("certificate", SECOND)

    def found(ask: Callable[[str], bool]) -> bool:
        """Through a forwarded port of its own: one does not outlive every connection that is broken off."""
        try:
            with place.https("guarded") as url:
                return ask(url)
        except (OSError, HTTPException, AssertionError):
            return False  # the forward did not begin, or broke

    until("the new certificate is used", lambda: found(lambda url: distrusts(f"{url}/v2/health/ready", FIRST)), SYNC_SECONDS)
    until(
        "the new token is known", lambda: found(lambda url: asked(url + place.infer, "third-token", SECOND) == 200), SYNC_SECONDS
    )
    until("the old ones are not", lambda: found(lambda url: asked(url + place.infer, "first-token", SECOND) == 401), SYNC_SECONDS)
    until("gRPC has both", lambda: answers_by_grpc(place), 60)
    same = place.wait_one_pod("guarded")
    assert (same["metadata"]["uid"], restarts(same)) == (pod["metadata"]["uid"], 0)


def answers_by_grpc(place: Place) -> bool:
    try:
        with place.grpc("guarded") as address:
            return bool(place.by_grpc(address, "third-token", SECOND))
    except (tritonclient.grpc.InferenceServerException, AssertionError):
        return False


def test_service_goes_over_to_tls_and_answers_in_plain_until_its_secret_is_there(place: Place) -> None:
    place.apply("moving")
    place.wait_settled("moving")
    place.apply("moving", tls={"secretName": "later"})
    message = place.wait_told("moving", "RollingOut", "True", "SecretMissing")
    assert message == ("Version 1 gets Pods of the present spec: The Secret later does not exist: create it, and the Pods start.")
    assert place.ports("moving") == {"http": 80, "https": 443}
    assert place.wait_told("moving", "Ready", "True", "Serving") == "Version 1 answers."
    with client_pod.load(place.cluster, place.namespace, "moving", place.infer, example()) as report:
        pause(3)
    assert report.problems == []
    assert set(report.answers) == {"200 1 1"}
    place.certificate("later", FIRST)
    place.wait_settled("moving", MOUNT_SECONDS)
    place.wait_one_pod("moving")
    until("nothing is said in plain", lambda: place.ports("moving") == {"https": 443}, 30)
    with place.https("moving") as url:
        assert asked(url + place.infer) == 200


def test_clients_of_others_feedback_and_limits(place: Place) -> None:
    place.apply("open", endpoint={"grpc": True, "corsOrigins": ["https://app.example.com"], "bodyBytesAtMost": 4096})
    body = place.wait_settled("open")
    assert body["status"]["stable"]["engine"] == {"name": "compiled"}
    version = place.cluster.get("modelversion", f"{place.model}-v1", place.namespace)
    assert version is not None
    assert version["status"]["engine"] == {"name": "compiled"}
    with place.cluster.port_forward("service/open", 80, place.namespace) as url:
        answer = json.loads(posted(url + place.infer, example()))
        plain = {output["name"]: output["data"] for output in answer["outputs"]}
        address = url.removeprefix("http://")
        assert place.by_http(address, binary=True) == place.by_http(address, binary=False) == plain
        with place.grpc("open") as grpc:
            assert place.by_grpc(grpc) == plain
        port = int(url.rpartition(":")[2])
        assert rawhttp.ask(port, place.infer, b" " * 5000).status == 413
        assert preflight(port, place.infer, "https://app.example.com") == "https://app.example.com"
        assert preflight(port, place.infer, "https://other.example.com") is None
        row = plain["id"][0]
        labels = {"labels": [{"id": row, "label": True}]}

        def stored() -> list[bool]:
            return [label["label"] for label in stored_labels(place, "open") if label["id"] == row]

        before = stored()  # earlier runs of this story have left theirs
        assert json.loads(posted(f"{url}/v2/models/{place.model}/feedback", json.dumps(labels).encode(), 202))["accepted"] == 1
        until("the label is in the bucket", lambda: stored() == [*before, True], 30)


def test_explanation_names_what_each_input_contributed(place: Place) -> None:
    place.apply("plain")
    place.wait_settled("plain")
    with place.cluster.port_forward("service/plain", 80, place.namespace) as url:
        answer = json.loads(posted(url + place.infer, example(parameters={"explain": True})))
    outputs = {output["name"]: output for output in answer["outputs"]}
    found = outputs["attributions"]
    assert found["shape"] == [1, len(ROW)]
    assert set(json.loads(found["parameters"]["inputs"])) == set(ROW)
    (base,) = json.loads(found["parameters"]["base_values"])
    late = outputs["predict_proba"]["data"][1]
    assert base + sum(found["data"]) == pytest.approx(math.log(late / (1 - late)), abs=1e-6)


def posted(url: str, body: bytes, status: int = 200) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=20) as answer:
        assert answer.status == status
        return bytes(answer.read())


def preflight(port: int, path: str, origin: str) -> str | None:
    """Which origin a browser would be told that it may ask for."""
    with rawhttp.Client(port) as client:
        lines = (f"OPTIONS {path} HTTP/1.1", "Host: test", f"Origin: {origin}", "Access-Control-Request-Method: POST", "", "")
        client.send("\r\n".join(lines).encode())
        return client.read().headers.get("access-control-allow-origin")


def stored_labels(place: Place, service: str) -> list[dict[str, Any]]:
    prefix = f"workloads/{place.namespace}/labels/{service}/"
    found = [place.lake.bucket.get(entry.key)[0] for entry in place.lake.bucket.list(prefix)]
    return [json.loads(line) for body in found for line in gzip.decompress(body).splitlines()]
