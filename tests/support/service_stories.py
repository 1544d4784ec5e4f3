"""What stories about a served model share: its data, its objects, and how they are watched."""

import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kaizen.api.base import API_VERSION
from kaizen.registry.store import Bucket
from tests.support import training
from tests.support.cluster import Cluster
from tests.support.objects import training_job

SERVICE = "flights"
TRAINING_SECONDS = 120
"""One small training on a busy machine; it takes 5 s on a quiet one."""
READY_SECONDS = 60
WEEK = 7 * 24


def fresh_model() -> str:
    """A name that no run of the tests has used: the registry keeps every version, also of namespaces that are gone."""
    return f"m-{uuid.uuid4().hex[:8]}"


def lake(cluster: Cluster, namespace: str, directory: Path) -> "Lake":
    """The namespace's own part of the embedded bucket, with twelve weeks of rows in it."""
    found = Lake(cluster.bucket(), namespace, directory)
    found.add("first", training.table(12 * WEEK))
    return found


class Lake:
    """Where training Pods find their rows."""

    def __init__(self, bucket: Bucket, namespace: str, directory: Path) -> None:
        self.bucket = bucket
        # Of this story alone: the bucket outlives namespaces, and the next run has one of the same name.
        self._prefix = f"workloads/{namespace}/lake-{uuid.uuid4().hex[:8]}/"
        self.uri = f"s3://kaizen/{self._prefix}"
        self._directory = directory

    def add(self, name: str, rows: pa.Table) -> None:
        """One more file."""
        path = training.write(rows, self._directory / f"{name}.parquet")
        self.bucket.put(f"{self._prefix}{name}.parquet", path.read_bytes())

    def objects(self) -> dict[str, bytes]:
        """All files by key."""
        return {entry.key: self.bucket.get(entry.key)[0] for entry in self.bucket.list(self._prefix)}


def windy(rows: pa.Table, by: float = 30.0) -> pa.Table:
    """The same rows in a storm: one feature is far from what was."""
    index = rows.schema.get_field_index("wind")
    return rows.set_column(index, "wind", pc.add(rows["wind"], by))


def job(name: str, model: str, lake: Lake, **changes: Any) -> dict[str, Any]:
    """A TrainingJob on the lake."""
    return {**training_job(name), "spec": training.document(lake.uri, model=model, **changes)}


def service(model: str, name: str = SERVICE, **spec: Any) -> dict[str, Any]:
    """An InferenceService whose weeks last ten seconds."""
    drift = {"spanSeconds": 10, "blockSeconds": 7 * 86_400, "minimumRows": 100}
    monitoring = {"windowSeconds": 5, "drift": drift}
    body = {"apiVersion": API_VERSION, "kind": "InferenceService", "metadata": {"name": name}}
    return {**body, "spec": {"model": model, "monitoring": monitoring, **spec}}


def retraining(lake: Lake, **changes: Any) -> dict[str, Any]:
    """spec.training on the lake."""
    template = training.document(lake.uri)
    del template["model"]
    gate = {"name": "no-worse", "metric": "log_loss", "againstProduction": {"worseByAtMost": 0.05}}
    return {"template": {**template, "gates": [gate]}, "minimumNewRows": 200, "cooldownSeconds": 0, **changes}


def serves(cluster: Cluster, namespace: str, version: int, name: str = SERVICE) -> dict[str, Any] | None:
    """The service, once this version answers and all is recorded."""
    body = cluster.get("inferenceservice", name, namespace)
    stable = (body or {}).get("status", {}).get("stable", {})
    return body if stable.get("version") == version and stable.get("readyReplicas", 0) >= 1 else None
