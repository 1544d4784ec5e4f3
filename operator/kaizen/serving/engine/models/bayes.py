"""Naive Bayes and discriminants: classes by the joint log-likelihood of a row."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kaizen.serving.engine.base import Matrix, Refused
from kaizen.serving.engine.models.common import OneRow, finite_matrix, numbers
from kaizen.serving.engine.models.links import Indices, likelihood_of, softmax_of
from kaizen.serving.engine.transforms import Table

__all__ = ["Bernoulli", "Categories", "Gaussian", "Quadratic"]


class _Likelihood(OneRow):
    """The likeliest class, and the probabilities of all."""

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        joint = self._joint(finite_matrix(table))
        return joint.argmax(axis=1), self._shares(joint)

    def _shares(self, joint: Matrix) -> Matrix:
        return likelihood_of(joint)

    def _joint(self, matrix: Matrix) -> Matrix:
        raise NotImplementedError


@dataclass
class Gaussian(_Likelihood):
    """GaussianNB."""

    means: Any
    """Classes by width, as the variances."""
    variances: Any
    priors: list[float]

    def __post_init__(self) -> None:
        self._parameters = list(zip(numbers(self.means), numbers(self.variances), np.log(numbers(self.priors)), strict=True))

    def _joint(self, matrix: Matrix) -> Matrix:
        columns = []
        for means, variances, prior in self._parameters:
            spread = -0.5 * np.sum(np.log(2.0 * np.pi * variances))
            columns.append(prior + (spread - 0.5 * np.sum((matrix - means) ** 2 / variances, axis=1)))
        return np.column_stack(columns)


@dataclass
class Bernoulli(_Likelihood):
    """BernoulliNB: inputs count as 1 above a threshold, and as 0."""

    threshold: float | None
    coefficients: Any
    """Classes by width."""
    intercept: list[float]

    def __post_init__(self) -> None:
        self._matrix, self._intercept = numbers(self.coefficients), numbers(self.intercept)

    def _joint(self, matrix: Matrix) -> Matrix:
        given = matrix if self.threshold is None else (matrix > self.threshold).astype(np.float64)
        made: Matrix = given @ self._matrix.T + self._intercept
        return made


@dataclass
class Categories(_Likelihood):
    """CategoricalNB: inputs are whole numbers from 0 on, fractions are cut."""

    tables: list[Any]
    """Of each input: classes by categories."""
    priors: list[float]
    """Logarithms."""

    def __post_init__(self) -> None:
        self._tables = [numbers(table) for table in self.tables]
        self._priors = numbers(self.priors)

    def _joint(self, matrix: Matrix) -> Matrix:
        joint = np.zeros((len(matrix), len(self.priors)))
        for column, table in zip(np.trunc(matrix).T, self._tables, strict=True):
            if (column < 0).any() or (column >= table.shape[1]).any():
                raise Refused("a category is none of those seen in training")
            joint += table[:, column.astype(np.intp)].T
        made: Matrix = joint + self._priors
        return made


@dataclass
class Quadratic(_Likelihood):
    """QuadraticDiscriminantAnalysis."""

    means: Any
    """Classes by width."""
    rotations: list[Any]
    """Of each class: width by rank, already scaled."""
    offsets: list[float]
    """Of each class: the sum of its scalings' logarithms."""
    priors: list[float]

    def __post_init__(self) -> None:
        self._means, self._rotations = numbers(self.means), [numbers(one) for one in self.rotations]
        self._offsets, self._priors = numbers(self.offsets), np.log(numbers(self.priors))

    def _joint(self, matrix: Matrix) -> Matrix:
        norms = [np.sum(np.dot(matrix - mean, one) ** 2, axis=1) for mean, one in zip(self._means, self._rotations, strict=True)]
        made: Matrix = -0.5 * (np.column_stack(norms) + self._offsets) + self._priors
        return made

    def _shares(self, joint: Matrix) -> Matrix:
        return softmax_of(joint)
