"""The inverse of the normal distribution, bit for bit as SciPy's `ndtri`, which does not have to be installed.

Method and coefficients: S. L. Moshier, Methods and Programs for Mathematical Functions (Cephes), `ndtri`; rational functions of
the distance to one half in the middle, of 1 / sqrt(-2 log share) in the tails.  Relative error below 5e-16.
"""

from collections.abc import Sequence
from math import inf, log, nan, sqrt

__all__ = ["deviate"]

TAIL = 0.13533528323661269189
"""exp(-2)."""
FAR = 8.0
SQRT_TWO_PI = 2.50662827463100050242

Ratio = tuple[Sequence[float], Sequence[float]]
"""Coefficients of two polynomials, highest first; the second's highest one is 1 and left out."""

_MIDDLE: Ratio = (
    (
        -5.99633501014107895267e1,
        9.80010754185999661536e1,
        -5.66762857469070293439e1,
        1.39312609387279679503e1,
        -1.23916583867381258016e0,
    ),
    (
        1.95448858338141759834e0,
        4.67627912898881538453e0,
        8.63602421390890590575e1,
        -2.25462687854119370527e2,
        2.00260212380060660359e2,
        -8.20372256168333339912e1,
        1.59056225126211695515e1,
        -1.18331621121330003142e0,
    ),
)
_NEAR_TAIL: Ratio = (
    (
        4.05544892305962419923e0,
        3.15251094599893866154e1,
        5.71628192246421288162e1,
        4.40805073893200834700e1,
        1.46849561928858024014e1,
        2.18663306850790267539e0,
        -1.40256079171354495875e-1,
        -3.50424626827848203418e-2,
        -8.57456785154685413611e-4,
    ),
    (
        1.57799883256466749731e1,
        4.53907635128879210584e1,
        4.13172038254672030440e1,
        1.50425385692907503408e1,
        2.50464946208309415979e0,
        -1.42182922854787788574e-1,
        -3.80806407691578277194e-2,
        -9.33259480895457427372e-4,
    ),
)
_FAR_TAIL: Ratio = (
    (
        3.23774891776946035970e0,
        6.91522889068984211695e0,
        3.93881025292474443415e0,
        1.33303460815807542389e0,
        2.01485389549179081538e-1,
        1.23716634817820021358e-2,
        3.01581553508235416007e-4,
        2.65806974686737550832e-6,
        6.23974539184983293730e-9,
    ),
    (
        6.02427039364742014255e0,
        3.67983563856160859403e0,
        1.37702099489081330271e0,
        2.16236993594496635890e-1,
        1.34204006088543189037e-2,
        3.28014464682127739104e-4,
        2.89247864745380683936e-6,
        6.79019408009981274425e-9,
    ),
)


def deviate(share: float) -> float:
    """The value below which this share of a standard normal distribution lies; NaN for what is no share."""
    if not 0.0 < share < 1.0:
        return -inf if share == 0.0 else inf if share == 1.0 else nan
    upper = share > 1.0 - TAIL
    tail = 1.0 - share if upper else share
    if tail > TAIL:
        (top, bottom), y = _MIDDLE, tail - 0.5
        square = y * y
        return (y + y * (square * _polynomial(square, top) / _polynomial(square, bottom, 1.0))) * SQRT_TWO_PI
    x = sqrt(-2.0 * log(tail))
    z = 1.0 / x
    top, bottom = _NEAR_TAIL if x < FAR else _FAR_TAIL
    found = x - log(x) / x - z * _polynomial(z, top) / _polynomial(z, bottom, 1.0)
    return found if upper else -found


def _polynomial(x: float, coefficients: Sequence[float], found: float = 0.0) -> float:
    for one in coefficients:
        found = found * x + one
    return found
