"""What a trial is, what a search aims at, and how a choice is judged: on the inner folds of the training rows, one by one.

A fold's models learn from that fold's rows only, preprocessing and early stopping included, as the final fit does.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaizen.api.metrics import BETTER_HIGHER, model_metrics
from kaizen.api.training_data import Data
from kaizen.api.training_search import Search
from kaizen.training.data.prepare import Rows
from kaizen.training.data.split import Fold, folds
from kaizen.training.errors import Failure, nearest
from kaizen.training.judge.evaluate import score
from kaizen.training.models.estimators import Choice
from kaizen.training.models.fit import fit, freeze, outputs

__all__ = ["STEP", "Answered", "Goal", "Judge", "SearchProgress", "Trial", "fingerprint", "goal", "invalid"]

STEP = "Tuning"
FOLDS = 3
KEPT_BYTES = 256 * 1024 * 1024
"""Folds of fewer bytes are kept in memory between trials."""

State = Literal["Complete", "Pruned", "Failed"]


@dataclass(frozen=True)
class Trial:
    """One set of parameters and what came of it."""

    number: int
    """From 0, each once: a trial that was lost with its worker is run again under the same number."""
    state: State
    value: float | None
    """Mean of the objective over the folds; of a pruned trial over those that it got to; None when failed."""
    parameters: dict[str, Any]
    seconds: float
    steps: tuple[float, ...]
    """The objective on each fold."""
    worker: int
    message: str = ""
    """Why it failed."""

    def to_json(self) -> dict[str, Any]:
        """As in run.json."""
        return {**asdict(self), "steps": list(self.steps)}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Trial":
        """The inverse."""
        return Trial(**{**document, "steps": tuple(document["steps"])})


@dataclass(frozen=True)
class SearchProgress:
    """How far a search is, as status.search tells it."""

    finished: int
    """Trials that ended, pruned and failed ones included."""
    pruned: int
    failed: int
    total: int
    best_value: float | None
    best_parameters: dict[str, Any] | None
    eta_seconds: int | None
    """Mean time of the ended trials, times those that are left, divided by the number of workers; never beyond the timeout."""


@dataclass(frozen=True)
class Goal:
    """What the best trial is best at."""

    metric: str
    direction: Literal["Minimize", "Maximize"]

    @property
    def sign(self) -> int:
        """What values are multiplied by so that less is better."""
        return -1 if self.direction == "Maximize" else 1

    def place(self, trial: Trial) -> tuple[float, int]:
        """Orders complete trials, the best first; of equal ones the earlier."""
        return self.sign * (np.inf if trial.value is None else trial.value), trial.number


@dataclass(frozen=True, eq=False)
class Answered:
    """A fold's judging rows and a model's answers to them."""

    rows: npt.NDArray[np.int64]
    """Row numbers within the training rows."""
    answers: npt.NDArray[np.float64]
    """(rows, classes) or (rows,)."""
    classes: list[Any] | None
    value: float
    """The objective."""


def goal(search: Search, task: str) -> Goal:
    """The objective in effect.  Raises Failure InvalidSearch for a metric of another task or a direction that makes it worse."""
    wanted = search.objective
    metric = wanted.metric if wanted else {"Classification": "log_loss", "Regression": "rmse"}[task]
    if metric not in model_metrics(task):
        raise invalid(f"search.objective.metric {metric} is not known for task {task}: {nearest(metric, model_metrics(task))}")
    direction: Literal["Minimize", "Maximize"] = "Maximize" if metric in BETTER_HIGHER else "Minimize"
    if wanted and wanted.direction not in (None, direction):
        better = "more" if direction == "Maximize" else "less"
        raise invalid(f"search.objective.direction must be {direction} or omitted: of {metric}, {better} is better")
    return Goal(metric, direction)


def invalid(message: str) -> Failure:
    """A search that cannot be run as it is written."""
    return Failure(STEP, "InvalidSearch", message)


class Judge:
    """Judges choices by an objective on the folds of the training rows."""

    def __init__(self, train: Rows, data: Data, aim: Goal, most_rows: int | None = None) -> None:
        """`most_rows`: of each side of a fold, evenly thinned; all when omitted."""
        self.train = train
        self.data = data
        self.aim = aim
        self.folds: tuple[Fold, ...] = tuple(
            Fold(_thinned(fold.learn, most_rows), _thinned(fold.judge, most_rows)) for fold in folds(train, data, FOLDS)
        )
        taken = sum(len(fold.learn) + len(fold.judge) for fold in self.folds)
        size = int(train.frame.memory_usage(index=False).sum()) * taken / max(len(train), 1)
        self._kept: dict[int, tuple[Rows, Rows]] | None = {} if size < KEPT_BYTES else None

    def steps(self, choice: Choice) -> Iterator[Answered]:
        """Fit and judge fold by fold.  Raises Failure where the choice cannot be fitted, or the objective is undefined."""
        for number, fold in enumerate(self.folds):
            learn, judge = self._rows(number)
            fitted = fit(choice, learn, freeze(choice, learn, self.data))
            classes = fitted.pipeline.classes_.tolist() if choice.task == "Classification" else None
            answers = outputs(fitted.pipeline, judge.frame)
            value = score(self.aim.metric, answers, judge.target, classes)
            if not np.isfinite(value):
                message = f"{self.aim.metric} is undefined on fold {number + 1} of {len(self.folds)}, {len(judge)} rows"
                raise Failure(STEP, "MetricUndefined", f"{message}: choose another search.objective.metric")
            yield Answered(fold.judge, answers, classes, float(value))

    def _rows(self, number: int) -> tuple[Rows, Rows]:
        if self._kept is not None and number in self._kept:
            return self._kept[number]
        fold = self.folds[number]
        pair = self.train.take(fold.learn), self.train.take(fold.judge)
        if self._kept is not None:
            self._kept[number] = pair
        return pair


def fingerprint(choice: Choice, train: Rows, search: Search) -> str:
    """Equal where trials may be compared: the same search over the same rows."""
    target = pd.util.hash_array(np.asarray(train.target)).tobytes()
    wanted = repr((choice.name, sorted(choice.parameters.items(), key=str), search.model_dump(), list(train.frame.columns)))
    return hashlib.sha256(wanted.encode() + target).hexdigest()


def _thinned(rows: npt.NDArray[np.int64], most: int | None) -> npt.NDArray[np.int64]:
    if most is None or len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
