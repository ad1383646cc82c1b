"""One decision: what was seen, what could have been done, what was chosen."""

from __future__ import annotations

from samullm_tui.console.layout.duration import clock, duration, signed_duration
from samullm_tui.console.layout.text import Line, fit, wrap
from samullm_tui.domain.event import Alternative, Decision, Outcome

__all__ = ["decision_lines", "gained", "outcome_words"]

LABEL = 11
FIGURES, LEAST_NAME = 39, 20
"""Cells of an alternative's figures; its name stands above them where less than this is left for it."""


def gained(outcome: Outcome) -> str:
    """What came of a switch in a few words: `−31s` against staying, else against what it predicted."""
    if outcome.stay_s is not None:
        return signed_duration(outcome.ended_s - outcome.stay_s)
    return f"{signed_duration(outcome.ended_s - outcome.predicted_s)} against the prediction"


def outcome_words(outcome: Outcome) -> str:
    """`ends ~6m 27s: −31s (predicted −38s)`."""
    ends = f"ended at {duration(outcome.ended_s)}" if outcome.final else f"ends ~{duration(outcome.ended_s)}"
    if outcome.stay_s is None:
        return f"{ends}, predicted ~{duration(outcome.predicted_s)}"
    predicted = signed_duration(outcome.predicted_s - outcome.stay_s)
    return f"{ends}: {gained(outcome)} against staying (predicted {predicted})"


def decision_lines(at_s: float, decision: Decision, came_of_it: str, width: int) -> list[Line]:
    """All lines of the decision in words."""
    inner = width - 2
    head = f"{clock(at_s)}  {decision.kind}"
    first, *rest = wrap(decision.what, max(10, inner - len(head) - 2)) or [""]
    lines: list[Line] = [
        [(f"{clock(at_s)}  ", "dim"), (decision.kind, "accent bold"), (f"  {first}", "bold")]
    ]
    lines += [[(" " * (len(head) + 2) + line, "bold")] for line in rest] + [[]]
    said = [part.strip() for part in decision.saw.split(";") if part.strip()] or ["nothing was noted"]
    for i, part in enumerate(said):
        lines += _told("saw" if i == 0 else "", part, inner)
    lines += [[], *_alternatives(decision, inner)]
    if decision.margin:
        lines += [[], *_told("margin", _margin(decision), inner)]
    if came_of_it:
        lines += [[], *_told("came of it", came_of_it, inner)]
    return [[(" ", ""), *line] for line in lines]


def _margin(decision: Decision) -> str:
    """The gain that counted, and what it had to exceed: options are compared by means, and told by medians."""
    if decision.gain_s is None:
        return decision.margin
    gain = signed_duration(-decision.gain_s)
    return f"{gain} on average (the ends above are medians); needed: {decision.margin}"


def _told(label: str, text: str, width: int, style: str = "") -> list[Line]:
    """A label, and its text in lines beside it."""
    first, *rest = wrap(text, max(10, width - LABEL)) or [""]
    head: Line = [(f"{label:<{LABEL}}", "dim"), (first, style)]
    return [head, *[[(" " * LABEL, ""), (line, style)] for line in rest]]


def _alternatives(decision: Decision, width: int) -> list[Line]:
    if not decision.alternatives:
        return _told("compared", "there was no choice to make", width)
    name = width - LABEL - FIGURES
    beside = name >= LEAST_NAME
    name = min(60, name) if beside else width - LABEL
    stay_s = decision.alternatives[0].ends_s
    lines: list[Line] = []
    for i, alternative in enumerate(decision.alternatives):
        label = "compared" if i == 0 else ""
        first, *rest = wrap(alternative.what, name) or [""]
        gain_s = None if alternative.ends_s is None or stay_s is None else alternative.ends_s - stay_s
        row = _alternative(alternative, gain_s if i else None, chosen=i == decision.chosen)
        style = "bold" if i == decision.chosen else ""
        lines.append([(f"{label:<{LABEL}}", "dim"), (fit(first, name), style), *(row if beside else [])])
        lines += [[(" " * LABEL, ""), (line, style)] for line in rest]
        lines += [] if beside else [[(" " * LABEL, ""), *row]]
    return lines


def _alternative(alternative: Alternative, gain_s: float | None, *, chosen: bool) -> Line:
    """When it ends, against staying, and what it costs."""
    ends = f"ends ~{duration(alternative.ends_s)}" if alternative.ends_s is not None else "not simulated"
    cost = f"costs ~{duration(alternative.cost_s)}" if alternative.cost_s else ""
    return [
        (f"  {ends:<12}", ""),
        (
            f"{'' if gain_s is None else signed_duration(gain_s):>9}",
            "" if gain_s is None or gain_s >= 0 else "good",
        ),
        (f"  {cost:<13}", "dim"),
        ("◀" if chosen else "", "accent"),
    ]
