"""Whether the rows that judge a model are like those it learned from."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from kaizen.monitoring.bins import Bins, Kind, count, freeze
from kaizen.monitoring.distance import SMOOTHING, psi
from kaizen.training.data.anomalies import Anomaly
from kaizen.training.data.prepare import Rows

__all__ = ["FLOOR", "drifted"]

FLOOR = 0.1
"""The population stability index below which nobody would call it a shift (Siddiqi 2006)."""
CHANCE_DEVIATIONS = 4.0
MOST_ROWS = 100_000


def drifted(train: Rows, test: Rows, target: str) -> tuple[Anomaly, ...]:
    """A warning for each feature, and for `target`, that lies elsewhere in the test rows; dates do by nature and are left out.

    A distance counts above FLOOR, and above what chance explains: without a shift it is about (1/n + 1/m) times a chi-square of
    cells - 1 degrees of freedom (Yurdakul and Naranjo 2020).
    """
    return tuple(_compared(train, test, target))


def _compared(train: Rows, test: Rows, target: str) -> Iterator[Anomaly]:
    columns: list[tuple[str, Kind, npt.NDArray[Any], npt.NDArray[Any]]] = [
        (name, kind, train.frame[name].to_numpy(), test.frame[name].to_numpy())
        for name, kind in train.kinds.items()
        if train.frame[name].dtype.kind != "M"
    ]
    kind: Kind = "Numeric" if train.target.dtype == np.float64 else "Categorical"
    columns.append((target, kind, train.target, test.target))
    for name, kind, learned, judged in columns:
        bins = freeze(name, _some(learned), kind)
        before, after = count(bins, _some(learned)), count(bins, _some(judged))
        distance, rows = psi(before, after), (before.sum(), after.sum())
        freedom = max(int(np.count_nonzero(before + after)) - 1, 1)
        chance = (1 / rows[0] + 1 / rows[1]) * (freedom + CHANCE_DEVIATIONS * np.sqrt(2 * freedom))
        if distance > FLOOR and distance > chance:
            message = (
                f"{'target' if name == target else 'column'} {name} lies elsewhere in the rows that judge than in those to learn "
                f"from (PSI {distance:.2f}): {_most(bins, before, after)}"
            )
            yield Anomaly("COMPARATOR_PSI_HIGH", name, message, "Warning")


def _some(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows spread evenly, as many as it takes."""
    return values if len(values) <= MOST_ROWS else values[np.linspace(0, len(values) - 1, MOST_ROWS).astype(np.int64)]


def _most(bins: Bins, before: npt.NDArray[np.int64], after: npt.NDArray[np.int64]) -> str:
    """The cell that adds most to the distance."""
    old, new = before / before.sum(), after / after.sum()
    cell = int(np.argmax((new - old) * np.log((new + SMOOTHING) / (old + SMOOTHING))))
    return f"{_cell(bins, cell)} in {100 * new[cell]:.1f} % instead of {100 * old[cell]:.1f} % of the rows"


def _cell(bins: Bins, cell: int) -> str:
    if cell == bins.missing:
        return "no value"
    if bins.kind == "Categorical":
        return bins.categories[cell] if cell < len(bins.categories) else "another value"
    if cell > bins.missing:
        return "an infinite value"
    if cell == 0:
        return f"at most {bins.edges[0]:g}" if bins.edges else "any value"
    if cell == len(bins.edges):
        return f"above {bins.edges[-1]:g}"
    return f"above {bins.edges[cell - 1]:g} to {bins.edges[cell]:g}"
