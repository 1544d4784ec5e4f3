"""Plots of what a model answers by: importance, attributions, partial dependence."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from kaizen.training.report.canvas import FIRST, INK, MUTED, SERIES, Plot, clean, date_axis, draw, number
from kaizen.training.report.explain import Attributions, Dependence, Explanation

__all__ = ["explanation_plots"]

SIZE = (4.6, 3.3)
MOST_BARS = 15
MOST_SWARMS = 10
ROW = 0.235
"""Inches that one of many names needs."""


def explanation_plots(found: Explanation) -> tuple[Plot, ...]:
    """Importance, the parts of single answers with SHAP, and partial dependence."""
    if not found.importances:
        return ()
    made = [_importance(found)]
    if found.attributions is not None:
        made.append(_swarm(found, found.attributions))
    shown = [one for one in found.dependences if one.values]
    ends = _ends(shown)
    made += [_dependence(one, f"dependence-{place}", ends) for place, one in enumerate(shown)]
    return tuple(made)


def _importance(found: Explanation) -> Plot:
    shown = found.importances[:MOST_BARS]
    shap = found.method == "SHAP"

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        places = np.arange(len(shown))
        axes.barh(places, [one.value for one in shown], xerr=[one.deviation for one in shown], color=FIRST, height=0.65,
                  error_kw={"ecolor": INK, "elinewidth": 0.9})  # fmt: skip
        axes.set_yticks(places, [clean(one.column, 18) for one in shown])
        axes.set(xlabel="mean size of its part in an answer" if shap else f"growth of {found.metric} when shuffled")
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)

    first = ", ".join(f"{clean(one.column)} ({number(one.value)})" for one in shown[:3])
    alt = f"Importance of the {len(shown)} most important of {len(found.importances)} columns; first {first}."
    return draw("importance", "Importance by SHAP" if shap else "Permutation importance", alt, _tall(len(shown)), paint)


def _swarm(found: Explanation, parts: Attributions) -> Plot:
    """Of several outputs the one whose parts are largest."""
    names = [one.column for one in found.importances[:MOST_SWARMS]]
    output = int(np.abs(parts.values).sum(axis=(0, 1)).argmax())
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(parts.values))

    def paint(figure: Any) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes = figure.subplots()
        axes.axvline(0, color=MUTED, linewidth=0.8)
        blend = LinearSegmentedColormap.from_list("level", ["#56b4e9", "#8f7fb5", "#d55e00"])
        for place, name in enumerate(names):
            column = parts.columns.index(name)
            levels = parts.levels[:, column]
            colours = np.where(np.isnan(levels)[:, None], (0.5, 0.5, 0.5, 1.0), blend(np.nan_to_num(levels)))
            axes.scatter(parts.values[:, column, output], place + spread, s=6, c=colours, linewidths=0, rasterized=True)
        axes.set_yticks(np.arange(len(names)), [clean(one, 18) for one in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set(xlabel="part in the answer; blue: low value, orange: high")
        axes.tick_params(axis="y", length=0)

    alt = f"SHAP values of {len(parts.values)} rows for the {len(names)} most important columns, coloured by the column's value."
    return draw("attributions", "Parts of single answers", alt, _tall(len(names)), paint)


def _dependence(one: Dependence, name: str, ends: tuple[float, float]) -> Plot:
    curves = list(one.curves.items())
    label = "mean answer" if "answer" in one.curves and len(curves) == 1 else "mean probability"

    def numbers(figure: Any) -> None:
        axes = figure.subplots()
        across: list[Any] = list(one.values)
        if one.kind == "Time":
            across = [datetime.fromtimestamp(float(value), UTC) for value in one.values]
        if one.low is not None and one.high is not None:
            axes.fill_between(across, one.low, one.high, color=FIRST, alpha=0.16, linewidth=0)
        for (curve, heights), colour in zip(curves, SERIES, strict=False):
            axes.plot(across, heights, color=colour, label=clean(curve, 16))
        axes.plot(across, [ends[0]] * len(across), color=MUTED, linestyle="none", marker="|", markersize=5)
        axes.set(ylabel=label, ylim=ends)
        if one.kind == "Time":
            date_axis(axes, 6)
        _legend(axes, len(curves))

    def categories(figure: Any) -> None:
        axes = figure.subplots()
        places = np.arange(len(one.values))
        for (curve, heights), colour, shift in zip(curves, SERIES, _shifts(len(curves)), strict=False):
            errors = None
            if one.low is not None and one.high is not None:
                # The mean may lie outside the middle 80 % of a skewed answer.
                errors = np.clip([np.subtract(heights, one.low), np.subtract(one.high, heights)], 0, None)
            axes.errorbar(heights, places + shift, xerr=errors, color=colour, fmt="o", elinewidth=3, ecolor=(*_rgb(colour), 0.25),
                          label=clean(curve, 16))  # fmt: skip
        axes.set_yticks(places, [clean(value, 14) for value in one.values])
        axes.set_ylim(len(one.values) - 0.4, -0.6)
        axes.set(xlabel=label, xlim=ends)
        axes.grid(False, axis="y")
        _legend(axes, len(curves))

    paint = categories if one.kind == "Category" else numbers
    curve, heights = curves[0]
    low, high = int(np.argmin(heights)), int(np.argmax(heights))
    alt = (
        f"Partial dependence on {clean(one.column)}: the mean answer for {clean(curve)} is lowest, {number(heights[low])}, "
        f"at {_value(one, low)} and highest, {number(heights[high])}, at {_value(one, high)}."
    )
    size = _tall(len(one.values)) if one.kind == "Category" else (SIZE[0], 2.6)
    return draw(name, clean(one.column, 40), alt, size, paint)


def _ends(shown: Sequence[Dependence]) -> tuple[float, float]:
    """Of the answers in all plots, which share their scale: a column that moves little looks so."""
    heights = [height for one in shown for curve in (*one.curves.values(), one.low or (), one.high or ()) for height in curve]
    if not heights:
        return 0.0, 1.0
    low, high = min(heights), max(heights)
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _value(one: Dependence, place: int) -> str:
    value = one.values[place]
    if one.kind == "Time":
        return datetime.fromtimestamp(float(value), UTC).date().isoformat()
    return number(value) if isinstance(value, float) else clean(value)


def _legend(axes: Any, curves: int) -> None:
    if curves > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=curves, borderaxespad=0.2)


def _tall(rows: int) -> tuple[float, float]:
    return SIZE[0], max(1.6, 0.75 + ROW * rows)


def _shifts(count: int) -> list[float]:
    return [0.0] if count == 1 else [float(one) for one in np.linspace(-0.25, 0.25, count)]


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    return float(red), float(green), float(blue)
