"""Children: what counts as the same, what is written, and whose name it is."""

import asyncio
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaizen.cluster.client import CHILD_MANAGER, Client, Conflict, NotFound
from kaizen.cluster.store import Store, key_of
from kaizen.control.children import APPLIED, Children, NameTaken, contains, is_managed, with_digest
from kaizen.core.plan import Child, Key, Object, Observed
from tests.support.objects import address, changed, inference_service

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("abc", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=8,
)

CONTAINS: dict[str, tuple[Any, Any, bool]] = {
    "equal": ({"a": 1}, {"a": 1}, True),
    "more was observed": ({"a": 1, "b": 2}, {"a": 1}, True),
    "more was observed, deeply": ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, True),
    "more was observed in an item": ([{"port": 80, "nodePort": 30001}], [{"port": 80}], True),
    "a field is missing": ({"b": 2}, {"a": 1}, False),
    "a field differs": ({"a": 2}, {"a": 1}, False),
    "a field is there, as nothing": ({"a": None}, {"a": {}}, False),
    "nothing is wanted": ({"a": 1}, {}, True),
    "an item too many": ([1, 2], [1], False),
    "an item too few": ([1], [1, 2], False),
    "another order": ([2, 1], [1, 2], False),
    "a tuple is a list": ([1, 2], (1, 2), True),
    "a text is no list": ("ab", ["a", "b"], False),
    "an object is no list": ({"0": 1}, [1], False),
    "a list is no object": ([1], {"0": 1}, False),
}


@pytest.mark.parametrize(("observed", "wanted", "expected"), CONTAINS.values(), ids=CONTAINS)
def test_contains(observed: Any, wanted: Any, expected: bool) -> None:
    assert contains(observed, wanted) is expected


@given(value=JSON)
def test_everything_contains_itself(value: Any) -> None:
    assert contains(value, copy.deepcopy(value))


@given(observed=st.dictionaries(st.sampled_from("xyz"), JSON), defaulted=st.dictionaries(st.sampled_from("uvw"), JSON))
def test_added_fields_never_matter(observed: dict[str, Any], defaulted: dict[str, Any]) -> None:
    assert contains({**observed, **defaulted}, observed)


def test_digest_is_of_content_and_not_of_order() -> None:
    body = {"kind": "Service", "metadata": {"name": "a", "annotations": {"team": "a"}}, "spec": {"x": 1, "y": 2}}
    shuffled = {"spec": {"y": 2, "x": 1}, "metadata": {"annotations": {"team": "a"}, "name": "a"}, "kind": "Service"}
    original = copy.deepcopy(body)
    made = with_digest(body)
    assert body == original
    assert made["metadata"]["annotations"] == {"team": "a", APPLIED: made["metadata"]["annotations"][APPLIED]}
    assert made == with_digest(shuffled)
    assert made["metadata"]["annotations"] != with_digest({**body, "spec": {"x": 1}})["metadata"]["annotations"]


OWNER: Object = {
    **inference_service(),
    "metadata": {"name": "flight-delay", "namespace": "team-a", "uid": "owner", "generation": 1},
}
SERVICE = address(Observed(OWNER))
CHILD = Child(SERVICE)
KEY = key_of(SERVICE)


def test_managed_children_carry_the_label_that_is_watched() -> None:
    assert is_managed(SERVICE)
    assert not is_managed({"metadata": {"name": "a"}})


@dataclass
class Server(Client):
    """What children need of an API server: names are taken once, versions guard, defaults and spellings are its own.

    An apply only adds and changes: no test here lets it stand for the removal of a field.
    """

    objects: dict[Key, dict[str, Any]] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    respell: Callable[[dict[str, Any]], dict[str, Any]] = lambda body: body
    before_get: Callable[["Server"], None] = lambda _: None

    async def get(self, kind: str, namespace: str | None, name: str) -> Object:
        self.before_get(self)
        try:
            return self.objects[Key(kind, namespace or "", name)]
        except KeyError:
            raise NotFound(404, "NotFound", f"{kind} {name} not found") from None

    async def create(self, body: Object, manager: str = CHILD_MANAGER) -> Object:
        if key_of(body) in self.objects:
            raise Conflict(409, "AlreadyExists", "already exists")
        self.writes.append("create")
        return self.keep(body)

    async def create_applied(self, body: Object) -> Object:
        return await self.create(body)

    async def apply(self, body: Object, observed: Object) -> Object:
        known = self.objects.get(key_of(body))
        if known is None:
            raise NotFound(404, "NotFound", "not found")
        if any(known["metadata"][guard] != observed["metadata"][guard] for guard in ("uid", "resourceVersion")):
            raise Conflict(409, "Conflict", "the object has been modified")
        self.writes.append("apply")
        merged = self.respell(_merge(known, body))
        return known if merged == known else self.keep(merged)

    def keep(self, body: Object) -> dict[str, Any]:
        """Store an object under the next version."""
        known = self.objects.get(key_of(body))
        version = int(known["metadata"]["resourceVersion"]) + 1 if known else 1
        stored = self.respell(copy.deepcopy(dict(body)))
        stored["metadata"] = {"uid": "child", **stored["metadata"], "resourceVersion": str(version)}
        self.objects[key_of(body)] = stored
        return stored


def _merge(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: _merge(old.get(name), value) for name, value in new.items()}}
    return copy.deepcopy(new)


def settled(server: Server, children: Children, child: Child = CHILD) -> list[str]:
    """Ensure a child until nothing is written any more, as reconciles do; returns what was written."""
    start = len(server.writes)
    for _ in range(5):
        if not asyncio.run(children.ensure(child, OWNER, server.objects.get(KEY))):
            return server.writes[start:]
    raise AssertionError(f"writes never end: {server.writes}")


def respelled(body: dict[str, Any]) -> dict[str, Any]:
    """The server writes a quantity or a port in its own way."""
    return changed(body, "spec.ports.0.targetPort", "8080")


def test_absent_child_is_created_once() -> None:
    server = Server()
    assert settled(server, Children(server)) == ["create"]
    assert server.objects[KEY]["metadata"]["ownerReferences"][0]["uid"] == "owner"


def test_fields_that_others_added_stay_and_cause_no_write() -> None:
    server = Server()
    children = Children(server)
    settled(server, children)
    server.keep(changed(server.objects[KEY], "spec.clusterIP", "10.0.0.7"))
    assert settled(server, children) == []


def test_field_that_somebody_changed_is_changed_back() -> None:
    server = Server()
    children = Children(server)
    settled(server, children)
    server.keep(changed(server.objects[KEY], "spec.type", "NodePort"))
    assert settled(server, children) == ["apply"]
    assert server.objects[KEY]["spec"]["type"] == "ClusterIP"


def test_field_that_is_no_longer_wanted_is_noticed() -> None:
    server = Server()
    children = Children(server)
    settled(server, children)
    assert settled(server, children, Child(changed(dict(SERVICE), "spec.type", None))) == ["apply"]


def test_server_that_spells_a_value_differently_is_asked_once() -> None:
    server = Server(respell=respelled)
    children = Children(server)
    assert settled(server, children) == ["create", "apply"]
    assert settled(server, children) == []
    children.forget_gone(Store())
    assert settled(server, children) == ["apply"]


UNTOUCHED = {
    "created once": (Child(SERVICE, created_once=True), {}),
    "being deleted": (CHILD, {"deletionTimestamp": "2026-03-01T12:00:00Z"}),
}


@pytest.mark.parametrize(("child", "metadata"), UNTOUCHED.values(), ids=UNTOUCHED)
def test_child_is_not_touched(child: Child, metadata: dict[str, str]) -> None:
    server = Server()
    stored = server.keep(changed(dict(SERVICE), "spec.type", "NodePort"))
    stored["metadata"] |= metadata
    assert settled(server, Children(server), child) == []


def test_out_of_date_observation_is_refused() -> None:
    server = Server()
    old = server.keep(changed(dict(SERVICE), "spec.type", "NodePort"))
    server.keep(changed(old, "spec.type", "ExternalName"))
    with pytest.raises(Conflict):
        asyncio.run(Children(server).ensure(CHILD, OWNER, old))
    assert server.writes == []


REFERENCE = "metadata.ownerReferences.0"
NOT_OURS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "nobody's": (
        changed(dict(SERVICE), "metadata.ownerReferences", []),
        NameTaken,
        "Service flight-delay exists and is not Kaizen's: delete or rename it, or rename this InferenceService.",
    ),
    "somebody else's": (
        changed(changed(dict(SERVICE), f"{REFERENCE}.uid", "other"), f"{REFERENCE}.name", "other"),
        NameTaken,
        "is not Kaizen's",
    ),
    "owned by us, controlled by nobody": (changed(dict(SERVICE), f"{REFERENCE}.controller", False), NameTaken, "is not Kaizen's"),
    "our predecessor's": (changed(dict(SERVICE), f"{REFERENCE}.uid", "earlier"), Conflict, "already exists"),
}


@pytest.mark.parametrize(("present", "problem", "sentence"), NOT_OURS.values(), ids=NOT_OURS)
def test_name_that_is_taken(present: dict[str, Any], problem: type[Exception], sentence: str) -> None:
    server = Server()
    server.keep(present)
    with pytest.raises(problem, match=sentence):
        asyncio.run(Children(server).ensure(CHILD, OWNER, None))
    assert server.writes == []


def test_own_child_that_the_store_does_not_show_yet_is_fine() -> None:
    server = Server()
    server.keep(SERVICE)
    assert asyncio.run(Children(server).ensure(CHILD, OWNER, None)) is False
    assert server.writes == []


def test_name_that_became_free_meanwhile_is_tried_again() -> None:
    server = Server(before_get=lambda self: self.objects.clear())
    server.keep(SERVICE)
    with pytest.raises(Conflict):
        asyncio.run(Children(server).ensure(CHILD, OWNER, None))
