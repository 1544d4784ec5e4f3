"""Where a model is weak: its figure in parts of the test rows that nobody declared a gate for."""

from collections.abc import Sequence

from kaizen.api.metrics import BETTER_HIGHER
from kaizen.training.judge.intervals import LEVEL, interval
from kaizen.training.judge.judged import Detail, Judged
from kaizen.training.judge.slices import MINIMUM_ROWS, Slice, column, cut, relevant

__all__ = ["MOST_COLUMNS", "slice_metric", "weak_spots"]

MOST_COLUMNS = 6


def slice_metric(judged: Judged) -> str:
    """A metric that does not follow from the part's share of the classes alone: roc_auc, accuracy of many classes, mae."""
    if judged.classes is None:
        return "mae"
    return "roc_auc" if len(judged.classes) == 2 else "accuracy"


def weak_spots(judged: Judged, columns: Sequence[str], metric: str) -> tuple[Detail, ...]:
    """The metric in each part, the worst first; parts with too few rows are together.

    Args:
        judged: the model and its test rows.
        columns: of features or sensitive columns, the first MOST_COLUMNS of which are cut by value or into quarters.
        metric: of the task.

    The intervals hold jointly: their level is corrected for the number of parts (Bonferroni; Dunn 1961).
    """
    marks = relevant(metric, judged.outcome)
    parts: list[Slice] = []
    for name in dict.fromkeys(columns[:MOST_COLUMNS]):
        found = cut(name, column(judged.parts.test, name, "of the report"), marks, MINIMUM_ROWS).judged
        # One part is the whole.
        parts += found if len(found) > 1 else ()
    level = 1 - (1 - LEVEL) / max(len(parts), 1)
    made = []
    for part in parts:
        value = interval(metric, judged.outcome.take(part.rows), judged.blocks.take(part.rows), level)
        if value is not None:
            made.append(Detail(part.name, value.value, value.low, value.high, len(part.rows)))
    sign = 1 if metric in BETTER_HIGHER else -1
    return tuple(sorted(made, key=lambda one: (sign * (one.value or 0.0), one.name)))
