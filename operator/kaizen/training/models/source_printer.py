"""Python expressions as text in the shape that `ruff format` gives them: on one line if they fit, else an item a line.  Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["WIDTH", "Call", "Node", "Word", "printed", "text"]

WIDTH = 88
"""Columns of a line: the default of ruff and black."""
INDENT = 4


@dataclass(frozen=True)
class Word:
    """What is never broken."""

    text: str


@dataclass(frozen=True)
class Call:
    """Brackets with items between them: a call, list, tuple or dict."""

    opening: str
    """`Ridge(`, `[`, `{` or `(`."""
    items: Sequence[tuple[str, "Node"]]
    """What stands before an item, as `alpha=` or `"a": `, and the item."""
    closing: str


Node = Word | Call


def printed(node: Node, column: int, before: int, after: int = 0) -> str:
    """The text of a node.

    Args:
        node: what to print.
        column: where its line begins.
        before: characters between there and the node.
        after: characters that follow it on the same line.
    """
    flat = _flat(node)
    if isinstance(node, Word) or not node.items or column + before + len(flat) + after <= WIDTH:
        return flat
    inner = column + INDENT
    lines = [f"{' ' * inner}{label}{printed(item, inner, len(label), 1)},\n" for label, item in node.items]
    return f"{node.opening}\n{''.join(lines)}{' ' * column}{node.closing}"


def text(value: str) -> str:
    """A string literal, in double quotes where they need no escapes."""
    literal = repr(value)
    if literal.startswith("'") and '"' not in literal:
        return '"' + literal[1:-1].replace("\\'", "'") + '"'
    # Both kinds of quotes: JSON escapes the double ones; what else it escapes, Python reads alike.
    if literal.startswith("'") and "\\'" in literal and value.count('"') <= value.count("'"):
        return json.dumps(value, ensure_ascii=not value.isprintable())
    return literal


def _flat(node: Node) -> str:
    if isinstance(node, Word):
        return node.text
    items = ", ".join(f"{label}{_flat(item)}" for label, item in node.items)
    comma = "," if node.opening == "(" and len(node.items) == 1 else ""
    return f"{node.opening}{items}{comma}{node.closing}"
