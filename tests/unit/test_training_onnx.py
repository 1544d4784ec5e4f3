"""Models that arrive as ONNX: mapped to the data by names and shapes, judged, packaged and served as onnxruntime answers them.

The graphs are skl2onnx's, and some made by hand where the converter makes no such thing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from kaizen.serving.engine import runtime
from kaizen.serving.engine.base import FORMAT, EngineError, Refused
from kaizen.serving.engine.onnx import Unmappable, session
from kaizen.serving.model import open_model
from kaizen.training.access import Access
from kaizen.training.data.ingest import ingest
from kaizen.training.data.prepare import Rows, prepare
from kaizen.training.data.split import Parts, split
from kaizen.training.errors import Failure
from kaizen.training.job import Surroundings, prepare_run, run
from kaizen.training.spec import read_spec
from kaizen.training.trained import as_pipeline, read_model
from tests.support import training

NUMBERS = ["distance", "wind"]
FEATURES = [*NUMBERS, "carrier"]
TYPES = [(name, FloatTensorType([None, 1])) for name in NUMBERS] + [("carrier", StringTensorType([None, 1]))]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Rows of a small table, split: distance, wind with gaps, carrier with gaps, weekend."""
    place = tmp_path_factory.mktemp("lake")
    spec = training.spec(training.write(training.table(), place / "rows.parquet"))
    return split(prepare(ingest(spec.data, Access(None), place).rows, spec), spec.data)


def mixed(model: Any) -> Pipeline:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = [("t", OneHotEncoder(handle_unknown="ignore"), ["carrier"]), ("n", numbers, NUMBERS)]
    return Pipeline([("c", ColumnTransformer(columns)), ("m", model)])


def whole(rows: Rows) -> Rows:
    """The same without gaps."""
    return replace(rows, frame=rows.frame.fillna({"wind": 0.0, "carrier": ""}))


def leave(graph: Any, directory: Path) -> Any:
    directory.mkdir(exist_ok=True)
    (directory / "model.onnx").write_bytes(graph.SerializeToString())
    return read_model(directory)


CONVERTED: dict[str, tuple[Any, Any]] = {
    "labels and maps": (lambda: LogisticRegression(), None),
    "labels and a tensor": (lambda: LogisticRegression(), {"zipmap": False}),
    "a forest": (lambda: RandomForestClassifier(8, random_state=0), {"zipmap": False}),
}


@pytest.mark.parametrize(("make", "options"), CONVERTED.values(), ids=CONVERTED)
def test_graph_with_an_input_for_each_column_answers_as_its_model(make: Any, options: Any, parts: Parts, tmp_path: Path) -> None:
    train, test = (part.frame[FEATURES].fillna({"carrier": ""}) for part in (parts.train, parts.test))
    model = mixed(make()).fit(train, parts.train.target.astype(int))
    found = as_pipeline(leave(to_onnx(model, initial_types=TYPES, options=options), tmp_path), parts.train, "Classification")
    assert found.classes_.tolist() == [False, True]
    assert (found.predict(parts.test.frame) == model.predict(test).astype(bool)).all()
    assert np.abs(found.predict_proba(parts.test.frame) - model.predict_proba(test)).max() < 1e-5


def graph(
    nodes: Sequence[Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any], weights: Mapping[str, Any] = {}, **metadata: Any
) -> Any:
    """A graph made by hand; inputs and outputs as (type, shape), metadata as JSON."""
    taken, given = ([helper.make_tensor_value_info(name, *info) for name, info in one.items()] for one in (inputs, outputs))
    tensors = [numpy_helper.from_array(np.asarray(value, dtype=np.float32), name) for name, value in weights.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("strangers", 1)]
    made = helper.make_model(
        helper.make_graph(nodes, "made", taken, given, initializer=tensors), opset_imports=opsets, ir_version=9
    )
    helper.set_model_props(made, {name: json.dumps(value) for name, value in metadata.items()})
    return made


FLOAT, LONG = TensorProto.FLOAT, TensorProto.INT64
LINEAR = [helper.make_node("Gemm", ["x", "w", "b"], ["z"])]
SIGMOID = [*LINEAR, helper.make_node("Sigmoid", ["z"], ["probability"])]
SOFTMAX = [*LINEAR, helper.make_node("Softmax", ["z"], ["probabilities"])]
ONE, TWO = {"w": [[0.001], [0.1]], "b": [-2.5]}, {"w": [[0.001, 0.0], [0.1, 0.0]], "b": [-2.5, 0.0]}


def linear(**metadata: Any) -> Any:
    outputs = {"probability": (FLOAT, [None, 1])}
    return graph(SIGMOID, {"x": (FLOAT, [None, 2])}, outputs, ONE, **{"features": NUMBERS, **metadata})


def expected(frame: Any) -> Any:
    values = frame[NUMBERS].to_numpy(dtype=np.float32)
    return 1 / (1 + np.exp(-(values @ np.array([0.001, 0.1]) - 2.5)))


@pytest.mark.parametrize("classes", [[False, True], [True, False]])
def test_probabilities_alone_are_enough_in_the_declared_order(classes: list[bool], parts: Parts, tmp_path: Path) -> None:
    made = linear()
    if classes[0]:
        about = {"features": NUMBERS, "classes": classes}
        made = graph(SOFTMAX, {"x": (FLOAT, ["batch", 2])}, {"probabilities": (FLOAT, ["batch", 2])}, TWO, **about)
    found = as_pipeline(leave(made, tmp_path), whole(parts.train), "Classification")
    frame = parts.test.frame.dropna()
    place = found.classes_.tolist().index(True)
    assert found.classes_.tolist() == classes
    assert np.abs(found.predict_proba(frame)[:, place] - expected(frame)).max() < 1e-5
    assert (found.predict(frame) == (expected(frame) > 0.5)).all()


def test_single_tensor_takes_all_features_when_all_are_numbers(parts: Parts, tmp_path: Path) -> None:
    rows = parts.train
    numbers = replace(rows, frame=rows.frame[NUMBERS].fillna(0.0))
    made = graph(SIGMOID, {"x": (FLOAT, [None, 2])}, {"probability": (FLOAT, [None, 1])}, ONE)
    assert as_pipeline(leave(made, tmp_path), numbers, "Classification").steps[-1][1].graph["inputs"][0]["columns"] == [0, 1]


def test_a_regression_is_one_number(parts: Parts, tmp_path: Path) -> None:
    train = parts.train.frame[FEATURES].fillna({"carrier": ""})
    target = train["distance"] * 0.01
    model = mixed(Ridge()).fit(train, target)
    found = as_pipeline(leave(to_onnx(model, initial_types=TYPES), tmp_path), parts.train, "Regression")
    assert not hasattr(found, "predict_proba")
    assert np.allclose(found.predict(parts.train.frame), model.predict(train), rtol=1e-5, atol=1e-4)


def test_values_that_the_graph_cannot_take_are_refused(parts: Parts, tmp_path: Path) -> None:
    found = as_pipeline(leave(linear(), tmp_path), whole(parts.train), "Classification")
    gaps = parts.train.frame[parts.train.frame["wind"].isna()]
    with pytest.raises(Refused, match="no finite answer to row 0; send all values"):
        found.predict(gaps)
    large = parts.train.frame.dropna().head(2).assign(wind=1e39)
    with pytest.raises(Refused, match="'wind' has a value that is too large for float32"):
        found.predict(large)
    cast = [helper.make_node("Cast", ["hour"], ["number"], to=FLOAT)]
    made = graph(cast, {"hour": (LONG, [None, 1])}, {"number": (FLOAT, [None, 1])}, features={"hour": ["wind"]})
    with pytest.raises(Failure) as failed:
        as_pipeline(leave(made, tmp_path), parts.train, "Regression")
    assert failed.value.code == "ModelCannotPredict"
    assert "whole numbers of 64 bits" in failed.value.message


TEXT = TensorProto.STRING
UNMAPPABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "columns that nobody names": (lambda: linear(features="wind"), "features must be a JSON list of columns"),
    "too many columns": (
        lambda: graph(SIGMOID, {"x": (FLOAT, [None, 2])}, {"probability": (FLOAT, [None, 1])}, ONE),
        "has 2 columns, and there are 4 features: distance, wind, carrier, weekend; add the metadata property features",
    ),
    "a column that is none": (lambda: linear(features=["distance", "wnd"]), "has 'wnd', which is no feature"),
    "a text in numbers": (lambda: linear(features=["distance", "carrier"]), "the feature carrier has texts"),
    "an input that is no column": (
        lambda: graph(
            [helper.make_node("Add", ["distance", "y"], ["z"])],
            {"distance": (FLOAT, [None, 1]), "y": (FLOAT, [None, 1])},
            {"z": (FLOAT, [None, 1])},
        ),
        "its input y is no feature; name each input as its column",
    ),
    "rows of a fixed number": (
        lambda: graph(SIGMOID, {"x": (FLOAT, [1, 2])}, {"probability": (FLOAT, [1, 1])}, ONE, features=NUMBERS),
        "takes exactly 1 rows; export it with a dynamic first axis",
    ),
    "scores": (
        lambda: graph(LINEAR, {"x": (FLOAT, [None, 2])}, {"z": (FLOAT, [None, 2])}, TWO, features=NUMBERS),
        "its output z has no probabilities",
    ),
    "too few columns": (
        lambda: graph(
            SOFTMAX, {"x": (FLOAT, [None, 2])}, {"probabilities": (FLOAT, [None, 2])}, TWO, features=["wind"]
        ),
        "has 2 columns, and there are 1 features",
    ),
    "labels alone": (
        lambda: graph(
            [*LINEAR, helper.make_node("ArgMax", ["z"], ["label"], axis=1, keepdims=0)],
            {"x": (FLOAT, [None, 2])},
            {"label": (LONG, [None])},
            TWO,
            features=NUMBERS,
        ),
        "of which none alone can be the probabilities",
    ),
    "three classes of two": (
        lambda: graph(
            SOFTMAX,
            {"x": (FLOAT, [None, 2])},
            {"probabilities": (FLOAT, [None, 3])},
            {"w": np.zeros((2, 3)), "b": np.zeros(3)},
            features=NUMBERS,
        ),
        "the target has 2 classes: False, True",
    ),
    "labels against probabilities": (
        lambda: graph(
            [*SOFTMAX, helper.make_node("ArgMin", ["z"], ["label"], axis=1, keepdims=0)],
            {"x": (FLOAT, [None, 2])},
            {"label": (LONG, [None]), "probabilities": (FLOAT, [None, 2])},
            TWO,
            features=NUMBERS,
        ),
        "add the metadata property classes",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "words"), UNMAPPABLE.values(), ids=UNMAPPABLE)
def test_what_a_graph_leaves_open_is_said_with_what_to_write(make: Any, words: str, parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(Failure) as failed:
        as_pipeline(leave(make(), tmp_path), parts.train, "Classification")
    assert (failed.value.step, failed.value.code, failed.value.retry) == ("Train", "OnnxNotMapped", False)
    assert words in failed.value.message


def test_index_of_the_likeliest_class_is_no_label_of_its_own(parts: Parts, tmp_path: Path) -> None:
    made = graph(
        [*SOFTMAX, helper.make_node("ArgMax", ["z"], ["label"], axis=1, keepdims=0)],
        {"x": (FLOAT, [None, 2])},
        {"label": (LONG, [None]), "probabilities": (FLOAT, [None, 2])},
        TWO,
        features=NUMBERS,
        classes=[True, False],
    )
    found = as_pipeline(leave(made, tmp_path), whole(parts.train), "Classification")
    frame = parts.test.frame.dropna()
    assert (found.predict(frame) == (expected(frame) > 0.5)).all()


def outside() -> Any:
    made = linear()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return made


def hidden() -> Any:
    constant = helper.make_node("Constant", [], ["k"], value=outside().graph.initializer[0])
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("k", FLOAT, None)])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return graph([node], {"c": (TensorProto.BOOL, [])}, {"y": (FLOAT, None)})


UNSAFE: dict[str, tuple[Callable[[], Any], str]] = {
    "data in another file": (outside, "the data of its tensor w are in another file; save it as one file"),
    "the same in a branch": (hidden, "are in another file"),
    "a library's operator": (
        lambda: graph(
            [helper.make_node("Run", ["x"], ["y"], domain="strangers")], {"x": (FLOAT, [None, 2])}, {"y": (FLOAT, [None, 1])}
        ),
        "operator Run of strangers comes from a library",
    ),
    "an unknown operator": (
        lambda: graph([helper.make_node("Nonsense", ["x"], ["y"])], {"x": (FLOAT, [None, 2])}, {"y": (FLOAT, [None, 1])}),
        "does not load it",
    ),
}


@pytest.mark.parametrize(("make", "words"), UNSAFE.values(), ids=UNSAFE)
def test_what_would_read_other_files_or_run_other_code_is_refused(make: Any, words: str, parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(Failure) as failed:
        as_pipeline(leave(make(), tmp_path), parts.train, "Classification")
    assert failed.value.code == "ModelUnreadable"
    assert words in failed.value.message
    with pytest.raises(Unmappable, match=r"no ONNX file|onnxruntime's own format"):
        session(b"\x08\x00\x00\x00ORTM" if "branch" in words else b"\xff" * 64)


def test_mlflow_directory_with_the_onnx_flavour_is_read(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {onnx: {data: net.onnx}, python_function: {}}")
    (tmp_path / "net.onnx").write_bytes(linear().SerializeToString())
    assert read_model(tmp_path).name == "net.onnx"


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_run_ends_in_a_served_version(threshold: float | None, tmp_path: Path) -> None:
    path = training.write(training.table(), tmp_path / "lake" / "rows.parquet")
    gates = [{"name": "good", "metric": "roc_auc", "atLeast": 0.6}]
    decision: dict[str, Any] = {} if threshold is None else {"decision": {"threshold": threshold}}
    changes: dict[str, Any] = {"container": {"image": "mine"}, "gates": gates, "explain": {"method": "Permutation"}, **decision}
    document = training.document(path, **changes)
    del document["estimator"]
    spec, around = read_spec(document, local=True), Surroundings(Access(None), training.Silent())
    (tmp_path / "scratch").mkdir()
    prepared = prepare_run(spec, around, tmp_path / "scratch")
    rows = prepared.parts.train
    train = rows.frame[FEATURES].fillna({"carrier": ""})
    made = to_onnx(mixed(LogisticRegression()).fit(train, rows.target.astype(int)), initial_types=TYPES)
    model = as_pipeline(leave(made, tmp_path / "left"), rows, spec.task)
    result = run(spec, around, tmp_path / "model", prepared, model)
    assert result.gates_passed
    assert result.manifest["engine"] == "onnx"
    assert result.manifest["estimator"]["name"] == "OnnxClassifier"
    directory = tmp_path / "model"
    assert (directory / "model.onnx").read_bytes() == made.SerializeToString()
    assert not (directory / "model.skops").exists()
    assert "data: model.onnx" in (directory / "MLmodel").read_text()
    assert "onnxruntime==" in (directory / "requirements.txt").read_text()
    assert "library_name: onnx" in (directory / "README.md").read_text()
    served = open_model(directory)
    assert (served.kind, served.engine.joins) == ("onnx", True)
    nullable = {one.name: (one.datatype, one.nullable) for one in served.engine.inputs}
    assert nullable == {"distance": ("INT64", True), "wind": ("FP64", True), "carrier": ("BYTES", True)}
    row: dict[str, list[Any]] = {"distance": [2500], "wind": [None], "carrier": ["UA"]}
    answer = served.engine.predict(served.engine.columns(row), 1)
    assert answer.labels == [bool((answer.scores or [])[1] >= (threshold or 0.5))]
    assert served.engine.predict(served.engine.columns({name: [] for name in row}), 0).labels == []


def test_broken_graph_ends_the_server_with_a_sentence(tmp_path: Path) -> None:
    document = {
        "format": FORMAT, "kind": "onnx", "reason": "", "task": "Regression", "inputs": [], "classes": None,
        "threshold": None, "keys": [], "timestamp": None, "graph": {},
    }  # fmt: skip
    (tmp_path / "engine.json").write_text(json.dumps(document))
    (tmp_path / "model.onnx").write_bytes(outside().SerializeToString())
    with pytest.raises(EngineError, match=r"model.onnx cannot be loaded: the data of its tensor w are in another file"):
        runtime.load(tmp_path)
