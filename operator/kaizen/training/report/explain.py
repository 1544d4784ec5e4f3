"""What a fitted pipeline answers by: which columns it needs, and how its answer follows each of the most important ones.

Everything is asked of the whole pipeline in the columns a person knows, on rows that it has not learned from.  Work is bounded by
rows and columns first, so that the same data give the same figures; the time limit is a net under that and says when it was used.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaizen.training.data.prepare import Rows
from kaizen.training.judge.evaluate import score
from kaizen.training.models.fit import outputs

__all__ = ["Attributions", "Dependence", "Explanation", "Importance", "explain"]

Method = Literal["Permutation", "SHAP", "None"]
Numbers = npt.NDArray[np.float64]

MOST_ROWS = 2000
LEAST_ROWS = 200
REPEATS = 5
MOST_CELLS = 4_000_000
"""Of a table that is asked at once: 32 MB of numbers."""
MOST_COLUMNS = 300
"""That are shuffled one by one."""
BLOCKS = 100
MOST_SHAP_COLUMNS = 500
DEPENDENCES = 6
DEPENDENCE_ROWS = 500
GRID = 20
MOST_CATEGORIES = 12
MOST_CURVES = 4
MISSING = "(missing)"


@dataclass(frozen=True)
class Importance:
    """How much the model needs a column."""

    column: str
    value: float
    """Permutation: by how much the loss grows when the column's values are shuffled among the rows (Breiman 2001).
    SHAP: the mean size of the column's part in an answer."""
    deviation: float
    """Standard deviation over the repeats; SHAP: standard error over the rows."""

    def to_json(self) -> dict[str, Any]:
        """As in manifest.json."""
        return {"column": self.column, "value": self.value, "deviation": self.deviation}


@dataclass(frozen=True)
class Dependence:
    """The mean answer when every row has the same value in one column (Friedman 2001)."""

    column: str
    kind: Literal["Number", "Time", "Category"]
    values: tuple[float | str, ...]
    """A grid of quantiles (times as seconds since 1970), or the most frequent categories."""
    curves: dict[str, tuple[float, ...]]
    """By class, the mean probability; of two classes the second alone; of a regression one curve, `answer`."""
    low: tuple[float, ...] | None = None
    """Of one curve: the rows' own answers, tenth percentile."""
    high: tuple[float, ...] | None = None
    """The same, ninetieth."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        curves = {name: list(curve) for name, curve in self.curves.items()}
        return {"column": self.column, "kind": self.kind, "values": list(self.values), "curves": curves}


@dataclass(frozen=True, eq=False)
class Attributions:
    """SHAP values: the parts of single answers that the columns make up (Lundberg and Lee 2017)."""

    columns: tuple[str, ...]
    base: Numbers
    """The mean answer on the background rows (outputs,): one for a regression or two classes."""
    values: Numbers
    """(rows, columns, outputs): base + their sum over the columns is the row's answer."""
    levels: Numbers
    """(rows, columns): the rank of the row's value in its column, 0 to 1; NaN for categories and missing values."""
    exact: bool
    """Computed from the trees themselves; else by sampled orders of the columns."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What was found out about a model."""

    method: Method
    metric: str
    """What importance is counted in: log_loss or rmse, or the answer's unit with SHAP."""
    rows: int
    """On which it was computed."""
    importances: tuple[Importance, ...]
    """The largest first; of the same size in the columns' order."""
    dependences: tuple[Dependence, ...]
    """Of the most important columns."""
    attributions: Attributions | None
    message: str
    """What was left out or done otherwise, and why; empty when nothing."""

    def to_json(self, most: int = 50) -> dict[str, Any]:
        """Plain values, with the first so many columns."""
        return {
            "method": self.method,
            "metric": self.metric,
            "rows": self.rows,
            "importance": [one.to_json() for one in self.importances[:most]],
            "dependence": [one.to_json() for one in self.dependences],
            "message": self.message,
        }


def explain(
    pipeline: Any,
    rows: Rows,
    task: str,
    method: Method,
    seed: int = 0,
    *,
    seconds: float = 30.0,
    clock: Callable[[], float] = time.monotonic,
) -> Explanation:
    """Explain a fitted pipeline.

    Args:
        pipeline: answers frames like `rows.frame`; classifiers have `classes_`.
        rows: labelled, not learned from; some of them evenly spread are used.
        task: Classification or Regression.
        method: of the importance; None explains nothing.
        seed: of the shuffling and of SHAP's sampling.
        seconds: after about this time what remains is left out.
        clock: in seconds.

    Raises:
        Failure: the model's answers are not finite.
    """
    metric = "log_loss" if task == "Classification" else "rmse"
    if method == "None" or not len(rows) or not len(rows.frame.columns):
        return Explanation("None", metric, 0, (), (), None, "")
    classes = list(pipeline.classes_) if task == "Classification" else None
    until = clock() + seconds
    notes: list[str] = []
    importances: tuple[Importance, ...] = ()
    attributions = None
    if method == "SHAP" and len(rows.frame.columns) > MOST_SHAP_COLUMNS:
        notes.append(f"SHAP is for at most {MOST_SHAP_COLUMNS} columns: permutation importance is shown instead")
        method = "Permutation"
    if method == "SHAP":
        from kaizen.training.report.attributions import attribute

        attributions = attribute(pipeline, rows.frame, seed, until=clock() + 0.7 * seconds, clock=clock)
        metric, used = "answer", len(attributions.values)
        importances = _of_attributions(attributions)
    else:
        importances, used = _permuted(pipeline, rows, classes, metric, seed, clock() + 0.7 * seconds, clock, notes)
    dependences = []
    for number, one in enumerate(importances[:DEPENDENCES]):
        if clock() >= until:
            notes.append(f"time ran out: partial dependence is shown of {number} columns")
            break
        dependences.append(_dependence(pipeline, rows.frame, one.column, classes, rows.target))
    return Explanation(method, metric, used, importances, tuple(dependences), attributions, "; ".join(notes))


def _permuted(
    pipeline: Any,
    rows: Rows,
    classes: Sequence[Any] | None,
    metric: str,
    seed: int,
    until: float,
    clock: Callable[[], float],
    notes: list[str],
) -> tuple[tuple[Importance, ...], int]:
    columns = [str(name) for name in rows.frame.columns]
    most = int(np.clip(MOST_CELLS // len(columns), LEAST_ROWS, MOST_ROWS))
    kept = _spread(len(rows), most)
    began = clock()
    answers = outputs(pipeline, rows.frame.iloc[kept])
    needed = (clock() - began) * len(columns) * REPEATS
    if needed > until - clock() and len(kept) > LEAST_ROWS:
        most = max(LEAST_ROWS, int(len(kept) * max(until - clock(), 0) / needed))
        kept = _spread(len(rows), most)
        answers = outputs(pipeline, rows.frame.iloc[kept])
        notes.append(f"the model answers slowly: {len(kept)} rows were used")
    frame, target = rows.frame.iloc[kept].reset_index(drop=True), rows.target[kept]
    base = score(metric, answers, target, classes)
    draw = np.random.default_rng(seed)
    orders = [draw.permutation(len(kept)) for _ in range(REPEATS)]
    together = int(np.clip(MOST_CELLS // frame.size, 1, REPEATS))
    stacked = {size: pd.concat([frame] * size, ignore_index=True) for size in {together, REPEATS % together or together}}

    def growth(names: Sequence[str], used: Sequence[npt.NDArray[np.int64]]) -> list[float]:
        """Of the loss, when these columns are shuffled in each of these orders."""
        asked = stacked[len(used)].copy(deep=False)
        for name in names:
            # A Series keeps its type where an array of texts would become another.
            asked[name] = frame[name].iloc[np.concatenate(used)].reset_index(drop=True)
        return [score(metric, part, target, classes) - base for part in np.split(outputs(pipeline, asked), len(used))]

    def told(columns: Sequence[str]) -> float:
        return max(growth(columns, orders[:together]))

    if len(columns) > MOST_COLUMNS:
        notes.append(f"of {len(columns)} columns the {MOST_COLUMNS} in the blocks that matter most were measured one by one")
        columns = _promising(columns, told, until, clock)
    found = []
    for number, name in enumerate(columns):
        if number and clock() >= until:
            notes.append(f"time ran out: importance is known of {number} of {len(columns)} columns")
            break
        losses = [one for first in range(0, REPEATS, together) for one in growth([name], orders[first : first + together])]
        found.append(Importance(name, float(np.mean(losses)), float(np.std(losses, ddof=1))))
    return tuple(sorted(found, key=lambda one: -one.value)), len(kept)


def _promising(
    columns: Sequence[str], told: Callable[[Sequence[str]], float], until: float, clock: Callable[[], float]
) -> list[str]:
    """MOST_COLUMNS of them: of blocks that are shuffled whole, those by which the loss grows most."""
    size = -(-len(columns) // BLOCKS)
    blocks = [columns[first : first + size] for first in range(0, len(columns), size)]
    # In half of the time at most; blocks that were not looked at come last.
    middle = clock() + (until - clock()) / 2
    growths = [told(block) if not place or clock() < middle else -np.inf for place, block in enumerate(blocks)]
    order = sorted(range(len(blocks)), key=lambda place: -growths[place])
    return [name for place in order for name in blocks[place]][:MOST_COLUMNS]


def _of_attributions(found: Attributions) -> tuple[Importance, ...]:
    sizes = np.abs(found.values).mean(axis=2)
    errors = sizes.std(axis=0) / np.sqrt(max(len(sizes), 1))
    made = [
        Importance(name, float(value), float(error))
        for name, value, error in zip(found.columns, sizes.mean(axis=0), errors, strict=True)
    ]
    return tuple(sorted(made, key=lambda one: -one.value))


def _dependence(
    pipeline: Any, frame: pd.DataFrame, name: str, classes: Sequence[Any] | None, target: npt.NDArray[Any]
) -> Dependence:
    some = frame.iloc[_spread(len(frame), int(np.clip(MOST_CELLS // (GRID * len(frame.columns)), 20, DEPENDENCE_ROWS)))]
    kind, values, shown = _grid(frame[name])
    if not shown:
        return Dependence(name, kind, (), {})
    stacked = pd.concat([some] * len(shown), ignore_index=True)
    stacked[name] = values.iloc[np.arange(len(shown)).repeat(len(some))].reset_index(drop=True)
    answers = outputs(pipeline, stacked)
    if classes is None:
        by_curve = {"answer": answers}
    elif len(classes) == 2:
        by_curve = {str(classes[1]): answers[:, 1]}
    else:
        frequent = np.argsort([-int((target == one).sum()) for one in classes], kind="stable")[:MOST_CURVES]
        by_curve = {str(classes[one]): answers[:, one] for one in sorted(frequent)}
    tables = {curve: column.reshape(len(shown), len(some)) for curve, column in by_curve.items()}
    curves = {curve: tuple(table.mean(axis=1).tolist()) for curve, table in tables.items()}
    if len(tables) > 1:
        return Dependence(name, kind, shown, curves)
    low, high = np.quantile(next(iter(tables.values())), [0.1, 0.9], axis=1)
    return Dependence(name, kind, shown, curves, tuple(low.tolist()), tuple(high.tolist()))


def _grid(column: "pd.Series[Any]") -> tuple[Literal["Number", "Time", "Category"], "pd.Series[Any]", tuple[float | str, ...]]:
    """Values of the column's own type to ask for, and how they are told."""
    present = column.dropna()
    if column.dtype == bool:
        return "Category", pd.Series([False, True]), ("False", "True")
    if getattr(column.dtype, "kind", "O") not in "iufM":
        counts = present.value_counts()
        frequent = sorted(counts.index[:MOST_CATEGORIES], key=lambda one: (-int(counts[one]), str(one)))
        gap = [np.nan] if len(present) < len(column) else []
        values = pd.Series([*frequent, *gap], dtype=column.dtype)
        return "Category", values, (*(str(one) for one in frequent), *([MISSING] if gap else []))
    if not len(present):
        return "Number", column.iloc[:0], ()
    # Values that occur, so that whole numbers stay whole.
    places = np.unique(np.linspace(0.01, 0.99, GRID))
    values = present.quantile(places, interpolation="nearest").drop_duplicates().reset_index(drop=True).astype(column.dtype)
    if values.dtype.kind == "M":
        return "Time", values, tuple(float(one) for one in values.astype("datetime64[us]").astype(np.int64) / 1e6)
    return "Number", values, tuple(float(one) for one in values)


def _spread(rows: int, most: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64))
