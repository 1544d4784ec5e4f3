"""After the gates the same pipeline learns from all rows: a temporal test part holds exactly the newest ones.

The judged figures are those of the model before the refit.  So the refitted one must answer alike on rows that both have
learned from; otherwise the judged one is packaged, and the card says so.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kaizen.api.training_job import Recipe
from kaizen.training.data.prepare import Rows
from kaizen.training.data.split import Method
from kaizen.training.models.estimators import Choice
from kaizen.training.models.fit import Fitted, fit, outputs

__all__ = ["MOST_APART", "Refit", "refit", "wanted"]

MOST_APART = 0.1
"""For classes: mean total variation distance between both models' probabilities; for numbers: root mean square difference
in standard deviations of the target."""

COMPARED_ROWS = 10_000
"""The newest of the judged model's own rows."""


@dataclass(frozen=True, eq=False)
class Refit:
    """What came of it."""

    fitted: Fitted
    """The model to package."""
    rows: Rows
    """What it learned from."""
    done: bool
    distance: float | None
    """How far it is from the judged one; None when there was no refit."""
    message: str


def wanted(recipe: Recipe, method: Method) -> bool:
    """Automatic means: with a temporal split."""
    return recipe.refit == "Automatic" and method == "Temporal"


def refit(judged: Fitted, choice: Choice, train: Rows, everything: Rows) -> Refit:
    """Fit again on all rows with everything frozen, and compare."""
    again = fit(choice, everything, judged.frozen)
    if list(getattr(judged.pipeline, "classes_", ())) != list(getattr(again.pipeline, "classes_", ())):
        return Refit(judged, train, False, None, "not refitted: the test rows have a class that the judged model never saw")
    newest = train.frame.iloc[-COMPARED_ROWS:]
    distance = _distance(outputs(judged.pipeline, newest), outputs(again.pipeline, newest), train.target)
    if distance > MOST_APART:
        message = f"not refitted: on all rows it answers differently (distance {distance:.3f}, at most {MOST_APART})"
        return Refit(judged, train, False, distance, message)
    message = f"refitted on all {len(everything)} rows (distance to the judged model {distance:.3f}, at most {MOST_APART})"
    return Refit(again, everything, True, distance, message)


def _distance(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], target: npt.NDArray[np.generic]) -> float:
    if one.ndim == 2:
        return float(np.abs(one - other).sum(axis=1).mean() / 2)
    return math.sqrt(float(np.square(one - other).mean())) / float(np.std(target.astype(np.float64)))
