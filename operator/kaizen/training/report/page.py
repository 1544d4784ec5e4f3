"""One HTML page that needs nothing else: a title, a summary, sections with a table of contents.

Text is escaped where it enters; what is already HTML is of the type Markup, so that a checker sees where it was forgotten.
"""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NewType

from kaizen.training.report.canvas import Plot, clean

__all__ = ["Cell", "Markup", "Section", "Table", "badge", "figures", "join", "page", "pairs", "paragraph", "table", "text"]

Markup = NewType("Markup", str)
"""HTML that may stand in a page as it is."""

STYLE = "report.css"


@dataclass(frozen=True)
class Section:
    """A part of a page with its own line in the table of contents."""

    name: str
    """Its anchor."""
    title: str
    body: Markup


@dataclass(frozen=True)
class Table:
    """Rows under a head; cells are text unless they are Markup already."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence["str | Cell"]]
    numbers: frozenset[int] = frozenset()
    """Columns that are aligned as numbers."""
    prose: int | None = None
    """The column that holds sentences and needs room for them."""


@dataclass(frozen=True)
class Cell:
    """A cell that is HTML already."""

    body: Markup


def text(value: object, limit: int = 400) -> Markup:
    """Text from anywhere, safe between tags and in quoted attributes."""
    return Markup(html.escape(clean(value, limit), quote=True))


def join(parts: Iterable[Markup], between: str = "") -> Markup:
    """Several pieces in a row; `between` is HTML."""
    return Markup(between.join(parts))


def paragraph(value: object, kind: str = "", limit: int = 2000) -> Markup:
    """A paragraph of text; nothing for an empty one."""
    inner = text(value, limit)
    return Markup(f'<p class="{kind}">{inner}</p>' if kind else f"<p>{inner}</p>") if inner else Markup("")


def badge(value: str, tone: str) -> Cell:
    """A word in a box; tone is good, bad, warn or plain, and never says more than the word."""
    return Cell(Markup(f'<span class="badge {tone}">{text(value)}</span>'))


def pairs(rows: Sequence[tuple[str, "object | Cell"]]) -> Markup:
    """Names and values as a list of definitions; pairs without a value are left out."""
    kept = [(name, value) for name, value in rows if value not in (None, "")]
    inner = "".join(
        f"<div><dt>{text(name)}</dt><dd>{value.body if isinstance(value, Cell) else text(value)}</dd></div>"
        for name, value in kept
    )
    return Markup(f"<dl>{inner}</dl>") if inner else Markup("")


def table(one: Table) -> Markup:
    """A table with caption and heads, which scrolls alone where it is wider than the page; the first column names the row."""
    if not one.rows:
        return Markup("")

    def kind(place: int) -> str:
        return ' class="number"' if place in one.numbers else ' class="prose"' if place == one.prose else ""

    def cell(place: int, value: "str | Cell") -> str:
        inner = value.body if isinstance(value, Cell) else text(value, 1200)
        return f'<th scope="row"{kind(place)}>{inner}</th>' if place == 0 else f"<td{kind(place)}>{inner}</td>"

    head = "".join(f'<th scope="col"{kind(place)}>{text(name)}</th>' for place, name in enumerate(one.head))
    body = "".join("<tr>" + "".join(cell(place, value) for place, value in enumerate(row)) + "</tr>" for row in one.rows)
    caption = text(one.caption)
    return Markup(
        f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0"><table><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figures(plots: Sequence[Plot], kind: str = "") -> Markup:
    """Plots side by side where there is room."""
    if not plots:
        return Markup("")
    inner = "".join(
        f"<figure{' class=wide' if plot.wide else ''}><figcaption>{text(plot.title)}</figcaption>"
        f'<div class="plot" role="img" aria-label="{text(plot.alt, 600)}">{plot.svg}</div></figure>'
        for plot in plots
    )
    return Markup(f'<div class="figures {kind}">{inner}</div>')


def page(title: str, summary: Markup, sections: Sequence[Section], end: str) -> str:
    """The whole document; empty sections are left out.  It may load nothing and run nothing, and says so to the browser."""
    style = files("kaizen.training.report").joinpath(STYLE).read_text(encoding="utf-8")
    shown = [one for one in sections if one.body]
    contents = "".join(f'<li><a href="#{one.name}">{text(one.title)}</a></li>' for one in shown)
    body = "".join(f'<section id="{one.name}"><h2>{text(one.title)}</h2>{one.body}</section>' for one in shown)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{text(title)}</title><style>{style}</style></head><body>"
        f'<header><h1>{text(title)}</h1><div class="summary">{summary}</div></header>'
        f'<nav aria-label="Contents"><ol>{contents}</ol></nav><main>{body}</main>'
        f"<footer>{paragraph(end)}</footer></body></html>\n"
    )
