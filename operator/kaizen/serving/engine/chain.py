"""A fitted pipeline as the calls it is made of: each transform once, on arrays where the answers are the same.

Of one row's time in scikit-learn most goes into DataFrames (their columns are selected, checked and converted again in every
step), and half of the rest into asking for probabilities and labels one after the other.  Whether the short ways answer, and
refuse, exactly as the pipeline itself does is found out at packaging (`choose`), not assumed.  Needs scikit-learn.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kaizen.serving.engine import frames
from kaizen.serving.engine.base import Column, Input, Refused
from kaizen.serving.engine.hostile import hostile

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Call", "Way", "ask", "call", "choose"]

Way = Literal["arrays", "frames", "whole"]
"""How a pipeline is called: its steps one by one on arrays, or on the DataFrame; or all of it, as a person would."""
WAYS: tuple[Way, ...] = ("arrays", "frames")

CLEAR = 1e-6
"""Two probabilities that are nearer to each other do not tell which class predict() chooses."""
BY_PROBABILITY = frozenset(
    (
        "AdaBoostClassifier", "BaggingClassifier", "BernoulliNB", "CalibratedClassifierCV", "CategoricalNB", "ComplementNB",
        "DecisionTreeClassifier", "ExtraTreeClassifier", "ExtraTreesClassifier", "GaussianNB", "GaussianProcessClassifier",
        "GradientBoostingClassifier", "HistGradientBoostingClassifier", "LinearDiscriminantAnalysis", "LogisticRegression",
        "LogisticRegressionCV", "MLPClassifier", "MultinomialNB", "QuadraticDiscriminantAnalysis", "RandomForestClassifier",
    )
)  # fmt: skip
"""Classifiers of scikit-learn that choose the likeliest class; one that votes or measures distances may choose another."""
TRIED_ROWS = 64
TRIED_ALONE = 40
SAME = 1e-9

Labels = NDArray[Any]
Scores = NDArray[np.float64] | None
Call = Callable[[Sequence[Column], int], tuple[Labels, Scores]]
Front = Callable[[Sequence[Column], int], Any]


class Unfit(Exception):
    """A pipeline that cannot be called this way."""


def ask(pipeline: Any, frame: Any, threshold: float | None) -> tuple[Any, Any]:
    """scikit-learn's labels (or numbers) and probabilities (or None).  Raises Refused where scikit-learn raises."""
    return _guarded(lambda: _both(pipeline, frame, threshold))


def call(
    pipeline: Any, inputs: Sequence[Input], described: Mapping[str, Mapping[str, Any]], threshold: float | None, way: Way
) -> Call:
    """The function that answers prepared columns, one row at least; it raises Refused.  Raises Unfit."""

    def framed(columns: Sequence[Column], rows: int) -> Any:
        return frames.build(inputs, columns, described)

    if way == "whole":
        return lambda columns, rows: _guarded(lambda: _both(pipeline, framed(columns, rows), threshold))
    *steps, final = _flat(_unwrapped(pipeline, threshold))
    front: Front = framed
    if way == "arrays":
        front, steps = _front(steps, list(range(len(inputs))), inputs, described)
    transforms = [step.transform for step in steps]
    likeliest = type(final).__module__.startswith("sklearn.") and type(final).__name__ in BY_PROBABILITY

    def answer(columns: Sequence[Column], rows: int) -> tuple[Any, Any]:
        table = front(columns, rows)
        for transform in transforms:
            table = transform(table)
        if likeliest and threshold is None:
            return _likeliest(final, table)
        return _both(final, table, threshold)

    return lambda columns, rows: _guarded(lambda: answer(columns, rows))


def choose(
    pipeline: Any,
    inputs: Sequence[Input],
    described: Mapping[str, Mapping[str, Any]],
    threshold: float | None,
    frame: "pd.DataFrame",
) -> Way:
    """The quickest way that agrees with the pipeline itself on rows of `frame`, on hostile ones, together and alone."""
    rows = hostile(inputs, frame, {})
    some = frame.iloc[np.unique(np.linspace(0, len(frame) - 1, TRIED_ROWS).astype(int))]
    columns = [frames.cells(some[one.name]) for one in inputs]
    real = [list(row) for row in zip(*columns, strict=True)]
    alone = [*real[:5], *rows.plain, *rows.risky]
    chosen = [alone[i] for i in np.unique(np.linspace(0, len(alone) - 1, TRIED_ALONE).astype(int))]
    batches = [real, rows.plain, *([row] for row in chosen)]
    tables = [[_filled(one, column) for one, column in zip(inputs, zip(*batch, strict=True), strict=True)] for batch in batches]
    whole = call(pipeline, inputs, described, threshold, "whole")
    expected = [_tried(whole, table, len(batch)) for table, batch in zip(tables, batches, strict=True)]
    for way in WAYS:
        try:
            made = call(pipeline, inputs, described, threshold, way)
            if all(
                _same(_tried(made, table, len(batch)), wanted)
                for table, batch, wanted in zip(tables, batches, expected, strict=True)
            ):
                return way
        except Exception:  # what an estimator does with a table that it does not expect has no common base
            continue
    return "whole"


def _filled(one: Input, column: Sequence[Any]) -> Column:
    return list(column) if one.datatype == "BYTES" else [float("nan") if value is None else value for value in column]


def _tried(made: Call, table: list[Column], rows: int) -> tuple[list[Any], Scores] | None:
    try:
        labels, scores = made(table, rows)
    except Refused:
        return None
    return labels.tolist(), scores


def _same(found: tuple[list[Any], Scores] | None, wanted: tuple[list[Any], Scores] | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    if wanted[1] is None or found[1] is None:
        return found[1] is wanted[1] and bool(np.allclose(found[0], wanted[0], rtol=SAME, atol=0, equal_nan=True))
    return found[0] == wanted[0] and bool(np.allclose(found[1], wanted[1], rtol=0, atol=SAME, equal_nan=True))


def _guarded(work: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return work()
    except Refused:
        raise
    except (ValueError, TypeError, OverflowError, AttributeError, IndexError) as error:
        # AttributeError: None where a text should be; IndexError: a category that CategoricalNB does not know.
        raise Refused(str(error).split("\n")[0]) from error


def _both(model: Any, table: Any, threshold: float | None) -> tuple[Any, Any]:
    probabilities = model.predict_proba(table) if hasattr(model, "predict_proba") else None
    if threshold is None or probabilities is None:
        return model.predict(table), probabilities
    return model.classes_[(probabilities[:, 1] >= threshold).astype(np.intp)], probabilities


def _likeliest(model: Any, table: Any) -> tuple[Any, Any]:
    """Labels by the probabilities; where two are too near to each other, by the model."""
    probabilities = model.predict_proba(table)
    best = probabilities.argmax(axis=1)
    labels = model.classes_.take(best)
    if probabilities.shape[1] < 2:
        return labels, probabilities
    if probabilities.shape[1] == 2:
        near = np.abs(probabilities[:, 0] - probabilities[:, 1]) < CLEAR
    else:
        two = np.partition(probabilities, -2, axis=1)
        near = two[:, -1] - two[:, -2] < CLEAR
    if near.any() or not np.isfinite(probabilities).all():
        return model.predict(table), probabilities
    return labels, probabilities


def _unwrapped(pipeline: Any, threshold: float | None) -> Any:
    """The pipeline in the wrapper that knows the threshold, when that is applied here."""
    if threshold is not None and type(pipeline).__name__ == "FixedThresholdClassifier":
        pipeline = pipeline.estimator_
    return pipeline.estimator if type(pipeline).__name__ == "FrozenEstimator" else pipeline


def _flat(pipeline: Any) -> list[Any]:
    """The steps of nested pipelines, those that do nothing left out."""
    if pipeline is None or (isinstance(pipeline, str) and pipeline == "passthrough"):
        return []
    if type(pipeline).__name__ == "Pipeline":
        return [inner for _, step in pipeline.steps for inner in _flat(step)]
    return [pipeline]


def _front(
    steps: Sequence[Any],
    picked: list[int],
    inputs: Sequence[Input],
    described: Mapping[str, Mapping[str, Any]],
    *,
    flat: bool = False,
) -> tuple[Front, list[Any]]:
    """What makes a table of some columns, and the steps that are left; `flat` when the table is one column without a width."""
    if not steps or type(steps[0]).__name__ not in ("ColumnTransformer", "FeatureUnion"):
        return _leaf(picked, inputs, described, flat), list(steps)
    first, *rest = steps
    parts: list[tuple[Front, list[Any]]] = []
    for piece, indices, one in _pieces(first, picked):
        front, further = _front(_flat(piece), indices, inputs, described, flat=one)
        parts.append((front, [step.transform for step in further]))
    sparse = getattr(first, "sparse_output_", None)

    def joined(columns: Sequence[Column], rows: int) -> Any:
        tables = []
        for front, transforms in parts:
            table = front(columns, rows)
            for transform in transforms:
                table = transform(table)
            tables.append(table)
        return _stacked(tables, sparse)

    return joined, rest


def _pieces(transformer: Any, picked: list[int]) -> Iterator[tuple[Any, list[int], bool]]:
    """The parts of a ColumnTransformer or FeatureUnion: transformer, columns, whether it takes one column without a width."""
    if transformer.transformer_weights:
        raise Unfit("weights")
    if type(transformer).__name__ == "FeatureUnion":
        yield from ((piece, picked, False) for _, piece in transformer.transformer_list if piece != "drop")
        return
    for name, piece, columns in transformer.transformers_:
        indices = [picked[i] for i in transformer._transformer_to_input_indices[name]]
        if indices and not (isinstance(piece, str) and piece == "drop"):
            yield piece, indices, isinstance(columns, str | int)


def _stacked(tables: list[Any], sparse: bool | None) -> Any:
    if len(tables) == 1 and not (sparse is False and hasattr(tables[0], "toarray")):
        return tables[0]
    if sparse is None:
        sparse = any(hasattr(table, "toarray") for table in tables)
    if sparse:
        from scipy.sparse import hstack

        return hstack(tables).tocsr()
    return np.hstack([table.toarray() if hasattr(table, "toarray") else table for table in tables])


def _leaf(picked: list[int], inputs: Sequence[Input], described: Mapping[str, Mapping[str, Any]], flat: bool) -> Front:
    chosen = [inputs[i] for i in picked]
    kinds = {one.datatype for one in chosen}
    dates = any(described[one.name]["dtype"].startswith("datetime64") for one in chosen)
    if dates or ("BYTES" in kinds and len(kinds) > 1) or (flat and kinds != {"BYTES"}):
        return lambda columns, rows: frames.build(chosen, [columns[i] for i in picked], described)
    if kinds == {"BYTES"}:
        markers = [None if described[one.name]["missing"] == "None" else np.nan for one in chosen]

        def texts(columns: Sequence[Column], rows: int) -> Any:
            table = np.empty((rows, len(picked)), dtype=object)
            for place, (i, marker) in enumerate(zip(picked, markers, strict=True)):
                values = columns[i]
                table[:, place] = values if marker is None else [marker if value is None else value for value in values]
            return table[:, 0] if flat else table

        return texts

    def numbers(columns: Sequence[Column], rows: int) -> Any:
        return _whole([columns[i] for i in picked], rows) if kinds == {"INT64"} else _doubles([columns[i] for i in picked], rows)

    return numbers


def _doubles(columns: list[Column], rows: int) -> NDArray[np.float64]:
    if rows == 1 or all(type(column) is list for column in columns):
        return (
            np.array(columns, dtype=np.float64).T if rows > 1 else np.array([[column[0] for column in columns]], dtype=np.float64)
        )
    table = np.empty((rows, len(columns)))
    for place, column in enumerate(columns):
        table[:, place] = column
    return table


def _whole(columns: list[Column], rows: int) -> NDArray[Any]:
    """As the DataFrame has them: integers where all are."""
    if all(map(_is_whole, columns)):
        return np.array(columns, dtype=np.int64).T
    return _doubles(columns, rows)


def _is_whole(column: Column) -> bool:
    return all(type(value) is int for value in column) if isinstance(column, list) else column.dtype == np.int64
