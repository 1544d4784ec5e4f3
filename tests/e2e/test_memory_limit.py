"""Half a million rows in a Pod of 1 GiB."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.support import service_stories, training, training_stories
from tests.support.cluster import Cluster
from tests.support.service_stories import Lake, fresh_model

ROWS = 500_000
GIB = 2**30


@pytest.fixture
def lake(cluster: Cluster, namespace: str, tmp_path: Path) -> Lake:
    """A table of eleven columns, 28 MB as Parquet."""
    random = np.random.default_rng(3)
    rows = training.table(ROWS).drop_columns(["delay"])
    for number in range(4):
        rows = rows.append_column(f"sensor_{number}", pa.array(random.normal(size=ROWS)))
    found = Lake(cluster.bucket(), namespace, tmp_path)
    found.add("large", rows)
    return found


def test_large_table_fits_into_a_small_pod(cluster: Cluster, namespace: str, lake: Lake) -> None:
    changes = {"data": {"features": {}}, "pod": {"resources": {"limits": {"memory": "1Gi"}}}, "backoffLimit": 0}
    cluster.apply(service_stories.job("large", fresh_model(), lake, **changes), namespace=namespace)
    body = training_stories.ended_as(cluster, namespace, "large", "Registered")
    assert body["status"]["data"]["rows"] == ROWS
    document = training_stories.outcome(lake.bucket, namespace, body)
    assert document["environment"]["memoryLimitBytes"] == GIB
    peak = document["peakMemoryBytes"]
    print(f"{ROWS} rows: a peak of {peak / 2**20:.0f} MiB")
    assert peak < 0.8 * GIB
