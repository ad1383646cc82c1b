"""The bottom line: keys that work now, as many as fit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from samullm_tui.console.layout.text import Line, pad_line

__all__ = ["key_line"]

GAP = "   "
FIRST_TO_GO = ("t", "y", "^p")
KEPT = ("?", "esc", "q")
"""Keys that stay however narrow the line is: how to learn the others, and how to leave."""


def key_line(keys: Sequence[tuple[str, str]], width: int) -> Line:
    """(glyph, label) pairs in exactly `width` cells. What does not fit is left out whole."""
    shown = list(keys)
    while len(shown) > 1 and 1 + sum(_size(key) for key in shown) - len(GAP) > width:
        shown.remove(min(reversed(shown), key=_worth))
    line: Line = [(" ", "")]
    for glyph, label in shown:
        line += [(glyph, "accent"), (f" {label}", "dim"), (GAP, "")]
    return pad_line(line[:-1], width)


def _worth(key: tuple[str, str]) -> int:
    return -1 if key[0] in FIRST_TO_GO else 1 if key[0] in KEPT else 0


def _size(key: tuple[str, str]) -> int:
    return cell_len(key[0]) + cell_len(key[1]) + 1 + len(GAP)
