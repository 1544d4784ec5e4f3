"""The word on a span of serving: which features lie further from their reference than chance and season explain."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from kaizen.monitoring.distance import psi
from kaizen.monitoring.reference import FeatureReference, Reference
from kaizen.monitoring.threshold import threshold
from kaizen.monitoring.windows import Counts

__all__ = ["FeatureVerdict", "Kind", "Verdict", "judge"]

Kind = Literal["NotEnoughData", "Stable", "Drifted"]

GROWTH = 1.5
"""How often an answered distance must be exceeded before the feature drifts again: a season never ends."""


@dataclass(frozen=True)
class FeatureVerdict:
    """How far one feature lies from its reference."""

    name: str
    distance: float
    threshold: float
    """What the distance had to exceed: the larger of the floor and the quantile of the null."""
    drifted: bool
    acknowledged: bool
    """It lies beyond the threshold, and a successor was already trained on that."""
    context: bool
    """Reported only."""


@dataclass(frozen=True)
class Verdict:
    """The word on all features."""

    kind: Kind
    rows: int
    features: tuple[FeatureVerdict, ...] = ()
    """In the reference's order; empty when there is not enough data."""
    prediction_distance: float | None = None
    """None when there is not enough data."""


def judge(
    reference: Reference,
    counts: Counts,
    *,
    floor: float,
    span_seconds: int,
    block_seconds: int | None = None,
    minimum_rows: int,
    context: Collection[str] = (),
    acknowledged: Mapping[str, float] | None = None,
    level: float = 0.01,
    seed: int = 0,
) -> Verdict:
    """The verdict on the counts of a span.

    Args:
        reference: of the version that served.
        counts: the sum of its windows in the span.
        floor: a distance up to which a shift is too small to matter, whatever its significance.
        span_seconds: the span's length.
        block_seconds: its length in the training data's own time, where that runs differently, as in a replay.  Spans are
            judged as multiples of the reference's blocks: one that is shorter, as one that lasts a block.
        minimum_rows: below which nothing is said.
        context: features without a vote, besides those that the reference calls so.
        acknowledged: distances of features that a successor has been trained on since.
        level: probability of a drifted feature where nothing has changed.
        seed: of the null's draws.

    Raises:
        ValueError: the counts are not of this reference's features and cells.
    """
    if counts.rows < max(1, minimum_rows):
        return Verdict("NotEnoughData", counts.rows)
    cells = {feature.bins.name: feature.bins.cells for feature in reference.features}
    counted = {name: len(one) for name, one in counts.counts.items()}
    if counted != cells or len(counts.prediction) != reference.prediction.bins.cells:
        raise ValueError("the windows were not counted in this reference's bins: they belong to another version")
    blocks = max(1, round((block_seconds or span_seconds) / reference.block_seconds))
    silent = {feature.bins.name for feature in reference.features if feature.role == "Context"} | set(context)
    voters = max(1, len(cells.keys() - silent))

    def verdict(feature: FeatureReference) -> FeatureVerdict:
        name = feature.bins.name
        distance = psi(feature.counts, counts.counts[name])
        limit = max(floor, threshold(feature, counts.rows, blocks, voters, level, seed))
        beyond = distance > limit and name not in silent
        answered = beyond and name in (acknowledged or {}) and distance <= GROWTH * (acknowledged or {})[name]
        return FeatureVerdict(name, distance, limit, beyond and not answered, answered, name in silent)

    features = tuple(verdict(feature) for feature in reference.features)
    prediction = psi(reference.prediction.counts, counts.prediction) if reference.prediction.counts.any() else None
    return Verdict("Drifted" if any(one.drifted for one in features) else "Stable", counts.rows, features, prediction)
