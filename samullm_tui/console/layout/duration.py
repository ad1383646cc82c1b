"""Times as people read them, and ticks of a time axis."""

from __future__ import annotations

import math

__all__ = ["clock", "duration", "signed_duration", "tick_label", "tick_step"]

STEPS_S = (
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14400,
    21600,
    43200,
    86400,
)


def duration(seconds: float | None) -> str:
    """`7.4s`, `48s`, `6m 52s`, `2h 05m`, `3d 04h`; `–` for what is not known."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 0:
        return "−" + duration(-seconds)
    if seconds < 0.05:
        return "0s"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60}h {minutes % 60:02d}m"
    hours = round(seconds / 3600)
    return f"{hours // 24}d {hours % 24:02d}h"


def signed_duration(seconds: float) -> str:
    """`+12s`, `−2.7s`, `±0s`."""
    text = duration(abs(seconds))
    return f"{'±' if text == '0s' else '+' if seconds > 0 else '−'}{text}"


def clock(seconds: float) -> str:
    """A moment of a run in five to eight cells: `03:58`, `1:03:58`."""
    whole = max(0, int(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes:02d}:{whole % 60:02d}"


def tick_step(end_s: float, ticks: int) -> float:
    """The smallest round step that puts at most `ticks` ticks on 0 … end_s."""
    wanted = end_s / max(1, ticks)
    for step in STEPS_S:
        if step >= wanted:
            return float(step)
    return math.ceil(wanted / 86400) * 86400.0


def tick_label(seconds: float) -> str:
    """A tick as short as it can be without a loss: `0`, `30s`, `1m`, `1m30`, `2h`, `2h30`, `2h30:05`, `1m30.5`."""
    if seconds == 0:
        return "0"
    if seconds < 60:
        return f"{seconds:g}s"
    whole, tenths = divmod(round(10 * seconds), 10)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    fraction = f".{tenths}" if tenths else ""
    if whole < 3600:
        return f"{minutes}m{rest:02d}{fraction}" if rest or tenths else f"{minutes}m"
    if rest or tenths:
        return f"{hours}h{minutes:02d}:{rest:02d}{fraction}"
    if minutes or whole % 86400:
        return f"{hours}h{minutes:02d}" if minutes else f"{hours}h"
    return f"{whole // 86400}d"
