"""How verbs speak: one JSON object on stdout, or tables there; everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TextIO

import msgspec

from samullm_tui.domain.sanitise import sanitise

__all__ = ["print_json", "print_table", "say", "seconds"]


def print_json(value: object) -> None:
    """Exactly one JSON object on stdout. What a terminal could obey stands in it as JSON's escapes."""
    text = msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2).decode()
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def say(text: str) -> None:
    """A message to a person, on stderr."""
    print(sanitise(text, newlines=False), file=sys.stderr)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], file: TextIO | None = None) -> None:
    """Columns as wide as they need; the first to the left, the others to the right."""
    table = [list(header), *[[sanitise(cell) for cell in row] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        first, *others = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]).rstrip(), file=file)


def seconds(value: float) -> str:
    """`41.3 s`, `6m 52s`, `3h 05m`."""
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
