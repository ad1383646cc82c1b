"""The two plans to beat, made with the same cost model as the greedy one.

LLMs that feed each other in a circle (x → y → x) can only run together: both baselines put them into one stage and
split GPUs between them; when even their smallest shapes do not fit together, PlacementError says so.
"""

from __future__ import annotations

from collections.abc import Iterable

from samullm_tui.domain import errors
from samullm_tui.domain.plan import Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.outlook import Outlook
from samullm_tui.planner.shapes import Size, sizes_of, smallest
from samullm_tui.planner.stages import Choice, plan_stages
from samullm_tui.simulate.application import Problem

__all__ = ["max_heuristic", "min_heuristic", "smallest_together"]


def max_heuristic(problem: Problem, output_tokens: IntArray) -> Plan:
    """One LLM at a time, sources first, on all GPUs in its fastest shape. Raises PlacementError."""
    return plan_stages(problem, output_tokens, "max-heuristic", _one_at_a_time)


def min_heuristic(problem: Problem, output_tokens: IntArray) -> Plan:
    """As many ready LLMs as possible at once, sources first, GPUs split evenly. Raises PlacementError.

    A consumer is ready beside its sources: it takes their outputs as they come.
    """
    return plan_stages(problem, output_tokens, "min-heuristic", _all_at_once)


def _one_at_a_time(outlook: Outlook) -> Choice:
    unit = next(unit for unit in outlook.task.graph.units if outlook.left & set(unit))
    members = [llm for llm in unit if llm in outlook.left]
    names = ", ".join(map(outlook.name, members))
    if len(members) > 1:
        return _split_evenly(
            outlook, smallest_together(outlook, members)
        ), f"{names} together: each feeds the other."
    llm = members[0]
    widest: dict[int, Size] = {}
    for size in sizes_of(outlook.task.problem.llms[llm], outlook.task.problem):
        widest[size.tp] = size
    best = min(widest.values(), key=lambda size: (outlook.estimate(((llm, size),)).end_s, size.tp))
    return {llm: best}, f"{names} alone on all GPUs, in its fastest shape."


def _all_at_once(outlook: Outlook) -> Choice:
    wanted: dict[int, Size] = {}
    for unit in outlook.task.graph.units:
        members = [llm for llm in unit if llm in outlook.left]
        if members and outlook.may_start(unit, wanted):
            more = wanted | smallest_together(outlook, members)
            if outlook.task.fits(more):
                wanted = more
    return _split_evenly(outlook, wanted), "As many ready LLMs as fit, GPUs split evenly."


def smallest_together(outlook: Outlook, members: Iterable[int]) -> dict[int, Size]:
    """The smallest shape of each of LLMs that can only run together. Raises PlacementError when they do not fit."""
    problem = outlook.task.problem
    wanted = {llm: smallest(problem.llms[llm], problem) for llm in members}
    if not outlook.task.fits(wanted):
        names = ", ".join(map(outlook.name, wanted))
        needed = sum(size.gpus for size in wanted.values())
        wrong = f"they feed each other and need {needed} GPUs at once"
        raise errors.PlacementError(
            errors.Problem("", f"LLMs {names}", wrong, f"there are {problem.gpus} GPUs")
        )
    return wanted


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
