"""A training run from data to model directory: the steps in their order, the same in a Pod and in a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kaizen.api.training_job import TrainingJobSpec
from kaizen.registry import layout, manifest
from kaizen.serving.engine import parity
from kaizen.training.access import Access
from kaizen.training.errors import Failure
from kaizen.training.estimators import Choice, choose
from kaizen.training.evaluate import as_metrics, baseline, figures
from kaizen.training.fit import fit, freeze, outputs
from kaizen.training.gate import Champion, GateResult, identity, judge
from kaizen.training.ingest import Table, ingest
from kaizen.training.package import Package, write
from kaizen.training.prepare import Rows, prepare
from kaizen.training.progress import Progress
from kaizen.training.refit import Refit, refit, wanted
from kaizen.training.split import Parts, split

__all__ = ["Result", "run"]


@dataclass(frozen=True)
class Result:
    """A finished run; a failed gate is a result, not a failure."""

    directory: Path
    digest: str
    """Of the manifest: the version's digest."""
    manifest: dict[str, Any]
    gates: tuple[GateResult, ...]

    @property
    def gates_passed(self) -> bool:
        """Nothing speaks against serving it."""
        return all(gate.passed is not False for gate in self.gates)


def run(spec: TrainingJobSpec, access: Access, out: Path, progress: Progress, champion: Champion | None = None) -> Result:
    """Train, judge and package a model.

    Args:
        spec: checked, see spec.py.
        access: how the sources are reached.
        out: an empty directory for the model.
        progress: is told of every step.
        champion: the version that serves.

    Raises:
        Failure: for a reason that a person can act on.
    """
    choice = choose(spec.estimator, spec.task)
    if out.exists() and any(out.iterdir()):
        raise Failure("Package", "DirectoryNotEmpty", f"{out} is not empty: name another directory")
    # The process that compiles loads its libraries while this one reads and fits.
    with parity.Child() as child:
        return _run(spec, choice, access, out, progress, champion, child)


def _run(
    spec: TrainingJobSpec,
    choice: Choice,
    access: Access,
    out: Path,
    progress: Progress,
    champion: Champion | None,
    child: parity.Child,
) -> Result:
    progress.step("Ingest", ", ".join(source.uri for source in spec.data.sources))
    with TemporaryDirectory(prefix="kaizen-") as scratch:
        table = ingest(spec.data, access, Path(scratch))
    progress.step("Prepare", f"{table.rows.num_rows} rows of {table.rows.num_columns} columns")
    rows = prepare(table.rows, spec)
    progress.step("Split")
    parts = split(rows, spec.data)
    progress.step("Fit", f"{choice.name}, {parts.describe()}")
    judged = fit(choice, parts.train, freeze(choice, parts.train, spec.data))
    progress.step("Evaluate")
    classes = judged.pipeline.classes_.tolist() if spec.task == "Classification" else None
    answers = outputs(judged.pipeline, parts.test.frame)
    test = figures(answers, parts.test.target, classes)
    metrics = as_metrics(test, baseline(parts.train.target, parts.test.target, classes))
    for metric in metrics:
        progress.metric(metric.name, metric.value, metric.dataset)
    progress.step("Gates")
    gates = judge(spec.gates, parts, answers, classes, champion)
    made = Refit(judged, parts.train, False, None, "not refitted")
    if wanted(spec, parts.method):
        progress.step("Refit", f"on all {len(rows)} rows")
        made = refit(judged, choice, parts.train, rows)
    progress.step("Package")
    description = {
        **_description(spec, choice, table, rows, parts, made),
        "metrics": [metric.to_json() for metric in metrics],
        "gates": [gate.to_json() for gate in gates],
    }
    package = Package(made.fitted.pipeline, made.rows, parts.test, answers, spec.data.keys, spec.data.timestamp, description)
    out.mkdir(parents=True, exist_ok=True)
    document = write(package, out, child)
    return Result(out, manifest.sha256((out / layout.MANIFEST).read_bytes()), document, gates)


def _description(spec: TrainingJobSpec, choice: Choice, table: Table, rows: Rows, parts: Parts, made: Refit) -> dict[str, Any]:
    return {
        "model": spec.model,
        "task": spec.task,
        "trainedUntil": made.rows.trained_until,
        "dataDigest": table.digest,
        "parameters": dict(choice.parameters),
        "estimator": {"name": choice.name, "parameters": {**choice.parameters, **made.fitted.frozen}},
        "data": {
            "rows": len(rows),
            "dropped": rows.dropped,
            "target": spec.data.target,
            "features": list(rows.kinds),
            "files": len(table.files),
            "trainedUntil": rows.trained_until,
        },
        "split": {
            "method": parts.method,
            "testShare": spec.data.split.test_share,
            "trainRows": len(parts.train),
            "testRows": len(parts.test),
            "identity": identity(parts.test),
        },
        "refit": {"done": made.done, "distance": made.distance, "message": made.message},
        "warnings": _some(made.fitted.warned),
    }


def _some(warnings: Sequence[str]) -> list[str]:
    return [warning[:300] for warning in warnings[:10]]
