"""Several fitted pipelines that answer together: a weighted mean of their probabilities or numbers (Wolpert 1992).

The weights are at least 0 and sum to 1 (Breiman 1996), and are found on answers of our own folds, which scikit-learn's
StackingClassifier cannot take: it wants each row judged once, and forward chaining never judges the oldest.  Once found they
are frozen, so that a refit has nothing to guess, and the fitted object is scikit-learn's VotingClassifier or -Regressor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.pipeline import Pipeline

from kaizen.api.training_job import Estimator
from kaizen.training.errors import Failure
from kaizen.training.judge.evaluate import score
from kaizen.training.models.catalogue import OURS
from kaizen.training.models.estimators import Choice, Task, choose
from kaizen.training.search.trials import Answered, Goal

__all__ = ["Stacked", "StackedChoice", "stack", "stacked"]

Numbers = npt.NDArray[np.float64]

NAME = "Stacking"
LEAST_WEIGHT = 0.02
"""A member with less is left out."""
ROUNDS = 500
BLOCKS = 20
"""Per fold: neighbouring rows are alike, so whole blocks of them are drawn again."""
DRAWS = 200
LEVEL = 0.05
COMPARED_ROWS = 20_000
"""Per fold, evenly thinned."""
SEED = 0


@dataclass(frozen=True)
class StackedChoice:
    """Members and their weights; a Choice."""

    members: tuple[Choice, ...]
    weights: tuple[float, ...]
    task: Task

    @property
    def name(self) -> str:
        """Stacking."""
        return NAME

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The members by name and parameters, and their weights; `stacked` is the inverse."""
        members = [{"name": member.name, "parameters": dict(member.parameters)} for member in self.members]
        return {"members": members, "weights": list(self.weights)}

    def changed(self, parameters: Mapping[str, Any]) -> "StackedChoice":
        """Itself; the members and weights are found together and cannot be changed one by one."""
        if parameters:
            raise Failure("Prepare", "InvalidEstimator", f"{NAME} has no parameter {next(iter(parameters))}: use estimator Auto")
        return self

    def parameter_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def pipeline(self, frame: pd.DataFrame, **more: Any) -> Pipeline:
        """Step `columns` passes everything on: each member has its own preprocessing inside step `model`."""
        self.changed(more)
        made = [(f"{member.name}{number}", member.pipeline(frame)) for number, member in enumerate(self.members, 1)]
        weights = list(self.weights)
        if self.task == "Classification":
            model: Any = VotingClassifier(made, voting="soft", weights=weights)
        else:
            model = VotingRegressor(made, weights=weights)
        return Pipeline([("columns", "passthrough"), ("model", model)])


@dataclass(frozen=True)
class Stacked:
    """A stack beside the best of its members, on folds whose answers its weights did not see."""

    choice: StackedChoice
    value: float
    alone: float
    low: float
    """How much better it is at least, at level 0.05; above 0 it wins by more than noise."""

    @property
    def wins(self) -> bool:
        """By more than noise."""
        return self.low > 0 and len(self.choice.members) > 1


def stacked(parameters: Mapping[str, Any], task: Task) -> StackedChoice:
    """From what `parameters` of a StackedChoice says.  Raises Failure InvalidEstimator."""
    # What Kaizen sets itself it sets again.
    given = [
        {**member, "parameters": {name: value for name, value in member.get("parameters", {}).items() if name not in OURS}}
        for member in parameters["members"]
    ]
    members = tuple(choose(Estimator.model_validate(member), task) for member in given)
    return StackedChoice(members, tuple(float(weight) for weight in parameters["weights"]), task)


def stack(
    members: Sequence[tuple[Choice, Sequence[Answered]]], target: npt.NDArray[Any], aim: Goal, task: Task, *, forward: bool
) -> Stacked | None:
    """Find weights, and judge them on folds that they were not found on.

    Args:
        members: choices with their answers on the same folds, the best alone first.
        target: of all training rows.
        aim: the objective; the weights are those of the least log loss or squared error.
        task: of all of them.
        forward: a fold is judged by weights of earlier folds only, as with Temporal.

    Returns:
        None when no fold can be judged so.
    """
    classes = sorted(set(pd.unique(target).tolist()), key=str) if task == "Classification" else None
    folds = [fold.rows for fold in members[0][1]]
    answers = [[_aligned(fold, classes) for fold in answered] for _, answered in members]
    sides = [
        range(number) if forward else [other for other in range(len(folds)) if other != number] for number in range(len(folds))
    ]
    judged = [(number, side) for number, side in enumerate(sides) if len(side)]
    if not judged:
        return None
    pairs = []
    for number, side in judged:
        weights = _weights([[of[other] for other in side] for of in answers], [target[folds[other]] for other in side], classes)
        chosen = np.linspace(0, len(folds[number]) - 1, min(len(folds[number]), COMPARED_ROWS)).astype(np.int64)
        alone, truth = answers[0][number][chosen], target[folds[number]][chosen]
        pairs.append((_mixed([of[number][chosen] for of in answers], weights), alone, truth))
    value, single = (float(np.mean([_score(aim, pair[side], pair[2], classes) for pair in pairs])) for side in (0, 1))
    weights = _weights(answers, [target[rows] for rows in folds], classes)
    kept = [at for at, weight in enumerate(weights) if weight >= LEAST_WEIGHT]
    shares = weights[kept] / weights[kept].sum()
    rounded = tuple(round(float(share), 4) for share in shares)
    choice = StackedChoice(tuple(members[at][0] for at in kept), rounded, task)
    return Stacked(choice, value, single, _low(pairs, aim, classes))


def _aligned(fold: Answered, classes: list[Any] | None) -> Numbers:
    """Probabilities of all classes; 0 for one that the fold did not learn."""
    if classes is None or fold.classes is None:
        return fold.answers
    made = np.zeros((len(fold.answers), len(classes)))
    made[:, [classes.index(one) for one in fold.classes]] = fold.answers
    return made


def _mixed(answers: Sequence[Numbers], weights: Numbers) -> Numbers:
    return np.asarray(np.tensordot(weights, np.stack(answers), axes=1))


def _weights(answers: Sequence[Sequence[Numbers]], targets: Sequence[npt.NDArray[Any]], classes: list[Any] | None) -> Numbers:
    """Of least log loss, by expectation maximisation of a mixture's shares, or of least squared error."""
    truth = np.concatenate(targets)
    columns = [np.concatenate(list(of)) for of in answers]
    if classes is None:
        return _least_squares(np.column_stack(columns), truth.astype(np.float64))
    codes = np.array([classes.index(one) for one in truth.tolist()])
    likelihood = np.column_stack([np.clip(of[np.arange(len(codes)), codes], 1e-15, 1.0) for of in columns])
    weights = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    for _ in range(ROUNDS):
        weights = weights * (likelihood / (likelihood @ weights)[:, None]).mean(axis=0)
    return np.asarray(weights / weights.sum())


def _least_squares(columns: Numbers, truth: Numbers) -> Numbers:
    from scipy.optimize import nnls

    # A heavy row asks that the weights sum to 1; both sides are scaled so that it is heavy in any unit.
    scale = max(float(np.abs(truth).max()), 1e-12)
    heavy = 1e3 * np.sqrt(len(truth))
    weights, _ = nnls(np.vstack([columns / scale, np.full(columns.shape[1], heavy)]), np.append(truth / scale, heavy))
    return np.asarray(weights / weights.sum())


def _score(aim: Goal, answers: Numbers, truth: npt.NDArray[Any], classes: list[Any] | None) -> float:
    return float(score(aim.metric, answers, truth, classes))


def _low(pairs: Sequence[tuple[Numbers, Numbers, npt.NDArray[Any]]], aim: Goal, classes: list[Any] | None) -> float:
    """The lower end of the gain's bootstrap interval over blocks of neighbouring rows; -inf where it is undefined."""
    random = np.random.default_rng(SEED)
    gains = np.zeros(DRAWS)
    for mixed, alone, truth in pairs:
        blocks = np.array_split(np.arange(len(truth)), min(BLOCKS, len(truth)))
        for draw in range(DRAWS):
            rows = np.concatenate([blocks[block] for block in random.integers(0, len(blocks), len(blocks))])
            one, other = (_score(aim, side[rows], truth[rows], classes) for side in (mixed, alone))
            gains[draw] += aim.sign * (other - one) / len(pairs)
    gains = gains[np.isfinite(gains)]
    return float(np.quantile(gains, LEVEL)) if len(gains) > DRAWS // 2 else float("-inf")
