"""What a run's journal says to the rescheduler of the supervisor that takes it over."""

from __future__ import annotations

from dataclasses import dataclass, field

from samullm_tui.domain.event import Answer, Proposed
from samullm_tui.journal.run_state import RunState

__all__ = ["Past", "Switch", "past_of"]


@dataclass(slots=True)
class Switch:
    """A change of the plan: by which decision, when the run was to end by it and without it."""

    number: int
    predicted_s: float
    stay_s: float | None


@dataclass(slots=True)
class Past:
    """What was decided so far.

    expected_s  when the run is expected to end
    number      of the latest decision
    switch      the latest one
    answers     to proposals, by number
    proposal    the one that nobody answered
    """

    expected_s: float
    number: int = 0
    switch: Switch | None = None
    answers: dict[int, Answer] = field(default_factory=dict)
    proposal: Proposed | None = None


def past_of(state: RunState) -> Past:
    decisions = [decision for _, decision in state.decisions]
    numbers = [*(decision.number for decision in decisions), *state.answers]
    past = Past(
        expected_s=state.forecast.p50 if state.forecast else state.at_s,
        number=max([*numbers, state.proposal.number if state.proposal else 0]),
        answers=dict(state.answers),
        proposal=state.proposal,
    )
    for decision in decisions:
        if decision.number and decision.kind == "switch" and decision.chosen:
            ends_s = [alternative.ends_s for alternative in decision.alternatives]
            predicted_s = ends_s[decision.chosen]
            past.switch = Switch(decision.number, predicted_s, ends_s[0]) if predicted_s is not None else None
    return past
