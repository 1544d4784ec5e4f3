"""Fixtures of the stories: the cluster that `make cluster` made, and a namespace of each story's own."""

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.paths import KUBECONFIG
from tests.support import service_stories
from tests.support.cluster import Cluster
from tests.support.service_stories import Lake


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The running cluster with Kaizen installed."""
    if not KUBECONFIG.exists():
        pytest.fail("there is no cluster: run `make cluster` first")
    found = Cluster()
    found.wait_ready("kaizen-operator")
    found.wait_ready("kaizen-s3")
    return found


@pytest.fixture
def lake(cluster: Cluster, namespace: str, tmp_path: Path) -> Lake:
    """Rows to train on, in the story's own part of the embedded bucket."""
    return service_stories.lake(cluster, namespace, tmp_path)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace that enforces Pod Security "restricted", deleted after the story."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    # Long names are cut, and two of one test's cases would get the same.
    name = f"{words[:50].strip('-')}-{zlib.crc32(words.encode()):08x}" if len(words) > 50 else words
    cluster.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=60s", seconds=65)
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
