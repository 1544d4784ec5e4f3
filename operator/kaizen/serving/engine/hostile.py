"""Rows that break engines: each column missing, categories never seen, extremes, one step either side of split thresholds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kaizen.serving.engine.base import Input, Value

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Rows", "hostile", "thresholds"]

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
MILD = (0.0, -0.0, 1.0, -1.0, 0.5, 5e-324, 1e-45, 2.0**53 + 2, -(2.0**63), LARGEST_FLOAT32, -LARGEST_FLOAT32, 1e30)
WILD = (float("inf"), float("-inf"), 3.5e38, -1e308)
WHOLE = (2**53 + 1, 2**63 - 1, -(2**63))
TEXTS = ("", " ", "\x00", "nan", "None", "é", "e\u0301", "0", "never seen", "x" * 5000)

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
        mild, wild = _values(one, [base[column] for base in bases], splits.get(one.name, ()))
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
    columns = [[None if value != value else value for value in picked[one.name].tolist()] for one in inputs]
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


def thresholds(estimator: Any, document: Mapping[str, Any]) -> dict[str, list[float]]:
    """Split thresholds of a tree ensemble by input, as values of the input; empty for other models and steps."""
    found: dict[int, set[float]] = {}
    for feature, threshold in _splits(estimator):
        found.setdefault(feature, set()).add(threshold)
    names = [one["name"] for one in document["inputs"]]
    most = max(5, THRESHOLDS // max(1, len(names)))
    spread: dict[str, list[float]] = {}
    for feature, (column, mean, scale) in _origins(document).items():
        values = sorted(value * scale + mean for value in found.get(feature, ()) if np.isfinite(value))
        chosen = np.unique(np.linspace(0, len(values) - 1, most).astype(int)) if values else ()
        spread.setdefault(names[column], []).extend(values[i] for i in chosen)
    return spread


def _splits(estimator: Any) -> Iterable[tuple[int, float]]:
    for calibrated in getattr(estimator, "calibrated_classifiers_", ()):
        yield from _splits(getattr(calibrated.estimator, "estimator", calibrated.estimator))
        return
    if hasattr(estimator, "booster_"):
        yield from _leaves(estimator.booster_)
        return
    for tree in getattr(estimator, "estimators_", ()):
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


def _leaves(booster: Any) -> Iterable[tuple[int, float]]:
    table = booster.trees_to_dataframe()
    table = table[(table["decision_type"] == "<=") & table["split_feature"].notna()]
    numbers = {name: number for number, name in enumerate(booster.feature_name())}
    yield from zip(table["split_feature"].map(numbers).tolist(), table["threshold"].astype(float).tolist(), strict=True)


def _origins(document: Mapping[str, Any]) -> dict[int, tuple[int, float, float]]:
    """Feature of the model → (input, mean, scale), for features that are an input, imputed or scaled at most."""
    if any(step["name"] != "Known" for step in document["after"]):
        return {}
    origins: dict[int, tuple[int, float, float]] = {}
    position = 0
    for branch in document["branches"]:
        flow: list[tuple[int, float, float] | None] = [(column, 0.0, 1.0) for column in branch["columns"]]
        for step in branch["steps"]:
            flow = _through(step, flow)
        origins.update({position + i: origin for i, origin in enumerate(flow) if origin is not None})
        position += len(flow)
    return origins


def _through(step: Mapping[str, Any], flow: Sequence[tuple[int, float, float] | None]) -> list[tuple[int, float, float] | None]:
    match step["name"]:
        case "Impute":
            return [flow[i] for i in step["kept"]] + [None] * len(step["indicated"])
        case "Scale":
            scales = zip(flow, step["mean"], step["scale"], strict=True)
            return [None if one is None else (one[0], one[1] + mean * one[2], one[2] * scale) for one, mean, scale in scales]
        case "OneHot":
            return [None] * int(step["width"])
        case _:
            return [None] * len(flow)
