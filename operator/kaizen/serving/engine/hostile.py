"""Rows that break engines: each column missing, categories never seen, extremes, one step either side of split thresholds."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from kaizen.serving.engine import frames
from kaizen.serving.engine.base import Input, Value
from kaizen.serving.engine.origins import Origin, trace
from kaizen.serving.engine.transformers import Flow, Uncovered, compile_steps, entry, flattened, members_of, read

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Rows", "hostile", "thresholds"]

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
MILD = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 5e-324, 1e-45, 2.0**53 + 2, -(2.0**63), LARGEST_FLOAT32, -LARGEST_FLOAT32, 1e30)
WILD = (float("inf"), float("-inf"), 3.5e38, -1e308)
WHOLE = (2**53 + 1, 2**63 - 1, -(2**63))
DATES = (
    *("1970-01-01", "2026-02-29", "2026-11-21T24:00:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59.999999"),
    *("2026-11-21T08:30:00Z", "2026-11-21 08:30:00.1234567+05:30", "20261121T083000", "2262-05-01", "1677-01-01", "NaT"),
)
TEXTS = ("", " ", "\x00", "nan", "None", "é", "e\u0301", "0", "never seen", "x" * 5000)

START = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_DATE, LAST_DATE = -9e15, 9e15
"""Microseconds that all of NumPy's dates can count."""
THRESHOLDS = 600
"""Split thresholds tried, spread over the inputs."""
BASES = 7
"""Real rows that hostile values are put into, in turn."""


@dataclass(frozen=True)
class Rows:
    """Hostile rows, values in the order of the inputs."""

    plain: list[list[Value]]
    """Expected to be answered: asked together."""
    risky: list[list[Value]]
    """Some of them may be refused: asked one by one."""


def hostile(inputs: Sequence[Input], frame: "pd.DataFrame", splits: Mapping[str, Iterable[float]]) -> Rows:
    """Rows made from real ones by changing one column, or all; `splits` are the thresholds on each input."""
    bases = _bases(inputs, frame)
    plain: list[list[Value]] = list(bases)
    risky: list[list[Value]] = [[_missing(one) for one in inputs]]
    for column, one in enumerate(inputs):
        known, near = [base[column] for base in bases], splits.get(one.name, ())
        mild, wild = _dates(near) if frame[one.name].dtype.kind == "M" else _values(one, known, near)
        (mild if one.nullable else wild).append(_missing(one))
        for rows, values in ((plain, mild), (risky, wild)):
            for value in values:
                base = list(bases[len(rows) % len(bases)])
                base[column] = value
                rows.append(base)
    return Rows(plain, risky)


def _bases(inputs: Sequence[Input], frame: "pd.DataFrame") -> list[list[Value]]:
    """Whole rows of the frame, or rows as they are when none is whole."""
    whole = frame[[one.name for one in inputs]].dropna()
    chosen = whole if len(whole) else frame[[one.name for one in inputs]]
    picked = chosen.iloc[np.unique(np.linspace(0, len(chosen) - 1, BASES).astype(int))]
    columns = [frames.cells(picked[one.name]) for one in inputs]
    return [list(row) for row in zip(*columns, strict=True)]


def _missing(one: Input) -> Value:
    return None if one.datatype == "BYTES" else float("nan")


def _values(one: Input, known: Sequence[Value], splits: Iterable[float]) -> tuple[list[Value], list[Value]]:
    if one.datatype == "BOOL":
        return [True, False], []
    if one.datatype == "BYTES":
        changed = [text for value in known if isinstance(value, str) for text in (value.swapcase(), value + " ", value[:-1])]
        return [], [*dict.fromkeys((*TEXTS, *changed))]
    mild: list[Value] = [*MILD, *(WHOLE if one.datatype == "INT64" else ())]
    for split in splits:
        near = np.float32(split)
        with np.errstate(over="ignore"):
            rounded = (near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf)))
        steps = (split, float(np.nextafter(split, -np.inf)), float(np.nextafter(split, np.inf)), *map(float, rounded))
        mild += [step for step in steps if np.isfinite(step)]
    return mild, list(WILD)


def _dates(splits: Iterable[float]) -> tuple[list[Value], list[Value]]:
    near = []
    for split in splits:
        if FIRST_DATE < split < LAST_DATE:
            middle = START + timedelta(microseconds=round(split))
            near += [(middle + timedelta(microseconds=step)).isoformat() for step in (-1, 0, 1)]
    return [*near], [*DATES, *TEXTS]


@np.errstate(all="ignore")
def thresholds(pipeline: Any, frame: "pd.DataFrame") -> dict[str, list[float]]:
    """Split thresholds of the tree ensembles of a pipeline by input, as values of the input; none where they are not followed."""
    columns = [str(column) for column in getattr(pipeline, "feature_names_in_", frame.columns)]
    used = sorted(read([pipeline], range(len(columns))))
    found: dict[int, set[float]] = {}
    try:
        for place, value in _followed(pipeline, entry(frame, columns, used), [Origin(place) for place in range(len(used))]):
            if np.isfinite(value):
                found.setdefault(place, set()).add(value)
    except Uncovered:
        return {}
    most = max(5, THRESHOLDS // max(1, len(used)))
    spread: dict[str, list[float]] = {}
    for place, every in found.items():
        values = sorted(every)
        chosen = np.unique(np.linspace(0, len(values) - 1, most).astype(int))
        spread[columns[used[place]]] = [values[i] for i in chosen]
    return spread


def _followed(estimator: Any, flow: Flow, origins: Sequence[Origin | None]) -> Iterable[tuple[int, float]]:
    """Input and threshold for all splits whose column comes from one input."""
    *before, final = flattened(estimator)
    steps, leaving = compile_steps(before, flow)
    origins = trace(steps, origins)
    members = members_of(final)
    for member in members:
        yield from _followed(member, leaving, origins)
    if members:
        return
    for feature, threshold in _splits(final):
        origin = origins[feature] if feature < len(origins) else None  # of other columns than these
        if origin is not None:
            yield origin.place, float(origin.back(threshold))


def _splits(estimator: Any) -> Iterable[tuple[int, float]]:
    if hasattr(estimator, "booster_"):
        yield from _lightgbm(estimator.booster_)
        return
    if hasattr(estimator, "get_booster"):
        yield from _xgboost(estimator.get_booster())
        return
    members = getattr(estimator, "estimators_", ())
    trees = [estimator, *(members.ravel() if isinstance(members, np.ndarray) else members)]
    for tree in (one for one in trees if hasattr(one, "tree_")):
        inner = tree.tree_.feature >= 0
        yield from zip(tree.tree_.feature[inner].tolist(), tree.tree_.threshold[inner].tolist(), strict=True)
    order = None
    if getattr(estimator, "is_categorical_", None) is not None:  # it puts its categories first
        order = np.argsort(~estimator.is_categorical_, kind="stable")
    for iteration in getattr(estimator, "_predictors", ()):
        for tree in iteration:
            nodes = tree.nodes[(tree.nodes["is_leaf"] == 0) & (tree.nodes["is_categorical"] == 0)]
            features = nodes["feature_idx"] if order is None else order[nodes["feature_idx"]]
            yield from zip(features.tolist(), nodes["num_threshold"].tolist(), strict=True)


def _lightgbm(booster: Any) -> Iterable[tuple[int, float]]:
    table = booster.trees_to_dataframe()
    table = table[(table["decision_type"] == "<=") & table["split_feature"].notna()]
    yield from _named(table["split_feature"], table["threshold"], booster.feature_name())


def _xgboost(booster: Any) -> Iterable[tuple[int, float]]:
    if json.loads(booster.save_config())["learner"]["gradient_booster"]["name"] == "gblinear":
        return
    table = booster.trees_to_dataframe()
    table = table[(table["Feature"] != "Leaf") & table["Split"].notna()]
    yield from _named(table["Feature"], table["Split"], booster.feature_names or [f"f{i}" for i in range(booster.num_features())])


def _named(features: Any, values: Any, names: Sequence[str]) -> Iterable[tuple[int, float]]:
    numbers = {name: number for number, name in enumerate(names)}
    yield from zip(features.map(numbers).tolist(), values.astype(float).tolist(), strict=True)
