"""A promotion from the wish to the last record, against the real S3 server and a Service that is not overwritten unseen.

Needs no cluster, only the versitygw that `make cluster` builds.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kaizen.cluster.client import Client, Conflict, NotFound
from kaizen.control.children import with_digest
from kaizen.control.promotion import Promotions
from kaizen.control.registry import Registry
from kaizen.core.plan import Object, Observed, Promote
from kaizen.core.serving import selected
from kaizen.registry import audit, layout, production, versions
from kaizen.registry.store import Bucket, Missing
from tests.e2e.local_registry import (  # noqa: F401 -- the fixtures
    SECOND,
    WHENS,
    direct_bucket,
    mortal_bucket,
    own_model,
    shared_session,
)
from tests.e2e.local_s3 import running_s3  # noqa: F401 -- the fixture local_s3
from tests.support.objects import address
from tests.support.registry import NAMESPACE, RUN, SERVICE, Died, MortalBucket, check, ended, inline, now

OWNER: dict[str, Any] = {
    "apiVersion": "mlops.kaizen.dev/v1alpha1",
    "kind": "InferenceService",
    "metadata": {"name": SERVICE, "namespace": NAMESPACE, "uid": "u", "generation": 3},
}
ACTOR = "operator/3"


def service(version: int | None, owner: str = "u") -> dict[str, Any]:
    """The body of the Service that selects a version."""
    observed = Observed({**OWNER, "metadata": {**OWNER["metadata"], "uid": owner}})
    return with_digest(address(observed, *([] if version is None else [str(version)])))


class OneService(Client):
    """An API server with one Service, on which the operator may die just before or after a request."""

    def __init__(self, body: Object | None) -> None:
        self.live: dict[str, Any] | None = None
        self.writes = 0
        self.dies: tuple[str, str] | None = None
        """At which request, and on which side of it."""
        self.meanwhile: Callable[[], None] = lambda: None
        """What happens just before a write."""
        if body is not None:
            self.change(body)

    def change(self, body: Object) -> None:
        """A write that nobody guards."""
        version = int(self.live["metadata"]["resourceVersion"]) if self.live else 0
        added = {"uid": "s", "resourceVersion": str(version + 1)}
        self.live = {**copy.deepcopy(dict(body)), "metadata": {**body["metadata"], **added}}

    async def get(self, kind: str, namespace: str | None, name: str) -> Object:
        assert (kind, namespace, name) == ("Service", NAMESPACE, SERVICE)
        self._die("get", WHENS[0])
        if self.live is None:
            raise NotFound(404, "NotFound", f'services "{name}" not found')
        self._die("get", WHENS[1])
        return copy.deepcopy(self.live)

    async def apply(self, body: Object, observed: Object) -> Object:
        self._die("apply", WHENS[0])
        self.meanwhile()
        assert self.live is not None
        if any(observed["metadata"][guard] != self.live["metadata"][guard] for guard in ("uid", "resourceVersion")):
            raise Conflict(409, "Conflict", "the object has been modified")
        self.writes += 1
        self.change(body)
        self._die("apply", WHENS[1])
        return copy.deepcopy(self.live)

    def _die(self, request: str, when: str) -> None:
        if self.dies == (request, when):
            self.dies = None
            raise Died(f"{when} {request}")


class Operator:
    """A process with one service, and with one bucket, through which it may die."""

    def __init__(self, client: OneService, bucket: Bucket, model: str) -> None:
        self._registry = Registry(inline, lambda: bucket)
        self._promotions = Promotions(client, self._registry, inline, lambda: bucket)
        self._model = model

    def promote(self, version: int, reason: str = "NewestVersion") -> Object:
        return ended(self._promotions.promote(NAMESPACE, service(version), Promote(self._model, version, reason, ACTOR)))

    def recover(self) -> int | None:
        found = ended(self._promotions.recover(NAMESPACE, self._model, SERVICE))
        return found.version if found else None

    def serves(self) -> int | None:
        found = ended(self._registry.model(NAMESPACE, self._model)).production.get(SERVICE)
        return found.version if found else None


@pytest.fixture
def registered(direct: Bucket, model: str) -> str:
    """A model with two versions, of which none serves."""
    for number, (run, source) in enumerate((("first", RUN), ("second", SECOND)), 1):
        versions.reserve(direct, NAMESPACE, model, run, now=now())
        versions.register(direct, NAMESPACE, model, number, source, now=now())
    return model


def told(bucket: Bucket, model: str) -> list[tuple[str, int]]:
    """What the audit chain says of promotions."""
    found = audit.records(bucket, NAMESPACE, model)
    return [(item.action, item.details["version"]) for item in found if item.object == f"production/{SERVICE}.json"]


def history(bucket: Bucket, model: str) -> list[int]:
    found = production.read(bucket, NAMESPACE, model, SERVICE)
    return [served.version for served in found.history] if found else []


def once(version: int) -> list[tuple[str, int]]:
    return [("PromotionIntended", version), ("Promoted", version)]


def test_promotions_one_after_the_other(direct: Bucket, registered: str) -> None:
    client = OneService(service(None))
    operator = Operator(client, direct, registered)
    assert operator.serves() is None
    for version in (1, 2):
        applied = operator.promote(version)
        assert (selected(applied), applied) == (version, client.live)
        assert operator.serves() == version
    assert told(direct, registered) == once(1) + once(2)
    assert history(direct, registered) == [1, 2]
    records = audit.records(direct, NAMESPACE, registered)[2:]
    assert {item.actor for item in records} == {ACTOR}
    assert records[0].details == {"version": 1, "from": None, "reason": "NewestVersion"}
    # A repetition writes nothing.
    before = direct.list(layout.registry(NAMESPACE, registered))
    operator.promote(2)
    assert client.writes == 2
    assert direct.list(layout.registry(NAMESPACE, registered)) == before
    check(direct, registered)


def deaths(direct: Bucket, mortal: MortalBucket, seed: str) -> Iterator[tuple[str, OneService]]:
    """Promotions of version 2 that were cut off, version 1 serving: at each request to the bucket, and to the API server."""

    def begin(suffix: str) -> tuple[str, OneService]:
        prefix, own = layout.registry(NAMESPACE, seed), f"{seed}-{suffix}"
        for entry in direct.list(prefix):
            direct.copy(entry.key, layout.registry(NAMESPACE, own) + entry.key.removeprefix(prefix), entry.etag)
        return own, OneService(service(1))

    Operator(OneService(service(None)), direct, seed).promote(1)
    cut = 0
    for when in WHENS:
        for number in range(1, 100):
            own, client = begin(f"{when}-{number}")
            try:
                with mortal.dying(number, when):
                    Operator(client, mortal, own).promote(2, "before")
            except Died:
                cut += 1
                yield own, client
            else:
                break
        for request in ("get", "apply"):
            own, client = begin(f"{when}-{request}")
            client.dies = (request, when)
            with pytest.raises(Died):
                Operator(client, direct, own).promote(2, "before")
            yield own, client
    assert cut > 20


def test_a_death_at_every_step_and_the_same_wish_again(direct: Bucket, mortal: MortalBucket, registered: str) -> None:
    for own, client in deaths(direct, mortal, registered):
        check(direct, own)
        operator = Operator(client, direct, own)
        operator.promote(2, "after")
        assert (operator.serves(), selected(client.live), client.writes) == (2, 2, 1)
        assert told(direct, own) == once(1) + once(2)
        assert history(direct, own) == [1, 2]
        check(direct, own)


def test_a_death_at_every_step_and_no_wish_any_more(direct: Bucket, mortal: MortalBucket, registered: str) -> None:
    ends = set()
    for own, client in deaths(direct, mortal, registered):
        operator, switched = Operator(client, direct, own), selected(client.live) == 2
        for _ in range(2):
            # What is recorded as served is what the Service selects, whatever was meant.
            assert operator.recover() == operator.serves() == selected(client.live)
        end = told(direct, own)[2:]
        assert end in ([once(2)] if switched else [[], [("PromotionIntended", 2), ("PromotionVoided", 2)]])
        assert history(direct, own) == ([1, 2] if switched else [1])
        ends.add(tuple(end))
        check(direct, own)
    assert len(ends) == 3


def test_a_death_at_every_step_and_another_wish(direct: Bucket, mortal: MortalBucket, registered: str) -> None:
    for own, client in deaths(direct, mortal, registered):
        switched = selected(client.live) == 2
        operator = Operator(client, direct, own)
        operator.promote(1)
        assert (operator.serves(), selected(client.live)) == (1, 1)
        assert history(direct, own) == ([1, 2, 1] if switched else [1])
        check(direct, own)


def test_whoever_was_overtaken_looks_again(direct: Bucket, registered: str) -> None:
    """Another one writes the Service between the look at it and the switch."""
    client = OneService(service(None))
    operator = Operator(client, direct, registered)
    client.meanwhile = lambda: client.change(service(None))
    with pytest.raises(Conflict):
        operator.promote(1)
    assert (operator.serves(), selected(client.live), client.writes) == (None, None, 0)
    client.meanwhile = lambda: None
    operator.promote(1)
    assert told(direct, registered) == once(1)


def test_an_intent_that_another_process_voided(direct: Bucket, registered: str) -> None:
    client = OneService(service(None))
    operator, other = Operator(client, direct, registered), Operator(OneService(service(None)), direct, registered)

    def void() -> None:
        assert other.recover() is None

    client.meanwhile = void
    with pytest.raises(Conflict, match=r"the promotion of version 1 by audit record 3 was voided\."):
        operator.promote(1)
    operator.promote(1)
    assert told(direct, registered) == [("PromotionIntended", 1), ("PromotionVoided", 1), *once(1)]
    assert (operator.serves(), client.writes) == (1, 1)
    check(direct, registered)


@pytest.mark.parametrize("owner", ["predecessor", None])
def test_a_service_that_is_not_ours_is_left_alone(direct: Bucket, registered: str, owner: str | None) -> None:
    foreign = service(None, owner or "")
    if owner is None:
        del foreign["metadata"]["ownerReferences"]
    client = OneService(foreign)
    with pytest.raises(Conflict, match="Service flight-delay is not that of this InferenceService"):
        Operator(client, direct, registered).promote(1)
    assert client.writes == 0
    assert told(direct, registered) == []


def test_what_cannot_be_promoted(direct: Bucket, registered: str) -> None:
    absent = Operator(OneService(None), direct, registered)
    with pytest.raises(NotFound):
        absent.promote(1)
    with pytest.raises(NotFound):
        absent.recover()
    client = OneService(service(None))
    with pytest.raises(Missing, match="has no committed version 7"):
        Operator(client, direct, registered).promote(7)
    assert client.writes == 0
    assert told(direct, registered) == []


def test_a_selector_that_somebody_wrote(direct: Bucket, registered: str) -> None:
    """It names no version: nothing was switched, and the promotion puts it right."""
    body = service(None)
    body["spec"]["selector"] = {"app": "mine"}
    client = OneService(body)
    operator = Operator(client, direct, registered)
    assert operator.recover() is None
    operator.promote(1)
    assert (operator.serves(), selected(client.live)) == (1, 1)
