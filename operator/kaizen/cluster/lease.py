"""The Lease: who reconciles.  One process leads, others wait; one that loses the Lease stops being an operator.

This keeps two processes from doing the same work, not from being wrong: every write is guarded by itself, because a
paused leader can wake up after its Lease has gone to another.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kaizen.cluster.client import ApiError, Client, Conflict, NotFound
from kaizen.core.plan import Object

DURATION_SECONDS = 15
RENEW_SECONDS = 5
RETRY_SECONDS = 1
_log = logging.getLogger(__name__)


class Lost(Exception):
    """The Lease could not be renewed in time, or another process has it."""


class Lease:
    """A Lease in the operator's namespace, held under the Pod's name."""

    def __init__(self, client: Client, namespace: str, name: str, identity: str) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._held: Object | None = None
        self.known = asyncio.Event()
        """Set once the API server has said who holds the Lease."""
        self._seen: tuple[str, float] = ("", 0.0)
        """The holder's last renewal, and when this process first saw it, on its own clock: two clocks may differ."""

    async def acquire(self) -> None:
        """Wait until this process holds the Lease."""
        while True:
            try:
                acquired = await self._try_acquire()
                self.known.set()
                if acquired:
                    return
            except Conflict:
                continue
            except ApiError as problem:
                _log.warning("the Lease cannot be read or written: %s", problem)
            await asyncio.sleep(RETRY_SECONDS)

    async def hold(self) -> None:
        """Renew until cancelled; raises Lost when the Lease is gone or was not renewed for its duration."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while True:
            await asyncio.sleep(RENEW_SECONDS if loop.time() - renewed < RENEW_SECONDS else RETRY_SECONDS)
            remaining = DURATION_SECONDS - RETRY_SECONDS - (loop.time() - renewed)
            try:
                async with asyncio.timeout(max(remaining, 0.1)):
                    await self._write(self._spec(self._held_spec()["acquireTime"], self._held_spec()["leaseTransitions"]))
                renewed = loop.time()
            except Conflict as problem:
                raise Lost(f"another process changed the Lease {self._name}") from problem
            except (ApiError, TimeoutError) as problem:
                _log.warning("the Lease was not renewed: %s", str(problem) or "no answer in time")
                if loop.time() - renewed > DURATION_SECONDS - RETRY_SECONDS:
                    raise Lost(f"the Lease {self._name} could not be renewed for {DURATION_SECONDS} s") from problem

    async def release(self) -> None:
        """Give the Lease up, so that a standby need not wait for its end."""
        if self._held is None:
            return
        spec = {**self._held_spec(), "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._client.replace({**self._held, "spec": spec})
        except ApiError as problem:
            _log.info("the Lease was not released: %s", problem)
        self._held = None

    async def _try_acquire(self) -> bool:
        try:
            lease = await self._client.get("Lease", self._namespace, self._name)
        except NotFound:
            metadata = {"name": self._name, "namespace": self._namespace}
            self._held = await self._client.create(
                {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": self._spec(_now(), 0)}
            )
            return True
        spec = lease.get("spec") or {}
        if not is_free(spec, self._identity, self._unchanged_seconds(lease)) and await self._holder_lives(spec):
            return False
        self._held = lease
        await self._write(self._spec(_now(), int(spec.get("leaseTransitions") or 0) + 1))
        return True

    def _unchanged_seconds(self, lease: Object) -> float:
        now, version = asyncio.get_running_loop().time(), lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, now)
        return now - self._seen[1]

    async def _holder_lives(self, spec: Mapping[str, Any]) -> bool:
        """Whether the holder's Pod exists: one that is gone cannot renew, and need not be waited for."""
        try:
            await self._client.get("Pod", self._namespace, spec["holderIdentity"])
        except NotFound:
            return False
        return True

    async def _write(self, spec: dict[str, Any]) -> None:
        if self._held is None:
            raise Lost("the Lease is not held")
        try:
            self._held = await self._client.replace({**self._held, "spec": spec})
        except Conflict:
            # The answer to an earlier write of our own may have been lost: then the Lease is ours, and newer than we know.
            present = await self._client.get("Lease", self._namespace, self._name)
            holders = {(lease.get("spec") or {}).get("holderIdentity") for lease in (self._held, present)}
            if holders != {self._identity}:
                raise
            # Written once more, because what was stored may be older than the caller takes it for.
            self._held = await self._client.replace({**present, "spec": spec})

    def _held_spec(self) -> dict[str, Any]:
        return dict(self._held["spec"]) if self._held is not None else {}

    def _spec(self, acquired: str, transitions: int) -> dict[str, Any]:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": DURATION_SECONDS,
            "acquireTime": acquired,
            "renewTime": _now(),
            "leaseTransitions": transitions,
        }


def is_free(spec: Mapping[str, Any], identity: str, unchanged_seconds: float) -> bool:
    """Whether a process of this identity may take a Lease: its own, given up, or unchanged for its duration.

    `unchanged_seconds` is for how long the process has seen the Lease as it is; the times in it are another clock's.
    """
    holder = spec.get("holderIdentity")
    if not holder or holder == identity:
        return True
    return unchanged_seconds > int(spec.get("leaseDurationSeconds") or DURATION_SECONDS)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
