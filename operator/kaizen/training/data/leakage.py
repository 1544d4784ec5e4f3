"""Features that alone nearly decide the target: mostly they are the target, or were written down after it.

Looking at one feature at a time is what Kaufman, Rosset, Perlich and Stitelman (2012, Leakage in data mining) recommend first.
The measure is the share of what is uncertain about the target that the feature takes away, on rows it was not estimated on: for
classes of the entropy (Theil's uncertainty coefficient, Theil 1970), for numbers of the variance of the target's ranks (Pearson's
correlation ratio), so that neither a long tail nor another unit hides a copy.  Values are grouped by a small tree of the one
feature, or by themselves where they are texts.  Ranks that rise or fall together (Spearman 1904) need no groups, so few rows are
enough to see a copy of a number.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["CERTAIN", "LEAST_ROWS", "SUSPECT", "decided_share"]

CERTAIN = {"Classification": 0.95, "Regression": 0.995}
"""Honest features can be strong: the distance of a flight explains 98 % of its time in the air."""
SUSPECT = 0.9
LEAST_ROWS = 100
FIRST_ROWS, PROMISING = 4_000, 0.3
"""Few features decide so much on few rows; only those are looked at again, on more."""
MOST_ROWS = 40_000
MOST_GROUPS = 256
LEAST_GROUP_ROWS = 5


def decided_share(column: pa.ChunkedArray, target: pa.ChunkedArray, classes: bool) -> float:
    """How much of the target a feature decides, 0 to 1; 0 also when there are too few rows to say.

    Args:
        column: texts, numbers or booleans (rows,).
        target: of the same rows; those without a value are left out.
        classes: the target's values are classes, not numbers.
    """
    rows = np.flatnonzero(~target.is_null(nan_is_null=True).to_numpy())
    if len(rows) < LEAST_ROWS:
        return 0.0
    found = _on(column, target, rows, FIRST_ROWS, classes)
    return _on(column, target, rows, MOST_ROWS, classes) if len(rows) > FIRST_ROWS and found > PROMISING else found


def _on(column: pa.ChunkedArray, target: pa.ChunkedArray, rows: npt.NDArray[np.int64], most: int, classes: bool) -> float:
    """decided_share on at most so many of these rows, spread evenly."""
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.int64)]
    column, target = column.take(rows), target.take(rows)
    learn = np.random.default_rng(0).random(len(rows)) < 0.5
    wanted: npt.NDArray[Any] = _numbered(target) if classes else _ranks(target)
    if len(np.unique(wanted[learn])) < 2:
        return 0.0
    groups = _groups(column, wanted, learn, classes)
    if classes:
        return max(_entropy_share(groups, wanted, learn), 0.0)
    return max(_variance_share(groups, wanted, learn), _rank_correlation(column, wanted) ** 2)


def _groups(
    column: pa.ChunkedArray, wanted: npt.NDArray[Any], learn: npt.NDArray[np.bool_], classes: bool
) -> npt.NDArray[np.int64]:
    """The group of each row (rows,)."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_dictionary(column.type):
        return _numbered(column)
    from sklearn import config_context
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    with np.errstate(over="ignore"):
        values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float32).reshape(-1, 1)
    values[np.isinf(values)] = np.nan
    with config_context(skip_parameter_validation=True):
        tree = (DecisionTreeClassifier if classes else DecisionTreeRegressor)(
            max_leaf_nodes=MOST_GROUPS, min_samples_leaf=LEAST_GROUP_ROWS, random_state=0
        )
        tree.fit(values[learn], wanted[learn])
    return np.asarray(tree.apply(values), dtype=np.int64)


def _numbered(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Equal values by equal numbers from 0; gaps are a value."""
    if not pa.types.is_dictionary(column.type):
        column = column.combine_chunks().dictionary_encode()
    else:
        column = column.unify_dictionaries().combine_chunks()
    indices = column.indices.fill_null(len(column.dictionary)).to_numpy(zero_copy_only=False)
    return np.asarray(indices, dtype=np.int64)


def _ranks(target: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """From 0 to 1, equal values the mean of theirs."""
    values = target.cast(pa.float64(), safe=False).to_numpy()
    _, number, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    return np.asarray(middle[number] / len(values))


def _rank_correlation(column: pa.ChunkedArray, wanted: npt.NDArray[np.float64]) -> float:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        return 0.0
    there = ~column.is_null(nan_is_null=True).to_numpy()
    if there.mean() < SUSPECT:
        return 0.0
    ranks, wanted = _ranks(column.filter(pa.array(there))), wanted[there]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = float(np.corrcoef(ranks, wanted)[0, 1])
    return found if np.isfinite(found) else 0.0


def _entropy_share(groups: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64], learn: npt.NDArray[np.bool_]) -> float:
    classes = int(wanted.max()) + 1
    prior = (np.bincount(wanted[learn], minlength=classes) + 1) / (learn.sum() + classes)
    counts = np.zeros((int(groups.max()) + 1, classes))
    np.add.at(counts, (groups[learn], wanted[learn]), 1)
    # One more row of the prior's kind in each group: a group never seen says what the prior does.
    shares = (counts + prior) / (counts.sum(axis=1, keepdims=True) + 1)
    judged, kind = groups[~learn], wanted[~learn]
    uncertain = -np.log(prior[kind]).mean()
    left = -np.log(shares[judged, kind]).mean()
    return float(1 - left / uncertain)


def _variance_share(groups: npt.NDArray[np.int64], wanted: npt.NDArray[np.float64], learn: npt.NDArray[np.bool_]) -> float:
    number = int(groups.max()) + 1
    mean = wanted[learn].mean()
    counts = np.bincount(groups[learn], minlength=number)
    sums = np.bincount(groups[learn], weights=wanted[learn], minlength=number)
    means = (sums + mean) / (counts + 1)
    uncertain = np.square(wanted[~learn] - mean).mean()
    return float(1 - np.square(wanted[~learn] - means[groups[~learn]]).mean() / uncertain) if uncertain else 0.0
