"""Code of a user's own: what it is given, what it may leave, and what outlives its Pod.  A plain script stands for the image."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import skops.io
import yaml
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from kaizen.training import access, container
from kaizen.training.errors import Failure
from kaizen.training.ingest import ingest
from kaizen.training.known import already_trained
from kaizen.training.prepare import prepare
from kaizen.training.spec import LocalSpec
from kaizen.training.split import Parts, split
from kaizen.training.trained import Point, Points, as_pipeline, read_metrics, read_model
from tests.support import training

SCRIPT = """
import json, os, sys
import pandas as pd
from sklearn.linear_model import LogisticRegression
import skops.io

directory = os.environ["KAIZEN_DATA_DIR"]
schema = json.load(open(f"{directory}/schema.json"))
assert json.loads(os.environ["KAIZEN_PARAMETERS"]) == {"strength": 0.5}
features = [one["name"] for one in schema["features"] if one["type"] in ("Integer", "Number", "Boolean")]
train = pd.read_parquet(f"{directory}/train.parquet")
model = LogisticRegression(C=float(os.environ["KAIZEN_PARAMETER_STRENGTH"]), max_iter=500)
model.fit(train[features].fillna(0.0), train[schema["target"]["name"]])
for step in range(3):
    print(json.dumps({"step": step, "name": "loss", "value": 1 / (step + 1)}), file=open(os.environ["KAIZEN_METRICS_FILE"], "a"))
open(f"{os.environ['KAIZEN_CHECKPOINT_DIR']}/last", "w").write("saved")
skops.io.dump(model, f"{os.environ['KAIZEN_MODEL_DIR']}/model.skops")
"""


def prepared(tmp_path: Path, **changes: Any) -> tuple[Any, Any, Parts]:
    path = training.write(training.table(), tmp_path / "lake" / "rows.parquet")
    spec = training.spec(path, **changes)
    (tmp_path / "scratch").mkdir(exist_ok=True)
    table = ingest(spec.data, access.Access(None), tmp_path / "scratch")
    return spec, table, split(prepare(table.rows, spec), spec.data)


def fitted() -> LogisticRegression:
    return LogisticRegression().fit(np.array([[0.0], [1.0], [2.0], [3.0]]), [0, 0, 1, 1])


def test_code_finds_its_data_and_leaves_a_model(tmp_path: Path) -> None:
    spec, _, parts = prepared(tmp_path, data={"sensitive": ["carrier"]})
    places = {name: tmp_path / name for name in ("data", "model", "metrics", "checkpoints")}
    for place in places.values():
        place.mkdir()
    container.write_data(parts, spec, places["data"])
    environment = {
        "PATH": os.environ["PATH"],
        "KAIZEN_DATA_DIR": str(places["data"]),
        "KAIZEN_MODEL_DIR": str(places["model"]),
        "KAIZEN_METRICS_FILE": str(places["metrics"] / "metrics.jsonl"),
        "KAIZEN_CHECKPOINT_DIR": str(places["checkpoints"]),
        "KAIZEN_PARAMETERS": '{"strength": 0.5}',
        "KAIZEN_PARAMETER_STRENGTH": "0.5",
    }
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True, timeout=120)
    model = read_model(places["model"])
    test = pd.read_parquet(places["data"] / "test.parquet")
    answers = model.predict(test[list(model.feature_names_in_)].fillna(0.0))
    assert (answers == test["late"]).mean() > 0.6
    assert read_metrics(places["metrics"] / "metrics.jsonl").points[2] == Point(2, "loss", 1 / 3)


def test_files_have_features_target_and_sensitive_columns(tmp_path: Path) -> None:
    spec, _, parts = prepared(tmp_path, data={"sensitive": ["carrier"]})
    container.write_data(parts, spec, tmp_path / "data")
    described = json.loads((tmp_path / "data" / "schema.json").read_text())
    train, test = (pq.read_table(tmp_path / "data" / f"{name}.parquet") for name in ("train", "test"))
    assert train.column_names == test.column_names == ["distance", "wind", "weekend", "late", "carrier"]
    assert described["rows"] == {"train": train.num_rows, "test": test.num_rows} == {"train": 320, "test": 80}
    assert described["target"] == {"name": "late", "type": "Boolean"}
    assert described["classes"] == [False, True]
    assert described["sensitive"] == ["carrier"]
    assert {one["name"]: (one["type"], one["kind"]) for one in described["features"]} == {
        "distance": ("Integer", "Numeric"),
        "wind": ("Number", "Numeric"),
        "weekend": ("Boolean", "Numeric"),
    }
    assert train["carrier"].null_count > 0


def test_table_is_handed_over_as_it_was(tmp_path: Path) -> None:
    _, table, _ = prepared(tmp_path)
    container.save_table(table, tmp_path / "kept", "2026-03-01T12:00:00Z")
    found, begun = container.load_table(tmp_path / "kept")
    assert begun == "2026-03-01T12:00:00Z"
    assert found.digest == table.digest
    assert found.sources == table.sources
    assert found.rows.equals(table.rows, check_metadata=True)


def test_table_that_is_not_there_is_worth_another_try(tmp_path: Path) -> None:
    with pytest.raises(Failure) as failed:
        container.load_table(tmp_path)
    assert (failed.value.code, failed.value.retry) == ("PreparedDataMissing", True)


def mlflow(directory: Path, **flavour: Any) -> None:
    directory.mkdir(exist_ok=True)
    skops.io.dump(fitted(), directory / "model.skops")
    sklearn = {"pickled_model": "model.skops", "serialization_format": "skops", **flavour}
    (directory / "MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": sklearn, "python_function": {}}}))


def flavours(directory: Path, **named: Any) -> None:
    (directory / "MLmodel").write_text(yaml.safe_dump({"flavors": named}))


class Stranger:
    """No estimator of scikit-learn."""

    def __init__(self) -> None:
        self.coefficient = 1.0


GOOD = {
    "skops": lambda place: skops.io.dump(fitted(), place / "anything.skops"),
    "a pipeline": lambda place: skops.io.dump(
        make_pipeline(StandardScaler(), LogisticRegression()).fit([[0.0], [1.0]], [0, 1]), place / "model.skops"
    ),
    "MLflow": mlflow,
    "MLflow a level below": lambda place: mlflow(place / "model"),
}


@pytest.mark.parametrize("leave", GOOD.values(), ids=GOOD)
def test_model_is_read(leave: Any, tmp_path: Path) -> None:
    leave(tmp_path)
    assert read_model(tmp_path).predict([[0.0], [3.0]]).tolist() == [0, 1]


BAD: dict[str, tuple[Any, str, str]] = {
    "nothing": (lambda place: None, "ModelMissing", "left nothing in $KAIZEN_MODEL_DIR"),
    "something else": (lambda place: (place / "notes.txt").touch(), "ModelMissing", "left only notes.txt"),
    "a pickle": (lambda place: (place / "m.pkl").write_bytes(pickle.dumps(fitted())), "ModelIsPickle", "m.pkl is a pickle"),
    "MLflow's pickle": (lambda place: mlflow(place, serialization_format="cloudpickle"), "ModelIsPickle", "by cloudpickle"),
    "MLflow's old pickle": (lambda place: mlflow(place, serialization_format=None), "ModelIsPickle", "by pickle"),
    "another flavour": (
        lambda place: flavours(place, pytorch={}),
        "FlavourNotSupported",
        "has the flavours pytorch and not sklearn",
    ),
    "no flavours": (lambda place: (place / "MLmodel").write_text("[]"), "FlavourNotSupported", "has the flavours none"),
    "no YAML": (lambda place: (place / "MLmodel").write_text("a: [b"), "ModelUnreadable", "MLmodel cannot be read"),
    "a file elsewhere": (lambda place: mlflow(place, pickled_model="../../etc/passwd"), "ModelMissing", "not beside it"),
    "two": (
        lambda place: [skops.io.dump(fitted(), place / f"{name}.skops") for name in "ab"],
        "ModelAmbiguous",
        "several models, a.skops, b.skops",
    ),
    "ONNX": (lambda place: (place / "net.onnx").touch(), "OnnxNotSupported", "net.onnx is an ONNX graph"),
    "broken": (lambda place: (place / "m.skops").write_bytes(b"PK"), "ModelUnreadable", "m.skops cannot be read by skops"),
    "a stranger's type": (lambda place: skops.io.dump(Stranger(), place / "m.skops"), "ModelNotTrusted", "Stranger"),
    "no estimator": (
        lambda place: skops.io.dump([1, 2], place / "m.skops"),
        "ModelUnusable",
        "holds a list, which cannot predict",
    ),
    "not fitted": (
        lambda place: skops.io.dump(LogisticRegression(), place / "m.skops"),
        "ModelNotFitted",
        "LogisticRegression that is not fitted",
    ),
}


@pytest.mark.parametrize(("leave", "code", "words"), BAD.values(), ids=BAD)
def test_what_is_no_model_is_named(leave: Any, code: str, words: str, tmp_path: Path) -> None:
    leave(tmp_path)
    with pytest.raises(Failure) as failed:
        read_model(tmp_path)
    assert (failed.value.step, failed.value.code, failed.value.retry) == ("Train", code, False)
    assert words in failed.value.message
    assert "\n" not in failed.value.message


NUMBERS = ["wind", "distance"]


def learned(tmp_path: Path, model: Any, columns: list[str], *, named: bool = True) -> tuple[Any, Parts]:
    _, _, parts = prepared(tmp_path)
    table = parts.train.frame[columns].fillna(0.0)
    return model.fit(table if named else table.to_numpy(), parts.train.target), parts


@pytest.mark.parametrize("columns", [NUMBERS, ["distance"]])
def test_model_is_given_the_columns_that_it_learned_from(columns: list[str], tmp_path: Path) -> None:
    model, parts = learned(tmp_path, HistGradientBoostingClassifier(max_iter=5), columns)
    pipeline = as_pipeline(model, parts.train, "Classification")
    assert (pipeline.predict_proba(parts.test.frame) == model.predict_proba(parts.test.frame[columns])).all()
    assert pipeline.classes_.tolist() == [False, True]
    skops.io.dump(pipeline, tmp_path / "again.skops")
    assert (read_model(tmp_path).predict(parts.test.frame) == pipeline.predict(parts.test.frame)).all()


def test_pipeline_of_all_columns_is_left_as_it_is(tmp_path: Path) -> None:
    _, _, parts = prepared(tmp_path)
    columns = ColumnTransformer([("numbers", "passthrough", NUMBERS)])
    model = Pipeline([("columns", columns), ("model", HistGradientBoostingClassifier(max_iter=5))])
    model.fit(parts.train.frame, parts.train.target)
    assert as_pipeline(model, parts.train, "Classification") is model


UNFIT: dict[str, tuple[Any, str, str]] = {
    "a column that is none": (
        lambda parts: DummyClassifier().fit(pd.DataFrame({"wnd": [1.0, 2.0]}), [False, True]),
        "ModelColumns",
        "fitted on wnd, which is no feature: did you mean wind?",
    ),
    "too few columns without names": (
        lambda parts: LogisticRegression().fit([[0.0], [1.0]], [False, True]),
        "ModelColumns",
        "fitted on 1 columns without names, and there are 4 features",
    ),
    "other classes": (
        lambda parts: LogisticRegression().fit(parts.train.frame[["distance"]], ["no", "yes"] * 160),
        "ModelClasses",
        "knows the class 'no', and the target has False, True",
    ),
    "numbers for truths": (
        lambda parts: LogisticRegression().fit(parts.train.frame[["distance"]], [0, 1] * 160), "ModelClasses", "the class 0"
    ),
    "a regressor": (
        lambda parts: LinearRegression().fit(parts.train.frame[["distance"]], parts.train.target),
        "ModelUnusable",
        "LinearRegression gives no probabilities",
    ),
    "gaps that it cannot take": (
        lambda parts: LogisticRegression().fit(parts.train.frame[["wind"]].fillna(0.0), parts.train.target),
        "ModelCannotPredict",
        "Input X contains NaN",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "code", "words"), UNFIT.values(), ids=UNFIT)
def test_model_that_does_not_fit_the_data_is_named(make: Any, code: str, words: str, tmp_path: Path) -> None:
    _, _, parts = prepared(tmp_path)
    with pytest.raises(Failure) as failed:
        as_pipeline(make(parts), parts.train, "Classification")
    assert failed.value.code == code
    assert words in failed.value.message


def test_metrics_that_are_none_lose_no_model(tmp_path: Path) -> None:
    lines = [
        b'{"step": 1, "name": "loss", "value": 0.5}', b"", b"loss 0.4", b'{"step": 2, "name": "loss", "value": NaN}', b"\xff",
        b'{"step": 2, "name": "loss", "value": true}', b'{"name": "loss", "value": 3}', b"[" * 100_000, b'{"step": "2"}',
    ]  # fmt: skip
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join(lines))
    assert read_metrics(path) == Points((Point(1, "loss", 0.5), Point(0, "loss", 3.0)), skipped=6)
    assert read_metrics(tmp_path / "none") == Points()


KNOWN = [
    {"version": 9, "digest": "sha256:9", "dataDigest": "sha256:other", "codeDigest": "sha256:c"},
    {"version": 7, "digest": "sha256:7", "dataDigest": "sha256:d", "codeDigest": "sha256:c"},
    {"version": 5, "digest": "sha256:5", "dataDigest": "sha256:d", "codeDigest": "sha256:c"},
]
SAME = {
    "the newest of the same data": (json.dumps(KNOWN), "sha256:d", "sha256:c", {"version": 7, "digest": "sha256:7"}),
    "code that the recipe pins": (json.dumps(KNOWN), "sha256:d", None, {"version": 7, "digest": "sha256:7"}),
    "other code": (json.dumps(KNOWN), "sha256:d", "sha256:x", None),
    "other data": (json.dumps(KNOWN), "sha256:x", "sha256:c", None),
    "nothing known": ("[]", "sha256:d", "sha256:c", None),
    "no list": ("{", "sha256:d", "sha256:c", None),
}


@pytest.mark.parametrize(("known", "data", "code", "expected"), SAME.values(), ids=SAME)
def test_the_same_again_is_found(known: str, data: str, code: str | None, expected: Any) -> None:
    assert already_trained({"KAIZEN_KNOWN": known}, data, code) == expected
    assert already_trained({}, data, code) is None


def data_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: training.MemoryBucket, **more: str) -> int:
    path = training.write(training.table(), tmp_path / "lake" / "rows.parquet")
    monkeypatch.setattr(container, "bucket_from_environment", lambda environment: bucket)
    # Files stand for a bucket here, which the schema of a cluster's specs does not know.
    monkeypatch.setattr("kaizen.training.spec.TrainingJobSpec", LocalSpec)
    document = training.document(path, container={"image": "mine"})
    del document["estimator"]
    told = {"SPEC": json.dumps(document), "NAMESPACE": "team-a", "JOB_UID": "j", "POD_UID": "p", **more}
    places = {"DATA_DIR": str(tmp_path / "data"), "PREPARED_DIR": str(tmp_path / "prepared")}
    log = {"KAIZEN_TERMINATION_LOG": str(tmp_path / "log")}
    return container.main({**log, **{f"KAIZEN_{name}": value for name, value in {**told, **places}.items()}})


def test_data_step_leaves_all_that_the_next_ones_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = training.MemoryBucket()
    assert data_step(tmp_path, monkeypatch, bucket) == 0
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"train.parquet", "test.parquet", "schema.json"}
    table, begun = container.load_table(tmp_path / "prepared")
    assert table.rows.num_rows == 400
    progress = json.loads(bucket.objects["workloads/team-a/runs/j/p/progress.json"])
    assert (progress["step"], progress["startTime"]) == ("Train", begun)
    assert progress["data"]["digest"] == table.digest


def test_data_step_ends_a_run_that_would_only_repeat_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_step(tmp_path, monkeypatch, training.MemoryBucket()) == 0
    digest = container.load_table(tmp_path / "prepared")[0].digest
    bucket, known = training.MemoryBucket(), json.dumps([{"version": 7, "digest": "sha256:7", "dataDigest": digest}])
    assert data_step(tmp_path, monkeypatch, bucket, KNOWN=known) == 10
    outcome = json.loads(bucket.objects["workloads/team-a/runs/j/run.json"])
    assert outcome["alreadyTrained"] == {"version": 7, "digest": "sha256:7"}
    assert data_step(tmp_path, monkeypatch, bucket) == 10


def test_only_rank_0_speaks_for_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = training.MemoryBucket()
    assert data_step(tmp_path, monkeypatch, bucket, RANK="1") == 0
    assert bucket.objects == {}


def test_data_step_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = training.document(tmp_path / "nowhere.parquet", container={"image": "mine"})
    del document["estimator"]
    assert data_step(tmp_path, monkeypatch, training.MemoryBucket(), SPEC=json.dumps(document)) == 10
    assert json.loads((tmp_path / "log").read_text())["code"] == "DataMissing"
