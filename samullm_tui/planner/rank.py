"""Plans against each other: the same draws of output lengths for all, sorted by a quantile of the makespan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product

import numpy as np

from samullm_tui.domain.plan import Band, Candidate, Plan, PlannedStage
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.bound import lower_bound
from samullm_tui.planner.explain import compare, explain
from samullm_tui.simulate.application import PlanTrace, Problem, simulate_plan

__all__ = ["band", "median_bound", "rank"]

Pair = tuple[Plan, IntArray]
Runner = Callable[[Callable[[Pair], PlanTrace], Iterable[Pair]], Iterable[PlanTrace]]
TIE = 0.005
"""Makespans this close (relative) count as equal; the plan with fewer loads comes first."""


def rank(
    problem: Problem,
    plans: Sequence[Plan],
    draws: Sequence[IntArray],
    quantile: float = 0.5,
    bound_s: float | None = None,
    run: Runner = map,
) -> tuple[Candidate, ...]:
    """Candidates, best first: by the `quantile` of their makespans over `draws`.

    `bound_s` is what `median_bound` gives for the same draws, when it is known already.
    `run` is `map`, or one that does several calls at a time. Stages and spans are those of the draw whose makespan is the (lower) median.
    """
    bound_s = median_bound(problem, draws) if bound_s is None else bound_s
    different = {plan.stages: plan for plan in plans}
    traces = iter(run(lambda pair: simulate_plan(problem, *pair), product(different.values(), draws)))
    by_stages = {stages: [next(traces) for _ in draws] for stages in different}
    measured = [_measure(plan, by_stages[plan.stages], quantile) for plan in plans]
    ordered = _sorted(measured)
    candidates = [_candidate(k, *one, bound_s) for k, one in enumerate(ordered, start=1)]
    return tuple(
        _explained(problem, candidates, k, trace) for k, (_, trace, _, _) in enumerate(ordered, start=1)
    )


def median_bound(problem: Problem, draws: Sequence[IntArray]) -> float:
    """The median over the draws of the makespan that no plan can beat."""
    return float(np.median([lower_bound(problem, draw) for draw in draws]))


def band(values: Sequence[float]) -> Band:
    p10, p50, p90 = (float(x) for x in np.quantile(values, [0.1, 0.5, 0.9]))
    return Band(float(np.mean(values)), p10, p50, p90)


_Measured = tuple[Plan, PlanTrace, Band, float]
"""A plan, its median trace, its makespans, and the quantile to sort by."""


def _measure(plan: Plan, traces: Sequence[PlanTrace], quantile: float) -> _Measured:
    makespans = [trace.makespan_s for trace in traces]
    middle = int(np.argsort(makespans, kind="stable")[(len(makespans) - 1) // 2])
    return plan, traces[middle], band(makespans), float(np.quantile(makespans, quantile))


def _sorted(measured: list[_Measured]) -> list[_Measured]:
    """By value; those within TIE of the first of their group by loads."""
    rest = sorted(measured, key=lambda one: one[3])
    ordered: list[_Measured] = []
    while rest:
        tied = [one for one in rest if one[3] <= (1 + TIE) * rest[0][3]]
        ordered += sorted(tied, key=lambda one: (one[1].loads, one[3]))
        rest = rest[len(tied) :]
    return ordered


def _candidate(
    position: int, plan: Plan, trace: PlanTrace, makespan_s: Band, _value: float, bound_s: float
) -> Candidate:
    held_s = sum(len(span.gpus) * ((span.end_s or trace.makespan_s) - span.start_s) for span in trace.spans)
    stages = tuple(
        PlannedStage(start_s, end_s, stage, kept)
        for stage, (start_s, end_s), kept in zip(plan.stages, trace.stage_times, trace.kept, strict=True)
    )
    return Candidate(
        rank=position,
        plan=plan,
        makespan_s=makespan_s,
        gap=makespan_s.p50 / bound_s - 1 if bound_s > 0 else 0.0,
        gpu_hours=held_s / 3600,
        loads=trace.loads,
        stages=stages,
        spans=trace.spans,
        explanation=(),
    )


def _explained(problem: Problem, candidates: list[Candidate], position: int, trace: PlanTrace) -> Candidate:
    candidate = candidates[position - 1]
    said = (*compare(candidates, position), *explain(problem, candidate.plan, trace))
    fields = {name: getattr(candidate, name) for name in candidate.__struct_fields__}
    return Candidate(**{**fields, "explanation": said})
