"""What pins to a stage do to a planner's choice for it."""

from __future__ import annotations

from collections.abc import Mapping

from samullm_tui.planner.outlook import Outlook
from samullm_tui.planner.shapes import Size, sizes_of, smallest

__all__ = ["with_due"]


def with_due(outlook: Outlook, wanted: Mapping[int, Size]) -> Mapping[int, Size]:
    """The choice with every LLM that pins let start in this stage, each in the size that ends first beside the others.

    Where there is no room even for the smallest size the others give way, the last chosen first. Unchanged where
    nothing is due, or what is due does not fit together.
    """
    task, missing = outlook.task, [llm for llm in outlook.due if llm not in wanted]
    if not missing:
        return wanted
    needed = {llm: wanted.get(llm) or smallest(task.problem.llms[llm], task.problem) for llm in outlook.due}
    if not task.fits(needed):
        return wanted
    rest = [llm for llm in wanted if llm not in needed]
    while not task.fits(stage := needed | {llm: wanted[llm] for llm in rest}):
        rest = _without(outlook, rest, rest[-1], needed)
    for llm in missing:
        fitting = [s for s in sizes_of(task.problem.llms[llm], task.problem) if task.fits(stage | {llm: s})]
        stage |= {llm: min(fitting, key=lambda size: outlook.alone(llm, size).end_s)}
    return stage


def _without(outlook: Outlook, some: list[int], llm: int, beside: Mapping[int, Size]) -> list[int]:
    """`some` without one LLM, and without those that then lack a source."""
    graph = outlook.task.graph
    kept = [other for other in some if other != llm and llm not in graph.unit_of(other)]
    while True:
        there = outlook.left - {*kept, *beside}
        fed = [other for other in kept if not graph.unit_sources(graph.unit_of(other)) & there]
        if len(fed) == len(kept):
            return kept
        kept = fed
