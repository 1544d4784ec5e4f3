"""The model card: front matter that a hub reads, and text from data that stays text in Markdown."""

from typing import Any

import pytest
import yaml

from kaizen.training.report.card import model_card

INPUTS = [{"name": "distance", "datatype": "FP64", "nullable": True}, {"name": "carrier", "datatype": "BYTES", "nullable": False}]
SECTIONS = [
    "Intended uses and limits", "Inputs", "Training procedure", "How good it is", "Gates", "What it answers by", "Data",
    "How to start", "Environment",
]  # fmt: skip
HOSTILE = "a|b`c`<script>*x*\n# [l](http://e)"


def manifest(**more: Any) -> dict[str, Any]:
    """One as it was before anything optional existed."""
    return {
        "model": "flight-delay", "task": "Classification", "trainedUntil": "2013-03-31T23:00:00Z",
        "dataDigest": "sha256:" + "ab" * 32, "estimator": {"name": "LogisticRegression", "parameters": {"C": 0.5}},
        "data": {"rows": 1000, "dropped": 0, "target": "late", "features": ["distance", "carrier"], "files": 2},
        "split": {"method": "Temporal", "testShare": 0.2, "trainRows": 800, "testRows": 200},
        "refit": {"done": True, "distance": 0.01, "message": "refitted on all rows"}, "engine": "compiled", "engineReason": "",
        "versions": {"python": "3.13", "scikit-learn": "1.9.1"}, "warnings": [], "gates": [],
        "metrics": [{"name": "roc_auc", "value": 0.75, "low": 0.7, "high": 0.8, "dataset": "test"},
                    {"name": "log_loss", "value": 0.5, "dataset": "test"},
                    {"name": "roc_auc", "value": 0.5, "dataset": "baseline"}],
        **more,
    }  # fmt: skip


def front(card: str) -> dict[str, Any]:
    start, matter, _ = card.split("---\n", 2)
    assert start == ""
    read: dict[str, Any] = yaml.safe_load(matter)
    return read


FULL: dict[str, Any] = {
    "gates": [
        {"name": "fair", "metric": "roc_auc", "passed": False, "outcome": "Failed", "message": "roc_auc is 0.61 where carrier=OO",
         "details": [{"name": "carrier=OO", "value": 0.61, "low": 0.5, "high": 0.7, "rows": 230, "passed": False}]},
    ],
    "importance": [{"column": f"c{place}", "value": 0.1, "deviation": 0.01} for place in range(12)],
    "anomalies": [{"code": "DUPLICATE_ROWS", "severity": "Warning", "column": None, "message": "34 rows repeat an earlier one"}],
    "calibration": {"method": "Sigmoid", "brierBefore": 0.2, "brierAfter": 0.19, "message": "Sigmoid, on answers out of fold"},
    "decision": {"threshold": 0.28, "message": "the best f1 on inner folds"},
    "search": {"message": "40 trials"},
    "codeDigest": "sha256:" + "ef" * 32,
    "modelDigest": "sha256:" + "cd" * 32,
}  # fmt: skip


def test_front_matter_is_what_a_hub_reads() -> None:
    read = front(model_card(manifest(), INPUTS))
    assert (read["library_name"], read["pipeline_tag"]) == ("sklearn", "tabular-classification")
    assert read["tags"][:3] == ["sklearn", "skops", "kaizen"]
    assert read["metrics"] == ["roc_auc", "log_loss"]
    assert read["datasets"] == ["flight-delay-abababababab"]
    (index,) = read["model-index"]
    (result,) = index["results"]
    assert index["name"] == "flight-delay"
    assert result["task"]["type"] == "tabular-classification"
    assert set(result["dataset"]) == {"type", "name", "split"}
    assert [(one["type"], one["value"]) for one in result["metrics"]] == [("roc_auc", 0.75), ("log_loss", 0.5)]


def test_a_regression_is_one() -> None:
    metrics = [{"name": "rmse", "value": 3.0, "dataset": "test"}]
    read = front(model_card(manifest(task="Regression", metrics=metrics, trainedUntil=None), INPUTS))
    assert (read["pipeline_tag"], read["metrics"]) == ("tabular-regression", ["rmse"])


@pytest.mark.parametrize("more", [{}, FULL], ids=["before", "full"])
def test_the_sections(more: dict[str, Any]) -> None:
    card = model_card(manifest(**more), INPUTS)
    found = [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")]
    assert found == [name for name in SECTIONS if more or name not in ("Gates", "What it answers by")]
    assert "| roc_auc | 0.7500 | 0.7000 to 0.8000 | 0.5000 |" in card
    assert "The figures are those of the model before the refit." in card
    assert "None" not in card
    assert "\n\n\n" not in card


def test_what_a_run_adds_is_told() -> None:
    card = model_card(manifest(**FULL), INPUTS)
    for told in (
        "**It may not serve, because gate fair failed: roc_auc is 0.61 where carrier=OO.**",
        "| carrier=OO | 230 | 0.6100 | 0.5000 to 0.7000 | no |",
        "| DUPLICATE_ROWS | Warning |  | 34 rows repeat an earlier one |",
        "- Calibration: Sigmoid, on answers out of fold",
        "- Decision threshold: 0.28, the best f1 on inner folds",
        "- Search: 40 trials",
        "- Code digest `sha256:ef",
        "| `c9` | 0.1000 | ± 0.0100 |",
    ):
        assert told in card, told
    assert "`c10`" not in card


def test_text_from_data_stays_text() -> None:
    gates = [{"name": "fair", "metric": "f1", "passed": False, "outcome": "Failed", "message": HOSTILE}]
    anomalies = [{"code": "X", "severity": "Error", "column": HOSTILE, "message": HOSTILE}]
    more = {"gates": gates, "warnings": [HOSTILE], "anomalies": anomalies,
            "importance": [{"column": HOSTILE, "value": 1.0, "deviation": 0.0}]}  # fmt: skip
    card = model_card(manifest(**more, model="m"), [{"name": HOSTILE, "datatype": "FP64", "nullable": True}])
    assert not any(line.startswith("# [") for line in card.splitlines())
    body = card.split("---\n", 2)[2]
    for raw in ("<script>*", "[l]("):
        outside = "".join(body.split("`")[::2])
        assert raw not in outside
    rows = [line for line in body.splitlines() if line.startswith("|")]
    tables = [row.replace("\\|", "").count("|") for row in rows]
    assert set(tables) <= {3, 4, 5, 6, 7}
    assert yaml.safe_load(card.split("---\n", 2)[1])["model-index"][0]["name"] == "m"
