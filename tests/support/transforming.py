"""A fitted transformer asked through the engine and through scikit-learn, which must agree on every row: the harness of tests."""

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from kaizen.serving.engine import frames, transforms
from kaizen.serving.engine.base import Input, Refused
from kaizen.serving.engine.transformers import compile_steps, entry

__all__ = ["Rows", "agree", "frame"]

Rows = list[list[Any]]
TOLERANCE = 1e-12


def frame(rows: Rows, kinds: tuple[str, ...]) -> pd.DataFrame:
    """Rows as training sees them."""
    made = {}
    for i, (kind, column) in enumerate(zip(kinds, zip(*rows, strict=True), strict=True)):
        values: Any = list(column)
        if kind == "BYTES":
            made[f"c{i}"] = pd.Series([np.nan if value is None else value for value in values], dtype=object)
        elif kind.startswith("datetime"):
            made[f"c{i}"] = pd.Series(pd.to_datetime(values, format="ISO8601")).astype(kind)
        else:
            made[f"c{i}"] = pd.Series(np.array(values, dtype={"FP64": float, "INT64": np.int64, "BOOL": np.bool_}[kind]))
    return pd.DataFrame(made)


def expected(fitted: Any, table: Any) -> Any:
    """scikit-learn's answer, or None when it refuses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = fitted.transform(table)
    except (ValueError, AttributeError):
        return None
    return np.asarray(made.toarray() if hasattr(made, "toarray") else made)


def agree(fitted: Any, train: pd.DataFrame, rows: Rows, *, exact: bool, flat: bool) -> None:
    """The compiled form, through its own document, answers and refuses as scikit-learn does."""
    columns = list(train)
    flow = entry(train, columns, range(len(columns)))
    compiled, flow = compile_steps([fitted], flow.of([0], flat=True) if flat else flow)
    steps = [transforms.restore(json.loads(json.dumps(step.document(), allow_nan=False))) for step in compiled]
    asked = asking(fitted, train, flat)
    together = asked(rows)
    wanted = [asked([row]) for row in rows] if together is None else [together[i : i + 1] for i in range(len(rows))]
    for row, answer in zip(rows, wanted, strict=True):
        before, made = repr(row), row
        try:
            for step in steps:
                made = step.row(made)
        except Refused:
            assert answer is None, f"{row} is refused, scikit-learn says {answer}"
            continue
        assert answer is not None, f"{row} is answered with {made}, scikit-learn refuses it"
        assert len(made) == flow.width
        assert close([made], answer, exact), f"{row}: {made}, scikit-learn says {answer}"
        assert repr(row) == before
    accepted = [(row, answer) for row, answer in zip(rows, wanted, strict=True) if answer is not None]
    if accepted:
        given: list[Any] = [list(column) for column in zip(*(row for row, _ in accepted), strict=True)]
        with np.errstate(all="ignore"):
            table = transforms.through(steps, given)
        got = table.tolist() if isinstance(table, np.ndarray) else [list(row) for row in zip(*table, strict=True)]
        assert close(got, np.vstack([answer for _, answer in accepted]), exact)


def asking(fitted: Any, train: pd.DataFrame, flat: bool) -> Callable[[Rows], Any]:
    """scikit-learn, asked rows as requests bring them; None where it refuses."""
    inputs = [Input(name, frames.datatype(train[name]) or "FP64", True) for name in train]
    described = frames.describe(train)

    def ask(rows: Rows) -> Any:
        try:
            table = frames.build(inputs, [list(column) for column in zip(*rows, strict=True)], described)
        except Refused:
            return None
        return expected(fitted, table.iloc[:, 0] if flat else table)

    return ask


def close(made: Any, wanted: Any, exact: bool) -> bool:
    if wanted.dtype == object:
        return bool(list(made) == wanted.tolist()) or repr(wanted.tolist()) == repr([list(row) for row in made])
    got = np.array(made, dtype=np.float64)
    other = wanted.astype(np.float64)
    if exact or got.shape != other.shape:
        return np.array_equal(got, other, equal_nan=True)
    with np.errstate(all="ignore"):
        return bool(np.allclose(got, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
