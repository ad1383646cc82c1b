"""The bound where one LLM must finish before any stage can end; see `planner.bound` for why."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.request import IntArray
from samullm_tui.planner.bound_area import first_that, fit
from samullm_tui.planner.bound_certain import FirstStage, first_stage, sole_source
from samullm_tui.planner.bound_needs import Needs
from samullm_tui.planner.shapes import Size, sizes_of
from samullm_tui.simulate.application import Problem

__all__ = ["after_source"]

Floats = npt.NDArray[np.float64]


def after_source(problem: Problem, output_tokens: IntArray, needs: Needs, least_s: float) -> float:
    """The bound when one LLM must finish before any stage can end: the least over its sizes. At least `least_s`."""
    source = sole_source(problem.table)
    if source < 0 or needs.lost_s > 0:
        return least_s
    best = np.inf
    for size in reversed(sizes_of(problem.llms[source], problem)):
        if _hurried_s(problem, needs, source, size) >= best:
            continue
        stage = first_stage(problem, output_tokens, source, size)
        if stage is not None:
            best = min(best, _with_first_stage(problem, needs, source, stage, least_s))
        if best <= least_s:
            break
    return max(least_s, float(best)) if best < np.inf else least_s


def _hurried_s(problem: Problem, needs: Needs, source: int, size: Size) -> float:
    """What the bound with the source in this size is at least: its work on all its GPUs without a pause.

    Where it leaves no room beside it, the others load after it has finished.
    """
    demand = needs.demands[source]
    shape = demand.tp.index(size.tp)
    source_s = demand.load_s[shape] + demand.work_gpu_s[shape] / size.gpus
    room, beside, load_s = _others_room(problem, needs, source, size.gpus)
    if beside > 0:
        return source_s
    work_gpu_s = float(needs.work_gpu_s[problem.table.llm != source].sum()) - _resumed_gpu_s(needs, source)
    return source_s + load_s + max(work_gpu_s, 0.0) / room - needs.early_s - needs.over_s


def _resumed_gpu_s(needs: Needs, source: int) -> float:
    """GPU-seconds of the others' work that engines may save by what is in their KV cache after a preemption."""
    return sum(saved for llm, saved in needs.resumed_gpu_s.items() if llm != source)


def _others_room(problem: Problem, needs: Needs, source: int, gpus: int) -> tuple[int, int, float]:
    """GPUs that the others can use, those of them beside a source on `gpus`, and their quickest load in seconds."""
    others = [demand for llm, demand in needs.demands.items() if llm != source]
    tp = min(min(demand.tp) for demand in others)
    room = sum(len(island) // tp * tp for island in problem.islands)
    return room, (problem.gpus - gpus) // tp * tp, min(min(demand.load_s) for demand in others)


def _with_first_stage(
    problem: Problem, needs: Needs, source: int, stage: FirstStage, least_s: float
) -> float:
    """For plans whose first stage has the source in one certain size."""
    others = [demand for llm, demand in needs.demands.items() if llm != source]
    finish_s = needs.finishes(problem.table, stage.finish_s)
    path_s = float(finish_s.max()) - needs.early_s
    later_s = _later(problem, needs, source, stage, finish_s) - needs.early_s - needs.over_s

    def fits(makespan_s: float) -> bool:
        held = (stage.gpus, stage.gpus * stage.end_s)
        return fit(others, problem.gpus, makespan_s, needs.over_s, held=held)

    return first_that(fits, max(least_s, path_s, later_s))


def _prefixes(needs: Needs, llm: IntArray, order: IntArray) -> Floats:
    """[k] GPU-seconds of shared prefixes, each with the last in `order` of those that have it: all of them before it.

    Of a group's prefixes it is the last one's, which is no longer than the longest.
    """
    groups = np.column_stack([llm[order], needs.group[order]])[::-1]
    _, last = np.unique(groups, axis=0, return_index=True)
    last = len(order) - 1 - last
    seconds = np.zeros(len(order))
    seconds[last] = needs.prefix_gpu_s[order[last]]
    return np.where(needs.group[order] >= 0, seconds, 0.0)


def _later(problem: Problem, needs: Needs, source: int, stage: FirstStage, finish_s: Floats) -> float:
    """When the work that cannot begin before a time is done at the earliest, the most over all times.

    Until the source has finished the others have only the GPUs beside it, and on its GPUs they must load first.
    """
    table = problem.table
    room, beside, load_s = _others_room(problem, needs, source, stage.gpus)
    ready_s = np.zeros(len(table))
    children = np.repeat(np.arange(len(table)), np.diff(table.parent_start))
    np.maximum.at(ready_s, children, finish_s[table.parents])
    consumers = np.flatnonzero(table.llm != source)
    last_first = consumers[np.argsort(-ready_s[consumers], kind="stable")]
    gpu_s = np.cumsum(needs.work_gpu_s[last_first] + _prefixes(needs, table.llm, last_first))
    gpu_s = np.maximum(gpu_s - _resumed_gpu_s(needs, source), 0.0)
    from_s, all_from_s = np.maximum(ready_s[last_first], load_s), stage.end_s + load_s
    end_s = (gpu_s + beside * from_s + (room - beside) * all_from_s) / room
    if beside > 0:
        beside_s = from_s + gpu_s / beside
        end_s = np.where(beside_s <= all_from_s, beside_s, end_s)
    return float(end_s.max())
