"""The bottom line: keys that work now, as many as fit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from samullm_tui.console.layout.text import Line, pad_line

__all__ = ["key_line"]

GAPS = ("   ", "  ")
FIRST_TO_GO = ("theme", "copy", "commands", "find", "lengths", "stop")
"""In this order, before any other key goes."""
LEAVING = ("back", "cancel", "drop", "all lines")
KEPT = ("help", *LEAVING, "quit")
"""Keys that stay however narrow the line is: how to learn the others, and how to leave."""


def key_line(keys: Sequence[tuple[str, str]], width: int) -> Line:
    """(glyph, label) pairs in exactly `width` cells. What does not fit is left out whole."""
    shown = list(keys)
    while len(shown) > 1 and _size(shown, GAPS[-1]) > width:
        shown.remove(min(reversed(shown), key=lambda key: _worth(key[1], shown)))
    gap = next((gap for gap in GAPS if _size(shown, gap) <= width), GAPS[-1])
    line: Line = [(" ", "")]
    for glyph, label in shown:
        line += [(glyph, "accent"), (f" {label}", "dim"), (gap, "")]
    return pad_line(line[:-1], width)


def _worth(label: str, shown: Sequence[tuple[str, str]]) -> int:
    """The least goes first. Who can go back can do without the key that quits."""
    if label in FIRST_TO_GO:
        return FIRST_TO_GO.index(label) - len(FIRST_TO_GO)
    if label == "quit" and any(other in LEAVING for _, other in shown):
        return 0
    return 1 if label in KEPT else 0


def _size(keys: Sequence[tuple[str, str]], gap: str) -> int:
    return (
        1 + sum(cell_len(glyph) + cell_len(label) + 1 for glyph, label in keys) + len(gap) * (len(keys) - 1)
    )
