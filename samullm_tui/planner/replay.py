"""Stages simulated before: plans that begin alike share what they have in common."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from samullm_tui.domain.plan import Placement, Plan, Replica, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.application import (
    Beginning,
    PlanSoFar,
    PlanTrace,
    Problem,
    Progress,
    StageTrace,
    simulate_stage,
)

__all__ = ["Moment", "Replays"]

MEMORY_BYTES = 64_000_000
BYTES_PER_REQUEST = 40
STAGE_REQUESTS, KNOWN_REQUESTS = 2_500, 800
"""Simulating a stage takes as long as this many requests more than the application has; choosing one known already so many."""

STAGE_SERVED, KNOWN_SERVED = 1_000, 250
"""The same where only what a stage finishes is counted."""

Key = tuple[int, tuple[Placement, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """The end of a stage, or the beginning: how far everything is at `at_s`, and what runs."""

    number: int
    output_tokens: IntArray
    progress: Progress
    running: frozenset[Replica]
    at_s: float
    loads: int

    @property
    def beginning(self) -> Beginning:
        """Of what follows."""
        return Beginning(self.progress, self.running, self.at_s)


class Replays:
    """`requests` counts the effort spent: for each stage simulated the application's requests and some for the stage.

    `served` counts it more finely: of a stage only the requests that finished in it, and some for the stage.
    """

    def __init__(self, problem: Problem, begun: Beginning | None = None) -> None:
        """Plans begin where `begun` says; without it at time 0, nothing done and nothing running."""
        self.problem = problem
        self.begun = begun or Beginning.fresh(problem)
        self.requests = self.served = 0
        self._kept: OrderedDict[Key, tuple[Moment, StageTrace]] = OrderedDict()
        self._most = max(4, MEMORY_BYTES // (BYTES_PER_REQUEST * max(1, len(problem.table))))
        self._numbers = 0
        self._beginnings: list[Moment] = []

    def beginning(self, output_tokens: IntArray) -> Moment:
        """Where every plan begins, for these lengths."""
        for moment in self._beginnings:
            if moment.output_tokens is output_tokens:
                return moment
        progress, running, at_s = self.begun.progress, self.begun.running, self.begun.at_s
        self._beginnings.append(Moment(self._number(), output_tokens, progress, running, at_s, 0))
        return self._beginnings[-1]

    def after(
        self, moment: Moment, placements: tuple[Placement, ...], until: tuple[str, ...]
    ) -> tuple[Moment, StageTrace]:
        """What follows when these placements run until the LLMs of `until` have finished. Raises PlanError."""
        key = (moment.number, placements, until)
        self.requests += KNOWN_REQUESTS
        self.served += KNOWN_SERVED
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        self.requests += STAGE_REQUESTS + len(self.problem.table)
        stage = Stage(placements, until)
        trace = simulate_stage(
            self.problem, moment.output_tokens, moment.progress, stage, moment.running, moment.at_s
        )
        self.served += STAGE_SERVED + int(np.count_nonzero(trace.progress.done & ~moment.progress.done))
        loads = moment.loads + trace.loads
        tokens = moment.output_tokens
        after = Moment(self._number(), tokens, trace.progress, trace.replicas, trace.end_s, loads)
        self._kept[key] = (after, trace)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return after, trace

    def end(self, plan: Plan, output_tokens: IntArray) -> Moment:
        """The end of the whole plan for these lengths. Raises PlanError."""
        moment = self.beginning(output_tokens)
        for number, stage in enumerate(plan.stages, start=1):
            last = number == len(plan.stages)
            until = self.problem.table.llm_names if last else stage.until
            moment, _ = self.after(moment, stage.placements, until)
        return moment

    def trace(self, plan: Plan, output_tokens: IntArray) -> PlanTrace:
        """The whole plan for these lengths. Raises PlanError."""
        moment = self.beginning(output_tokens)
        done = PlanSoFar(moment.beginning)
        for number, stage in enumerate(plan.stages, start=1):
            until = self.problem.table.llm_names if number == len(plan.stages) else stage.until
            moment, trace = self.after(moment, stage.placements, until)
            done.add(stage, trace)
        return done.trace()

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers
