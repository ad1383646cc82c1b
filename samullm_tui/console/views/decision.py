"""One decision: what was seen, what could have been done, what was chosen."""

from __future__ import annotations

from samullm_tui.console.layout.duration import clock, duration
from samullm_tui.console.layout.text import Line, fit, wrap
from samullm_tui.domain.event import Alternative, Decision

__all__ = ["decision_lines"]

LABEL = 11


def decision_lines(at_s: float, decision: Decision, came_of_it: str, width: int) -> list[Line]:
    """All lines of the decision in words."""
    inner = width - 2
    head = f"{clock(at_s)}  {decision.kind}"
    first, *rest = wrap(decision.what, max(10, inner - len(head) - 2)) or [""]
    lines: list[Line] = [
        [(f"{clock(at_s)}  ", "dim"), (decision.kind, "accent bold"), (f"  {first}", "bold")]
    ]
    lines += [[(" " * (len(head) + 2) + line, "bold")] for line in rest] + [[]]
    lines += _told("saw", decision.saw or "nothing was noted", inner)
    lines += [[], *_alternatives(decision, inner)]
    if came_of_it:
        lines += [[], *_told("came of it", came_of_it, inner)]
    return [[(" ", ""), *line] for line in lines]


def _told(label: str, text: str, width: int, style: str = "") -> list[Line]:
    """A label, and its text in lines beside it."""
    first, *rest = wrap(text, max(10, width - LABEL)) or [""]
    head: Line = [(f"{label:<{LABEL}}", "dim"), (first, style)]
    return [head, *[[(" " * LABEL, ""), (line, style)] for line in rest]]


def _alternatives(decision: Decision, width: int) -> list[Line]:
    if not decision.alternatives:
        return _told("compared", "there was no choice to make", width)
    name = min(60, max(14, width - LABEL - 16 - 15 - 9))
    lines: list[Line] = []
    for i, alternative in enumerate(decision.alternatives):
        label = "compared" if i == 0 else ""
        lines.append(
            [(f"{label:<{LABEL}}", "dim"), *_alternative(alternative, name, chosen=i == decision.chosen)]
        )
    return lines


def _alternative(alternative: Alternative, name: int, *, chosen: bool) -> Line:
    ends = f"ends ~{duration(alternative.ends_s)}" if alternative.ends_s is not None else "not simulated"
    cost = f"costs ~{duration(alternative.cost_s)}" if alternative.cost_s else ""
    return [
        (fit(alternative.what, name), "bold" if chosen else ""),
        (f"  {ends:<14}", ""),
        (f"  {cost:<13}", "dim"),
        ((" ◀ chosen" if name > 14 else " ◀") if chosen else "", "accent"),
    ]
