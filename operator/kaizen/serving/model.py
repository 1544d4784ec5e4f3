"""A model directory: fetched, verified, opened, and asked the examples that it brings.

Nothing of it is used before every file has the size and sha256 of the manifest, and the manifest the digest that was asked
for.  A model that cannot be served is Refused with a stable code, which a repeated start will not change.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kaizen.monitoring import reference as references
from kaizen.monitoring.reference import Reference
from kaizen.registry import manifest as manifests
from kaizen.registry.errors import Missing
from kaizen.registry.layout import MANIFEST
from kaizen.registry.manifest import SIGNATURE, File, Manifest
from kaizen.serving import examples
from kaizen.serving.answers import Renderer
from kaizen.serving.engine import base, runtime
from kaizen.serving.engine.base import Engine, EngineError
from kaizen.serving.protocol import Schema

if TYPE_CHECKING:
    from kaizen.registry.store import Bucket

__all__ = ["Model", "Refused", "fetch", "open_model", "verify"]

REFERENCE = "reference.json"
DOWNLOADS = 4
"""Files at once; each is in memory while it is checked."""
PART_BYTES = 1 << 20


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
    engine: Engine
    schema: Schema
    renderer: Renderer
    reference: Reference | None
    """None: the model brings none, and nothing is observed."""
    manifest: Mapping[str, Any]
    example: bytes
    """A request that the model answers; empty when it brings none."""


def fetch(bucket: "Bucket", prefix: str, directory: Path, digest: str = "") -> Path:
    """Copy the model below a prefix into an empty directory, several files at once, and verify each as it comes.

    Raises Refused as verify does, and BucketError.
    """
    where = f"s3://{bucket.settings.name}/{bucket.settings.key(prefix)}"
    try:
        body, _ = bucket.get(prefix + MANIFEST)
    except Missing as error:
        raise Refused("ModelMissing", f"there is no model at {where}: {error}") from error
    manifest = _manifest(body, where, digest)

    def download(file: File) -> None:
        try:
            content, _ = bucket.get(prefix + file.path)
        except Missing as error:
            raise Refused("DigestMismatch", f"{file.path} of {where} is missing, but its manifest names it") from error
        _compare(file, len(content), hashlib.sha256(content).hexdigest(), where)
        target = directory / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    with ThreadPoolExecutor(DOWNLOADS) as threads:
        for _ in threads.map(download, manifest.files):
            pass
    (directory / MANIFEST).write_bytes(body)
    return directory


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
    for file in manifest.files:
        content, size = hashlib.sha256(), 0
        try:
            with (directory / file.path).open("rb") as opened:
                while part := opened.read(PART_BYTES):
                    content.update(part)
                    size += len(part)
        except OSError as error:
            raise Refused("DigestMismatch", f"{file.path} of {where} is missing, but its manifest names it") from error
        _compare(file, size, content.hexdigest(), where)
    return manifest


def open_model(directory: Path, *, name: str = "", version: int | None = None, digest: str = "") -> Model:
    """The model of a directory, verified, loaded and warm.

    Raises Refused: as verify does, EngineUnusable, ExamplesDiffer.
    """
    manifest = verify(directory, digest)
    try:
        kind = str(json.loads((directory / base.ENGINE_FILE).read_bytes())["kind"])
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
    return Model(name, version, manifest.digest, kind, engine, schema, renderer, reference, manifest.document, example)


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


def _compare(file: File, size: int, sha256: str, where: str) -> None:
    if size != file.size:
        raise Refused("DigestMismatch", f"{file.path} of {where} has {size} bytes, but its manifest says {file.size}")
    if sha256 != file.sha256:
        raise Refused("DigestMismatch", f"{file.path} of {where} has the sha256 {sha256}, but its manifest says {file.sha256}")


def _reference(directory: Path) -> Reference | None:
    path = directory / REFERENCE
    if not path.is_file():
        return None
    full = references.from_json(msgspec.json.decode(path.read_bytes()))
    # How the counts varied from day to day is for the operator; it is most of the file.
    return replace(full, features=tuple(replace(feature, block_counts=None) for feature in full.features))
