"""What monitoring found of a service, in the words of its condition Healthy and of its status."""

from typing import Any

from kaizen.core import runs
from kaizen.core.plan import Watched

__all__ = ["health", "status"]

MOST_FEATURES = 20
"""In a status; the farthest ones."""


def health(watched: Watched | None) -> tuple[str, str, str]:
    """Monitoring's word: status, reason and message."""
    if watched is None or (watched.verdict is None and watched.problem is None):
        return "Unknown", "NoRequests", "There is nothing to judge: no requests were counted in the newest spans."
    if watched.verdict is None:
        return "Unknown", "NoVerdict", str(watched.problem)
    verdict, tail = watched.verdict, f" {watched.problem}" if watched.problem else ""
    if verdict.kind == "NotEnoughData":
        return "Unknown", "NotEnoughData", f"The newest span has too few rows for a verdict.{tail}"
    if verdict.kind == "Stable":
        if known := [feature.name for feature in verdict.features if feature.acknowledged]:
            message = f"Nothing new: {runs.some(known)} still differs from the training data, and a retraining has answered that."
        else:
            message = "The requests look like the training data."
        return "True", "Stable", f"{message}{tail}"
    drifted = sorted((feature for feature in verdict.features if feature.drifted), key=lambda feature: -feature.distance)
    words = runs.some([f"{feature.name} (PSI {feature.distance:.3g}, limit {feature.threshold:.3g})" for feature in drifted])
    return "False", "DataDrift", f"Drifted from the training data: {words}.{tail}"


def status(watched: Watched | None) -> dict[str, Any] | None:
    """The verdict on the newest span as a status shows it; None when there is none."""
    if watched is None or watched.verdict is None or watched.span_end is None:
        return None
    verdict = watched.verdict
    farthest = sorted(
        verdict.features, key=lambda feature: (not feature.drifted, -feature.distance / max(feature.threshold, 1e-9))
    )
    drifted = [feature.name for feature in farthest if feature.drifted]
    distance = verdict.prediction_distance
    return runs.without_none(
        {
            "verdict": verdict.kind,
            "spanEnd": watched.span_end,
            "rows": verdict.rows,
            "driftedInARow": watched.drifted_in_a_row,
            "predictionDistance": None if distance is None else round(distance, 4),
            "drifted": runs.some(drifted) if drifted else None,
            "features": [
                {
                    "name": feature.name,
                    "distance": round(feature.distance, 4),
                    "threshold": round(feature.threshold, 4),
                    "drifted": feature.drifted,
                    "acknowledged": feature.acknowledged,
                    "context": feature.context,
                }
                for feature in farthest[:MOST_FEATURES]
            ],
        }
    )
