"""report.html: the evaluation of a model as one page that opens without a network.

Written for the data scientist who wants to know where the model is weak, and for the auditor who wants to know what was decided
on what grounds.  It holds no more than a bounded number of rows, columns and points, whatever the data.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaizen.training.data.statistics import Statistics
from kaizen.training.judge.judged import Detail
from kaizen.training.report.canvas import Plot, clean, figure, number
from kaizen.training.report.explain import Explanation
from kaizen.training.report.page import Cell, Markup, Section, Table, badge, figures, join, page, pairs, paragraph, table, text
from kaizen.training.report.plots import classification_plots, regression_plots
from kaizen.training.report.plots_columns import column_plots, statistics_table
from kaizen.training.report.plots_explained import explanation_plots
from kaizen.training.report.plots_trials import trial_plots
from kaizen.training.report.verdict import MEANINGS, compared, held_out, interval, verdict

if TYPE_CHECKING:
    from kaizen.training.search.trials import Trial

__all__ = ["MOST_BYTES", "Report", "render", "write_report"]

MOST_BYTES = 2_000_000
MOST_SLICES = 200
MOST_TRIALS = 50
MOST_ANOMALIES = 200
MOST_IMPORTANCES = 30
NOT_COMPARED = frozenset({"calibration_gap"})
"""A constant answer is calibrated by nature."""
SEVERITIES = {"Error": "bad", "Warning": "warn"}


@dataclass(frozen=True, eq=False)
class Report:
    """What a run knows about its model."""

    manifest: Mapping[str, Any]
    """As model_card takes it: model, task, estimator, data, split, refit, metrics, gates, ..., and where there are any anomalies,
    calibration, decision, search, codeDigest."""
    answers: npt.NDArray[np.float64]
    """Of the judged model to the test rows: probabilities (rows, classes), or numbers (rows,)."""
    target: npt.NDArray[Any]
    """The truth (rows,)."""
    classes: Sequence[Any] | None = None
    """In the order of the columns of `answers`; None for a regression."""
    statistics: Statistics | None = None
    """Of the rows that were read."""
    trials: "Sequence[Trial]" = ()
    goal: tuple[str, str] | None = None
    """Metric and direction, Minimize or Maximize, of the trials."""
    explanation: Explanation | None = None
    slices: Sequence[Detail] = ()
    """Figures of parts of the test rows, as weak.weak_spots finds them; those that gates asked for come with the gates."""
    slice_metric: str = ""
    run: Mapping[str, Any] = field(default_factory=dict)
    """Facts about the run by name, as a person reads them: duration, peak memory, image."""


def write_report(path: Path, report: Report) -> None:
    """Write the page; see `render`."""
    path.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """The page, smaller than MOST_BYTES: where plots would make it larger, those of columns are left out first, then all."""
    made = _render(report, 2)
    for detail in (1, 0):
        if len(made.encode()) < MOST_BYTES:
            break
        made = _render(report, detail)
    return made


def _render(report: Report, detail: int) -> str:
    manifest = report.manifest
    said = verdict(manifest)
    summary = join([
        Markup(f"<p>{badge(said.word, said.tone).body} {text(said.trained)} {text(said.good, 1000)}</p>"),
        paragraph(said.serves),
    ])  # fmt: skip
    sections = (
        Section("glance", "At a glance", _glance(manifest)),
        Section("quality", "How good it is", _quality(report, detail)),
        Section("gates", "Gates", _gates(manifest.get("gates") or [])),
        Section("slices", "Slices", _slices(report)),
        Section("explanation", "What it answers by", _explanation(report.explanation, detail)),
        Section("data", "Data", _data(report, detail)),
        Section("search", "Search", _search(report, detail)),
        Section("making", "How it was made", _making(report)),
    )
    version = manifest.get("versions", {}).get("kaizen", "")
    end = f"Written by Kaizen {version} with the model; the page loads nothing from a network."
    return page(f"{clean(manifest['model'], 63)}: evaluation", summary, sections, " ".join(end.split()))


def _glance(manifest: Mapping[str, Any]) -> Markup:
    data, split, refit = manifest["data"], manifest["split"], manifest["refit"]
    dropped = f", {number(data['dropped'])} without a target left out" if data.get("dropped") else ""
    engine = str(manifest.get("engine", ""))
    return pairs([
        ("Task", f"{manifest['task']} of {data['target']}"),
        ("Estimator", manifest["estimator"]["name"]),
        ("Rows", f"{number(data['rows'])} from {number(data['files'])} files{dropped}"),
        ("Features", number(len(data["features"]))),
        ("Trained until", manifest.get("trainedUntil")),
        ("Held out", f"{number(split['testRows'])} rows, {held_out(split)} (split {split['method']}, {split['testShare']:.0%})"),
        ("Refit", refit["message"] + ("; all figures are of the model before it" if refit["done"] else "")),
        ("Engine", f"{engine}: {manifest['engineReason']}" if manifest.get("engineReason") else engine),
        ("Data digest", _code(manifest["dataDigest"])),
    ])  # fmt: skip


def _quality(report: Report, detail: int) -> Markup:
    manifest = report.manifest
    metrics = manifest.get("metrics") or []
    rows = []
    for one in metrics:
        if one["dataset"] != "test":
            continue
        constant, better = compared(one, metrics)
        said: str | Cell = {True: badge("better", "good"), None: badge("unclear", "plain"), False: badge("worse", "bad")}[better]
        if constant is None or one["name"] in NOT_COMPARED:
            said = ""
        shown = "" if constant is None else figure(constant)
        rows.append((one["name"], figure(one["value"]), interval(one), shown, said, MEANINGS.get(one["name"], "")))
    head = ("metric", "model", "interval", "baseline", "than it", "what it is")
    always = "the classes' shares" if manifest["task"] == "Classification" else "the mean"
    calibration, decision = manifest.get("calibration") or {}, manifest.get("decision") or {}
    threshold = decision.get("threshold")
    decided = "" if threshold is None else ", ".join(filter(None, (f"{threshold:.4g}", decision.get("message"))))
    brier = (calibration.get("brierBefore"), calibration.get("brierAfter"))
    told = pairs([
        ("Calibration", calibration.get("message")),
        ("Brier score on inner folds", "" if None in brier else f"{figure(brier[0])} before, {figure(brier[1])} after"),
        ("Decision threshold", decided),
    ])  # fmt: skip
    return join([
        table(Table(f"Metrics on the test rows; the baseline always answers {always}", head, rows, frozenset({1, 2, 3}), 5)),
        told,
        figures(_quality_plots(report, threshold) if detail else ()),
    ])  # fmt: skip


def _quality_plots(report: Report, threshold: float | None) -> tuple[Plot, ...]:
    if not len(report.target):
        return ()
    if report.classes is None:
        return regression_plots(report.answers, report.target)
    return classification_plots(report.answers, report.target, report.classes, threshold)


def _gates(gates: Sequence[Mapping[str, Any]]) -> Markup:
    if not gates:
        return paragraph("No gate was declared: nothing was asked of this model before it may serve.")
    rows = [
        (
            gate["name"], badge(*_outcome(gate)), gate["metric"], figure(gate.get("value")), interval(gate),
            figure(gate.get("limit")), clean(gate["message"], 1200) + " (not required)" * (gate.get("required") is False),
        )
        for gate in gates
    ]  # fmt: skip
    head = ("gate", "outcome", "metric", "value", "interval", "limit", "why")
    parts = [table(Table("Every gate was judged, also after one had failed", head, rows, frozenset({3, 4, 5}), 6))]
    for gate in gates:
        details = gate.get("details") or ()
        listed = _parts(f"{gate['name']}: {gate['metric']}", [Detail(**{"value": None, **one}) for one in details])
        # What failed is open to the eye.
        parts.append(_folded(f"Parts of gate {gate['name']}: {len(details)}", listed, shown=gate.get("passed") is False))
    return join(parts)


def _parts(caption: str, details: Sequence[Detail]) -> Markup:
    words = {True: badge("kept", "good"), False: badge("broken", "bad")}
    told = any(one.passed is not None for one in details)
    rows = [
        (
            clean(one.name, 120), "" if one.rows is None else number(one.rows), figure(one.value), interval(vars(one)),
            *([words[one.passed] if one.passed is not None else ""] if told else []),
        )
        for one in details[:MOST_SLICES]
    ]  # fmt: skip
    head = ("part", "rows", "figure", "interval", *(["limit"] if told else []))
    more = f"{len(details) - MOST_SLICES} more are not shown." if len(details) > MOST_SLICES else ""
    return join([table(Table(caption, head, rows, frozenset({1, 2, 3}))), paragraph(more, "note")])


def _outcome(gate: Mapping[str, Any]) -> tuple[str, str]:
    tones = {"Passed": "good", "Failed": "bad", "NotComparable": "warn"}
    if gate["outcome"] == "Failed" and gate.get("required") is False:
        return "Failed", "warn"
    return gate["outcome"], tones.get(gate["outcome"], "plain")


def _slices(report: Report) -> Markup:
    if not report.slices:
        return Markup("")
    metric = report.slice_metric
    intro = (
        f"{metric} of parts of the test rows, by the most important and the sensitive columns, worst first. The intervals hold "
        "jointly: among many parts some look bad by chance."
    )
    return join([paragraph(intro), _parts(f"{metric} by part", report.slices)])


def _explanation(found: Explanation | None, detail: int) -> Markup:
    if found is None or not found.importances:
        return Markup("")
    if found.method == "SHAP":
        exact = found.attributions is None or found.attributions.exact
        how = "from the trees themselves" if exact else "by sampled orders of the columns"
        intro = f"Mean size of each column's SHAP value on {number(found.rows)} test rows, {how}, with its standard error."
    else:
        intro = (
            f"How much {found.metric} grows when a column's values are shuffled among {number(found.rows)} test rows, with the "
            "standard deviation of the repeats. Columns that tell the same share their importance; below zero means none."
        )
    plots = explanation_plots(found) if detail else ()
    drawn = sum(bool(one.values) for one in found.dependences) if detail else 0
    overall, dependence = plots[: len(plots) - drawn], plots[len(plots) - drawn :]
    rows = [(one.column, figure(one.value), f"± {figure(one.deviation)}") for one in found.importances[:MOST_IMPORTANCES]]
    parts = [paragraph(intro), paragraph(found.message, "note"), figures(overall)]
    listed = Table("Importance", ("column", "importance", ""), rows, frozenset({1, 2}))
    parts.append(_folded("Importance as a table", table(listed)))
    if dependence:
        meaning = (
            "Partial dependence: the mean answer when every row has the same value in that column; the band holds the middle "
            "80 % of the rows' own answers. Values that do not occur together in the data are mixed."
        )
        parts += [Markup("<h3>Partial dependence</h3>"), paragraph(meaning), figures(dependence)]
    return join(parts)


def _data(report: Report, detail: int) -> Markup:
    anomalies = report.manifest.get("anomalies") or []
    rows = [
        (one["code"], badge(one["severity"], SEVERITIES.get(one["severity"], "warn")), one.get("column") or "", one["message"])
        for one in anomalies[:MOST_ANOMALIES]
    ]
    parts = [table(Table("Anomalies: what was not expected of the data", ("code", "severity", "column", "what"), rows, prose=3))]
    if not rows:
        parts.append(paragraph("Nothing unexpected was found in the data."))
    if report.statistics:
        found = report.explanation.importances if report.explanation else ()
        first = [str(report.manifest["data"]["target"]), *(one.column for one in found)]
        parts.append(statistics_table(report.statistics, first))
        if detail > 1:
            parts += [Markup("<h3>Distributions</h3>"), figures(column_plots(report.statistics, first), "small")]
    return join(parts)


def _search(report: Report, detail: int) -> Markup:
    if not report.trials or report.goal is None:
        return Markup("")
    metric, direction = report.goal
    sign = 1 if direction == "Minimize" else -1
    states = {state: sum(one.state == state for one in report.trials) for state in ("Complete", "Pruned", "Failed")}
    ended = sorted(
        report.trials,
        key=lambda one: (one.state != "Complete", np.inf if one.value is None else sign * one.value, one.number),
    )
    rows = [
        (
            str(one.number), badge(one.state, {"Complete": "good", "Failed": "bad"}.get(one.state, "plain")), figure(one.value),
            f"{one.seconds:.1f}", json.dumps(one.parameters, default=str, ensure_ascii=False),
        )
        for one in ended[:MOST_TRIALS]
    ]  # fmt: skip
    wanted = f"the {'smallest' if sign > 0 else 'largest'} {metric} on inner folds of the training rows"
    ends = ", ".join(f"{count} {state.lower()}" for state, count in states.items())
    told = f"{number(len(report.trials))} trials for {wanted}: {ends}."
    message = (report.manifest.get("search") or {}).get("message", "")
    head = ("trial", "state", metric, "seconds", "parameters")
    listed = Table(f"The best {len(rows)} trials", head, rows, frozenset({2, 3}), 4)
    plots = trial_plots(report.trials, metric, direction) if detail else ()
    return join([paragraph(told), paragraph(message), figures(plots), _folded("Trials as a table", table(listed))])


def _making(report: Report) -> Markup:
    manifest = report.manifest
    parameters = [
        (name, json.dumps(value, default=str, ensure_ascii=False)) for name, value in manifest["estimator"]["parameters"].items()
    ]
    versions = [(name, str(value)) for name, value in manifest.get("versions", {}).items()]
    warned = [Markup(f"<li>{text(one)}</li>") for one in manifest.get("warnings") or []]
    return join([
        pairs([(name, value) for name, value in report.run.items()]),
        pairs([
            ("Model digest", _code(manifest.get("modelDigest"))),
            ("Code digest", _code(manifest.get("codeDigest"))),
            *((("Code", _code(manifest["code"]["name"])),) if manifest.get("code") else ()),
        ]),
        table(Table("Parameters that differ from the library's own defaults", ("parameter", "value"), parameters)),
        table(Table("Environment", ("package", "version"), versions)),
        Markup(f"<h3>The libraries warned</h3><ul>{join(warned)}</ul>") if warned else Markup(""),
    ])  # fmt: skip


def _code(value: Any) -> "Cell | None":
    return Cell(Markup(f"<code>{text(value)}</code>")) if value else None


def _folded(title: str, body: Markup, *, shown: bool = False) -> Markup:
    return Markup(f"<details{' open' * shown}><summary>{text(title)}</summary>{body}</details>") if body else Markup("")
