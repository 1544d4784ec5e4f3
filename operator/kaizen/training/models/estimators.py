"""An estimator by name and parameters, and the pipeline of preprocessing by column type around it.

The pipeline has two steps: `columns`, which turns a table into numbers, and `model`.  What Kaizen sets itself is written down
once, in catalogue.py, so that the model card can tell it: seeds are fixed, and no random part of the rows decides anything.
"""

import importlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import InvalidParameterError

from kaizen.api.training_job import Estimator
from kaizen.training.errors import Failure, nearest
from kaizen.training.models import preprocess
from kaizen.training.models.catalogue import CATALOGUE, NESTED, NOT_OFFERED, OURS, RANDOM_STOP, Family, Task

__all__ = ["LIGHTGBM_STOP", "Choice", "NamedChoice", "Task", "choose", "invalid", "with_probabilities"]

STEP = "Prepare"
SEED = 0
LIGHTGBM_STOP = ("early_stopping", "early_stopping_round", "early_stopping_rounds", "n_iter_no_change")
"""All the same parameter."""


class Choice(Protocol):
    """An estimator that has been chosen and checked."""

    @property
    def name(self) -> str:
        """As people know it."""

    @property
    def task(self) -> Task: ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """All that differ from the library's own defaults, Kaizen's and the user's."""

    def changed(self, parameters: Mapping[str, Any]) -> "Choice":
        """With these parameters replaced.  Raises Failure InvalidEstimator."""

    def parameter_names(self) -> tuple[str, ...]:
        """What a search space may name, sorted."""

    def pipeline(self, frame: pd.DataFrame, **more: Any) -> Pipeline:
        """A new unfitted pipeline for these columns, of steps `columns` and `model`; `more` replaces parameters."""


@dataclass(frozen=True)
class NamedChoice:
    """An estimator of scikit-learn, LightGBM or XGBoost."""

    name: str
    task: Task
    family: Family
    parameters: Mapping[str, Any]
    """Estimators inside are still {name, parameters}."""

    def changed(self, parameters: Mapping[str, Any]) -> "NamedChoice":
        """See Choice."""
        _check_names(self.name, parameters)
        made = replace(self, parameters={**self.parameters, **parameters})
        _check_values(made)
        return made

    def parameter_names(self) -> tuple[str, ...]:
        """See Choice."""
        return tuple(sorted(set(_possible(self.name)) - set(OURS) - set(NESTED)))

    def build(self, **more: Any) -> BaseEstimator:
        """A new unfitted estimator, without what `pipeline` puts around it; `more` replaces parameters."""
        parameters = {**self.parameters, **more}
        for name in NESTED.keys() & parameters.keys():
            parameters[name] = _nested(self, name, parameters[name])
        if self.family == "LightGBM":
            parameters = {name: value for name, value in parameters.items() if value is not None or name not in LIGHTGBM_STOP}
        return _class(self.name)(**parameters)

    def pipeline(self, frame: pd.DataFrame, **more: Any) -> Pipeline:
        """See Choice."""
        model = self.build(**{**preprocess.model_parameters(self.family, frame), **more})
        columns = preprocess.columns(self.family, frame)
        return Pipeline([("columns", columns), ("model", with_probabilities(model, self.task))])


def choose(wanted: Estimator, task: Task) -> NamedChoice:
    """Check name and parameters.  Raises Failure InvalidEstimator with the nearest names."""
    entry = CATALOGUE.get(wanted.name)
    if entry is None:
        raise invalid(_unknown(wanted.name, task))
    if entry.task != task:
        raise invalid(f"{wanted.name} is for task {entry.task}, not {task}: {nearest(wanted.name, _names(task))}")
    _check_names(wanted.name, wanted.parameters)
    seed = {"random_state": SEED} if "random_state" in _possible(wanted.name) else {}
    choice = NamedChoice(wanted.name, task, entry.family, {**entry.defaults, **seed, **wanted.parameters})
    _check_values(choice)
    return choice


def with_probabilities(model: BaseEstimator, task: Task) -> BaseEstimator:
    """The same, or for a classifier that has only scores, or that cannot take every kind of class, what mends that.

    `fit` of fit.py calibrates the scores on inner folds.  XGBoost wants classes from 0 on: a vote of one numbers them.
    """
    if task == "Regression":
        return model
    if type(model).__name__ == "XGBClassifier":
        from sklearn.ensemble import VotingClassifier

        return VotingClassifier([("xgboost", model)], voting="soft")
    if hasattr(model, "predict_proba"):
        return model
    from sklearn.calibration import CalibratedClassifierCV

    return CalibratedClassifierCV(model, method="sigmoid", ensemble=False)


def invalid(message: str) -> Failure:
    """What is wrong with a name or a parameter."""
    return Failure(STEP, "InvalidEstimator", message)


def _class(name: str) -> Any:
    return getattr(importlib.import_module(CATALOGUE[name].module), name)


def _names(task: Task) -> list[str]:
    return [name for name, entry in CATALOGUE.items() if entry.task == task]


def _possible(name: str) -> tuple[str, ...]:
    """The constructor's parameters."""
    if CATALOGUE[name].family == "LightGBM":
        from lightgbm.basic import _ConfigAliases

        own = set(inspect.signature(_class(name)).parameters) - {"kwargs"}
        every = _ConfigAliases._get_all_param_aliases()
        return tuple(own | set(every) | {alias for aliases in every.values() for alias in aliases})
    if CATALOGUE[name].family == "XGBoost":
        return tuple(_class(name)().get_params())
    return tuple(inspect.signature(_class(name)).parameters)


def _check_names(estimator: str, parameters: Iterable[str]) -> None:
    possible = _possible(estimator)
    for name in parameters:
        if name not in possible:
            raise invalid(f"{estimator} has no parameter {name}: {nearest(name, set(possible) - set(OURS))}")
        if name in OURS:
            raise invalid(f"parameter {name} of {estimator} cannot be set: {OURS[name]}")


def _check_values(choice: NamedChoice) -> None:
    """By scikit-learn's own constraints; LightGBM and XGBoost check when they fit."""
    try:
        built = choice.build()
        if type(built).__module__.startswith("sklearn."):
            built._validate_params()
    except InvalidParameterError as problem:
        raise invalid(" ".join(str(problem).split()).rstrip(".")) from problem
    except TypeError as problem:
        raise invalid(f"{choice.name} cannot be made: {problem}") from problem
    given = choice.parameters
    if given.get("early_stopping") == "auto":
        message = f"parameter early_stopping of {choice.name} must be true or false here: 'auto' depends on the number of rows"
        raise invalid(message)
    random = RANDOM_STOP.get(choice.name)
    if random and given.get(random):
        message = f"parameter {random} of {choice.name} cannot be set: it would stop by a random part of the rows: use search"
        raise invalid(message)
    if choice.name == "VotingClassifier" and given.get("voting") != "soft":
        raise invalid("parameter voting of VotingClassifier must be soft here: gates and metrics need probabilities")


def _nested(choice: NamedChoice, parameter: str, value: Any) -> Any:
    """{name, parameters}, or a list of them, as estimators; in a list each is called by its name."""
    if value is None:
        return None
    several = NESTED[parameter] == "Several"
    found = value if several else [value]
    if not isinstance(found, list) or not found or not all(_is_description(one) for one in found):
        what = "a list of {name, parameters}" if several else "{name, parameters}"
        raise invalid(f"parameter {parameter} of {choice.name} must be {what}, e.g. {{name: {_example(choice.task)}}}")
    made = [_inner(choose(Estimator.model_validate(one), choice.task)) for one in found]
    if not several:
        return made[0]
    names = [one["name"] for one in found]
    titles = [name if names.count(name) == 1 else f"{name}{number}" for number, name in enumerate(names, 1)]
    return list(zip(titles, made, strict=True))


def _inner(choice: NamedChoice) -> BaseEstimator:
    if choice.task == "Classification" and not hasattr(choice.build(), "predict_proba"):
        message = f"{choice.name} has no probabilities and cannot be inside another estimator: use LogisticRegression"
        raise invalid(message)
    return with_probabilities(choice.build(), choice.task)


def _is_description(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("name"), str) and set(value) <= {"name", "parameters"}


def _example(task: Task) -> str:
    return "LogisticRegression" if task == "Classification" else "Ridge"


def _unknown(name: str, task: Task) -> str:
    if name in NOT_OFFERED:
        return f"estimator {name} is not supported: {NOT_OFFERED[name]}"
    return f"there is no estimator {name}: {nearest(name, _names(task))}"
