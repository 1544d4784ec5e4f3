"""The columns of the data, as a table and as a small distribution each."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from kaizen.training.data.statistics import QUANTILES, ColumnStatistics, Statistics
from kaizen.training.report.canvas import FIRST, Plot, clean, date_axis, draw, number
from kaizen.training.report.page import Markup, Table, join, paragraph, table

__all__ = ["MOST_ROWS", "column_plots", "statistics_table"]

MOST_PLOTS = 24
MOST_ROWS = 200
MOST_BARS = 6
LABEL = 12
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def statistics_table(found: Statistics, first: Sequence[str]) -> Markup:
    """Every column with counts and range, those named by `first` before the others; bounded."""
    ordered = _ordered(found, first)
    rows = [
        (
            one.name, one.type, f"{one.missing_share:.1%}" if one.missing else "",
            "" if one.distinct is None else number(one.distinct),
            _end(one, one.minimum), _quantile(one, 0.5), _end(one, one.maximum), _mean(one),
            ", ".join(clean(value, 20) for value, _ in one.top[:4]) if one.type in ("Text", "Boolean") else "",
        )
        for one in ordered[:MOST_ROWS]
    ]  # fmt: skip
    head = ("column", "type", "missing", "distinct", "least", "median", "greatest", "mean ± deviation", "most frequent")
    notes = [f"{len(ordered) - MOST_ROWS} more columns are not shown."] if len(ordered) > MOST_ROWS else []
    if found.duplicates:
        notes.append(f"{number(found.duplicates)} rows repeat an earlier one.")
    listed = Table(f"Columns of the {number(found.rows)} rows that were read", head, rows, frozenset({2, 3, 4, 5, 6, 7}))
    return join([table(listed), paragraph(" ".join(notes), "note")])


def column_plots(found: Statistics, first: Sequence[str]) -> tuple[Plot, ...]:
    """A histogram of each column of numbers or times, and bars of the most frequent values of the others; bounded."""
    return tuple(_plot(one, f"column-{place}") for place, one in enumerate(_drawn(found, first)))


def _drawn(found: Statistics, first: Sequence[str]) -> list[ColumnStatistics]:
    return [one for one in _ordered(found, first) if one.histogram or one.top][:MOST_PLOTS]


def _ordered(found: Statistics, first: Sequence[str]) -> list[ColumnStatistics]:
    places = {name: place for place, name in reversed(list(enumerate(first)))}
    return sorted(found.columns, key=lambda one: places.get(one.name, len(places) + 1))


def _plot(one: ColumnStatistics, name: str) -> Plot:
    shown = one.top[:MOST_BARS]
    bars = one.type in ("Text", "Boolean") or one.histogram is None
    gap = f" {one.missing_share:.1%} are missing." if one.missing else ""
    if bars:
        most = f"most frequent {clean(shown[0][0])} ({number(shown[0][1])} rows)"
        alt = f"Bars of the most frequent of {number(one.distinct)} values of {clean(one.name)}: {most}.{gap}"
    else:
        alt = f"Histogram of {clean(one.name)} from {_end(one, one.minimum)} to {_end(one, one.maximum)}.{gap}"

    def frequent(figure: Any) -> None:
        axes = figure.subplots()
        rest = one.rows - one.missing - sum(count for _, count in shown)
        labels = [clean(value, LABEL) for value, _ in shown] + ["others"] * (rest > 0)
        counts = [count for _, count in shown] + [rest] * (rest > 0)
        axes.barh(np.arange(len(counts)), counts, color=FIRST, height=0.7)
        axes.set_yticks(np.arange(len(counts)), labels)
        axes.set_ylim(max(len(counts), 4) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        _quiet(axes.xaxis)

    def histogram(figure: Any) -> None:
        assert one.histogram is not None
        axes = figure.subplots()
        edges, counts = np.array(one.histogram.edges), np.array(one.histogram.counts)
        if one.type == "Time":
            edges = edges / 1e6 / 86_400
        if len(counts) == 1:
            edges = edges + np.array([-0.5, 0.5])
        if one.type == "Integer" and len(one.top) == one.distinct:
            # Bins of whole numbers would show gaps that there are not.
            values = np.array(sorted((float(value), count) for value, count in one.top))
            width = 0.9 * float(np.diff(values[:, 0]).min()) if len(values) > 1 else 0.9
            axes.bar(values[:, 0], values[:, 1], width=width, color=FIRST, linewidth=0)
        else:
            axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=FIRST, linewidth=0)
        if one.type == "Time":
            date_axis(axes, 4, offset=False)
        else:
            _quiet(axes.xaxis)
        axes.grid(False, axis="x")
        _quiet(axes.yaxis)

    longest = max([len(clean(value, LABEL)) for value, _ in shown] + [6]) if bars else 6
    return draw(name, clean(one.name, 28), alt, (2.5, 1.5), frequent if bars else histogram, room=0.08 + 0.075 * longest)


def _quiet(axis: Any) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=3))
    low, high = axis.get_view_interval()
    if max(abs(low), abs(high)) >= 10_000:
        axis.set_major_formatter(EngFormatter(sep=""))


def _end(one: ColumnStatistics, value: Any) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if one.type == "Time":
        return clean(value).replace("T00:00:00Z", "").replace("T", " ").removesuffix("Z")
    return clean(value, 20) if isinstance(value, str) else number(value)


def _quantile(one: ColumnStatistics, share: float) -> str:
    if not one.quantiles:
        return ""
    return _moment(one, one.quantiles[QUANTILES.index(share)])


def _moment(one: ColumnStatistics, value: float) -> str:
    if one.type != "Time":
        return number(int(value) if one.type == "Integer" else value)
    try:
        return _end(one, (EPOCH + timedelta(microseconds=value)).isoformat(timespec="seconds").replace("+00:00", "Z"))
    except OverflowError:
        return ""


def _mean(one: ColumnStatistics) -> str:
    if one.mean is None or one.std is None or one.type not in ("Integer", "Float", "Boolean"):
        return ""
    return f"{one.mean:.1%}" if one.type == "Boolean" else f"{number(one.mean)} ± {number(one.std)}"
