"""A model directory is opened only when every byte is what its manifest says, and when it answers its own examples."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kaizen.registry.manifest import Manifest
from kaizen.serving.model import Refused, fetch, open_model, verify
from tests.support.directory_bucket import DirectoryBucket
from tests.support.models import ESTIMATORS, MadeModel, flights, make_model, seal, tamper


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeModel:
    return make_model(tmp_path_factory.mktemp("models") / "model", "boosting")


@pytest.fixture
def directory(made: MadeModel, tmp_path: Path) -> Path:
    return shutil.copytree(made.directory, tmp_path / "copy")


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_answers_are_scikit_learns(estimator: str, tmp_path: Path) -> None:
    made = make_model(tmp_path / "model", estimator)
    model = open_model(made.directory, version=7, digest=made.digest)
    assert (model.name, model.version, model.digest, model.kind) == ("flight-delay", 7, made.digest, "compiled")
    frame = flights(200, seed=11)
    frame.loc[::9, "carrier"] = "ZZ"
    parsed = model.schema.parse(made.request(frame))
    answer = model.engine.predict(model.engine.columns(parsed.columns), parsed.rows)
    labels, probabilities = made.expected(frame)
    assert answer.labels == pytest.approx(labels, rel=1e-12)
    assert answer.scores == (None if probabilities is None else pytest.approx(probabilities, abs=1e-12))
    assert model.schema.parse(model.example).rows == 1


def test_the_reference_comes_without_its_days(made: MadeModel) -> None:
    found = open_model(made.directory).reference
    assert found is not None
    assert {feature.bins.name for feature in found.features} == {"carrier", "distance", "temp", "hour"}
    assert all(feature.block_counts is None for feature in found.features)


def rewritten(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        path = directory / name
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
        seal(directory)

    return damage


def missing(directory: Path) -> None:
    (directory / "trees-0.treelite").unlink()


def longer(directory: Path) -> None:
    with (directory / "engine.json").open("a") as file:
        file.write(" ")


def link(directory: Path) -> None:
    (directory / "README.md").rename(directory.parent / "elsewhere")
    (directory / "README.md").symlink_to(directory.parent / "elsewhere")


def other_labels(document: dict[str, Any]) -> dict[str, Any]:
    return document | {"predict": [not label for label in document["predict"]]}


def other_probability(document: dict[str, Any]) -> dict[str, Any]:
    document["probabilities"][3][1] += 1e-8
    return document


DAMAGED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    # what: (how, code, what the sentence says)
    "no manifest": (
        lambda path: (path / "manifest.json").unlink(),
        "ModelMissing",
        "is no model directory: it has no manifest.json",
    ),
    "nothing at all": (shutil.rmtree, "ModelMissing", "does not exist; give a directory that `kaizen train` has written"),
    "a manifest of nothing": (lambda path: (path / "manifest.json").write_text("{}"), "InvalidManifest", "is not of format 1"),
    "one bit": (lambda path: tamper(path / "trees-0.treelite"), "DigestMismatch", "trees-0.treelite of"),
    "one bit of the card": (lambda path: tamper(path / "README.md"), "DigestMismatch", "but its manifest says"),
    "a byte more": (longer, "DigestMismatch", "bytes, but its manifest says"),
    "a file less": (missing, "DigestMismatch", "is missing, but its manifest names it"),
    "a file more": (lambda path: (path / "x").write_text("x"), "DigestMismatch", "is not in the manifest; remove it"),
    "a link": (link, "DigestMismatch", "is not in the manifest; remove it"),
    "another engine": (
        rewritten("engine.json", lambda one: one | {"kind": "magic"}),
        "EngineUnusable",
        "cannot be loaded: engine.json",
    ),
    "an engine of nothing": (rewritten("engine.json", lambda one: []), "EngineUnusable", "cannot be loaded"),
    "another reference": (
        rewritten("reference.json", lambda one: one | {"format": 2}),
        "EngineUnusable",
        "reference.json has format 2",
    ),
    "other examples": (
        rewritten("examples.json", lambda one: one | {"format": 2}),
        "EngineUnusable",
        "examples.json has format 2",
    ),
    "other labels": (rewritten("examples.json", other_labels), "ExamplesDiffer", "predict of examples 0 to 15: value 0 is"),
    "another probability": (
        rewritten("examples.json", other_probability),
        "ExamplesDiffer",
        "predict_proba of examples 0 to 15: value 7",
    ),
    "examples that do not fit": (
        rewritten("examples.json", lambda one: one | {"columns": one["columns"] | {"hour": ["x"] * 16}}),
        "ExamplesDiffer",
        'it refuses its own example: input "hour": row 0',
    ),
}


@pytest.mark.parametrize(("damage", "code", "says"), DAMAGED.values(), ids=DAMAGED)
def test_refused(directory: Path, damage: Callable[[Path], object], code: str, says: str) -> None:
    damage(directory)
    with pytest.raises(Refused) as refused:
        open_model(directory)
    assert refused.value.code == code
    assert says in str(refused.value)


def test_another_digest_than_asked_for(made: MadeModel) -> None:
    with pytest.raises(Refused, match=r"has the digest sha256:.*, but sha256:00 was asked for") as refused:
        open_model(made.directory, digest="sha256:00")
    assert refused.value.code == "DigestMismatch"


def fetched(directory: Path, to: Path, prefix: str = "copy/", digest: str = "") -> Manifest:
    to.mkdir()
    bucket: Any = DirectoryBucket(directory.parent)
    return fetch(bucket, prefix, to, digest)


def test_a_fetched_model_is_the_same(made: MadeModel, directory: Path, tmp_path: Path) -> None:
    manifest = fetched(directory, tmp_path / "to", digest=made.digest)
    assert open_model(tmp_path / "to", manifest=manifest).digest == made.digest
    assert verify(tmp_path / "to", made.digest) == manifest


def test_a_fetched_model_is_verified(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="there is no model at s3://kaizen/other/: ") as refused:
        fetched(directory, tmp_path / "1", "other/")
    assert refused.value.code == "ModelMissing"
    with pytest.raises(Refused, match="but sha256:00 was asked for"):
        fetched(directory, tmp_path / "2", digest="sha256:00")
    tamper(directory / "trees-0.treelite")
    with pytest.raises(Refused, match=r"trees-0.treelite of s3://kaizen/copy/ has the sha256") as refused:
        fetched(directory, tmp_path / "3")
    assert refused.value.code == "DigestMismatch"
    missing(directory)
    with pytest.raises(Refused, match=r"trees-0.treelite of s3://kaizen/copy/ is missing"):
        fetched(directory, tmp_path / "4")
