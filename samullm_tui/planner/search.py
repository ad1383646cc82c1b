"""Beyond greedy: an anytime search over which LLM runs when, and how large, from many starts.

The starts are the greedy plan, both baselines, schedules found by annealing over a model of the application as
fluids (see `fluid`, hundreds of thousands of schedules a second), and plans of a beam search over stages (see `beam`).
Everything that counts is simulated whole: the starts, then neighbours of the best schedules, as many as the budget
allows. The budget is counted in simulated requests, so that the same draw of random numbers gives the same plan on
every machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice

import numpy as np
from msgspec.structs import replace

from samullm_tui.domain.plan import Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.baselines import max_heuristic, min_heuristic
from samullm_tui.planner.beam import Beam
from samullm_tui.planner.follow import Follower
from samullm_tui.planner.greedy import greedy
from samullm_tui.planner.outlook import Task
from samullm_tui.planner.schedule import Schedule, Table, moved, promising, simple, wandered
from samullm_tui.planner.stages import plan_and_end
from samullm_tui.planner.validity import valid
from samullm_tui.simulate.application import Problem

__all__ = ["improving_plans", "search"]

REQUESTS = 8_000_000
"""The default budget: some two seconds."""
STEPS, STEP_REQUESTS = 6_000, 15
"""Steps of annealing for each unit at most; what one costs for each unit, in requests simulated."""
FINALISTS = 8
"""Annealed schedules that are simulated."""
PARENTS = 4
"""Neighbours are those of the best schedules, at most so many, the very best mostly."""
NEIGHBOURS, PATIENCE = 24, 100
BEAM = 0.25
"""The share of the budget that the beam search may take."""
HOPELESS = 1.03
"""A plan that takes so many times as long as the best is not looked at any further."""


def search(
    problem: Problem,
    output_tokens: IntArray,
    rng: np.random.Generator,
    task: Task | None = None,
    *,
    others: Sequence[IntArray] = (),
    requests: int = REQUESTS,
) -> Plan:
    """The last of `improving_plans`: the best plan that the budget finds. Raises PlacementError."""
    *_, best = improving_plans(problem, output_tokens, rng, task, others=others, requests=requests)
    return best


def improving_plans(
    problem: Problem,
    output_tokens: IntArray,
    rng: np.random.Generator,
    task: Task | None = None,
    *,
    others: Sequence[IntArray] = (),
    requests: int = REQUESTS,
) -> Iterator[Plan]:
    """Ever better plans, the first at once; the same for the same `rng`. Stop asking to stop searching.

    Plans are made for `output_tokens` and judged on these and `others`: draws of a small application differ. None is
    worse than the plans of the other planners on these draws; of equal ones the one with fewer loads is better.
    `task` is one made for the same problem and lengths, so that planners share what they simulate. `requests` bounds
    the effort beyond the starts, in requests simulated: a stage counts as all requests of the application.
    Raises PlacementError.
    """
    state = _State(task or Task(problem, output_tokens), (output_tokens, *others), rng)
    for planner in (min_heuristic, greedy, max_heuristic):
        plan = planner(problem, output_tokens, state.task)
        if state.better(plan, state.makespans_s(plan)):
            yield replace(plan, planner="search")
    if len(problem.table):
        yield from _improve(state, requests)


def _improve(state: _State, requests: int) -> Iterator[Plan]:
    """Annealed schedules, then a beam search over stages, then neighbours of the best schedules.

    Where the beam leaves nothing out, neighbours are worth it only for other lengths than those plans are made for.
    """
    task = state.task
    table, tried = Table(task), set[bytes]()
    end = task.replays.requests + requests
    yield from _followed(state, table, _annealed(state, table, tried, requests), end)
    share = min(int(BEAM * requests), end - task.replays.requests)
    beam = Beam(task, table, lambda: state.best_s[0], share)
    for plan in beam.plans():
        if not valid(task.problem, plan) and state.better(plan, state.makespans_s(plan)):
            yield plan
    if not (beam.complete and len(state.draws) == 1):
        yield from _followed(state, table, _neighbours(state, table, tried), end)


def _followed(state: _State, table: Table, schedules: Iterator[Schedule], end: int) -> Iterator[Plan]:
    """The plans of schedules that are better than all before."""
    task = state.task
    for schedule in schedules:
        limit_s = state.hopeless * state.best_s[0]
        plan, moment = plan_and_end(task, "search", Follower(table, schedule), limit_s)
        if moment.progress.finished:
            makespans_s = state.makespans_s(plan)
            if makespans_s:
                state.parents = sorted([*state.parents, (_mean(makespans_s), schedule)], key=lambda p: p[0])
                state.parents = state.parents[:PARENTS]
                if state.better(plan, makespans_s):
                    yield plan
        if task.replays.requests >= end:
            return


def _annealed(state: _State, table: Table, tried: set[bytes], requests: int) -> Iterator[Schedule]:
    """The schedules to begin with, none twice."""
    units = len(table.units)
    steps = min(STEPS * units, requests // (STEP_REQUESTS * units))
    ways = [s for _, s in promising(table, state.rng, steps)]
    for schedule in (*ways[:FINALISTS], *simple(table)):
        if schedule.key not in tried:
            tried.add(schedule.key)
            yield schedule


def _neighbours(state: _State, table: Table, tried: set[bytes]) -> Iterator[Schedule]:
    """New neighbours of the best schedules. Ends when it finds none."""
    turns = count()
    while state.parents and (
        found := _first(_neighbour(state, table, tried, turn) for turn in islice(turns, PATIENCE))
    ):
        tried.add(found.key)
        yield found


def _first(some: Iterator[Schedule | None]) -> Schedule | None:
    return next((schedule for schedule in some if schedule is not None), None)


def _neighbour(state: _State, table: Table, tried: set[bytes], turn: int) -> Schedule | None:
    """A new neighbour of one of the best schedules: any, the best of many by estimate, or one wandered to, by turns."""
    rng = state.rng
    parent = state.parents[min(int(rng.exponential(1.0)), len(state.parents) - 1)][1]
    if turn % 3 == 2:
        found = wandered(table, parent, rng)
        return None if found.key in tried else found
    near = [moved(table, parent, rng) for _ in range(NEIGHBOURS if turn % 3 else 1)]
    new = [schedule for schedule in near if schedule.key not in tried]
    return min(new, key=table.estimated_s, default=None)


@dataclass
class _State:
    """What the search knows: the best plan's makespans, one for each draw, and the best schedules it can vary."""

    task: Task
    draws: tuple[IntArray, ...]
    rng: np.random.Generator
    best_s: list[float] = field(default_factory=list)
    loads: int = 0
    parents: list[tuple[float, Schedule]] = field(default_factory=list)

    @property
    def hopeless(self) -> float:
        """Times the best makespan from which a plan is given up: there must be some to vary first."""
        return HOPELESS if len(self.parents) >= PARENTS else np.inf

    def makespans_s(self, plan: Plan) -> list[float]:
        """One for each draw; none when the plan falls behind the best one so far that it is given up."""
        makespans_s: list[float] = []
        for draw in self.draws:
            makespans_s.append(self.task.replays.end(plan, draw).at_s)
            if self.best_s and sum(makespans_s) > self.hopeless * sum(self.best_s[: len(makespans_s)]):
                return []
        return makespans_s

    def better(self, plan: Plan, makespans_s: list[float]) -> bool:
        """Whether the plan is better than all before; then it is the best. Equal makespans: fewer loads are better."""
        if not makespans_s:
            return False
        loads = self.task.replays.end(plan, self.draws[0]).loads
        value, best = (
            round(1000 * _mean(makespans_s)),
            round(1000 * _mean(self.best_s)) if self.best_s else None,
        )
        if best is not None and (value, loads) >= (best, self.loads):
            return False
        self.best_s, self.loads = makespans_s, loads
        return True


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
