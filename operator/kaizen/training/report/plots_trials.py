"""Plots of a search: its history, and which parameters the good trials have."""

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kaizen.training.report.canvas import FIRST, MUTED, SECOND, Plot, clean, draw, number

if TYPE_CHECKING:
    from kaizen.training.search.trials import Trial

__all__ = ["trial_plots"]

MOST_LINES = 200
MOST_AXES = 8
MOST_VALUES = 12


def trial_plots(trials: "Sequence[Trial]", metric: str, direction: str) -> tuple[Plot, ...]:
    """History, and parallel coordinates when two trials or more have ended.

    Args:
        trials: in any order.
        metric: the objective.
        direction: Minimize or Maximize.
    """
    done = sorted((one for one in trials if one.state == "Complete" and one.value is not None), key=lambda one: one.number)
    if not done:
        return ()
    sign = 1.0 if direction == "Minimize" else -1.0
    made = [_history(trials, done, metric, sign)]
    names = _varied(done)
    if len(done) > 1 and names:
        made.append(_parallel(done, names, metric, sign))
    return tuple(made)


def _value(trial: "Trial") -> float:
    return math.nan if trial.value is None else trial.value


def _history(trials: "Sequence[Trial]", done: "Sequence[Trial]", metric: str, sign: float) -> Plot:
    numbers, values = [one.number for one in done], np.array([_value(one) for one in done])
    best = sign * np.minimum.accumulate(sign * values)
    ended = {
        state: [one for one in trials if one.state == state and one.value is not None and math.isfinite(one.value)]
        for state in ("Pruned",)
    }

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        pruned = ended["Pruned"]
        # One very bad trial must not flatten all the others.
        low, high = np.quantile(values, [0.0, 0.9] if sign > 0 else [0.1, 1.0])
        margin = 0.15 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + margin)
        axes.scatter(numbers, np.clip(values, low - margin, high + margin), s=14, color=FIRST, alpha=0.6, linewidths=0,
                     label="trial", clip_on=False)  # fmt: skip
        if pruned:
            axes.scatter([one.number for one in pruned], np.clip([_value(one) for one in pruned], low - margin, high + margin),
                         s=14, marker="x", color=MUTED, linewidths=0.9, label="pruned", clip_on=False)  # fmt: skip
        axes.step(
            [*numbers, max(one.number for one in trials)], [*best, best[-1]], where="post", color=SECOND, label="best so far"
        )
        axes.set(xlabel="trial", ylabel=metric)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
        axes.xaxis.get_major_locator().set_params(integer=True)

    failed = sum(one.state == "Failed" for one in trials)
    alt = (
        f"{metric} of {len(done)} finished trials; the best has {number(float(best[-1]))}. "
        f"{len(ended['Pruned'])} were pruned with a value, {failed} failed. Values far from the best are drawn at the edge."
    )
    return draw("trials", "Trials", alt, (4.6, 3.1), paint)


def _parallel(done: "Sequence[Trial]", names: Sequence[str], metric: str, sign: float) -> Plot:
    ordered = sorted(done, key=lambda one: (sign * _value(one), one.number))
    shown = [ordered[place] for place in np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), MOST_LINES)).astype(int))]
    axes_of = [_Axis(name, [one.parameters.get(name) for one in shown]) for name in names]
    axes_of.append(_Axis(metric, [one.value for one in shown]))
    heights = np.array([axis.heights for axis in axes_of]).T

    def paint(figure: Any) -> None:
        from matplotlib.collections import LineCollection

        axes = figure.subplots()
        across = np.arange(len(axes_of))
        share = np.linspace(1, 0, len(shown)) ** 2
        lines = [np.column_stack([across, row]) for row in heights]
        # The best are drawn last and strongest.
        axes.add_collection(LineCollection(lines[:0:-1], colors=FIRST, linewidths=0.9, alpha=0.08 + 0.5 * share[:0:-1]))
        axes.plot(across, heights[0], color=SECOND, linewidth=2)
        for place, axis in enumerate(axes_of):
            axes.axvline(place, color=MUTED, linewidth=0.8)
            for height, text in axis.ticks:
                axes.annotate(text, (place, height), xytext=(3, 0), textcoords="offset points", fontsize=7.5, va="center",
                              bbox={"facecolor": "#fefefe", "edgecolor": "none", "pad": 0.6, "alpha": 0.75})  # fmt: skip
        axes.set(xlim=(-0.15, len(axes_of) - 0.4), ylim=(-0.05, 1.05), yticks=[])
        axes.set_xticks(across, [clean(axis.name, 22) for axis in axes_of], rotation=18, ha="right", rotation_mode="anchor")
        axes.tick_params(axis="x", length=0)
        axes.grid(False)
        axes.spines[["left", "bottom"]].set_visible(False)

    best = ", ".join(f"{clean(name)} {clean(_text(ordered[0].parameters.get(name)), 20)}" for name in names)
    alt = f"Parallel coordinates of {len(shown)} trials over {len(names)} parameters; the best, drawn thick, has {best}."
    return draw("parallel", "Parameters of the trials", alt, (max(8.0, 1.15 * len(axes_of) + 0.6), 3.2), paint, wide=True)


class _Axis:
    """Where values lie between 0 and 1: on a linear or logarithmic scale, or one step for each distinct value."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name = name
        plain = [value for value in values if value is not None]
        if plain and all(isinstance(value, int | float) and not isinstance(value, bool) for value in plain):
            self._scale([float(value) for value in plain], [math.nan if value is None else float(value) for value in values])
        else:
            self._steps([_text(value) for value in values])

    def _scale(self, plain: Sequence[float], values: Sequence[float]) -> None:
        low, high = min(plain), max(plain)
        logarithmic = low > 0 and high / low >= 30
        ends = (math.log(low), math.log(high)) if logarithmic else (low, high)
        span = ends[1] - ends[0] or 1.0

        def height(value: float) -> float:
            return (((math.log(value) if logarithmic else value) - ends[0]) / span) if high > low else 0.5

        self.heights = [height(value) if value == value else math.nan for value in values]
        between = [ends[0] + part * span for part in (0.25, 0.5, 0.75)]
        marks = [low, *(math.exp(one) if logarithmic else one for one in between), high] if high > low else [low]
        self.ticks = [(height(mark), f"{mark:.3g}") for mark in marks]

    def _steps(self, values: Sequence[str]) -> None:
        distinct = sorted(set(values))
        places = {value: (place + 0.5) / len(distinct) for place, value in enumerate(distinct)}
        self.heights = [places[value] for value in values]
        self.ticks = [(places[value], clean(value, 14)) for value in distinct[:: max(1, math.ceil(len(distinct) / MOST_VALUES))]]


def _varied(done: "Sequence[Trial]") -> list[str]:
    """The parameters that differ between trials, in the order in which they first come."""
    names = list(dict.fromkeys(name for one in done for name in one.parameters))
    return [name for name in names if len({_text(one.parameters.get(name)) for one in done}) > 1][:MOST_AXES]


def _text(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)
