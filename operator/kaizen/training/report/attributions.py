"""SHAP values of a pipeline in its input columns, by the library shap.

Ensembles of trees are taken apart themselves; their values are those of the columns after preprocessing and are summed back to
the input columns that make them.  Everything else, and every ensemble whose parts do not add up to the pipeline's own answers, is
asked as a whole with columns exchanged for those of background rows.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from kaizen.training.models.fit import outputs
from kaizen.training.report.explain import Attributions

__all__ = ["attribute"]

Numbers = npt.NDArray[np.float64]

ROWS = 200
BACKGROUND = 100
BLACK_BOX_BACKGROUND = 25
BLACK_BOX_ROWS = 100
BLACK_BOX_ANSWERS = 400_000
"""That a model is asked for at most."""
CLOSE = 1e-4
"""How near parts must come to the whole, of the answers' size: XGBoost sums in single precision."""


def attribute(pipeline: Any, frame: pd.DataFrame, seed: int, *, until: float, clock: Callable[[], float]) -> Attributions:
    """SHAP values of some rows, evenly from all.

    Args:
        pipeline: fitted; with the steps `columns` and `model` its trees can be taken apart.
        frame: the input columns of rows that were not learned from.
        seed: of the sampled orders.
        until: by `clock`, when no further row is begun.
        clock: in seconds.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _of_trees(pipeline, frame)
        exact = found is not None
        kept, base, values = found or _of_answers(pipeline, frame, seed, until, clock)
    return Attributions(tuple(map(str, frame.columns)), base, values, _levels(frame.iloc[kept]), exact)


Found = tuple[npt.NDArray[np.int64], Numbers, Numbers]
"""Row numbers, base (outputs,), values (rows, columns, outputs)."""


def _of_trees(pipeline: Any, frame: pd.DataFrame) -> Found | None:
    """None when these are no trees that shap can take apart exactly."""
    if not isinstance(pipeline, Pipeline) or list(pipeline.named_steps) != ["columns", "model"]:
        return None
    columns, model = pipeline["columns"], pipeline["model"]
    categories = getattr(model, "is_categorical_", None)
    if not _is_trees(model) or (categories is not None and np.any(categories)):
        return None
    import shap

    kept = _spread(len(frame), ROWS)
    rows = frame.iloc[kept]
    inputs, background = (
        _as_seen(_dense(columns.transform(part)), model) for part in (rows, frame.iloc[_spread(len(frame), BACKGROUND)])
    )
    answers = _told(outputs(pipeline, rows))
    for unit in ("probability", "raw"):
        try:
            explainer = shap.TreeExplainer(model, background, feature_perturbation="interventional", model_output=unit)
            values = np.asarray(explainer.shap_values(inputs, check_additivity=False), dtype=np.float64)
        # shap raises anything for what it does not know; asking the model as a whole always works.
        except Exception:
            continue
        base = np.atleast_1d(np.asarray(explainer.expected_value, dtype=np.float64))
        values = values[:, :, None] if values.ndim == 2 else values
        if values.shape[2] == 2 and answers.shape[1] == 1:
            base, values = base[-1:], values[:, :, 1:]
        if values.shape[2] != answers.shape[1] or len(base) != answers.shape[1]:
            continue
        if np.allclose(base + values.sum(axis=1), answers, rtol=0, atol=CLOSE * max(1.0, float(np.abs(answers).max()))):
            return kept, base, np.einsum("rto,tc->rco", values, _shares(columns, frame))
    return None


def _is_trees(model: Any) -> bool:
    module = type(model).__module__.split(".")
    return module[0] in ("lightgbm", "xgboost") or module[:2] == ["sklearn", "tree"] or (
        module[:2] == ["sklearn", "ensemble"] and any(hasattr(model, name) for name in ("_predictors", "estimators_"))
    )  # fmt: skip


def _as_seen(table: Numbers, model: Any) -> Numbers:
    """Most trees compare in single precision: a step across a threshold is another leaf."""
    return table if type(model).__module__.startswith("lightgbm") else table.astype(np.float32).astype(np.float64)


def _shares(columns: Any, frame: pd.DataFrame) -> Numbers:
    """(outputs, inputs): from which input column each preprocessed column comes, found by shuffling one input after the other.

    One that comes from several is shared equally; one that never changes has no part in any answer.
    """
    some = frame.iloc[_spread(len(frame), 5 * ROWS)].reset_index(drop=True)
    plain = _dense(columns.transform(some))
    order = np.random.default_rng(0).permutation(len(some))
    changed = np.zeros((plain.shape[1], len(some.columns)))
    for number, name in enumerate(some.columns):
        other = some.copy(deep=False)
        other[name] = some[name].iloc[order].reset_index(drop=True)
        now = _dense(columns.transform(other))
        changed[:, number] = ~((plain == now) | (np.isnan(plain) & np.isnan(now))).all(axis=0)
    owners = changed.sum(axis=1, keepdims=True)
    return np.asarray(changed / np.where(owners == 0, 1, owners))


def _of_answers(pipeline: Any, frame: pd.DataFrame, seed: int, until: float, clock: Callable[[], float]) -> Found:
    """By sampled orders, forwards and backwards; columns are exchanged by row number, so that any type of column will do."""
    import shap

    width = len(frame.columns)
    most = int(np.clip(BLACK_BOX_ANSWERS // ((2 * width + 1) * BLACK_BOX_BACKGROUND), 10, BLACK_BOX_ROWS))
    kept = _spread(len(frame), most)
    background = _spread(len(frame), BLACK_BOX_BACKGROUND)

    def ask(numbers: Numbers) -> Numbers:
        taken = numbers.astype(np.int64)
        made = {name: frame[name].iloc[taken[:, number]].reset_index(drop=True) for number, name in enumerate(frame.columns)}
        return _told(outputs(pipeline, pd.DataFrame(made, columns=frame.columns)))

    masker = shap.maskers.Independent(_numbers_of(background, width), max_samples=len(background))
    state = np.random.get_state()
    # shap draws from NumPy's global generator, which is left as it was found.
    explainer = shap.explainers.Permutation(ask, masker, seed=seed)
    parts: list[Numbers] = []
    try:
        for row in kept:
            if parts and clock() >= until:
                break
            told = explainer(_numbers_of([row], width), max_evals=2 * width + 1, silent=True)
            parts.append(np.asarray(told.values, dtype=np.float64).reshape(1, width, -1))
    finally:
        np.random.set_state(state)
    base = ask(_numbers_of(background, width)).mean(axis=0)
    return kept[: len(parts)], base, np.concatenate(parts)


def _numbers_of(rows: Sequence[int] | npt.NDArray[np.int64], width: int) -> Numbers:
    return np.repeat(np.asarray(rows, dtype=np.float64)[:, None], width, axis=1)


def _told(answers: Numbers) -> Numbers:
    """(rows, outputs): the second class of two stands for both."""
    if answers.ndim == 1:
        return answers[:, None]
    return answers[:, 1:] if answers.shape[1] == 2 else answers


def _levels(frame: pd.DataFrame) -> Numbers:
    ranks = [
        np.full(len(frame), np.nan)
        if getattr(column.dtype, "kind", "O") not in "biufM"
        else column.rank(pct=True).to_numpy(dtype=np.float64)
        for _, column in frame.items()
    ]
    return np.stack(ranks, axis=1)


def _dense(table: Any) -> Numbers:
    return np.asarray(table.toarray() if hasattr(table, "toarray") else table, dtype=np.float64)


def _spread(rows: int, most: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64))
