"""A whole run: the model directory, its digests, the command, and the Pod."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml

from hack.paths import REPOSITORY
from kaizen.api.metrics import CLASSIFICATION_METRICS
from kaizen.monitoring import reference
from kaizen.registry import layout, manifest
from kaizen.registry.errors import Unreachable
from kaizen.serving.engine import runtime
from kaizen.training import access, pod
from kaizen.training.cli import add_commands
from kaizen.training.errors import DO_NOT_RETRY
from kaizen.training.package import verify
from kaizen.training.progress import STEPS, BucketProgress, LineProgress, TerminalProgress
from tests.support import training

GATE = {"name": "no-worse", "metric": "log_loss", "againstProduction": {"worseByAtMost": 0.05}}


def kaizen(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    parsed = parser.parse_args([str(argument) for argument in arguments])
    return int(parsed.run(parsed))


def write_job(path: Path, uri: str, **changes: Any) -> Path:
    spec = training.document(uri, **changes)
    job = {"apiVersion": "mlops.kaizen.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "job"}, "spec": spec}
    path.write_text(yaml.safe_dump(job))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory that `kaizen train` wrote, from two files beside the job."""
    home = tmp_path_factory.mktemp("train")
    data = training.table(800)
    training.write(data.slice(0, 300), home / "data" / "a.parquet")
    training.write(data.slice(300), home / "data" / "b.parquet")
    job = write_job(home / "job.yaml", "data/*.parquet", gates=[GATE])
    assert kaizen("train", "-f", job, "-o", home / "model") == 0
    return home / "model"


def test_the_model_directory(trained: Path) -> None:
    document = json.loads((trained / "manifest.json").read_bytes())
    assert verify(trained) == manifest.sha256((trained / "manifest.json").read_bytes())
    assert {path.name for path in trained.iterdir()} == {file["path"] for file in document["files"]} | {"manifest.json"}
    assert {"MLmodel", "requirements.txt", "model.skops", "engine.json", "reference.json", "examples.json", "README.md"} <= {
        file["path"] for file in document["files"]
    }
    assert (document["engine"], document["engineReason"]) == ("compiled", "")
    assert document["trainedUntil"] == "2013-02-03T07:00:00Z"
    assert document["refit"]["done"] is True
    assert document["split"]["trainRows"] == 640
    assert {metric["name"] for metric in document["metrics"] if metric["dataset"] == "test"} == {
        *CLASSIFICATION_METRICS
    }  # fmt: skip
    assert document["gates"][0]["outcome"] == "Skipped"
    assert document["gates"][0]["passed"] is None
    card = (trained / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "tabular-classification"
    assert "The figures are those of the model before the refit." in card


def test_the_reference_is_of_final_features_and_held_out_predictions(trained: Path) -> None:
    found = reference.from_json(json.loads((trained / "reference.json").read_bytes()))
    assert (found.rows, found.trained_until) == (800, "2013-02-03T07:00:00Z")
    assert [feature.bins.name for feature in found.features] == ["distance", "wind", "carrier", "weekend"]
    assert all(feature.counts.sum() == 800 for feature in found.features)
    assert found.prediction.counts.sum() == 160


def test_the_examples_are_answered_by_the_engine(trained: Path) -> None:
    examples = json.loads((trained / "examples.json").read_bytes())
    engine = runtime.load(trained)
    answer = engine.predict(engine.columns(examples["columns"]), examples["rows"])
    assert answer.labels == examples["predict"]
    assert np.allclose(answer.probabilities, examples["probabilities"], rtol=1e-12, atol=0)  # type: ignore[arg-type]
    assert engine.keys == ("flight",)
    assert engine.timestamp == "time"


@pytest.mark.filterwarnings("ignore")  # MLflow's own imports warn
def test_mlflow_opens_it(trained: Path) -> None:
    """By MLmodel's own words without MLflow, and with MLflow where it is installed."""
    flavor = yaml.safe_load((trained / "MLmodel").read_text())["flavors"]["sklearn"]
    for name in flavor["skops_trusted_types"]:
        assert name.split(".")[0] in ("sklearn", "numpy", "functools")
    model = skops.io.load(trained / flavor["pickled_model"], trusted=flavor["skops_trusted_types"])
    examples = json.loads((trained / "examples.json").read_bytes())
    frame = pd.DataFrame(examples["columns"])
    assert model.predict(frame).tolist() == examples["predict"]
    if importlib.util.find_spec("mlflow") is None:
        return
    import mlflow.pyfunc  # type: ignore[import-not-found,unused-ignore]
    import mlflow.sklearn  # type: ignore[import-not-found,unused-ignore]

    assert (mlflow.sklearn.load_model(str(trained)).predict_proba(frame) == examples["probabilities"]).all()
    assert mlflow.pyfunc.load_model(str(trained)).predict(frame).tolist() == examples["predict"]


def test_the_same_data_and_parameters_make_the_same_model(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However the rows lie in files; and the champion's own rows judge nobody."""
    shuffled = training.table(800).take(np.random.default_rng(3).permutation(800))
    training.write(shuffled, tmp_path / "data" / "all.parquet")
    job = write_job(tmp_path / "job.yaml", "data/", gates=[GATE])
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "manifest.json").write_text("an older model")
    assert kaizen("train", "-f", job, "-o", tmp_path / "model", "--champion", trained) == 0
    first, second = (json.loads((path / "manifest.json").read_bytes()) for path in (trained, tmp_path / "model"))
    assert first["modelDigest"] == second["modelDigest"]
    assert first["metrics"] == second["metrics"]
    assert first["dataDigest"] != second["dataDigest"]
    assert second["gates"][0]["outcome"] == "NotComparable"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    printed = capsys.readouterr()
    assert "Made flight-delay in " in printed.out
    assert "? no-worse: NotComparable, 0 test rows are new to" in printed.out
    assert printed.out.endswith(f"Try it:  kaizen serve {tmp_path}/model\n")
    steps = [line.split("] ")[1].split(":")[0] for line in printed.err.splitlines()]
    assert list(dict.fromkeys(steps)) == [step for step in STEPS if step not in ("Tuning", "Train")]


BAD: dict[str, tuple[str, str]] = {
    "no file": ("none.yaml", "kaizen: InvalidSpec: {home}/none.yaml cannot be read: No such file or directory\n"),
    "no data": ("job.yaml", "kaizen: DataMissing: there are no files at {home}/data/x.csv (source rows)\n"),
}


@pytest.mark.parametrize(("file", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence_and_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, sentence: str
) -> None:
    write_job(tmp_path / "job.yaml", "data/x.csv")
    assert kaizen("train", "-f", tmp_path / file, "-o", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.endswith(sentence.format(home=tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_directory_with_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    assert kaizen("train", "-f", write_job(tmp_path / "job.yaml", "x.csv"), "-o", tmp_path / "out") == 1
    assert "holds something else than a model: name another directory" in capsys.readouterr().err


def test_the_command_costs_no_library_until_it_runs() -> None:
    import subprocess

    program = (
        "import argparse, sys; from kaizen.training.cli import add_commands;"
        "add_commands(argparse.ArgumentParser().add_subparsers()); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(REPOSITORY / "operator")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"numpy", "pandas", "sklearn", "boto3", "pydantic"}.isdisjoint(done.stdout.split())


class Terminal:
    """A stream that remembers."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        """Remember it."""
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing."""


def test_progress_on_a_terminal_stays_on_one_line() -> None:
    terminal: Any = Terminal()
    shown = TerminalProgress(terminal, columns=40)
    shown.step("Fit", "a long story " * 10)
    shown.close()
    assert "\n" not in terminal.text
    assert all(len(part.removeprefix("\x1b[2K")) < 40 for part in terminal.text.split("\r"))
    plain: Any = Terminal()
    LineProgress(plain).step("Fit", "200 trees")
    assert plain.text.endswith("s] Fit: 200 trees\n")


def test_progress_in_the_bucket_survives_a_failed_write(capsys: pytest.CaptureFixture[str]) -> None:
    written: list[dict[str, Any]] = []

    def write(body: bytes) -> None:
        if not written:
            written.append({})
            raise Unreachable("the bucket is away")
        written.append(json.loads(body))

    progress = BucketProgress(write, every_seconds=0.01)
    progress.step("Fit")
    progress.metric("log_loss", 0.4, "test")
    progress.close("Done")
    assert written[-1]["step"] == "Done"
    assert written[-1]["done"] == written[-1]["total"]
    assert written[-1]["metrics"] == [{"name": "log_loss", "value": 0.4, "dataset": "test"}]
    assert "the bucket is away" in capsys.readouterr().err


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> training.MemoryBucket:
    """One bucket for the lake, the run and the registry."""
    made = training.MemoryBucket()
    monkeypatch.setattr(pod, "bucket_from_environment", lambda environment: made)
    monkeypatch.setattr(access.Access, "open", lambda self, source, name: made)
    return made


def environment(tmp_path: Path, spec: dict[str, Any], **more: str) -> dict[str, str]:
    return {
        "KAIZEN_SPEC": json.dumps(spec),
        "KAIZEN_NAMESPACE": "flights",
        "KAIZEN_JOB_UID": "job-1",
        "KAIZEN_POD_UID": "pod-1",
        "KAIZEN_TERMINATION_LOG": str(tmp_path / "log"),
        **more,
    }


def test_a_pod_leaves_a_run_and_a_second_one_leaves_it_alone(
    bucket: training.MemoryBucket, trained: Path, tmp_path: Path
) -> None:
    later = training.table(1200, seed=7, start=training.START + 40 * 86400)
    bucket.put("flights/all.parquet", training.write(later, tmp_path / "all.parquet").read_bytes())
    for path in trained.iterdir():
        bucket.put(f"{layout.version('flights', 'flight-delay', 3)}{path.name}", path.read_bytes())
    served = json.dumps({"version": 3, "digest": verify(trained)})
    spec = training.document("s3://lake/flights/", gates=[GATE])
    bucket.written.clear()
    assert pod.main(environment(tmp_path, spec, KAIZEN_CHAMPION=served)) == 0
    attempt = layout.attempt("flights", "job-1", "pod-1")
    outcome = json.loads(bucket.objects[layout.run_outcome("flights", "job-1")])
    body = bucket.objects[f"{attempt}model/manifest.json"]
    assert (outcome["pod"], outcome["model"], outcome["digest"]) == ("pod-1", f"{attempt}model/", manifest.sha256(body))
    listed = manifest.parse(body)
    for file in listed.files:
        assert len(bucket.objects[f"{attempt}model/{file.path}"]) == file.size
    order = [key for key in bucket.written if not key.endswith("progress.json")]
    assert order[-2:] == [f"{attempt}model/manifest.json", layout.run_outcome("flights", "job-1")]
    gate = listed.document["gates"][0]
    assert (gate["outcome"], gate["championDigest"]) == ("Passed", verify(trained))
    assert outcome["gatesPassed"] is True
    progress = json.loads(bucket.objects[f"{attempt}progress.json"])
    assert (progress["step"], progress["done"]) == ("Done", len(STEPS))
    assert len(bucket.objects[f"{attempt}metrics.jsonl"].splitlines()) == 2 * len(CLASSIFICATION_METRICS)
    assert not (tmp_path / "log").exists()
    before = dict(bucket.objects)
    assert pod.main({**environment(tmp_path, spec), "KAIZEN_POD_UID": "pod-2"}) == 0
    assert bucket.objects == before


def test_a_pod_says_why_it_failed(bucket: training.MemoryBucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = training.document("s3://lake/flights/", estimator={"name": "RandomForrestClassifier"})
    assert pod.main(environment(tmp_path, spec)) == DO_NOT_RETRY
    said = json.loads((tmp_path / "log").read_text())
    assert (said["step"], said["code"]) == ("Prepare", "InvalidEstimator")
    assert "did you mean RandomForestClassifier" in said["message"]
    assert layout.run_outcome("flights", "job-1") not in bucket.objects


def test_what_a_retry_may_mend_is_no_final_failure(
    bucket: training.MemoryBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(prefix: str) -> Any:
        raise Unreachable("bucket lake at http://lake cannot be reached: it did not answer in time")

    monkeypatch.setattr(bucket, "list", away)
    assert pod.main(environment(tmp_path, training.document("s3://lake/flights/"))) == 1
    assert json.loads((tmp_path / "log").read_text())["code"] == "DataUnreachable"


def test_a_champion_that_is_not_what_was_registered_is_refused(
    bucket: training.MemoryBucket, tmp_path: Path, trained: Path
) -> None:
    for path in trained.iterdir():
        bucket.put(f"{layout.version('flights', 'flight-delay', 3)}{path.name}", path.read_bytes())
    bucket.objects[f"{layout.version('flights', 'flight-delay', 3)}engine.json"] += b" "
    served = json.dumps({"version": 3, "digest": verify(trained)})
    assert pod.main(environment(tmp_path, training.document("s3://lake/x/"), KAIZEN_CHAMPION=served)) == DO_NOT_RETRY
    said = json.loads((tmp_path / "log").read_text())
    assert said["code"] == "ChampionUnusable"
    assert "engine.json does not have the digest" in said["message"]


def test_a_pod_without_its_environment(tmp_path: Path) -> None:
    assert pod.main({"KAIZEN_SPEC": "{}", "KAIZEN_TERMINATION_LOG": str(tmp_path / "log")}) == DO_NOT_RETRY
    said = json.loads((tmp_path / "log").read_text())
    assert said["message"] == "ValueError: The environment variable KAIZEN_NAMESPACE is not set; the TrainingJob's Pod has it."
