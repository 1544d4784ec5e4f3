"""What tests of the training share: small tables with something to learn, jobs on them, and a bucket in memory."""

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kaizen.api.training_job import TrainingJobSpec
from kaizen.registry.errors import Conflict, Missing
from kaizen.registry.settings import BucketSettings
from kaizen.registry.store import Bucket, Entry
from kaizen.training.spec import read_spec

START = 1_356_998_400
"""2013-01-01T00:00:00Z."""
HOUR = 3600
T = TypeVar("T")


def table(rows: int = 400, *, seed: int = 0, start: int = START, shift: float = 0.0) -> pa.Table:
    """Hourly rows with every kind of column, gaps in them, a class and a number to predict; `shift` moves both."""
    random = np.random.default_rng(seed)
    distance, wind = random.integers(100, 3000, rows), random.normal(10, 4, rows)
    carrier = random.choice(["AA", "B6", "UA"], rows)
    weekend = random.random(rows) < 0.3
    score = (distance - 1500) / 800 + (wind - 10) / 4 + (carrier == "UA") + shift + random.normal(0, 0.7, rows)
    times = pa.array((start + HOUR * np.arange(rows)) * 1_000_000, pa.timestamp("us", tz="UTC"))
    return pa.table(
        {
            "time": times,
            "flight": pa.array(np.arange(rows) + 1000),
            "distance": pa.array(distance),
            "wind": pa.array(wind, mask=random.random(rows) < 0.1),
            "carrier": pa.array(carrier, mask=random.random(rows) < 0.05),
            "weekend": pa.array(weekend),
            "late": pa.array(score > 0.5),
            "delay": pa.array(score * 10),
        }
    )


def write(data: pa.Table, path: Path) -> Path:
    """As a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(data, path)
    return path


def document(uri: object, **changes: Any) -> dict[str, Any]:
    """A spec; `changes` replace its fields, those of `data` one by one."""
    data = {
        "sources": [{"name": "rows", "uri": str(uri)}],
        "target": "late",
        "timestamp": "time",
        "keys": ["flight"],
        "features": {"exclude": ["delay"]},
        "minimumRows": 50,
        **changes.pop("data", {}),
    }
    if data["timestamp"] is None:
        del data["timestamp"]
    estimator = {"name": "HistGradientBoostingClassifier", "parameters": {"max_iter": 20}}
    return {"model": "flight-delay", "task": "Classification", "data": data, "estimator": estimator, **changes}


def spec(uri: object, **changes: Any) -> TrainingJobSpec:
    """The same, read."""
    return read_spec(document(uri, **changes), local=True)


class MemoryBucket:
    """What the training uses of a Bucket, in a dictionary, in the order of the writes."""

    def __init__(self, objects: Mapping[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})
        self.written: list[str] = []
        self.settings = BucketSettings(None, "memory")

    def as_bucket(self) -> Bucket:
        """For whoever wants the real one's type."""
        return cast(Bucket, self)

    def get(self, key: str) -> tuple[bytes, str]:
        """The content and its etag."""
        if key not in self.objects:
            raise Missing(f"there is no {key} in bucket memory")
        return self.objects[key], _etag(self.objects[key])

    def read(self, key: str) -> tuple[dict[str, Any], str]:
        """A JSON document."""
        body, etag = self.get(key)
        return json.loads(body), etag

    def put(self, key: str, body: bytes, content_type: str = "") -> str:
        """Write whatever is there."""
        self.objects[key] = body
        self.written.append(key)
        return self.get(key)[1]

    def create(self, key: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Write where nothing is."""
        if key in self.objects:
            raise Conflict(f"{key} was written by somebody else", None, "")
        self.put(key, json.dumps(document).encode())
        return dict(document)

    def call(self, action: Callable[[Any], T], what: str) -> T:
        """With what registry.files uses of boto3's client."""
        return action(_Client(self))

    def delete(self, key: str) -> None:
        """Whether it is there or not."""
        self.objects.pop(key, None)

    def list(self, prefix: str, after: str = "", most: int | None = None) -> tuple[Entry, ...]:
        """By key."""
        now = datetime.now(UTC)
        found = sorted(key for key in self.objects if key.startswith(prefix) and key > after)[:most]
        return tuple(Entry(key, len(self.objects[key]), _etag(self.objects[key]), now) for key in found)


class _Client:
    def __init__(self, bucket: MemoryBucket) -> None:
        self._bucket = bucket

    def upload_file(self, path: str, name: str, key: str, **options: Any) -> None:
        self._bucket.put(key, Path(path).read_bytes())

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 -- boto3's names
        self._bucket.get(Key)
        return {}

    def download_file(self, name: str, key: str, path: str, **options: Any) -> None:
        Path(path).write_bytes(self._bucket.get(key)[0])


def _etag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class Silent:
    """Progress that only remembers the steps and figures."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.figures: list[str] = []

    def step(self, name: str, message: str = "") -> None:
        """Remember it."""
        self.steps.append(name)

    def metric(self, name: str, value: float, dataset: str) -> None:
        """Remember it."""
        self.figures.append(f"{dataset}/{name}")

    def data(self, summary: Mapping[str, Any]) -> None:
        """Nothing."""

    def search(self, progress: object) -> None:
        """Nothing."""
