"""A model directory: fetched, verified, opened, and asked the examples that it brings.

Nothing of it is used before every file has the size and sha256 of the manifest, and the manifest the digest that was asked
for.  A model that cannot be served is Refused with a stable code, which a repeated start will not change.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kaizen.monitoring import reference as references
from kaizen.monitoring.reference import Reference
from kaizen.registry import manifest as manifests
from kaizen.registry.errors import Missing
from kaizen.registry.lanes import Lanes
from kaizen.registry.layout import MANIFEST
from kaizen.registry.manifest import SIGNATURE, File, Manifest
from kaizen.serving.bodies import examples
from kaizen.serving.bodies.answers import Renderer
from kaizen.serving.bodies.protocol import Schema
from kaizen.serving.engine import base, runtime
from kaizen.serving.engine.base import Engine, EngineError

if TYPE_CHECKING:
    from kaizen.registry.store import Bucket

__all__ = ["Model", "Refused", "fetch", "open_model", "verify"]

REFERENCE = "reference.json"
LANES = 4
"""Files at once."""


class Refused(Exception):
    """The model cannot be served; the message is a sentence for a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        """Stable, UpperCamel: ModelMissing, InvalidManifest, DigestMismatch, EngineUnusable, ExamplesDiffer."""


@dataclass(frozen=True)
class Model:
    """A verified model that answered its examples."""

    name: str
    version: int | None
    digest: str
    """sha256:… of the manifest."""
    kind: str
    """Of the engine: compiled or sklearn."""
    reason: str
    """Why it is this engine; empty for the compiled one."""
    engine: Engine
    schema: Schema
    renderer: Renderer
    reference: Reference | None
    """None: the model brings none, and nothing is observed."""
    manifest: Mapping[str, Any]
    example: bytes
    """A request that the model answers; empty when it brings none."""


def fetch(bucket: "Bucket", prefix: str, directory: Path, digest: str = "") -> Manifest:
    """Copy the model below a prefix into an empty directory, several files at once, and verify each as it comes.

    Raises Refused as verify does, and BucketError.
    """
    from kaizen.registry import downloads  # with boto3, which a terminal does without

    where = f"s3://{bucket.settings.name}/{bucket.settings.key(prefix)}"
    try:
        body, _ = bucket.get(prefix + MANIFEST)
    except Missing as error:
        raise Refused("ModelMissing", f"there is no model at {where}: {error}") from error
    manifest = _manifest(body, where, digest)

    def digest_of(file: File) -> tuple[str, int]:
        target = directory / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        return downloads.fetch(bucket, prefix + file.path, target, file.size)

    _check(manifest, digest_of, where)
    (directory / MANIFEST).write_bytes(body)
    return manifest


def verify(directory: Path, digest: str = "") -> Manifest:
    """The manifest of a directory in which every file is as it says, none is missing and none is too much.

    Raises Refused: ModelMissing, InvalidManifest, DigestMismatch.
    """
    where = str(directory)
    try:
        body = (directory / MANIFEST).read_bytes()
    except OSError as error:
        there = "is no model directory: it has no manifest.json" if directory.is_dir() else "does not exist"
        raise Refused("ModelMissing", f"{where} {there}; give a directory that `kaizen train` has written") from error
    manifest = _manifest(body, where, digest)
    named = {file.path for file in manifest.files} | {MANIFEST, SIGNATURE}
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory).as_posix()
        if path.is_symlink() or (not path.is_dir() and relative not in named):
            raise Refused("DigestMismatch", f"{relative} in {where} is not in the manifest; remove it")

    def digest_of(file: File) -> tuple[str, int]:
        with (directory / file.path).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest(), opened.tell()

    _check(manifest, digest_of, where)
    return manifest


def _check(manifest: Manifest, digest_of: Callable[[File], tuple[str, int]], where: str) -> None:
    """Compare every file's digest and size with the manifest's, several files at once and the largest first."""
    files = sorted(manifest.files, key=lambda file: -file.size)
    with Lanes(LANES) as lanes:
        for file, found in [(file, lanes.submit(partial(digest_of, file))) for file in files]:
            try:
                sha256, size = found.result()
            except (Missing, FileNotFoundError) as error:
                raise Refused("DigestMismatch", f"{file.path} of {where} is missing, but its manifest names it") from error
            if size != file.size:
                raise Refused("DigestMismatch", f"{file.path} of {where} has {size} bytes, but its manifest says {file.size}")
            if sha256 != file.sha256:
                raise Refused(
                    "DigestMismatch", f"{file.path} of {where} has the sha256 {sha256}, but its manifest says {file.sha256}"
                )


def open_model(
    directory: Path, *, name: str = "", version: int | None = None, digest: str = "", manifest: Manifest | None = None
) -> Model:
    """The model of a directory, verified (unless that was done, which gave the manifest), loaded and warm.

    Raises Refused: as verify does, EngineUnusable, ExamplesDiffer.
    """
    manifest = manifest or verify(directory, digest)
    try:
        described = json.loads((directory / base.ENGINE_FILE).read_bytes())
        kind, reason = str(described["kind"]), str(described.get("reason") or "")
        engine = runtime.load(directory)
        reference = _reference(directory)
        asked = examples.read(directory)
    except (EngineError, msgspec.MsgspecError, OSError, ValueError, LookupError, TypeError) as error:
        raise Refused("EngineUnusable", f"the model in {directory} cannot be loaded: {error}") from error
    if reference is not None:
        unknown = {feature.bins.name for feature in reference.features} - {one.name for one in engine.inputs}
        if unknown:
            raise Refused("EngineUnusable", f"{REFERENCE} in {directory} counts {min(unknown)!r}, which the model does not take")
    name = name or str(manifest.document.get("model") or directory.name)
    ignored = (*engine.keys, *((engine.timestamp,) if engine.timestamp else ()))
    renderer = Renderer(name, version, engine, kind)
    schema = Schema(engine.inputs, ignored, renderer.outputs)
    problem, example = None, b""
    if asked is not None:
        problem = examples.difference(schema, engine, renderer, asked)
        example = examples.body(engine.inputs, asked["columns"], slice(0, 1))
    if problem:
        raise Refused("ExamplesDiffer", f"the model in {directory} does not answer as it should: {problem}")
    return Model(name, version, manifest.digest, kind, reason, engine, schema, renderer, reference, manifest.document, example)


def remove(directory: Path) -> None:
    """Delete what was fetched; the loaded model needs no files."""
    shutil.rmtree(directory, ignore_errors=True)


def _manifest(body: bytes, where: str, digest: str) -> Manifest:
    found = manifests.sha256(body)
    if digest and found != digest:
        raise Refused("DigestMismatch", f"the manifest of {where} has the digest {found}, but {digest} was asked for")
    try:
        return manifests.parse(body)
    except ValueError as error:
        raise Refused("InvalidManifest", f"the model at {where} cannot be served: {error}") from error


def _reference(directory: Path) -> Reference | None:
    path = directory / REFERENCE
    if not path.is_file():
        return None
    full = references.from_json(msgspec.json.decode(path.read_bytes()))
    # How the counts varied from day to day is for the operator; it is most of the file.
    return replace(full, features=tuple(replace(feature, block_counts=None) for feature in full.features))
