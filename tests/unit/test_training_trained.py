"""What a user's own code may leave: which models are read, which are refused by which sentence, and metrics of any shape."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from kaizen.training.access import Access
from kaizen.training.data.ingest import ingest
from kaizen.training.data.prepare import prepare
from kaizen.training.data.split import Parts, split
from kaizen.training.errors import Failure
from kaizen.training.trained import Point, Points, as_pipeline, read_metrics, read_model
from tests.support import training


def fitted() -> LogisticRegression:
    return LogisticRegression().fit(np.array([[0.0], [1.0], [2.0], [3.0]]), [0, 0, 1, 1])


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Rows of a small table, split."""
    place = tmp_path_factory.mktemp("lake")
    spec = training.spec(training.write(training.table(), place / "rows.parquet"))
    return split(prepare(ingest(spec.data, Access(None), place).rows, spec), spec.data)


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
        "has the flavours pytorch, and neither sklearn nor onnx",
    ),
    "no flavours": (lambda place: (place / "MLmodel").write_text("[]"), "FlavourNotSupported", "has the flavours none"),
    "no YAML": (lambda place: (place / "MLmodel").write_text("a: [b"), "ModelUnreadable", "MLmodel cannot be read"),
    "a file elsewhere": (lambda place: mlflow(place, pickled_model="../../etc/passwd"), "ModelMissing", "not beside it"),
    "two": (
        lambda place: [skops.io.dump(fitted(), place / f"{name}.skops") for name in "ab"],
        "ModelAmbiguous",
        "several models, a.skops, b.skops",
    ),
    "two of two kinds": (
        lambda place: [skops.io.dump(fitted(), place / "a.skops"), (place / "b.onnx").touch()],
        "ModelAmbiguous",
        "several models, a.skops, b.onnx",
    ),
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


@pytest.mark.parametrize("columns", [NUMBERS, ["distance"]])
def test_model_is_given_the_columns_that_it_learned_from(columns: list[str], parts: Parts, tmp_path: Path) -> None:
    model = HistGradientBoostingClassifier(max_iter=5).fit(parts.train.frame[columns], parts.train.target)
    pipeline = as_pipeline(model, parts.train, "Classification")
    assert (pipeline.predict_proba(parts.test.frame) == model.predict_proba(parts.test.frame[columns])).all()
    assert pipeline.classes_.tolist() == [False, True]
    skops.io.dump(pipeline, tmp_path / "again.skops")
    assert (read_model(tmp_path).predict(parts.test.frame) == pipeline.predict(parts.test.frame)).all()


def test_pipeline_of_all_columns_is_left_as_it_is(parts: Parts) -> None:
    columns = ColumnTransformer([("numbers", "passthrough", NUMBERS)])
    model = Pipeline([("columns", columns), ("model", HistGradientBoostingClassifier(max_iter=5))])
    model.fit(parts.train.frame, parts.train.target)
    assert as_pipeline(model, parts.train, "Classification") is model


UNFIT: dict[str, tuple[Any, str, str]] = {
    "a column that is none": (
        lambda parts: DummyClassifier().fit(pd.DataFrame({"wnd": [1.0, 2.0]}), [False, True]),
        "ModelColumns",
        "fitted on wnd, which is no feature: did you mean wind",
    ),
    "too few columns without names": (
        lambda parts: LogisticRegression().fit([[0.0], [1.0]], [False, True]),
        "ModelColumns",
        "fitted on 1 nameless columns, and there are 4 features",
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
def test_model_that_does_not_fit_the_data_is_named(make: Any, code: str, words: str, parts: Parts) -> None:
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
