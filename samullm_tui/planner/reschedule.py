"""The decision while a run goes on: stay with the plan, or change it, and why. Pure: data in, data out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from samullm_tui.domain.errors import PlacementError, PlanError
from samullm_tui.domain.plan import Plan, PlannedStage, Replica, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.alternatives import Alternatives
from samullm_tui.planner.outlook import Task
from samullm_tui.planner.replay import STAGE_SERVED, Replays
from samullm_tui.planner.situation import Situation, forecast_rest, open_part, rest_of, stages_left
from samullm_tui.planner.verdict import USUAL, Margin, Option, Verdict, change_words, weighed
from samullm_tui.simulate.application import PlanTrace

__all__ = ["Margin", "Option", "Situation", "Verdict", "forecast_rest", "reconsider"]

REQUESTS, SIMULATING = 900_000, 0.7
"""The default effort, under a second; the share of it for simulating the options."""
MOST, SHOWN = 5, 2
"""Alternatives that are told at most, and at least where there are so many; one where each takes long."""
LEAST_DRAWS, MOST_DRAWS, TRIED = 2, 8, 8
"""Draws that are simulated: so many that the effort is enough for some alternatives on all of them."""
HOPELESS = 1.03
"""An alternative that takes so many times as long as the best is not looked at any further."""


def reconsider(
    situation: Situation,
    rng: np.random.Generator,
    *,
    margin: Margin = USUAL,
    requests: int = REQUESTS,
) -> Verdict:
    """Staying against the best alternatives, each simulated whole on the same draws. The same for the same `rng`.

    What is worth it on the first draws must be so on the others too, where there are more.

    `requests` bounds the effort, in requests simulated. Never raises for what has become of the run: where nothing can
    go on, everything ends at inf and staying is the answer.
    """
    situation = open_part(situation)
    stages = stages_left(situation)
    task = _task(situation)
    compared = _Compared(situation, task.replays if task else None, stages, requests)
    if task:
        for plan, schedule in (ways := Alternatives(task, stages, rng, requests, compared.limit_s)):
            ways.judge(schedule, compared.add(plan))
            if compared.replays.served >= SIMULATING * requests:
                break
    verdict = weighed(situation, compared.stay, compared.best(), margin)
    if not verdict.chosen or not math.isfinite(compared.stay.mean_s) or not compared.fresh:
        return verdict
    return weighed(situation, *compared.anew(), margin)


def _task(situation: Situation) -> Task | None:
    """None when there is nothing to plan: all is done, or an LLM fits nowhere any more."""
    if not situation.unfinished:
        return None
    try:
        return Task(situation.problem, situation.draws[0], situation.beginning, quick=True)
    except PlacementError:
        return None


class _Compared:
    """The options so far: to stay, and the best for each way to begin."""

    def __init__(
        self, situation: Situation, replays: Replays | None, stages: tuple[Stage, ...], requests: int
    ) -> None:
        self.situation = situation
        self.replays = replays or Replays(situation.problem, situation.beginning)
        each = int((~situation.progress.done).sum()) + STAGE_SERVED * max(1, len(stages))
        few = max(LEAST_DRAWS, min(MOST_DRAWS, int(SIMULATING * requests / each / TRIED)))
        self.draws = situation.draws[:few]
        self.fresh = situation.draws[few:]
        self.shown = SHOWN if few > LEAST_DRAWS else 1
        ends_s, traces = self._ends(stages, self.draws)
        self.stay = self._option("stay", stages, "", ends_s, traces)
        self._found: dict[frozenset[Replica], Option] = {}
        self._seen = {_what(stages): self.stay.mean_s}

    def limit_s(self) -> float:
        """A plan that ends later in the first draw is given up: there must be others to show, though."""
        if len(self._found) < self.shown:
            return math.inf
        return self._hopeless(min([self.stay, *self._found.values()], key=lambda option: option.mean_s), 1)

    def best(self) -> list[Option]:
        """The alternatives, best first."""
        return sorted(self._found.values(), key=lambda option: (option.mean_s, option.loads))[:MOST]

    def anew(self) -> tuple[Option, list[Option]]:
        """To stay, and the best few, on the draws that did not choose them: the best of many on few draws is partly luck."""
        stay, *others = (
            self._option(one.what, one.stages, one.planner, *self._ends(one.stages, self.fresh))
            for one in (self.stay, *self.best()[: self.shown])
        )
        possible = [option for option in others if math.isfinite(option.mean_s)]
        return stay, sorted(possible, key=lambda option: (option.mean_s, option.loads))

    def add(self, plan: Plan) -> float:
        """When the plan ends, in the mean; inf when it never does, or is given up because others end much sooner."""
        stages = rest_of(plan.stages, self.situation.unfinished)
        what = _what(stages)
        if what not in self._seen:
            self._seen[what] = self._compare(stages, plan.planner) if stages else math.inf
        return self._seen[what]

    def _compare(self, stages: tuple[Stage, ...], planner: str) -> float:
        ends_s, traces = self._ends(stages, self.draws, limited=len(self._found) >= self.shown)
        if len(ends_s) < len(self.draws) or not all(map(math.isfinite, ends_s)):
            return math.inf
        first, end_s = frozenset(stages[0].replicas), float(np.mean(ends_s))
        if first not in self._found or end_s < self._found[first].mean_s:
            what = change_words(self.situation, stages)
            self._found[first] = self._option(what, stages, planner, ends_s, traces)
        return end_s

    def _ends(
        self, stages: tuple[Stage, ...], draws: Sequence[IntArray], *, limited: bool = False
    ) -> tuple[list[float], list[PlanTrace | None]]:
        """For one draw after another, until it is hopeless if `limited`."""
        ends_s: list[float] = []
        traces: list[PlanTrace | None] = []
        plan = Plan(planner="", stages=stages)
        for draw in draws:
            try:
                traces.append(self.replays.trace(plan, draw))
            except PlanError:
                traces.append(None)
            ends_s.append(traces[-1].makespan_s if traces[-1] else math.inf)
            if limited and float(np.mean(ends_s)) > self._hopeless(self.best()[0], len(ends_s)):
                break
        return ends_s, traces

    def _hopeless(self, best: Option, draws: int) -> float:
        at_s = self.situation.at_s
        return at_s + HOPELESS * (float(np.mean(best.ends_s[:draws])) - at_s)

    def _option(
        self,
        what: str,
        stages: tuple[Stage, ...],
        planner: str,
        ends_s: Sequence[float],
        traces: Sequence[PlanTrace | None],
    ) -> Option:
        middle = traces[int(np.argsort(ends_s, kind="stable")[(len(ends_s) - 1) // 2])]
        cost_s = _cost_s(self.situation, stages)
        if middle is None:
            return Option(what, stages, planner, tuple(ends_s), cost_s, 0)
        planned = _planned(stages, middle)
        return Option(what, stages, planner, tuple(ends_s), cost_s, middle.loads, planned, middle.spans)


def _what(stages: Sequence[Stage]) -> tuple[object, ...]:
    return tuple((stage.placements, stage.until) for stage in stages)


def _planned(stages: Sequence[Stage], trace: PlanTrace) -> tuple[PlannedStage, ...]:
    return tuple(
        PlannedStage(start_s, end_s, stage, kept)
        for stage, (start_s, end_s), kept in zip(stages, trace.stage_times, trace.kept, strict=True)
    )


def _cost_s(situation: Situation, stages: Sequence[Stage]) -> float:
    """The longest load that begins at once."""
    if not stages:
        return 0.0
    problem = situation.problem
    new = [replica for replica in stages[0].replicas if replica not in situation.running]
    return max((problem.llms[problem.index(r.llm)].shape(r.tp).load_s for r in new), default=0.0)
