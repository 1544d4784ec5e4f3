"""What an encoder makes of a category is asked of the encoder itself: each known one, an unknown one, a missing one.

So infrequent groups, dropped categories and every policy for unknown ones come out as scikit-learn has them.
"""

import warnings
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import pandas as pd

from kaizen.serving.engine.transforms import NOWHERE, Lookup, OneHot, Ordinal

__all__ = ["one_hot", "ordinal"]

UNSEEN = "\x00 unseen"


def one_hot(encoder: Any, missing: Sequence[Any]) -> OneHot:
    """A fitted OneHotEncoder; `missing` is what a missing value of each column is to scikit-learn (None or NaN)."""
    ends = np.cumsum(encoder._n_features_outs).tolist()
    lookups = []
    for column, end in enumerate(ends):
        start = end - encoder._n_features_outs[column]

        def code(row: Any, start: int = start, end: int = end) -> float:
            ones = np.flatnonzero(row[start:end])
            return int(start + ones[0]) if len(ones) else NOWHERE

        lookups.append(_lookup(encoder, column, missing[column], code))
    return OneHot(lookups, ends[-1])


def ordinal(encoder: Any, missing: Sequence[Any]) -> Ordinal:
    """A fitted OrdinalEncoder.  Raises ValueError when it encodes to anything but float64."""
    if np.dtype(encoder.dtype) != np.float64:
        raise ValueError(f"OrdinalEncoder to {np.dtype(encoder.dtype)} is not compiled yet")
    width = len(encoder.categories_)
    return Ordinal([_lookup(encoder, i, missing[i], lambda row, i=i: float(row[i])) for i in range(width)])


def _lookup(encoder: Any, column: int, missing: Any, code: Any) -> Lookup:
    categories = encoder.categories_[column]
    known = [value for value in categories.tolist() if value is not None and value == value]
    if not all(isinstance(value, str | int | float) for value in known):
        raise ValueError("categories other than strings and numbers are not compiled")
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
    absent = ask("missing", np.nan if numbers else missing)
    cells = np.array(known, dtype=categories.dtype) if numbers else np.array(known, dtype=object)
    codes = [_plain(code(row)) for row in _transform(encoder, column, cells)] if known else []
    return Lookup(known, codes, unknown, absent, refuses)


def _transform(encoder: Any, column: int, cells: Any) -> Any:
    """The encoder's rows for values of one column, the other columns at their first category."""
    probe = {i: cells if i == column else np.repeat(own[:1], len(cells)) for i, own in enumerate(encoder.categories_)}
    frame = pd.DataFrame({i: pd.Series(values, dtype=values.dtype) for i, values in probe.items()})
    frame.columns = getattr(encoder, "feature_names_in_", frame.columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoded = encoder.transform(frame)
    return np.asarray(encoded.toarray() if hasattr(encoded, "toarray") else encoded)


def _unseen(known: Sequence[Any]) -> float:
    return float(next(value for value in count() if value not in known))


def _plain(code: float) -> float | None:
    return None if code != code else code
