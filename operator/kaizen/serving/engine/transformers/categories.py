"""What an encoder makes of a category is asked of the encoder itself: each known one, an unknown one, a missing one.

So infrequent groups, dropped categories and every policy for unknown ones come out as scikit-learn has them.
"""

import warnings
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import pandas as pd

from kaizen.serving.engine.transformers.flow import Flow, Uncovered
from kaizen.serving.engine.transforms.columns import Columns, Part
from kaizen.serving.engine.transforms.common import Transform
from kaizen.serving.engine.transforms.encoding import NOWHERE, Lookup, OneHot, Ordinal

__all__ = ["one_hot_encoder", "ordinal_encoder", "target_encoder"]

UNSEEN = "\x00 unseen"
Code = Callable[[Any], float]
"""What of the encoder's row is the code."""


def one_hot_encoder(encoder: Any, flow: Flow) -> tuple[list[Transform], Flow]:
    """A code is the position of the one among all columns that the encoder writes."""
    ends = np.cumsum(encoder._n_features_outs).tolist()
    lookups = []
    for column, end in enumerate(ends):
        start = end - encoder._n_features_outs[column]
        lookups.append(_lookup(encoder, column, flow, _position(start, end)))
    single = np.dtype(encoder.dtype) == np.float32
    return [OneHot(lookups, ends[-1])], Flow.numbers(ends[-1], sparse=bool(encoder.sparse_output), absent=True, single=single)


def ordinal_encoder(encoder: Any, flow: Flow) -> tuple[list[Transform], Flow]:
    """The codes are numbers whatever type they are written in."""
    lookups = [_lookup(encoder, column, flow, _number(column)) for column in range(len(encoder.categories_))]
    return [Ordinal(lookups)], _bounded(lookups, single=np.dtype(encoder.dtype) == np.float32)


def target_encoder(encoder: Any, flow: Flow) -> tuple[list[Transform], Flow]:
    """One code a column, or a class and column: then the engine's encoder gets each column as often."""
    each = len(encoder.classes_) if encoder.target_type_ == "multiclass" else 1
    repeated = [column for column in range(len(encoder.categories_)) for _ in range(each)]
    lookups = [_lookup(encoder, column, flow, _number(place)) for place, column in enumerate(repeated)]
    step: Transform = Ordinal(lookups)
    return [step if each == 1 else Columns([Part(flow.place(repeated), [step])])], _bounded(lookups)


def _position(start: int, end: int) -> Code:
    def code(row: Any) -> float:
        ones = np.flatnonzero(row[start:end])
        return int(start + ones[0]) if len(ones) else NOWHERE

    return code


def _number(place: int) -> Code:
    return lambda row: float(row[place])


def _bounded(lookups: list[Lookup], *, single: bool = False) -> Flow:
    values = [frozenset(v for v in (*one.codes, one.unknown, one.missing) if v is not None) for one in lookups]
    return Flow.numbers(len(values), values, single=single)


def _lookup(encoder: Any, column: int, flow: Flow, code: Code) -> Lookup:
    categories = encoder.categories_[column]
    known = [value for value in categories.tolist() if value is not None and value == value]
    if not all(isinstance(value, str | int | float) for value in known):
        raise Uncovered(f"{type(encoder).__name__} of categories other than strings and numbers is not compiled")
    numbers = categories.dtype != object and categories.dtype.kind not in "US"
    refuses: list[str] = []

    def ask(kind: str, value: Any) -> float | None:
        cell = np.array([value], dtype=np.float64 if numbers else object)
        try:
            return _plain(code(_transform(encoder, column, cell)[0]))
        except ValueError:
            refuses.append(kind)
            return None

    unknown = ask("unknown", _unseen(known) if numbers else UNSEEN)
    absent = ask("missing", np.nan if numbers else flow.missing[column])
    cells = np.array(known, dtype=categories.dtype) if numbers else np.array(known, dtype=object)
    codes = [_plain(code(row)) for row in _transform(encoder, column, cells)] if known else []
    infinite = flow.objects and not flow.frame  # of a DataFrame scikit-learn looks at each column as it is
    return Lookup(known, codes, unknown, absent, refuses, infinite)


def _transform(encoder: Any, column: int, cells: Any) -> Any:
    """The encoder's rows for values of one column, the other columns at their first category."""
    probe = {i: cells if i == column else np.repeat(own[:1], len(cells)) for i, own in enumerate(encoder.categories_)}
    frame = pd.DataFrame({i: pd.Series(values, dtype=values.dtype) for i, values in probe.items()})
    frame.columns = getattr(encoder, "feature_names_in_", frame.columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoded = encoder.transform(frame)
    return np.asarray(encoded.toarray() if hasattr(encoded, "toarray") else encoded)


def _unseen(known: list[Any]) -> float:
    return float(next(value for value in count() if value not in known))


def _plain(code: float) -> float | None:
    return None if code != code else code
