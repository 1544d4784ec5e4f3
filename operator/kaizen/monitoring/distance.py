"""How far counts lie from a reference: the population stability index."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SMOOTHING", "psi"]

SMOOTHING = 1e-4
"""Added to the share of every cell on both sides: an empty cell must not make the distance infinite.  A constant, and not a
number of rows, so that the distance depends on shares alone: proportional counts are at distance 0, and distances of windows
of different sizes can be compared."""


def psi(expected: npt.ArrayLike, actual: npt.ArrayLike) -> float:
    """The population stability index of two arrays of counts (cells,): sum of (a - e) ln(a / e) over the cells' shares.

    It is the symmetric Kullback-Leibler divergence of the two (Kullback and Leibler 1951), known under this name from credit
    scoring (Lewis 1994; Siddiqi 2006).  Without a shift it is about (1/n + 1/m) times a chi-square of cells - 1 degrees of
    freedom (Yurdakul and Naranjo 2020).  Never negative; with this smoothing below 2 ln(1 / SMOOTHING) = 18.5.

    Raises ValueError when one of them holds no row.
    """
    return float(distances(np.asarray(expected, dtype=np.float64), np.asarray(actual, dtype=np.float64)))


def distances(expected: npt.NDArray[Any], actual: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """psi over the last axis, broadcast over the others."""
    e, a = _shares(expected), _shares(actual)
    # Each term is a product of two numbers of one sign, but for a last bit of rounding near equality.
    terms = np.maximum((a - e) * np.log(a / e), 0.0)
    return np.asarray(terms.sum(axis=-1), dtype=np.float64)


def _shares(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    rows = counts.sum(axis=-1, keepdims=True, dtype=np.float64)
    if not np.all(rows > 0):
        raise ValueError("a distance needs at least one row on either side")
    shares: npt.NDArray[np.float64] = (counts / rows + SMOOTHING) / (1 + SMOOTHING * counts.shape[-1])
    return shares
