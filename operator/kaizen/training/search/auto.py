"""Estimator Auto: the best of linear models, forests and boosting, under a time budget, and of several together.

The first trials are each family's defaults, judged on all folds, so that the answer is never worse there than histogram
boosting left alone.  Trials on many rows see an even share of them; the best of each family then meet on all rows.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from kaizen.api.training_data import Data
from kaizen.api.training_job import Estimator
from kaizen.api.training_search import Parameter, Search
from kaizen.training.data.prepare import Rows
from kaizen.training.data.split import method
from kaizen.training.errors import Failure
from kaizen.training.models.estimators import Choice, Task, choose
from kaizen.training.search.space import suggest
from kaizen.training.search.stacking import Stacked, stack
from kaizen.training.search.trials import Answered, Goal, Judge, Trial, invalid

if TYPE_CHECKING:
    from optuna import Trial as Running

    from kaizen.training.search.tuning import Selection

__all__ = ["SEARCH", "AutoChoice", "choose_auto", "conclude"]

NAME = "Auto"
SEARCH = Search(trials=60, timeout_seconds=900)
"""When spec.search is omitted; its timeout also when that is."""
SHARE = 0.7
"""Of the time, for trials; the rest is for the meeting of the best and their stack."""
MOST_ROWS = 20_000
MEMBERS = 4

_BOOSTING = {"learning_rate": (0.01, 0.3, "log"), "l2_regularization": (1e-4, 10.0, "log")}
_TREES = {"min_samples_leaf": (1, 20, "log int"), "max_features": (0.2, 1.0, "")}
_HISTOGRAM = {
    **_BOOSTING,
    "max_iter": (50, 500, "log int"),
    "max_leaf_nodes": (7, 127, "log int"),
    "min_samples_leaf": (5, 100, "log int"),
    "max_features": (0.3, 1.0, ""),
}
_LIGHT = {
    "learning_rate": _BOOSTING["learning_rate"],
    "n_estimators": (50, 500, "log int"),
    "num_leaves": (7, 127, "log int"),
    "min_child_samples": (5, 100, "log int"),
    "colsample_bytree": (0.4, 1.0, ""),
    "reg_lambda": (1e-4, 10.0, "log"),
}
_XGB = {
    "learning_rate": _BOOSTING["learning_rate"],
    "n_estimators": (50, 500, "log int"),
    "max_depth": (3, 10, "int"),
    "min_child_weight": (0.5, 20.0, "log"),
    "subsample": (0.5, 1.0, ""),
    "colsample_bytree": (0.4, 1.0, ""),
    "reg_lambda": (1e-3, 10.0, "log"),
}
_SPACES: Mapping[Task, Mapping[str, Mapping[str, tuple[float, float, str]]]] = {
    "Classification": {
        "HistGradientBoostingClassifier": _HISTOGRAM,
        "LogisticRegression": {"C": (1e-3, 100.0, "log")},
        "LGBMClassifier": _LIGHT,
        "ExtraTreesClassifier": _TREES,
        "RandomForestClassifier": _TREES,
        "XGBClassifier": _XGB,
    },
    "Regression": {
        "HistGradientBoostingRegressor": _HISTOGRAM,
        "Ridge": {"alpha": (1e-3, 1000.0, "log")},
        "LGBMRegressor": _LIGHT,
        "ExtraTreesRegressor": _TREES,
        "RandomForestRegressor": _TREES,
        "XGBRegressor": _XGB,
    },
}
"""By estimator, in the order of the first trials: low, high and how to draw."""


@dataclass(frozen=True)
class AutoChoice:
    """A Choice that `tune` turns into another; alone it is histogram boosting with its defaults."""

    task: Task

    @property
    def name(self) -> str:
        """Auto."""
        return NAME

    @property
    def parameters(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def changed(self, parameters: Mapping[str, Any]) -> "AutoChoice":
        """Itself; raises Failure InvalidEstimator for any parameter."""
        if parameters:
            _refuse(parameters)
        return self

    def parameter_names(self) -> tuple[str, ...]:
        """None: the space is its own."""
        return ()

    def pipeline(self, frame: pd.DataFrame, **more: Any) -> Pipeline:
        """Of the first trial."""
        return _default(next(iter(_SPACES[self.task])), self.task).pipeline(frame, **more)

    def space(self, search: Search) -> "Families":
        """See space.Searching."""
        return Families(self.task, search)


def choose_auto(wanted: Estimator, task: Task) -> AutoChoice:
    """For estimator name Auto.  Raises Failure InvalidEstimator when it has parameters."""
    return AutoChoice(task).changed(wanted.parameters)


class Families:
    """An estimator, and its own parameters; a space.Space."""

    def __init__(self, task: Task, search: Search) -> None:
        """Raises Failure InvalidSearch for a space or sampler that does not go with it."""
        if search.space:
            raise invalid(
                f"search.space cannot name {search.space[0].parameter}: estimator Auto brings its own space, leave it out"
            )
        if search.sampler not in ("TPE", "Random"):
            raise invalid(f"search.sampler {search.sampler} does not go with estimator Auto: use TPE or Random")
        self._task = task
        self._names = list(_SPACES[task])
        self.total = search.trials
        self.seconds: float | None = SHARE * _seconds(search)
        self.most_rows: int | None = MOST_ROWS

    def fixed(self, number: int) -> dict[str, Any]:
        """The estimator of the first trials."""
        return {"estimator": self._names[number]} if self.spared(number) else {}

    def spared(self, number: int) -> bool:
        """The first trials, with defaults."""
        return number < len(self._names)

    def choice(self, trial: "Running") -> Choice:
        """Draw an estimator, then its parameters."""
        name = trial.suggest_categorical("estimator", self._names)
        if not self.spared(int(trial.user_attrs["number"])):
            for parameter in _parameters(name, self._task):
                suggest(trial, parameter, f"{name}.")
        return self.made(trial.params)

    def made(self, parameters: Mapping[str, Any]) -> Choice:
        """Of parameters as trials have them: Estimator.parameter."""
        own = {name.partition(".")[2]: value for name, value in parameters.items() if name != "estimator"}
        return _default(parameters["estimator"], self._task).changed(own)


@dataclass(frozen=True, eq=False)
class _Finalist:
    trial: Trial
    choice: Choice
    answered: tuple[Answered, ...]

    @property
    def value(self) -> float:
        return float(np.mean([fold.value for fold in self.answered]))


def conclude(
    selection: "Selection", choice: AutoChoice, train: Rows, data: Data, aim: Goal, search: Search, begun: float
) -> "Selection":
    """Let the best of each family meet on all rows, and stack them where that wins by more than noise.

    The best trial and histogram boosting's defaults always take part; the others while there is time.
    """
    space = Families(choice.task, search)
    judge = Judge(train, data, aim)
    finalists: list[_Finalist] = []
    for must, trial in _candidates(selection, aim):
        spent = time.time() + trial.seconds - begun
        if not must and spent > _seconds(search):
            continue
        made = space.made(trial.parameters)
        try:
            finalists.append(_Finalist(trial, made, tuple(judge.steps(made))))
        except Failure:
            continue
    if not finalists:
        return selection
    finalists.sort(key=lambda one: (aim.sign * one.value, one.trial.number))
    best = finalists[0]
    message = f"{selection.message}; on all rows {best.choice.name} of trial {best.trial.number} is best with {best.value:.6g}"
    single = replace(selection, choice=best.choice, best=best.trial, message=message)
    members = [(one.choice, one.answered) for one in _different(finalists)]
    if len(members) < 2:
        return single
    found = stack(members, train.target, aim, choice.task, forward=method(data) == "Temporal")
    if found is None:
        return single
    verdict = _told(found, aim)
    return replace(single, choice=found.choice if found.wins else best.choice, message=f"{message}; {verdict}")


def _candidates(selection: "Selection", aim: Goal) -> list[tuple[bool, Trial]]:
    """The best trial and the first one, then the best of each other estimator."""
    complete = sorted((trial for trial in selection.trials if trial.state == "Complete"), key=aim.place)
    first = [trial for trial in complete if trial.number == 0]
    found = {trial.number: (True, trial) for trial in [*complete[:1], *first]}
    seen = {complete[0].parameters["estimator"]} if complete else set()
    for trial in complete:
        name = trial.parameters["estimator"]
        if name not in seen and len(seen) < MEMBERS:
            seen.add(name)
            found.setdefault(trial.number, (False, trial))
    return list(found.values())


def _different(finalists: list[_Finalist]) -> list[_Finalist]:
    """The best of each estimator, best first."""
    by_name: dict[str, _Finalist] = {}
    for one in finalists:
        by_name.setdefault(one.choice.name, one)
    return list(by_name.values())[:MEMBERS]


def _told(found: Stacked, aim: Goal) -> str:
    weights = ", ".join(
        f"{member.name} {weight:.2f}" for member, weight in zip(found.choice.members, found.choice.weights, strict=True)
    )
    verb = "wins" if found.wins else "does not win by more than noise"
    return f"a stack ({weights}) {verb}: {aim.metric} {found.value:.6g} against {found.alone:.6g} alone"


def _parameters(name: str, task: Task) -> list[Parameter]:
    return [
        Parameter(parameter=parameter, type="Integer" if "int" in how else "Float", low=low, high=high, log="log" in how)
        for parameter, (low, high, how) in _SPACES[task][name].items()
    ]


def _default(name: str, task: Task) -> Choice:
    return choose(Estimator(name=name), task)


def _seconds(search: Search) -> float:
    return float(search.timeout_seconds or SEARCH.timeout_seconds or 0)


def _refuse(parameters: Mapping[str, Any]) -> None:
    message = (
        f"estimator Auto takes no parameter {next(iter(parameters))}: name one estimator, or bound Auto by search.timeoutSeconds"
    )
    raise Failure("Prepare", "InvalidEstimator", message)
