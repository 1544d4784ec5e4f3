"""The vocabulary of the core: what is observed, what is planned, and how a reconcile can end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaizen.core.training_record import TrainingRecord

if TYPE_CHECKING:
    # Only its shape is used here: NumPy stays out of the core.
    from kaizen.monitoring.verdict import Verdict

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
    server_image: str = ""
    server_sklearn_image: str = ""
    """Serves what the compiled engine does not cover."""
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
    """Why it was abandoned, or why a committed version's manifest cannot be shown; without a full stop."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Of a committed version."""


@dataclass(frozen=True)
class Served:
    """One promotion of a service's past."""

    version: int
    time: str
    reason: str


@dataclass(frozen=True)
class Production:
    """What a service serves."""

    version: int
    digest: str
    since: str
    audit: int
    """The record of the intent that this rests on."""
    history: tuple[Served, ...] = ()
    """The newest promotions, oldest first; the last is this one."""


@dataclass(frozen=True)
class ModelRegistry:
    """What the registry says of one model."""

    entries: tuple[RegistryEntry, ...] = ()
    """The committed versions, by number."""
    production: Mapping[str, Production] = field(default_factory=dict)
    """By service."""
    record: TrainingRecord = field(default_factory=TrainingRecord)

    def entry(self, version: int) -> RegistryEntry | None:
        """The committed version with this number."""
        return next((entry for entry in self.entries if entry.version == version), None)


@dataclass(frozen=True)
class Watched:
    """What the serving version's requests looked like over the last span."""

    version: int
    verdict: "Verdict | None"
    """On the newest span; None while there is no window at all."""
    span_end: str | None = None
    """ISO 8601 time at which the newest window ends."""
    drifted_in_a_row: int = 0
    """How many spans in a row say Drifted, counted back from the newest; not counted beyond what the policy asks for."""
    problem: str | None = None
    """Why nothing can be said, in a sentence."""


@dataclass(frozen=True)
class Run:
    """What the bucket says of a TrainingJob's run."""

    uri: str
    progress: Mapping[str, Any] | None = None
    """How far the newest attempt is."""
    won: str | None = None
    """Uid of the Pod whose attempt ended well."""
    repeats: int | None = None
    """The version that the attempt would only have made again, by its own word."""
    entry: RegistryEntry | None = None
    """The version that the run became, or will."""
    champion: Production | None = None
    """What serves the model's requests, for the gates to compare with; None when nothing does."""


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
    model: ModelRegistry | None = None
    """Of a TrainingJob's, InferenceService's or ModelVersion's model."""
    watched: Watched | None = None
    """Of an InferenceService that serves a version."""
    refused: str | None = None
    """Why the API server does not take a child as planned: its own words."""
    troubled: str | None = None
    """Why Pods are not made or not started, by the newest warning about them."""

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
class Promote:
    """Let a service's Service select a version: recorded before, switched, recorded after."""

    model: str
    version: int
    reason: str
    actor: str
    """Who wanted it, for the audit."""


@dataclass(frozen=True)
class Skip:
    """Do not follow a version with this service until a person names it."""

    model: str
    version: int
    action: str
    """The audit record's word: Refused where its files are not what was registered, else RolledBack."""
    reason: str


@dataclass(frozen=True)
class Allow:
    """A person named a version that was skipped."""

    model: str
    version: int


@dataclass(frozen=True)
class StartTraining:
    """Open the model's next training job."""

    model: str
    cause: str
    drift: Mapping[str, float]
    spec: str
    """Uid and generation of the service's spec."""


@dataclass(frozen=True)
class SettleTraining:
    """Close the model's open training job."""

    model: str
    number: int
    failed: bool
    answered: bool


Change = Register | Promote | Skip | Allow | StartTraining | SettleTraining
"""What can be done to the registry."""


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
    change: Change | None = None
    """What to do in the registry; done when it is observed there."""
    records: tuple[Object, ...] = ()
    """Objects of our kinds to create when absent, without an owner: they outlive this one."""
    tenant: bool = False
    """The namespace needs what Kaizen's Pods run with: ServiceAccounts and, with one shared identity, its Secret."""
