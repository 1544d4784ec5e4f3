"""`kaizen reproduce`: makes a version again from what its manifest recorded, and compares the models digit for digit.

The data are read anew and must be the same; the chosen parameters are taken as they were found, so that no search is repeated;
early stopping, calibration and threshold are found again, since they follow from the rows.
"""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen.registry import layout
from kaizen.training.errors import Failure

if TYPE_CHECKING:
    import argparse

    from kaizen.api.training_job import TrainingJobSpec
    from kaizen.registry.store import Bucket
    from kaizen.training.access import Access
    from kaizen.training.data.ingest import Table
    from kaizen.training.data.prepare import Rows
    from kaizen.training.learn import Learned
    from kaizen.training.models.estimators import Choice
    from kaizen.training.progress import Progress

__all__ = ["Comparison", "Recorded", "compare", "recipe_of", "reproduce", "reproduce_command"]

STEP = "Ingest"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Recorded:
    """What is known of the model that is made again."""

    name: str
    """In sentences: `version 3`, or a directory."""
    manifest: Mapping[str, Any]
    snapshot: Mapping[str, Any] | None = None
    """snapshot.json of its data (dataset.py), where it was kept."""
    rows: Path | None = None
    """rows.parquet of its data, where data.snapshot was Copy."""


@dataclass(frozen=True)
class Comparison:
    """Whether the models are equal, else what differs first."""

    equal: bool
    sentence: str


def recipe_of(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The spec that a model was trained by: key `recipe`, by alias and without defaults.  Raises Failure."""
    recipe = manifest.get("recipe")
    if not isinstance(recipe, Mapping):
        message = "the model's manifest has no recipe: it was imported, or made by a Kaizen that wrote none"
        raise Failure(STEP, "NotReproducible", message)
    if recipe.get("container"):
        image = recipe["container"].get("image")
        raise Failure(STEP, "NotReproducible", f"the model was made by the container {image}: only that can make it again")
    return recipe


def reproduce(recorded: Recorded, access: "Access", progress: "Progress", data: str | None = None) -> Comparison:
    """Make the model again and compare.

    Args:
        recorded: the model.
        access: how its sources are reached.
        progress: is told of every step.
        data: read this file, directory or glob instead of the only source's.

    Raises:
        Failure: DataChanged, NotReproducible, or what training itself may end with.
    """
    from kaizen.training.models.refit import refit
    from kaizen.training.spec import read_spec

    recipe = recipe_of(recorded.manifest)
    spec = read_spec(_with_data(recipe, data), local=True)
    with tempfile.TemporaryDirectory(prefix="kaizen-") as scratch:
        progress.step("Ingest", "the recorded rows" if recorded.rows else ", ".join(one.where for one in spec.data.sources))
        table = _table(recorded, spec, access, Path(scratch))
        choice = chosen(recorded.manifest, spec, access, Path(scratch))
        from kaizen.training.data.prepare import prepare
        from kaizen.training.data.split import split
        from kaizen.training.learn import learn

        rows = prepare(table.rows, spec)
        parts = split(rows, spec.data)
        progress.step("Fit", f"{choice.name}, {parts.describe()}")
        learned = learn(choice, parts.train, spec)
        trained, held_out = parts.train, parts.test
        if (recorded.manifest.get("refit") or {}).get("done"):
            progress.step("Refit", f"on all {len(rows)} rows")
            made = refit(learned.fitted, choice, parts.train, rows)
            learned, trained = learned.again(made.fitted), made.rows
        progress.step("Package")
        again = _packaged(recorded.manifest, choice, learned, (trained, held_out), table, spec, Path(scratch) / "model")
    return compare(recorded.manifest, again)


def chosen(manifest: Mapping[str, Any], spec: "TrainingJobSpec", access: "Access", scratch: Path) -> "Choice":
    """The estimator with the parameters that the search had found.  Raises Failure."""
    from kaizen.api.training_job import Estimator
    from kaizen.training.models.catalogue import OURS
    from kaizen.training.models.estimators import choose

    name, parameters = manifest["estimator"]["name"], dict(manifest["parameters"])
    if spec.code is not None:
        from kaizen.training.models.code import load
        from kaizen.training.models.code_source import obtain

        commit = (manifest.get("code") or {}).get("commit")
        code = spec.code.model_copy(update={"revision": commit}) if commit else spec.code  # a branch goes on
        return load(obtain(code, access, scratch), code.function, parameters, spec.task)

    if "members" in parameters:
        from kaizen.training.search.stacking import stacked

        return stacked(parameters, spec.task)
    # What Kaizen sets itself it sets again.
    own = {key: value for key, value in parameters.items() if key not in OURS}
    return choose(Estimator(name=name, parameters=own), spec.task)


def compare(recorded: Mapping[str, Any], again: Mapping[str, Any]) -> Comparison:
    """By modelDigest; where it differs, the sentence names the likeliest reason."""
    if recorded["modelDigest"] == again["modelDigest"]:
        return Comparison(True, f"equal: the model made again has the same digest {again['modelDigest']}")
    return Comparison(False, f"different: {_difference(recorded, again)}")


def _difference(recorded: Mapping[str, Any], again: Mapping[str, Any]) -> str:
    was, now = recorded.get("versions") or {}, again.get("versions") or {}
    changed = [f"{name} {now.get(name, 'none')} instead of {was[name]}" for name in sorted(was) if was[name] != now.get(name)]
    if changed:
        return f"this is {', '.join(changed)}: run it in the image that the version was trained in"
    if recorded.get("codeDigest") and recorded["codeDigest"] != again.get("codeDigest"):
        return f"the code is another (codeDigest {again.get('codeDigest')} instead of {recorded['codeDigest']})"
    before, after = (one["estimator"]["parameters"] for one in (recorded, again))
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            return f"parameter {name} is {after.get(name)} instead of {before.get(name)}"
    for key, what in (("decision", "the threshold"), ("calibration", "the calibration")):
        if recorded.get(key) != again.get(key):
            return f"{what} is another ({again.get(key)} instead of {recorded.get(key)})"
    if recorded.get("engine") != again.get("engine"):
        return f"it runs in the {again.get('engine')} engine instead of {recorded.get('engine')}"
    return (
        "data, versions and parameters are the same, and the fitted numbers differ"
        f" (modelDigest {again['modelDigest']} instead of {recorded['modelDigest']}): another CPU may compute other last digits"
    )


def _table(recorded: Recorded, spec: "TrainingJobSpec", access: "Access", scratch: Path) -> "Table":
    """The same rows as then.  Raises Failure DataChanged naming the first file that is another."""
    from kaizen.training.data.ingest import Table, ingest

    digest = recorded.manifest.get("dataDigest")
    if recorded.rows is not None:
        import pyarrow.parquet as pq

        return Table(pq.read_table(recorded.rows), str(digest), ())
    table = ingest(spec.data, access, scratch / "now")
    if table.digest == digest:
        return table
    if pinned := _versions(recorded.snapshot):
        table = ingest(spec.data, replace(access, pinned=pinned), scratch / "then")
        if table.digest == digest:
            return table
    changed = _changed_file(recorded.snapshot, table) or f"their digest is {table.digest}, and was {digest}"
    raise Failure(STEP, "DataChanged", f"the data are not those that {recorded.name} was trained on: {changed}")


def _changed_file(snapshot: Mapping[str, Any] | None, table: "Table") -> str | None:
    if snapshot is None:
        return None
    then = dict(_files(snapshot))
    now = {(files.source, file.name): file.sha256 for files in table.sources for file in files.files}
    if sorted(then.values()) == sorted(now.values()):
        return None  # the same files elsewhere: it is the query or the sources' names
    for key, sha256 in sorted(now.items()):
        if key in then and then[key] != sha256:
            return f"{key[1]} has changed"
    for (_, name), sha256 in sorted(then.items()):
        if sha256 not in now.values():
            return f"{name} is gone"
    return next((f"{name} is new" for (_, name), sha256 in sorted(now.items()) if sha256 not in then.values()), None)


def _versions(snapshot: Mapping[str, Any] | None) -> dict[str, dict[str, str]]:
    """By source, key and version of each file, for the sources whose bucket keeps versions of all of them."""
    found = {}
    for source in (snapshot or {}).get("sources") or ():
        files = {file["name"].removeprefix("s3://").partition("/")[2]: file.get("version") for file in source["files"]}
        if all(files.values()):
            found[source["name"]] = files
    return found


def _files(snapshot: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    for source in snapshot.get("sources") or ():
        for file in source["files"]:
            yield (source["name"], file["name"]), file["sha256"]


def _with_data(recipe: Mapping[str, Any], uri: str | None) -> Mapping[str, Any]:
    """The recipe without what does not make the model, and with another place for its data."""
    without = {name: value for name, value in recipe.items() if name not in ("search", "tracking")}
    if uri is None:
        return without
    sources = recipe["data"]["sources"]
    if len(sources) > 1:
        message = f"--data stands for a single source, and the recipe has {', '.join(source['name'] for source in sources)}"
        raise Failure(STEP, "InvalidSpec", message)
    source = {**{name: value for name, value in sources[0].items() if name != "secretName"}, "uri": uri}
    return {**without, "data": {**recipe["data"], "sources": [source]}}


def _packaged(
    manifest: Mapping[str, Any],
    choice: "Choice",
    learned: "Learned",
    sides: "tuple[Rows, Rows]",
    table: "Table",
    spec: "TrainingJobSpec",
    out: Path,
) -> dict[str, Any]:
    """The manifest of the model made again."""
    from kaizen.training.data.schema import freeze
    from kaizen.training.data.statistics import summarise
    from kaizen.training.environment import code_digest
    from kaizen.training.models.fit import outputs
    from kaizen.training.package import Package, write

    (trained, held_out), file = sides, getattr(choice, "file", None)
    out.mkdir()
    parameters = {**manifest["parameters"], **learned.fitted.frozen}
    description = {
        **{name: value for name, value in manifest.items() if name != "files"},
        "codeDigest": code_digest(more=() if file is None else (file.sha256,)),
        "estimator": {"name": manifest["estimator"]["name"], "parameters": parameters},
        "calibration": None if learned.calibration is None else learned.calibration.to_json(),
        "decision": None if learned.threshold is None else {"threshold": learned.threshold},
    }
    schema = freeze(table.rows, summarise(table.rows), spec.data)
    answers = outputs(learned.pipeline, held_out.frame)
    return write(Package(learned.pipeline, learned.threshold, trained, held_out, answers, spec.data, schema, description), out)


def reproduce_command(parsed: "argparse.Namespace") -> int:
    """What `kaizen reproduce` does; returns the exit code."""
    from kaizen.registry.errors import BucketError
    from kaizen.training import progress
    from kaizen.training.access import Access, bucket_from_environment

    shown = progress.for_stream(sys.stderr)
    try:
        with tempfile.TemporaryDirectory(prefix="kaizen-") as scratch:
            if parsed.version is None:
                recorded = of_directory(Path(parsed.model))
            else:
                namespace = parsed.namespace or _namespace()
                recorded = of_registry(
                    bucket_from_environment(os.environ), namespace, parsed.model, parsed.version, Path(scratch)
                )
            found = reproduce(recorded, Access.from_environment(os.environ), shown, parsed.data)
    except (Failure, BucketError, OSError, ValueError) as problem:
        found = Comparison(False, f"{problem.code}: {problem.message}" if isinstance(problem, Failure) else str(problem))
    if hasattr(shown, "close"):
        shown.close()
    print(f"kaizen: {found.sentence}", file=sys.stdout if found.equal else sys.stderr)
    return 0 if found.equal else 1


def of_directory(directory: Path) -> Recorded:
    """A model directory, checked against its manifest.  Raises ValueError and OSError."""
    from kaizen.training.package import verify

    try:
        verify(directory)
    except FileNotFoundError as problem:
        raise ValueError(f"{directory} is no model directory: write MODEL VERSION for one of the registry") from problem
    return Recorded(str(directory), json.loads((directory / layout.MANIFEST).read_bytes()))


def of_registry(bucket: "Bucket", namespace: str, model: str, version: int, scratch: Path) -> Recorded:
    """A version of the registry, with what was kept of its data.  Raises BucketError and ValueError."""
    from kaizen.registry.errors import Missing
    from kaizen.registry.manifest import parse

    manifest = parse(bucket.get(layout.manifest(namespace, model, version))[0]).document
    kept = layout.dataset(namespace, str(manifest.get("dataDigest")))
    snapshot, rows = None, None
    try:
        snapshot, _ = bucket.read(f"{kept}snapshot.json")
        if snapshot.get("rows"):
            rows = scratch / "rows.parquet"
            rows.write_bytes(bucket.get(f"{kept}rows.parquet")[0])
            if hashlib.sha256(rows.read_bytes()).hexdigest() != snapshot["rows"].get("sha256"):
                raise ValueError(f"{kept}rows.parquet in the bucket does not have the digest that snapshot.json gives for it")
    except Missing:
        rows = None
    return Recorded(f"version {version} of {model}", manifest, snapshot, rows)


def _namespace() -> str:
    try:
        return NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except OSError:
        return "default"
