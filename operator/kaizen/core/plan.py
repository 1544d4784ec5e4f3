"""The vocabulary of the core: what is observed, what is planned, and how a reconcile can end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]
"""A Kubernetes object as the API gives it."""


@dataclass(frozen=True, order=True)
class Key:
    """Which object: kind, namespace, name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Bucket:
    """Whether the registry's bucket can be used."""

    usable: bool
    reason: str = "BucketUsable"
    message: str = ""


@dataclass(frozen=True)
class Observed:
    """What is known of one object at one moment."""

    owner: Object
    children: tuple[Object, ...] = ()
    bucket: Bucket = Bucket(usable=True)

    @property
    def generation(self) -> int:
        """The generation of the owner's spec."""
        return int(self.owner["metadata"]["generation"])

    @property
    def name(self) -> str:
        return str(self.owner["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.owner["metadata"]["namespace"])


@dataclass(frozen=True)
class Ready:
    """The object is as declared."""

    reason: str
    message: str


@dataclass(frozen=True)
class Waiting:
    """Nothing is wrong; something else has to happen first."""

    reason: str
    message: str
    after_seconds: float | None = None
    """When to look again without an event; None when an event will come."""


@dataclass(frozen=True)
class Retry:
    """Something failed that may work later; tried again with growing delay."""

    reason: str
    message: str


@dataclass(frozen=True)
class Terminal:
    """Something is wrong that only a person can change."""

    reason: str
    message: str
    after_seconds: float | None = None
    """When to look again, where the change would raise no event."""


Outcome = Ready | Waiting | Retry | Terminal


@dataclass(frozen=True)
class Child:
    """An object that should exist, owned by the reconciled one."""

    body: Object
    created_once: bool = False
    """Never changed after its creation: its template is immutable or its spec is a record."""


@dataclass(frozen=True)
class Plan:
    """What to do: children to have, children to delete, status to show, and how this reconcile ends."""

    outcome: Outcome
    children: tuple[Child, ...] = ()
    deletions: tuple[Object, ...] = ()
    status: Mapping[str, Any] | None = field(default_factory=dict)
    """Status fields besides observedGeneration and the conditions Ready, Reconciling, Stalled; None leaves them as they are."""
