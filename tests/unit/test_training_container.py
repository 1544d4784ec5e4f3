"""Code of a user's own: what it is given, what it may leave, and what outlives its Pod.  A plain script stands for the image."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from kaizen.training import access, container
from kaizen.training.data.ingest import ingest
from kaizen.training.data.prepare import prepare
from kaizen.training.data.split import Parts, split
from kaizen.training.errors import Failure
from kaizen.training.known import already_trained
from kaizen.training.spec import LocalSpec
from kaizen.training.trained import Point, read_metrics, read_model
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
    found, begun = container.load_table(tmp_path / "kept"), container.table_begun(tmp_path / "kept")
    assert begun == "2026-03-01T12:00:00Z"
    assert found.digest == table.digest
    assert found.sources == table.sources
    assert found.rows.equals(table.rows, check_metadata=True)


def test_table_that_is_not_there_is_worth_another_try(tmp_path: Path) -> None:
    with pytest.raises(Failure) as failed:
        container.load_table(tmp_path)
    assert (failed.value.code, failed.value.retry) == ("PreparedDataMissing", True)


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
    table, begun = container.load_table(tmp_path / "prepared"), container.table_begun(tmp_path / "prepared")
    assert table.rows.num_rows == 400
    progress = json.loads(bucket.objects["workloads/team-a/runs/j/p/progress.json"])
    assert (progress["step"], progress["startTime"]) == ("Train", begun)
    assert progress["data"]["digest"] == table.digest


def test_data_step_ends_a_run_that_would_only_repeat_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_step(tmp_path, monkeypatch, training.MemoryBucket()) == 0
    digest = container.load_table(tmp_path / "prepared").digest
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
