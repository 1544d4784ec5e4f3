"""Models that ask others: means, votes, stacks, one against another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaizen.serving.engine.base import Matrix
from kaizen.serving.engine.models.common import Model
from kaizen.serving.engine.models.links import Indices, largest, logistic, logistic_of
from kaizen.serving.engine.transforms import Table, as_matrix

__all__ = ["Average", "Member", "OneVsOne", "OneVsRest", "Stack"]


@dataclass
class Member:
    """A model within another, and what of its table and of its answer counts."""

    model: Model
    columns: list[int] | None = None
    """Those of the table that it reads; None: all."""
    says: list[int] | None = None
    """Positions in its answer that count; None: all."""
    labels: list[float] | None = None
    """What it says instead: the label of its class."""
    votes: int | None = None
    """What it says instead: of so many classes 1 for its own, 0 for the others."""

    def row(self, values: list[Any]) -> list[float]:
        """What it says of one row."""
        index, scores = self.model.row(values if self.columns is None else [values[i] for i in self.columns])
        if self.labels is not None:
            return [self.labels[index]]
        if self.votes is not None:
            return [1.0 if place == index else 0.0 for place in range(self.votes)]
        return scores if self.says is None else [scores[i] for i in self.says]

    def batch(self, table: Table) -> Matrix:
        """The same of many, shape (rows, as many as `row` gives)."""
        indices, scores = self.model.batch(self.table(table))
        if self.labels is not None:
            return np.array(self.labels, dtype=np.float64)[indices][:, None]
        if self.votes is not None:
            return np.eye(self.votes)[indices]
        return scores if self.says is None else scores[:, self.says]

    def table(self, table: Table) -> Table:
        """The columns that it reads."""
        if self.columns is None:
            return table
        return [table[i] for i in self.columns] if isinstance(table, list) else table[:, self.columns]


def members(documents: Iterable[Any]) -> list[Member]:
    """From dicts of a Member's fields."""
    return [Member(**one) for one in documents]


@dataclass
class Average:
    """VotingClassifier and -Regressor, Bagging, and CalibratedClassifierCV over several: a weighted mean."""

    members: list[Any]
    weights: list[float] | None
    total: float
    """What weighted sums are divided by: that of the weights, or 1 where members only vote."""
    outputs: int
    classifies: bool
    places: list[list[int]] | None = None
    """Of each member, where its answers belong among all classes; None: in their order."""

    def __post_init__(self) -> None:
        self._members = members(self.members)
        weights = self.weights or [1.0] * len(self._members)
        places = self.places or [list(range(self.outputs))] * len(self._members)
        self._parts = list(zip(self._members, weights, places, strict=True))

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        sums = [0.0] * self.outputs
        for member, weight, places in self._parts:
            for place, score in zip(places, member.row(values), strict=True):
                sums[place] += score * weight
        means = [one / self.total for one in sums]
        return (largest(means) if self.classifies else 0), means

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        said = [member.batch(table) * weight for member, weight, _ in self._parts]
        sums = np.zeros((len(said[0]), self.outputs))
        for one, (_, _, places) in zip(said, self._parts, strict=True):
            sums[:, places] += one
        means: Matrix = sums / self.total
        return means.argmax(axis=1) if self.classifies else np.zeros(len(means), dtype=np.intp), means


@dataclass
class Stack:
    """StackingClassifier and StackingRegressor: what members say is what the final model reads."""

    members: list[Any]
    passthrough: bool
    """Whether it also reads what they read, behind."""
    final: Model

    def __post_init__(self) -> None:
        self._members = members(self.members)

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        said = [score for member in self._members for score in member.row(values)]
        return self.final.row([*said, *values] if self.passthrough else said)

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        said = [member.batch(table) for member in self._members]
        return self.final.batch(np.hstack([*said, as_matrix(table)] if self.passthrough else said))


@dataclass
class OneVsRest:
    """OneVsRestClassifier: the class whose own classifier is surest."""

    members: list[Any]
    """Each says one number, its confidence; one member alone tells two classes apart."""
    link: str | None
    """What makes a probability of a confidence: Logistic, or Given (it is one); None: there are no probabilities."""

    def __post_init__(self) -> None:
        self._members = members(self.members)
        self._limit = 0.5 if self.link == "Given" else 0.0

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        scores = [member.row(values)[0] for member in self._members]
        single = len(scores) == 1
        index = int(scores[0] > self._limit) if single else largest(scores)
        if self.link is None:
            return index, scores
        shares = [logistic(score) for score in scores] if self.link == "Logistic" else scores
        if single:
            shares = [1.0 - shares[0], shares[0]]
        total = sum(shares)
        return index, [share / total for share in shares] if total else shares

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        scores = np.hstack([member.batch(table) for member in self._members])
        single = len(self._members) == 1
        indices = (scores[:, 0] > self._limit).astype(np.intp) if single else scores.argmax(axis=1)
        if self.link is None:
            return indices, scores
        shares = logistic_of(scores) if self.link == "Logistic" else scores
        if single:
            shares = np.hstack([1.0 - shares, shares])
        totals = shares.sum(axis=1, keepdims=True)
        return indices, np.divide(shares, totals, out=shares.copy(), where=totals != 0)


@dataclass
class OneVsOne:
    """OneVsOneClassifier: the class with most votes of the classifiers of pairs; confidences decide between equals."""

    members: list[Any]
    """A model each, which says one number, its confidence in the second of its pair."""
    classes: int
    limit: float
    """Of two classes: above it the second is answered."""

    def __post_init__(self) -> None:
        self._models = members(self.members)
        self._pairs = [(first, second) for first in range(self.classes) for second in range(first + 1, self.classes)]

    def row(self, values: list[Any]) -> tuple[int, list[float]]:
        """See Model.row."""
        said = []
        for member in self._models:
            index, scores = member.model.row(values)
            said.append((index, scores[member.says[0] if member.says else 0]))
        return self._decided([index for index, _ in said], [score for _, score in said])

    def _decided(self, votes: Sequence[int], confidences: Sequence[float]) -> tuple[int, list[float]]:
        counts, sums = [0.0] * self.classes, [0.0] * self.classes
        for (first, second), vote, confidence in zip(self._pairs, votes, confidences, strict=True):
            sums[first] -= confidence
            sums[second] += confidence
            counts[second if vote else first] += 1.0
        scores = [count + one / (3.0 * (abs(one) + 1.0)) for count, one in zip(counts, sums, strict=True)]
        return (int(scores[1] > self.limit) if self.classes == 2 else largest(scores)), scores

    def batch(self, table: Table) -> tuple[Indices, Matrix]:
        """See Model.batch."""
        counts: Any = 0.0
        sums: Any = 0.0
        for (first, second), member in zip(self._pairs, self._models, strict=True):
            indices, scores = member.model.batch(table)
            if not isinstance(counts, np.ndarray):
                counts, sums = np.zeros((len(indices), self.classes)), np.zeros((len(indices), self.classes))
            confidence = scores[:, member.says[0] if member.says else 0]
            sums[:, first] -= confidence
            sums[:, second] += confidence
            counts[:, second] += indices == 1
            counts[:, first] += indices == 0
        made: Matrix = counts + sums / (3.0 * (np.abs(sums) + 1.0))
        return (made[:, 1] > self.limit).astype(np.intp) if self.classes == 2 else made.argmax(axis=1), made
