"""What the tables of estimators share."""

from collections.abc import Callable
from io import BytesIO
from typing import Any, Protocol

import numpy as np

from kaizen.serving.engine.transformers import Flow, Uncovered, numbers_only

__all__ = ["Document", "Estimator", "Files", "leaf", "one_target", "stored"]

Document = dict[str, Any]
"""A model, as models.restore reads it."""

INLINE = 2048
"""Larger arrays are files."""


class Files(Protocol):
    """The files beside engine.json."""

    def add(self, stem: str, content: bytes) -> str:
        """The name under which the model finds the content."""


Estimator = Callable[[Any, Flow, Files], Document]
"""A fitted estimator, what reaches it, where its files go; raises Uncovered."""


def stored(array: Any, files: Files) -> Any:
    """Numbers for a document: lists, or the name of a file of many.  Raises Uncovered when they are not finite."""
    if not isinstance(array, list | tuple | np.ndarray):
        raise Uncovered("sparse coefficients are not compiled")
    numbers = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise Uncovered("a model whose own numbers are infinite or missing is not compiled")
    if numbers.size <= INLINE:
        return numbers.tolist()
    content = BytesIO()
    np.save(content, numbers, allow_pickle=False)
    return {"array": files.add("numbers.npy", content.getvalue())}


def leaf(estimator: Estimator, *, single: bool = False) -> Estimator:
    """An estimator that reads numbers only, in float64; `single`: that may get them in float32 as well."""

    def compiled(fitted: Any, flow: Flow, files: Files) -> Document:
        name = type(fitted).__name__
        numbers_only(flow, name)
        if flow.single and not single:
            raise Uncovered(f"{name} on 32-bit numbers is not compiled")
        return estimator(fitted, flow, files)

    return compiled


def one_target(estimator: Any) -> None:
    """Raises Uncovered when it answers with several targets."""
    if getattr(estimator, "n_outputs_", 1) != 1:
        raise Uncovered(f"{type(estimator).__name__} of several targets is not compiled")
