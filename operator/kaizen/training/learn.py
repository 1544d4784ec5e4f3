"""From a chosen estimator to a model: fitted, its probabilities calibrated, its decision threshold found."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sklearn.pipeline import Pipeline

from kaizen.api.training_job import Recipe
from kaizen.training.data.prepare import Rows
from kaizen.training.judge.intervals import blocks_of
from kaizen.training.models import scores
from kaizen.training.models.calibrate import Calibration, calibrate, wrap
from kaizen.training.models.decision import decide
from kaizen.training.models.estimators import Choice
from kaizen.training.models.fit import Fitted, fit, freeze
from kaizen.training.models.out_of_fold import OutOfFold, out_of_fold

__all__ = ["Learned", "as_found", "learn"]


@dataclass(frozen=True, eq=False)
class Learned:
    """A model and how it came to be."""

    fitted: Fitted
    """As the estimator was fitted, without calibration."""
    calibration: Calibration | None
    """None with a regression."""
    threshold: float | None
    """Of two classes, the answer is the second from this probability on; None: the most probable one."""

    @property
    def pipeline(self) -> Pipeline:
        """What answers."""
        return self.fitted.pipeline if self.calibration is None else wrap(self.fitted.pipeline, self.calibration)

    @property
    def classes(self) -> list[Any] | None:
        """In the order of the probabilities; None with a regression."""
        return None if self.calibration is None else list(self.fitted.pipeline.classes_.tolist())

    def again(self, fitted: Fitted) -> "Learned":
        """The same curves and threshold behind another fit."""
        return replace(self, fitted=fitted)


def learn(choice: Choice, train: Rows, recipe: Recipe) -> Learned:
    """Fit, then calibrate and decide by answers out of fold, where either is wanted.  Raises Failure."""
    fitted = fit(choice, train, freeze(choice, train, recipe.data))
    if recipe.task == "Regression":
        return Learned(fitted, None, None)
    classes: Sequence[Any] = fitted.pipeline.classes_.tolist()
    if recipe.calibration == "None":
        why = "not calibrated: calibration is None"
    elif scores.has_scores_only(fitted.pipeline):
        why = "calibrated: the estimator has only scores, and its probabilities are fitted to them"
    else:
        why = ""
    looked_for = recipe.decision is not None and recipe.decision.threshold is None
    found: OutOfFold | None = None
    if not why or looked_for:
        found = out_of_fold(choice, fitted.frozen, train, recipe.data, classes)
    calibration = Calibration(None, None, None, why) if why else calibrate(found, train.target, classes, blocks_of(train).of_rows)
    threshold = None
    if recipe.decision is not None:
        probabilities = None if found is None else calibration.probabilities(found.scores, found.answers)
        truth = train.target if found is None else train.target[found.rows]
        threshold = decide(recipe.decision, probabilities, truth, classes)
    return Learned(fitted, calibration, threshold)


def as_found(pipeline: Pipeline, recipe: Recipe) -> Learned:
    """A model that was made elsewhere, as it is; only a declared threshold is added.  Raises Failure."""
    fitted = Fitted(pipeline, {}, ())
    if recipe.task == "Regression":
        return Learned(fitted, None, None)
    calibration = Calibration(None, None, None, "not calibrated: the model was made by the container")
    if recipe.decision is None:
        return Learned(fitted, calibration, None)
    return Learned(fitted, calibration, decide(recipe.decision, None, [], pipeline.classes_.tolist()))  # type: ignore[arg-type]
