"""A model in three sentences, for its card and its report: what was trained, whether it is good enough, whether it may serve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kaizen.api.metrics import BETTER_HIGHER
from kaizen.training.report.canvas import clean, figure, number

__all__ = ["MEANINGS", "Verdict", "compared", "held_out", "interval", "verdict"]

MEANINGS: Mapping[str, str] = {
    "log_loss": "how surprised the model is by the truth; punishes sure and wrong answers",
    "brier": "mean square error of the probabilities",
    "calibration_gap": "how far the mean probability of a class is from its share",
    "roc_auc": "how often a row of the class scores above one that is not; 0.5 is chance",
    "average_precision": "mean precision over all recalls; a constant answer has the class's share",
    "accuracy": "share of right answers",
    "balanced_accuracy": "mean over the classes of the share answered rightly",
    "f1": "harmonic mean of precision and recall",
    "precision": "share of the answered class that is right",
    "recall": "share of the true class that is found",
    "matthews": "correlation of answer and truth; 0 is chance",
    "rmse": "root of the mean square error, in the target's unit",
    "mae": "mean size of the error, in the target's unit",
    "median_error": "half of the errors are smaller, in the target's unit",
    "r2": "share of the variance that is explained",
}
"""Of metrics, in a few words."""

Tone = Literal["good", "warn", "bad"]


@dataclass(frozen=True)
class Verdict:
    """Three sentences and how they sound together."""

    trained: str
    good: str
    serves: str
    tone: Tone
    word: str
    """The verdict itself: May serve, May not serve."""


def verdict(manifest: Mapping[str, Any]) -> Verdict:
    """Of a manifest as model_card takes it."""
    estimator, data = manifest["estimator"], manifest["data"]
    until = f" until {manifest['trainedUntil']}" if manifest.get("trainedUntil") else ""
    name, target = clean(estimator["name"], 120), clean(data["target"], 120)
    trained = f"{name} was trained to predict {target} from {number(data['rows'])} rows{until}."
    good, better = _good(manifest)
    gates = manifest.get("gates") or []
    failed = [gate for gate in gates if gate.get("passed") is False and gate.get("required") is not False]
    warned = [gate for gate in gates if gate.get("passed") is False and gate.get("required") is False]
    unsure = [gate for gate in gates if gate["outcome"] in ("Skipped", "NotComparable")]
    if failed:
        first = failed[0]
        more = f" {len(failed) - 1} more failed: {_names(failed[1:])}." if failed[1:] else ""
        said = f"It may not serve, because gate {first['name']} failed: {clean(first['message'], 1000).rstrip('.')}.{more}"
        return Verdict(trained, good, said, "bad", "May not serve")
    if not gates:
        serves = "It may serve: no gate was declared."
    elif len(unsure) == len(gates):
        serves = f"It may serve: no gate failed, but none could judge either ({clean(unsure[0]['message'], 300).rstrip('.')})."
    else:
        rest = f"; {len(unsure)} could not judge: {_names(unsure)}" if unsure else ""
        passed = len(gates) - len(unsure) - len(warned)
        serves = f"It may serve: {passed} of {len(gates)} gates passed and none that is required failed{rest}."
    if warned:
        serves += f" Failed without being required: {_names(warned)}."
    return Verdict(trained, good, serves, "good" if better and gates and not warned and not unsure else "warn", "May serve")


def compared(metric: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> tuple[float | None, bool | None]:
    """The baseline's figure of the same metric, and whether this one is better: None where chance may explain the difference."""
    constant = next((one["value"] for one in metrics if one["name"] == metric["name"] and one["dataset"] == "baseline"), None)
    if constant is None or metric["name"] == "calibration_gap":
        # A constant answer is calibrated by nature.
        return constant, None
    sign = 1 if metric["name"] in BETTER_HIGHER else -1
    ends = [metric.get("low"), metric.get("high")]
    gains = [sign * (end - constant) for end in (ends if None not in ends else [metric["value"]])]
    return constant, True if min(gains) > 0 else False if max(gains) < 0 else None


def interval(metric: Mapping[str, Any]) -> str:
    """Both ends, or nothing."""
    ends = metric.get("low"), metric.get("high")
    return "" if None in ends else f"{figure(ends[0])} to {figure(ends[1])}"


def held_out(split: Mapping[str, Any]) -> str:
    """Which rows judged the model."""
    return {
        "Temporal": "the newest",
        "Grouped": "whole groups, a stable random share",
        "Stratified": "a stable random share of each class",
    }.get(split["method"], "a stable random share")


def _good(manifest: Mapping[str, Any]) -> tuple[str, bool]:
    metrics, rows = manifest.get("metrics") or [], manifest["split"]["testRows"]
    classification = manifest["task"] == "Classification"
    wanted = "log_loss" if classification else "rmse"
    of_test = [one for one in metrics if one["dataset"] == "test"]
    one = next((metric for metric in of_test if metric["name"] == wanted), None)
    if one is None:
        return f"It was judged on {number(rows)} rows held out.", False
    constant, better = compared(one, metrics)
    ends = f" ({interval(one)})" if interval(one) else ""
    said = f"On {number(rows)} rows that it had not seen its {wanted} is {figure(one['value'])}{ends}"
    auc = next((metric for metric in of_test if metric["name"] == ("roc_auc" if classification else "r2")), None)
    also = f"; its {auc['name']} is {figure(auc['value'])}" if auc else ""
    if constant is None:
        return f"{said}{also}.", False
    always = "the classes' shares" if classification else "the mean"
    word = {True: "better than", None: "not clearly better than", False: "worse than"}[better]
    return f"{said}, {word} the {figure(constant)} of always answering {always}{also}.", better is True


def _names(gates: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(clean(gate["name"], 63) for gate in gates)
