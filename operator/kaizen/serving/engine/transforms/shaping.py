"""Numbers to numbers by functions that only NumPy has to the last bit: powers, quantiles, lengths of rows."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from kaizen.serving.engine.base import Matrix, Refused
from kaizen.serving.engine.transforms.common import OneRow, Takes, refuse_batch
from kaizen.serving.engine.transforms.deviates import deviate

__all__ = ["ARGUMENTS", "FUNCTIONS", "Function", "Normalize", "Power", "Quantiles"]

FUNCTIONS = frozenset({
    "absolute", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "cbrt", "ceil", "clip", "cos", "cosh", "deg2rad",
    "degrees", "exp", "exp2", "expm1", "fabs", "floor", "isfinite", "isinf", "isnan", "log", "log10", "log1p", "log2",
    "logical_not", "nan_to_num", "negative", "positive", "rad2deg", "radians", "reciprocal", "rint", "round", "sign", "signbit",
    "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc",
})  # fmt: skip
"""NumPy's functions of one number that a FunctionTransformer may name."""
ARGUMENTS: dict[str, frozenset[str]] = {
    "clip": frozenset({"a_min", "a_max", "min", "max"}),
    "nan_to_num": frozenset({"nan", "posinf", "neginf"}),
    "round": frozenset({"decimals"}),
}
"""Their arguments besides the number."""

_EPSILON = float(np.finfo(np.float64).eps)
_BOUND = 1e-7
"""So near to the ends QuantileTransformer takes a value for the end itself."""


@dataclass(frozen=True)
class Function(OneRow):
    """FunctionTransformer with one of NumPy's functions."""

    function: str
    arguments: dict[str, Any]
    takes: Takes

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        refuse_batch(table, self.takes)
        if self.function not in FUNCTIONS:
            raise KeyError(self.function)
        made: Matrix = getattr(np, self.function)(table, **self.arguments).astype(np.float64)
        return made


@dataclass(frozen=True)
class Power(OneRow):
    """PowerTransformer before it standardizes (Box and Cox 1964, Yeo and Johnson 2000)."""

    method: Literal["box-cox", "yeo-johnson"]
    lambdas: list[float]

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        refuse_batch(table, "Missing")
        powers = np.array(self.lambdas)
        if self.method == "box-cox":
            if (table <= 0).any():
                raise Refused("a value is not above 0, which the Box-Cox transformation needs")
            return _raised(np.log(table), powers, np.abs(powers) < 1e-19)
        above = _raised(np.log1p(np.where(table >= 0, table, 0.0)), powers, np.abs(powers) < _EPSILON)
        below = -_raised(np.log1p(-np.where(table >= 0, 0.0, table)), 2 - powers, np.abs(powers - 2) <= _EPSILON)
        return np.where(table >= 0, above, below)


def _raised(logarithms: Matrix, powers: Matrix, none: Any) -> Matrix:
    """(x ** power - 1) / power from the logarithm of x; the logarithm itself where the power is none."""
    divisors = np.where(none, 1.0, powers)
    return np.where(none, logarithms, np.expm1(divisors * logarithms) / divisors)


@dataclass(frozen=True)
class Quantiles(OneRow):
    """QuantileTransformer: where a value is among the quantiles of its column, both ways, since they may repeat."""

    normal: bool
    quantiles: list[list[float]]
    """Of each column, rising."""
    references: list[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_references", np.array(self.references))
        object.__setattr__(self, "_quantiles", [np.array(one) for one in self.quantiles])

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        refuse_batch(table, "Missing")
        columns: Any = zip(table.T, self._quantiles, strict=True)  # type: ignore[attr-defined]
        return np.column_stack([self._column(column, quantiles) for column, quantiles in columns])

    def _column(self, column: Matrix, quantiles: Matrix) -> Matrix:
        references: Matrix = self._references  # type: ignore[attr-defined]
        first, last = quantiles[0], quantiles[-1]
        bound = _BOUND if self.normal else 0.0
        low = column - bound < first if self.normal else column == first
        high = column + bound > last if self.normal else column == last
        rising = np.interp(column, quantiles, references)
        falling = np.interp(-column, -quantiles[::-1], -references[::-1])
        made = np.where(np.isnan(column), column, 0.5 * (rising - falling))
        made[high], made[low] = 1.0, 0.0
        return np.array([_deviate(share) for share in made.tolist()]) if self.normal else made


@cache
def _limits() -> tuple[float, float]:
    """scikit-learn's limits of normal deviates."""
    return deviate(_BOUND - float(np.spacing(1))), deviate(1 - (_BOUND - float(np.spacing(1))))


def _deviate(share: float) -> float:
    """The normal deviate below which this share lies, within the limits."""
    least, most = _limits()
    return share if share != share else min(max(deviate(share), least), most)


@dataclass(frozen=True)
class Normalize(OneRow):
    """Normalizer: each row divided by its length."""

    norm: Literal["l1", "l2", "max"]
    sparse: bool
    """scikit-learn then adds up one by one and divides by every length but 0."""
    takes: Takes

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        refuse_batch(table, self.takes)
        if self.norm == "max":
            lengths = np.abs(table).max(axis=1)
        else:
            parts = np.abs(table) if self.norm == "l1" else table * table
            lengths = np.add.accumulate(parts, axis=1)[:, -1] if self.sparse else parts.sum(axis=1)
            lengths = np.sqrt(lengths) if self.norm == "l2" else lengths
        none = lengths == 0 if self.sparse else lengths < 10 * _EPSILON
        return table / np.where(none, 1.0, lengths)[:, None]
