"""Plans against each other: the same draws of output lengths for all, sorted by a quantile of the makespan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from samullm_tui.domain.plan import Band, Candidate, Plan, PlannedStage
from samullm_tui.planner.explain import compare, explain
from samullm_tui.planner.gpu_time import gpu_times
from samullm_tui.planner.race import Effort, Race, race
from samullm_tui.planner.runner_up import runner_ups
from samullm_tui.planner.study import Figures, Study, trace
from samullm_tui.simulate.application import PlanTrace, Problem

__all__ = ["Ranking", "band", "rank"]


class Ranking(NamedTuple):
    """Candidates, best first, and the median makespan that no plan can beat (see `Race.bound_s`)."""

    candidates: tuple[Candidate, ...]
    lower_bound_s: float


def rank(
    study: Study,
    plans: Sequence[Plan],
    quantile: float = 0.5,
    *,
    effort: Effort | None = None,
    known: Mapping[Plan, Sequence[Figures]] | None = None,
) -> Ranking:
    """Candidates by the `quantile` of their makespans over the draws of `study`.

    Without `effort` every plan is simulated on every draw; with it those that decide nothing are left out (see
    `race`, also for `known`). Stages and spans of a candidate are those of the draw whose makespan is the (lower) median of its own.
    """
    problem = study.problem
    different = list({_what(plan): plan for plan in reversed(plans)}.values())[::-1]
    found = race(study, different, quantile, effort=effort, known=known)
    bound_s = found.bound_s()
    middles = [_middle(makespans) for makespans in found.makespans_s]
    traces = study.run(trace, list(zip(middles, different, strict=True)))
    ranked = [(plan, k) for k in found.ranking() for plan in plans if _what(plan) == _what(different[k])]
    candidates = [
        _candidate(problem, found, position, plan, k, traces[k], bound_s)
        for position, (plan, k) in enumerate(ranked, start=1)
    ]
    first = ranked[0][1]
    others = runner_ups(study, different[first], middles[first])
    explained = [
        replace(
            candidate,
            explanation=(
                *compare(candidates, candidate.rank, quantile),
                *explain(problem, plan, traces[k], others if k == first else None),
            ),
        )
        for candidate, (plan, k) in zip(candidates, ranked, strict=True)
    ]
    return Ranking(tuple(explained), bound_s)


def _what(plan: Plan) -> tuple[object, ...]:
    """What a plan does, whoever made it and why."""
    return tuple((stage.placements, stage.until) for stage in plan.stages)


def band(values: Sequence[float]) -> Band:
    p10, p50, p90 = (float(x) for x in np.quantile(values, [0.1, 0.5, 0.9]))
    return Band(float(np.mean(values)), p10, p50, p90)


def _middle(values: Sequence[float]) -> int:
    return int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])


def _candidate(
    problem: Problem, found: Race, position: int, plan: Plan, k: int, trace: PlanTrace, bound_s: float
) -> Candidate:
    held_s = sum(len(span.gpus) * ((span.end_s or trace.makespan_s) - span.start_s) for span in trace.spans)
    makespan_s = band(found.makespans_s[k])
    return Candidate(
        rank=position,
        plan=plan,
        makespan_s=makespan_s,
        gap=makespan_s.p50 / bound_s - 1 if bound_s > 0 else 0.0,
        gpu_hours=held_s / 3600,
        loads=trace.loads,
        stages=_stages(problem, plan, trace),
        spans=trace.spans,
        explanation=(),
        makespans_s=tuple(found.makespans_s[k]),
    )


def _stages(problem: Problem, plan: Plan, trace: PlanTrace) -> tuple[PlannedStage, ...]:
    return tuple(
        PlannedStage(start_s, end_s, stage, kept, gpu_time)
        for stage, (start_s, end_s), kept, gpu_time in zip(
            plan.stages, trace.stage_times, trace.kept, gpu_times(problem, trace), strict=True
        )
    )
