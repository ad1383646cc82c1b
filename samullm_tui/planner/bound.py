"""DOC"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.request import IntArray
from samullm_tui.planner.bound_certain import FirstStage, first_stage, once_gpu_s, sole_source
from samullm_tui.planner.bound_charges import LONGEST, alone, charges, longest_step_s, mixed_work, totals
from samullm_tui.planner.bound_path import finishes, longest_paths, paths
from samullm_tui.planner.bound_sharing import MOST_LLMS, least_gpus
from samullm_tui.planner.bound_tokens import computed_tokens, upstream_tokens
from samullm_tui.planner.shapes import sizes_of
from samullm_tui.simulate.application import LLMModel, Problem, ShapeModel

__all__ = ["lower_bound", "upstream_tokens"]

Floats = npt.NDArray[np.float64]
ROUNDING = 1e-9
"""Share by which the bound is lowered, so that sums in another order cannot fall below it."""
PRECISION = 1e-4
"""Relative width at which the search for the smallest possible makespan stops, at its lower end."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one LLM needs of the cluster.

    tp, load_s   of each shape
    work_gpu_s   least work when all of it is done in that shape, on any number of engines
    once_gpu_s   the same on a single engine that is started once
    mixed_gpu_s  least work when each token is computed in the shape that is best for it
    """

    tp: tuple[int, ...]
    load_s: tuple[float, ...]
    work_gpu_s: tuple[float, ...]
    once_gpu_s: tuple[float, ...]
    mixed_gpu_s: float

    def area(self, makespan_s: float, over_s: float, discount_s: float) -> float:
        """Least GPU-seconds of work and loads before `makespan_s`, each load `discount_s` shorter; inf: impossible.

        An engine computes from the end of its load, and up to `over_s` longer than the makespan.
        """
        least, loads, rate = np.inf, [], np.inf
        for tp, load_s, work, once in zip(
            self.tp, self.load_s, self.work_gpu_s, self.once_gpu_s, strict=True
        ):
            each_s = makespan_s + over_s - load_s
            if each_s <= 0:
                continue
            start = tp * max(load_s - discount_s, 0.0)
            more = work + max(2, ceil(work / (tp * each_s) - ROUNDING)) * start
            least = min(least, more, once + start if once <= tp * each_s * (1 + ROUNDING) else np.inf)
            loads.append(start)
            rate = min(rate, start / (tp * each_s))
        if len(loads) > 1:
            mixed_loads = max(sum(sorted(loads)[:2]), rate * self.mixed_gpu_s)
            least = min(least, self.mixed_gpu_s + mixed_loads)
        return least


@dataclass(frozen=True, slots=True)
class Needs:
    """What all LLMs need: everything that bounds a makespan, whatever the plan.

    alone_s [n, shapes], best_s [n], load_s [LLMs, shapes], switch_s [LLMs]   see `bound_path.finishes`
    work_gpu_s  [n] the least work of each request
    over_s      no step is longer; early_s what a stage's end may save on a path; 0 when there is one stage
    """

    alone_s: Floats
    best_s: Floats
    load_s: Floats
    switch_s: Floats
    work_gpu_s: Floats
    demands: dict[int, Demand]
    over_s: float
    early_s: float

    @property
    def lost_s(self) -> float:
        """GPU-seconds of each GPU that may count twice because loads are shorter than steps."""
        least_load_s = min(min(demand.load_s) for demand in self.demands.values())
        return (len(self.demands) + 1) * max(0.0, self.over_s - least_load_s)


def lower_bound(problem: Problem, output_tokens: IntArray) -> float:
    """Seconds. See the module's text for the proof."""
    if len(problem.table) == 0:
        return 0.0
    needs = _needs(problem, output_tokens)
    least_s = _smallest(problem, needs, float(_path(problem, needs).max()) - needs.early_s)
    source = sole_source(problem.table)
    if source >= 0 and needs.lost_s == 0:
        least_s = max(least_s, _after_source(problem, output_tokens, needs, source, least_s))
    return (1 - ROUNDING) * least_s


def _after_source(
    problem: Problem, output_tokens: IntArray, needs: Needs, source: int, least_s: float
) -> float:
    """The bound when one LLM must finish before any stage can end: the least over its sizes; at least `least_s`."""
    best = np.inf
    for size in reversed(sizes_of(problem.llms[source], problem)):
        demand = needs.demands[source]
        shape = demand.tp.index(size.tp)
        hurried_s = demand.load_s[shape] + demand.work_gpu_s[shape] / size.gpus
        if hurried_s >= best:
            continue
        stage = first_stage(problem, output_tokens, source, size)
        if stage is not None:
            best = min(best, _with_first_stage(problem, needs, source, stage, least_s))
        if best <= least_s:
            break
    return float(best) if best < np.inf else least_s


def _with_first_stage(
    problem: Problem, needs: Needs, source: int, stage: FirstStage, least_s: float
) -> float:
    """As `_smallest`, for plans whose first stage has the source in one certain size."""
    table, others = problem.table, [d for llm, d in needs.demands.items() if llm != source]
    finish_s = _path(problem, needs, stage.finish_s)
    load_s, tp = min(min(d.load_s) for d in others), min(min(d.tp) for d in others)
    ready_s = np.zeros(len(table))
    children = np.repeat(np.arange(len(table)), np.diff(table.parent_start))
    np.maximum.at(ready_s, children, finish_s[table.parents])
    mine = np.flatnonzero(table.llm != source)
    order = mine[np.argsort(-ready_s[mine], kind="stable")]
    later_gpu_s = np.cumsum(needs.work_gpu_s[order])
    beside = (problem.gpus - stage.gpus) // tp * tp
    room = sum(len(island) // tp * tp for island in problem.islands)
    from_s, all_from_s = np.maximum(ready_s[order], load_s), stage.end_s + load_s
    ends_s = (later_gpu_s + beside * from_s + (room - beside) * all_from_s) / room
    if beside > 0:
        alone_s = from_s + later_gpu_s / beside
        ends_s = np.where(alone_s <= all_from_s, alone_s, ends_s)
    least_s = max(least_s, float(finish_s.max()) - needs.early_s, float(ends_s.max()) - needs.early_s - needs.over_s)

    def fits(makespan_s: float) -> bool:
        cheapest = max(needs.over_s, load_s)
        for discount_s in {needs.over_s, cheapest}:
            area = sum(d.area(makespan_s, needs.over_s, discount_s) for d in others)
            held = stage.gpus * stage.end_s + (problem.gpus - stage.gpus) * discount_s
            if discount_s <= makespan_s and area + held > problem.gpus * makespan_s:
                return False
        return True

    return _first_that(fits, least_s)


def _path(problem: Problem, needs: Needs, known_s: Floats | None = None) -> Floats:
    return finishes(problem.table, needs.alone_s, needs.best_s, needs.load_s, needs.switch_s, known_s)


def _needs(problem: Problem, output_tokens: IntArray) -> Needs:
    table = problem.table
    prompts, outputs = computed_tokens(problem, output_tokens)
    width, longest = paths(table), longest_paths(table, outputs)
    used = np.flatnonzero(width).tolist()
    most = max(len(llm.shapes) for llm in problem.llms)
    alone_s, best_s, work_gpu_s = np.full((len(table), most), np.inf), *np.zeros((2, len(table)))
    load_s, switch_s = np.full((len(problem.llms), most), np.inf), np.zeros(len(problem.llms))
    demands: dict[int, Demand] = {}
    over_s = early_s = 0.0
    for llm in used:
        mine = np.flatnonzero(table.llm == llm)
        shapes = _placeable(problem, problem.llms[llm])
        loads = [shape.load_s for shape in shapes]
        seqs = int(width[llm])
        step_s = max(longest_step_s(shape, seqs) for shape in shapes) if len(used) > 1 else 0.0
        load_s[llm, : len(shapes)], switch_s[llm] = loads, min(loads)
        alone_s[mine, : len(shapes)], best_s[mine], cut_s = alone(shapes, prompts[mine], outputs[mine])
        over_s, early_s = max(over_s, step_s), max(early_s, cut_s)
        served = mine[outputs[mine] > 0]
        demand, work_gpu_s[served] = _demand(
            shapes, seqs, int(longest[llm]), prompts[served], outputs[served]
        )
        once = once_gpu_s(
            problem, output_tokens, llm, shapes, (demand.work_gpu_s, prompts[mine], outputs[mine])
        )
        demands[llm] = replace(demand, once_gpu_s=once)
    early_s *= len(used) - 1
    return Needs(alone_s, best_s, load_s, switch_s, work_gpu_s, demands, over_s, early_s)


def _placeable(problem: Problem, llm: LLMModel) -> tuple[ShapeModel, ...]:
    sizes = {size.tp for size in sizes_of(llm, problem)}
    return tuple(shape for shape in llm.shapes if shape.tp in sizes) or llm.shapes


def _demand(
    shapes: tuple[ShapeModel, ...], width: int, longest: int, prompts: IntArray, outputs: IntArray
) -> tuple[Demand, Floats]:
    """The demand of an LLM, and [k] the least work of each of its requests."""
    tps, loads = tuple(shape.tp for shape in shapes), tuple(shape.load_s for shape in shapes)
    if len(prompts) == 0:
        none = (0.0,) * len(shapes)
        return Demand(tps, loads, none, none, 0.0), np.zeros(0)
    valid = [charges(shape, width, int(prompts.min())) for shape in shapes]
    costs = [v @ totals(s, prompts, outputs, longest) for s, v in zip(shapes, valid, strict=True)]
    works = tuple(tp * float(cost.max()) for tp, cost in zip(tps, costs, strict=True))
    mixed: list[tuple[float, Floats]] = []
    for on_path in (False, True):
        fitting = [np.where((v[:, LONGEST] > 0) == on_path, c, -1.0) for v, c in zip(valid, costs, strict=True)]
        chosen = np.array([v[int(cost.argmax())] for v, cost in zip(valid, fitting, strict=True)])
        each, path = mixed_work(np.array(tps), chosen, prompts, outputs)
        mixed.append((float(each.sum()) + path * longest, each))
    best = max(mixed, key=lambda one: one[0])
    return Demand(tps, loads, works, works, min(best[0], *works)), mixed[0][1]


def _smallest(problem: Problem, needs: Needs, least_s: float) -> float:
    """The smallest makespan from `least_s` on in which all areas fit (to PRECISION, at the lower end)."""
    demands = list(needs.demands.values())
    groups = []
    for tp in sorted({min(d.tp) for d in demands}):
        room = sum(len(island) // tp * tp for island in problem.islands)
        groups.append((room, [d for d in demands if min(d.tp) >= tp]))

    def fits(makespan_s: float) -> bool:
        return all(_fit(room, some, needs, makespan_s) for room, some in groups) and (
            needs.lost_s > 0 or len(demands) > MOST_LLMS or _share(problem, demands, makespan_s, needs.over_s)
        )

    return _first_that(fits, least_s)


def _first_that(fits: Callable[[float], bool], least_s: float) -> float:
    """The first makespan from `least_s` on that fits (to PRECISION, at the lower end)."""
    if fits(least_s):
        return least_s
    low = high = max(least_s, 1e-9)
    while not fits(high):
        low, high = high, 2 * high
    while high - low > PRECISION * high:
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return low


def _fit(room: int, demands: list[Demand], needs: Needs, makespan_s: float) -> bool:
    cheapest = max(needs.over_s, min(min(d.load_s) for d in demands))
    for discount_s in {needs.over_s, cheapest}:
        area = sum(d.area(makespan_s, needs.over_s, discount_s) for d in demands)
        needed = area + room * (discount_s - needs.lost_s)
        if discount_s <= makespan_s and needed > room * makespan_s:
            return False
    return True


def _share(problem: Problem, demands: list[Demand], makespan_s: float, over_s: float) -> bool:
    ordered = sorted(demands, key=lambda d: min(d.load_s))
    load_s = np.array([min(d.load_s) for d in ordered])
    area = np.array([[d.area(makespan_s, over_s, discount) for d in ordered] for discount in load_s])
    return least_gpus(area, load_s, over_s, makespan_s) <= problem.gpus
