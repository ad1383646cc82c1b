"""How long the decision in the middle of a run takes, what it finds, and how that compares with planning anew.

Runs are simulated up to the end of a stage with lengths that differ from those planned with: every second LLM's are 1.3
times as long, the others' are shorter by as much. Seconds are those of one core (CPU time, the least of three); the
decision knows the shifted lengths. All makespans are simulated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from benchmarks.processor import processor_s
from benchmarks.scaled import APPLICATIONS, scaled, shipped
from benchmarks.table import print_table
from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.plan import Plan, Replica
from samullm_tui.domain.request import IntArray
from samullm_tui.forecast.plans import draws_of, make_forecast
from samullm_tui.forecast.problem import ForecastInputs, build_problem
from samullm_tui.planner.reschedule import Situation, Verdict, forecast_rest, reconsider
from samullm_tui.simulate.application import Problem, Progress, simulate_stage
from samullm_tui.simulate.between import idle
from samullm_tui.supervisor.belief import draws_for
from samullm_tui.workload.requests import Workload

CLUSTER = "a100-80g:8"
SKEW = 1.3
TIMES = 3
T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """An application in the middle of a run. `planning_s` is what planning it took before the run."""

    name: str
    situation: Situation
    planning_s: float


def main() -> None:
    _row(_case("selftest", shipped("selftest"), 1))  # compiles
    cases = [_case(f"9 LLMs × {n:,}", scaled("ensembling", 9 * n), 0) for n in (1_000, 10_000)]
    cases += [_case(app, shipped(app), 1) for app in APPLICATIONS]
    header = ("run", "LLMs", "open", "rest s", "decision s", "scratch s", "ratio", "draws")
    found = ("~stay ends s", "~best change s", "decision")
    print_table(f"rescheduling on {CLUSTER} (ends simulated)", (*header, *found), [_row(c) for c in cases])


def _row(case: Case) -> tuple[str, ...]:
    now = case.situation
    rest_s, _ = _least_s(lambda: forecast_rest(now))
    decision_s, verdict = _least_s(lambda: reconsider(now, np.random.default_rng(0)))
    return (
        case.name,
        str(len(now.unfinished)),
        f"{int((~now.progress.done).sum()):,}",
        f"{rest_s:.2f}",
        f"{decision_s:.2f}",
        f"{case.planning_s:.2f}",
        f"{decision_s / case.planning_s:.2f}",
        *_outcome(verdict),
    )


def _outcome(verdict: Verdict) -> tuple[str, ...]:
    stay, *others = verdict.options
    best = f"{others[0].end_s:.0f}" if others else "–"
    said = "switch" if verdict.chosen else "keep"
    return str(len(stay.ends_s)), f"{stay.end_s:.0f}", best, said


def _least_s(work: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds: other work on the machine counts as little as may be."""
    seconds = []
    for _ in range(TIMES):
        before = processor_s()
        result = work()
        seconds.append(processor_s() - before)
    return min(seconds), result


def _case(name: str, workload: Workload, stages: int) -> Case:
    """At the end of so many stages; with none, right when the engines of the first are ready."""
    cluster = cluster_from_preset(CLUSTER)
    before = processor_s()
    plan = make_forecast(workload, cluster, seed=0).candidates[0].plan
    planning_s = processor_s() - before
    inputs = build_problem(workload, cluster)
    situation = _after(inputs, plan, stages) if stages else _ready(inputs, plan)
    return Case(name, situation, planning_s)


def _ready(inputs: ForecastInputs, plan: Plan) -> Situation:
    problem, replicas = inputs.problem, plan.stages[0].replicas
    at_s = max(problem.llms[problem.index(r.llm)].shape(r.tp).load_s for r in replicas)
    progress = Progress.fresh(problem)
    progress = Progress(
        progress.done, progress.generated, progress.finish_s, {r: idle(at_s) for r in replicas}
    )
    return _situation(inputs, progress, frozenset(replicas), at_s, plan)


def _after(inputs: ForecastInputs, plan: Plan, stages: int) -> Situation:
    (truth,) = (_skewed(inputs.problem, draw) for draw in draws_of(inputs, (0, 1), 1))
    progress, at_s = Progress.fresh(inputs.problem), 0.0
    running: frozenset[Replica] = frozenset()
    for stage in plan.stages[:stages]:
        trace = simulate_stage(inputs.problem, truth, progress, stage, running, at_s)
        progress, running, at_s = trace.progress, trace.replicas, trace.end_s
    rest = Plan(planner=plan.planner, stages=plan.stages[stages:] or plan.stages[-1:])
    return _situation(inputs, progress, running, at_s, rest)


def _situation(
    inputs: ForecastInputs, progress: Progress, running: frozenset[Replica], at_s: float, rest: Plan
) -> Situation:
    open_requests = int((~progress.done).sum())
    draws = tuple(
        np.where(
            progress.done,
            progress.generated,
            np.maximum(_skewed(inputs.problem, draw), progress.generated + 1),
        )
        for draw in draws_of(inputs, (0, 2), draws_for(open_requests, len(progress.done)))
    )
    return Situation(inputs.problem, progress, running, at_s, rest.stages, draws)


def _skewed(problem: Problem, draw: IntArray) -> IntArray:
    factor = np.where(problem.table.llm % 2, SKEW, 1 / SKEW)
    known = problem.table.known_tokens >= 0
    lengths = np.maximum(1, (draw * factor).astype(np.int64))
    return np.where(known, draw, np.minimum(lengths, problem.table.max_tokens))


if __name__ == "__main__":
    main()
