"""The two plans to beat, made with the same cost model as the greedy one.

LLMs that feed each other in a circle (x → y → x) can only run together: both baselines put them into one stage and
split GPUs between them. Where even their smallest shapes do not fit together there is no plan: PlacementError.
"""

from __future__ import annotations

from collections.abc import Iterable

from samullm_tui.domain.plan import Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.outlook import Outlook, Task
from samullm_tui.planner.shapes import Size, sizes_of, smallest
from samullm_tui.planner.stages import Choice, plan_of
from samullm_tui.simulate.application import Problem

__all__ = ["max_heuristic", "min_heuristic"]


def max_heuristic(problem: Problem, output_tokens: IntArray, task: Task | None = None) -> Plan:
    """One LLM at a time, sources first, on all GPUs in its fastest shape. Raises PlacementError."""
    return plan_of(task or Task(problem, output_tokens), "max-heuristic", _one_at_a_time)


def min_heuristic(problem: Problem, output_tokens: IntArray, task: Task | None = None) -> Plan:
    """As many ready LLMs as possible at once, sources first, GPUs split evenly. Raises PlacementError.

    A consumer is ready beside its sources: it takes their outputs as they come.
    """
    return plan_of(task or Task(problem, output_tokens), "min-heuristic", _all_at_once)


def _one_at_a_time(outlook: Outlook) -> Choice:
    unit = next(unit for unit in outlook.task.graph.units if outlook.left & set(unit))
    members = [llm for llm in unit if llm in outlook.left]
    names = ", ".join(map(outlook.name, members))
    if len(members) > 1:
        even = _split_evenly(outlook, _smallest(outlook, members))
        return Choice(even, f"{names} together: each feeds the other.")
    llm = members[0]
    widest: dict[int, Size] = {}
    for size in sizes_of(outlook.task.problem.llms[llm], outlook.task.problem):
        widest[size.tp] = size
    best = min(widest.values(), key=lambda size: (outlook.from_start(llm, size).end_s, size.tp))
    return Choice({llm: best}, f"{names} alone on all GPUs, in its fastest shape.")


def _all_at_once(outlook: Outlook) -> Choice:
    wanted: dict[int, Size] = {}
    for unit in outlook.task.graph.units:
        members = [llm for llm in unit if llm in outlook.left]
        if members and outlook.may_start(unit, wanted):
            more = wanted | _smallest(outlook, members)
            if outlook.task.fits(more):
                wanted = more
    return Choice(_split_evenly(outlook, wanted), "As many ready LLMs as fit, GPUs split evenly.")


def _smallest(outlook: Outlook, members: Iterable[int]) -> dict[int, Size]:
    """The smallest shape of each LLM: where they can only run together, these fit together (see `Task`)."""
    problem = outlook.task.problem
    return {llm: smallest(problem.llms[llm], problem) for llm in members}


def _split_evenly(outlook: Outlook, wanted: dict[int, Size]) -> dict[int, Size]:
    """Grows the LLM with the fewest GPUs while anything fits; then each takes its fastest shape of that many GPUs."""
    growing = set(wanted)
    while growing:
        llm = min(growing, key=lambda llm: (wanted[llm].gpus, llm))
        larger = [size for size in _sizes(outlook, llm) if size.gpus > wanted[llm].gpus]
        if larger and outlook.task.fits(wanted | {llm: larger[0]}):
            wanted = wanted | {llm: larger[0]}
        else:
            growing.remove(llm)
    for llm, size in tuple(wanted.items()):
        same = [
            s for s in _sizes(outlook, llm) if s.gpus == size.gpus and outlook.task.fits(wanted | {llm: s})
        ]
        wanted = wanted | {llm: min(same, key=lambda s: (outlook.alone(llm, s).end_s, s.tp))}
    return wanted


def _sizes(outlook: Outlook, llm: int) -> tuple[Size, ...]:
    return sizes_of(outlook.task.problem.llms[llm], outlook.task.problem)
