"""How a run stands, and the rest of the plan in force simulated from there."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from samullm_tui.domain.errors import PlanError
from samullm_tui.domain.plan import Placement, Plan, Replica, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.application import Beginning, Problem, Progress, simulate_plan
from samullm_tui.simulate.problem import EngineState

__all__ = ["Situation", "forecast_rest", "open_part", "rest_of", "stages_left"]

FORECAST_DRAWS = 8

BoolArray = npt.NDArray[np.bool_]


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
    """When the run ends with the plan in force, on the run's clock in seconds, for each of the first draws; inf where
    the plan cannot finish everything.
    """
    rest, stages = open_part(situation), stages_left(situation)
    return tuple(_end_s(rest, Plan(planner="", stages=stages), draw) for draw in rest.draws[:FORECAST_DRAWS])


def _end_s(situation: Situation, plan: Plan, draw: IntArray) -> float:
    try:
        return simulate_plan(situation.problem, plan, draw, situation.beginning).makespan_s
    except PlanError:
        return math.inf


def stages_left(situation: Situation) -> tuple[Stage, ...]:
    """The rest of the plan in force."""
    return rest_of(situation.stages, situation.unfinished, situation.unusable)


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


def open_part(situation: Situation) -> Situation:
    """The situation without what planning need not look at: finished requests that no open one waits for, unusable
    GPUs, and in which stage an LLM was to start. Everything open does the same in it, but that prefix caches are cold:
    which blocks are in them depends on lengths that are not those of a draw.
    """
    problem = situation.problem
    islands = tuple(tuple(g for g in island if g not in situation.unusable) for island in problem.islands)
    pins = {llm: replace(pin, stage=None) for llm, pin in problem.pins.items()}
    problem = dataclasses.replace(problem, islands=tuple(filter(None, islands)), pins=pins)
    situation = _without_engines(situation)
    kept = _kept(situation)
    row_of = np.full(len(problem.table), -1, np.int64)
    row_of[kept] = np.arange(len(kept))
    progress = situation.progress
    engines = {replica: _engine(state, row_of) for replica, state in progress.engines.items()}
    rest = (progress.done[kept], progress.generated[kept], progress.finish_s[kept])
    return dataclasses.replace(
        situation,
        problem=_problem(problem, progress.done, kept, row_of),
        progress=Progress(*rest, engines),
        draws=tuple(draw[kept] for draw in situation.draws),
    )


def _without_engines(situation: Situation) -> Situation:
    """Engines on unusable GPUs are as good as gone."""
    running = frozenset(r for r in situation.running if situation.unusable.isdisjoint(r.gpus))
    engines = {replica: state for replica, state in situation.progress.engines.items() if replica in running}
    progress = dataclasses.replace(situation.progress, engines=engines)
    return dataclasses.replace(situation, running=running, progress=progress)


def _kept(situation: Situation) -> IntArray:
    """Requests that are open, that an open one waits or waited for, and that an engine still has."""
    table, progress = situation.problem.table, situation.progress
    kept = ~progress.done
    awaited = np.repeat(kept, np.diff(table.parent_start))
    kept[table.parents[awaited]] = True
    for state in progress.engines.values():
        kept[state.running] = True
    return np.flatnonzero(kept)


def _engine(state: EngineState, row_of: IntArray) -> EngineState:
    return state._replace(
        running=row_of[state.running],
        waiting=row_of[state.waiting],
        assigned=row_of[state.assigned],
        cache=None,
    )


def _problem(problem: Problem, done: BoolArray, kept: IntArray, row_of: IntArray) -> Problem:
    """Of the requests `kept`. Those of one unit stay together as one group."""
    table = problem.table
    counts = np.diff(table.parent_start)
    edges = np.repeat(~done, counts)
    start = np.zeros(len(kept) + 1, np.int64)
    np.cumsum(np.where(done, 0, counts)[kept], out=start[1:])
    _, unit = np.unique(problem.units[kept], return_inverse=True)
    nameless = ("",) * len(kept)
    columns = ("llm", "node", "prompt_tokens", "max_tokens", "known_tokens")
    part = dataclasses.replace(
        table,
        ids=nameless,
        records=nameless,
        **{name: getattr(table, name)[kept] for name in columns},
        group=unit.reshape(-1),
        parent_start=start,
        parents=row_of[table.parents[edges]],
        fed=table.fed[edges],
        prefix=None if table.prefix is None else table.prefix[kept],
        prefix_tokens=None if table.prefix_tokens is None else table.prefix_tokens[kept],
    )
    priority = None if problem.priority is None else problem.priority[kept]
    expected = None if problem.expected is None else problem.expected[kept]
    return dataclasses.replace(problem, table=part, priority=priority, expected=expected)
