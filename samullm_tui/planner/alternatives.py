"""Other ways to go on from the middle of a run, the most promising first.

Schedules are annealed as fluids from what runs now (see `schedule`): near the plan in force and from scratch. Those
that begin in different ways come first, then neighbours of the best that were tried. Small applications get greedy's
plan and those of a short beam search too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from msgspec.structs import replace

from samullm_tui.domain.errors import PlanError
from samullm_tui.domain.plan import Plan, Stage
from samullm_tui.planner.beam import Beam
from samullm_tui.planner.fluid import begin, decide
from samullm_tui.planner.follow import Follower
from samullm_tui.planner.greedy import greedy
from samullm_tui.planner.outlook import Task
from samullm_tui.planner.schedule import (
    WARM,
    Schedule,
    Table,
    annealed,
    as_schedule,
    longest_first,
    moved,
    wandered,
)
from samullm_tui.planner.stages import plan_and_end

__all__ = ["Alternatives"]

STEP_REQUESTS = 5
"""What a step of annealing costs for each unit, in requests simulated."""
ANNEALING = 0.2
"""The share of the effort that annealing may take."""
NEAR = 2
"""Annealings that begin with the plan in force; as many begin with the longest LLMs first."""
SMALL = 3_000
"""With so many open requests or fewer the other planners are worth their time."""
BEAM = 0.2
STEP_SERVED = 500
"""Following a schedule takes for each stage, and finding it for each unit, as long as serving so many requests."""
PARENTS, PATIENCE, NEIGHBOURS = 3, 30, 12


class Alternatives:
    """Plans for `task`, which begins in the middle of a run, other than to go on with `stages`.

    `limit_s` says when what ends later is of no interest any more. `judge` is told when a plan ends, so that what
    follows is near the best.
    """

    def __init__(
        self,
        task: Task,
        stages: Sequence[Stage],
        rng: np.random.Generator,
        requests: int,
        limit_s: Callable[[], float],
    ) -> None:
        self.task, self.stages, self.rng, self.limit_s = task, stages, rng, limit_s
        self.requests = requests
        self.table = Table(task)
        self._tried: set[bytes] = set()
        self._parents: list[tuple[float, Schedule]] = []

    def __iter__(self) -> Iterator[tuple[Plan, Schedule | None]]:
        """Each plan, and the schedule that it follows. One that was given up has no stages."""
        return _possible(self._plans())

    def _plans(self) -> Iterator[tuple[Plan, Schedule | None]]:
        first, later = self._starts()
        small = int((~self.task.replays.begun.progress.done).sum()) <= SMALL
        yield from map(self._followed, first)
        if small:
            yield greedy(self.task.problem, self.task.output_tokens, self.task), None
            beam = Beam(self.task, self.table, self.limit_s, int(BEAM * self.requests))
            yield from ((plan, None) for plan in beam.plans())
        yield from map(self._followed, later)
        while self._parents and (found := self._neighbour()):
            yield self._followed(found)

    def judge(self, schedule: Schedule | None, end_s: float) -> None:
        if schedule is not None and math.isfinite(end_s):
            self._parents = sorted([*self._parents, (end_s, schedule)], key=lambda one: one[0])[:PARENTS]

    def _starts(self) -> tuple[list[Schedule], list[Schedule]]:
        """The best schedule for each way to begin, best first; and the others."""
        table = self.table
        steps = max(50, int(ANNEALING * self.requests) // (STEP_REQUESTS * len(table.units) * 2 * NEAR))
        now = as_schedule(table, self.stages)
        some = [now, *(annealed(table, now, self.rng, steps, WARM) for _ in range(NEAR))]
        for turn in range(NEAR):
            start = longest_first(table, np.zeros(len(table.units), np.int64), beside=turn % 2 == 0)
            some.append(annealed(table, start, self.rng, steps))
        first: list[Schedule] = []
        later: list[Schedule] = []
        begun: set[bytes] = set()
        for schedule in sorted({s.key: s for s in some}.values(), key=table.estimated_s):
            way = self._begins(schedule)
            (later if way in begun else first).append(schedule)
            begun.add(way)
        return first, later

    def _begins(self, schedule: Schedule) -> bytes:
        """What the schedule does at once."""
        now = self.table.scratch
        begin(self.table.options, now)
        decide(self.table.options, schedule.moves, schedule.beside, now, 0.0, schedule.grows)
        return now.option.tobytes()

    def _followed(self, schedule: Schedule) -> tuple[Plan, Schedule]:
        self._tried.add(schedule.key)
        follower = Follower(self.table, schedule)
        plan, moment = plan_and_end(self.task, "search", follower, self.limit_s())
        self.task.replays.served += STEP_SERVED * (len(plan.stages) + len(self.table.units))
        return plan if moment.progress.finished else replace(plan, stages=()), schedule

    def _neighbour(self) -> Schedule | None:
        """A new one near one of the best: by turns wandered to, or the best of a few by estimate."""
        table, rng = self.table, self.rng
        for turn in range(PATIENCE):
            parent = self._parents[min(int(rng.exponential(1.0)), len(self._parents) - 1)][1]
            near = (
                [wandered(table, parent, rng)]
                if turn % 3 == 2
                else [moved(table, parent, rng) for _ in range(NEIGHBOURS)]
            )
            new = [schedule for schedule in near if schedule.key not in self._tried]
            if new:
                return min(new, key=table.estimated_s)
        return None


def _possible(ways: Iterator[tuple[Plan, Schedule | None]]) -> Iterator[tuple[Plan, Schedule | None]]:
    """Until one cannot be simulated: where a request is larger than the KV cache of an engine, the next may be too."""
    try:
        yield from ways
    except PlanError:
        return
