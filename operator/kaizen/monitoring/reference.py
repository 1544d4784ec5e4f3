"""The frozen reference of a model: how its training rows were distributed, and how that varied in time.

Counts by day are kept because rows of one day are alike: only whole stretches of training time tell how far a stretch of
serving time lies from the rest when nothing has changed (threshold.py).  Predictions are counted on held-out rows: on its
own training rows a forest is far surer of itself than on any others.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kaizen.monitoring.bins import Bins, Count, Kind, assign, count, freeze

__all__ = ["BLOCK_SECONDS", "FeatureReference", "Reference", "Role", "build", "from_json", "to_json"]

BLOCK_SECONDS = 86400
"""A day, in which traffic repeats itself."""

MOST_BLOCKS = 400
"""Kept in a reference: a longer training period gets longer blocks."""

Role = Literal["Vote", "Context"]
"""Whether a feature's drift may start anything, or is only reported."""


@dataclass(frozen=True, eq=False)
class FeatureReference:
    """One column: its bins and what training counted in them."""

    bins: Bins
    counts: Count
    """(cells,)"""
    block_counts: Count | None = None
    """(blocks, cells), by time, blocks without rows included; adds up to counts.  None without a timestamp."""
    role: Role = "Vote"


@dataclass(frozen=True, eq=False)
class Reference:
    """What a model's servers count against."""

    features: tuple[FeatureReference, ...]
    prediction: FeatureReference
    """Of held-out rows: the probability of the positive class, of the likeliest class, or the predicted number."""
    block_seconds: int
    rows: int
    trained_until: str | None
    """ISO 8601 time of the newest training row; None without a timestamp."""


def build(
    columns: Mapping[str, npt.NDArray[Any]],
    kinds: Mapping[str, Kind],
    timestamps: npt.NDArray[np.int64] | None,
    held_out_predictions: npt.NDArray[Any],
    trained_until: str | None,
    context: Collection[str] = (),
) -> Reference:
    """The reference from the final training rows.

    Args:
        columns: each feature's values (rows,); numbers with NaN, or strings with None, where missing.
        kinds: the kind of each feature.
        timestamps: seconds since 1970 (rows,), in any order, or None.
        held_out_predictions: numbers (other rows,).
        trained_until: ISO 8601 time of the newest row, or None.
        context: features that are reported and have no vote.

    Raises:
        ValueError: columns or timestamps of different length, or nothing in them.
    """
    lengths = {len(values) for values in (*columns.values(), *([] if timestamps is None else [timestamps]))}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"columns and timestamps of a reference must have one length, at least 1; got {sorted(lengths)}")
    (rows,) = lengths
    block_seconds, blocks = (BLOCK_SECONDS, None) if timestamps is None else _blocks(timestamps)
    features = tuple(
        _feature(freeze(name, values, kinds[name]), values, blocks, "Context" if name in context else "Vote")
        for name, values in columns.items()
    )
    bins = freeze("prediction", held_out_predictions, "Numeric")
    prediction = FeatureReference(bins, count(bins, held_out_predictions))
    return Reference(features, prediction, block_seconds, rows, trained_until)


def _blocks(timestamps: npt.NDArray[np.int64]) -> tuple[int, npt.NDArray[np.int64]]:
    """The length of a block, and the block of each row counted from the first."""
    seconds = BLOCK_SECONDS
    while True:
        blocks = timestamps // seconds
        blocks = blocks - blocks.min()
        if blocks.max() < MOST_BLOCKS:
            return seconds, blocks
        seconds *= 2


def _feature(bins: Bins, values: npt.NDArray[Any], blocks: npt.NDArray[np.int64] | None, role: Role) -> FeatureReference:
    if blocks is None:
        return FeatureReference(bins, count(bins, values), None, role)
    number = int(blocks.max()) + 1
    flat = np.bincount(blocks * bins.cells + assign(bins, values), minlength=number * bins.cells)
    by_block = flat.reshape(number, bins.cells).astype(np.int64, copy=False)
    return FeatureReference(bins, by_block.sum(axis=0), by_block, role)


def to_json(reference: Reference) -> dict[str, Any]:
    """The JSON object kept as reference.json: at most MOST_BLOCKS times the cells of all features."""
    return {
        "format": 1,
        "rows": reference.rows,
        "trainedUntil": reference.trained_until,
        "blockSeconds": reference.block_seconds,
        "features": [_feature_to_json(feature) for feature in reference.features],
        "prediction": _feature_to_json(reference.prediction),
    }


def from_json(document: Mapping[str, Any]) -> Reference:
    """The reference of to_json's object; raises ValueError for another format or counts that do not fit their bins."""
    if document.get("format") != 1:
        raise ValueError(f"reference.json has format {document.get('format')!r}; this Kaizen reads format 1")
    return Reference(
        features=tuple(_feature_from_json(feature) for feature in document["features"]),
        prediction=_feature_from_json(document["prediction"]),
        block_seconds=int(document["blockSeconds"]),
        rows=int(document["rows"]),
        trained_until=document["trainedUntil"],
    )


def _feature_to_json(feature: FeatureReference) -> dict[str, Any]:
    blocks = {} if feature.block_counts is None else {"blockCounts": feature.block_counts.tolist()}
    return {"bins": feature.bins.to_json(), "role": feature.role, "counts": feature.counts.tolist(), **blocks}


def _feature_from_json(document: Mapping[str, Any]) -> FeatureReference:
    bins = Bins.from_json(document["bins"])
    counts = np.array(document["counts"], dtype=np.int64)
    blocks = np.array(document["blockCounts"], dtype=np.int64) if "blockCounts" in document else None
    if counts.shape != (bins.cells,) or (blocks is not None and blocks.shape[1:] != (bins.cells,)):
        raise ValueError(f"reference of {bins.name!r}: its counts do not have the {bins.cells} cells of its bins")
    if blocks is not None and not np.array_equal(blocks.sum(axis=0), counts):
        raise ValueError(f"reference of {bins.name!r}: its blocks do not add up to its counts")
    return FeatureReference(bins, counts, blocks, document["role"])
