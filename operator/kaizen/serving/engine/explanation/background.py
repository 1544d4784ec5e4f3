"""What linear models are explained against: the means of their columns, found when the model is packaged.

A coefficient says what a column adds beyond its mean.  scikit-learn keeps no means of what a model was fitted on, so they are
those of the rows that the compiled engine is checked with.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kaizen.serving.engine import transforms
from kaizen.serving.engine.base import Refused
from kaizen.serving.engine.estimators.common import Document, Files, stored

__all__ = ["with_background"]

ROWS = 1000
"""That means are taken of, at most."""

Row = Sequence[Any]
Read = Callable[[Row], Row]


def with_background(document: Document, steps: Sequence[transforms.Transform], rows: Sequence[Row], files: Files) -> Document:
    """The document of a model behind steps, with means wherever it holds a linear one; `rows` are prepared, of the inputs."""
    spread = np.unique(np.linspace(0, len(rows) - 1, ROWS).astype(int)) if len(rows) else ()
    return _told(document, _through(steps, list), [rows[i] for i in spread], files)


def _told(document: Document, read: Read, rows: Sequence[Row], files: Files) -> Document:
    match document["name"]:
        case "Linear":
            return {**document, "background": _means(read, rows, files)}
        case "Steps":
            steps = [transforms.restore(step) for step in document["steps"]]
            return {**document, "model": _told(document["model"], _through(steps, read), rows, files)}
        case "Average" | "OneVsRest" | "Stack":
            return {**document, "members": [_member(one, read, rows, files) for one in document["members"]]}
        case "Calibrated" | "Target" | "Temperature" | "Threshold":
            return {**document, "of": _told(document["of"], read, rows, files)}
    return document


def _member(member: Mapping[str, Any], read: Read, rows: Sequence[Row], files: Files) -> Document:
    columns = member.get("columns")
    chosen = read if columns is None else lambda row: [read(row)[i] for i in columns]
    return {**member, "model": _told(member["model"], chosen, rows, files)}


def _through(steps: Sequence[transforms.Transform], before: Read) -> Read:
    def read(row: Row) -> Row:
        row = before(row)
        for step in steps:
            row = step.row(row)
        return row

    return read


def _means(read: Read, rows: Sequence[Row], files: Files) -> Any:
    """Of the rows that the model takes; None when it takes none."""
    total: Any = 0.0
    taken = 0
    for row in rows:
        try:
            values = np.array(read(row), dtype=np.float64)
        except Refused:
            continue
        if np.isfinite(values).all():
            total, taken = total + values, taken + 1
    return stored(total / taken, files) if taken else None
