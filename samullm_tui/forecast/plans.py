"""Planning an application on a cluster: all planners, ranked over draws of the output lengths."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import overload

import numpy as np

from samullm_tui.domain.cluster import Cluster
from samullm_tui.domain.errors import PlanError, Problem
from samullm_tui.domain.pin import Pin
from samullm_tui.domain.plan import Forecast, Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.forecast.forks import forked
from samullm_tui.forecast.problem import ForecastInputs, build_problem
from samullm_tui.lengths.draw import draw
from samullm_tui.planner.baselines import max_heuristic, min_heuristic
from samullm_tui.planner.bound import lower_bound
from samullm_tui.planner.greedy import greedy
from samullm_tui.planner.outlook import Task
from samullm_tui.planner.pins import broken_pins, pin_words
from samullm_tui.planner.race import Effort, first_draws
from samullm_tui.planner.rank import Ranking, rank
from samullm_tui.planner.search import improving_plans
from samullm_tui.planner.study import Figures, Study, figures
from samullm_tui.workload.requests import Workload

__all__ = ["SAMPLES", "Draws", "draws_of", "make_forecast", "ranked"]

SIMPLE_PLANNERS = (greedy, min_heuristic, max_heuristic)
SAMPLES = 200
"""Draws to rank by when nobody said how many: the most that any plan gets."""
EFFORT = 12_000_000
"""Requests that ranking may simulate when nobody said how many draws: about three seconds on two cores."""
MOST_AT_ONCE, AT_ONCE_REQUESTS = 16, 4_000_000
"""Simulations at the same time, and the requests in them: each takes about 200 bytes while it is simulated."""
AHEAD = 10
"""Draws on which the simple plans are simulated while the search is at work."""
WORTH_FORKS = 10_000
"""Requests in all draws of one plan from which on forks are sooner done than this process alone."""
RESAMPLING = 2
"""Which stream of a seed tells whether further draws are worth it; draws come from streams of their own."""
PROVEN = 0.01
"""A plan within this share of the lower bound is good enough to stop the search: no plan is better by two ties."""
JUDGES = 4
LARGE_REQUESTS = 20_000
"""From so many requests on an application is large: the search judges by one draw, the makespan hardly differs between them."""


def make_forecast(
    workload: Workload,
    cluster: Cluster,
    *,
    seed: int,
    samples: int | None = None,
    quantile: float = 0.5,
    pins: Mapping[str, Pin] | None = None,
) -> Forecast:
    """Candidates of all planners, best first by the `quantile` of their makespan over the same draws.

    With `samples` every candidate is simulated on so many draws; without, on up to SAMPLES (see `ranked`). `pins` are
    what planners must respect, by LLM. The same seed gives the same forecast, `planning_s` aside. Raises
    ApplicationError, PlacementError, and PlanError for pins that no plan can keep.
    """
    started = time.perf_counter()
    inputs = build_problem(workload, cluster, pins)
    effort = _effort(seed, samples)
    with _study(inputs, seed, samples) as study:
        (planning,) = draws_of(inputs, seed, 1)
        task = Task(inputs.problem, planning)
        simple = [planner(inputs.problem, planning, task) for planner in SIMPLE_PLANNERS]
        ahead = study.begin(_first_figures, simple, first_draws(study, 1 + len(simple), effort))
        plans, notes = _keeping_pins(inputs, [_searched(inputs, seed, task), *simple])
        ranking = rank(study, plans, quantile, effort=effort, known=ahead())
    return Forecast(
        application=workload.application.name,
        application_sha256=workload.application.sha256,
        cluster=cluster.name,
        planning_s=time.perf_counter() - started,
        lower_bound_s=ranking.lower_bound_s,
        samples=ranking.candidates[0].draws,
        seed=seed,
        quantile=quantile,
        requests=workload.requests,
        estimated=inputs.estimated,
        candidates=ranking.candidates,
        pins=tuple(said for llm, pin in inputs.problem.pins.items() for said in pin_words(llm, pin)),
        notes=(*inputs.notes, *notes),
    )


def ranked(
    inputs: ForecastInputs, plans: Sequence[Plan], *, seed: int, samples: int | None, quantile: float
) -> Ranking:
    """Plans on the draws that a forecast of this seed compares its plans on.

    Without `samples` a plan that is clearly behind gets fewer draws than the best, and all together no more than EFFORT
    allows; each candidate says how many it had.
    """
    with _study(inputs, seed, samples) as study:
        return rank(study, plans, quantile, effort=_effort(seed, samples))


def _study(inputs: ForecastInputs, seed: int, samples: int | None) -> AbstractContextManager[Study]:
    """On as many processors as there are.

    The first draw is left out: plans are made with it, and none is judged by what it was made from.
    """
    draws = Draws(inputs, seed, first=1, most=samples or SAMPLES)
    requests = len(inputs.problem.table)
    processes = min(os.cpu_count() or 1, MOST_AT_ONCE, AT_ONCE_REQUESTS // max(1, requests))
    return forked(Study(inputs.problem, draws), processes if requests * len(draws) >= WORTH_FORKS else 1)


def _effort(seed: int, samples: int | None) -> Effort | None:
    chance = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, RESAMPLING)))
    return None if samples else Effort(EFFORT, chance)


def _first_figures(study: Study, plans: Sequence[Plan], count: int) -> dict[Plan, list[Figures]]:
    """On the first draws, as many as can be simulated while the search is at work.

    There are none when one of the plans cannot be: where it is not left out, ranking says so.
    """
    found: dict[Plan, list[Figures]] = {plan: [] for plan in plans}
    with suppress(PlanError):
        for number in range(min(count, AHEAD)):
            for plan, one in zip(plans, figures(study, number, plans), strict=True):
                found[plan].append(one)
    return found


def _searched(inputs: ForecastInputs, seed: int, task: Task) -> Plan:
    """The best plan that the search finds; it stops at one that no plan can beat by more than PROVEN on its draws.

    It judges on further draws where the application is small.
    """
    planning, rng = task.output_tokens, np.random.default_rng(seed)
    others = draws_of(inputs, (seed, 1), JUDGES if len(planning) < LARGE_REQUESTS else 0)
    draws = (planning, *others)
    enough_s = (1 + PROVEN) * sum(lower_bound(task.problem, draw) for draw in draws)
    for plan in improving_plans(task.problem, planning, rng, task, others=others):
        if sum(task.replays.end(plan, draw).at_s for draw in draws) <= enough_s:
            break
    return plan


def _keeping_pins(inputs: ForecastInputs, plans: Sequence[Plan]) -> tuple[list[Plan], tuple[str, ...]]:
    """Plans that keep all pins, and words on those that do not. Raises PlanError when there is none."""
    broken = {plan.planner: broken_pins(inputs.problem, plan) for plan in plans}
    kept = [plan for plan in plans if not broken[plan.planner]]
    if not kept:
        raise PlanError(
            [Problem("", name, what, "other pins") for name, some in broken.items() for what in some]
        )
    return kept, tuple(f"{name} is left out: {some[0]}" for name, some in broken.items() if some)


@dataclass(frozen=True)
class Draws(Sequence[IntArray]):
    """`most` draws of all output lengths of a seed from number `first` on, each made whenever it is asked for: many
    draws of a large application need not be in memory at once. Draw k of a seed is the same in every such sequence.
    """

    inputs: ForecastInputs
    seed: int | tuple[int, ...]
    first: int
    most: int

    def __len__(self) -> int:
        return self.most

    @overload
    def __getitem__(self, number: int) -> IntArray: ...
    @overload
    def __getitem__(self, number: slice) -> list[IntArray]: ...
    def __getitem__(self, number: int | slice) -> IntArray | list[IntArray]:
        if isinstance(number, slice):
            return [self[k] for k in range(self.most)[number]]
        stream = np.random.SeedSequence(self.seed, spawn_key=(self.first + range(self.most)[number],))
        inputs = self.inputs
        return draw(inputs.problem.table, inputs.dists, inputs.context, np.random.default_rng(stream))

    def __iter__(self) -> Iterator[IntArray]:
        return (self[k] for k in range(self.most))


def draws_of(inputs: ForecastInputs, seed: int | tuple[int, ...], count: int) -> list[IntArray]:
    """The first `count` draws of a seed."""
    return list(Draws(inputs, seed, 0, count))
