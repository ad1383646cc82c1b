"""How a run stands, and the rest of the plan in force simulated from there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from samullm_tui.domain.errors import PlanError
from samullm_tui.domain.plan import Placement, Plan, Replica, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.application import Beginning, PlanTrace, Problem, Progress, simulate_plan

__all__ = ["Situation", "forecast_rest", "rest_of", "simulate_rest"]


@dataclass(frozen=True)
class Situation:
    """How a run stands. What follows is simulated from here on.

    problem         latencies corrected by what was observed; `gpus` and `islands` as in the cluster
    progress        what is done, tokens so far, and an EngineState for each replica of `running`
    running         replicas that serve or load; of a loading one `EngineState.clock_s` is when it will be ready
    at_s            now, on the run's clock
    stages          what is left of the plan in force, the present stage first
    draws           whole output lengths [n], the same draws for all alternatives: above `progress.generated` for what
                    is not done, equal to it for what is
    unusable        GPUs that get no engine any more
    since_switch_s  since the plan was last changed on the fly
    """

    problem: Problem
    progress: Progress
    running: frozenset[Replica]
    at_s: float
    stages: tuple[Stage, ...]
    draws: tuple[IntArray, ...]
    unusable: frozenset[int] = frozenset()
    since_switch_s: float = math.inf

    @property
    def beginning(self) -> Beginning:
        return Beginning(self.progress, self.running, self.at_s)

    @property
    def unfinished(self) -> frozenset[str]:
        """The LLMs with open requests."""
        left = self.progress.left(self.problem)
        return frozenset(llm.name for llm, count in zip(self.problem.llms, left, strict=True) if count)


def forecast_rest(situation: Situation) -> tuple[float, ...]:
    """When the run ends with the plan in force, on the run's clock in seconds, for each draw; inf where the plan cannot
    finish everything.
    """
    stages = rest_of(situation.stages, situation.unfinished, situation.unusable)
    ends_s = []
    for draw in situation.draws:
        trace = simulate_rest(situation, stages, draw)
        ends_s.append(trace.makespan_s if trace else math.inf)
    return tuple(ends_s)


def simulate_rest(situation: Situation, stages: Sequence[Stage], draw: IntArray) -> PlanTrace | None:
    """From the situation on, on the run's clock; None when these stages cannot finish everything."""
    plan = Plan(planner="", stages=tuple(stages))
    try:
        return simulate_plan(situation.problem, plan, draw, situation.beginning)
    except PlanError:
        return None


def rest_of(
    stages: Sequence[Stage], unfinished: frozenset[str], unusable: frozenset[int] = frozenset()
) -> tuple[Stage, ...]:
    """What stages come to when the run decides: engines of finished LLMs and on unusable GPUs are left out, a stage
    waits also for LLMs that no later one has, and one with nothing to wait for does not take place.
    """
    found: list[Stage] = []
    later: set[str] = set()
    for stage in reversed(stages):
        placements = tuple(
            left for p in stage.placements if p.llm in unfinished and (left := _without(p, unusable))
        )
        members = {placement.llm for placement in placements}
        waited = members & (set(stage.until) | (members - later))
        later |= members
        if waited or (placements and not found):
            until = tuple(placement.llm for placement in placements if placement.llm in waited)
            found.append(Stage(placements, until, stage.why))
    return tuple(reversed(found))


def _without(placement: Placement, unusable: frozenset[int]) -> Placement | None:
    """The placement's replicas on other GPUs; None when there are none."""
    kept = [replica for replica in placement.replicas if unusable.isdisjoint(replica.gpus)]
    if len(kept) == placement.dp:
        return placement
    gpus = tuple(gpu for replica in kept for gpu in replica.gpus)
    return Placement(placement.llm, placement.tp, len(kept), gpus) if kept else None
