"""Whether a plan can run at all, said before anything runs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.planner.graph import LLMGraph, llm_graph
from samullm_tui.planner.pins import broken_pins
from samullm_tui.simulate.application import Problem

__all__ = ["valid"]


def valid(problem: Problem, plan: Plan, done: npt.NDArray[np.bool_] | None = None) -> list[str]:
    """What is wrong with `plan`, one sentence each, stages counted from 1; empty when it can run.

    Looked at: GPUs exist and are used once a stage; tp is known for the LLM and stays inside an island; every LLM with
    requests gets a stage, in which (or before which) all its sources run; no stage waits for an LLM that it lacks;
    pins are kept. Of requests that are `done` [n] nothing is asked.
    """
    graph = llm_graph(problem.table, done)
    llms = problem.table.llm if done is None else problem.table.llm[~done]
    used = frozenset(np.unique(llms).tolist())
    wrong = [
        f"stage {number}: {what}"
        for number, stage in enumerate(plan.stages, start=1)
        for what in [*_wrong_gpus(problem, stage), *_wrong_stage(problem, stage)]
    ]
    wrong += _wrong_order(problem, plan, graph, used)
    return wrong or broken_pins(problem, plan)


def _wrong_gpus(problem: Problem, stage: Stage) -> list[str]:
    used = Counter(gpu for placement in stage.placements for gpu in placement.gpus)
    twice = sorted(gpu for gpu, times in used.items() if times > 1)
    unknown = sorted(gpu for gpu in used if not 0 <= gpu < problem.gpus)
    wrong = [f"GPU {gpu} is used {used[gpu]} times" for gpu in twice]
    wrong += [f"GPU {gpu} is not in the cluster of {problem.gpus}" for gpu in unknown]
    return wrong


def _wrong_stage(problem: Problem, stage: Stage) -> list[str]:
    known = {llm.name: {shape.tp for shape in llm.shapes} for llm in problem.llms}
    wrong = []
    for placement in stage.placements:
        if placement.llm not in known:
            wrong.append(f"{placement.llm} is no LLM of the application")
            continue
        wrong += _wrong_placement(problem, placement, known[placement.llm])
    members = Counter(placement.llm for placement in stage.placements)
    wrong += [f"{llm} has {times} placements instead of one" for llm, times in members.items() if times > 1]
    wrong += [f"it waits for {llm}, which it does not run" for llm in stage.until if llm not in members]
    return wrong


def _wrong_placement(problem: Problem, placement: Placement, known_tp: set[int]) -> list[str]:
    where = f"{placement.llm} tp{placement.tp} ×{placement.dp}"
    wrong = []
    if placement.tp not in known_tp:
        wrong.append(f"{where}: tp is none of {', '.join(map(str, sorted(known_tp)))}")
    if placement.dp < 1 or len(placement.gpus) != placement.tp * placement.dp:
        wrong.append(f"{where} has {len(placement.gpus)} GPUs")
        return wrong
    apart = [
        replica
        for replica in placement.replicas
        if not any(set(replica.gpus) <= set(island) for island in problem.islands)
    ]
    return wrong + [f"{where}: GPUs {', '.join(map(str, r.gpus))} are not in one island" for r in apart]


def _wrong_order(problem: Problem, plan: Plan, graph: LLMGraph, open_llms: frozenset[int]) -> list[str]:
    """Every LLM with open requests must run at some time, and not before its sources began to run."""
    names = [llm.name for llm in problem.llms]
    first: dict[str, int] = {}
    for number, stage in enumerate(plan.stages, start=1):
        for placement in stage.placements:
            first.setdefault(placement.llm, number)
    used = [llm for unit in graph.units for llm in unit if llm in open_llms]
    wrong = [f"{names[llm]} has requests and is in no stage" for llm in used if names[llm] not in first]
    for llm in used:
        for source in sorted(graph.sources[llm] & open_llms):
            late = first.get(names[source], 0) > first.get(names[llm], len(plan.stages) + 1)
            if late:
                wrong.append(f"{names[llm]} runs before {names[source]}, whose outputs it takes")
    return wrong
