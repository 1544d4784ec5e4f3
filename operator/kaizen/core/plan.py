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
class Settings:
    """What the operator was told and decisions depend on."""

    trainer_image: str = ""
    bucket_environment: Mapping[str, str] = field(default_factory=dict)
    """KAIZEN_BUCKET_… variables, the same for every Pod that reads or writes the bucket."""


@dataclass(frozen=True)
class RegistryEntry:
    """What the registry says of one version."""

    version: int
    state: str
    """Reserved, Committed or Abandoned."""
    uri: str
    digest: str | None = None
    reason: str | None = None
    """Why it was abandoned."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Of a committed version."""


@dataclass(frozen=True)
class Run:
    """What the bucket says of a TrainingJob's run."""

    uri: str
    progress: Mapping[str, Any] | None = None
    """How far the newest attempt is."""
    won: str | None = None
    """Uid of the Pod whose attempt ended well."""
    entry: RegistryEntry | None = None
    """The version that the run became, or will."""


@dataclass(frozen=True)
class Observed:
    """What is known of one object at one moment."""

    owner: Object
    children: tuple[Object, ...] = ()
    """Objects that the owner controls, and Pods that those control."""
    bucket: Bucket = Bucket(usable=True)
    settings: Settings = field(default_factory=Settings)
    related: tuple[Object, ...] = ()
    """Objects of our kinds that concern this one and are not its own."""
    run: Run | None = None
    """Of a TrainingJob that is not over."""
    entry: RegistryEntry | None = None
    """Of a ModelVersion."""

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

    @property
    def uid(self) -> str:
        return str(self.owner["metadata"]["uid"])


@dataclass(frozen=True)
class Ready:
    """The object is as declared."""

    reason: str
    message: str
    after_seconds: float | None = None
    """When to look again without an event; None when an event will come."""


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
class Register:
    """Make the files of a run's attempt that ended well a version of the model."""

    model: str
    run: str
    """Uid of the TrainingJob."""
    attempt: str
    """Uid of the Pod."""


@dataclass(frozen=True)
class Plan:
    """What to do: children to have, children to delete, status to show, and how this reconcile ends."""

    outcome: Outcome
    children: tuple[Child, ...] = ()
    deletions: tuple[Object, ...] = ()
    status: Mapping[str, Any] | None = field(default_factory=dict)
    """Status fields besides observedGeneration and the conditions Ready, Reconciling, Stalled; None leaves them as they are."""
    conditions: tuple[tuple[str, str, str, str], ...] = ()
    """Further conditions: type, status, reason, message."""
    suspend: tuple[Object, bool] | None = None
    """A Job that is to be suspended or to go on; the one field of a Job that may change."""
    register: Register | None = None
    """What to do in the registry; done when it is observed there."""
    records: tuple[Object, ...] = ()
    """Objects of our kinds to create when absent, without an owner: they outlive this one."""
    tenant: bool = False
    """The namespace needs what Kaizen's Pods run with: ServiceAccounts and, with one shared identity, its Secret."""
