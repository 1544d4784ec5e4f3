"""README.md of a model: what it is, how good it is beside a constant answer, and what those figures belong to."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

__all__ = ["model_card"]


def model_card(manifest: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]) -> str:
    """The model card, with Hugging Face's front matter; `manifest` lacks its files, `inputs` are those of engine.json."""
    classification = manifest["task"] == "Classification"
    front = {
        "library_name": "sklearn",
        "pipeline_tag": "tabular-classification" if classification else "tabular-regression",
        "tags": ["sklearn", "skops", "kaizen"],
        "model_format": "skops",
        "model_file": "model.skops",
    }
    data, estimator = manifest["data"], manifest["estimator"]
    baseline = "the training rows' shares of the classes" if classification else "the training rows' mean"
    split = manifest["split"]
    held_out = "the newest" if split["method"] == "Temporal" else "a stable random share"
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {manifest['model']}",
        f"{estimator['name']} for {manifest['task'].lower()} of `{data['target']}`, trained by Kaizen"
        f"{' on rows until ' + manifest['trainedUntil'] if manifest['trainedUntil'] else ''}.",
        "## How good it is",
        _table(("metric", "model", "baseline"), _metric_rows(manifest["metrics"])),
        f"On {split['testRows']} rows held out ({held_out}); the baseline always answers {baseline}. "
        f"Model: {manifest['refit']['message']}. "
        + ("The figures are those of the model before the refit." if manifest["refit"]["done"] else ""),
    ]
    if manifest["gates"]:
        parts += [
            "## Gates",
            _table(("gate", "outcome", "why"), [(g["name"], g["outcome"], g["message"]) for g in manifest["gates"]]),
        ]
    parts += [
        "## Inputs",
        _table(
            ("column", "type", "may be missing"), [(i["name"], i["datatype"], "yes" if i["nullable"] else "no") for i in inputs]
        ),
        "## How it was made",
        f"- {data['rows']} rows from {data['files']} files, digest `{manifest['dataDigest']}`"
        + (f"; {data['dropped']} rows without a target were left out" if data["dropped"] else ""),
        f"- Parameters: `{estimator['parameters']}`",
        f"- Engine: {manifest['engine']}{' (' + manifest['engineReason'] + ')' if manifest['engineReason'] else ''}",
        "- " + ", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
        *(f"- scikit-learn warned: {warning}" for warning in manifest["warnings"]),
    ]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ").strip() + "\n"


def _metric_rows(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    constant = {metric["name"]: metric["value"] for metric in metrics if metric["dataset"] == "baseline"}
    return [
        (metric["name"], f"{metric['value']:.4f}", f"{constant[metric['name']]:.4f}" if metric["name"] in constant else "")
        for metric in metrics
        if metric["dataset"] == "test"
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])
