"""What the watches have shown, by key and by owner: reconciles read here and nowhere else.

An entry may be stale.  That is harmless, because every write is guarded by what was observed; and a vanished object
whose event was lost goes away with the next `replace`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from kaizen.core.plan import Key, Object

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Store:
    """Objects by key, and keys by the uid of their controlling owner."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        self._owned: dict[str, set[Key]] = {}

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self._objects))

    def get(self, key: Key) -> Object | None:
        """The object as last seen, or None."""
        return self._objects.get(key)

    def children(self, owner_uid: str) -> tuple[Object, ...]:
        """All objects that an owner controls, in the order of their keys."""
        return tuple(self._objects[key] for key in sorted(self._owned.get(owner_uid, ())))

    def put(self, body: Object) -> bool:
        """Remember an object; False when this or a newer state of it is known already."""
        key, known = key_of(body), self._objects.get(key_of(body))
        if known is not None and _same_uid(known, body) and _version(known) >= _version(body):
            return False
        if known is not None:
            self._forget(key, known)
        self._objects[key] = trimmed(body)
        if owner := owner_of(body):
            self._owned.setdefault(owner["uid"], set()).add(key)
        return True

    def remove(self, body: Object) -> bool:
        """Forget an object that was deleted; False when it is unknown or has been made anew since."""
        key = key_of(body)
        known = self._objects.get(key)
        if known is None or not _same_uid(known, body):
            return False
        self._forget(key, known)
        return True

    def replace(self, kind: str, listed: Iterable[Object], before: "frozenset[Key]") -> list[Object]:
        """Make a kind agree with a full list: put what is newer, and drop those of `before` that are not listed.

        `before` is what the store held when the list was asked for: what appeared since is kept.  Returns all objects
        that changed or went away.
        """
        present: set[Key] = set()
        changed: list[Object] = []
        for body in listed:
            present.add(key_of(body))
            if self.put(body):
                changed.append(body)
        for key in before - present:
            known = self._objects.get(key)
            if key.kind == kind and known is not None:
                self._forget(key, known)
                changed.append(known)
        return changed

    def keys(self, kind: str) -> "frozenset[Key]":
        """All keys of a kind."""
        return frozenset(key for key in self._objects if key.kind == kind)

    def _forget(self, key: Key, known: Object) -> None:
        del self._objects[key]
        if owner := owner_of(known):
            keys = self._owned[owner["uid"]]
            keys.discard(key)
            if not keys:
                del self._owned[owner["uid"]]


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


def _same_uid(one: Object, other: Object) -> bool:
    return bool(one["metadata"]["uid"] == other["metadata"]["uid"])


def _version(body: Object) -> int:
    # Comparable as integers within one resource: KEP-5504.
    return int(body["metadata"]["resourceVersion"])
