"""Random valid plans: any LLMs in any shapes, preempted, moved and loaded again between stages for no reason."""

from __future__ import annotations

import numpy as np

from samullm_tui.domain.errors import PlanError
from samullm_tui.domain.plan import Placement, Plan, Replica, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.graph import LLMGraph, llm_graph
from samullm_tui.simulate.application import Problem, Progress, simulate_stage

__all__ = ["random_plan"]

KEEP = 0.6
"""How often a running LLM that goes on keeps the replicas it has."""


def random_plan(problem: Problem, output_tokens: IntArray, rng: np.random.Generator) -> Plan:
    """A valid plan that finishes everything for these lengths."""
    graph = llm_graph(problem.table)
    progress, running, at_s = Progress.fresh(problem), frozenset[Replica](), 0.0
    stages: list[Stage] = []
    begun: set[int] = set()
    while not progress.finished:
        left = set(np.flatnonzero(progress.left(problem)).tolist())
        members = _members(graph, left, begun, rng)
        placements = _placements(problem, members, running, rng)
        if {placement.llm for placement in placements} != {problem.llms[llm].name for llm in members}:
            continue
        for llm in rng.permutation([placement.llm for placement in placements]).tolist():
            stage = Stage(placements, (llm,))
            try:
                trace = simulate_stage(problem, output_tokens, progress, stage, running, at_s)
            except PlanError:  # it waits for an LLM that does not run
                continue
            stages.append(stage)
            begun |= members
            progress, running, at_s = trace.progress, trace.replicas, trace.end_s
            break
    return Plan(planner="random", stages=tuple(stages))


def _members(graph: LLMGraph, left: set[int], begun: set[int], rng: np.random.Generator) -> set[int]:
    """Some of the LLMs that are left, with those that must run beside them."""
    members: set[int] = set()
    chance = rng.random()
    for unit in graph.units:
        ready = all(source not in left or source in begun | members for source in graph.unit_sources(unit))
        if left & set(unit) and ready and (not members or rng.random() < chance):
            members |= left & set(unit)
    return members


def _placements(
    problem: Problem, members: set[int], running: frozenset[Replica], rng: np.random.Generator
) -> tuple[Placement, ...]:
    """Random shapes on random GPUs; those LLMs that find room."""
    free = [rng.permutation(island).tolist() for island in problem.islands]
    placed: list[Placement] = []
    for llm in rng.permutation(sorted(members)).tolist():
        name = problem.llms[llm].name
        own = [r for r in running if r.llm == name]
        if own and rng.random() < KEEP and all(set(r.gpus) <= {g for f in free for g in f} for r in own):
            groups = [list(replica.gpus) for replica in sorted(own, key=lambda r: r.gpus)]
        else:
            tp = int(rng.choice([shape.tp for shape in problem.llms[llm].shapes]))
            groups = [f[k : k + tp] for f in free for k in range(0, len(f) - tp + 1, tp)]
            groups = groups[: int(rng.integers(1, len(groups) + 1))] if groups else []
        if groups:
            gpus = [gpu for group in groups for gpu in group]
            free = [[gpu for gpu in f if gpu not in gpus] for f in free]
            placed.append(Placement(name, len(groups[0]), len(groups), tuple(gpus)))
    return tuple(placed)
