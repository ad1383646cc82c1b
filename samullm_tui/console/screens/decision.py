"""One decision of the rescheduler."""

from __future__ import annotations

from typing import ClassVar

from samullm_tui.console.layout.duration import duration
from samullm_tui.console.layout.text import Line
from samullm_tui.console.screens.scrolling import ScrollScreen
from samullm_tui.console.views.decision import decision_lines, outcome_words
from samullm_tui.domain.event import Decision
from samullm_tui.journal.run_state import RunState

__all__ = ["DecisionScreen", "came_of_it"]


def came_of_it(state: RunState, at_s: float, decision: Decision) -> str:
    """What came of a decision: of a switch its outcome, of others how the forecast changed, as far as it is known."""
    outcome = state.outcomes.get(decision.number) if decision.number and decision.kind == "switch" else None
    if outcome is not None:
        return outcome_words(outcome)
    before = [band.p50 for when, band in state.forecasts if when < at_s]
    after = [band.p50 for when, band in state.forecasts if when >= at_s]
    start = before[-1] if before else state.plan.makespan_s.p50 if state.plan else None
    if not after or start is None:
        return ""
    return f"the forecast went from ~{duration(start)} to ~{duration(after[0])}"


class DecisionScreen(ScrollScreen):
    """The decisions of a state, one at a time."""

    NAME: ClassVar[str] = "decision"

    def __init__(self, state: RunState, index: int) -> None:
        super().__init__()
        self.state = state
        self.index = index

    def where(self) -> tuple[Line, Line]:
        left: Line = [(self.state.run, ""), (" ▸ ", "dim"), ("Decision", "bold")]
        return left, [(f"{self.index + 1} of {len(self.state.decisions)}", "dim")]

    def content(self, width: int, height: int) -> list[Line]:
        at_s, decision = self.state.decisions[self.index]
        return [[], *decision_lines(at_s, decision, came_of_it(self.state, at_s, decision), width)]

    def _turn(self, by: int) -> None:
        self.index = min(len(self.state.decisions) - 1, max(0, self.index + by))
        self.top = 0
        self.redraw()

    def do_next(self) -> None:
        self._turn(1)

    def do_previous(self) -> None:
        self._turn(-1)
