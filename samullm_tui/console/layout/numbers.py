"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["compact", "count", "gib", "percent", "plural", "signed_percent"]

GIB = 1024**3


def count(value: float | None) -> str:
    """`1,402`; `–` for what is not known."""
    return "–" if value is None else f"{round(value):,}"


def compact(value: float) -> str:
    """At most five cells: `999`, `8,412`, `98.4k`, `1.3M`."""
    if value < 9_999.5:
        return count(value)
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.99995 * size:
            scaled = value / size
            return f"{scaled:.0f}{unit}" if scaled >= 99.95 else f"{scaled:.1f}{unit}"
    return count(value)


def gib(value: int | None) -> str:
    return "–" if value is None else f"{value / GIB:.0f}"


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}"


def signed_percent(share: float) -> str:
    """`+4 %`, `−3 %`, `±0 %`."""
    value = round(100 * share)
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    return f"{sign}{abs(value)} %"


def plural(value: int, noun: str, many: str = "") -> str:
    """`1 request`, `1,402 requests`."""
    return f"{value:,} {noun if value == 1 else many or noun + 's'}"
