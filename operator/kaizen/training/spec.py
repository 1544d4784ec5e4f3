"""Reads a TrainingJob without a cluster, and checks what there the API server's rules check.

In a terminal a source may also be a local file, directory or glob, relative to the YAML file that names it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from kaizen.api.base import API_VERSION
from kaizen.api.metrics import FAIRNESS_METRICS, LATENCY_METRICS, model_metrics
from kaizen.api.training_data import Data, DataSource
from kaizen.api.training_job import TrainingJobSpec
from kaizen.training.errors import Failure, nearest

__all__ = ["LocalSpec", "check", "read_job", "read_spec"]

STEP = "Ingest"


class LocalSource(DataSource):
    """Files on this machine or in S3."""

    uri: Annotated[str, Field(min_length=1, max_length=1024)]


class LocalData(Data):
    """Where the rows come from, in a terminal."""

    sources: Annotated[list[LocalSource], Field(min_length=1, max_length=16)]  # type: ignore[assignment]


class LocalSpec(TrainingJobSpec):
    """A TrainingJob's spec whose sources may be local."""

    data: LocalData


def read_job(path: Path) -> TrainingJobSpec:
    """The spec of the TrainingJob in a YAML file; raises Failure."""
    try:
        documents = [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document is not None]
    except OSError as problem:
        raise _invalid(f"{path} cannot be read: {problem.strerror}") from problem
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise _invalid(f"{path} is not YAML: {' '.join(str(problem).split())}") from problem
    jobs = [document for document in documents if isinstance(document, dict) and document.get("kind") == "TrainingJob"]
    if len(jobs) != 1:
        raise _invalid(f"{path} must hold exactly one object of kind TrainingJob, and holds {len(jobs)}")
    if jobs[0].get("apiVersion") != API_VERSION:
        raise _invalid(f"{path}: apiVersion must be {API_VERSION}, not {jobs[0].get('apiVersion')}")
    spec = jobs[0].get("spec")
    if not isinstance(spec, dict):
        raise _invalid(f"{path}: spec must be a mapping")
    return read_spec(_with_absolute_paths(spec, path.resolve().parent), local=True)


def read_spec(document: Mapping[str, Any], *, local: bool = False) -> TrainingJobSpec:
    """The spec in a JSON object, checked; raises Failure."""
    try:
        spec = (LocalSpec if local else TrainingJobSpec).model_validate(document)
    except ValidationError as problem:
        first = problem.errors()[0]
        field = ".".join(str(part) for part in ("spec", *first["loc"]))
        raise _invalid(f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}{_others(problem)}") from problem
    check(spec)
    return spec


def check(spec: TrainingJobSpec) -> None:
    """What CEL rules check on a cluster; raises Failure with the same sentences."""
    data = spec.data
    metrics = (*model_metrics(spec.task), *FAIRNESS_METRICS, *LATENCY_METRICS)
    names = [source.name for source in data.sources]
    if len(set(names)) < len(names):
        raise _invalid("spec.data.sources must have different names")
    if len(names) > 1 and not data.query:
        raise _invalid("several sources need a query that joins them: write spec.data.query")
    if data.split.method == "Temporal" and not data.timestamp:
        raise _invalid("spec.data.split.method Temporal needs data.timestamp: name the column that orders the rows")
    if data.window_seconds and not data.timestamp:
        raise _invalid("spec.data.windowSeconds needs data.timestamp: name the column that orders the rows")
    if data.timestamp == data.target:
        raise _invalid("spec.data.timestamp and data.target must be different columns")
    if data.target in data.features.exclude:
        raise _invalid("spec.data.target is never a feature: remove it from features.exclude")
    if not 0.01 <= data.split.test_share <= 0.5:
        raise _invalid("spec.data.split.testShare must be from 0.01 to 0.5")
    for gate in spec.gates:
        if gate.metric not in metrics:
            raise _invalid(f"spec.gates: {gate.metric} is no metric of task {spec.task}: {nearest(gate.metric, metrics)}")


def _with_absolute_paths(spec: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    data = spec.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("sources"), list):
        return dict(spec)
    sources = [
        {**source, "uri": f"{directory}/{source['uri']}"}
        if isinstance(source, dict) and isinstance(source.get("uri"), str) and _relative(source["uri"])
        else source
        for source in data["sources"]
    ]
    return {**spec, "data": {**data, "sources": sources}}


def _relative(uri: str) -> bool:
    return "://" not in uri and not uri.startswith("/")


def _others(problem: ValidationError) -> str:
    others = problem.error_count() - 1
    return f" (and {others} more)" if others else ""


def _invalid(message: str) -> Failure:
    return Failure(STEP, "InvalidSpec", message)
