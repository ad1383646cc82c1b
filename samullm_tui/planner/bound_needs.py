"""What the LLMs of an application need, whatever the plan: the figures that `planner.bound` reasons with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.request import IntArray, RequestTable
from samullm_tui.planner.bound_area import Demand, demand_of
from samullm_tui.planner.bound_certain import once_gpu_s
from samullm_tui.planner.bound_charges import alone, longest_step_s
from samullm_tui.planner.bound_path import depth, finishes, own_paths, paths
from samullm_tui.planner.bound_prefixes import tokens_of
from samullm_tui.planner.bound_tokens import computed_tokens
from samullm_tui.planner.shapes import sizes_of
from samullm_tui.simulate.application import LLMModel, Problem, ShapeModel

__all__ = ["Needs", "needs_of"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Needs:
    """What all LLMs need: everything that bounds a makespan, whatever the plan.

    alone_s [n, shapes], best_s [n], load_s [LLMs, shapes], switch_s [LLMs]   see `bound_path.finishes`
    work_gpu_s  [n] the least work of each request
    prefix_gpu_s  [n] the least work of the prefix that it shares, once for its whole group
    group       [n] see `bound_prefixes`
    resumed_gpu_s  for each LLM what resumptions may save of all of it
    over_s      no step is longer; 0 where no stage ends before everything is finished
    early_s     what the ends of all stages together may save on a path
    """

    alone_s: Floats
    best_s: Floats
    load_s: Floats
    switch_s: Floats
    work_gpu_s: Floats
    prefix_gpu_s: Floats
    group: IntArray
    resumed_gpu_s: dict[int, float]
    demands: dict[int, Demand]
    over_s: float
    early_s: float

    @property
    def lost_s(self) -> float:
        """Seconds of each GPU that may count twice because loads are shorter than steps."""
        least_load_s = min(min(demand.load_s) for demand in self.demands.values())
        return (len(self.demands) + 1) * max(0.0, self.over_s - least_load_s)

    def finishes(self, table: RequestTable, known_s: Floats | None = None) -> Floats:
        """[n] seconds before which no request finishes, `early_s` aside. `known_s` [n] are those that are known, else NaN."""
        return finishes(table, self.alone_s, self.best_s, self.load_s, self.switch_s, known_s)


def needs_of(problem: Problem, output_tokens: IntArray) -> Needs:
    """For at least one request."""
    table = problem.table
    prompts, outputs = computed_tokens(problem, output_tokens)
    tokens = tokens_of(problem, prompts, outputs)
    width = paths(table)
    longest = own_paths(table, outputs[:, None].astype(np.float64))[:, 0]
    used = np.flatnonzero(width).tolist()
    most = max(len(llm.shapes) for llm in problem.llms)
    alone_s, best_s = np.full((len(table), most), np.inf), np.zeros(len(table))
    work_gpu_s, prefix_gpu_s = np.zeros((2, len(table)))
    load_s, switch_s = np.full((len(problem.llms), most), np.inf), np.zeros(len(problem.llms))
    demands: dict[int, Demand] = {}
    resumed_gpu_s: dict[int, float] = {}
    over_s = prefill_s = decode_s = 0.0
    for llm in used:
        mine = np.flatnonzero(table.llm == llm)
        shapes = _placeable(problem, problem.llms[llm])
        loads = [shape.load_s for shape in shapes]
        seqs = int(width[llm])
        step_s = max(longest_step_s(shape, seqs) for shape in shapes) if len(used) > 1 else 0.0
        load_s[llm, : len(shapes)], switch_s[llm] = loads, min(loads)
        alone_s[mine, : len(shapes)], best_s[mine], cut_s = alone(shapes, seqs, tokens.of(mine))
        over_s, prefill_s, decode_s = max(over_s, step_s), max(prefill_s, cut_s[0]), max(decode_s, cut_s[1])
        served = mine[outputs[mine] > 0]
        demand, work = demand_of(shapes, seqs, int(longest[llm]), tokens.of(served), len(used) * problem.gpus)
        work_gpu_s[served], prefix_gpu_s[served], resumed_gpu_s[llm] = work.each, work.prefix, work.resumed
        once = once_gpu_s(
            problem, output_tokens, llm, shapes, (demand.work_gpu_s, prompts[mine], outputs[mine])
        )
        demands[llm] = replace(demand, once_gpu_s=once)
    ends, prefills = len(used) - 1, min(len(used) - 1, depth(table))
    early_s = prefills * max(prefill_s, decode_s) + (ends - prefills) * decode_s
    own_s = (alone_s, best_s, load_s, switch_s)
    return Needs(*own_s, work_gpu_s, prefix_gpu_s, tokens.group, resumed_gpu_s, demands, over_s, early_s)


def _placeable(problem: Problem, llm: LLMModel) -> tuple[ShapeModel, ...]:
    sizes = {size.tp for size in sizes_of(llm, problem)}
    return tuple(shape for shape in llm.shapes if shape.tp in sizes) or llm.shapes
