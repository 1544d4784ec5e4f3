"""The rows of each value of a column, where there are enough of them to say something; the others together."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaizen.training.data.prepare import Rows
from kaizen.training.errors import Failure
from kaizen.training.judge.outcome import Codes, Outcome

__all__ = ["MINIMUM_ROWS", "Slice", "Slices", "column", "cut", "relevant"]

MINIMUM_ROWS = 200
"""Of the relevant class: the largest difference between 16 carriers was 0.78, because one has a single delayed flight."""
MOST_VALUES = 20
"""Numbers with more different values are cut at their quartiles."""
MOST_SLICES = 50
"""The largest; the others are judged together."""
SHOWN = 8
QUARTILES = (0.25, 0.5, 0.75)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Slice:
    """The rows of one value, or of several that are pooled."""

    name: str
    """As in carrier=UA."""
    rows: Codes
    """Row numbers, ascending."""


@dataclass(frozen=True, eq=False)
class Slices:
    """What a column is cut into."""

    judged: tuple[Slice, ...]
    pooled: tuple[str, ...]
    """Values with too few rows each, which are one slice."""
    left_out: tuple[str, ...]
    """Values that even together have too few rows."""

    def note(self) -> str:
        """What is not judged by itself, as the end of a message; empty where there is nothing."""
        notes = [f"{_list(self.pooled)} together, being small"] if self.pooled else []
        notes += [f"{_list(self.left_out)} not judged, being too small even together"] if self.left_out else []
        return "; ".join(notes)


def column(rows: Rows, name: str, gate: str) -> "pd.Series[Any]":
    """The values of a column that slices or fairness name.  Raises Failure ColumnMissing."""
    for frame in (rows.sensitive, rows.frame):
        if name in frame.columns:
            return frame[name]
    there = ", ".join(map(str, dict.fromkeys([*rows.sensitive.columns, *rows.frame.columns])))
    raise Failure("Gates", "ColumnMissing", f"gate {gate} names column {name}, and the data has {there[:400]}")


def relevant(metric: str, outcome: Outcome) -> tuple[Mask, ...]:
    """The rows that a metric of two classes lives on; it needs enough rows of each.  All rows for the other metrics."""
    every = np.ones(len(outcome.target), dtype=np.bool_)
    if not outcome.binary:
        return (every,)
    second = outcome.codes == 1
    if metric in ("roc_auc", "balanced_accuracy", "matthews") or metric.startswith("equalized_odds"):
        return second, outcome.codes == 0
    if metric in ("average_precision", "recall", "precision", "f1") or metric.startswith("equal_opportunity"):
        return (second,)
    return (every,)


def cut(name: str, values: "pd.Series[Any]", marks: Sequence[Mask], minimum: int) -> Slices:
    """A slice for each value with enough rows of each mark; the others pooled into one.

    Numbers with many values are cut at their quartiles, and what is missing is a value of its own.
    """
    codes, labels = _coded(values)
    counts = np.min([np.bincount(codes[mark], minlength=len(labels)) for mark in marks], axis=0)
    sizes = np.bincount(codes, minlength=len(labels))
    enough = np.flatnonzero(counts >= minimum)
    if len(enough) > MOST_SLICES:
        enough = np.sort(enough[np.argsort(-sizes[enough], kind="stable")[:MOST_SLICES]])
    small = np.setdiff1d(np.flatnonzero(sizes), enough)
    judged = [Slice(f"{name}={labels[one]}", np.flatnonzero(codes == one)) for one in enough]
    names = tuple(f"{name}={labels[one]}" for one in small)
    together = np.isin(codes, small)
    pooled = bool(names) and min(int((together & mark).sum()) for mark in marks) >= minimum
    if pooled:
        judged.append(Slice(f"{name}=(others)", np.flatnonzero(together)))
    return Slices(tuple(judged), names if pooled else (), () if pooled else names)


def _coded(values: "pd.Series[Any]") -> tuple[Codes, list[str]]:
    """The place of each row's value in a list of texts, in the values' order, `missing` last."""
    texts = values.dtype.kind in "Ob"
    if not texts and values.nunique() > MOST_VALUES:
        edges = np.unique(values.quantile(QUARTILES).to_numpy())
        codes = np.searchsorted(edges, values.to_numpy(), "right")
        ends = [_text(edge) for edge in edges.tolist()]
        labels = [f"below {ends[0]}", *(f"{one} to {other}" for one, other in pairwise(ends)), f"from {ends[-1]}"]
        codes = np.where(values.isna().to_numpy(), len(labels), codes)
    else:
        found, unique = pd.factorize(values)
        names = [_text(value) for value in unique.tolist()]
        order = sorted(range(len(names)), key=names.__getitem__) if texts else np.argsort(unique, kind="stable").tolist()
        places = np.empty(len(names) + 1, dtype=np.int64)
        places[order] = np.arange(len(names))
        places[-1] = len(names)
        codes, labels = places[found], [names[place] for place in order]
    return np.asarray(codes, dtype=np.int64), [*labels, "missing"]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
