"""The audit chain of a model: who did what, each record naming the digest of the one before it.

A record is created at the next number, under the condition that there is none.  Writing one is level-based: `same` says
which record would be this one already, so that a repetition after a crash finds it instead of writing a second one.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from kaizen.core.times import timestamp
from kaizen.registry import layout
from kaizen.registry.errors import Conflict, Missing
from kaizen.registry.manifest import sha256
from kaizen.registry.store import Bucket

__all__ = ["OPERATOR", "Break", "Draft", "Record", "append", "chain", "newest", "records", "verify"]

OPERATOR = "operator"
"""The actor when no person is behind it; callers add the generation that was acted on."""


@dataclass(frozen=True)
class Draft:
    """What is to be recorded."""

    action: str
    """Past participle in CamelCase: Registered, Promoted, …"""
    object: str
    """What it was done to: a key relative to the model's part of the registry."""
    digest: str | None
    """Of the version concerned."""
    details: Mapping[str, Any] = field(default_factory=dict)
    actor: str = OPERATOR
    """A verified person, or the operator and the generation it acted on."""


@dataclass(frozen=True)
class Record(Draft):
    """What was recorded."""

    sequence: int = 0
    time: str = ""
    previous: str | None = None
    """Digest of the record before, as stored; None for the first."""


_FIELDS = tuple(item.name for item in fields(Record))


@dataclass(frozen=True)
class Break:
    """Where a chain stops being one."""

    sequence: int
    message: str


def append(
    bucket: Bucket,
    namespace: str,
    model: str,
    draft: Draft,
    *,
    now: datetime,
    since: int = 0,
    same: Callable[[Record], bool] | None = None,
) -> Record:
    """Add a record and return it, or the first one after number `since` that is the `same` already.

    `since` bounds how much of the chain has to be read; the record cannot be older than that.
    """
    head = newest(bucket, namespace, model)
    # The newest one is read in any case: the next names its digest.
    sequence = max(1, min(since + 1, head) if same else head)
    body = b""
    while True:
        key = layout.audit_record(namespace, model, sequence)
        if sequence > head:
            previous = sha256(body) if body else None
            record = Record(**vars(draft), sequence=sequence, time=timestamp(now), previous=previous)
            try:
                bucket.create(key, _document(record))
                return record
            except Conflict:
                head = sequence  # somebody else's record, which may be the same
        try:
            body, _ = bucket.get(key)
        except Missing:
            pass  # a gap is for verify() to report; it must not stop what goes on
        else:
            found = _parsed(body)
            if same and found and sequence > since and same(found):
                return found
        sequence += 1


def newest(bucket: Bucket, namespace: str, model: str) -> int:
    """The number of the newest record; 0 when there is none."""
    return max(_sequences(bucket, namespace, model), default=0)


def records(bucket: Bucket, namespace: str, model: str, since: int = 0) -> tuple[Record, ...]:
    """The readable records after number `since`, oldest first."""
    found = (_parsed(body) for _, body in chain(bucket, namespace, model, since))
    return tuple(record for record in found if record)


def chain(bucket: Bucket, namespace: str, model: str, since: int = 0) -> tuple[tuple[int, bytes], ...]:
    """Number and content of each record after number `since`, as stored, oldest first."""
    wanted = (sequence for sequence in _sequences(bucket, namespace, model) if sequence > since)
    return tuple((sequence, bucket.get(layout.audit_record(namespace, model, sequence))[0]) for sequence in wanted)


def verify(stored: Iterable[tuple[int, bytes]]) -> Break | None:
    """The first place where a whole chain is broken; None when it is sound.  Pure.

    Records missing from the end cannot be seen from the chain alone: production pointers name the ones they rest on.
    """
    expected, previous = 1, None
    for sequence, body in stored:
        if sequence != expected:
            return Break(expected, f"record {expected} is missing")
        record = _parsed(body)
        if record is None:
            return Break(sequence, f"record {sequence} cannot be read")
        if record.sequence != sequence:
            return Break(sequence, f"record {sequence} says that it is record {record.sequence}")
        if record.previous != previous:
            if sequence == 1:
                return Break(sequence, "record 1 does not begin the chain: it was changed")
            return Break(sequence, f"record {sequence} does not follow record {sequence - 1}: one of the two was changed")
        expected, previous = sequence + 1, sha256(body)
    return None


def _sequences(bucket: Bucket, namespace: str, model: str) -> list[int]:
    found = (layout.audit_sequence(entry.key) for entry in bucket.list(layout.audit(namespace, model)))
    return [sequence for sequence in found if sequence]


def _document(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _FIELDS}


def _parsed(body: bytes) -> Record | None:
    try:
        document = json.loads(body)
        return Record(**{name: document[name] for name in _FIELDS}) if isinstance(document["details"], dict) else None
    except (KeyError, TypeError, ValueError):
        return None
