"""How good a model is on rows it did not learn from, beside what needs no model: always the base rate, always the mean."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaizen.api.metrics import model_metrics
from kaizen.training.errors import Failure
from kaizen.training.judge.measures import figure, undefined
from kaizen.training.judge.outcome import Numbers, Outcome

__all__ = ["Metric", "as_metrics", "baseline", "classification", "figures", "regression", "require", "score"]

STEP = "Evaluate"


@dataclass(frozen=True)
class Metric:
    """One figure."""

    name: str
    value: float
    dataset: str
    """test: the model on the test rows; baseline: the best constant answer on the same rows."""
    low: float | None = None
    """The ends of its interval (intervals.py); None where there is none."""
    high: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As in manifest.json."""
        ends = {} if self.low is None or self.high is None else {"low": self.low, "high": self.high}
        return {"name": self.name, "value": self.value, **ends, "dataset": self.dataset}


def figures(
    answers: Numbers, target: npt.NDArray[Any], classes: Sequence[Any] | None, threshold: float | None = None
) -> dict[str, float]:
    """All metrics of the task that these rows can tell; measures.undefined says why one is left out.

    Args:
        answers: probabilities (rows, classes), or numbers (rows,) where `classes` is None.
        target: the truth (rows,).  A class that the model does not know has probability 0.
        classes: in the order of the columns of `answers`.
        threshold: of two classes, the answer is the second from this probability on; None: the most probable one.
    """
    outcome = Outcome(answers, target, classes, threshold)
    every = "Regression" if classes is None else "Classification"
    found = {name: figure(name, outcome) for name in model_metrics(every)}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def score(
    name: str,
    answers: Numbers,
    target: npt.NDArray[Any],
    classes: Sequence[Any] | None,
    threshold: float | None = None,
) -> float:
    """One metric, arguments as for `figures`; NaN where these rows cannot tell it.

    Raises:
        Failure: MetricUndefined, the task has no such metric.
    """
    outcome = Outcome(answers, target, classes, threshold)
    if name not in model_metrics("Regression" if classes is None else "Classification"):
        raise Failure(STEP, "MetricUndefined", str(undefined(name, outcome)))
    return figure(name, outcome)


def require(name: str, outcome: Outcome, where: str) -> None:
    """Raises Failure MetricUndefined where `outcome` cannot tell the metric; `where` names the field that asks for it."""
    if why := undefined(name, outcome):
        raise Failure(STEP, "MetricUndefined", f"{where}: {why}")


def baseline(train: npt.NDArray[Any], target: npt.NDArray[Any], classes: Sequence[Any] | None) -> dict[str, float]:
    """The same metrics of a constant answer: the shares of the classes, or the mean, among the training rows."""
    if classes is None:
        return figures(np.full(len(target), train.astype(np.float64).mean()), target, None)
    shares = np.array([np.mean(train == one) for one in classes])
    return figures(np.tile(shares, (len(target), 1)), target, classes)


def classification(
    probabilities: Numbers, target: npt.NDArray[Any], classes: Sequence[Any], threshold: float | None = None
) -> dict[str, float]:
    """The figures of a classification."""
    return figures(probabilities, target, classes, threshold)


def regression(answers: Numbers, target: npt.NDArray[Any]) -> dict[str, float]:
    """The figures of a regression."""
    return figures(answers, target, None)


def as_metrics(
    test: Mapping[str, float], constant: Mapping[str, float], intervals: Mapping[str, tuple[float, float] | None] | None = None
) -> tuple[Metric, ...]:
    """Both sets of figures as one list, those of the test part with their intervals (intervals.of_figures)."""
    ends = {name: (intervals or {}).get(name) or (None, None) for name in test}
    return (
        *(Metric(name, value, "test", *ends[name]) for name, value in test.items()),
        *(Metric(name, value, "baseline") for name, value in constant.items()),
    )
