"""Reads a TrainingJob without a cluster, and checks what there the API server checks, by the same rules.

In a terminal a source and the user's code may also be local: a path relative to the YAML file that names it.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from kaizen.api.base import API_VERSION
from kaizen.api.crd import crd
from kaizen.api.kinds import TRAINING_JOB
from kaizen.api.training_data import Data, DataSource
from kaizen.api.training_job import Code, TrainingJobSpec
from kaizen.training import documents
from kaizen.training.cel import compiled
from kaizen.training.errors import Failure

__all__ = ["LocalSpec", "check", "read_job", "read_spec"]

STEP = "Ingest"
_KINDS = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"}
"""Of a value that may have one of several, by pydantic's names."""


class LocalSource(DataSource):
    """Files on this machine or in S3."""

    uri: Annotated[str, Field(min_length=1, max_length=1024)] | None = None


class LocalData(Data):
    """Where the rows come from, in a terminal."""

    sources: Annotated[list[LocalSource], Field(min_length=1, max_length=16)]  # type: ignore[assignment]


class LocalCode(Code):
    """The user's own function, in a terminal."""

    uri: Annotated[str, Field(min_length=1, max_length=1024)]


class LocalSpec(TrainingJobSpec):
    """A TrainingJob's spec whose sources and code may be local."""

    data: LocalData
    code: LocalCode | None = None


def read_job(path: Path) -> TrainingJobSpec:
    """The spec of the TrainingJob in a YAML file, for a run on this machine; raises Failure."""
    try:
        found = documents.read(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise _invalid(f"{path} cannot be read: {problem.strerror}") from problem
    except ValueError as problem:
        raise _invalid(f"{path} is not YAML: {' '.join(str(problem).split())}") from problem
    jobs = [document for document in found if isinstance(document, dict) and document.get("kind") == "TrainingJob"]
    if len(jobs) != 1:
        raise _invalid(f"{path} must hold exactly one object of kind TrainingJob, and holds {len(jobs)}")
    if jobs[0].get("apiVersion") != API_VERSION:
        raise _invalid(f"{path}: apiVersion must be {API_VERSION}, not {jobs[0].get('apiVersion')}")
    spec = jobs[0].get("spec")
    if not isinstance(spec, dict):
        raise _invalid(f"{path}: spec must be a mapping")
    read = read_spec(_with_absolute_paths(spec, path.resolve().parent), local=True)
    if read.container is not None:
        message = f"spec.container needs a cluster, which runs {read.container.image}: apply {path} with kubectl"
        raise Failure(STEP, "ContainerNeedsCluster", message)
    return read


def read_spec(document: Mapping[str, Any], *, local: bool = False) -> TrainingJobSpec:
    """The spec in a JSON object, checked; raises Failure."""
    try:
        text = json.dumps(document, allow_nan=False)
    except (TypeError, ValueError) as problem:
        raise _invalid(f"spec holds what JSON cannot: {' '.join(str(problem).split())}") from problem
    try:
        spec = (LocalSpec if local else TrainingJobSpec).model_validate_json(text, strict=True)
    except ValidationError as problem:
        raise _invalid(_sentence(problem)) from problem
    check(spec)
    return spec


def check(spec: TrainingJobSpec) -> None:
    """What the schema checks on a cluster beyond single fields; raises Failure with the same sentences."""
    document = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    for sentence in _broken(_schema(), document, "spec"):
        raise _invalid(sentence)
    # A list of values of any type is hidden from CEL.
    for number, parameter in enumerate(spec.search.space if spec.search else ()):
        if (parameter.type == "Categorical") != (parameter.values is not None):
            name = f"spec.search.space[{number}] ({parameter.parameter})"
            raise _invalid(f"{name}: search.space[].values goes with type Categorical, which needs it, and with no other type")


@cache
def _schema() -> dict[str, Any]:
    version = crd(TRAINING_JOB)["spec"]["versions"][0]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def _broken(schema: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
    """A sentence for each rule that a value with its defaults breaks, its parts' included."""
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and not _compiled(rule["rule"])(value):
            yield f"{where}: {rule['message']}"
    if isinstance(value, dict):
        for name, child in schema.get("properties", {}).items():
            if name in value:
                yield from _broken(child, value[name], f"{where}.{name}")
    if isinstance(value, list):
        yield from _repeated(schema, value, where)
        for number, item in enumerate(value):
            yield from _broken(schema["items"], item, f"{where}[{number}]")


def _repeated(schema: Mapping[str, Any], items: list[Any], where: str) -> Iterator[str]:
    """Entries of a set, or of a list with a key, that are there twice."""
    keys = schema.get("x-kubernetes-list-map-keys", ())
    if not keys and schema.get("x-kubernetes-list-type") != "set":
        return
    seen: list[Any] = []
    for number, item in enumerate(items):
        identity = {key: item.get(key) for key in keys} if keys else item
        if identity in seen:
            yield f"{where}[{number}]: Duplicate value: {json.dumps(identity, separators=(',', ':'))}"
        seen.append(identity)


_compiled = cache(compiled)


def _with_absolute_paths(spec: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    result, data = dict(spec), spec.get("data")
    if isinstance(data, dict) and isinstance(data.get("sources"), list):
        result["data"] = {**data, "sources": [_with_absolute_uri(source, directory) for source in data["sources"]]}
    if "code" in result:
        result["code"] = _with_absolute_uri(result["code"], directory)
    return result


def _with_absolute_uri(part: Any, directory: Path) -> Any:
    if isinstance(part, dict) and isinstance(uri := part.get("uri"), str) and _relative(uri):
        return {**part, "uri": f"{directory}/{uri}"}
    return part


def _relative(uri: str) -> bool:
    return bool(uri) and "://" not in uri and not uri.startswith("/")


def _sentence(problem: ValidationError) -> str:
    """The first problem, with its place as the API server writes it: spec.data.sources[0].uri."""
    found = problem.errors()
    place, message, count = found[0]["loc"], found[0]["msg"], len(found)
    if kinds := [_KINDS[str(one["loc"][-1])] for one in found if one["loc"][:-1] == place[:-1] and one["loc"][-1] in _KINDS]:
        # pydantic names each kind that a value might have had.
        place, message, count = place[:-1], f"input should be {' or '.join(kinds)}", count - len(kinds) + 1
    where = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    others = f" (and {count - 1} more)" if count > 1 else ""
    return f"{where}: {message[:1].lower()}{message[1:]}{others}"


def _invalid(message: str) -> Failure:
    return Failure(STEP, "InvalidSpec", message)
