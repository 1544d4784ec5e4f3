"""Large objects arrive whole from the real S3 server, through a proxy that fails on demand.  Needs no cluster, only versitygw."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaizen.registry.downloads import PART_BYTES, fetch
from kaizen.registry.embedded import ensure_bucket
from kaizen.registry.errors import Missing, Unreachable
from kaizen.registry.policy import as_document, owner_statements
from kaizen.registry.store import Bucket
from tests.e2e.local_s3 import OPERATOR, LocalS3, running_s3  # noqa: F401 -- the fixture local_s3
from tests.support.s3proxy import Fault, Rule, S3Proxy

BUCKET = "downloads"
SIZE = 4 * PART_BYTES + 12_345
CONTENT = random.Random(1).randbytes(SIZE)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def proxied(local_s3: LocalS3) -> Iterator[tuple[Bucket, S3Proxy]]:
    direct = Bucket(local_s3.settings(OPERATOR, BUCKET))
    ensure_bucket(direct, as_document(owner_statements(BUCKET, OPERATOR.access_key)))
    direct.put("large", CONTENT)
    direct.put("small", CONTENT[:1000])
    with S3Proxy(local_s3.url) as proxy:
        yield Bucket(local_s3.settings(OPERATOR, BUCKET, endpoint=proxy.url)), proxy


FAULTS = {
    "none": (),
    "every second answer breaks off": tuple(Rule(Fault.CUT_BODY, method="GET", times=(number,)) for number in (1, 3, 5, 7)),
    "answers are lost": (Rule(Fault.LOST_ANSWER, method="GET", times=(2, 4)),),
    "the server is busy": (Rule(Fault.ERROR_503, method="GET", times=(1, 2, 5)),),
}


@pytest.mark.parametrize("rules", FAULTS.values(), ids=FAULTS)
def test_a_large_object_comes_whole(proxied: tuple[Bucket, S3Proxy], tmp_path: Path, rules: tuple[Rule, ...]) -> None:
    bucket, proxy = proxied
    proxy.plan(*rules)
    assert fetch(bucket, "large", tmp_path / "file", SIZE) == (DIGEST, SIZE)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert {entry.upstream for entry in proxy.log} <= {206, None}


def test_what_broke_is_not_read_again(proxied: tuple[Bucket, S3Proxy], tmp_path: Path) -> None:
    bucket, proxy = proxied
    proxy.plan(Rule(Fault.CUT_BODY, method="GET", times=(1,)))
    assert fetch(bucket, "small", tmp_path / "file", 1000) == (hashlib.sha256(CONTENT[:1000]).hexdigest(), 1000)
    assert [entry.upstream for entry in proxy.log] == [200, 206]


def test_what_cannot_be_read_is_said_in_bounded_time(proxied: tuple[Bucket, S3Proxy], tmp_path: Path) -> None:
    bucket, proxy = proxied
    pauses: list[float] = []
    proxy.plan(Rule(Fault.LOST_ANSWER, method="GET"))
    with pytest.raises(Unreachable):
        fetch(bucket, "large", tmp_path / "file", SIZE, pauses.append)
    assert len(pauses) == 4
    proxy.plan()
    with pytest.raises(Missing):
        fetch(bucket, "nothing", tmp_path / "other", SIZE)
    assert fetch(bucket, "small", tmp_path / "third", SIZE) == ("", 1000)
