"""What automatic training must not forget: training.json of a model, changed by compare-and-swap.

Every change is a pure function of the record that does nothing when it was made already: a crash after the write, or an
answer that was lost, ends the same.  At most one job is open at a time, and it keeps its number until it is settled.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from kaizen.core.conditions import timestamp
from kaizen.registry import layout
from kaizen.registry.errors import Malformed, Missing
from kaizen.registry.store import Bucket
from kaizen.registry.swap import swap

__all__ = ["OpenJob", "TrainingRecord", "change", "from_json", "read", "to_json"]


@dataclass(frozen=True)
class OpenJob:
    """A training job that was decided and is not over."""

    number: int
    cause: str
    """Why, for people and for the name's sake: the trigger."""
    started: str
    drift: Mapping[str, float] = field(default_factory=dict)
    """Distance of each drifted feature that it answers."""


@dataclass(frozen=True)
class TrainingRecord:
    """The state of automatic training of one model."""

    next_job: int = 1
    """Never used before."""
    open: OpenJob | None = None
    last_started: str | None = None
    """When the newest job was decided: the cooldown counts from it."""
    failures_in_a_row: int = 0
    acknowledged: Mapping[str, float] = field(default_factory=dict)
    """Distance of each feature at which its drift was answered."""
    rolled_back: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By service, the versions that are skipped until a person names them."""

    def start(self, cause: str, drift: Mapping[str, float], now: datetime) -> "TrainingRecord":
        """Open a job, unless one is open: `open` then says its number."""
        if self.open:
            return self
        moment = timestamp(now)
        opened = OpenJob(self.next_job, cause, moment, dict(drift))
        return replace(self, next_job=self.next_job + 1, open=opened, last_started=moment)

    def settle(self, number: int, *, failed: bool, answered: bool) -> "TrainingRecord":
        """Close the open job if it has this number.

        `answered` acknowledges its drift: a successor was trained on it, promoted or not better.
        """
        if self.open is None or self.open.number != number:
            return self
        return replace(
            self,
            open=None,
            failures_in_a_row=self.failures_in_a_row + 1 if failed else 0,
            acknowledged={**self.acknowledged, **self.open.drift} if answered else self.acknowledged,
        )

    def skip(self, service: str, version: int) -> "TrainingRecord":
        """Remember that a version was rolled back from a service."""
        known = self.rolled_back.get(service, ())
        if version in known:
            return self
        return replace(self, rolled_back={**self.rolled_back, service: tuple(sorted((*known, version)))})

    def allow(self, service: str, version: int) -> "TrainingRecord":
        """A person named a version that was rolled back from a service."""
        known = self.rolled_back.get(service, ())
        if version not in known:
            return self
        left = tuple(number for number in known if number != version)
        others = {name: versions for name, versions in self.rolled_back.items() if name != service}
        return replace(self, rolled_back={**others, service: left} if left else others)


def read(bucket: Bucket, namespace: str, model: str) -> TrainingRecord:
    """The record; an empty one before the first change.  Raises Malformed."""
    try:
        document, _ = bucket.read(layout.training(namespace, model))
    except Missing:
        return TrainingRecord()
    return from_json(document)


def change(bucket: Bucket, namespace: str, model: str, transition: Callable[[TrainingRecord], TrainingRecord]) -> TrainingRecord:
    """Apply a transition and return the record as it then is; writes only what differs.  Raises Malformed.

    The transition may be asked several times, when others change the record meanwhile.
    """

    def apply(document: Mapping[str, Any] | None) -> Mapping[str, Any]:
        before = TrainingRecord() if document is None else from_json(document)
        after = transition(before)
        return document if document is not None and after == before else to_json(after)

    return from_json(swap(bucket, layout.training(namespace, model), apply))


def to_json(record: TrainingRecord) -> dict[str, Any]:
    """The record as it is stored."""
    job = record.open
    return {
        "nextJob": record.next_job,
        "open": job and {"number": job.number, "cause": job.cause, "started": job.started, "drift": dict(job.drift)},
        "lastStarted": record.last_started,
        "failuresInARow": record.failures_in_a_row,
        "acknowledged": dict(record.acknowledged),
        "rolledBack": {service: list(versions) for service, versions in record.rolled_back.items()},
    }


def from_json(document: Mapping[str, Any]) -> TrainingRecord:
    """The record that is stored so.  Raises Malformed."""
    try:
        job = document["open"]
        return TrainingRecord(
            next_job=int(document["nextJob"]),
            open=None if job is None else OpenJob(int(job["number"]), job["cause"], job["started"], _distances(job["drift"])),
            last_started=document["lastStarted"],
            failures_in_a_row=int(document["failuresInARow"]),
            acknowledged=_distances(document["acknowledged"]),
            rolled_back={name: tuple(int(number) for number in found) for name, found in document["rolledBack"].items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Malformed("training.json in the bucket is not a record of automatic training: restore it, or delete it") from error


def _distances(found: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(distance) for name, distance in found.items()}
