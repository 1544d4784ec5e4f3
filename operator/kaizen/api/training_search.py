"""How a TrainingJob looks for the best parameters."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from kaizen.api.base import AnyValue, Model, Seconds, by_key, rules
from kaizen.api.metrics import BETTER_HIGHER, CLASSIFICATION_METRICS, REGRESSION_METRICS


class Parameter(Model):
    """A range or a list of values for one of the estimator's parameters."""

    model_config = ConfigDict(json_schema_extra=rules(
        (
            "self.type == 'Categorical' ? !has(self.low) && !has(self.high) && !has(self.step) : has(self.low) && has(self.high)",
            "search.space[] needs low and high with type Float or Integer, and values instead of them with type Categorical",
        ),
        ("!has(self.low) || !has(self.high) || self.low <= self.high", "search.space[].low must not be above high"),
        ("!has(self.log) || !self.log || !has(self.low) || self.low > 0.0", "search.space[].low must be above 0 with log"),
        (
            "!has(self.step) || (self.step > 0.0 && !(has(self.log) && self.log))",
            "search.space[].step must be above 0, and goes not with log",
        ),
        *(
            (
                f"self.type != 'Integer' || !has(self.{field}) || self.{field} == double(int(self.{field}))",
                f"search.space[].{field} must be a whole number with type Integer",
            )
            for field in ("low", "high", "step")
        ),
    ))  # fmt: skip

    parameter: Annotated[str, Field(min_length=1, max_length=128, pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
    type: Literal["Float", "Integer", "Categorical"]
    low: float | None = None
    high: float | None = None
    log: bool | None = None
    """Draw evenly on a logarithmic scale."""
    step: float | None = None
    values: Annotated[list[AnyValue], Field(min_length=1, max_length=64)] | None = None
    """With Categorical: texts, numbers, true or false."""


_HIGHER = sorted(BETTER_HIGHER.intersection(CLASSIFICATION_METRICS + REGRESSION_METRICS))


class Objective(Model):
    """What the best trial is best at, on inner folds."""

    model_config = ConfigDict(json_schema_extra=rules(
        (
            f"!has(self.direction) || (self.direction == 'Maximize') == (self.metric in {_HIGHER})",
            f"search.objective.direction is Maximize for {', '.join(_HIGHER)}, and Minimize for all others: leave it out",
        ),
    ))  # fmt: skip

    metric: Annotated[str, Field(min_length=1, max_length=64)]
    direction: Literal["Minimize", "Maximize"] | None = None
    """The metric's own when omitted; anything else is refused."""


class Search(Model):
    """Tuning: many trials, judged on inner folds of the training part."""

    model_config = ConfigDict(json_schema_extra=rules(
        (
            "self.sampler != 'Grid' || self.space.all(one, one.type == 'Categorical'"
            " || (!(has(one.log) && one.log) && (one.type == 'Integer' || has(one.step))))",
            "search.sampler Grid needs a step with type Float, and goes not with log: give step, or values with type Categorical",
        ),
        (
            "self.sampler != 'CMAES' || size(self.space.filter(one, one.type != 'Categorical')) >= 2",
            "search.sampler CMAES needs at least two parameters of type Float or Integer: use TPE",
        ),
    ))  # fmt: skip

    trials: Annotated[int, Field(ge=1, le=10_000)] = 40
    parallelism: Annotated[int, Field(ge=1, le=64)] = 1
    """Pods that run trials side by side."""
    timeout_seconds: Seconds | None = None
    """No trial begins after this time; what was found by then counts."""
    sampler: Literal["TPE", "Random", "Grid", "QMC", "CMAES"] = "TPE"
    pruner: Literal["Median", "Hyperband", "None"] = "Median"
    objective: Objective | None = None
    """log_loss for Classification and rmse for Regression when omitted."""
    space: Annotated[list[Parameter], Field(max_length=64, json_schema_extra=by_key("parameter"))] = []
    """May be left out with estimator Auto only."""
