"""What a user's own code leaves: a model and its metrics over time, read as what a stranger wrote.

A model is scikit-learn's, saved by skops, or an ONNX graph: no pickle is loaded, and no type that is not trusted.
"""

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from kaizen.training.errors import Failure, nearest

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from kaizen.training.data.prepare import Rows

__all__ = ["Point", "Points", "as_pipeline", "read_metrics", "read_model"]

STEP = "Train"
ONNX = ".onnx"
PICKLES = (".pkl", ".pickle", ".joblib", ".cloudpickle")
SAVE = (
    "save it by skops.io.dump(model, …/model.skops), by mlflow.sklearn.save_model(…, serialization_format='skops'), "
    "or as one …/model.onnx"
)
MOST_BYTES = 16 * 2**20
MOST_POINTS = 10_000
TRIED_ROWS = 20
LONGEST_NAME = 64


@dataclass(frozen=True)
class Point:
    """One value of a metric while the code ran."""

    step: int
    name: str
    value: float

    def to_json(self) -> dict[str, Any]:
        """As it stood in the file."""
        return {"step": self.step, "name": self.name, "value": self.value}


@dataclass(frozen=True)
class Points:
    """The metrics file."""

    points: tuple[Point, ...] = ()
    """In the file's order; the newest of them where there are too many."""
    skipped: int = 0
    """Lines that are no metric."""


@dataclass(frozen=True)
class OnnxFile:
    """A graph, before it is known how the data go into it."""

    name: str
    content: bytes


def read_model(directory: Path) -> Any:
    """The fitted scikit-learn estimator in a directory, or an OnnxFile.  Raises Failure."""
    path = _model_file(directory)
    if path.suffix == ONNX:
        return OnnxFile(path.name, path.read_bytes())
    import skops.io

    from kaizen.serving.engine.base import EngineError
    from kaizen.serving.engine.sklearn import trusted

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = skops.io.load(path, trusted=trusted(path))
    except EngineError as problem:
        raise Failure(STEP, "ModelNotTrusted", str(problem)) from problem
    except Exception as problem:
        why = " ".join(str(problem).split())[:300]
        raise Failure(
            STEP, "ModelUnreadable", f"{path.name} cannot be read by skops: {type(problem).__name__}: {why}"
        ) from problem
    return _checked(model, path.name)


def as_pipeline(model: Any, train: "Rows", task: str) -> "Pipeline":
    """A model as Kaizen's other steps know one: it takes the table of all features, and picks its own.  Raises Failure."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    if isinstance(model, OnnxFile):
        from kaizen.training.models.onnx import to_estimator  # onnxruntime is for such models only

        model = to_estimator(model.name, model.content, train, task)
    features = [str(name) for name in train.frame.columns]
    names = getattr(model, "feature_names_in_", None)
    wanted = features if names is None else [str(name) for name in names]
    if missing := [name for name in wanted if name not in features]:
        message = f"the model was fitted on {missing[0]}, which is no feature: {nearest(missing[0], features)}"
        raise Failure(STEP, "ModelColumns", message)
    count = getattr(model, "n_features_in_", None)
    if names is None and count is not None and count != len(features):
        message = (
            f"the model was fitted on {count} nameless columns, and there are {len(features)} features: fit it on a DataFrame"
        )
        raise Failure(STEP, "ModelColumns", message)
    if task == "Classification":
        _check_classes(model, train)
    if wanted == features and isinstance(model, Pipeline) and isinstance(model.steps[0][1], ColumnTransformer):
        pipeline = model
    else:
        columns = ColumnTransformer([("features", "passthrough", wanted)], verbose_feature_names_out=False)
        # A model that was fitted without names is not to be given any.
        columns.set_output(transform="default" if names is None else "pandas")
        pipeline = Pipeline([("columns", columns.fit(train.frame)), ("model", model)])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline.predict(train.frame.head(TRIED_ROWS))
    except Exception as problem:
        why = " ".join(str(problem).split())[:300]
        message = f"the model does not answer the rows that it is given, {type(problem).__name__}: {why}"
        raise Failure(STEP, "ModelCannotPredict", message) from problem
    return pipeline


def read_metrics(path: Path) -> Points:
    """The metrics that the code wrote; lines that are none are counted and left out: they are no reason to lose a model."""
    try:
        with path.open("rb") as file:
            lines = file.read(MOST_BYTES).splitlines()
    except OSError:
        return Points()
    points = [_point(line) for line in lines if line.strip()]
    good = [point for point in points if point is not None]
    return Points(tuple(good[-MOST_POINTS:]), len(points) - len(good))


def _model_file(directory: Path) -> Path:
    """The skops or ONNX file, by the MLmodel that names it or as the only one."""
    files = sorted(path for path in directory.rglob("*") if path.is_file()) if directory.is_dir() else []
    described = [path for path in files if path.name == "MLmodel"]
    if len(described) > 1:
        listed = ", ".join(str(path.relative_to(directory)) for path in described)
        raise Failure(STEP, "ModelAmbiguous", f"the container left several models, {listed}: leave one in $KAIZEN_MODEL_DIR")
    if described:
        return _from_mlflow(described[0])
    models = [path for path in files if path.suffix in (".skops", ONNX)]
    if len(models) == 1:
        return models[0]
    if models:
        listed = ", ".join(str(path.relative_to(directory)) for path in models)
        raise Failure(STEP, "ModelAmbiguous", f"the container left several models, {listed}: leave one in $KAIZEN_MODEL_DIR")
    for path in files:
        name = path.relative_to(directory)
        if path.suffix in PICKLES:
            raise Failure(STEP, "ModelIsPickle", f"{name} is a pickle, which could run any code where it is loaded: {SAVE}")
    found = f"only {files[0].relative_to(directory)}" if files else "nothing"
    raise Failure(
        STEP, "ModelMissing", f"the container ended well and left {found} in $KAIZEN_MODEL_DIR, which is no model: {SAVE}"
    )


def _from_mlflow(path: Path) -> Path:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise Failure(STEP, "ModelUnreadable", f"MLmodel cannot be read: {' '.join(str(problem).split())[:300]}") from problem
    flavors = document.get("flavors") if isinstance(document, Mapping) else None
    flavors = flavors if isinstance(flavors, Mapping) else {}
    flavor, graph = flavors.get("sklearn"), flavors.get("onnx")
    if isinstance(flavor, Mapping):
        if flavor.get("serialization_format") != "skops":
            used = flavor.get("serialization_format") or "pickle"
            message = f"MLmodel says that the model is saved by {used}, which could run any code: {SAVE}"
            raise Failure(STEP, "ModelIsPickle", message)
        return _beside(path, str(flavor.get("pickled_model") or "model.skops"))
    if isinstance(graph, Mapping):
        return _beside(path, str(graph.get("data") or "model.onnx"))
    has = ", ".join(map(str, flavors)) or "none"
    raise Failure(STEP, "FlavourNotSupported", f"MLmodel has the flavours {has}, and neither sklearn nor onnx: {SAVE}")


def _beside(path: Path, name: str) -> Path:
    root = path.parent.resolve()
    model = (root / name).resolve()
    if not model.is_relative_to(root) or not model.is_file():
        raise Failure(STEP, "ModelMissing", f"MLmodel names the file {name}, which is not beside it")
    return model


def _checked(model: Any, name: str) -> Any:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if not hasattr(model, "predict"):
        raise Failure(
            STEP, "ModelUnusable", f"{name} holds a {type(model).__name__}, which cannot predict: leave a fitted estimator"
        )
    try:
        check_is_fitted(model)
    except (NotFittedError, TypeError) as problem:
        raise Failure(
            STEP, "ModelNotFitted", f"{name} holds a {type(model).__name__} that is not fitted: fit it first"
        ) from problem
    return model


def _check_classes(model: Any, train: "Rows") -> None:
    found, known = getattr(model, "classes_", None), set(train.target.tolist())
    if found is None or not hasattr(model, "predict_proba"):
        message = f"a {type(model).__name__} gives no probabilities of classes: leave a classifier with predict_proba"
        raise Failure(STEP, "ModelUnusable", message)
    classes = found.tolist()
    if strange := [one for one in classes if one not in known or not isinstance(one, type(next(iter(known))))]:
        message = f"the model knows the class {strange[0]!r}, and the target has {', '.join(map(repr, sorted(known)[:5]))}"
        raise Failure(STEP, "ModelClasses", message)


def _point(line: bytes) -> Point | None:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    step, name, value = said.get("step", 0), said.get("name"), said.get("value")
    if type(step) is not int or abs(step) > 2**53 or not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300 or not math.isfinite(value):
        return None
    return Point(step, name, float(value))
