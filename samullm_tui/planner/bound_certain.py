"""Where a plan has no choice, the simulator says what happens; see `planner.bound` for why.

An LLM that takes nothing from others and runs on one engine, started once, does the same steps in every plan. And
where all other LLMs need the last outputs of one LLM, no stage ends before that one has finished.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.errors import PlanError
from samullm_tui.domain.plan import Placement, Replica, Stage
from samullm_tui.domain.request import IntArray, RequestTable
from samullm_tui.planner.bound_path import leads_to
from samullm_tui.planner.shapes import Size, pack
from samullm_tui.simulate.application import Problem, Progress, ShapeModel, StageTrace, simulate_stage
from samullm_tui.simulate.engine import simulate_requests

__all__ = ["FirstStage", "first_stage", "once_gpu_s", "sole_source"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FirstStage:
    """The LLM that must finish first, in one of its sizes: it finishes at end_s, its requests at finish_s [n] or NaN."""

    gpus: int
    end_s: float
    finish_s: Floats


def once_gpu_s(
    problem: Problem,
    output_tokens: IntArray,
    llm: int,
    shapes: tuple[ShapeModel, ...],
    work: tuple[tuple[float, ...], IntArray, IntArray],
) -> tuple[float, ...]:
    """GPU-seconds of all steps when one engine of each shape, started once, serves the whole LLM; at least `work`.

    `work` are the least GPU-seconds in each shape, and prompt and output tokens of all requests of the LLM. A shape
    that costs more than another does for certain is not simulated.
    """
    least, prompts, outputs = work
    own, foreign = _parents(problem.table, llm)
    if foreign or not (outputs > 0).all():
        return least
    once = list(least)
    surest = np.inf
    for s in sorted(range(len(shapes)), key=lambda s: least[s] + shapes[s].tp * shapes[s].load_s):
        shape = shapes[s]
        if least[s] + shape.tp * shape.load_s < surest:
            once[s] = max(
                least[s], shape.tp * _busy_s(problem, output_tokens, llm, shape, own, prompts, outputs)
            )
            surest = min(surest, once[s] + shape.tp * shape.load_s)
    return tuple(once)


def _parents(table: RequestTable, llm: int) -> tuple[bool, bool]:
    """Whether requests of `llm` take outputs of its own, and of other LLMs."""
    children = np.repeat(table.llm, np.diff(table.parent_start))
    mine = table.llm[table.parents[children == llm]]
    return bool((mine == llm).any()), bool((mine != llm).any())


def _busy_s(
    problem: Problem,
    output_tokens: IntArray,
    llm: int,
    shape: ShapeModel,
    chained: bool,
    prompts: IntArray,
    outputs: IntArray,
) -> float:
    """Seconds of all steps of one engine that serves all requests of the LLM."""
    if not chained:
        mine = problem.table.llm == llm
        given = (problem.table.max_tokens, problem.prefix, problem.table.prefix_tokens, problem.priority)
        caps, prefix, shared, priority = (None if column is None else column[mine] for column in given)
        return simulate_requests(
            shape.config,
            shape.latency,
            np.zeros(len(prompts)),
            prompts,
            outputs,
            max_tokens=caps,
            prefix=prefix,
            prefix_tokens=shared,
            priority=priority,
        ).makespan_s
    trace = _alone(problem, output_tokens, llm, Size(shape.tp, 1))
    return (trace.gpu_busy_s - shape.tp * shape.load_s) / shape.tp if trace else 0.0


def _alone(problem: Problem, output_tokens: IntArray, llm: int, size: Size) -> StageTrace | None:
    """The LLM from time 0 in this size; None where that is no stage."""
    name = problem.llms[llm].name
    placements: tuple[Placement, ...] | None = pack(problem, {name: size})
    if placements is None:
        return None
    try:
        stage, none = Stage(placements, (name,)), frozenset[Replica]()
        return simulate_stage(problem, output_tokens, Progress.fresh(problem), stage, none, 0.0)
    except PlanError:
        return None


def sole_source(table: RequestTable) -> int:
    """The LLM that takes nothing from others and of which every request leads to every other LLM; -1: there is none."""
    used = np.unique(table.llm)
    sources = [llm for llm in used.tolist() if not _parents(table, llm)[1]]
    if len(used) < 2 or len(used) > 62 or len(sources) != 1:
        return -1
    everywhere = np.bitwise_or.reduce(np.int64(1) << used)
    return sources[0] if (leads_to(table)[table.llm == sources[0]] == everywhere).all() else -1


def first_stage(problem: Problem, output_tokens: IntArray, llm: int, size: Size) -> FirstStage | None:
    """What is certain up to the finish of the sole source in this size; None where it cannot run so."""
    trace = _alone(problem, output_tokens, llm, size)
    if trace is None:
        return None
    finish_s = np.where(problem.table.llm == llm, trace.progress.finish_s, np.nan)
    return FirstStage(size.gpus, float(np.nanmax(finish_s)), finish_s)
