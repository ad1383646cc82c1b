"""The bottom line: keys that work now, as many as fit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from samullm_tui.console.layout.text import Line, pad_line

__all__ = ["key_at", "key_line"]

GAPS = ("   ", "  ")
FIRST_TO_GO = ("zoom", "theme", "copy", "move", "commands", "find", "lengths", "stop")
"""In this order, before any other key goes."""
LEAVING = ("back", "cancel", "drop", "all lines")
KEPT = ("help", *LEAVING, "quit")
"""Keys that stay however narrow the line is: how to learn the others, and how to leave."""


def key_line(keys: Sequence[tuple[str, str]], width: int) -> Line:
    """(glyph, label) pairs in exactly `width` cells. What does not fit is left out whole."""
    shown, gap = _fitting(keys, width)
    line: Line = [(" ", "")]
    for glyph, label in shown:
        line += [(glyph, "accent"), (f" {label}", "dim"), (gap, "")]
    return pad_line(line[:-1], width)


def key_at(keys: Sequence[tuple[str, str]], width: int, x: int) -> tuple[str, str] | None:
    """The pair that `key_line` shows at cell x."""
    shown, gap = _fitting(keys, width)
    first = 1
    for key in shown:
        stop = first + _cells(key)
        if first <= x < stop:
            return key
        first = stop + len(gap)
    return None


def _fitting(keys: Sequence[tuple[str, str]], width: int) -> tuple[list[tuple[str, str]], str]:
    """The keys that there is room for, and the gap between two of them."""
    shown = list(keys)
    while len(shown) > 1 and _size(shown, GAPS[-1]) > width:
        shown.remove(min(reversed(shown), key=lambda key: _worth(key[1], shown)))
    return shown, next((gap for gap in GAPS if _size(shown, gap) <= width), GAPS[-1])


def _worth(label: str, shown: Sequence[tuple[str, str]]) -> int:
    """The least goes first. Who can go back can do without the key that quits."""
    if label in FIRST_TO_GO:
        return FIRST_TO_GO.index(label) - len(FIRST_TO_GO)
    if label == "quit" and any(other in LEAVING for _, other in shown):
        return 0
    return 1 if label in KEPT else 0


def _size(keys: Sequence[tuple[str, str]], gap: str) -> int:
    return 1 + sum(map(_cells, keys)) + len(gap) * (len(keys) - 1)


def _cells(key: tuple[str, str]) -> int:
    glyph, label = key
    return cell_len(glyph) + 1 + cell_len(label)
