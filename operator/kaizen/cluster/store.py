"""What the watches have shown, by key and by owner: reconciles read here and nowhere else.

An entry may be stale.  That is harmless, because every write is guarded by what was observed; and a vanished object
whose event was lost goes away with the next `replace`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kaizen.api.base import API_VERSION
from kaizen.core.objects import SERVICE_LABEL
from kaizen.core.plan import Key, Object

Term = tuple[str, ...]
"""What objects are looked up by: which relation, and to whom."""

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Store:
    """Objects by key, and keys by what they are looked up by: their controlling owner, service, or model."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        self._index: dict[Term, set[Key]] = {}
        self._deleted: dict[str, tuple[str, int]] = {}
        """uid → kind and last version of what went away since the latest list of its kind began: what is older than that
        is hearsay.  Newer states may come: an object also leaves a watch when it loses the label that is watched."""

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self._objects))

    def get(self, key: Key) -> Object | None:
        """The object as last seen, or None."""
        return self._objects.get(key)

    def children(self, owner_uid: str) -> tuple[Object, ...]:
        """All objects that an owner controls, in the order of their keys."""
        return self._found(("owner", owner_uid))

    def pods_of_service(self, namespace: str, service: str) -> tuple[Object, ...]:
        """All Pods that carry a service's label: between them and the service are a Deployment and its ReplicaSets."""
        return self._found(("service", namespace, service))

    def of_model(self, namespace: str, model: str) -> tuple[Object, ...]:
        """All objects of our kinds that concern a model."""
        return self._found(("model", namespace, model))

    def put(self, body: Object) -> bool:
        """Remember an object; False when this or a newer state of what has its name is known already."""
        key, known = key_of(body), self._objects.get(key_of(body))
        _, gone = self._deleted.get(body["metadata"]["uid"], ("", -1))
        if _version(body) <= max(gone, _version(known) if known is not None else -1):
            return False
        if known is not None:
            self._forget(key, known)
        self._objects[key] = trimmed(body)
        for term in _terms(body):
            self._index.setdefault(term, set()).add(key)
        return True

    def remove(self, body: Object) -> bool:
        """Forget an object that was deleted; False when it is unknown or has been made anew since."""
        key = key_of(body)
        self._deleted[body["metadata"]["uid"]] = (key.kind, _version(body))
        known = self._objects.get(key)
        if known is None or known["metadata"]["uid"] != body["metadata"]["uid"]:
            return False
        self._forget(key, known)
        return True

    def replace(self, listed: Iterable[Object], before: Mapping[Key, str], as_of: float = math.inf) -> list[Object]:
        """Make a kind agree with a full list: put what is newer, and drop what was known `before` and is not listed.

        `before` is what `begin_list` gave when the list was asked for; what the watch has shown since is newer than
        the list and stays, be it an object or its absence.  `as_of` is the list's own resourceVersion: a server that
        lags behind the watch cannot take away what is newer.  Returns all objects that changed or went away.
        """
        present: set[Key] = set()
        changed: list[Object] = []
        for body in listed:
            present.add(key_of(body))
            if self.put(body):
                changed.append(body)
        for key, uid in before.items():
            known = self._objects.get(key)
            if key in present or known is None or known["metadata"]["uid"] != uid:
                continue
            if _version(known) <= as_of:
                self._forget(key, known)
                changed.append(known)
        return changed

    def begin_list(self, kind: str) -> dict[Key, str]:
        """Key and uid of all known objects of a kind, for `replace`; one list of a kind at a time."""
        self._deleted = {uid: gone for uid, gone in self._deleted.items() if gone[0] != kind}
        return {key: body["metadata"]["uid"] for key, body in self._objects.items() if key.kind == kind}

    def _forget(self, key: Key, known: Object) -> None:
        del self._objects[key]
        for term in _terms(known):
            keys = self._index[term]
            keys.discard(key)
            if not keys:
                del self._index[term]

    def _found(self, term: Term) -> tuple[Object, ...]:
        return tuple(self._objects[key] for key in sorted(self._index.get(term, ())))


def key_of(body: Object) -> Key:
    """The key of an object."""
    return Key(body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"])


def owner_of(body: Object) -> dict[str, Any] | None:
    """The owner reference of the controller, or None."""
    references = body["metadata"].get("ownerReferences", ())
    return next((reference for reference in references if reference.get("controller")), None)


def trimmed(body: Object) -> Object:
    """An object without what no decision reads and what makes up most of its size."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    if _LAST_APPLIED in metadata.get("annotations", {}):
        metadata["annotations"] = {k: v for k, v in metadata["annotations"].items() if k != _LAST_APPLIED}
    return {**body, "metadata": metadata}


def _terms(body: Object) -> list[Term]:
    """What an object is looked up by."""
    metadata, found = body["metadata"], list[Term]()
    if owner := owner_of(body):
        found.append(("owner", owner["uid"]))
    if body["kind"] == "Pod" and (service := metadata.get("labels", {}).get(SERVICE_LABEL)):
        found.append(("service", metadata.get("namespace", ""), service))
    if body["apiVersion"] == API_VERSION and isinstance(model := body.get("spec", {}).get("model"), str):
        found.append(("model", metadata.get("namespace", ""), model))
    return found


def _version(body: Object) -> int:
    # Comparable as integers within one resource: KEP-5504.
    return int(body["metadata"]["resourceVersion"])
