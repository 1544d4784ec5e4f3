"""The metrics that a gate, a search or a decision may name: of which task, and which direction is better."""

CLASSIFICATION_METRICS = (
    "log_loss", "brier", "calibration_gap", "roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "precision",
    "recall", "matthews",
)  # fmt: skip
REGRESSION_METRICS = ("rmse", "mae", "median_error", "r2")
FAIRNESS_METRICS = (
    "demographic_parity_difference", "demographic_parity_ratio", "equal_opportunity_difference", "equal_opportunity_ratio",
    "equalized_odds_difference", "equalized_odds_ratio",
)  # fmt: skip
"""Fairlearn's names, between groups of one sensitive feature; of a classification of two classes."""
LATENCY_METRICS = ("latency_p50_seconds", "latency_p99_seconds")
"""Of requests of one row to the real server process."""

BETTER_HIGHER = frozenset(
    {
        "roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "precision", "recall", "matthews", "r2",
        "demographic_parity_ratio", "equal_opportunity_ratio", "equalized_odds_ratio",
    }
)  # fmt: skip
"""Of the other metrics less is better."""


def model_metrics(task: str) -> tuple[str, ...]:
    """What evaluation computes for a task."""
    return CLASSIFICATION_METRICS if task == "Classification" else REGRESSION_METRICS
