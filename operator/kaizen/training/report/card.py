"""README.md of a model: what it is and is not for, how good it is beside a constant answer, and what those figures belong to.

Its front matter is Hugging Face's, so that a model hub shows task, data set and figures; its sections are those of skops's card.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from kaizen.serving.engine.base import GRAPH_FILE, MODEL_FILE
from kaizen.training.report.canvas import clean, figure
from kaizen.training.report.verdict import compared, held_out, interval, verdict

__all__ = ["model_card"]

MOST_IMPORTANCES = 10
MOST_SLICES = 20
MOST_ANOMALIES = 20
SHOWN_METRICS: Mapping[str, Sequence[str]] = {
    "Classification": ("roc_auc", "log_loss", "brier", "accuracy", "f1"),
    "Regression": ("rmse", "mae", "r2"),
}
"""Of the model index; the text has all."""
MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*[]<>|"} | {"&": "&amp;"})
"""What Markdown would read as its own."""


def model_card(manifest: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]) -> str:
    """The model card.

    Args:
        manifest: without its files; importance, anomalies, calibration, decision, search and codeDigest may be missing.
        inputs: those of engine.json.
    """
    said = verdict(manifest)
    parts = [
        f"---\n{yaml.safe_dump(_front(manifest), sort_keys=False, allow_unicode=True)}---",
        f"# {_text(manifest['model'])}",
        f"{_text(said.trained, 1000)} {_text(said.good, 1000)}",
        f"**{_text(said.serves, 2000)}**",
        *_intended(manifest),
        *_inputs(inputs),
        *_procedure(manifest),
        *_evaluation(manifest),
        *_gates(manifest.get("gates") or []),
        *_importance(manifest.get("importance") or []),
        *_data(manifest),
        *_start(manifest),
        *_environment(manifest),
    ]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ").strip() + "\n"


def _front(manifest: Mapping[str, Any]) -> dict[str, Any]:
    pipeline_tag = "tabular-classification" if manifest["task"] == "Classification" else "tabular-regression"
    shown = SHOWN_METRICS[manifest["task"]]
    found = {one["name"]: one for one in manifest["metrics"] if one["dataset"] == "test"}
    metrics = [{"type": name, "value": found[name]["value"], "name": name.replace("_", " ")} for name in shown if name in found]
    # A hub's own data sets have short names; ours are known by what is in them.
    dataset = {"type": "tabular", "name": f"{manifest['model']} {manifest['dataDigest'][:19]}", "split": "test"}
    result = {"task": {"type": pipeline_tag}, "dataset": dataset, "metrics": metrics}
    return {
        "library_name": "onnx" if _is_onnx(manifest) else "sklearn",
        "pipeline_tag": pipeline_tag,
        "tags": [*(["onnx"] if _is_onnx(manifest) else ["sklearn", "skops"]), "kaizen", pipeline_tag],
        "datasets": [f"{manifest['model']}-{manifest['dataDigest'].removeprefix('sha256:')[:12]}"],
        "metrics": [one["type"] for one in metrics],
        "model_format": "onnx" if _is_onnx(manifest) else "skops",
        "model_file": GRAPH_FILE if _is_onnx(manifest) else MODEL_FILE,
        "model-index": [{"name": manifest["model"], "results": [result] if metrics else []}],
    }


def _intended(manifest: Mapping[str, Any]) -> list[str]:
    target = _code(manifest["data"]["target"])
    what = "the probability of each class of" if manifest["task"] == "Classification" else "a number for"
    until = manifest["trainedUntil"]
    limits = [
        f"- It answers with {what} {target}, from rows like those it was trained on: a column that means something else makes "
        "its answers worthless.",
        "- It has learned what goes together in the data, not what causes what: to change a column need not change the target.",
        f"- It knows nothing after {until}; how it ages is measured where it serves." if until
        else "- The data have no time, so how it ages is not known from them.",
        *(f"- Gate {_text(gate['name'])} did not pass: {_text(gate['message'], 600)}."
          for gate in manifest.get("gates") or [] if gate.get("passed") is False),
    ]  # fmt: skip
    return ["## Intended uses and limits", *limits]


def _inputs(inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [(_code(one["name"]), one["datatype"], "yes" if one["nullable"] else "no") for one in inputs]
    return ["## Inputs", _table(("column", "type", "may be missing"), rows)]


def _procedure(manifest: Mapping[str, Any]) -> list[str]:
    estimator, search = manifest["estimator"], manifest.get("search") or {}
    calibration, decision = manifest.get("calibration") or {}, manifest.get("decision") or {}
    threshold = decision.get("threshold")
    facts = [
        f"- Estimator: {_code(estimator['name'])}",
        f"- Search: {_text(search['message'], 600)}" if search.get("message") else "",
        f"- Calibration: {_text(calibration['message'], 600)}" if calibration.get("message") else "",
        f"- Decision threshold: {threshold:.6g}{_because(decision)}" if threshold is not None else "",
        f"- Model: {_text(manifest['refit']['message'], 600)}",
        f"- Engine: {manifest['engine']}" + (f" ({_text(manifest['engineReason'], 600)})" if manifest["engineReason"] else ""),
        *(f"- A library warned: {_text(warning, 400)}" for warning in manifest["warnings"]),
    ]
    parameters = [(_code(name), _code(value)) for name, value in estimator["parameters"].items()]
    table = [_table(("parameter", "value"), parameters)] if parameters else []
    return ["## Training procedure", *filter(None, facts), *table]


def _evaluation(manifest: Mapping[str, Any]) -> list[str]:
    metrics, split = manifest["metrics"], manifest["split"]
    baseline = "the training rows' shares of the classes" if manifest["task"] == "Classification" else "the training rows' mean"
    rows = []
    for one in metrics:
        if one["dataset"] == "test":
            constant, _ = compared(one, metrics)
            rows.append((one["name"], figure(one["value"]), interval(one), "" if constant is None else figure(constant)))
    return [
        "## How good it is",
        _table(("metric", "model", "interval", "baseline"), rows),
        f"On {split['testRows']} rows held out ({held_out(split)}); the baseline always answers {baseline}."
        + (" The figures are those of the model before the refit." if manifest["refit"]["done"] else ""),
    ]


def _gates(gates: Sequence[Mapping[str, Any]]) -> list[str]:
    if not gates:
        return []
    rows = [(_text(gate["name"]), gate["outcome"], _text(gate["message"], 1000)) for gate in gates]
    parts = ["## Gates", _table(("gate", "outcome", "why"), rows)]
    for gate in gates:
        details = [one for one in gate.get("details") or () if one.get("value") is not None]
        if details:
            listed = [
                (_text(one["name"]), str(one.get("rows", "")), figure(one["value"]), interval(one),
                 {True: "yes", False: "no"}.get(one.get("passed"), ""))
                for one in details[:MOST_SLICES]
            ]  # fmt: skip
            more = f" ({len(details) - MOST_SLICES} more in report.html)" if len(details) > MOST_SLICES else ""
            head = ("part", "rows", gate["metric"], "interval", "within the limit")
            parts += [f"### Parts of gate {_text(gate['name'])}{more}", _table(head, listed)]
    return parts


def _importance(importance: Sequence[Mapping[str, Any]]) -> list[str]:
    if not importance:
        return []
    rows = [
        (_code(one["column"]), figure(one["value"]), f"± {figure(one['deviation'])}") for one in importance[:MOST_IMPORTANCES]
    ]
    return [
        "## What it answers by",
        _table(("column", "importance", ""), rows),
        "How it was measured, and all columns: report.html.",
    ]


def _data(manifest: Mapping[str, Any]) -> list[str]:
    data = manifest["data"]
    left_out = f"; {data['dropped']} rows without a target were left out" if data["dropped"] else ""
    facts = [f"- {data['rows']} rows from {data['files']} files, digest `{manifest['dataDigest']}`{left_out}"]
    anomalies = manifest.get("anomalies") or []
    rows = [
        (one["code"], one["severity"], _code(one["column"]) if one.get("column") else "", _text(one["message"], 1000))
        for one in anomalies[:MOST_ANOMALIES]
    ]
    more = [f"{len(anomalies) - MOST_ANOMALIES} more are in report.html."] if len(anomalies) > MOST_ANOMALIES else []
    return ["## Data", *facts, *([_table(("anomaly", "severity", "column", "what"), rows)] if rows else []), *more]


def _start(manifest: Mapping[str, Any]) -> list[str]:
    if _is_onnx(manifest):
        return [
            "## How to start",
            "`kaizen serve .` in this directory answers requests over HTTP; engine.json says which column goes into which input "
            "of model.onnx, and onnxruntime opens that anywhere.",
        ]
    answer = "predict_proba" if manifest["task"] == "Classification" else "predict"
    return [
        "## How to start",
        "In this directory, with the packages of requirements.txt and a pandas data frame `frame` that has the columns above:",
        f"```python\nimport mlflow\n\nmodel = mlflow.sklearn.load_model(\".\")\nmodel.{answer}(frame)\n```",
        "Without MLflow, `skops.io.load` opens model.skops; `kaizen serve .` answers requests over HTTP.",
    ]  # fmt: skip


def _environment(manifest: Mapping[str, Any]) -> list[str]:
    facts = [f"- {name} {version}" for name, version in manifest["versions"].items()]
    digests = [(name, manifest.get(key)) for name, key in (("Model", "modelDigest"), ("Code", "codeDigest"))]
    return ["## Environment", *facts, *(f"- {name} digest `{_plain(value)}`" for name, value in digests if value)]


def _is_onnx(manifest: Mapping[str, Any]) -> bool:
    return bool(manifest["engine"] == "onnx")


def _because(decision: Mapping[str, Any]) -> str:
    return f", {_text(decision['message'], 400)}" if decision.get("message") else ""


def _plain(value: Any, limit: int = 200) -> str:
    return clean(value, limit)


def _text(value: Any, limit: int = 200) -> str:
    """Text from anywhere, shown as it is."""
    return _plain(value, limit).translate(MARKS)


def _code(value: Any) -> str:
    """The same in a code span, where only its own quotes could end it; a bar would end a table's cell."""
    return f"`{_plain(value).replace('`', '′').replace('|', '¦')}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are Markdown already."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))
