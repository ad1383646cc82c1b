"""Curves in braille: two by four dots in a cell."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from samullm_tui.console.layout.text import Line
from samullm_tui.console.layout.ticks import labelled_axis

__all__ = ["Curve", "cdf_lines", "interpolate"]

DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
LABEL = 4


class Curve(Struct, frozen=True):
    """Points with rising x. `dotted` curves leave out every second dot."""

    x: Sequence[float]
    y: Sequence[float]
    style: str
    dotted: bool = False


def interpolate(curve: Curve, x: float) -> float | None:
    """The curve's value at `x`, linear between its points; None outside of them."""
    if not curve.x or x < curve.x[0] or x > curve.x[-1]:
        return None
    low, high = 0, len(curve.x) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if curve.x[middle] <= x else (low, middle)
    if curve.x[high] == curve.x[low]:
        return curve.y[high]
    share = (x - curve.x[low]) / (curve.x[high] - curve.x[low])
    return curve.y[low] + share * (curve.y[high] - curve.y[low])


def cdf_lines(curves: Sequence[Curve], width: int, height: int, *, log: bool = False) -> list[Line]:
    """Exactly `height` lines of at most `width` cells: curves over 0 … 1, an axis, labels. First curve on top."""
    columns, rows = width - LABEL - 1, height - 1
    if columns < 4 or rows < 2:
        return [[] for _ in range(max(0, height))]
    high = max((curve.x[-1] for curve in curves if curve.x), default=1.0)
    scale = _Scale(high=max(high, 2.0), columns=2 * columns, log=log)
    grid: list[list[tuple[int, str]]] = [[(0, "")] * columns for _ in range(rows)]
    for curve in reversed(curves):
        _plot(grid, curve, scale)
    lines = [_line(cells, row, rows) for row, cells in enumerate(grid)]
    return [*lines, _labels(scale, columns)]


class _Scale(Struct, frozen=True):
    high: float
    columns: int
    log: bool

    def value(self, column: int) -> float:
        share = (column + 0.5) / self.columns
        return math.exp(share * math.log(self.high)) if self.log else share * self.high


def _plot(grid: list[list[tuple[int, str]]], curve: Curve, scale: _Scale) -> None:
    dots = 4 * len(grid)
    previous: int | None = None
    for column in range(scale.columns):
        value = interpolate(curve, scale.value(column))
        if value is None:
            previous = None
            continue
        dot = min(dots - 1, max(0, round((1 - value) * (dots - 1))))
        # A steep curve jumps over dots: fill them, so that it stays one line.
        reach = range(min(dot, previous), max(dot, previous) + 1) if previous is not None else (dot,)
        for y in reach:
            if not curve.dotted or (column // 2 + y) % 2 == 0:
                _set(grid, column, y, curve.style)
        previous = dot


def _set(grid: list[list[tuple[int, str]]], x: int, y: int, style: str) -> None:
    bits, _ = grid[y // 4][x // 2]
    grid[y // 4][x // 2] = (bits | DOTS[x % 2][y % 4], style)


def _line(cells: list[tuple[int, str]], row: int, rows: int) -> Line:
    label = {0: "1.0", rows // 2: "0.5", rows - 1: "0"}.get(row, "")
    line: Line = [(f"{label:>{LABEL - 1}} ", "dim"), ("┤" if label else "│", "hairline")]
    for bits, style in cells:
        glyph = chr(0x2800 + bits) if bits else " "
        if line[-1][1] == style and len(line) > 2:
            line[-1] = (line[-1][0] + glyph, style)
        else:
            line.append((glyph, style))
    return line


def _labels(scale: _Scale, columns: int) -> Line:
    _, labels = labelled_axis(1.0 if scale.log else 0.0, scale.high, columns, log=scale.log)
    return [(" " * (LABEL + 1) + labels, "dim")]
