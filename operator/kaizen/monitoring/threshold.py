"""How far a feature may lie from its reference when nothing has changed.

Rows of one hour are alike, so no day or week ever looks like a random sample of a season: judged as one, every week of the
training period itself would "drift".  The null distribution is therefore made of the training period: each contiguous stretch
of the judged length is left out and compared with the rest.  The rest errs as the reference does, so the reference's own
error is in it.

A quarter has a dozen weeks, and the largest of a dozen is exceeded by one week in thirteen, not by one in a hundred, let alone
after a correction for the number of features.  So the quantile is not read from the ranks: cube roots of distances, quadratic
forms as they are, are close to normal (Wilson and Hilferty 1931), and Student's prediction bound on one further value knows how
few stretches there were.  On series where nothing changes it errs in 2.4 % of weeks at a level of 1 %, the largest stretch left
out in 27 % (bench/monitoring/calibration.py).
"""

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from kaizen.monitoring.bins import Count
from kaizen.monitoring.distance import distances
from kaizen.monitoring.reference import FeatureReference

__all__ = ["threshold"]

FEWEST_STRETCHES = 8
"""That do not overlap.  A judged span that is longer than such a part of the training period is stood for by shorter
stretches: they vary more, which errs on the quiet side."""

SAMPLES = 2000
"""Of the null, when it is drawn."""


def threshold(feature: FeatureReference, rows: int, blocks: int, features: int, level: float = 0.01, seed: int = 0) -> float:
    """The distance that a feature exceeds with probability level / features (Bonferroni) although nothing has changed.

    With fewer than FEWEST_STRETCHES blocks, or none, time tells nothing and rows count as independent: a two-sample bootstrap.

    Args:
        feature: the reference.
        rows: judged, at least 1.
        blocks: the judged span in blocks of the reference, at least 1.
        features: judged together, at least 1.
        level: probability that any of them exceeds its threshold.
        seed: of the draws; the same arguments give the same threshold.
    """
    random = np.random.default_rng(seed)
    present = 0 if feature.block_counts is None else int(np.count_nonzero(feature.block_counts.sum(axis=1)))
    if feature.block_counts is None or present < FEWEST_STRETCHES:
        return _bound(_two_samples(feature.counts, rows, random), SAMPLES, level / features)
    length = max(1, min(blocks, len(feature.block_counts) // FEWEST_STRETCHES))
    null = _left_out(feature.block_counts, length, rows, random)
    bound = _bound(null, min(present, len(feature.block_counts) // length), level / features)
    return max(bound, float(null.max()))  # what training has seen is not news


def _left_out(block_counts: Count, length: int, rows: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """The distances of all stretches of `length` blocks from the rest, each as if it had at most `rows` rows."""
    sums = np.concatenate([np.zeros_like(block_counts[:1]), block_counts.cumsum(axis=0)])
    stretches = sums[length:] - sums[:-length]
    sizes = stretches.sum(axis=1)
    kept = (sizes > 0) & (sizes < block_counts.sum())
    stretches, sizes = stretches[kept], sizes[kept]
    rest = sums[-1] - stretches
    large = sizes > rows
    draws = math.ceil(SAMPLES / len(sizes))
    thinned = random.multinomial(rows, _shares(stretches[large]), size=(draws, int(large.sum())))
    return np.concatenate(
        [
            distances(rest[large], thinned).ravel(),
            np.repeat(distances(rest[~large], stretches[~large]), draws),
        ]
    )


def _two_samples(counts: Count, rows: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Distances between samples of the reference's size and of `rows` rows, both from the reference."""
    shares = _shares(counts)
    expected = random.multinomial(counts.sum(), shares, size=SAMPLES)
    return distances(expected, random.multinomial(rows, shares, size=SAMPLES))


def _shares(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    shares: npt.NDArray[np.float64] = counts / counts.sum(axis=-1, keepdims=True)
    return shares


def _bound(null: npt.NDArray[np.float64], independent: int, level: float) -> float:
    """What a further distance exceeds with probability `level`, when `null` holds as much as `independent` distances."""
    roots = np.cbrt(null)
    spread = roots.std() * math.sqrt(independent / (independent - 1)) * math.sqrt(1 + 1 / independent)
    return float((roots.mean() + _student(level, independent - 1) * spread) ** 3)


def _student(tail: float, degrees: int) -> float:
    """What Student's t exceeds with probability `tail`: Hill's Algorithm 396 (CACM 13, 1970), from 5 degrees on to 5 digits."""
    a = 1 / (degrees - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * degrees
    y = (d * 2 * tail) ** (2 / degrees)
    if y > 0.05 + a:  # near the middle: corrections to the normal distribution
        x = NormalDist().inv_cdf(tail)
        c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
        square = x * x
        z = (((((0.4 * square + 6.3) * square + 36) * square + 94.5) / c - square - 3) / b + 1) * x
        y = math.expm1(a * z * z)
    else:
        far = 1 / (((degrees + 6) / (degrees * y) - 0.089 * d - 0.822) * (degrees + 2) * 3) + 0.5 / (degrees + 4)
        y = (far * y - 1) * (degrees + 1) / (degrees + 2) + 1 / y
    return math.sqrt(degrees * y)
