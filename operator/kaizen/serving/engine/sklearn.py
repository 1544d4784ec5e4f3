"""scikit-learn itself as an engine, for what is not compiled; only in the server-sklearn image.

The model is read from skops, which builds only the types that are trusted below: no pickle is loaded.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skops.io

from kaizen.serving.engine import frames
from kaizen.serving.engine.base import MODEL_FILE, Answer, Column, EngineError, Refused
from kaizen.serving.engine.runtime import Header

__all__ = ["Fallback", "ask", "trusted"]

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


def ask(pipeline: Any, frame: Any, threshold: float | None) -> tuple[Any, Any]:
    """scikit-learn's labels (or numbers) and probabilities (or None).  Raises Refused where scikit-learn raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probabilities = pipeline.predict_proba(frame) if hasattr(pipeline, "predict_proba") else None
            if threshold is None or probabilities is None:
                return pipeline.predict(frame), probabilities
            return pipeline.classes_[(probabilities[:, 1] >= threshold).astype(np.intp)], probabilities
    except (ValueError, TypeError, OverflowError) as error:
        raise Refused(str(error).split("\n")[0]) from error


class Fallback(Header):
    """Answers with the fitted pipeline."""

    def __init__(self, document: Mapping[str, Any], directory: Path, pipeline: Any = None) -> None:
        super().__init__(document)
        self._described = document["frame"]
        path = directory / MODEL_FILE
        self._pipeline = skops.io.load(path, trusted=trusted(path)) if pipeline is None else pipeline

    def predict(self, columns: Sequence[Column], rows: int) -> Answer:
        """See Engine.predict."""
        if rows == 0:
            return Answer([], None if self.classes is None else [], len(self.classes or ()))
        frame = frames.build(self.inputs, columns, self._described)
        labels, probabilities = ask(self._pipeline, frame, self.threshold)
        scores = None if probabilities is None else probabilities.ravel().tolist()
        return Answer(labels.tolist(), scores, len(self.classes or ()))
