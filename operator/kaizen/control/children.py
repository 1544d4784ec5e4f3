"""Children as planned: created when absent, changed when different, never taken from somebody else."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from kaizen.api.base import GROUP
from kaizen.cluster.client import Client, Conflict, NotFound
from kaizen.cluster.store import Store, key_of, owner_of
from kaizen.core.objects import MANAGED_BY
from kaizen.core.plan import Child, Key, Object

APPLIED = f"{GROUP}/applied"
"""Annotation: digest of what was last applied.  It tells a field that is no longer wanted from one that never was."""


class NameTaken(Exception):
    """An object that is not ours has a child's name."""


class Children:
    """Brings children to what is planned, with as few requests as possible."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._settled: dict[Key, tuple[str, str]] = {}
        """Digest and resourceVersion of children whose stored form differs from ours only in how it is written."""

    async def ensure(self, child: Child, owner: Object, observed: Object | None) -> bool:
        """Create or change one child; True when something was written.

        Raises Conflict when what was observed is out of date, NameTaken when the name belongs to somebody else.
        """
        body = with_digest(child.body)
        if observed is None:
            return await self._create(body, owner, self._client.create if child.created_once else self._client.create_applied)
        if child.created_once or observed["metadata"].get("deletionTimestamp"):
            return False
        key, digest = key_of(body), body["metadata"]["annotations"][APPLIED]
        if contains(observed, body) or self._settled.get(key) == (digest, observed["metadata"]["resourceVersion"]):
            return False
        applied = await self._client.apply(body, observed)
        self._settled[key] = (digest, applied["metadata"]["resourceVersion"])
        return True

    async def ensure_record(self, body: Object, known: Object | None) -> None:
        """Create an object that outlives its maker, unless it is there; raises NameTaken when another one is."""
        if known is None:
            try:
                await self._client.create(body)
                return
            except Conflict:
                metadata = body["metadata"]
                known = await self._client.get(body["kind"], metadata["namespace"], metadata["name"])
        if known["spec"] != body["spec"]:
            raise NameTaken(f"{body['kind']} {body['metadata']['name']} exists and is of something else: delete or rename it.")

    def forget_gone(self, store: Store) -> None:
        """Drop what is remembered of children that are no longer there."""
        self._settled = {key: settled for key, settled in self._settled.items() if store.get(key) is not None}

    async def _create(self, body: Object, owner: Object, create: Callable[[Object], Awaitable[Object]]) -> bool:
        try:
            await create(body)
        except Conflict as conflict:
            await self._explain(body, owner, conflict)
            return False
        return True

    async def _explain(self, body: Object, owner: Object, conflict: Conflict) -> None:
        """Tell apart who has the name: ourselves (fine), what our predecessor left (wait), somebody else (raise)."""
        kind, metadata = body["kind"], body["metadata"]
        try:
            present = await self._client.get(kind, metadata["namespace"], metadata["name"])
        except NotFound:
            raise conflict from None
        holder = owner_of(present)
        if holder and holder["uid"] == owner["metadata"]["uid"]:
            if not is_managed(present):
                # Ours, without the label that lets us watch it: nobody would see it drift.
                await self._client.apply(body, present)
            return
        if holder and (holder["kind"], holder["name"]) == (owner["kind"], owner["metadata"]["name"]):
            raise conflict  # Made for an earlier object of this name: the garbage collector is about to take it.
        raise NameTaken(
            f"{kind} {metadata['name']} exists and is not Kaizen's: delete or rename it, or rename this {owner['kind']}."
        )


def with_digest(body: Object) -> dict[str, Any]:
    """A child's body with the digest of itself as an annotation."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
    metadata = body["metadata"]
    return {**body, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), APPLIED: digest}}}


def contains(observed: Any, wanted: Any) -> bool:
    """Whether everything wanted is there; what else is observed was set by defaulting or by others, and may stay."""
    if isinstance(wanted, Mapping):
        return isinstance(observed, Mapping) and all(
            key in observed and contains(observed[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(observed, list | tuple)
            and len(observed) == len(wanted)
            and all(contains(one, other) for one, other in zip(observed, wanted, strict=True))
        )
    return bool(observed == wanted)


def is_managed(body: Object) -> bool:
    """Whether an object carries the label that makes us watch it."""
    return bool(body["metadata"].get("labels", {}).get(MANAGED_BY) == "kaizen")
