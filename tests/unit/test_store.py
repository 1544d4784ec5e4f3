"""The store against a pretended API server: whatever is created, deleted, listed and delivered in whatever order."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kaizen.cluster.store import Store, key_of, owner_of, trimmed
from kaizen.core.plan import Key

NAMES = ("a", "b", "c")
OWNERS = ("owner-1", "owner-2")


def service(name: str, version: int, uid: str = "u1", owner: str | None = None, kind: str = "Service") -> dict[str, Any]:
    """An object as a watch delivers it; `owner` is the uid of its controller."""
    metadata: dict[str, Any] = {"name": name, "namespace": "team-a", "uid": uid, "resourceVersion": str(version)}
    if owner:
        reference = {"kind": "InferenceService", "name": owner, "uid": owner, "controller": True}
        metadata["ownerReferences"] = [{"kind": "Other", "name": "x", "uid": "x"}, reference]
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def key(name: str, kind: str = "Service") -> Key:
    return Key(kind, "team-a", name)


class StoreMachine(RuleBasedStateMachine):
    """A server that numbers its changes, a watch that delivers them in order, and lists that overlap with both."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.version = 0
        self.server: dict[str, dict[str, Any]] = {}
        self.watch: list[tuple[str, dict[str, Any]]] = []
        self.list: tuple[list[dict[str, Any]], Any] | None = None

    @rule(name=st.sampled_from(NAMES), owner=st.none() | st.sampled_from(OWNERS))
    def write(self, name: str, owner: str | None) -> None:
        """Create an object, or change it and its owner."""
        self.version += 1
        known = self.server.get(name)
        uid = known["metadata"]["uid"] if known else f"uid-{self.version}"
        self.server[name] = service(name, self.version, uid, owner)
        self.watch.append(("MODIFIED" if known else "ADDED", self.server[name]))

    @precondition(lambda self: self.server)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        body = self.server.pop(data.draw(st.sampled_from(sorted(self.server))))
        self.version += 1
        # A deletion is delivered with a version of its own.
        gone = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        self.watch.append(("DELETED", gone))

    @precondition(lambda self: self.watch)
    @rule()
    def deliver(self) -> None:
        kind, body = self.watch.pop(0)
        known = self.store.get(key_of(body))
        changed = self.store.remove(body) if kind == "DELETED" else self.store.put(body)
        assert changed == (self.store.get(key_of(body)) != known)

    @precondition(lambda self: self.watch)
    @rule()
    def lose(self) -> None:
        """An event that never comes, as after an expired watch."""
        self.watch.pop(0)

    @precondition(lambda self: self.list is None)
    @rule()
    def begin_list(self) -> None:
        before = self.store.begin_list("Service")
        self.list = ([copy.deepcopy(body) for body in self.server.values()], before)

    @precondition(lambda self: self.list is not None)
    @rule()
    def end_list(self) -> None:
        assert self.list is not None
        listed, before = self.list
        self.list = None
        self.store.replace(listed, before)

    @precondition(lambda self: self.list is None)
    @rule()
    def list_at_rest(self) -> None:
        """With nothing under way, a list makes the store agree with the server, and says what it changed."""
        self.watch.clear()
        previous = {known: self.store.get(known) for known in self.store}
        changed = self.store.replace(self.server.values(), self.store.begin_list("Service"))
        assert {key_of(body): body for body in self.server.values()} == {k: self.store.get(k) for k in self.store}
        different = {k for k in {*previous, *self.store} if previous.get(k) != self.store.get(k)}
        assert {key_of(body) for body in changed} == different

    @invariant()
    def children_agree_with_objects(self) -> None:
        bodies = [body for known in sorted(self.store) if (body := self.store.get(known)) is not None]
        for owner in OWNERS:
            expected = [body for body in bodies if (owner_of(body) or {}).get("uid") == owner]
            assert self.store.children(owner) == tuple(expected)

    @invariant()
    def keys_agree_with_objects(self) -> None:
        assert all(key_of(self.store.get(known) or {}) == known for known in self.store)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=100, stateful_step_count=40)

PUTS: dict[str, tuple[dict[str, Any], bool]] = {
    "newer": (service("a", 11), True),
    "the same again": (service("a", 10), False),
    "older": (service("a", 9), False),
    "older by number and newer by text": (service("a", 9, owner="owner-1"), False),
    "made anew": (service("a", 11, uid="u2"), True),
    "of another kind": (service("a", 1, kind="Job"), True),
}


@pytest.mark.parametrize(("body", "taken"), PUTS.values(), ids=PUTS)
def test_put_over_version_10(body: dict[str, Any], taken: bool) -> None:
    store = Store()
    store.put(service("a", 10))
    assert store.put(body) is taken
    assert store.get(key("a", body["kind"])) == (body if taken else service("a", 10))


REMOVALS: dict[str, tuple[dict[str, Any], bool]] = {
    "the same object": (service("a", 12), True),
    "a predecessor": (service("a", 9, uid="u0"), False),
    "an unknown object": (service("b", 12), False),
}


@pytest.mark.parametrize(("body", "gone"), REMOVALS.values(), ids=REMOVALS)
def test_remove(body: dict[str, Any], gone: bool) -> None:
    store = Store()
    store.put(service("a", 10, owner="owner-1"))
    assert store.remove(body) is gone
    assert bool(store.children("owner-1")) is not gone


def test_replace_leaves_other_kinds_alone() -> None:
    store = Store()
    job = service("a", 1, kind="Job")
    store.put(job)
    assert store.replace([service("a", 2)], store.begin_list("Service")) == [service("a", 2)]
    assert store.get(key("a", "Job")) == job


@dataclass(frozen=True)
class Race:
    """What was known when a list was asked for, what it shows, and what the watch delivered before it arrived."""

    known: list[dict[str, Any]]
    listed: list[dict[str, Any]]
    meanwhile: list[tuple[str, dict[str, Any]]]
    expected: dict[str, Any] | None


MADE_ANEW = [("DELETED", service("a", 11)), ("ADDED", service("a", 12, uid="u2"))]
RACES = {
    "appeared since": Race([], [], [("ADDED", service("a", 11))], service("a", 11)),
    "changed since": Race([service("a", 10)], [service("a", 10)], [("MODIFIED", service("a", 11))], service("a", 11)),
    "made anew since, listed in between": Race([service("a", 10)], [], MADE_ANEW, service("a", 12, uid="u2")),
    "made anew since, listed before": Race([service("a", 10)], [service("a", 10)], MADE_ANEW, service("a", 12, uid="u2")),
    "deleted since": Race([service("a", 10)], [service("a", 10)], [("DELETED", service("a", 11))], None),
    "appeared and deleted since, listed in between": Race(
        [], [service("a", 10)], [("ADDED", service("a", 10)), ("DELETED", service("a", 11))], None
    ),
}


@pytest.mark.parametrize("race", RACES.values(), ids=RACES)
def test_list_that_races_with_the_watch_keeps_what_is_newer(race: Race) -> None:
    store = Store()
    for body in race.known:
        store.put(body)
    before = store.begin_list("Service")
    for kind, body in race.meanwhile:
        _ = store.remove(body) if kind == "DELETED" else store.put(body)
    store.replace(race.listed, before)
    assert store.get(key("a")) == race.expected


def test_answer_to_a_write_does_not_bring_back_what_was_deleted_meanwhile() -> None:
    store = Store()
    store.put(service("a", 10))
    store.remove(service("a", 12))
    assert store.put(service("a", 11)) is False
    assert store.get(key("a")) is None


def test_object_that_left_the_watch_and_came_back_is_known_again() -> None:
    store = Store()
    store.put(service("a", 10))
    store.remove(service("a", 11))  # It lost the label that is watched.
    assert store.put(service("a", 12)) is True
    assert store.remove(service("a", 13)) is True


def test_list_of_a_lagging_server_takes_nothing_away_that_is_newer() -> None:
    store = Store()
    store.put(service("a", 100))
    store.put(service("b", 80))
    before = store.begin_list("Service")
    assert store.replace([], before, as_of=90) == [service("b", 80)]
    assert store.get(key("a")) == service("a", 100)


def test_children_come_in_the_order_of_their_keys() -> None:
    store = Store()
    for name in ("c", "a", "b"):
        store.put(service(name, 1, owner="owner-1"))
    assert [body["metadata"]["name"] for body in store.children("owner-1")] == ["a", "b", "c"]
    assert store.children("owner-2") == ()


def test_keys_may_be_walked_while_the_store_changes() -> None:
    store = Store()
    store.put(service("a", 1))
    for _ in store:
        store.put(service("b", 2))


def test_trimmed_drops_bulk_and_keeps_the_rest_and_the_original() -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "a"}
    body = service("a", 1)
    body["metadata"] |= {"managedFields": [{}], "annotations": annotations}
    original = copy.deepcopy(body)
    small = trimmed(body)
    assert small["metadata"] == {**service("a", 1)["metadata"], "annotations": {"team": "a"}}
    assert body == original


def test_owner_is_the_controller_only() -> None:
    assert owner_of(service("a", 1)) is None
    body = service("a", 1, owner="owner-1")
    assert (owner_of(body) or {})["uid"] == "owner-1"
    body["metadata"]["ownerReferences"].pop()
    assert owner_of(body) is None


def test_object_without_a_namespace_has_a_key() -> None:
    assert key_of({"kind": "Namespace", "metadata": {"name": "team-a"}}) == Key("Namespace", "", "team-a")
