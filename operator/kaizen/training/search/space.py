"""What a search may try: the user's ranges and lists, checked against the estimator before the first trial."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from kaizen.api.training_search import Parameter, Search
from kaizen.training.errors import Failure, nearest
from kaizen.training.models.estimators import Choice
from kaizen.training.search.trials import invalid

if TYPE_CHECKING:
    from optuna import Trial

__all__ = ["Listed", "Searching", "Space", "space_of", "suggest"]

SEED = 0
ROUNDING = 1e-9
MOST_POINTS = 1_000_000
"""Of a grid, so that it can be counted."""


class Space(Protocol):
    """Where trials get their parameters."""

    @property
    def total(self) -> int:
        """How many trials there will be."""

    @property
    def seconds(self) -> float | None:
        """No trial begins later than so long after the first."""

    @property
    def most_rows(self) -> int | None:
        """Of each side of a fold, what trials see; all when None."""

    def fixed(self, number: int) -> dict[str, Any]:
        """The parameters that a trial has by its number; the sampler draws the others."""

    def spared(self, number: int) -> bool:
        """Whether a trial is always judged on all folds."""

    def choice(self, trial: "Trial") -> Choice:
        """Draw what is not fixed.  Raises Failure InvalidEstimator."""

    def made(self, parameters: Mapping[str, Any]) -> Choice:
        """The choice of a trial that ended."""


@runtime_checkable
class Searching(Protocol):
    """A choice that brings its own space."""

    def space(self, search: Search) -> Space:
        """Raises Failure InvalidSearch for what cannot be searched."""


def space_of(choice: Choice, search: Search) -> Space:
    """The space of a search: the choice's own, as that of Auto, else the listed parameters.  Raises Failure InvalidSearch."""
    return choice.space(search) if isinstance(choice, Searching) else Listed(choice, search)


class Listed:
    """The parameters of search.space."""

    total: int
    seconds: float | None
    most_rows: int | None

    def __init__(self, choice: Choice, search: Search) -> None:
        """Raises Failure InvalidSearch for what no trial could use."""
        self._start = choice
        self._space = search.space
        _check(choice, search)
        self._points = _grid(search) if search.sampler == "Grid" else None
        self.total = len(self._points) if self._points is not None else search.trials
        self.seconds = search.timeout_seconds
        self.most_rows = None

    def fixed(self, number: int) -> dict[str, Any]:
        """Its point of the grid."""
        return dict(self._points[number]) if self._points is not None else {}

    def spared(self, number: int) -> bool:
        """None."""
        return False

    def choice(self, trial: "Trial") -> Choice:
        """Draw."""
        return self.made({parameter.parameter: suggest(trial, parameter) for parameter in self._space})

    def made(self, parameters: Mapping[str, Any]) -> Choice:
        """With these parameters."""
        return self._start.changed(parameters)


def suggest(trial: "Trial", parameter: Parameter, prefix: str = "") -> Any:
    """Draw a value; in the trial it is called by the prefix and the parameter's name."""
    name, low, high = f"{prefix}{parameter.parameter}", parameter.low, parameter.high
    if parameter.type == "Categorical":
        return trial.suggest_categorical(name, parameter.values or [])
    assert low is not None
    assert high is not None
    log = bool(parameter.log)
    if parameter.step is not None:
        high = _along(parameter, math.floor((high - low) / parameter.step + ROUNDING))
    if parameter.type == "Integer":
        return trial.suggest_int(name, int(low), int(high), step=int(parameter.step or 1), log=log)
    return trial.suggest_float(name, low, high, step=parameter.step, log=log)


def _along(parameter: Parameter, number: int) -> float:
    """So many steps above low; decimal steps add up to what a person would write: 0.1, 0.2, 0.3."""
    return round((parameter.low or 0.0) + number * (parameter.step or 0.0), 12)


def _check(choice: Choice, search: Search) -> None:
    if not search.space:
        raise invalid("search.space must name at least one parameter: only estimator Auto brings its own")
    known = choice.parameter_names()
    for parameter in search.space:
        name = parameter.parameter
        if name not in known:
            raise invalid(f"search.space names {name}, which {choice.name} does not have: {nearest(name, known)}")
        for value in _ends(parameter):
            try:
                choice.changed({name: value})
            except Failure as problem:
                raise invalid(f"search.space: {name} = {value} is refused: {problem.message}") from problem
    numeric = [parameter for parameter in search.space if parameter.type != "Categorical"]
    if search.sampler == "CMAES" and len(numeric) < 2:
        raise invalid("search.sampler CMAES needs at least two parameters of type Float or Integer: use TPE")


def _ends(parameter: Parameter) -> Sequence[Any]:
    """The values to try on the estimator, which refuses by range: both ends, or all of a list."""
    name = parameter.parameter
    if parameter.type == "Categorical":
        values = parameter.values
        if not values or parameter.low is not None or parameter.high is not None or parameter.step is not None:
            raise invalid(f"search.space: {name} of type Categorical needs values, and neither low, high nor step")
        for one, other in itertools.combinations(values, 2):
            if one == other:
                raise invalid(f"search.space: {name} lists {one!r} and {other!r}, which are equal: list each value once")
        return values
    low, high, step = parameter.low, parameter.high, parameter.step
    if low is None or high is None or parameter.values is not None:
        raise invalid(f"search.space: {name} of type {parameter.type} needs low and high, and no values")
    if not (math.isfinite(low) and math.isfinite(high)):
        raise invalid(f"search.space: {name} needs finite low and high, not {low} and {high}")
    if low > high:
        raise invalid(f"search.space: {name} has low {low:g} above high {high:g}")
    if step is not None and (step <= 0 or parameter.log):
        raise invalid(f"search.space: {name} needs a step above 0, and none with log")
    if parameter.log and low <= 0:
        raise invalid(f"search.space: {name} needs low above 0 with log, not {low:g}")
    if parameter.type == "Integer":
        for field, value in (("low", low), ("high", high), ("step", step)):
            if value is not None and value != int(value):
                raise invalid(f"search.space: {name} of type Integer needs a whole number as {field}, not {value:g}")
        return int(low), int(high)
    return low, high


def _grid(search: Search) -> list[dict[str, Any]]:
    """All combinations in a mixed order that is always the same; as many as there are trials where there are more."""
    import numpy as np

    axes = [list(_axis(parameter)) for parameter in search.space]
    size = math.prod(len(axis) for axis in axes)
    if size > MOST_POINTS:
        raise invalid(f"the grid has {size} points, more than {MOST_POINTS}: use larger steps or sampler QMC")
    order = np.random.default_rng(SEED).permutation(size)[: search.trials]
    shape = [len(axis) for axis in axes]
    return [
        {parameter.parameter: axis[at] for parameter, axis, at in zip(search.space, axes, place, strict=True)}
        for place in zip(*(part.tolist() for part in np.unravel_index(order, shape)), strict=True)
    ]


def _axis(parameter: Parameter) -> Iterator[Any]:
    if parameter.type == "Categorical":
        yield from parameter.values or []
        return
    low, high = parameter.low or 0.0, parameter.high or 0.0
    if parameter.log:
        raise invalid(f"search.space: {parameter.parameter} with log has no grid: list its values with type Categorical")
    if parameter.type == "Integer":
        yield from range(int(low), int(high) + 1, int(parameter.step or 1))
        return
    if parameter.step is None:
        raise invalid(f"search.space: {parameter.parameter} of type Float needs a step with sampler Grid, or a list of values")
    for number in range(math.floor((high - low) / parameter.step + ROUNDING) + 1):
        yield _along(parameter, number)
