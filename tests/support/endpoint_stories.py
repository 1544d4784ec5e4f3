"""What stories about a service's clients share: a model that many services have, and the clients, some that others wrote."""

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http

from tests.support import service_stories
from tests.support.certificates import client_context, made
from tests.support.cluster import Cluster, condition_of
from tests.support.service_stories import READY_SECONDS, TRAINING_SECONDS, Lake, fresh_model, job, service
from tests.support.wait import until

ROW = {"distance": 1500, "wind": 10.0, "carrier": "UA", "weekend": True}
FIRST, SECOND = "first", "second"
"""Names of certificates."""
ID = "flight"
"""Of all requests, so that all answers are the same."""
TYPES = {"distance": "INT64", "wind": "FP64", "carrier": "BYTES", "weekend": "BOOL"}
KINDS: dict[str, Any] = {"distance": np.int64, "wind": np.float64, "carrier": np.object_, "weekend": np.bool_}


def example(**more: Any) -> bytes:
    """A request for the row; `more` are further fields of it."""
    inputs = [{"name": name, "datatype": TYPES[name], "shape": [1], "data": [value]} for name, value in ROW.items()]
    return json.dumps({"id": ID, "inputs": inputs, **more}).encode()


@dataclass
class Place:
    """A namespace with a model that services can have."""

    cluster: Cluster
    namespace: str
    model: str
    lake: Lake
    directory: Path
    """For files of clients."""

    @property
    def infer(self) -> str:
        """The path of requests."""
        return f"/v2/models/{self.model}/infer"

    def apply(self, name: str, **spec: Any) -> None:
        """A service for the model."""
        self.cluster.apply(service(self.model, name, **spec), namespace=self.namespace)

    def wait_settled(self, name: str, seconds: float = READY_SECONDS) -> dict[str, Any]:
        """The service, once it answers with Pods of its present spec only."""

        def look() -> dict[str, Any] | None:
            body = self.cluster.get("inferenceservice", name, self.namespace)
            ready = condition_of(body, "Ready") if body else None
            if body is None or ready is None or ready["observedGeneration"] != body["metadata"]["generation"]:
                return None
            return body if ready["status"] == "True" and condition_of(body, "RollingOut") is None else None

        return until(f"{name} is settled", look, seconds, lambda: self.cluster.dump("inferenceservice", name, self.namespace))

    def wait_told(self, name: str, condition: str, status: str, reason: str) -> str:
        """The message of a condition."""
        body = self.cluster.wait_for("inferenceservice", name, self.namespace, condition, status, reason=reason, seconds=60)
        found = condition_of(body, condition)
        assert found is not None
        return str(found["message"])

    def ports(self, name: str) -> dict[str, int]:
        """Those of its Service."""
        body = self.cluster.get("service", name, self.namespace)
        assert body is not None
        return {port["name"]: port["port"] for port in body["spec"]["ports"]}

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Its Pods that are not going."""
        found = self.cluster.list("pod", self.namespace, f"mlops.kaizen.dev/service={name}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def wait_one_pod(self, name: str) -> dict[str, Any]:
        """Its Pod, once there is just one."""
        (pod,) = until(f"one Pod of {name}", lambda: found if len(found := self.pods(name)) == 1 else None, 60)
        return pod

    def metrics(self, pod: str) -> dict[str, float]:
        """Of a Pod: name with labels → value."""
        text = self.cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{self.namespace}/pods/{pod}:9091/proxy/metrics")
        rows = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    def secret(self, name: str, values: Mapping[str, str]) -> None:
        """Make or change a Secret: these are its values."""
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
        self.cluster.apply(body, namespace=self.namespace)

    def certificate(self, name: str, certificate: str) -> None:
        """Make or change a Secret for TLS: the certificate of this name."""
        self.secret(name, {file: content.decode() for file, content in made(certificate).items()})

    @contextmanager
    def https(self, name: str) -> Iterator[str]:
        """A URL of this machine that leads to a service."""
        with self.cluster.port_forward(f"service/{name}", 443, self.namespace) as url:
            yield url.replace("http:", "https:")

    @contextmanager
    def grpc(self, name: str) -> Iterator[str]:
        """An address of this machine that leads to a service's gRPC."""
        with self.cluster.port_forward(f"service/{name}", 8081, self.namespace) as url:
            yield url.removeprefix("http://")

    def by_grpc(self, address: str, token: str | None = None, trust: str | None = None) -> dict[str, list[Any]]:
        """The outputs for the row, by Triton's own client; raises InferenceServerException."""
        options: dict[str, Any] = {}
        if trust is not None:
            path = self.directory / "trusted.crt"
            path.write_bytes(made(trust)["tls.crt"])
            options = {"ssl": True, "root_certificates": str(path)}
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        client = tritonclient.grpc.InferenceServerClient(address, **options)
        try:
            result = client.infer(self.model, _inputs(tritonclient.grpc), request_id=ID, headers=headers, client_timeout=20)
            return {one.name: _plain(result.as_numpy(one.name)) for one in result.get_response().outputs}
        finally:
            client.close()

    def by_http(self, address: str, *, binary: bool) -> dict[str, list[Any]]:
        """The same over HTTP, with binary tensors or without."""
        client = tritonclient.http.InferenceServerClient(address)
        try:
            inputs = _inputs(tritonclient.http, binary_data=binary)
            result = client.infer(self.model, inputs, request_id=ID, request_compression_algorithm="gzip")
            return {one["name"]: _plain(result.as_numpy(one["name"])) for one in result.get_response()["outputs"]}
        finally:
            client.close()


@contextmanager
def place(cluster: Cluster, namespace: str, directory: Path) -> Iterator[Place]:
    """A namespace that enforces Pod Security "restricted", with a trained model; deleted afterwards."""
    cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--timeout=60s", seconds=65)
    cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    model, lake = fresh_model(), service_stories.lake(cluster, namespace, directory)
    cluster.apply(job("one", model, lake, calibration="None"), namespace=namespace)
    cluster.wait_for("trainingjob", "one", namespace, "Succeeded", "True", seconds=TRAINING_SECONDS)
    yield Place(cluster, namespace, model, lake, directory)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def asked(url: str, token: str | None = None, trust: str = FIRST) -> int:
    """The status of a request for the row, or of a GET where the path is of none."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    body = example() if url.endswith("/infer") else None
    context = client_context(made(trust)["tls.crt"])
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as problem:
        return problem.code


def distrusts(url: str, trust: str) -> bool:
    """Whether who trusts this certificate finds another one."""
    try:
        asked(url, trust=trust)
    except urllib.error.URLError as problem:
        return isinstance(problem.reason, ssl.SSLCertVerificationError)
    return False


def _inputs(module: Any, **options: Any) -> list[Any]:
    found = []
    for name, value in ROW.items():
        tensor = module.InferInput(name, [1], TYPES[name])
        tensor.set_data_from_numpy(np.array([value], KINDS[name]), **options)
        found.append(tensor)
    return found


def _plain(values: Any) -> list[Any]:
    return [one.decode() if isinstance(one, bytes) else one for one in values.ravel().tolist()]
