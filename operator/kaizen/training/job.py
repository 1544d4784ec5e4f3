"""A training run from data to model directory: the steps in their order, the same in a Pod and in a terminal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sklearn.pipeline import Pipeline

from kaizen.api.training_job import TrainingJobSpec
from kaizen.registry import layout, manifest
from kaizen.serving.engine import parity
from kaizen.training.access import Access
from kaizen.training.data.anomalies import Anomaly, fail_on
from kaizen.training.data.ingest import Table, ingest
from kaizen.training.data.prepare import Rows, prepare
from kaizen.training.data.split import Parts, split
from kaizen.training.environment import code_digest
from kaizen.training.errors import Failure
from kaizen.training.judge.evaluate import Metric, as_metrics, baseline, figures
from kaizen.training.judge.gates import Champion, GateResult, Judged, judge, split_record
from kaizen.training.learn import Learned, as_found, learn
from kaizen.training.models.estimators import Choice, choose
from kaizen.training.models.fit import outputs
from kaizen.training.models.refit import Refit, refit, wanted
from kaizen.training.package import Package, write
from kaizen.training.progress import Progress

if TYPE_CHECKING:
    from kaizen.training.data.schema import Schema
    from kaizen.training.data.statistics import Statistics
    from kaizen.training.report.explain import Explanation
    from kaizen.training.search.tuning import Selection

__all__ = ["AlreadyTrained", "Prepared", "Result", "Search", "Surroundings", "chosen", "prepare_run", "run"]

MOST_ANOMALIES = 32
MOST_IMPORTANCES = 50


@dataclass(frozen=True)
class Result:
    """A finished run; a failed gate is a result, not a failure."""

    directory: Path
    digest: str
    """Of the manifest: the version's digest."""
    manifest: dict[str, Any]
    gates: tuple[GateResult, ...]
    spec: TrainingJobSpec
    prepared: "Prepared"
    selection: "Selection | None" = None

    @property
    def gates_passed(self) -> bool:
        """Nothing that is required speaks against serving it."""
        return not any(gate.blocks for gate in self.gates)


@dataclass(frozen=True, eq=False)
class Prepared:
    """Rows that may be learned from, and what is known of them."""

    table: Table
    statistics: "Statistics"
    anomalies: tuple[Anomaly, ...]
    schema: "Schema"
    rows: Rows
    parts: Parts

    def summary(self) -> dict[str, Any]:
        """As in status.data."""
        summary = _summary(self.table, self.anomalies, len(self.rows), len(self.rows.frame.columns))
        return {**summary, "trainedUntil": self.rows.trained_until}


Search = Callable[[Choice, Prepared], "Selection"]
"""Finds the best parameters; see tuning.tune."""
Known = Callable[[str, str], Mapping[str, Any] | None]
"""The version that the same recipe made of these data by this code, by both digests; None when there is none."""


class AlreadyTrained(Exception):
    """The run would only make a version again that is there."""

    def __init__(self, version: Mapping[str, Any]) -> None:
        super().__init__(f"version {version['version']} was made of the same data by the same recipe and code")
        self.version = version


@dataclass(frozen=True)
class Surroundings:
    """What a run is given besides its spec."""

    access: Access
    """How the sources are reached."""
    progress: Progress
    """Is told of every step."""
    champion: Champion | None = None
    """The version that serves."""
    anchors: Sequence[Champion] = field(default=())
    """Those that served in the last year."""
    search: Search | None = None
    """Where trials run in other processes too; here alone when None."""
    known: Known = lambda data, code: None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further entries of the manifest: recipeDigest, lineage."""


def run(
    spec: TrainingJobSpec,
    around: Surroundings,
    out: Path,
    prepared: Prepared | None = None,
    model: Pipeline | None = None,
    choice: Choice | None = None,
) -> Result:
    """Train, judge and package a model.

    Args:
        spec: checked, see spec.py.
        around: see Surroundings.
        out: an empty directory for the model.
        prepared: the data, where they were read before.
        model: a fitted one, where the user's own container made it.
        choice: the estimator, where it was looked up before.

    Raises:
        Failure: for a reason that a person can act on.
        AlreadyTrained: see there.
    """
    if out.exists() and any(out.iterdir()):
        raise Failure("Package", "DirectoryNotEmpty", f"{out} is not empty: name another directory")
    # The process that compiles loads its libraries while this one reads and fits.
    with TemporaryDirectory(prefix="kaizen-") as scratch, parity.Child() as child:
        return _Run(spec, around, out, Path(scratch), child).run(prepared, model, choice)


def prepare_run(spec: TrainingJobSpec, around: Surroundings, scratch: Path, table: Table | None = None) -> Prepared:
    """Read, check, convert and split the data; `table` when they were read before.  Raises Failure."""
    from kaizen.training.data.drift import drifted
    from kaizen.training.data.schema import freeze
    from kaizen.training.data.statistics import summarise
    from kaizen.training.data.validate import validate

    progress = around.progress
    if table is None:
        progress.step("Ingest", ", ".join(source.where for source in spec.data.sources))
        table = ingest(spec.data, around.access, scratch, spec.gates)
    progress.step("Validate", f"{table.rows.num_rows} rows of {table.rows.num_columns} columns")
    statistics = summarise(table.rows)
    found = validate(table.rows, statistics, spec.data, spec.task, _schema_of(around.champion))
    progress.data(_summary(table, found, table.rows.num_rows, table.rows.num_columns))
    fail_on(found)
    progress.step("Prepare", "; ".join(table.notes))
    rows = prepare(table.rows, spec)
    progress.step("Split")
    parts = split(rows, spec.data)
    found = (*found, *drifted(parts.train, parts.test, spec.data.target))
    prepared = Prepared(table, statistics, found, freeze(table.rows, statistics, spec.data), rows, parts)
    progress.data(prepared.summary())
    return prepared


def chosen(spec: TrainingJobSpec, access: Access, scratch: Path) -> Choice:
    """The estimator that the spec names, checked.  Raises Failure."""
    if spec.code is not None:
        from kaizen.training.models.code import load
        from kaizen.training.models.code_source import obtain

        return load(obtain(spec.code, access, scratch), spec.code.function, spec.code.parameters, spec.task)
    assert spec.estimator is not None
    if spec.estimator.name == "Auto":
        from kaizen.training.search.auto import choose_auto

        return choose_auto(spec.estimator, spec.task)
    return choose(spec.estimator, spec.task)


@dataclass(frozen=True)
class _Run:
    spec: TrainingJobSpec
    around: Surroundings
    out: Path
    scratch: Path
    child: parity.Child

    def run(self, prepared: Prepared | None, model: Pipeline | None, choice: Choice | None) -> Result:
        spec, progress = self.spec, self.around.progress
        if model is None and choice is None:
            choice = chosen(spec, self.around.access, self.scratch)
        prepared = prepared or prepare_run(spec, self.around, self.scratch)
        code = code_digest(more=_own_code(spec, choice))
        if (same := self.around.known(prepared.table.digest, code)) is not None:
            raise AlreadyTrained(same)
        parts, selection = prepared.parts, None
        if choice is not None and (spec.search is not None or choice.name == "Auto"):
            selection = self._search(choice, prepared)
            choice = selection.choice
        if choice is None:
            assert model is not None
            learned = as_found(model, spec)
        else:
            progress.step("Fit", f"{choice.name}, {parts.describe()}")
            learned = learn(choice, parts.train, spec)
        progress.step("Evaluate")
        answers = outputs(learned.pipeline, parts.test.frame)
        trial = self._judged(choice, prepared, learned, answers)
        metrics = _metrics(trial)
        for metric in metrics:
            progress.metric(metric.name, metric.value, metric.dataset)
        progress.step("Gates", ", ".join(gate.name for gate in spec.gates))
        gates = judge(spec.gates, trial, self.around.champion, self.around.anchors)
        made = self._refitted(choice, prepared, learned)
        explanation = self._explained(trial)
        progress.step("Package")
        description = {
            **self._description(choice, prepared, learned, made),
            "codeDigest": code,
            "code": None if (file := getattr(choice, "file", None)) is None else file.to_json(),
            "metrics": [metric.to_json() for metric in metrics],
            "gates": [gate.to_json() for gate in gates],
            "importance": explanation.to_json(MOST_IMPORTANCES)["importance"],
            "search": _searched(selection),
        }
        self.out.mkdir(parents=True, exist_ok=True)
        package = self._package(prepared, learned.again(made.fitted), made.rows, answers, description)
        document = write(package, self.out, self.child, self._report(trial, prepared, selection, explanation))
        digest = manifest.sha256((self.out / layout.MANIFEST).read_bytes())
        return Result(self.out, digest, document, gates, spec, prepared, selection)

    def _search(self, choice: Choice, prepared: Prepared) -> "Selection":
        from kaizen.training.search.auto import SEARCH
        from kaizen.training.search.tuning import tune

        spec, progress = self.spec, self.around.progress
        progress.step("Tuning", f"{choice.name}, {prepared.parts.describe()}")
        if self.around.search is not None:
            return self.around.search(choice, prepared)
        search = spec.search or SEARCH
        return tune(choice, prepared.parts.train, spec.data, search, progress.search, _Unsaved(), scratch=self.scratch)

    def _judged(self, choice: Choice | None, prepared: Prepared, learned: Learned, answers: Any) -> Judged:
        def package() -> Path:
            """The judged model as the server would have it."""
            directory = self.scratch / "judged"
            directory.mkdir()
            made = Refit(learned.fitted, prepared.parts.train, False, None, "not refitted yet")
            description = {**self._description(choice, prepared, learned, made), "metrics": [], "gates": []}
            write(self._package(prepared, learned, prepared.parts.train, answers, description), directory)
            return directory

        return Judged(
            learned.pipeline, prepared.parts, answers, learned.classes, learned.threshold, self.spec.data, package
        )  # fmt: skip

    def _refitted(self, choice: Choice | None, prepared: Prepared, learned: Learned) -> Refit:
        parts = prepared.parts
        if choice is None or not wanted(self.spec, parts.method):
            why = "not refitted" if choice is not None else "not refitted: only the container knows how"
            return Refit(learned.fitted, parts.train, False, None, why)
        self.around.progress.step("Refit", f"on all {len(prepared.rows)} rows")
        return refit(learned.fitted, choice, parts.train, prepared.rows)

    def _explained(self, trial: Judged) -> "Explanation":
        from kaizen.training.report.explain import explain

        self.around.progress.step("Explain", self.spec.explain.method)
        return explain(trial.pipeline, trial.parts.test, self.spec.task, self.spec.explain.method)

    def _package(
        self, prepared: Prepared, learned: Learned, trained: Rows, answers: Any, description: Mapping[str, Any]
    ) -> Package:
        data = self.spec.data
        return Package(
            learned.pipeline, learned.threshold, trained, prepared.parts.test, answers, data, prepared.schema, description
        )  # fmt: skip

    def _report(
        self, trial: Judged, prepared: Prepared, selection: "Selection | None", explanation: "Explanation"
    ) -> Callable[[Mapping[str, Any], Path], None]:
        from kaizen.training.judge.weak import slice_metric, weak_spots
        from kaizen.training.report.report import Report, write_report

        def written(document: Mapping[str, Any], directory: Path) -> None:
            metric = slice_metric(trial)
            important = [one.column for one in explanation.importances] or list(prepared.rows.kinds)
            slices = weak_spots(trial, [*prepared.rows.sensitive.columns, *important], metric)
            goal = None if selection is None else (selection.metric, selection.direction)
            trials = () if selection is None else selection.trials
            target = prepared.parts.test.target
            made = Report(
                document, trial.answers, target, trial.classes, prepared.statistics, trials, goal, explanation, slices, metric
            )
            write_report(directory / "report.html", made)

        return written

    def _description(self, choice: Choice | None, prepared: Prepared, learned: Learned, made: Refit) -> dict[str, Any]:
        spec, rows = self.spec, prepared.rows
        name = choice.name if choice is not None else type(learned.fitted.pipeline.steps[-1][1]).__name__
        parameters = dict(choice.parameters) if choice is not None else dict(spec.container.parameters if spec.container else {})
        return {
            **self.around.facts,
            "model": spec.model,
            "task": spec.task,
            "trainedUntil": made.rows.trained_until,
            "dataDigest": prepared.table.digest,
            "recipe": spec.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            "parameters": parameters,
            "estimator": {"name": name, "parameters": {**parameters, **learned.fitted.frozen}},
            "data": {
                "rows": len(rows),
                "dropped": rows.dropped,
                "target": spec.data.target,
                "features": list(rows.kinds),
                "files": len(prepared.table.files),
                "trainedUntil": rows.trained_until,
            },
            "anomalies": prepared.summary()["anomalies"],
            "split": split_record(prepared.parts, spec.data),
            "calibration": None if learned.calibration is None else learned.calibration.to_json(),
            "decision": None if learned.threshold is None else {"threshold": learned.threshold},
            "refit": {"done": made.done, "distance": made.distance, "message": made.message},
            "warnings": [warning[:300] for warning in made.fitted.warned[:10]],
        }


class _Unsaved:
    """Of a run that nobody will continue, the study is kept nowhere else."""

    def save(self, content: bytes) -> None:
        pass

    def load(self) -> bytes | None:
        return None


def _summary(table: Table, anomalies: Sequence[Anomaly], rows: int, columns: int) -> dict[str, Any]:
    found = [anomaly.to_json() for anomaly in anomalies[:MOST_ANOMALIES]]
    return {"digest": table.digest, "rows": rows, "columns": columns, "anomalies": found}


def _metrics(trial: Judged) -> tuple[Metric, ...]:
    """Of the model with intervals, and of the best constant answer."""
    from kaizen.training.judge.intervals import of_figures

    test, parts = figures(trial.answers, trial.parts.test.target, trial.classes, trial.threshold), trial.parts
    constant = baseline(parts.train.target, parts.test.target, trial.classes)
    return as_metrics(test, constant, of_figures(test, trial.outcome, trial.blocks))


def _schema_of(champion: Champion | None) -> "Schema | None":
    """The frozen schema of the serving version, where its Kaizen wrote one.  Raises Failure."""
    import json

    from kaizen.training.data.schema import Schema

    if champion is None or not (path := champion.directory / layout.SCHEMA).is_file():
        return None
    try:
        return Schema.from_json(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError) as problem:
        raise Failure(
            "Validate", "ChampionUnusable", f"{layout.SCHEMA} of {champion.name} cannot be read: {problem}"
        ) from problem


def _own_code(spec: TrainingJobSpec, choice: Choice | None) -> tuple[str, ...]:
    """What the user's own code is, by digest or image."""
    if spec.container is not None:
        return (spec.container.image,)
    file = getattr(choice, "file", None)
    return () if file is None else (file.sha256,)


def _searched(selection: "Selection | None") -> dict[str, Any] | None:
    if selection is None:
        return None
    states = [trial.state for trial in selection.trials]
    return {
        "metric": selection.metric,
        "direction": selection.direction,
        "finished": len(states),
        "pruned": states.count("Pruned"),
        "failed": states.count("Failed"),
        "best": None if selection.best is None else {"value": selection.best.value, "parameters": selection.best.parameters},
        "message": selection.message,
    }
