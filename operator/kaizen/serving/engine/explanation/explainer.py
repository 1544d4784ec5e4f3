"""From prepared columns to attributions."""

from collections.abc import Sequence

import numpy as np

from kaizen.serving.engine.base import Attributions, Column
from kaizen.serving.engine.explanation.models import additive
from kaizen.serving.engine.explanation.sources import behind
from kaizen.serving.engine.models import Model
from kaizen.serving.engine.transforms import Transform, through

__all__ = ["Explainer"]


class Explainer:
    """Explains the answers of steps and a model."""

    def __init__(self, steps: Sequence[Transform], model: Model, inputs: Sequence[str], answer: str) -> None:
        """Raises Refused: the model is no sum of what its inputs add.

        Args:
            steps: before the model.
            model: what is explained.
            inputs: names, in the order of the columns.
            answer: the unit of scores that are the answers themselves.
        """
        self._steps, self._inputs = steps, tuple(inputs)
        sources = behind(steps, [frozenset([place]) for place in range(len(self._inputs))])
        self._model = additive(model, sources, self._inputs)
        self._unit = answer if self._model.unit == "answer" else self._model.unit

    @np.errstate(all="ignore")
    def explain(self, columns: list[Column]) -> Attributions:
        """See Engine.explain."""
        values, base = self._model.values(through(self._steps, columns)), self._model.base
        if len(base) == 2:  # probabilities of two classes
            values, base = values[:, 1:], base[1:]
        return Attributions(self._inputs, len(base), base.tolist(), values.ravel().tolist(), self._unit)
