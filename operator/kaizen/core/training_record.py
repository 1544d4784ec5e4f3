"""What automatic training of a model must not forget, as a pure value: transitions, and the JSON it is stored as.

Every change is a function of the record that does nothing when it was made already: a crash after the write, or an
answer that was lost, ends the same.  At most one job is open at a time, and it keeps its number until it is settled.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from kaizen.core.times import timestamp

__all__ = ["OpenJob", "TrainingRecord", "from_json", "to_json"]


@dataclass(frozen=True)
class OpenJob:
    """A training job that was decided and is not over."""

    number: int
    service: str
    """Which InferenceService makes it."""
    cause: str
    """Why: the trigger."""
    started: str
    spec: str
    """Uid and generation of the service's spec that it follows: an edit of it is a person's word to try again."""
    drift: Mapping[str, float] = field(default_factory=dict)
    """Distance of each drifted feature that it answers."""


@dataclass(frozen=True)
class TrainingRecord:
    """The state of automatic training of one model."""

    next_job: int = 1
    """Never used before."""
    open: OpenJob | None = None
    last: OpenJob | None = None
    """The newest job that was settled: the cooldown counts from its start."""
    failures_in_a_row: int = 0
    """Of jobs that followed the same spec."""
    acknowledged: Mapping[str, float] = field(default_factory=dict)
    """Distance of each feature at which its drift was answered."""
    rolled_back: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """By service, the versions that are skipped until a person names them, and why."""

    def start(self, service: str, cause: str, drift: Mapping[str, float], spec: str, now: datetime) -> "TrainingRecord":
        """Open a job, unless one is open: `open` then says its number."""
        if self.open:
            return self
        opened = OpenJob(self.next_job, service, cause, timestamp(now), spec, dict(drift))
        return replace(self, next_job=self.next_job + 1, open=opened)

    def settle(self, number: int, *, failed: bool, answered: bool) -> "TrainingRecord":
        """Close the open job if it has this number.

        `answered` acknowledges its drift: a successor was trained on it, promoted or not better.
        """
        if self.open is None or self.open.number != number:
            return self
        before = self.failures_in_a_row if self.last and self.last.spec == self.open.spec else 0
        return replace(
            self,
            open=None,
            last=self.open,
            failures_in_a_row=before + 1 if failed else 0,
            acknowledged={**self.acknowledged, **self.open.drift} if answered else self.acknowledged,
        )

    def skip(self, service: str, version: int, reason: str) -> "TrainingRecord":
        """Remember that a version was rolled back from a service, or never answered for it; the first reason stays."""
        known = self.rolled_back.get(service, {})
        if version in known:
            return self
        return replace(self, rolled_back={**self.rolled_back, service: dict(sorted({**known, version: reason}.items()))})

    def allow(self, service: str, version: int) -> "TrainingRecord":
        """A person named a version that was rolled back from a service."""
        known = self.rolled_back.get(service, {})
        if version not in known:
            return self
        left = {number: reason for number, reason in known.items() if number != version}
        others = {name: versions for name, versions in self.rolled_back.items() if name != service}
        return replace(self, rolled_back={**others, service: left} if left else others)


def to_json(record: TrainingRecord) -> dict[str, Any]:
    """The record as it is stored."""
    return {
        "nextJob": record.next_job,
        "open": _job_to_json(record.open),
        "last": _job_to_json(record.last),
        "failuresInARow": record.failures_in_a_row,
        "acknowledged": dict(record.acknowledged),
        "rolledBack": {
            service: [{"version": version, "reason": reason} for version, reason in versions.items()]
            for service, versions in record.rolled_back.items()
        },
    }


def from_json(document: Mapping[str, Any]) -> TrainingRecord:
    """The record that is stored so.  Raises ValueError."""
    try:
        return TrainingRecord(
            next_job=int(document["nextJob"]),
            open=_job_from_json(document["open"]),
            last=_job_from_json(document["last"]),
            failures_in_a_row=int(document["failuresInARow"]),
            acknowledged=_distances(document["acknowledged"]),
            rolled_back={
                name: {int(one["version"]): str(one["reason"]) for one in found} for name, found in document["rolledBack"].items()
            },
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError("not a record of automatic training") from error


def _job_to_json(job: OpenJob | None) -> dict[str, Any] | None:
    return None if job is None else {**vars(job), "drift": dict(job.drift)}


def _job_from_json(document: Mapping[str, Any] | None) -> OpenJob | None:
    if document is None:
        return None
    service, cause, started, spec = (str(document[name]) for name in ("service", "cause", "started", "spec"))
    return OpenJob(int(document["number"]), service, cause, started, spec, _distances(document["drift"]))


def _distances(found: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(distance) for name, distance in found.items()}
