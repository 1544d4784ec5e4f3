"""The bucket under failing requests, against the real S3 server: the same end whatever went wrong on the way.

Needs no cluster, only the versitygw that `make cluster` builds.
"""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest

from kaizen.registry.claim import ForeignCluster, claim
from kaizen.registry.embedded import ensure_bucket
from kaizen.registry.policy import as_document, owner_statements, single_tenant_policy
from kaizen.registry.store import (
    Bucket,
    BucketError,
    BucketSettings,
    Conflict,
    Malformed,
    Missing,
    NoBucket,
    Refused,
    Rejected,
    Unreachable,
)
from tests.e2e.local_s3 import OPERATOR, TENANT, LocalS3, running_s3  # noqa: F401 -- the fixture local_s3
from tests.support.s3proxy import Fault, Rule, S3Proxy, rules_from

BUCKET = "kaizen"
RACERS = 20
SESSION = boto3.session.Session()
FAULTS = [pytest.param(fault, id=fault.value) for fault in Fault]
UNSEEN = (Fault.ERROR_500, Fault.ERROR_503, Fault.TIMEOUT, Fault.CUT_REQUEST_BODY, Fault.LOST_REQUEST)
"""The faults after which the server has not done what it was asked."""


def no_pause(_: float) -> None:
    """Between attempts of a test."""


@dataclass(frozen=True)
class Bench:
    """The server, a proxy before it, and a prefix of the test's own."""

    server: LocalS3
    proxy: S3Proxy
    prefix: str

    def bucket(self, sleep: Callable[[float], None] = no_pause, **changes: Any) -> Bucket:
        """The operator's bucket, reached through the proxy."""
        settings = replace(self.server.settings(OPERATOR, BUCKET, self.prefix, self.proxy.url), **changes)
        return Bucket(settings, connect_timeout_seconds=1, read_timeout_seconds=1, sleep=sleep, session=SESSION)

    @cached_property
    def direct(self) -> Bucket:
        """The operator's bucket, past the proxy."""
        return Bucket(self.server.settings(OPERATOR, BUCKET, self.prefix), session=SESSION)

    def writes(self) -> int:
        return sum(entry.method == "PUT" for entry in self.proxy.log)


@pytest.fixture(scope="module")
def proxy(local_s3: LocalS3) -> Iterator[S3Proxy]:
    ensure_bucket(Bucket(local_s3.settings(OPERATOR, BUCKET)), None)
    with S3Proxy(local_s3.url) as running:
        yield running


@pytest.fixture
def bench(local_s3: LocalS3, proxy: S3Proxy, tmp_path: Path) -> Iterator[Bench]:
    proxy.plan()
    yield Bench(local_s3, proxy, f"tests/{tmp_path.name}")
    proxy.plan()


def story(bucket: Bucket) -> None:
    """Every conditional write: a claim, a first version, a second one."""
    claim(bucket, "one")
    bucket.create("index.json", {"versions": [1]})
    _, etag = bucket.read("index.json")
    bucket.replace("index.json", {"versions": [1, 2]}, etag)


@pytest.mark.parametrize("write", [1, 2, 3], ids=["claim", "create", "replace"])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_write_survives_every_fault(bench: Bench, fault: Fault, write: int) -> None:
    bench.proxy.plan(Rule(fault, method="PUT", times=(write,), seconds=0.1))
    story(bench.bucket())
    applied = [entry for entry in bench.proxy.log if entry.fault]
    assert [(entry.method, entry.fault) for entry in applied] == [("PUT", fault)]
    assert (applied[0].upstream is None) == (fault in UNSEEN)
    found = bench.direct
    assert found.read("cluster.json")[0]["clusterUID"] == "one"
    assert found.read("index.json")[0]["versions"] == [1, 2]
    # What was only lost on the way back is not written a second time.
    assert bench.writes() == (4 if fault in UNSEEN else 3)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_read_survives_every_fault(bench: Bench, fault: Fault) -> None:
    story(bench.direct)
    bench.proxy.plan(Rule(fault, method="GET", times=(1,), seconds=0.1))
    assert bench.bucket().read("index.json")[0]["versions"] == [1, 2]


def test_a_lost_answer_whose_read_back_fails_too_is_still_a_success(bench: Bench) -> None:
    bench.proxy.plan(Rule(Fault.LOST_ANSWER, method="PUT", times=(1,)), Rule(Fault.ERROR_500, method="GET", times=(1,)))
    stored = bench.bucket().create("index.json", {"versions": []})
    assert [entry.upstream for entry in bench.proxy.log] == [200, None, 412, 200]
    assert bench.direct.read("index.json")[0] == stored


@pytest.mark.parametrize("fault", FAULTS)
def test_a_foreign_document_wins_over_a_create(bench: Bench, fault: Fault) -> None:
    theirs = bench.direct.create("index.json", {"of": "theirs"})
    bench.proxy.plan(Rule(fault, method="PUT", times=(1,), seconds=0.1))
    with pytest.raises(Conflict, match=r"index\.json in bucket kaizen was written by somebody else") as conflict:
        bench.bucket().create("index.json", {"of": "ours"})
    assert conflict.value.document == theirs
    assert bench.direct.read("index.json") == (theirs, conflict.value.etag)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_foreign_document_wins_over_a_replace(bench: Bench, fault: Fault) -> None:
    other = bench.direct
    other.create("index.json", {"of": "both"})
    _, etag = other.read("index.json")
    theirs = other.replace("index.json", {"of": "theirs"}, etag)
    bench.proxy.plan(Rule(fault, method="PUT", times=(1,), seconds=0.1))
    with pytest.raises(Conflict) as conflict:
        bench.bucket().replace("index.json", {"of": "ours"}, etag)
    assert conflict.value.document == theirs
    # Taking what won into account, the next attempt goes through.
    assert bench.bucket().replace("index.json", {"of": "ours"}, conflict.value.etag)["of"] == "ours"


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.value) for fault in UNSEEN])
def test_a_foreign_write_between_two_attempts_wins(bench: Bench, fault: Fault) -> None:
    def meanwhile(_: float) -> None:
        bench.direct.create("index.json", {"of": "theirs"})

    bench.proxy.plan(Rule(fault, method="PUT", times=(1,)))
    with pytest.raises(Conflict):
        bench.bucket(meanwhile).create("index.json", {"of": "ours"})
    assert bench.direct.read("index.json")[0]["of"] == "theirs"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_foreign_cluster_keeps_its_claim(bench: Bench, fault: Fault) -> None:
    claim(bench.direct, "other")
    bench.proxy.plan(Rule(fault, times=(1,), seconds=0.1))
    with pytest.raises(ForeignCluster, match="another cluster uses it: set another prefix"):
        claim(bench.bucket(), "one")
    assert bench.direct.read("cluster.json")[0]["clusterUID"] == "other"


def test_a_claim_is_idempotent_and_writes_once(bench: Bench) -> None:
    for _ in range(3):
        claim(bench.bucket(), "one")
    assert bench.writes() == 1


def test_an_unreadable_claim_is_nobodys(bench: Bench) -> None:
    bench.direct.put("cluster.json", b"not json")
    with pytest.raises(Malformed, match="is not a JSON document"):
        claim(bench.bucket(), "one")
    bench.direct.put("cluster.json", b"{}")
    with pytest.raises(Malformed, match="does not say which cluster"):
        claim(bench.bucket(), "one")


def test_a_server_that_stays_down_is_unreachable_after_bounded_attempts(bench: Bench) -> None:
    pauses: list[float] = []
    bench.proxy.plan(Rule(Fault.ERROR_503))
    with pytest.raises(Unreachable, match=f"bucket kaizen at {bench.proxy.url} cannot be reached: it answered 503 SlowDown"):
        bench.bucket(pauses.append).create("index.json", {})
    assert pauses == [0.1, 0.4, 1.6]
    # Nothing is retried behind our back: each attempt is one write and one read.
    assert [entry.method for entry in bench.proxy.log] == ["PUT", "GET"] * 4
    with pytest.raises(Missing):
        bench.direct.get("index.json")


def race(number: int, attempt: Callable[[int], dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Conflict]]:
    """Run so many attempts at the same moment; the documents that won and the conflicts of the others."""
    barrier = threading.Barrier(number, timeout=10)

    def one(racer: int) -> dict[str, Any] | Conflict:
        barrier.wait()
        try:
            return attempt(racer)
        except Conflict as conflict:
            return conflict

    with ThreadPoolExecutor(number) as pool:
        ends = list(pool.map(one, range(number)))
    return [end for end in ends if isinstance(end, dict)], [end for end in ends if isinstance(end, Conflict)]


@pytest.mark.parametrize("fault", [None, Fault.LOST_ANSWER, Fault.LOST_REQUEST], ids=str)
@pytest.mark.parametrize("kind", ["create", "replace"])
def test_a_race_has_exactly_one_winner(bench: Bench, kind: str, fault: Fault | None) -> None:
    bucket, etag = bench.bucket(), ""
    if kind == "replace":
        bench.direct.create("index.json", {"racer": -1})
        _, etag = bench.direct.read("index.json")
    if fault:
        bench.proxy.plan(Rule(fault, method="PUT", times=tuple(range(1, RACERS, 3))))

    def attempt(racer: int) -> dict[str, Any]:
        return bucket.replace("index.json", {"racer": racer}, etag) if etag else bucket.create("index.json", {"racer": racer})

    winners, losers = race(RACERS, attempt)
    found, _ = bench.direct.read("index.json")
    assert winners == [found]
    assert [loser.document for loser in losers] == [found] * (RACERS - 1)


def test_what_is_not_there(bench: Bench) -> None:
    with pytest.raises(Missing, match=r"there is no tests/.*/absent in bucket kaizen"):
        bench.bucket().get("absent")
    with pytest.raises(Missing):
        bench.bucket().replace("absent", {}, '"0"')
    with pytest.raises(NoBucket, match="there is no bucket absent at http"):
        bench.bucket(name="absent").get("key")


def test_wrong_credentials_name_the_endpoint_and_the_secret(bench: Bench) -> None:
    wrongs: tuple[dict[str, Any], ...] = ({"secret_key": "wrong"}, {"access_key": "nobody"})
    for wrong in wrongs:
        with pytest.raises(Refused, match=f"{bench.proxy.url} refused .* credentials of Secret kaizen-bucket: it answered 403"):
            bench.bucket(**wrong).create("index.json", {})
    assert bench.writes() == 2


def test_nobody_listens(bench: Bench) -> None:
    with pytest.raises(Unreachable, match=r"at http://127\.0\.0\.1:1 cannot be reached: the connection was not accepted"):
        bench.bucket(endpoint="http://127.0.0.1:1").create("index.json", {})


def test_a_key_below_an_object_is_rejected_at_once(bench: Bench) -> None:
    bench.direct.put("file", b"")
    with pytest.raises(Rejected, match="ObjectParentIsFile"):
        bench.bucket().create("file/index.json", {})
    assert bench.writes() == 1


def test_objects_and_listings_go_through_unchanged(bench: Bench) -> None:
    keys = ["a b/+&%.bin", "a/0.bin", "a/1.bin", "äöü/~*'().bin"]
    bucket = bench.bucket()
    etags = {key: bucket.put(key, key.encode() * 1000) for key in keys}
    assert {key: bucket.get(key) for key in keys} == {key: (key.encode() * 1000, etags[key]) for key in keys}
    assert [(entry.key, entry.size, entry.etag) for entry in bucket.list("")] == [
        (key, len(key.encode()) * 1000, etags[key]) for key in keys
    ]
    assert [entry.key for entry in bucket.list("a/")] == ["a/0.bin", "a/1.bin"]


def test_ensuring_the_bucket_changes_nothing_the_second_time(bench: Bench) -> None:
    bucket = bench.bucket(name="ensured")
    policy = as_document(
        [*owner_statements("ensured", OPERATOR.access_key), *single_tenant_policy("ensured", "", TENANT.access_key)]
    )
    ensure_bucket(bucket, None)
    ensure_bucket(bucket, policy)
    assert bench.writes() == 2
    ensure_bucket(bucket, policy)
    ensure_bucket(bucket, json.dumps(json.loads(policy), indent=2))
    ensure_bucket(bucket, None)
    assert bench.writes() == 2
    narrower = as_document(owner_statements("ensured", OPERATOR.access_key))
    ensure_bucket(bucket, narrower)
    assert bench.writes() == 3
    found = bucket.call(lambda client: client.get_bucket_policy(Bucket="ensured"), "policy")["Policy"]
    assert json.loads(found) == json.loads(narrower)


def test_a_policy_that_would_lock_the_operator_out_is_not_put(bench: Bench) -> None:
    with pytest.raises(ValueError, match="would lock out the owner operator of bucket kaizen: add owner_statements"):
        ensure_bucket(bench.bucket(), as_document(single_tenant_policy(BUCKET, "", TENANT.access_key)))
    assert bench.proxy.log == ()


def test_the_fault_plan_can_be_set_over_http(bench: Bench) -> None:
    def admin(method: str, path: str, plan: Any = None) -> Any:
        body = None if plan is None else json.dumps(plan).encode()
        with urllib.request.urlopen(urllib.request.Request(bench.proxy.url + path, body, method=method), timeout=5) as answer:
            return json.load(answer)

    plan = [{"fault": "LostAnswer", "method": "PUT", "key": r"index\.json$", "times": [1]}]
    assert rules_from(admin("PUT", "/__faults", plan)) == rules_from(plan)
    bench.bucket().create("index.json", {})
    assert [(entry["method"], entry["fault"], entry["upstream"]) for entry in admin("GET", "/__log")] == [
        ("PUT", "LostAnswer", 200),
        ("GET", None, 200),
    ]
    assert admin("DELETE", "/__faults") == admin("GET", "/__faults") == admin("DELETE", "/__log") == []
    with pytest.raises(urllib.error.HTTPError, match="400") as wrong:
        admin("PUT", "/__faults", [{"fault": "Earthquake"}])
    with wrong.value as answer:
        assert "faults are Error500, Error503, Timeout" in json.load(answer)["error"]


@pytest.mark.parametrize(
    "plan", [{}, [1], [{}], [{"fault": "Error500", "key": "("}], [{"fault": "Error500", "more": 1}]], ids=str
)
def test_a_wrong_fault_plan_is_refused(plan: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        rules_from(plan)


def test_every_failure_is_a_bucket_error() -> None:
    for kind in (Conflict, ForeignCluster, Malformed, Missing, NoBucket, Refused, Rejected, Unreachable):
        assert issubclass(kind, BucketError)
    assert BucketSettings(None, "bucket").where == "AWS S3 in us-east-1"
