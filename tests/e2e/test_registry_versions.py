"""From a run to what is served, against the real S3 server: the same end whichever request fails and wherever the operator dies.

Needs no cluster, only the versitygw that `make cluster` builds.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import boto3
import pytest

from kaizen.registry import audit, layout, versions
from kaizen.registry.manifest import parse
from kaizen.registry.store import Bucket, BucketError, Conflict, Missing
from kaizen.registry.versions import VersionAbandoned
from tests.e2e.local_registry import (  # noqa: F401 -- the fixtures
    BUCKET,
    PREFIX,
    RACERS,
    SECOND,
    WHENS,
    direct_bucket,
    mortal_bucket,
    own_model,
    shared_session,
)
from tests.e2e.local_s3 import OPERATOR, LocalS3, running_s3  # noqa: F401 -- the fixture local_s3
from tests.support.registry import FILES, NAMESPACE, RUN, Died, MortalBucket, Story, check, manifest_of, now, put_run, state
from tests.support.s3proxy import Entry, Fault, Rule, S3Proxy

WORKERS = 8


@dataclass(frozen=True)
class Worker:
    """A proxy, and the bucket as seen through it."""

    proxy: S3Proxy
    bucket: Bucket


@pytest.fixture(scope="module")
def workers(local_s3: LocalS3, direct: Bucket, session: boto3.session.Session) -> Iterator["SimpleQueue[Worker]"]:
    """Faults mostly wait, so several stories are told at once, each through a proxy of its own."""
    idle: SimpleQueue[Worker] = SimpleQueue()
    with ExitStack() as stack:
        for _ in range(WORKERS):
            proxy = stack.enter_context(S3Proxy(local_s3.url))
            settings = local_s3.settings(OPERATOR, BUCKET, PREFIX, proxy.url)
            bucket = Bucket(settings, connect_timeout_seconds=1, read_timeout_seconds=1, sleep=lambda _: None, session=session)
            idle.put(Worker(proxy, bucket))
        yield idle


@pytest.fixture(scope="module")
def undisturbed(workers: "SimpleQueue[Worker]", direct: Bucket) -> tuple[tuple[Entry, ...], dict[str, Any]]:
    """The requests of a story in which nothing goes wrong, and its end."""
    worker = workers.get()
    worker.proxy.plan()
    Story("undisturbed").tell(worker.bucket)
    log = worker.proxy.log
    workers.put(worker)
    check(direct, "undisturbed")
    return log, state(direct, "undisturbed")


def test_what_is_written_and_in_which_order(undisturbed: tuple[tuple[Entry, ...], dict[str, Any]]) -> None:
    log, end = undisturbed
    prefix = f"/{BUCKET}/{PREFIX}/{layout.registry(NAMESPACE, 'undisturbed')}"
    assert [entry.path.removeprefix(prefix) for entry in log if entry.method == "PUT"] == [
        "index.json",
        "versions/1/engine.json",
        "versions/1/trees/0.bin",
        "versions/1/manifest.json",
        "index.json",
        "audit/000000000001.json",
        "audit/000000000002.json",
        "production/flight-delay.json",
        "audit/000000000003.json",
    ]
    digest = parse(manifest_of(FILES)).digest
    assert end == {
        "index.json": {
            "versions": [{"version": 1, "state": "Committed", "run": "0b7c", "digest": digest, "audit": 0, "reason": None}]
        },
        **{f"versions/1/{path}": content for path, content in FILES.items()},
        "versions/1/manifest.json": manifest_of(FILES),
        "production/flight-delay.json": {
            "version": 1, "digest": digest, "audit": 2, "reason": "NewestVersion",
            "history": [{"version": 1, "reason": "NewestVersion"}],
        },
        "audit/000000000001.json": audited(1, "Registered", "versions/1/", digest, {"run": "0b7c"}),
        "audit/000000000002.json": audited(
            2, "PromotionIntended", "production/flight-delay.json", digest,
            {"version": 1, "from": None, "reason": "NewestVersion"},
        ),
        "audit/000000000003.json": audited(
            3, "Promoted", "production/flight-delay.json", digest, {"version": 1, "intent": 2}
        ),
    }  # fmt: skip


def audited(sequence: int, action: str, what: str, digest: str | None, details: dict[str, Any]) -> dict[str, Any]:
    return {
        "sequence": sequence, "action": action, "object": what, "digest": digest, "details": details, "actor": "operator",
    }  # fmt: skip


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.value) for fault in Fault])
def test_every_request_survives_every_fault(
    workers: "SimpleQueue[Worker]", direct: Bucket, undisturbed: tuple[tuple[Entry, ...], dict[str, Any]], fault: Fault
) -> None:
    log, end = undisturbed

    def disturbed(number: int) -> None:
        worker, story = workers.get(), Story(f"{fault.value.lower()}-{number}")
        try:
            worker.proxy.plan(Rule(fault, times=(number,), seconds=0.05))
            try:
                story.tell(worker.bucket)
            except BucketError:
                # What a reconcile does after its back-off; one fault is never more than one failure.
                check(direct, story.model)
                story.tell(worker.bucket)
            assert [entry.fault for entry in worker.proxy.log].count(fault) == 1
        finally:
            workers.put(worker)
        assert state(direct, story.model) == end
        assert audit.verify(audit.chain(direct, NAMESPACE, story.model)) is None

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(disturbed, range(1, len(log) + 1)))


def deaths(
    mortal: MortalBucket, begin: Callable[[str], Story], tell: Callable[[Story], object], whens: tuple[str, ...] = WHENS
) -> Iterator[Story]:
    """Stories that were cut off by a death, one for each side of each request."""
    for when in whens:
        for number in range(1, 1000):
            story = begin(f"{when}-{number}")
            try:
                with mortal.dying(number, when):
                    tell(story)
            except Died:
                yield story
            else:
                assert number > 1
                break


def test_a_death_at_every_request_changes_nothing(
    direct: Bucket, mortal: MortalBucket, model: str, undisturbed: tuple[Any, dict[str, Any]]
) -> None:
    cut = 0
    for story in deaths(mortal, lambda suffix: Story(f"{model}-{suffix}"), lambda story: story.tell(mortal)):
        cut += 1
        check(direct, story.model)
        assert story.tell(direct) == 1
        assert state(direct, story.model) == undisturbed[1]
        assert audit.verify(audit.chain(direct, NAMESPACE, story.model)) is None
    assert cut == 2 * len(undisturbed[0])


def test_a_death_at_every_request_of_a_successor_changes_nothing(direct: Bucket, mortal: MortalBucket, model: str) -> None:
    first = Story(model)
    first.tell(direct)
    registry = layout.registry(NAMESPACE, model)
    seed = direct.list(registry)

    def begin(suffix: str) -> Story:
        for entry in seed:
            target = layout.registry(NAMESPACE, f"{model}-{suffix}") + entry.key.removeprefix(registry)
            direct.copy(entry.key, target, entry.etag)
        return Story(f"{model}-{suffix}", "0b7d", SECOND, first.serving)

    whole = begin("whole")
    assert whole.tell(direct) == 2
    end, cut = state(direct, whole.model), 0
    # The moment before a request differs from the one after its predecessor by nothing that could be seen in the bucket.
    for story in deaths(mortal, begin, lambda story: story.tell(mortal), WHENS[1:]):
        cut += 1
        check(direct, story.model)
        assert story.tell(direct) == 2
        assert state(direct, story.model) == end
        assert audit.verify(audit.chain(direct, NAMESPACE, story.model)) is None
    assert cut > 25


def test_telling_it_again_writes_nothing(workers: "SimpleQueue[Worker]", model: str) -> None:
    worker, story = workers.get(), Story(model)
    story.tell(worker.bucket)
    worker.proxy.plan()
    story.tell(worker.bucket)
    log = worker.proxy.log
    workers.put(worker)
    assert [entry for entry in log if entry.method != "GET"] == []


def test_concurrent_registrations_get_different_numbers(direct: Bucket, model: str) -> None:
    def one(racer: int) -> int:
        version = versions.reserve(direct, NAMESPACE, model, f"run-{racer}", now=now())
        versions.register(direct, NAMESPACE, model, version, RUN, now=now())
        return version

    with ThreadPoolExecutor(RACERS) as pool:
        numbers = list(pool.map(one, range(RACERS)))
    assert sorted(numbers) == list(range(1, RACERS + 1))
    assert [entry.version for entry in versions.list_visible(direct, NAMESPACE, model)] == sorted(numbers)
    check(direct, model)
    recorded = [found.object for found in audit.records(direct, NAMESPACE, model)]
    assert sorted(recorded) == sorted(f"versions/{number}/" for number in numbers)


def test_two_operators_at_once_end_as_one(direct: Bucket, model: str, undisturbed: tuple[Any, dict[str, Any]]) -> None:
    """A stale leader that does not know it yet."""
    story = Story(model)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: story.tell(direct), range(4))) == [1] * 4
    assert state(direct, model) == undisturbed[1]


def lying(**changes: Any) -> bytes:
    """A manifest whose first file is described wrongly."""
    document = json.loads(manifest_of(FILES))
    document["files"][0].update(changes)
    return json.dumps(document).encode()


UNFIT: dict[str, tuple[dict[str, bytes], bytes | None, str]] = {
    "another content": ({**FILES, "engine.json": b'{"format": 9}'}, manifest_of(FILES), "engine.json does not have the digest"),
    "another size": (FILES, lying(size=12), "engine.json does not have the digest"),
    "a file missing": (
        {"trees/0.bin": FILES["trees/0.bin"]},
        manifest_of(FILES),
        "engine.json is in the run's .* not in the run",
    ),
    "a way out of the run": (FILES, lying(path="../../../../../cluster.json"), "names a file that a model directory cannot have"),
    "no manifest that can be read": (FILES, b"{", "the run's manifest.json is not JSON"),
}


@pytest.mark.parametrize(("files", "manifest", "why"), UNFIT.values(), ids=UNFIT)
def test_an_unfit_run_is_abandoned_and_never_visible(
    direct: Bucket, mortal: MortalBucket, model: str, files: dict[str, bytes], manifest: bytes | None, why: str
) -> None:
    source = f"{layout.run(NAMESPACE, model)}pod/model/"
    put_run(direct, source, files, manifest)

    def begin(suffix: str) -> Story:
        return Story(f"{model}-{suffix}", source=source)

    whole = begin("whole")
    for _ in range(2):
        with pytest.raises(VersionAbandoned, match=why):
            whole.tell(direct)
    end = state(direct, whole.model)
    assert f"versions/1/{layout.MANIFEST}" not in end
    assert [entry["state"] for entry in end["index.json"]["versions"]] == ["Abandoned"]
    assert [key for key in end if key.startswith(("audit/", "production/"))] == ["audit/000000000001.json"]
    assert end["audit/000000000001.json"]["details"]["reason"] == end["index.json"]["versions"][0]["reason"]

    def tell(story: Story) -> None:
        with pytest.raises(VersionAbandoned, match=why):
            story.tell(mortal)

    for story in deaths(mortal, begin, tell, WHENS[1:]):
        assert versions.list_visible(direct, NAMESPACE, story.model) == ()
        with pytest.raises(VersionAbandoned, match=why):
            story.tell(direct)
        assert state(direct, story.model) == end
        check(direct, story.model)
    # The number is not used again.
    assert Story(whole.model, "another").tell(direct) == 2
    assert [entry.version for entry in versions.list_visible(direct, NAMESPACE, whole.model)] == [2]


def test_a_run_without_a_manifest_is_unfit(direct: Bucket, model: str) -> None:
    with pytest.raises(VersionAbandoned, match=r"the run left no manifest\.json"):
        Story(model, source=f"{layout.run(NAMESPACE, model)}pod/model/").tell(direct)


class Meddled(Bucket):
    """The run's Pod writes a file in the moment before it is copied."""

    def copy(self, source: str, target: str, etag: str) -> None:
        self.put(source, b"meddled")
        super().copy(source, target, etag)


def test_a_file_changed_while_it_is_copied(direct: Bucket, session: boto3.session.Session, model: str) -> None:
    source = f"{layout.run(NAMESPACE, model)}pod/model/"
    put_run(direct, source)
    with pytest.raises(VersionAbandoned, match=r"engine\.json was changed while it was copied"):
        Story(model, source=source).tell(Meddled(direct.settings, session=session))


def test_a_run_changed_between_two_attempts(direct: Bucket, mortal: MortalBucket, model: str) -> None:
    source = f"{layout.run(NAMESPACE, model)}pod/model/"
    put_run(direct, source)
    story = Story(model, source=source)
    with pytest.raises(Died), mortal.dying(10, "response-received"):
        story.tell(mortal)
    assert versions.list_versions(direct, NAMESPACE, model)[0].state == "Reserved"
    put_run(direct, source, {"engine.json": FILES["engine.json"]})
    with pytest.raises(VersionAbandoned, match=r"trees/0\.bin is left from an earlier attempt .* the run was changed"):
        story.tell(direct)


def test_a_version_outlives_its_run(direct: Bucket, mortal: MortalBucket, model: str) -> None:
    """A death after the manifest was written: the run is not needed any more."""
    source = f"{layout.run(NAMESPACE, model)}pod/model/"
    put_run(direct, source)
    story = Story(model, source=source)
    with pytest.raises(Died), mortal.dying(13, "before-send"):
        story.tell(mortal)
    assert f"versions/1/{layout.MANIFEST}" in state(direct, model)
    assert versions.list_visible(direct, NAMESPACE, model) == ()
    put_run(direct, source, dict.fromkeys(FILES, b"gone"), b"gone")
    assert story.tell(direct) == 1
    check(direct, model)


def test_a_version_changed_in_the_bucket_is_named(direct: Bucket, model: str) -> None:
    Story(model).tell(direct)
    entry, manifest = versions.show(direct, NAMESPACE, model, 1)
    assert (entry.digest, {file.path for file in manifest.files}) == (manifest.digest, set(FILES))
    direct.put(f"{layout.version(NAMESPACE, model, 1)}extra", b"")
    assert versions.find_mismatch(direct, NAMESPACE, model, 1) == "extra"
    direct.put(f"{layout.version(NAMESPACE, model, 1)}trees/0.bin", b"")
    assert versions.find_mismatch(direct, NAMESPACE, model, 1) == "trees/0.bin"
    direct.put(layout.manifest(NAMESPACE, model, 1), manifest_of({"engine.json": b""}))
    with pytest.raises(versions.DigestMismatch, match=r"version 1 of model .* was changed in the bucket: .* registered was sha"):
        versions.show(direct, NAMESPACE, model, 1)


def test_abandoning(direct: Bucket, model: str) -> None:
    first, second = (versions.reserve(direct, NAMESPACE, model, run, now=now()) for run in ("a", "b"))
    for reason in ("the job was deleted", "something else"):
        found = versions.abandon(direct, NAMESPACE, model, first, reason, now=now())
        assert (found.state, found.reason) == ("Abandoned", "the job was deleted")
    with pytest.raises(VersionAbandoned, match="the job was deleted"):
        versions.register(direct, NAMESPACE, model, first, RUN, now=now())
    versions.register(direct, NAMESPACE, model, second, RUN, now=now(), actor="alice")
    with pytest.raises(ValueError, match=r"version 2 of model .* is committed: it can no longer be abandoned"):
        versions.abandon(direct, NAMESPACE, model, second, "too late", now=now())
    assert versions.reserve(direct, NAMESPACE, model, "a", now=now()) == first
    assert [(found.action, found.actor) for found in audit.records(direct, NAMESPACE, model)] == [
        ("Abandoned", "operator"),
        ("Registered", "alice"),
    ]


def test_what_cannot_be_registered(direct: Bucket, model: str) -> None:
    with pytest.raises(Missing, match="has no version 7"):
        versions.register(direct, NAMESPACE, model, 7, RUN, now=now())
    for foreign in ("workloads/flights-test/runs/1/pod/model/", "registry/flights/other/versions/1/", RUN.rstrip("/")):
        with pytest.raises(ValueError, match="a version is registered from a directory below workloads/flights/"):
            versions.register(direct, NAMESPACE, model, 1, foreign, now=now())


def test_a_copy_takes_only_what_was_seen(direct: Bucket, model: str) -> None:
    etag = direct.put(f"{model}/a", b"one")
    direct.copy(f"{model}/a", f"{model}/b", etag)
    assert direct.get(f"{model}/b")[0] == b"one"
    direct.put(f"{model}/a", b"two")
    with pytest.raises(Conflict, match=r"/a in bucket kaizen has changed"):
        direct.copy(f"{model}/a", f"{model}/b", etag)
    with pytest.raises(Missing, match=r"there is no .*/absent"):
        direct.copy(f"{model}/absent", f"{model}/b", etag)
    with pytest.raises(Missing):
        direct.digest(f"{model}/absent")
    assert direct.get(f"{model}/b")[0] == b"one"
