"""The models behind the transforms: one small class per family, in a table by name.

Each answers one row in plain Python, where NumPy's fixed costs would dominate or where nothing is gained by it, and batches
in NumPy.  Fields are JSON; arrays of many numbers, and trees, are in files beside it.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from kaizen.serving.engine import transforms
from kaizen.serving.engine.models.bayes import Bernoulli, Categories, Gaussian, Quadratic
from kaizen.serving.engine.models.common import Model
from kaizen.serving.engine.models.linear import Centroids, Constant, Linear
from kaizen.serving.engine.models.members import Average, OneVsOne, OneVsRest, Stack
from kaizen.serving.engine.models.neural import Perceptrons
from kaizen.serving.engine.models.trees import Boosting, Forest, Median, XGBoost
from kaizen.serving.engine.models.wrappers import Calibrated, Steps, Target, Temperature, Threshold

__all__ = ["MODELS", "TOLERANCE", "Linear", "Model", "restore", "tolerance"]

MODELS: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Average, Bernoulli, Boosting, Calibrated, Categories, Centroids, Constant, Forest, Gaussian, Linear, Median, OneVsOne,
        OneVsRest, Perceptrons, Quadratic, Stack, Steps, Target, Temperature, Threshold, XGBoost,
    )
}  # fmt: skip

TOLERANCE = 1e-12
"""Of a probability; of a number relative to its size, above one."""
TOLERANCES: Mapping[str, float] = {"XGBoost": 1e-6}
"""Of models that answer in float32."""


def restore(document: Mapping[str, Any], directory: Path) -> Model:
    """The model that `document` describes, its files from `directory`.

    Raises EngineError when trees and document do not agree, KeyError or TypeError when it is none of this version.
    """
    kind = MODELS[document["name"]]
    given = {name: _restored(value, directory) for name, value in document.items() if name not in ("name", "steps")}
    if "steps" in document:
        given["steps"] = [transforms.restore(step) for step in document["steps"]]
    if any(one.name == "directory" for one in fields(kind)):
        given["directory"] = directory
    made: Model = kind(**given)
    return made


def _restored(value: Any, directory: Path) -> Any:
    """With models and arrays in the place of what describes them."""
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        return [_restored(one, directory) for one in value]
    if not isinstance(value, dict):
        return value
    if "name" in value:
        return restore(value, directory)
    if "array" in value:
        return np.load(directory / value["array"], allow_pickle=False)
    return {name: _restored(one, directory) for name, one in value.items()}


def tolerance(document: Mapping[str, Any]) -> float:
    """By how much the model that `document` describes may differ from the library that it comes from."""
    inner = [one for value in document.values() for one in (value if isinstance(value, list) else [value])]
    return max(
        [TOLERANCES.get(str(document.get("name")), TOLERANCE), *(tolerance(one) for one in inner if isinstance(one, dict))]
    )
