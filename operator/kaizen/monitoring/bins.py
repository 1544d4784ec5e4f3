"""The cells a column is counted in, frozen at training time so that counts of any place and time can be added up.

Every value there is lands in exactly one cell, and alone in the same one as in a batch: that is what makes counts of
rows, batches, workers and windows exchangeable.
"""

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Bins", "Count", "Kind", "as_text", "assign", "count", "freeze"]

Kind = Literal["Numeric", "Categorical"]
Count = npt.NDArray[np.int64]
"""Rows by cell."""

PARTS = 10
"""Of equal size, which numeric values are cut in: deciles, for which the customary limits of the PSI (0.1, 0.25) were found."""


@dataclass(frozen=True)
class Bins:
    """The cells of one column.

    Numeric: len(edges) + 1 cells of finite values, the first up to and including edges[0], then the missing, then the
    infinite values.  Categorical: one cell by category, then every other value, then the missing ones.
    """

    name: str
    kind: Kind
    edges: tuple[float, ...] = ()
    """Rising, finite; each is the largest value of its cell."""
    categories: tuple[str, ...] = ()

    @property
    def cells(self) -> int:
        """The number of cells."""
        return (len(self.edges) + 3) if self.kind == "Numeric" else (len(self.categories) + 2)

    @property
    def missing(self) -> int:
        """The cell of missing values."""
        return self.cells - (2 if self.kind == "Numeric" else 1)

    def to_json(self) -> dict[str, Any]:
        """A JSON object from which from_json makes the same bins again, to the last bit of each edge."""
        own = {"edges": list(self.edges)} if self.kind == "Numeric" else {"categories": list(self.categories)}
        return {"name": self.name, "kind": self.kind, **own}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Bins":
        """The bins of to_json's object; raises ValueError where no bins could look like that."""
        name, kind = document["name"], document["kind"]
        edges = tuple(float(edge) for edge in document.get("edges", ()))
        categories = tuple(str(category) for category in document.get("categories", ()))
        if kind not in ("Numeric", "Categorical"):
            raise ValueError(f"bins of {name!r}: kind must be Numeric or Categorical, not {kind!r}")
        if not all(map(math.isfinite, edges)) or any(low >= high for low, high in itertools.pairwise(edges)):
            raise ValueError(f"bins of {name!r}: edges must be finite and rising")
        if len(set(categories)) < len(categories):
            raise ValueError(f"bins of {name!r}: categories must differ")
        return Bins(name, kind, edges, categories)


def freeze(name: str, values: npt.NDArray[Any], kind: Kind, most: int = 20) -> Bins:
    """The bins for a column, from its training values (rows,).

    Numeric: edges at the deciles of the finite values, and one cell each for what is smaller or larger than all of them:
    where the tenth decile has no end, July's heat looks the same as a warm day of March.  A value on which several deciles
    fall gets a cell of its own, so that a pile (no rain, ten miles of sight) can be seen to shrink towards either side.
    Categorical: the `most` most frequent categories, by name among equals.
    """
    if kind == "Categorical":
        frequency = Counter(text for text in map(as_text, values.tolist()) if text is not None)
        return Bins(name, kind, categories=tuple(sorted(frequency, key=lambda text: (-frequency[text], text))[:most]))
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)] + 0.0  # makes -0.0 the ordinary zero
    if not numbers.size:
        return Bins(name, kind)
    # Observed values only: an edge interpolated between them could overflow, and its last bit depends on the NumPy version.
    deciles = np.quantile(numbers, np.arange(PARTS + 1) / PARTS, method="inverted_cdf")
    distinct, repeats = np.unique(deciles, return_counts=True)
    with np.errstate(over="ignore"):  # below the smallest number of all there is nothing
        below = np.nextafter(distinct[(repeats > 1) | (distinct == distinct[0])], -np.inf)
    edges = np.unique(np.concatenate([deciles[1:], below[np.isfinite(below)]]))
    return Bins(name, kind, edges=tuple(edges.tolist()))


def count(bins: Bins, values: npt.NDArray[Any]) -> Count:
    """Rows by cell (bins.cells,) of a column (rows,): numbers with NaN as missing, or strings with None as missing."""
    return np.bincount(assign(bins, values), minlength=bins.cells).astype(np.int64, copy=False)


def assign(bins: Bins, values: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """The cell of each row (rows,)."""
    if bins.kind == "Numeric":
        numbers = np.asarray(values, dtype=np.float64)
        cells = np.searchsorted(np.array(bins.edges), numbers, side="left")
        cells[np.isnan(numbers)] = bins.missing
        cells[np.isinf(numbers)] = bins.missing + 1
        return cells
    other = len(bins.categories)
    lookup: dict[str | None, int] = {category: cell for cell, category in enumerate(bins.categories)}
    lookup[None] = bins.missing
    rows = values.tolist()
    cells = np.array([lookup.get(value, other) for value in rows], dtype=np.intp)
    for row in np.flatnonzero(cells == other).tolist():  # rare: unseen strings, and what pandas calls a missing string
        cells[row] = lookup.get(as_text(rows[row]), other)
    return cells


def as_text(value: Any) -> str | None:
    """A category as text; None, NaN and NaT are missing."""
    if isinstance(value, str):
        return value
    return None if value is None or value != value else str(value)
