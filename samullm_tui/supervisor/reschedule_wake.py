"""When to think about the plan again. Pure: looks at the state, changes nothing.

A *decision* compares the rest of the plan with others; a *look* only forecasts when the rest will end, and leads to a
decision when that is another time than was forecast before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from samullm_tui.domain.plan import Band
from samullm_tui.supervisor.running import EngineState, RunningState
from samullm_tui.supervisor.words import in_time

__all__ = [
    "BETWEEN_S",
    "FIRST_S",
    "Review",
    "Standing",
    "Wake",
    "can_gain",
    "deviates",
    "late_engines",
    "next_s",
    "standing_of",
    "wake",
]

FIRST_S = 10.0
"""Nothing is decided anew in the first seconds: nothing was learnt yet."""
BETWEEN_S = 10.0
"""From one decision to the next. What was lost is not made to wait."""
LOOK_S, LOOK_SHARE = 20.0, 0.1
"""From one look to the next: the longer of the two, the latter of the time that is left."""
DEVIATES_S, DEVIATES_SHARE = 5.0, 0.03
"""A forecast is another one when it differs by more than both, the latter of the time that is left, and by more than
its own band from p10 to p90: few draws agree no better.
"""
LATE_S, LATE_TIMES = 5.0, 1.5
"""An engine is late when it loads for longer than so many times what was expected, and this."""


class Standing(NamedTuple):
    """What a decision about the plan rests on: when it changes, the decision is out of date.

    plan      how often the plan was replaced
    finished  LLMs without an open request
    lost      replicas that are given up, and GPUs that are in use by others
    """

    plan: int
    stage: int
    finished: frozenset[str]
    lost: frozenset[str]


def standing_of(state: RunningState) -> Standing:
    lost = {name for name, engine in state.engines.items() if engine.status == "gave up"}
    return Standing(
        state.replans,
        state.stage,
        frozenset(llm for llm, left in state.ledger.unfinished.items() if not left),
        frozenset(lost | {f"GPU {gpu}" for gpu in state.quarantined}),
    )


@dataclass(slots=True)
class Review:
    """What was thought about the plan so far.

    load_s      expected seconds of a load, by LLM and tp
    quiet_until_s  before it nothing is decided but what was lost or asked for
    expected_s     when the run is expected to end
    standing       how things stood at the last decision
    looked_s       when the end was last forecast
    wished_by      who asked for a decision that was not made yet
    busy           a decision or a look is under way, or a proposal waits for an answer
    late           engines that were late, and told of: name, and when they started
    """

    load_s: Mapping[tuple[str, int], float]
    quiet_until_s: float
    expected_s: float
    standing: Standing
    looked_s: float
    wished_by: str = ""
    busy: bool = False
    late: set[tuple[str, float]] = field(default_factory=set)


class Wake(NamedTuple):
    """Why to think, and about how much."""

    reason: str
    how: Literal["decide", "look"]


def wake(state: RunningState, review: Review, now_s: float) -> Wake | None:
    """Whether it is time to think about the plan, and why."""
    if review.busy or state.wish != "run" or state.stage < 0 or not state.ledger.open_requests:
        return None
    standing = standing_of(state)
    if review.wished_by:
        return Wake(f"{review.wished_by} asked", "decide")
    if standing.lost - review.standing.lost:
        return Wake(_losses(state, standing.lost - review.standing.lost), "decide")
    if now_s < review.quiet_until_s:
        return None
    left_s = review.expected_s - now_s
    may_gain = can_gain(state, review, left_s)
    reason = _finished(state, review, standing) or _lateness(state, review, now_s) if may_gain else ""
    if reason:
        return Wake(reason, "decide")
    overdue = -left_s > _allowed_s(review.expected_s)
    is_time = now_s >= review.looked_s + _period_s(left_s)
    return Wake("", "look") if is_time and (may_gain or overdue) else None


def next_s(review: Review, now_s: float) -> float:
    """When to ask `wake` again, if nothing happens before."""
    look_s = review.looked_s + _period_s(review.expected_s - now_s)
    return min((at_s for at_s in (review.quiet_until_s, look_s) if at_s > now_s), default=now_s + LOOK_S)


def deviates(before_s: float, after_s: Band, now_s: float) -> bool:
    """Whether a forecast of the end says something new."""
    return abs(after_s.p50 - before_s) > max(_allowed_s(before_s - now_s), after_s.p90 - after_s.p10)


def can_gain(state: RunningState, review: Review, left_s: float) -> bool:
    """Whether an engine of an LLM that still has requests could load in the time that is left."""
    return any(load_s < left_s for (llm, _), load_s in review.load_s.items() if not state.is_finished(llm))


def late_engines(state: RunningState, review: Review, now_s: float) -> list[EngineState]:
    """Those that load for much longer than expected, and were not told of before."""
    return [
        engine
        for name, engine in state.engines.items()
        if engine.status == "loading"
        and now_s - engine.started_s > max(LATE_S, LATE_TIMES * _load_s(review, engine))
        and (name, engine.started_s) not in review.late
    ]


def _load_s(review: Review, engine: EngineState) -> float:
    return review.load_s.get((engine.replica.llm, engine.replica.tp), math.inf)


def _allowed_s(left_s: float) -> float:
    return max(DEVIATES_S, DEVIATES_SHARE * left_s)


def _period_s(left_s: float) -> float:
    return max(LOOK_S, LOOK_SHARE * left_s)


def _losses(state: RunningState, lost: frozenset[str]) -> str:
    causes = {f"GPU {gpu}": f"quarantined: {cause}" for gpu, cause in state.quarantined.items()}
    causes |= {name: f"given up: {e.cause}" for name, e in state.engines.items() if e.status == "gave up"}
    return "; ".join(f"{name} {causes[name]}" for name in sorted(lost))


def _finished(state: RunningState, review: Review, standing: Standing) -> str:
    """Which LLMs finished since the last decision; empty: none. Stages begin and end by that."""
    finished = sorted(standing.finished - review.standing.finished)
    return f"{', '.join(finished)} finished{_against_plan(state, finished)}" if finished else ""


def _against_plan(state: RunningState, finished: list[str]) -> str:
    """When the plan had the present stage end, where that was to be by one of these LLMs."""
    planned = state.candidate.stages
    if state.stage >= len(planned) or not set(finished) & set(state.present.until):
        return ""
    return f", by the plan at {in_time(planned[state.stage].end_s)}"


def _lateness(state: RunningState, review: Review, now_s: float) -> str:
    return "; ".join(
        f"{engine.replica.name} still loads after {in_time(now_s - engine.started_s)}, "
        f"{in_time(_load_s(review, engine))} were expected"
        for engine in late_engines(state, review, now_s)
    )
