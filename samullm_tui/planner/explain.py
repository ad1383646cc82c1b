"""Why a plan is as it is, in sentences, from what simulating it said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from samullm_tui.domain.plan import Candidate, GpuTime, Placement, Plan, Replica, Stage, faster_draws
from samullm_tui.planner.gpu_time import gpu_times, whole
from samullm_tui.planner.graph import LLMGraph, llm_graph
from samullm_tui.planner.runner_up import RunnerUp
from samullm_tui.planner.words import duration, gpu_list, hundredths, joined, percent, sized
from samullm_tui.simulate.application import PlanTrace, Problem

__all__ = ["compare", "explain"]

AS_GOOD = 0.05
"""A simpler plan within this share of the best one is worth a word."""
BASELINES = ("max-heuristic", "min-heuristic")
MOST_STAGES = 12


def explain(
    problem: Problem, plan: Plan, trace: PlanTrace, others: Mapping[int, RunnerUp] | None = None
) -> tuple[str, ...]:
    """Where the GPU time goes, then a few sentences for each stage. `trace` is the draw that is shown.

    `others` are the runners-up by stage, simulated on the same draw.
    """
    view = _View(problem, llm_graph(problem.table), trace)
    lines: list[str] = []
    before: frozenset[Replica] = frozenset()
    times = gpu_times(problem, trace)
    for number, stage in enumerate(plan.stages[:MOST_STAGES]):
        start_s, end_s = trace.stage_times[number]
        lines += _stage(view, stage, (number + 1, start_s, end_s), before)
        if others and number in others:
            lines.append(_against(others[number], trace.makespan_s))
        if len(plan.stages) > 1 and end_s > start_s:
            lines.append(f"GPU time of stage {number + 1}: {_shares(times[number])}.")
        before = frozenset(stage.replicas)
    if len(plan.stages) > MOST_STAGES:
        lines.append(f"… and {len(plan.stages) - MOST_STAGES} further stages.")
    total = whole(times)
    said = f"GPU time: {_shares(total)}." if total.total > 0 else "There is nothing to do."
    return (said, *lines)


def _against(other: RunnerUp, makespan_s: float) -> str:
    """What the runner-up of a stage costs, on the draw that is shown."""
    more_s = other.makespan_s - makespan_s
    share = abs(more_s) / makespan_s
    many = f"the best of {other.tried} others simulated" if other.tried > 1 else "simulated"
    if share < 0.0005:
        return f"As good ({many}): {other.what}."
    later = "later" if more_s > 0 else "sooner"
    return f"Runner-up ({many}): {other.what}; everything ends {duration(abs(more_s))} ({100 * share:.1f} %) {later}."


PARTS = (
    ("computing", "computing"),
    ("loading", "loading"),
    ("waiting", "waiting for a source"),
    ("idle", "in engines without work"),
    ("empty", "without an engine"),
)


def _shares(time: GpuTime) -> str:
    """Whole percents that add up to 100; parts of none are left out."""
    shares = hundredths([getattr(time, name) for name, _ in PARTS])
    return ", ".join(f"{share} % {said}" for share, (_, said) in zip(shares, PARTS, strict=True) if share)


class _View(NamedTuple):
    """What the sentences are about."""

    problem: Problem
    graph: LLMGraph
    trace: PlanTrace


def _stage(
    view: _View, stage: Stage, times: tuple[int, float, float], before: frozenset[Replica]
) -> list[str]:
    number, start_s, end_s = times
    when = f"Stage {number} at {duration(start_s)}: {_what(stage, before)}"
    ends = f"ends after {duration(end_s - start_s)}, when {joined(stage.until)} {_have(stage.until)} finished"
    costs = _load_cost(view.problem, stage, before)
    lines = [f"{when}; {ends}{costs}."]
    if stage.why:
        lines.append(stage.why)
    lines += [
        said for placement in stage.placements if (said := _beside(view, stage, placement, (start_s, end_s)))
    ]
    return lines


def _have(llms: Sequence[str]) -> str:
    return "has" if len(llms) == 1 else "have"


def _what(stage: Stage, before: frozenset[Replica]) -> str:
    """What is new; or, in a first stage, everything."""
    parts = []
    for placement in stage.placements:
        new = [replica for replica in placement.replicas if replica not in before]
        kept = placement.dp - len(new)
        if new and kept:
            gpus = [gpu for replica in new for gpu in replica.gpus]
            parts.append(f"{placement.llm} +{len(new)} on {gpu_list(gpus)}")
        elif new:
            parts.append(f"{sized(placement)} on {gpu_list(placement.gpus)}")
    goes_on = [p.llm for p in stage.placements if set(p.replicas) <= before]
    if goes_on:
        parts.append(f"{joined(goes_on)} {'goes' if len(goes_on) == 1 else 'go'} on")
    return ", ".join(parts)


def _load_cost(problem: Problem, stage: Stage, before: frozenset[Replica]) -> str:
    loads = [
        problem.llms[problem.index(placement.llm)].shape(placement.tp).load_s
        for placement in stage.placements
        if not set(placement.replicas) <= before
    ]
    return f"; loading takes {duration(max(loads))}" if loads else ""


def _beside(view: _View, stage: Stage, placement: Placement, times: tuple[float, float]) -> str:
    """How much of a consumer's work is done by the time its sources in the stage have finished."""
    problem, graph, trace = view
    llm = problem.index(placement.llm)
    members = {problem.index(p.llm) for p in stage.placements}
    finish_s = np.nan_to_num(trace.finish_s)
    ends_s = {s: float(finish_s[problem.table.llm == s].max()) for s in sorted(graph.sources[llm] & members)}
    ending = {source: end_s for source, end_s in ends_s.items() if times[0] < end_s <= times[1]}
    if not ending:
        return ""
    share = float((finish_s[problem.table.llm == llm] <= max(ending.values())).mean())
    names = joined([problem.llms[source].name for source in ending])
    return f"{placement.llm} beside {names}: {percent(share)} of its requests are done when {names} ends."


def compare(candidates: Sequence[Candidate], rank: int, quantile: float = 0.5) -> tuple[str, ...]:
    """Candidate `rank` (from 1, best first by this quantile) against the others: how much faster or slower, in how
    many draws, and is simpler as good.
    """
    best, this = candidates[0], candidates[rank - 1]
    value = _value(this, quantile)
    if this.plan != best.plan and rank > 1:
        return (_against_best(best, this, value - _value(best, quantile), _value(best, quantile)),)
    said = [
        f"{other.plan.planner} is within {percent(max(_value(other, quantile) / value - 1, 0.01))}: "
        f"{_simpler(other)} is as good as this plan."
        for other in candidates[1:]
        if other.plan.planner in BASELINES and _value(other, quantile) <= (1 + AS_GOOD) * value
    ]
    if this.plan.planner in BASELINES:
        said = ["No planner found anything better than this simple plan."]
    bound = (
        f"No plan can be more than {percent(this.gap / (1 + this.gap))} faster than this one."
        if this.gap >= 0
        else ""
    )
    return tuple(filter(None, (*said[:1], _faster(this, candidates[1:]), bound)))


def _faster(best: Candidate, others: Sequence[Candidate]) -> str:
    """In how many of the draws that they share the best plan is faster than each other one, or as fast."""
    faster, equal = [], []
    for other in others:
        won, shared = faster_draws(best, other)
        same = shared - won - faster_draws(other, best)[0]
        if same <= shared / 2:
            faster.append(f"than {other.plan.planner} in {won} of {shared}")
        elif same < shared:
            equal.append(f"{other.plan.planner} in {same} of {shared}")
    said = [f"faster {joined(faster)} draws"] if faster else []
    said += [f"as fast as {joined(equal)} draws"] if equal else []
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _against_best(best: Candidate, this: Candidate, slower: float, value: float) -> str:
    """`slower` seconds than the best one's `value`."""
    if slower <= 0:
        return f"As fast as {best.plan.planner}, which loads less."
    won, draws = faster_draws(this, best)
    loads = this.loads - best.loads
    word = f"{'more' if loads > 0 else 'fewer'} load{'s' if abs(loads) > 1 else ''}"
    return (
        f"{duration(slower)} ({percent(slower / value)}) slower than {best.plan.planner}, "
        f"{f'with {abs(loads)} {word}, ' if loads else ''}faster in {won} of {draws} draws."
    )


def _simpler(other: Candidate) -> str:
    if other.plan.planner == "max-heuristic":
        return "one LLM at a time on all GPUs"
    return "all ready LLMs at once, GPUs split evenly,"


def _value(candidate: Candidate, quantile: float) -> float:
    return float(np.quantile(candidate.makespans_s, quantile))
