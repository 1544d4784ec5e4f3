"""A promotion, from the wish to the last record; the only place where a Service begins to select another version.

    look at the Service → audit: PromotionIntended → Service switched → production/<service>.json → audit: Promoted

Killed between any two steps, nothing is lost and nothing happens twice: the Service itself, read live, says how far it
came, and each step finds what it did before.

    killed after the intent       the Service is as it was: the same wish finds its intent, another one voids it
    killed after the switch       the bucket still names the old version, so the same wish comes again: it finds its intent,
                                  and a Service that needs nothing; another wish, or recover(), closes the intent by what
                                  the Service selects by then
    killed after the pointer      the version counts as served; the next promotion, or recover(), adds Promoted
    killed after Promoted         nothing is left to do

The switch carries uid and resourceVersion of the Service that was looked at.  So whoever was overtaken (a person, a former
leader) writes nothing, and looks again.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from kaizen.cluster.client import Client, Conflict
from kaizen.cluster.store import owner_of
from kaizen.control.children import contains
from kaizen.control.registry import InThread, Registry
from kaizen.core.plan import Object, Production, Promote
from kaizen.core.serving import selected
from kaizen.registry import production
from kaizen.registry.store import Bucket

__all__ = ["Promotions"]


class Promotions:
    """Promotes versions; every method raises BucketError, and ApiError: Conflict and NotFound mean to look again."""

    def __init__(self, client: Client, registry: Registry, in_thread: InThread, bucket: Callable[[], Bucket]) -> None:
        self._client = client
        self._registry = registry
        self._in_thread = in_thread
        self._bucket = bucket

    async def promote(self, namespace: str, body: Object, promote: Promote) -> Object:
        """Let a service's Service be `body`, which selects the version; done when it was done before.

        Returns the Service as it then is.
        """
        name, model = body["metadata"]["name"], promote.model
        assert selected(body) == promote.version
        live = await self._client.get("Service", namespace, name)
        if not _same_owner(live, body):
            raise Conflict(409, "Conflict", f"Service {name} is not that of this InferenceService.")
        serving, now = selected(live), datetime.now(UTC)
        try:
            promotion = await self._in_thread(
                lambda: production.intend(
                    self._bucket(), namespace, model, name, promote.version,
                    serving=serving, reason=promote.reason, now=now, actor=promote.actor,
                )
            )  # fmt: skip
            if not contains(live, body):
                live = await self._client.apply(body, live)
            await self._in_thread(
                lambda: production.finish(self._bucket(), namespace, model, promotion, now=now, actor=promote.actor)
            )
        except production.PromotionVoided as problem:
            raise Conflict(409, "Conflict", f"{problem}.") from problem
        finally:
            self._registry.forget(namespace, model)
        return live

    async def recover(self, namespace: str, model: str, service: str) -> Production | None:
        """Close the intents that an earlier process left open, when none is wanted any more; returns what is served."""
        live = await self._client.get("Service", namespace, service)
        serving, now = selected(live), datetime.now(UTC)
        try:
            return await self._in_thread(
                lambda: production.recover(self._bucket(), namespace, model, service, serving=serving, now=now)
            )
        finally:
            self._registry.forget(namespace, model)


def _same_owner(live: Object, body: Object) -> bool:
    """Whether the Service that has the name is ours: applying to another's would take it over."""
    holder, owner = owner_of(live), owner_of(body)
    return holder is not None and owner is not None and holder["uid"] == owner["uid"]
