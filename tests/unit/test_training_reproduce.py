"""A version made again: equal to the digit from the same rows, and otherwise a sentence that names what differs first."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kaizen.registry import layout
from kaizen.training import reproduce
from kaizen.training.access import Access
from kaizen.training.cli import add_commands
from kaizen.training.data.dataset import write_dataset
from kaizen.training.errors import Failure
from kaizen.training.job import Result, Surroundings, run
from kaizen.training.reproduce import Recorded, compare, of_directory, recipe_of
from tests.support import training


class Quiet(training.Silent):
    """Hears everything and remembers the steps."""

    def data(self, summary: Any) -> None:
        """Nothing."""

    def search(self, progress: Any) -> None:
        """Nothing."""


def kaizen(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    parsed = parser.parse_args([str(argument) for argument in arguments])
    return int(parsed.run(parsed))


def trained(home: Path, **changes: Any) -> Result:
    home.mkdir(exist_ok=True)
    training.write(training.table(800), home / "data" / "rows.parquet")
    return run(training.spec(home / "data", **changes), Surroundings(Access(None), Quiet()), home / "model")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory `model`, made of `data`."""
    home = tmp_path_factory.mktemp("reproduce")
    trained(home)
    return home


SPECS: dict[str, dict[str, Any]] = {
    "linear, calibrated, decided": {
        "estimator": {"name": "LogisticRegression"},
        "decision": {"maximise": "f1"},
        "data": {"timestamp": None, "features": {"exclude": ["delay", "time"]}},
    },
    "forest of a regression": {
        "task": "Regression",
        "estimator": {"name": "RandomForestRegressor", "parameters": {"n_estimators": 5}},
        "data": {"target": "delay", "features": {"exclude": ["late"]}},
    },
    "searched and stopped early": {
        "estimator": {"name": "LGBMClassifier", "parameters": {"n_estimators": 40, "early_stopping_rounds": 2}},
        "search": {
            "trials": 2,
            "sampler": "Random",
            "space": [{"parameter": "learning_rate", "type": "Float", "low": 0.1, "high": 1.0}],
        },
        "refit": "None",
    },
}


@pytest.mark.parametrize("changes", SPECS.values(), ids=SPECS)
def test_the_same_rows_make_the_same_model(tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any]) -> None:
    result = trained(tmp_path, **changes, explain={"method": "None"})
    assert kaizen("reproduce", result.directory) == 0
    assert capsys.readouterr().out == (
        f"kaizen: equal: the model made again has the same digest {result.manifest['modelDigest']}\n"
    )


def test_a_stack_is_made_of_its_members_again() -> None:
    """With what Kaizen itself sets among the recorded parameters."""
    from kaizen.api.training_job import Estimator
    from kaizen.training.models.estimators import choose
    from kaizen.training.search.stacking import StackedChoice

    spec = training.spec("x", estimator={"name": "Auto"})
    members = tuple(choose(Estimator(name=name), "Classification") for name in ("LGBMClassifier", "LogisticRegression"))
    choice = StackedChoice(members, (0.25, 0.75), "Classification")
    parameters = json.loads(json.dumps(choice.parameters))
    manifest = {"estimator": {"name": choice.name, "parameters": parameters}, "parameters": parameters}
    assert reproduce.chosen(manifest, spec, Access(None), Path()) == choice


def test_files_that_changed_are_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training.write(training.table(800, seed=1), home / "other" / "rows.parquet")
    assert kaizen("reproduce", home / "model", "--data", home / "other") == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        f"kaizen: DataChanged: the data are not those that {home}/model was trained on: their digest is sha256:"
    )


def test_the_same_rows_elsewhere_are_the_same(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(home / "data", home / "moved")
    assert kaizen("reproduce", home / "model", "--data", f"{home}/moved/*.parquet") == 0


SNAPSHOTS: dict[str, tuple[dict[str, str], str | None]] = {
    "the same": ({"a": "1", "b": "2"}, None),
    "moved": ({"c": "1", "d": "2"}, None),
    "changed": ({"a": "1", "b": "3"}, "b has changed"),
    "gone": ({"a": "1"}, "b is gone"),
    "new": ({"a": "1", "b": "2", "c": "3"}, "c is new"),
}


@pytest.mark.parametrize(("now", "expected"), SNAPSHOTS.values(), ids=SNAPSHOTS)
def test_which_file_changed(now: dict[str, str], expected: str | None) -> None:
    from kaizen.training.data.ingest import Table
    from kaizen.training.data.sources import SourceFile, SourceFiles

    snapshot = {"sources": [{"name": "rows", "files": [{"name": "a", "sha256": "1"}, {"name": "b", "sha256": "2"}]}]}
    files = tuple(SourceFile(name, Path(name), sha256, 1) for name, sha256 in now.items())
    table = Table(training.table(1), "", (SourceFiles("rows", "Parquet", files),))
    assert reproduce._changed_file(snapshot, table) == expected
    assert reproduce._changed_file(None, table) is None


def test_a_version_of_the_registry(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its snapshot: the changed file is named; with a copy of the rows the files are not needed any more."""
    from kaizen.training.data.croissant import About
    from kaizen.training.data.ingest import ingest
    from kaizen.training.data.statistics import summarise

    bucket = training.MemoryBucket()
    monkeypatch.setattr("kaizen.training.access.bucket_from_environment", lambda environment: bucket)
    (tmp_path / "lake").mkdir()
    path = Path(shutil.copy(home / "data" / "rows.parquet", tmp_path / "lake" / "rows.parquet"))
    manifest = json.loads((home / "model" / "manifest.json").read_bytes())
    manifest["recipe"]["data"]["sources"][0]["uri"] = str(tmp_path / "lake")
    bucket.put(layout.manifest("flights", "flight-delay", 3), json.dumps(manifest).encode())
    kept = layout.dataset("flights", manifest["dataDigest"])

    def keep(snapshot: str) -> None:
        spec = training.spec(tmp_path / "lake", data={"snapshot": snapshot})
        table = ingest(spec.data, Access(None), tmp_path)
        (tmp_path / snapshot).mkdir()
        for name in write_dataset(
            tmp_path / snapshot, table, summarise(table.rows), spec.data, About("flight-delay", "", "", "")
        ):
            bucket.put(f"{kept}{name}", (tmp_path / snapshot / name).read_bytes())

    keep("References")
    arguments = ("reproduce", "flight-delay", 3, "--namespace", "flights")
    assert kaizen(*arguments) == 0
    keep("Copy")
    training.write(training.table(800, seed=1), path)
    assert kaizen(*arguments) == 0
    bucket.objects[f"{kept}rows.parquet"] += b" "
    assert kaizen(*arguments) == 1
    assert "rows.parquet in the bucket does not have the digest" in capsys.readouterr().err
    del bucket.objects[f"{kept}rows.parquet"]
    assert kaizen(*arguments) == 1
    message = f"DataChanged: the data are not those that version 3 of flight-delay was trained on: {path} has changed"
    assert message in capsys.readouterr().err
    assert kaizen("reproduce", "flight-delay", 4, "--namespace", "flights") == 1
    assert "there is no registry/flights/flight-delay/versions/4/manifest.json" in capsys.readouterr().err


RECORD = {
    "modelDigest": "sha256:1",
    "codeDigest": "sha256:c",
    "versions": {"python": "3.13.1", "numpy": "2.4.6"},
    "estimator": {"name": "Ridge", "parameters": {"alpha": 1.0}},
    "decision": {"threshold": 0.5},
    "engine": "compiled",
}
DIFFERENCES: dict[str, tuple[dict[str, Any], str]] = {
    "equal": ({"modelDigest": "sha256:1", "versions": {}}, "equal: the model made again has the same digest sha256:1"),
    "version": (
        {"versions": {"python": "3.13.1", "numpy": "2.5.0"}, "codeDigest": "sha256:d"},
        "different: this is numpy 2.5.0 instead of 2.4.6: run it in the image that the version was trained in",
    ),
    "code": ({"codeDigest": "sha256:d"}, "different: the code is another (codeDigest sha256:d instead of sha256:c)"),
    "parameters": (
        {"estimator": {"name": "Ridge", "parameters": {"alpha": 2.0}}},
        "different: parameter alpha is 2.0 instead of 1.0",
    ),
    "threshold": ({"decision": None}, "different: the threshold is another (None instead of {'threshold': 0.5})"),
    "engine": ({"engine": "sklearn"}, "different: it runs in the sklearn engine instead of compiled"),
    "numbers": (
        {},
        "different: data, versions and parameters are the same, and the fitted numbers differ (modelDigest sha256:2 instead of"
        " sha256:1): another CPU may compute other last digits",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_what_differs_first_is_said(changes: dict[str, Any], sentence: str) -> None:
    found = compare(RECORD, {**RECORD, "modelDigest": "sha256:2", **changes})
    assert (found.equal, found.sentence) == (sentence.startswith("equal"), sentence)


def test_a_model_of_other_numbers_is_different(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((home / "model" / "manifest.json").read_bytes())
    changed = {**manifest, "parameters": {**manifest["parameters"], "max_iter": 3}, "codeDigest": None}
    found = reproduce.reproduce(Recorded("a model", changed), Access(None), Quiet())
    assert not found.equal
    assert found.sentence == "different: parameter max_iter is 3 instead of 20"


WITHOUT: dict[str, tuple[dict[str, Any], str]] = {
    "no recipe": ({}, "the model's manifest has no recipe"),
    "a container": ({"recipe": {"container": {"image": "torch:1"}}}, "the model was made by the container torch:1"),
}


@pytest.mark.parametrize(("manifest", "sentence"), WITHOUT.values(), ids=WITHOUT)
def test_what_cannot_be_made_again(manifest: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Failure, match=sentence) as refused:
        recipe_of(manifest)
    assert refused.value.code == "NotReproducible"


def test_a_directory_that_is_no_model(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kaizen("reproduce", tmp_path) == 1
    assert f"{tmp_path} is no model directory: write MODEL VERSION" in capsys.readouterr().err
    shutil.copytree(home / "model", tmp_path / "model")
    (tmp_path / "model" / "engine.json").write_text("{}")
    with pytest.raises(ValueError, match=r"engine\.json does not have the digest"):
        of_directory(tmp_path / "model")


def test_several_sources_are_not_one(home: Path) -> None:
    recipe = {"data": {"sources": [{"name": "a"}, {"name": "b"}]}}
    with pytest.raises(Failure, match="the recipe has a, b"):
        reproduce.reproduce(Recorded("a model", {"recipe": recipe}), Access(None), Quiet(), data="x")
