"""Multi-layer perceptrons."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaizen.serving.engine.base import Matrix
from kaizen.serving.engine.models.common import OneRow, finite_matrix, numbers
from kaizen.serving.engine.models.links import LINKS, Indices, logistic_of
from kaizen.serving.engine.transforms import Table

__all__ = ["ACTIVATIONS", "Perceptrons"]

ACTIVATIONS: Mapping[str, Callable[[Matrix], Matrix]] = {
    "identity": lambda values: values,
    "logistic": logistic_of,
    "relu": lambda values: np.maximum(values, 0.0),
    "tanh": np.tanh,
}


@dataclass
class Perceptrons(OneRow):
    """MLPClassifier and MLPRegressor."""

    link: str
    activation: str
    weights: list[Any]
    """Of each layer: inputs by outputs."""
    intercepts: list[Any]

    def __post_init__(self) -> None:
        layers = [(numbers(one), numbers(other)) for one, other in zip(self.weights, self.intercepts, strict=True)]
        self._hidden, (self._last, self._intercept) = layers[:-1], layers[-1]
        self._activate = ACTIVATIONS[self.activation]
        self._many = LINKS[self.link].many

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        values = finite_matrix(table)
        for weights, intercept in self._hidden:
            values = self._activate(values @ weights + intercept)
        return self._many(values @ self._last + self._intercept)
