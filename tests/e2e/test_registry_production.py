"""Promotions that were cut off, doubled or overtaken, and the training record, against the real S3 server.

Needs no cluster, only the versitygw that `make cluster` builds.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kaizen.core.plan import Served
from kaizen.core.training_record import TrainingRecord
from kaizen.registry import audit, layout, production, record, versions
from kaizen.registry.store import Bucket, Malformed, Missing
from tests.e2e.local_registry import (  # noqa: F401 -- the fixtures
    RACERS,
    SECOND,
    WHENS,
    direct_bucket,
    mortal_bucket,
    own_model,
    shared_session,
)
from tests.e2e.local_s3 import running_s3  # noqa: F401 -- the fixture local_s3
from tests.support.registry import NAMESPACE, RUN, SERVICE, Died, MortalBucket, Story, check, now


def intend(bucket: Bucket, model: str, version: int, serving: int | None) -> production.Promotion:
    return production.intend(bucket, NAMESPACE, model, SERVICE, version, serving=serving, reason="test", now=now())


def actions(bucket: Bucket, model: str) -> list[tuple[str, Any]]:
    """What was done about promotions, and the version."""
    found = audit.records(bucket, NAMESPACE, model)
    return [(item.action, item.details["version"]) for item in found if item.object.startswith("production/")]


@pytest.fixture
def two(direct: Bucket, model: str) -> Story:
    """A model with two versions, the first one serving, and an open intent for the second."""
    story = Story(model)
    story.tell(direct)
    versions.reserve(direct, NAMESPACE, model, "second", now=now())
    versions.register(direct, NAMESPACE, model, 2, SECOND, now=now())
    intend(direct, model, 2, serving=1)
    return story


DONE = [("PromotionIntended", 1), ("Promoted", 1), ("PromotionIntended", 2)]


def test_an_open_intent_is_voided_when_the_service_was_not_switched(direct: Bucket, mortal: MortalBucket, two: Story) -> None:
    for _ in range(2):
        found = production.recover(direct, NAMESPACE, two.model, SERVICE, serving=1, now=now())
        assert found is not None
        assert found.version == 1
    assert actions(direct, two.model) == [*DONE, ("PromotionVoided", 2)]
    # A later attempt is another intent.
    promotion = intend(direct, two.model, 2, serving=1)
    assert production.finish(direct, NAMESPACE, two.model, promotion, now=now()).version == 2
    assert actions(direct, two.model) == [*DONE, ("PromotionVoided", 2), ("PromotionIntended", 2), ("Promoted", 2)]
    check(direct, two.model)


def test_an_open_intent_is_finished_when_the_service_was_switched(direct: Bucket, mortal: MortalBucket, two: Story) -> None:
    for number in range(1, 100):
        try:
            with mortal.dying(number, WHENS[number % 2]):
                found = production.recover(mortal, NAMESPACE, two.model, SERVICE, serving=2, now=now())
        except Died:
            check(direct, two.model)
            continue
        break
    assert found is not None
    assert found.version == 2
    assert actions(direct, two.model) == [*DONE, ("Promoted", 2)]
    check(direct, two.model)


@pytest.mark.parametrize(("serving", "closed"), [(1, "PromotionVoided"), (2, "Promoted")])
def test_another_wish_closes_what_was_left_open(direct: Bucket, two: Story, serving: int, closed: str) -> None:
    """The operator died at version 2, and then a person pinned version 1."""
    promotion = intend(direct, two.model, 1, serving=serving)
    assert production.finish(direct, NAMESPACE, two.model, promotion, now=now()).version == 1
    rolled_back = [("PromotionIntended", 1), ("Promoted", 1)] if serving == 2 else []
    assert actions(direct, two.model) == [*DONE, (closed, 2), *rolled_back]
    check(direct, two.model)


def test_a_late_finish_does_not_go_back(direct: Bucket, two: Story) -> None:
    """A stale leader's: its intent was voided, or finished and followed by another one."""
    stale = intend(direct, two.model, 2, serving=1)
    production.recover(direct, NAMESPACE, two.model, SERVICE, serving=1, now=now())
    with pytest.raises(production.PromotionVoided, match="promotion of version 2 by audit record 5 was voided"):
        production.finish(direct, NAMESPACE, two.model, stale, now=now())
    serves = production.read(direct, NAMESPACE, two.model, SERVICE)
    assert serves is not None
    assert serves.version == 1
    second = intend(direct, two.model, 2, serving=1)
    production.finish(direct, NAMESPACE, two.model, second, now=now())
    first = intend(direct, two.model, 1, serving=2)
    serves = production.finish(direct, NAMESPACE, two.model, first, now=now())
    before = actions(direct, two.model)
    assert production.finish(direct, NAMESPACE, two.model, second, now=now()) == serves
    assert (serves.version, serves.audit) == (1, first.sequence)
    assert actions(direct, two.model) == before


def test_a_pointer_that_names_a_voided_intent_is_made_anew(direct: Bucket, two: Story) -> None:
    """One operator voided it in the moment before another one, which had just switched the Service, wrote the pointer."""
    late = intend(direct, two.model, 2, serving=1)
    production.recover(direct, NAMESPACE, two.model, SERVICE, serving=1, now=now())
    pointer = {"version": 2, "digest": late.digest, "since": "2013-04-01T00:00:00Z", "audit": late.sequence}
    direct.put(layout.production(NAMESPACE, two.model, SERVICE), json.dumps(pointer).encode())
    promotion = intend(direct, two.model, 2, serving=2)
    assert promotion.sequence > late.sequence
    assert production.finish(direct, NAMESPACE, two.model, promotion, now=now()).audit == promotion.sequence
    check(direct, two.model)


def test_services_of_one_model_do_not_mind_each_other(direct: Bucket, two: Story) -> None:
    """The other service's open intent stays open, and its closing closes no other."""
    other = production.intend(direct, NAMESPACE, two.model, "other", 1, serving=None, reason="test", now=now())
    production.finish(direct, NAMESPACE, two.model, other, now=now())
    assert actions(direct, two.model) == [*DONE, ("PromotionIntended", 1), ("Promoted", 1)]
    promotion = intend(direct, two.model, 2, serving=1)
    assert promotion.sequence == 5
    assert production.finish(direct, NAMESPACE, two.model, promotion, now=now()).version == 2
    check(direct, two.model)


def test_only_a_visible_version_is_promoted(direct: Bucket, model: str) -> None:
    assert production.recover(direct, NAMESPACE, model, SERVICE, serving=None, now=now()) is None
    versions.reserve(direct, NAMESPACE, model, "a", now=now())
    with pytest.raises(Missing, match="has no committed version 1"):
        intend(direct, model, 1, serving=None)
    assert audit.newest(direct, NAMESPACE, model) == 0


def test_concurrent_intents_of_one_version_are_one(direct: Bucket, two: Story) -> None:
    production.recover(direct, NAMESPACE, two.model, SERVICE, serving=1, now=now())
    with ThreadPoolExecutor(RACERS) as pool:
        found = set(pool.map(lambda _: intend(direct, two.model, 2, serving=1), range(RACERS)))
    assert len(found) == 1


def promote(bucket: Bucket, model: str, version: int, serving: int | None, reason: str = "test") -> None:
    promotion = production.intend(bucket, NAMESPACE, model, SERVICE, version, serving=serving, reason=reason, now=now())
    production.finish(bucket, NAMESPACE, model, promotion, now=now())


def history(bucket: Bucket, model: str) -> list[tuple[int, str]]:
    serves = production.read(bucket, NAMESPACE, model, SERVICE)
    assert serves is not None
    assert serves.history[-1] == Served(serves.version, serves.since, serves.history[-1].reason)
    return [(served.version, served.reason) for served in serves.history]


def test_the_newest_ten_promotions_are_kept(direct: Bucket, two: Story) -> None:
    production.recover(direct, NAMESPACE, two.model, SERVICE, serving=1, now=now())
    for number in range(11):
        for _ in range(2):
            promote(direct, two.model, 2 - number % 2, 1 + number % 2, f"reason {number}")
    assert history(direct, two.model) == [(2 - number % 2, f"reason {number}") for number in range(1, 11)]
    check(direct, two.model)


def test_a_document_without_a_history_gets_one(direct: Bucket, two: Story) -> None:
    key = layout.production(NAMESPACE, two.model, SERVICE)
    document, _ = direct.read(key)
    old = {name: value for name, value in document.items() if name not in ("history", "reason")}
    direct.put(key, json.dumps(old).encode())
    serves = production.read(direct, NAMESPACE, two.model, SERVICE)
    assert serves is not None
    assert (serves.version, serves.history) == (1, ())
    promote(direct, two.model, 1, 1)
    assert direct.read(key)[0] == old
    promote(direct, two.model, 2, 1)
    assert history(direct, two.model) == [(2, "test")]


@pytest.mark.parametrize("broken", [{"version": "x"}, {"history": 1}, {"history": [1]}, {"history": [{"version": 1}]}], ids=str)
def test_a_pointer_that_says_nothing_is_malformed(direct: Bucket, model: str, broken: dict[str, Any]) -> None:
    sound = {"version": 1, "digest": "sha256:1", "since": "2013-04-01T00:00:00Z", "audit": 1}
    direct.create(layout.production(NAMESPACE, model, SERVICE), {**sound, **broken})
    with pytest.raises(Malformed, match=r"production/flight-delay\.json in the bucket does not say what is served"):
        production.read_all(direct, NAMESPACE, model)


def test_the_history_says_the_intents_reason_once_wherever_it_dies(direct: Bucket, mortal: MortalBucket, model: str) -> None:
    """The next process has another reason for the same version; the one that was recorded counts."""
    versions.reserve(direct, NAMESPACE, model, "first", now=now())
    versions.register(direct, NAMESPACE, model, 1, RUN, now=now())
    registry, seed, cut = layout.registry(NAMESPACE, model), direct.list(layout.registry(NAMESPACE, model)), 0
    for when in WHENS:
        for number in range(1, 100):
            own = f"{model}-{when}-{number}"
            for entry in seed:
                direct.copy(entry.key, layout.registry(NAMESPACE, own) + entry.key.removeprefix(registry), entry.etag)
            try:
                with mortal.dying(number, when):
                    promote(mortal, own, 1, None, "before")
            except Died:
                cut += 1
            else:
                break
            promote(direct, own, 1, None, "after")
            recorded = [found.details["reason"] for found in audit.records(direct, NAMESPACE, own) if "from" in found.details]
            assert [(1, reason) for reason in recorded] == history(direct, own)
            assert recorded in (["before"], ["after"])
            assert actions(direct, own) == DONE[:2]
    assert cut > 20


def test_the_pointers_of_all_services(direct: Bucket, two: Story) -> None:
    assert production.read_all(direct, NAMESPACE, "absent") == {}
    other = production.intend(direct, NAMESPACE, two.model, "other.json", 2, serving=None, reason="test", now=now())
    production.finish(direct, NAMESPACE, two.model, other, now=now())
    for stray in ("note.txt", "below/it.json"):
        direct.put(f"{layout.registry(NAMESPACE, two.model)}production/{stray}", b"{}")
    found = production.read_all(direct, NAMESPACE, two.model)
    assert {service: serves.version for service, serves in found.items()} == {SERVICE: 1, "other.json": 2}


def test_a_training_job_keeps_its_number(direct: Bucket, mortal: MortalBucket, model: str) -> None:
    def start(found: TrainingRecord) -> TrainingRecord:
        return found.start(SERVICE, "DataDrift", {"temp": 4.7}, "u/1", now())

    for when in WHENS:
        for number in (1, 2):
            with pytest.raises(Died), mortal.dying(number, when):
                record.change(mortal, NAMESPACE, f"{model}-{when}-{number}", start)
            record.change(direct, NAMESPACE, f"{model}-{when}-{number}", start)
            found = record.read(direct, NAMESPACE, f"{model}-{when}-{number}")
            assert found.open is not None
            assert (found.open.number, found.next_job) == (1, 2)
    with ThreadPoolExecutor(RACERS) as pool:
        opened = set(pool.map(lambda _: record.change(direct, NAMESPACE, model, start).open is not None, range(RACERS)))
    assert opened == {True}
    assert record.read(direct, NAMESPACE, model).next_job == 2


def test_concurrent_changes_of_the_training_record_all_count(direct: Bucket, model: str) -> None:
    def skip(version: int) -> None:
        record.change(direct, NAMESPACE, model, lambda found: found.skip(SERVICE, version, "crashes"))

    with ThreadPoolExecutor(RACERS) as pool:
        list(pool.map(skip, range(1, RACERS + 1)))
    assert record.read(direct, NAMESPACE, model).rolled_back == {SERVICE: dict.fromkeys(range(1, RACERS + 1), "crashes")}


def test_a_broken_training_record_is_malformed(direct: Bucket, model: str) -> None:
    direct.create(layout.training(NAMESPACE, model), {"nextJob": 1})
    with pytest.raises(Malformed, match=r"training\.json in the bucket is not a record of automatic training: restore it"):
        record.read(direct, NAMESPACE, model)
