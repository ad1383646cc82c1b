"""Beyond greedy: a local search over which LLM starts when, and how large, from many starts.

First by a table of durations, one engine simulation for each (LLM, size), thousands of schedules; then the most
promising ones simulated whole and improved by further moves, as many as the size of the application allows. An LLM
keeps its engines until it has finished; when nothing waits for GPUs any more, free ones go to LLMs that still run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from samullm_tui.domain.plan import Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.outlook import Outlook, Task
from samullm_tui.planner.schedule import Schedule, Table, moved, promising
from samullm_tui.planner.shapes import Size, stays
from samullm_tui.planner.stages import Choice, plan_and_end
from samullm_tui.planner.words import joined
from samullm_tui.simulate.application import Problem, Progress

__all__ = ["search"]

FINALISTS = 4
MOVES = 120
REQUESTS = 400_000
"""The second phase tries at most so many moves, and simulates at most so many requests in all."""
GROWTH = 0.95
"""Free GPUs go to a running LLM when it then ends within this share of its remaining time, the load included."""

Planned = tuple[Plan, float]


def search(
    problem: Problem,
    output_tokens: IntArray,
    task: Task | None = None,
    *,
    seed: int = 0,
    requests: int = REQUESTS,
) -> Plan:
    """The best plan found for these output lengths; the same for the same seed. Raises PlacementError.

    `task` is one made for the same problem and lengths, so that planners share what they simulate. `requests` bounds
    the effort: how many requests may be simulated to improve the best plan.
    """
    task, rng = task or Task(problem, output_tokens), np.random.default_rng(seed)
    table = Table(Outlook(task, Progress.fresh(problem), frozenset()))
    starts = [(schedule, _simulated(task, schedule)) for schedule in promising(table, rng, FINALISTS)]
    schedule, best = min(starts, key=lambda one: one[1][1])
    tried = {one.key for one, _ in starts}
    for _ in range(min(MOVES, requests // max(1, len(problem.table)))):
        other = moved(table, schedule, rng)
        if other.key not in tried:
            tried.add(other.key)
            planned = _simulated(task, other)
            if planned[1] < best[1]:
                schedule, best = other, planned
    return min(best, _simulated(task, schedule, grow=False), key=lambda planned: planned[1])[0]


def _simulated(task: Task, schedule: Schedule, *, grow: bool = True) -> Planned:
    return plan_and_end(task, "search", _follow(schedule, grow=grow))


def _follow(schedule: Schedule, *, grow: bool) -> Callable[[Outlook], Choice]:
    """Chooses the stages of a plan that follows the schedule, whatever the durations turn out to be."""

    def choose(outlook: Outlook) -> Choice:
        wanted = outlook.sizes()
        fresh: list[int] = []
        for unit in schedule.order:
            members = [llm for llm in unit if llm in outlook.left]
            if not members or any(llm in wanted for llm in members):
                continue
            more = wanted | {llm: schedule.sizes[llm] for llm in members}
            beside = wanted if unit in schedule.beside else {}
            if outlook.may_start(unit, beside) and _fits(outlook, more):
                wanted, fresh = more, fresh + members
        larger = wanted if outlook.left - wanted.keys() or not grow else _grown(outlook, wanted)
        return larger, _why(outlook, fresh, [llm for llm in larger if larger[llm] != wanted[llm]])

    return choose


def _fits(outlook: Outlook, wanted: Mapping[int, Size]) -> bool:
    """Whether the stage fits with every running replica where it is."""
    task, names = outlook.task, {outlook.name(llm) for llm in wanted}
    return task.fits(wanted) and stays(task.place(wanted, outlook.running), outlook.running, names)


def _grown(outlook: Outlook, wanted: dict[int, Size]) -> dict[int, Size]:
    """Free GPUs to the LLM that ends last, then to the next, where it ends sooner with them."""
    for llm in sorted(wanted, key=lambda llm: -outlook.alone(llm, wanted[llm]).end_s):
        now_s = outlook.alone(llm, wanted[llm]).end_s
        tp, dp = wanted[llm]
        larger = (Size(tp, more) for more in range(dp + 1, outlook.task.problem.gpus // tp + 1))
        fitting = [size for size in larger if _fits(outlook, wanted | {llm: size})]
        best = min(fitting, key=lambda size: outlook.alone(llm, size).end_s, default=None)
        if best is not None and outlook.alone(llm, best).end_s < GROWTH * now_s:
            wanted = wanted | {llm: best}
    return wanted


def _why(outlook: Outlook, fresh: list[int], grown: list[int]) -> str:
    said = []
    if fresh:
        said.append(
            f"{joined([outlook.name(llm) for llm in fresh])} now: the best of the orders and sizes tried"
        )
    if grown:
        names = joined([outlook.name(llm) for llm in grown])
        said.append(f"nothing waits for GPUs, so {names} takes the free ones and ends sooner")
    return f"{'; '.join(said)}." if said else ""
