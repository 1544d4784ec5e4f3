"""Which input a column behind the steps comes from, and which value of the input gives a value of the column.

So that parity can ask rows that are on either side of a split.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, nan
from statistics import NormalDist
from typing import Any

import numpy as np

from kaizen.serving.engine.moments import UNITS
from kaizen.serving.engine.transforms import Known, Transform
from kaizen.serving.engine.transforms.columns import Columns, Select
from kaizen.serving.engine.transforms.dates import Moments
from kaizen.serving.engine.transforms.expanding import Dot
from kaizen.serving.engine.transforms.imputing import Fill, Impute
from kaizen.serving.engine.transforms.scaling import Clip, Line, Multiply, Scale
from kaizen.serving.engine.transforms.shaping import Function, Power, Quantiles

__all__ = ["Origin", "trace"]

Back = Callable[[float], Any]

_INVERSES: dict[str, Back] = {
    "exp": np.log,
    "expm1": np.log1p,
    "log": np.exp,
    "log10": lambda value: 10.0**value,
    "log1p": np.expm1,
    "log2": np.exp2,
    "negative": np.negative,
    "sqrt": np.square,
    "square": np.sqrt,
}


def _itself(value: float) -> float:
    return value


@dataclass(frozen=True)
class Origin:
    """Where a column comes from."""

    place: int
    """Of the input."""
    back: Back = _itself
    """From a value of the column to one of the input; of a date to microseconds since 1970."""

    def behind(self, back: Back | None) -> "Origin | None":
        """The origin of what a step makes of the column, given the inverse of the step, if there is one."""
        return None if back is None else Origin(self.place, lambda value: self.back(back(value)))


def trace(steps: Sequence[Transform], origins: Sequence[Origin | None]) -> list[Origin | None]:
    """Origins of the columns behind the steps, from those before them; None where a column mixes several, or is encoded."""
    for step in steps:
        origins = _behind(step, origins)
    return list(origins)


def _behind(step: Any, origins: Sequence[Origin | None]) -> list[Origin | None]:
    match step:
        case Columns():
            return [one for part in step.parts for one in trace(part.steps, [origins[i] for i in part.columns])]
        case Impute() | Fill():
            return [*(origins[i] for i in step.kept), *(None for _ in step.indicated)]
        case Select():
            return [origins[i] for i in step.kept]
        case Dot():
            backs = [_line(0.0, terms[0][1]) if len(terms) == 1 else None for terms in step.sums]
            sources = [origins[terms[0][0]] if terms else None for terms in step.sums]
            return [None if one is None else one.behind(back) for one, back in zip(sources, backs, strict=True)]
        case Clip() | Known():
            return list(origins)
    inverses = _inverses(step, len(origins))
    if inverses is None:
        return [None] * step.width
    return [None if one is None else one.behind(back) for one, back in zip(origins, inverses, strict=True)]


def _inverses(step: Any, width: int) -> Sequence[Back | None] | None:
    """Inverses of a step that handles each column by itself; None for other steps."""
    match step:
        case Scale():
            return [_line(-centre / scale, 1.0 / scale) for centre, scale in zip(step.centre, step.scale, strict=True)]
        case Line():
            return [_line(start, slope) for slope, start in zip(step.slope, step.start, strict=True)]
        case Multiply():
            return [_line(0.0, step.factor)] * width
        case Moments():
            return [_line(0.0, UNITS[step.unit] / UNITS["us"])] * width
        case Function():
            return [_INVERSES.get(step.function)] * width
        case Power():
            return [_power(step.method, power) for power in step.lambdas]
        case Quantiles():
            return [_quantile(step, quantiles) for quantiles in step.quantiles]
    return None if hasattr(step, "width") else [None] * width


def _line(start: float, slope: float) -> Back:
    return lambda value: (value - start) / slope if slope else nan


def _power(method: str, power: float) -> Back:
    def raised(value: float, exponent: float) -> Any:
        return np.log1p(exponent * value) / exponent if exponent else value

    if method == "box-cox":
        return lambda value: np.exp(raised(value, power))
    return lambda value: np.expm1(raised(value, power)) if value >= 0 else -np.expm1(raised(-value, 2 - power))


def _quantile(step: Quantiles, quantiles: list[float]) -> Back:
    def back(value: float) -> Any:
        share = NormalDist().cdf(value) if step.normal else value
        return np.interp(share, step.references, quantiles) if 0 < share < 1 else (inf if share >= 1 else -inf)

    return back
