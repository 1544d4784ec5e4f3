"""What happens to a row before the model: one small class per kind of step, in a table by name.

Each does the same twice: `row` on a list of Python values, where NumPy's fixed costs would dominate, and `batch` on columns.
Fields are JSON, so a transform is its own document.  Arithmetic is scikit-learn's, operation by operation, in float64.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kaizen.serving.engine.transforms.columns import Columns, Part, Select
from kaizen.serving.engine.transforms.common import (
    Reads,
    Table,
    Takes,
    Transform,
    as_lists,
    as_matrix,
    as_read,
    refuse_batch,
    refuse_infinite,
    through,
)
from kaizen.serving.engine.transforms.dates import Moments
from kaizen.serving.engine.transforms.encoding import Known, Lookup, OneHot, Ordinal
from kaizen.serving.engine.transforms.expanding import Bins, Dot, Products, Project
from kaizen.serving.engine.transforms.imputing import Fill, Impute
from kaizen.serving.engine.transforms.scaling import Binarize, Clip, Line, Multiply, Scale
from kaizen.serving.engine.transforms.shaping import Function, Normalize, Power, Quantiles
from kaizen.serving.engine.transforms.splines import Splines
from kaizen.serving.engine.transforms.texts import Analysis, HashedWords, Weigh, Weighting, Words

__all__ = [
    "TRANSFORMS",
    "Columns",
    "Known",
    "Reads",
    "Scale",
    "Table",
    "Takes",
    "Transform",
    "as_lists",
    "as_matrix",
    "as_read",
    "refuse_batch",
    "refuse_infinite",
    "restore",
    "through",
]

_KINDS: tuple[type[Any], ...] = (
    *(Binarize, Bins, Clip, Columns, Dot, Fill, Function, HashedWords, Impute, Known, Line, Moments, Multiply, Normalize),
    *(OneHot, Ordinal, Power, Products, Project, Quantiles, Scale, Select, Splines, Weigh, Words),
)
TRANSFORMS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in _KINDS}

_INNER: Mapping[str, Callable[[Any], Any]] = {
    "analysis": lambda document: Analysis(**document),
    "lookups": lambda documents: [Lookup(**document) for document in documents],
    "parts": lambda documents: [Part(one["columns"], [restore(step) for step in one["steps"]]) for one in documents],
    "weighting": lambda document: None if document is None else Weighting(**document),
}
"""Fields that are no plain JSON."""


def restore(document: Mapping[str, Any]) -> Transform:
    """The transform that `document` describes.  Raises KeyError or TypeError when it is not one of this version."""
    kind = TRANSFORMS[document["name"]]
    fields = {name: _INNER[name](value) if name in _INNER else value for name, value in document.items() if name != "name"}
    made: Transform = kind(**fields)
    return made
