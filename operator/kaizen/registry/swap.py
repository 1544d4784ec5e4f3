"""Compare-and-swap: change a document that others may be changing at the same moment."""

from collections.abc import Callable, Mapping
from typing import Any

from kaizen.registry.errors import Conflict, Malformed, Missing
from kaizen.registry.store import Bucket

__all__ = ["Change", "swap"]

Change = Callable[[Mapping[str, Any] | None], Mapping[str, Any]]
"""From what is there (None: nothing) to what shall be; the very same object means that nothing is to be written.  May be
asked several times, so it must depend on its argument alone."""

ATTEMPTS = 100
"""Each one that fails is another writer's success; only a document that never comes to rest takes so many."""


def swap(bucket: Bucket, key: str, change: Change) -> Mapping[str, Any]:
    """Change a document; returns it as it then is.  Raises Malformed, and Conflict after very many attempts.

    After Unreachable the change may have happened: ask again, with a change that recognises itself.
    """
    found: Mapping[str, Any] | None
    try:
        found, etag = bucket.read(key)
    except Missing:
        found, etag = None, ""
    for attempt in range(ATTEMPTS):
        wanted = change(found)
        if wanted is found:
            return wanted
        try:
            return bucket.create(key, wanted) if found is None else bucket.replace(key, wanted, etag)
        except Conflict as conflict:
            if conflict.document is None:
                raise Malformed(
                    f"{bucket.settings.key(key)} in bucket {bucket.settings.name} is not a JSON document"
                ) from conflict
            if attempt == ATTEMPTS - 1:
                raise
            found, etag = conflict.document, conflict.etag
    raise AssertionError("the last attempt returns or raises")
