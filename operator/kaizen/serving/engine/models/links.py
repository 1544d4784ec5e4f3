"""Links: from the scores of an estimator to its answer, for one row in plain Python and for many in NumPy.

Computed here in float64, because Treelite's own softmax is in float32.  Classes come from scores where scikit-learn takes them
from scores: probabilities may tie where scores do not.
"""

from collections.abc import Callable, Mapping
from math import exp, inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kaizen.serving.engine.base import Matrix

__all__ = ["DECISIONS", "LINKS", "Indices", "Link", "largest", "likelihood_of", "logistic", "logistic_of", "shared", "softmax_of"]

Indices = NDArray[np.intp]
One = tuple[int, list[float]]
Many = tuple[Indices, Matrix]


class Link(NamedTuple):
    """The index of the class (0 for a regression) and what is answered, from the scores."""

    one: Callable[[list[float]], One]
    many: Callable[[Matrix], Many]
    """Scores have shape (rows, outputs)."""


def largest(scores: list[float]) -> int:
    """As np.argmax: the first of the largest, or the first NaN."""
    total = sum(scores)
    return scores.index(max(scores)) if total == total else int(np.argmax(scores))


def logistic(score: float) -> float:
    """1 / (1 + exp(-score)), without overflow."""
    if score >= 0.0:
        return 1.0 / (1.0 + exp(-score))
    if score < 0.0:
        small = exp(score)
        return small / (1.0 + small)
    return score  # NaN


def logistic_of(scores: Matrix) -> Matrix:
    """The same of an array of any shape."""
    powers = np.exp(-np.abs(scores))
    made: Matrix = np.where(scores >= 0.0, 1.0, powers) / (1.0 + powers)
    return made


def softmax_of(scores: Matrix) -> Matrix:
    """Of each row."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    made: Matrix = powers / powers.sum(axis=1, keepdims=True)
    return made


def likelihood_of(joint: Matrix) -> Matrix:
    """Softmax as naive Bayes computes it: far from all classes, where logarithms are large, each may get 1."""
    top = joint.max(axis=1, keepdims=True)
    made: Matrix = np.exp(joint - (top + np.log(np.exp(joint - top).sum(axis=1, keepdims=True))))
    return made


def shared(shares: Matrix) -> Matrix:
    """Each row's shares of its sum; equal ones where all are 0."""
    totals = shares.sum(axis=1, keepdims=True)
    shares = np.where(totals == 0, 1.0, shares)
    made: Matrix = shares / np.where(totals == 0, shares.shape[1], totals)
    return made


def _nowhere(scores: Matrix) -> Indices:
    return np.zeros(len(scores), dtype=np.intp)


def _alone(many: Callable[[Matrix], Many]) -> Callable[[list[float]], One]:
    """One row as a batch of one."""

    def one(scores: list[float]) -> One:
        with np.errstate(all="ignore"):
            indices, answers = many(np.array([scores]))
        return int(indices[0]), answers[0].tolist()

    return one


def _identity(scores: list[float]) -> One:
    return 0, scores


def _exponential(scores: list[float]) -> One:
    try:
        return 0, [exp(scores[0])]
    except OverflowError:
        return 0, [inf]


def _logistic(scores: list[float]) -> One:
    score = scores[0]
    second = logistic(score)
    return (1 if score > 0.0 else 0), [1.0 - second, second]


def _logistic_many(scores: Matrix) -> Many:
    second = logistic_of(scores[:, 0])
    return (scores[:, 0] > 0.0).astype(np.intp), np.column_stack([1.0 - second, second])


def _logistic_from_zero(scores: list[float]) -> One:
    second = logistic(scores[0])
    return (1 if scores[0] >= 0.0 else 0), [1.0 - second, second]


def _logistic_from_zero_many(scores: Matrix) -> Many:
    return (scores[:, 0] >= 0.0).astype(np.intp), _logistic_many(scores)[1]


def _softmax(scores: list[float]) -> One:
    top = max(scores)
    powers = [exp(score - top) for score in scores]
    total = sum(powers)
    if total - total != 0.0:  # something is not finite
        return _alone(_softmax_many)(scores)
    return scores.index(top), [power / total for power in powers]


def _softmax_many(scores: Matrix) -> Many:
    return scores.argmax(axis=1), softmax_of(scores)


def _likelihood_many(scores: Matrix) -> Many:
    return scores.argmax(axis=1), likelihood_of(scores)


def _one_vs_rest_many(scores: Matrix) -> Many:
    return scores.argmax(axis=1), shared(logistic_of(scores))


def _modified_huber_many(scores: Matrix) -> Many:
    shares = (np.clip(scores, -1, 1) + 1.0) / 2.0
    if scores.shape[1] > 1:
        return scores.argmax(axis=1), shared(shares)
    return (scores[:, 0] > 0.0).astype(np.intp), np.hstack([1.0 - shares, shares])


def _independent_many(scores: Matrix) -> Many:
    shares = logistic_of(scores)
    return shares.argmax(axis=1), shares


def _boosted_many(scores: Matrix) -> Many:
    return scores.argmax(axis=1), softmax_of(scores / (scores.shape[1] - 1))


LINKS: Mapping[str, Link] = {
    # Regressions.
    "Identity": Link(_identity, lambda scores: (_nowhere(scores), scores)),
    "Exponential": Link(_exponential, lambda scores: (_nowhere(scores), np.exp(scores))),
    "Sigmoid": Link(lambda scores: (0, [logistic(scores[0])]), lambda scores: (_nowhere(scores), logistic_of(scores))),
    # Scores as they are, with the class that they decide for.
    "Binary": Link(
        lambda scores: (1 if scores[0] > 0.0 else 0, scores), lambda scores: ((scores[:, 0] > 0.0).astype(np.intp), scores)
    ),
    "BinaryFromZero": Link(
        lambda scores: (1 if scores[0] >= 0.0 else 0, scores), lambda scores: ((scores[:, 0] >= 0.0).astype(np.intp), scores)
    ),
    "Largest": Link(lambda scores: (largest(scores), scores), lambda scores: (scores.argmax(axis=1), scores)),
    # Probabilities.
    "Logistic": Link(_logistic, _logistic_many),
    "LogisticFromZero": Link(_logistic_from_zero, _logistic_from_zero_many),
    "ExponentialLoss": Link(
        lambda scores: _logistic_from_zero([2.0 * scores[0]]), lambda scores: _logistic_from_zero_many(2.0 * scores)
    ),
    "Softmax": Link(_softmax, _softmax_many),
    "Likelihood": Link(_alone(_likelihood_many), _likelihood_many),
    "OneVsRest": Link(_alone(_one_vs_rest_many), _one_vs_rest_many),
    "ModifiedHuber": Link(_alone(_modified_huber_many), _modified_huber_many),
    "Independent": Link(_alone(_independent_many), _independent_many),
    "AdaBoost": Link(_alone(_boosted_many), _boosted_many),
}

DECISIONS: Mapping[str, str] = {
    "Logistic": "Binary",
    "LogisticFromZero": "BinaryFromZero",
    "ExponentialLoss": "BinaryFromZero",
    "Softmax": "Largest",
    "OneVsRest": "Largest",
    "AdaBoost": "Largest",
    "Binary": "Binary",
    "Largest": "Largest",
}
"""By the link that makes probabilities of scores: the one that leaves them as decision_function does."""
