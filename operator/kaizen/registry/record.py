"""training.json of a model: what automatic training must not forget, changed by compare-and-swap."""

from collections.abc import Callable, Mapping
from typing import Any

from kaizen.core.training_record import TrainingRecord, from_json, to_json
from kaizen.registry import layout
from kaizen.registry.errors import Malformed, Missing
from kaizen.registry.store import Bucket
from kaizen.registry.swap import swap

__all__ = ["change", "read"]


def read(bucket: Bucket, namespace: str, model: str) -> TrainingRecord:
    """The record; an empty one before the first change.  Raises Malformed."""
    try:
        document, _ = bucket.read(layout.training(namespace, model))
    except Missing:
        return TrainingRecord()
    return _parsed(document)


def change(bucket: Bucket, namespace: str, model: str, transition: Callable[[TrainingRecord], TrainingRecord]) -> TrainingRecord:
    """Apply a transition and return the record as it then is; writes only what differs.  Raises Malformed.

    The transition may be asked several times, when others change the record meanwhile.
    """

    def apply(document: Mapping[str, Any] | None) -> Mapping[str, Any]:
        before = TrainingRecord() if document is None else _parsed(document)
        after = transition(before)
        return document if document is not None and after == before else to_json(after)

    return _parsed(swap(bucket, layout.training(namespace, model), apply))


def _parsed(document: Mapping[str, Any]) -> TrainingRecord:
    try:
        return from_json(document)
    except ValueError as error:
        raise Malformed("training.json in the bucket is not a record of automatic training: restore it, or delete it") from error
