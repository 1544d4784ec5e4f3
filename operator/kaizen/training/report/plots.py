"""Plots of how good a model is on the test rows: probabilities, decisions, and errors of numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kaizen.training.report.canvas import FIRST, INK, MUTED, SECOND, SERIES, Plot, clean, draw, number

__all__ = ["classification_plots", "confusion", "regression_plots", "reliability"]

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

SIZE = (4.6, 3.3)
POINT = "#3b8fc9"
"""Points drawn as pixels cannot follow the theme: visible on light and dark."""
BINS = 10
MOST_POINTS = 2000
CURVE_POINTS = 200
MOST_CURVES = 5
MOST_CLASSES = 12


def classification_plots(
    answers: Numbers, target: npt.NDArray[Any], classes: Sequence[Any], threshold: float | None = None
) -> tuple[Plot, ...]:
    """Calibration, ROC, precision and recall, threshold (two classes), confusion.

    Args:
        answers: probabilities (rows, classes).
        target: the truth (rows,).
        classes: in the order of the columns of `answers`.
        threshold: of the second of two classes; the likelier class is answered when None.
    """
    known = np.array([target == one for one in classes]).T
    used = [1] if len(classes) == 2 else _most(known.sum(axis=0), MOST_CURVES)
    curves = [(clean(classes[one], 16), answers[:, one], known[:, one]) for one in used]
    made = [reliability(answers, known, classes)]
    if any(0 < truth.sum() < len(truth) for _, _, truth in curves):
        made += [_roc(curves, threshold), _precision_recall(curves, threshold)]
    if len(classes) == 2 and 0 < known[:, 1].sum() < len(known):
        made.append(_thresholds(answers[:, 1], known[:, 1], threshold, clean(classes[1], 16)))
    made.append(confusion(answers, known, classes, threshold))
    return tuple(made)


def reliability(answers: Numbers, known: Flags, classes: Sequence[Any]) -> Plot:
    """Predicted against true shares in bins of equally many rows, and how many rows have which probability.

    With two classes of the second one's probability; with more, of the likeliest class and whether it is right.
    """
    if len(classes) == 2:
        scores, truth, what = answers[:, 1], known[:, 1], f"probability of {clean(classes[1], 16)}"
    else:
        scores, what = answers.max(axis=1), "probability of the likeliest class"
        truth = known[np.arange(len(known)), answers.argmax(axis=1)]
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, BINS + 1)))
    chosen = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, max(len(edges) - 2, 0))
    counts = np.bincount(chosen)
    filled = counts > 0
    predicted = np.bincount(chosen, scores)[filled] / counts[filled]
    true = np.bincount(chosen, truth)[filled] / counts[filled]
    error = np.sqrt(np.clip(true * (1 - true), 0, None) / counts[filled])

    def paint(figure: Any) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        above.errorbar(predicted, true, yerr=1.96 * error, color=FIRST, marker="o", elinewidth=0.9)
        above.set(ylabel="true share", ylim=(-0.02, 1.02), xlim=(-0.02, 1.02))
        below.hist(scores, bins=np.linspace(0, 1, 31), color=FIRST)
        below.set(ylabel="rows", xlabel=what)
        _few(below.yaxis, 2)

    worst = int(np.abs(predicted - true).argmax())
    alt = (
        f"Calibration curve. Where the model says {number(float(predicted[worst]))} on average, the share is "
        f"{number(float(true[worst]))}: the furthest of {len(true)} groups of rows."
    )
    return draw("calibration", "Calibration", alt, (SIZE[0], SIZE[1] * 1.15), paint)


def confusion(answers: Numbers, known: Flags, classes: Sequence[Any], threshold: float | None = None) -> Plot:
    """True against answered classes; of many the most frequent, the others together."""
    decided = answers.argmax(axis=1)
    if threshold is not None and len(classes) == 2:
        decided = (answers[:, 1] >= threshold).astype(np.intp)
    # A class that the model does not know counts among the others.
    truth = np.where(known.any(axis=1), known.argmax(axis=1), len(classes))
    shown = sorted(_most(known.sum(axis=0), MOST_CLASSES))
    place = np.full(len(classes) + 1, len(shown))
    place[shown] = np.arange(len(shown))
    others = len(shown) < len(classes) or bool((truth == len(classes)).any())
    size = len(shown) + others
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (place[truth], place[decided]), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [clean(classes[one], 12) for one in shown] + ["others"] * others

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for row in range(size):
            for column in range(size):
                box = (column - 0.5, row - 0.5)
                share = float(shares[row, column])
                axes.add_patch(_rectangle(box, FIRST if row == column else SECOND, 0.06 + 0.5 * share))
                shown_text = number(int(counts[row, column])) if size <= 8 else f"{share:.0%}" if share >= 0.005 else ""
                below = f"\n{share:.0%}" if size <= 5 else ""
                axes.text(column, row, shown_text + below, ha="center", va="center", fontsize=9 if size <= 8 else 7, color=INK)
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel="answer", ylabel="truth")
        axes.set_xticks(range(size), names, rotation=0 if size <= 4 else 60, ha="center" if size <= 4 else "right",
                        rotation_mode="anchor")  # fmt: skip
        axes.set_yticks(range(size), names)
        axes.grid(False)

    right = f"{np.trace(counts[: len(shown), : len(shown)]) / max(int(counts.sum()), 1):.1%}"
    at = f" Answers are by the threshold {number(threshold)}." if threshold is not None else ""
    alt = (
        f"Confusion matrix of {int(counts.sum())} test rows: {right} are answered rightly.{at} Percentages are of the true class."
    )
    return draw("confusion", "Confusion matrix", alt, (SIZE[0], SIZE[1] * (1 if size <= 5 else 1.5)), paint)


def regression_plots(answers: Numbers, target: npt.NDArray[Any]) -> tuple[Plot, ...]:
    """Predicted against true values, the residuals' histogram, and residuals by prediction."""
    truth = target.astype(np.float64)
    residuals = truth - answers
    some = _spread(len(truth))

    def predicted(figure: Any) -> None:
        axes = figure.subplots()
        low, high = float(min(truth.min(), answers.min())), float(max(truth.max(), answers.max()))
        axes.plot([low, high], [low, high], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.scatter(answers[some], truth[some], s=7, color=POINT, alpha=0.45, linewidths=0, rasterized=len(some) > 300)
        axes.set(xlabel="prediction", ylabel="truth")

    def histogram(figure: Any) -> None:
        axes = figure.subplots()
        low, high = np.quantile(residuals, [0.005, 0.995])
        axes.hist(np.clip(residuals, low, high), bins=40, color=FIRST)
        axes.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set(xlabel="residual: truth − prediction", ylabel="rows")

    def by_prediction(figure: Any) -> None:
        axes = figure.subplots()
        edges = np.unique(np.quantile(answers, np.linspace(0, 1, 21)))
        chosen = np.clip(np.searchsorted(edges, answers, side="right") - 1, 0, max(len(edges) - 2, 0))
        groups = [(answers[chosen == one].mean(), np.quantile(residuals[chosen == one], [0.1, 0.5, 0.9]))
                  for one in np.unique(chosen)]  # fmt: skip
        middle, spread = np.array([one for one, _ in groups]), np.array([one for _, one in groups])
        axes.fill_between(middle, spread[:, 0], spread[:, 2], color=FIRST, alpha=0.2, linewidth=0, label="80 % of the rows")
        axes.plot(middle, spread[:, 1], color=FIRST, marker="o", label="median")
        axes.axhline(0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set(xlabel="prediction", ylabel="residual")
        axes.legend(loc="best")

    half, bias = float(np.median(np.abs(residuals))), float(residuals.mean())
    return (
        draw("predicted", "Predicted and true values",
             f"True against predicted values of {len(some)} test rows; half are within {number(half)} of the diagonal.",
             SIZE, predicted),
        draw("residuals", "Residuals",
             f"Histogram of the residuals: their mean is {number(bias)}, half are within {number(half)}.",
             SIZE, histogram),
        draw("residuals-by-prediction", "Residuals by prediction",
             "Median and middle 80 % of the residuals in groups of rows of rising prediction.", SIZE, by_prediction),
    )  # fmt: skip


def _roc(curves: Sequence[tuple[str, Numbers, Flags]], threshold: float | None) -> Plot:
    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        for (name, scores, truth), colour in zip(curves, SERIES, strict=False):
            if not 0 < truth.sum() < len(truth):
                continue
            cuts, hit, alarm = _cuts(scores, truth)
            axes.plot(np.append(0, alarm), np.append(0, hit), color=colour, label=name)
            _mark(axes, cuts, alarm, hit, threshold if len(curves) == 1 else None)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        if len(curves) > 1 or threshold is not None:
            axes.legend(loc="lower right")

    of = f"of {curves[0][0]}" if len(curves) == 1 else f"of {len(curves)} classes, each against the others"
    return draw("roc", "ROC curve", f"Receiver operating characteristic {of}; the dashed diagonal is chance.", SIZE, paint)


def _precision_recall(curves: Sequence[tuple[str, Numbers, Flags]], threshold: float | None) -> Plot:
    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for (name, scores, truth), colour in zip(curves, SERIES, strict=False):
            if not truth.any():
                continue
            cuts, hit, _, precision = _cuts_and_precision(scores, truth)
            axes.plot(hit, precision, color=colour, label=name)
            _mark(axes, cuts, hit, precision, threshold if len(curves) == 1 else None)
            if len(curves) == 1:
                axes.axhline(float(truth.mean()), color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        if len(curves) > 1 or threshold is not None:
            axes.legend(loc="best")

    share = f"; always answering it would have precision {number(float(curves[0][2].mean()))}" if len(curves) == 1 else ""
    of = f"of {curves[0][0]}" if len(curves) == 1 else f"of {len(curves)} classes, each against the others"
    return draw("precision-recall", "Precision and recall", f"Precision by recall {of}{share}.", SIZE, paint)


def _thresholds(scores: Numbers, truth: Flags, threshold: float | None, name: str) -> Plot:
    cuts, hit, _, precision = _cuts_and_precision(scores, truth)
    used = 0.5 if threshold is None else threshold

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        with np.errstate(invalid="ignore"):
            harmonic = np.nan_to_num(2 * precision * hit / (precision + hit))
        for values, colour, label in ((precision, FIRST, "precision"), (hit, SECOND, "recall"), (harmonic, SERIES[2], "F1")):
            axes.plot(cuts, values, color=colour, label=label)
        axes.axvline(used, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(f"used: {used:.3g}", (used, 1.03), ha="left" if used < 0.7 else "right", va="bottom",
                      annotation_clip=False, fontsize=8.5)  # fmt: skip
        axes.set(xlabel=f"threshold: from here on the answer is {name}", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(loc="best")

    alt = f"Precision, recall and F1 of {name} by threshold; {number(used)} is used."
    return draw("threshold", "Decision threshold", alt, SIZE, paint)


def _cuts_and_precision(scores: Numbers, truth: Flags) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    order = np.argsort(-scores, kind="stable")
    ordered, positive = scores[order], truth[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    hits, alarms = np.cumsum(positive)[ends], np.cumsum(~positive)[ends]
    if len(ends) > CURVE_POINTS:
        # Evenly along the curve, whose length is that of hits and alarms.
        length = hits / max(hits[-1], 1) + alarms / max(alarms[-1], 1)
        kept = np.unique(np.searchsorted(length, np.linspace(length[0], length[-1], CURVE_POINTS)))
        ends, hits, alarms = ends[kept], hits[kept], alarms[kept]
    return (
        np.asarray(ordered[ends], dtype=np.float64),
        hits / max(int(truth.sum()), 1),
        alarms / max(int((~truth).sum()), 1),
        hits / (hits + alarms),
    )


def _cuts(scores: Numbers, truth: Flags) -> tuple[Numbers, Numbers, Numbers]:
    """Of falling thresholds: the threshold, the share of the positives above it, and of the negatives."""
    cuts, hit, alarm, _ = _cuts_and_precision(scores, truth)
    return cuts, hit, alarm


def _mark(axes: Any, cuts: Numbers, across: Numbers, up: Numbers, threshold: float | None) -> None:
    if threshold is None or not (cuts >= threshold).any():
        return
    at = int((cuts >= threshold).sum()) - 1
    axes.plot([across[at]], [up[at]], color=SECOND, marker="o", linestyle="none", label=f"threshold {threshold:.3g}")


def _rectangle(corner: tuple[float, float], colour: str, alpha: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, 1, 1, facecolor=colour, alpha=alpha, linewidth=0)


def _most(counts: npt.NDArray[np.int64], most: int) -> list[int]:
    return [int(one) for one in np.argsort(-counts, kind="stable")[:most]]


def _spread(rows: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, rows - 1, min(rows, MOST_POINTS)).astype(np.int64))


def _few(axis: Any, most: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=most, integer=True))
