"""What MLflow needs to open a model directory, written without MLflow: MLmodel, requirements.txt, python_env.yaml."""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import skops.io
import yaml

from kaizen import __version__
from kaizen.serving.engine.base import GRAPH_FILE, MODEL_FILE

__all__ = ["versions", "write_onnx", "write_sklearn"]

PACKAGES = ("numpy", "pandas", "scipy", "scikit-learn", "skops", "treelite")
BOOSTERS = {"lightgbm": "lightgbm", "xgboost-cpu": "xgboost"}
"""Package and module, needed by models of theirs only."""


def write_sklearn(directory: Path) -> None:
    """For mlflow.sklearn and mlflow.pyfunc; model.skops is there.

    skops builds only types that it knows or that are named here; all are scikit-learn's, NumPy's or the standard library's.
    """
    types = skops.io.get_untrusted_types(file=directory / MODEL_FILE)
    flavour = {
        "code": None,
        "pickled_model": MODEL_FILE,
        "serialization_format": "skops",
        "sklearn_version": importlib.metadata.version("scikit-learn"),
        "skops_trusted_types": types,
    }
    function = {"loader_module": "mlflow.sklearn", "model_path": MODEL_FILE, "predict_fn": "predict"}
    held = " ".join([MODEL_FILE, *types])
    boosters = (name for name, module in BOOSTERS.items() if module in held)
    needed = [_pinned(name) for name in (*(name for name in PACKAGES if name != "treelite"), *boosters)]
    _write(directory, {"sklearn": flavour, "python_function": function}, needed)


def write_onnx(directory: Path) -> None:
    """For mlflow.onnx and mlflow.pyfunc; model.onnx is there."""
    flavour = {
        "code": None,
        "data": GRAPH_FILE,
        "onnx_session_options": {"intra_op_num_threads": 1},
        "providers": ["CPUExecutionProvider"],
    }
    # MLflow itself reads the graph by the package onnx, which neither training nor serving needs.
    needed = [*(_pinned(name) for name in ("numpy", "pandas", "onnxruntime")), "onnx"]
    _write(directory, {"onnx": flavour, "python_function": {"loader_module": "mlflow.onnx", "data": GRAPH_FILE}}, needed)


def versions() -> dict[str, str]:
    """Of Python, Kaizen and the packages that a model may depend on."""
    packages = {name: importlib.metadata.version(name) for name in (*PACKAGES, *BOOSTERS, "onnxruntime")}
    return {"python": platform.python_version(), "kaizen": __version__, **packages}


def _pinned(name: str) -> str:
    return f"{name}=={importlib.metadata.version(name)}"


def _write(directory: Path, flavours: Mapping[str, Mapping[str, Any]], needed: Sequence[str]) -> None:
    python = platform.python_version()
    function = {**flavours["python_function"], "env": {"virtualenv": "python_env.yaml"}, "python_version": python}
    text = yaml.safe_dump({"flavors": {**flavours, "python_function": function}})
    (directory / "MLmodel").write_text(text, encoding="utf-8")
    (directory / "requirements.txt").write_text("\n".join(needed) + "\n", encoding="utf-8")
    environment = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (directory / "python_env.yaml").write_text(yaml.safe_dump(environment, sort_keys=False), encoding="utf-8")
