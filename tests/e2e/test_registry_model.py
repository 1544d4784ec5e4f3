"""The registry as reconciles see it, against the real S3 server: what is read once, when again, and changes that are made once.

Needs no cluster, only the versitygw that `make cluster` builds.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from kaizen.control.registry import MODEL_SECONDS, Registry
from kaizen.core.plan import Allow, ModelRegistry, Register, Served, SettleTraining, Skip, StartTraining
from kaizen.core.training_record import TrainingRecord
from kaizen.registry import audit, layout, production, record, versions
from kaizen.registry.manifest import parse
from kaizen.registry.store import Bucket, Missing, Unreachable
from tests.e2e.local_registry import (  # noqa: F401 -- the fixtures
    SECOND,
    WHENS,
    direct_bucket,
    mortal_bucket,
    own_model,
    shared_session,
)
from tests.e2e.local_s3 import running_s3  # noqa: F401 -- the fixture local_s3
from tests.support.registry import (
    FILES,
    JOB,
    NAMESPACE,
    SERVICE,
    Died,
    MortalBucket,
    Story,
    check,
    ended,
    inline,
    manifest_of,
    now,
    put_run,
)

Result = TypeVar("Result")
SKIP = "crashes"


class Seen:
    """A registry over a bucket whose requests are counted, and a clock that stands still unless it is moved."""

    def __init__(self, bucket: MortalBucket) -> None:
        self.time = 1000.0
        self._bucket = bucket
        self.registry = Registry(inline, lambda: bucket, lambda: self.time)

    def requests(self, work: Callable[[], object]) -> int:
        before = self._bucket.requests
        work()
        return self._bucket.requests - before

    def model(self, model: str) -> ModelRegistry:
        return ended(self.registry.model(NAMESPACE, model))

    def change(self, change: Register | Skip | Allow | StartTraining | SettleTraining) -> None:
        ended(self.registry.change(NAMESPACE, SERVICE, change))


@pytest.fixture
def seen(mortal: MortalBucket) -> Seen:
    return Seen(mortal)


@pytest.fixture
def served(direct: Bucket, model: str) -> str:
    """A model with two versions, the first one serving."""
    Story(model).tell(direct)
    versions.reserve(direct, NAMESPACE, model, "second", now=now())
    versions.register(direct, NAMESPACE, model, 2, SECOND, now=now())
    return model


def training_job(model: str, uid: str, owner: dict[str, Any] | None = None) -> dict[str, Any]:
    references = {"ownerReferences": [{"controller": True, "uid": "u", **owner}]} if owner else {}
    return {"metadata": {"namespace": NAMESPACE, "uid": uid, **references}, "spec": {"model": model}}


def test_a_model_before_anything_is_known_of_it(seen: Seen) -> None:
    assert seen.model("absent") == ModelRegistry()


def test_what_the_registry_says_of_a_model(direct: Bucket, seen: Seen, served: str) -> None:
    versions.reserve(direct, NAMESPACE, served, "third", now=now())
    record.change(direct, NAMESPACE, served, lambda found: found.skip(SERVICE, 2, SKIP))
    found = seen.model(served)
    assert [(entry.version, entry.state, entry.reason) for entry in found.entries] == [
        (1, "Committed", None), (2, "Committed", None),
    ]  # fmt: skip
    first = found.entry(1)
    assert first is not None
    manifest = parse(manifest_of(FILES))
    assert (first.digest, first.manifest) == (manifest.digest, manifest.document)
    assert first.uri == f"s3://kaizen/versions/{layout.version(NAMESPACE, served, 1)}"
    serves = found.production[SERVICE]
    assert (serves.version, serves.audit) == (1, 2)
    assert serves.history == (Served(1, serves.since, "NewestVersion"),)
    assert found.record == TrainingRecord(rolled_back={SERVICE: {2: SKIP}})


def test_versions_of_the_same_files_are_told_apart(direct: Bucket, seen: Seen, served: str) -> None:
    versions.reserve(direct, NAMESPACE, served, "again", now=now())
    versions.register(direct, NAMESPACE, served, 3, SECOND, now=now())
    found = seen.model(served)
    assert [(entry.version, entry.uri.rpartition("versions/")[2]) for entry in found.entries] == [(1, "1/"), (2, "2/"), (3, "3/")]
    assert found.entries[1].digest == found.entries[2].digest


@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_a_version_that_cannot_be_shown_does_not_hide_the_others(direct: Bucket, seen: Seen, served: str, harm: str) -> None:
    key = layout.manifest(NAMESPACE, served, 2)
    sound, _ = direct.get(key)
    if harm == "changed":
        direct.put(key, manifest_of({"engine.json": b""}))
        expected = f"version 2 of model {served} was changed in the bucket: manifest.json has the digest"
    else:
        direct.call(lambda client: client.delete_object(Bucket="kaizen", Key=direct.settings.key(key)), key)
        expected = f"there is no versions/{key} in bucket kaizen"
    first, second = seen.model(served).entries
    assert (first.version, first.reason) == (1, None)
    assert (second.version, second.state, second.manifest) == (2, "Committed", {})
    assert (second.reason or "").startswith(expected)
    assert second.digest == parse(sound).digest
    owner = {"metadata": {"namespace": NAMESPACE}, "spec": {"model": served, "digest": second.digest}}
    assert ended(seen.registry.entry(owner)) == second
    # Mended, it is seen as it is, in time.
    direct.put(key, sound)
    seen.time += MODEL_SECONDS
    assert [entry.reason for entry in seen.model(served).entries] == [None, None]


def test_a_model_is_remembered_for_a_while(direct: Bucket, seen: Seen, served: str) -> None:
    before = seen.model(served)
    record.change(direct, NAMESPACE, served, lambda found: found.skip(SERVICE, 2, SKIP))
    seen.time += MODEL_SECONDS - 1
    assert seen.requests(lambda: seen.model(served)) == 0
    assert seen.model(served) is before
    seen.time += 1
    # Pointers and the one there is, index, training record; the manifests cannot change.
    assert seen.requests(lambda: seen.model(served)) == 4
    assert seen.model(served).record.rolled_back == {SERVICE: {2: SKIP}}


def test_a_version_is_looked_up_by_its_digest(seen: Seen, served: str) -> None:
    _, second = seen.model(served).entries
    owner = {"metadata": {"namespace": NAMESPACE}, "spec": {"model": served, "digest": second.digest}}
    assert seen.requests(lambda: ended(seen.registry.entry(owner))) == 0
    assert ended(seen.registry.entry(owner)) is second
    assert ended(seen.registry.entry({**owner, "spec": {"model": served, "digest": "sha256:0"}})) is None


CHANGES: dict[str, Callable[[str], Register | Skip | Allow | StartTraining | SettleTraining]] = {
    "register": lambda model: Register(model, "0b7e", "pod-1"),
    "skip": lambda model: Skip(model, 2, "RolledBack", SKIP),
    "allow": lambda model: Allow(model, 1),
    "start training": lambda model: StartTraining(model, "DataDrift", {"temp": 4.7}, "u/1"),
    "settle training": lambda model: SettleTraining(model, 1, failed=False, answered=True),
}
"""Done to a model of which version 1 is skipped and job 1 is open."""


def begun(found: TrainingRecord) -> TrainingRecord:
    return found.skip(SERVICE, 1, SKIP).start(SERVICE, "DataDrift", {"temp": 4.7}, "u/1", now())


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_own_change_is_seen_at_once(
    direct: Bucket, seen: Seen, served: str, change: Callable[[str], Register | Skip | Allow | StartTraining | SettleTraining]
) -> None:
    put_run(direct, f"{layout.attempt(NAMESPACE, '0b7e', 'pod-1')}model/")
    record.change(direct, NAMESPACE, served, lambda found: begun(found) if change is not CHANGES["start training"] else found)
    before = seen.model(served)
    seen.change(change(served))
    after = seen.model(served)
    assert after != before
    seen.change(change(served))
    assert seen.model(served) == after
    check(direct, served)


def test_what_each_change_does(direct: Bucket, seen: Seen, served: str) -> None:
    put_run(direct, f"{layout.attempt(NAMESPACE, '0b7e', 'pod-1')}model/")
    record.change(direct, NAMESPACE, served, begun)
    for change in CHANGES.values():
        seen.change(change(served))
    found = seen.model(served)
    assert [entry.version for entry in found.entries] == [1, 2, 3]
    assert found.record.rolled_back == {SERVICE: {2: SKIP}}
    last = found.record.last
    assert last is not None
    assert (last.service, last.cause, last.drift, last.spec) == (SERVICE, "DataDrift", {"temp": 4.7}, "u/1")
    assert (found.record.next_job, found.record.open, found.record.acknowledged) == (2, None, {"temp": 4.7})


def test_a_run_that_cannot_become_a_version_is_abandoned(direct: Bucket, seen: Seen, model: str) -> None:
    seen.change(Register(model, "no-such-run", "pod-1"))
    (entry,) = versions.list_versions(direct, NAMESPACE, model)
    assert (entry.state, entry.reason) == ("Abandoned", "the run left no manifest.json")
    assert seen.model(model).entries == ()


@pytest.mark.parametrize("when", WHENS)
def test_a_change_that_failed_may_have_happened(mortal: MortalBucket, seen: Seen, served: str, when: str) -> None:
    assert seen.model(served).record.open is None
    with pytest.raises(Died), mortal.dying(2, when):
        seen.change(StartTraining(served, "Initial", {}, "u/1"))
    assert (seen.model(served).record.open is not None) == (when == "response-received")


def test_what_was_read_before_a_change_is_not_remembered(direct: Bucket, served: str) -> None:
    """A reading was under way while the model was changed."""

    async def run() -> None:
        read, go_on = asyncio.Event(), asyncio.Event()

        async def slow(work: Callable[[], Result], /) -> Result:
            found = work()
            if isinstance(found, ModelRegistry) and not read.is_set():
                read.set()
                await go_on.wait()
            return found

        registry = Registry(slow, lambda: direct)
        reading = asyncio.ensure_future(registry.model(NAMESPACE, served))
        await read.wait()
        await registry.change(NAMESPACE, SERVICE, Skip(served, 2, "RolledBack", SKIP))
        go_on.set()
        assert (await reading).record.rolled_back == {}
        assert (await registry.model(NAMESPACE, served)).record.rolled_back == {SERVICE: {2: SKIP}}

    asyncio.run(run())


def test_a_failed_reading_is_not_remembered(direct: Bucket, served: str) -> None:
    answers: list[Bucket | None] = [None, direct]

    def bucket() -> Bucket:
        if (found := answers.pop(0)) is None:
            raise Unreachable("the bucket has not been checked yet")
        return found

    async def run() -> None:
        registry = Registry(inline, bucket)
        with pytest.raises(Unreachable):
            await registry.model(NAMESPACE, served)
        assert len((await registry.model(NAMESPACE, served)).entries) == 2

    asyncio.run(run())


def skips(bucket: Bucket, model: str) -> list[tuple[str, str | None, Any]]:
    found = audit.records(bucket, NAMESPACE, model)
    return [(item.action, item.digest, dict(item.details)) for item in found if item.action in ("RolledBack", "Refused")]


def test_a_version_is_skipped_once_wherever_it_dies(direct: Bucket, mortal: MortalBucket, seen: Seen, served: str) -> None:
    registry, seed, cut = layout.registry(NAMESPACE, served), direct.list(layout.registry(NAMESPACE, served)), 0
    digest = versions.list_visible(direct, NAMESPACE, served)[1].digest
    recorded = ("RolledBack", digest, {"version": 2, "reason": SKIP})
    for when in WHENS:
        for number in range(1, 100):
            own = f"{served}-{when}-{number}"
            for entry in seed:
                direct.copy(entry.key, layout.registry(NAMESPACE, own) + entry.key.removeprefix(registry), entry.etag)
            skip = Skip(own, 2, "RolledBack", SKIP)
            try:
                with mortal.dying(number, when):
                    seen.change(skip)
            except Died:
                cut += 1
                # The audit comes first: what is skipped is known there.
                if record.read(direct, NAMESPACE, own).rolled_back:
                    assert skips(direct, own) == [recorded]
            else:
                break
            for _ in range(3):
                seen.change(skip)
            assert skips(direct, own) == [recorded]
            assert record.read(direct, NAMESPACE, own).rolled_back == {SERVICE: {2: SKIP}}
            check(direct, own)
    assert cut == 14


def test_a_skip_is_a_record_of_the_service(direct: Bucket, seen: Seen, served: str) -> None:
    seen.change(Skip(served, 2, "Refused", "DigestMismatch: engine.json was changed"))
    newest = audit.records(direct, NAMESPACE, served)[-1]
    assert (newest.action, newest.object, newest.actor) == ("Refused", "production/flight-delay.json", "operator")
    # It is no end of an intent, and no intent.
    assert production.recover(direct, NAMESPACE, served, SERVICE, serving=1, now=now()) is not None
    assert audit.newest(direct, NAMESPACE, served) == newest.sequence
    with pytest.raises(Missing, match="has no committed version 7"):
        seen.change(Skip(served, 7, "RolledBack", SKIP))


def test_each_roll_back_of_a_promoted_version_is_recorded(direct: Bucket, seen: Seen, served: str) -> None:
    """Rolled back, allowed by a person, promoted again, and rolled back again."""
    for serving in (1, None):
        promotion = production.intend(direct, NAMESPACE, served, SERVICE, 2, serving=serving, reason="test", now=now())
        production.finish(direct, NAMESPACE, served, promotion, now=now())
        for _ in range(2):
            seen.change(Skip(served, 2, "RolledBack", SKIP))
        back = production.intend(direct, NAMESPACE, served, SERVICE, 1, serving=2, reason="RolledBack", now=now())
        production.finish(direct, NAMESPACE, served, back, now=now())
        seen.change(Skip(served, 2, "RolledBack", SKIP))
        seen.change(Allow(served, 2))
    assert len(skips(direct, served)) == 2
    assert record.read(direct, NAMESPACE, served).rolled_back == {}
    check(direct, served)


def test_what_a_run_is_compared_with(direct: Bucket, seen: Seen, served: str) -> None:
    other = production.intend(direct, NAMESPACE, served, "other", 2, serving=None, reason="test", now=now())
    production.finish(direct, NAMESPACE, served, other, now=now())

    def champion(owner: dict[str, Any] | None) -> int | None:
        found = ended(seen.registry.run(training_job(served, "new", owner))).champion
        return found.version if found else None

    assert champion({"kind": "InferenceService", "name": SERVICE}) == 1
    assert champion({"kind": "InferenceService", "name": "other"}) == 2
    assert champion({"kind": "InferenceService", "name": "a new one"}) == 2
    assert champion({"kind": "CronJob", "name": SERVICE}) == 2
    assert champion(None) == 2
    assert ended(seen.registry.run(training_job("absent", "new"))).champion is None


def test_a_run_that_became_a_version(direct: Bucket, seen: Seen, served: str) -> None:
    direct.create(layout.run_outcome(NAMESPACE, JOB), {"pod": "pod-1"})
    direct.put(f"{layout.attempt(NAMESPACE, JOB, 'pod-1')}progress.json", json.dumps({"step": "Fit"}).encode())
    found = ended(seen.registry.run(training_job(served, JOB)))
    assert (found.won, found.progress) == ("pod-1", {"step": "Fit"})
    assert found.entry == seen.model(served).entry(1)


def test_a_reference_is_what_was_registered(direct: Bucket, seen: Seen, model: str) -> None:
    files = {**FILES, "reference.json": b'{"format": 1}'}
    source = f"{layout.run(NAMESPACE, model)}pod/model/"
    put_run(direct, source, files)
    Story(model, source=source).tell(direct)

    def reference(version: int) -> bytes:
        return ended(seen.registry.reference(NAMESPACE, model, version))

    assert reference(1) == files["reference.json"]
    versions.reserve(direct, NAMESPACE, model, "second", now=now())
    versions.register(direct, NAMESPACE, model, 2, SECOND, now=now())
    with pytest.raises(Missing, match=r"version 2 of model .* has no reference\.json"):
        reference(2)
    direct.put(f"{layout.version(NAMESPACE, model, 1)}reference.json", b'{"format": 2}')
    with pytest.raises(versions.DigestMismatch, match=r"version 1 of model .* was changed in the bucket: reference\.json has"):
        reference(1)
    with pytest.raises(Missing, match="has no version 3"):
        reference(3)
