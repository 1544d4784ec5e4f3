"""Draws one plot with matplotlib as SVG that sits inside a page: its colours follow the page's theme, its text stays text.

The same figures give the same bytes: ids are salted with the plot's name, and nothing is dated.  Nothing here touches pyplot,
whose state is global, and text from data is never read as mathematics.
"""

import io
import math
import re
import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["FIRST", "GRID", "INK", "MUTED", "SECOND", "SERIES", "Plot", "clean", "date_axis", "draw", "figure", "number"]

INK, MUTED, GRID, PAPER = "#1b1f24", "#57606a", "#d8dee4", "#fefefe"
FIRST, SECOND, THIRD, FOURTH, FIFTH = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b38f00"
SERIES = (FIRST, SECOND, THIRD, FOURTH, FIFTH)
"""Colours that people with any kind of colour vision can tell apart (Okabe and Ito 2008)."""

_VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", FIRST: "first", SECOND: "second", THIRD: "third", FOURTH: "fourth",
    FIFTH: "fifth",
}  # fmt: skip
_COLOUR = re.compile("|".join(_VARIABLES))
_HIDDEN = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
"""Marks that turn the reading direction: a name could show as another one."""
_SETTINGS = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "savefig.dpi": 160,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Plot:
    """A drawn plot."""

    title: str
    alt: str
    """What a person sees in it, for who cannot."""
    svg: str
    wide: bool = False
    """Needs the page's whole width."""


def draw(
    name: str,
    title: str,
    alt: str,
    size: tuple[float, float],
    paint: Callable[[Any], None],
    *,
    wide: bool = False,
    room: float | None = None,
) -> Plot:
    """Draw a plot.

    Args:
        name: unique within a page: ids in the SVG begin with it.
        title: above it in the page.
        alt: see Plot.
        size: width and height in inches; one inch is 72 units, near to pixels of a phone.
        paint: draws into a given matplotlib Figure.
        wide: see Plot.
        room: inches left of the axes; None measures it, and all other margins, which takes as long as drawing.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {**_SETTINGS, "svg.hashsalt": name}
    with warnings.catch_warnings(), matplotlib.rc_context(settings):
        # A glyph that DejaVu lacks is measured as a box; the reader's own fonts show it.
        warnings.simplefilter("ignore")
        figure = Figure(figsize=size, layout="constrained" if room is None else None)
        figure.patch.set_alpha(0)
        canvas: Any = FigureCanvasSVG(figure)
        if room is not None:
            width, height = size
            figure.subplots_adjust(left=room / width, right=1 - 0.12 / width, bottom=0.24 / height, top=1 - 0.08 / height)
        paint(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        sink = io.StringIO()
        canvas.print_svg(sink, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Plot(title, alt, _inline(sink.getvalue(), name), wide)


def date_axis(axes: Any, most: int, *, offset: bool = True) -> None:
    """Moments below the plot, at most so many; with `offset` what they have in common stands at the end."""
    from matplotlib import dates

    made: Any = dates
    places = made.AutoDateLocator(minticks=2, maxticks=most)
    axes.xaxis.set_major_locator(places)
    axes.xaxis.set_major_formatter(made.ConciseDateFormatter(places, show_offset=offset))


def clean(value: Any, limit: int = 32) -> str:
    """Text from data for one line: no control characters, nothing that turns the reading direction, at most so long."""
    text = "".join(" " if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") else one for one in str(value)[:10_000])
    text = " ".join("".join(one for one in text if one not in _HIDDEN).split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def number(value: float | int | None) -> str:
    """A number as a person reads it: four digits that count, thousands apart; whole numbers in full."""
    if value is None or value != value:
        return "–"
    if isinstance(value, int) or value == 0:
        return f"{int(value):,}"
    if not 1e-4 <= abs(value) < 1e9:
        return f"{value:.3g}"
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def figure(value: float | None) -> str:
    """A figure among others of its size: as many digits after the point in each, so that they stand below each other."""
    if value is None or value != value:
        return "–"
    if value and not 1e-4 <= abs(value) < 1000:
        return number(float(value))
    return f"{value:.{4 if abs(value) < 10 else 3 if abs(value) < 100 else 2}f}"


def _inline(svg: str, name: str) -> str:
    """The svg element alone: sized by the page, coloured by its variables, ids unique in it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))

    def tag(found: re.Match[str]) -> str:
        text = found.group().replace("xlink:href", "href")
        text = re.sub(r' id="([^"]*)"', lambda one: f' id="{name}-{one[1]}"' if one[1] in used else "", text)
        text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
        return _COLOUR.sub(lambda one: f"var(--{_VARIABLES[one.group()]})", text)

    # Only within tags: text that looks like a colour stays, and < and > in text are escaped.
    svg = re.sub(r"<[^<>]*>", tag, svg)
    svg = re.sub(r' (?:width|height|version|xmlns(?::xlink)?)="[^"]*"', "", svg[: svg.index(">")]) + svg[svg.index(">") :]
    return re.sub(r">\s+<", "><", svg.replace(">", ' aria-hidden="true">', 1)).strip()
