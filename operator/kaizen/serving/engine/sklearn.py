"""scikit-learn itself as an engine, for what is not compiled; only in the server-sklearn image.

The model is read from skops, which builds only the types that are trusted below: no pickle is loaded.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import skops.io

from kaizen.serving.engine.base import MODEL_FILE, Answer, EngineError, Prepared, as_columns
from kaizen.serving.engine.chain import call
from kaizen.serving.engine.runtime import Header

__all__ = ["Fallback", "trusted"]

TRUSTED = ("sklearn", "numpy", "lightgbm", "xgboost")
"""Packages whose types are built from a file."""
TRUSTED_TYPES = ("collections.OrderedDict", "functools.partial")
"""A partial's function is listed, and checked, on its own."""


def trusted(path: Path) -> list[str]:
    """The types in a skops file that skops does not know and we trust: those of TRUSTED.

    Raises EngineError naming the first other one.
    """
    untrusted: list[str] = skops.io.get_untrusted_types(file=path)
    for name in untrusted:
        if name.split(".")[0] not in TRUSTED and name not in TRUSTED_TYPES:
            raise EngineError(f"{path.name} holds the type {name}, which is none of {', '.join(TRUSTED)}; it is not loaded")
    return untrusted


class Fallback(Header):
    """Answers with the fitted pipeline."""

    joins = True
    """A call costs far more than a row."""

    def __init__(self, document: Mapping[str, Any], directory: Path, pipeline: Any = None) -> None:
        super().__init__(document)
        path = directory / MODEL_FILE
        if pipeline is None:
            pipeline = skops.io.load(path, trusted=trusted(path))
        self._call = call(pipeline, self.inputs, document["frame"], self.threshold, document.get("call", "whole"))

    def predict(self, columns: Prepared, rows: int) -> Answer:
        """See Engine.predict."""
        if rows == 0:
            return Answer([], None if self.classes is None else [], len(self.classes or ()))
        labels, probabilities = self._call(as_columns(columns), rows)
        scores = None if probabilities is None else probabilities.ravel().tolist()
        return Answer(labels.tolist(), scores, len(self.classes or ()))
