"""A histogram of vertical bars in eighths of a cell."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from samullm_tui.console.layout.text import Line
from samullm_tui.console.layout.ticks import labelled_axis

__all__ = ["histogram_lines", "resample"]

EIGHTHS = " ▁▂▃▄▅▆▇█"


def resample(edges: Sequence[float], counts: Sequence[float], bins: int, *, log: bool = False) -> list[float]:
    """Counts of `bins` equal bins over the same range (equal in the logarithm when `log`).

    A count is spread evenly over its bin, so that the sum is kept.
    """
    if bins <= 0 or len(edges) < 2:
        return [0.0] * max(0, bins)
    points = _points(edges[0], edges[-1], bins, log=log)
    sums = [_below(edges, counts, point) for point in points[1:-1]]
    sums = [0.0, *sums, float(sum(counts))]
    return [max(0.0, after - before) for before, after in pairwise(sums)]


def _points(low: float, high: float, bins: int, *, log: bool) -> list[float]:
    if not log:
        return [low + (high - low) * i / bins for i in range(bins + 1)]
    low, high = math.log(max(low, 1.0)), math.log(max(high, 2.0))
    return [math.exp(low + (high - low) * i / bins) for i in range(bins + 1)]


def _below(edges: Sequence[float], counts: Sequence[float], point: float) -> float:
    """How many lie below `point`."""
    index = min(len(counts) - 1, max(0, bisect_right(edges, point) - 1))
    width = edges[index + 1] - edges[index]
    share = min(1.0, max(0.0, (point - edges[index]) / width)) if width > 0 else 1.0
    return sum(counts[:index]) + share * counts[index]


def histogram_lines(
    edges: Sequence[float], counts: Sequence[float], width: int, height: int, style: str, *, log: bool = False
) -> list[Line]:
    """Exactly `height` lines of `width` cells: bars, an axis, and labels below it."""
    if width <= 0 or height < 3:
        return [[] for _ in range(max(0, height))]
    heights = resample(edges, counts, width, log=log)
    top = max(heights, default=0.0) or 1.0
    rows = height - 2
    lines: list[Line] = [[(_row(heights, top, rows, row), style)] for row in range(rows)]
    low, high = (edges[0], edges[-1]) if len(edges) > 1 else (0.0, 1.0)
    ticks, labels = labelled_axis(low, high, width, log=log)
    return [*lines, [(ticks, "hairline")], [(labels, "dim")]]


def _row(heights: Sequence[float], top: float, rows: int, row: int) -> str:
    """Row 0 is the uppermost. A bin with anything in it shows at least an eighth."""
    glyphs = []
    for value in heights:
        eighths = max(1, round(8 * rows * value / top)) if value > 0 else 0
        glyphs.append(EIGHTHS[min(8, max(0, eighths - 8 * (rows - 1 - row)))])
    return "".join(glyphs)
