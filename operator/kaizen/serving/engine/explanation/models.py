"""Which models are sums of what their inputs add, and in which units.

Trees are, in the units in which their leaves are added up, and linear models before their link.  So are means, sums and lines of
such models, as long as no link stands between: an ensemble that averages probabilities which come from a link is none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kaizen.serving.engine.base import Matrix
from kaizen.serving.engine.explanation.common import Additive, Sources, Unit, no_explanations, places
from kaizen.serving.engine.explanation.sources import behind
from kaizen.serving.engine.explanation.trees import OfTrees
from kaizen.serving.engine.models import Model
from kaizen.serving.engine.models.common import finite_matrix, numbers
from kaizen.serving.engine.models.linear import Constant, Linear
from kaizen.serving.engine.models.members import Average, Member, OneVsRest, Stack
from kaizen.serving.engine.models.trees import Boosting, Forest, XGBoost
from kaizen.serving.engine.models.wrappers import Calibrated, Steps, Target, Temperature, Threshold
from kaizen.serving.engine.transforms import Table, through

__all__ = ["additive"]

UNITS: Mapping[str, Unit] = {
    **dict.fromkeys(("Binary", "BinaryFromZero", "Identity", "Largest"), "answer"),
    **dict.fromkeys(("Logistic", "LogisticFromZero", "Sigmoid"), "log-odds"),
    "Exponential": "logarithm",
}
"""Of scores before a link; of others `score`."""
RELATIVE = frozenset({"Likelihood", "Softmax"})
"""Links that look at differences between scores alone: of two classes that is their log-odds."""


class OfLine:
    """(x - background) · coefficients: what shap's LinearExplainer says with that mean of its background."""

    def __init__(self, model: Linear, sources: Sources, inputs: Sequence[str]) -> None:
        self._coefficients = numbers(model.coefficients)
        self.outputs, columns = self._coefficients.shape
        self._background = np.zeros(columns) if model.background is None else numbers(model.background)
        used = np.flatnonzero((self._coefficients != 0).any(axis=0))
        self._places, self._width = places(sources, used.tolist(), inputs), len(inputs)
        self.base = self._coefficients @ self._background + numbers(model.intercept)
        self.unit = UNITS.get(model.link, "score")

    def values(self, table: Table) -> Matrix:
        """See Additive.values."""
        return np.array(
            [
                [np.bincount(self._places, weights=added, minlength=self._width) for added in self._coefficients * row]
                for row in finite_matrix(table) - self._background
            ]
        )


@dataclass
class Fixed:
    """The same answer to everything: inputs add nothing."""

    base: Matrix
    inputs: int
    unit: Unit = "answer"

    @property
    def outputs(self) -> int:
        """See Additive.outputs."""
        return len(self.base)

    def values(self, table: Table) -> Matrix:
        """See Additive.values."""
        rows = len(table[0]) if isinstance(table, list) else len(table)
        return np.zeros((rows, self.outputs, self.inputs))


@dataclass
class Part:
    """A model within another, and what the other makes of its scores."""

    of: Additive
    weights: Matrix
    """The other's outputs by this one's."""
    reads: Callable[[Table], Table] = lambda table: table


@dataclass
class Sum:
    """Weighted sums of what other models say."""

    parts: list[Part]
    offset: Any
    unit: Unit

    @property
    def outputs(self) -> int:
        """See Additive.outputs."""
        return len(self.parts[0].weights)

    @cached_property
    def base(self) -> Matrix:
        """See Additive.base."""
        made: Matrix = self.offset + sum(part.weights @ part.of.base for part in self.parts)
        return made

    def values(self, table: Table) -> Matrix:
        """See Additive.values."""
        said = [np.einsum("oi,riw->row", part.weights, part.of.values(part.reads(table))) for part in self.parts]
        return np.asarray(sum(said[1:], said[0]))


def additive(model: Model, sources: Sources, inputs: Sequence[str]) -> Additive:
    """The model as sums, over columns with these sources.  Raises Refused when it is none."""
    match model:
        case Boosting() | Forest() | XGBoost():
            return _compared(OfTrees(model, sources, inputs, UNITS.get(model.link, "score")), model.link)
        case Linear():
            return _compared(OfLine(model, sources, inputs), model.link)
        case Constant():
            return Fixed(numbers(model.scores), len(inputs))
        case Steps():
            steps = model.steps
            of = additive(model.model, behind(steps, sources), inputs)
            return Sum([Part(of, np.eye(of.outputs), lambda table: through(steps, table))], 0.0, of.unit)
        case Threshold():
            return additive(model.of, sources, inputs)
        case Target():
            return _target(model, additive(model.of, sources, inputs))
        case Calibrated() | Temperature():
            return _calibrated(model, _answering(model.of, sources, inputs))
        case Average():
            return _average(model, sources, inputs)
        case OneVsRest() if model.link != "Given":
            parts = [_part(Member(**one), sources, inputs) for one in model.members]
            own = [
                Part(part.of, row[:, None] @ part.weights, part.reads)
                for part, row in zip(parts, np.eye(len(parts)), strict=True)
            ]
            return Sum(own, 0.0, "answer" if model.link is None else "log-odds")
        case Stack() if isinstance(model.final, Linear) and not model.passthrough:
            return _stack(model, model.final, sources, inputs)
    raise no_explanations(f"what a model {_name(model)} answers is no sum of what inputs add")


def _name(model: Any) -> str:
    """Of the model behind steps."""
    return _name(model.model) if isinstance(model, Steps) else type(model).__name__


def _compared(of: Additive, link: str) -> Additive:
    if of.outputs == 2 and link in RELATIVE:
        return Sum([Part(of, np.array([[-1.0, 1.0]]))], 0.0, "log-odds")
    return of


def _answering(model: Model, sources: Sources, inputs: Sequence[str]) -> Additive:
    """A model whose answers themselves are sums, not only the scores behind them."""
    of = additive(model, sources, inputs)
    if of.unit != "answer":
        answers = f"what {_name(model)} answers is no sum of what inputs add, only its score is"
        raise no_explanations(f"it puts together what others answer, and {answers}")
    return of


def _part(one: Member, sources: Sources, inputs: Sequence[str]) -> Part:
    if one.labels is not None or one.votes is not None:
        raise no_explanations("it counts the votes of its members")
    columns = range(len(sources)) if one.columns is None else one.columns
    of = _answering(one.model, [sources[i] for i in columns], inputs)
    chosen = range(of.outputs) if one.says is None else one.says
    return Part(of, np.eye(of.outputs)[list(chosen)], one.table)


def _average(model: Average, sources: Sources, inputs: Sequence[str]) -> Additive:
    parts = [_part(Member(**one), sources, inputs) for one in model.members]
    for i, part in enumerate(parts):
        into = range(model.outputs) if model.places is None else model.places[i]
        weight = 1.0 if model.weights is None else model.weights[i]
        part.weights = np.eye(model.outputs)[:, list(into)] @ part.weights * (weight / model.total)
    return Sum(parts, 0.0, "answer")


def _stack(model: Stack, final: Linear, sources: Sources, inputs: Sequence[str]) -> Additive:
    parts, first = [_part(Member(**one), sources, inputs) for one in model.members], 0
    coefficients = numbers(final.coefficients)
    for part in parts:
        end = first + len(part.weights)
        part.weights, first = coefficients[:, first:end] @ part.weights, end
    return _compared(Sum(parts, numbers(final.intercept), UNITS.get(final.link, "score")), final.link)


def _target(model: Target, of: Additive) -> Additive:
    """A line of the answer; of any other function what it is a function of is explained."""
    if model.function is None and (model.scale, model.offset) == (1.0, 0.0):
        return of
    if of.unit == "answer" and model.function is None:
        scale = 1.0 / model.scale if model.first else model.scale
        return Sum([Part(of, np.array([[scale]]))], model.offset * (scale if model.first else 1.0), "answer")
    return Sum([Part(of, np.eye(of.outputs))], 0.0, "logarithm" if (of.unit, model.function) == ("answer", "exp") else "score")


def _calibrated(model: Calibrated | Temperature, of: Additive) -> Additive:
    """Of two classes the classifier's score, of which the probability is a rising curve; as log-odds where those are its line."""
    if isinstance(model, Temperature):
        if model.probabilities:
            raise no_explanations("its calibration reads logarithms of probabilities")
        single = of.outputs == 1
        return Sum([Part(of, np.eye(of.outputs) * model.beta * (2 if single else 1))], 0.0, "log-odds" if single else "score")
    if model.column is None:
        raise no_explanations("each of its classes is calibrated by itself")
    curve, chosen = model.curves[0], np.eye(of.outputs)[[model.column]]
    if "a" in curve:
        return Sum([Part(of, -curve["a"] * chosen)], -curve["b"], "log-odds")
    return Sum([Part(of, chosen)], 0.0, "score")
