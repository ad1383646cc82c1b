"""Words and glyphs that several screens use."""

from __future__ import annotations

from collections.abc import Sequence

from samullm_tui.console.layout.text import Line, Segment, wrap
from samullm_tui.domain.errors import Problem

__all__ = ["STATUS", "brief", "note_lines", "problem_lines", "status_segment", "step"]

STATUS: dict[str, tuple[str, str]] = {
    "planning": ("◌", "dim"),
    "waiting for approval": ("?", "accent"),
    "running": ("●", "good"),
    "paused": ("‖", "warning"),
    "draining": ("↓", "warning"),
    "succeeded": ("✓", "good"),
    "failed": ("✗", "bad"),
    "stopped": ("■", "dim"),
    "interrupted": ("!", "warning"),
}
"""Glyph and style of each status of a run, in the words of the contract."""


def status_segment(status: str) -> Segment:
    """`● running`, in its colour."""
    glyph, style = STATUS.get(status, ("?", "dim"))
    return f"{glyph} {status}", style


def note_lines(text: str, width: int, style: str = "dim") -> list[Line]:
    return [[(line, style)] for line in wrap(text, width)]


def problem_lines(problems: Sequence[Problem], width: int) -> list[Line]:
    """Each problem with its place, what is wrong, and what would be right."""
    lines: list[Line] = []
    for problem in problems:
        head = ": ".join(part for part in (problem.place, problem.wrong) if part)
        first, *rest = wrap(head, max(1, width - 2)) or [""]
        lines.append([("✗ ", "bad"), (first, "")])
        lines += [[("  ", ""), (line, "")] for line in rest]
        lines += [[("  ", ""), (line, "dim")] for line in wrap(problem.right, max(1, width - 2))]
    return lines


def brief(problem: Problem) -> str:
    """A problem in one line, the file left out: the screen says what it is about."""
    return "; ".join(part for part in (problem.wrong, problem.right) if part)


def step(what: str, elapsed_s: float) -> Line:
    """The quiet line of work that takes a while."""
    return [(f"{what} … {elapsed_s:.0f}s", "dim")]
