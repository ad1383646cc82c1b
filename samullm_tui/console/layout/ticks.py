"""Round values of an axis of numbers, and their labels."""

from __future__ import annotations

import math

from samullm_tui.console.layout.numbers import compact

__all__ = ["labelled_axis", "share_of", "tick_values"]


def share_of(value: float, low: float, high: float, *, log: bool = False) -> float:
    """Where `value` lies between `low` (0) and `high` (1); in the logarithm when `log`."""
    if log:
        low, high, value = math.log(max(low, 1.0)), math.log(max(high, 2.0)), math.log(max(value, 1.0))
    return (value - low) / (high - low) if high > low else 0.0


def tick_values(low: float, high: float, ticks: int, *, log: bool = False) -> list[float]:
    """About `ticks` round values within the axis; 1, 2, 5 of each decade when `log`."""
    if log:
        candidates = [base * 10.0**power for power in range(10) for base in (1, 2, 5)]
        return [value for value in candidates if max(low, 1.0) <= value <= high]
    raw = (high - low) / max(1, ticks)
    if raw <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(base * power for base in (1, 2, 5, 10) if base * power >= raw * 0.999)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def labelled_axis(low: float, high: float, width: int, *, log: bool = False) -> tuple[str, str]:
    """Ticks and labels, each in exactly `width` cells. Labels that would touch are left out."""
    ticks, labels, free = ["─"] * width, [" "] * width, 0
    for value in tick_values(low, high, max(2, width // 8), log=log):
        cell, label = min(width - 1, int(share_of(value, low, high, log=log) * width)), compact(value)
        start = min(cell, width - len(label))
        if start >= 0 and start >= free:
            ticks[cell] = "┴"
            labels[start : start + len(label)] = label
            free = start + len(label) + 1
    return "".join(ticks), "".join(labels)
