"""One-line charts: a filled bar, a bar to either side of zero, a sparkline."""

from __future__ import annotations

from collections.abc import Sequence

from samullm_tui.console.layout.text import Line

__all__ = ["diverging", "filled", "sparkline"]

LEVELS = "▁▂▃▄▅▆▇█"


def filled(share: float | None, width: int, style: str) -> Line:
    """A bar of exactly `width` cells, `share` (0 … 1) of it filled; dots where the share is not known."""
    if width <= 0:
        return []
    if share is None:
        return [("·" * width, "hairline")]
    full = round(min(1.0, max(0.0, share)) * width)
    return [part for part in (("▇" * full, style), ("░" * (width - full), "hairline")) if part[0]]


def diverging(value: float, most: float, width: int, above: str, below: str) -> Line:
    """A bar from zero in the middle to the right (`above`) or to the left, `most` being half of an odd `width`."""
    half = max(0, (width - 1) // 2)
    size = min(half, round(abs(value) / most * half)) if most > 0 else 0
    left, right = (0, size) if value >= 0 else (size, 0)
    return [
        (" " * (half - left), ""),
        ("▇" * left, below),
        ("│", "hairline"),
        ("▇" * right, above),
        (" " * (half - right), ""),
    ]


def sparkline(values: Sequence[float], width: int, style: str, top: float | None = None) -> Line:
    """The last `width` values from zero to `top` (default: the largest), aligned at the right."""
    shown = list(values)[-width:] if width > 0 else []
    largest = max(shown, default=0.0) if top is None else top
    text = "".join(_level(value, largest) for value in shown)
    return [(" " * (width - len(text)), ""), (text, style)] if len(text) < width else [(text, style)]


def _level(value: float, largest: float) -> str:
    if value <= 0 or largest <= 0:
        return "▁"
    return LEVELS[min(len(LEVELS) - 1, int(value / largest * len(LEVELS)))]
