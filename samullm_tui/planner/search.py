"""Beyond greedy: a local search over which LLM starts when, and how large, from many starts.

First by a table of durations, one engine simulation for each (LLM, size), thousands of schedules; then the most
promising ones simulated whole and improved by further moves, as many as the size of the application allows. An LLM
keeps its engines until it has finished; when nothing waits for GPUs any more, free ones go to LLMs that still run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from samullm_tui.domain.plan import Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.outlook import Outlook, Task
from samullm_tui.planner.schedule import Schedule, Table, moved, promising
from samullm_tui.planner.shapes import Size, stays
from samullm_tui.planner.stages import Choice, plan_and_end
from samullm_tui.planner.words import joined
from samullm_tui.simulate.application import Problem, Progress, simulate_plan

__all__ = ["search"]

FINALISTS = 3
MOVES = 120
REQUESTS = 150_000
"""The second phase tries at most so many moves, and simulates at most so many requests for them."""
GROWTH = 0.95
"""Free GPUs go to a running LLM when it then ends within this share of its remaining time, the load included."""

Planned = tuple[Plan, float]
"""A plan and what it is judged by: the mean of its makespans in seconds."""


def search(
    problem: Problem,
    output_tokens: IntArray,
    rng: np.random.Generator,
    task: Task | None = None,
    *,
    others: Sequence[IntArray] = (),
    requests: int = REQUESTS,
) -> Plan:
    """The best plan found; the same for the same `rng`. Raises PlacementError.

    Plans are made for `output_tokens` and judged on these and `others`: draws of a small application differ.
    `task` is one made for the same problem and lengths, so that planners share what they simulate. `requests` bounds
    the effort: how many requests may be simulated to improve the best plan.
    """
    task = task or Task(problem, output_tokens)
    table = Table(Outlook(task, Progress.fresh(problem), frozenset()))
    starts = [(s, _planned(task, others, s)) for s in promising(table, rng, FINALISTS)]
    schedule, best = min(starts, key=lambda one: one[1][1])
    tried = {one.key for one, _ in starts}
    for _ in range(min(MOVES, requests // max(1, len(problem.table) * (1 + len(others))))):
        other = moved(table, schedule, rng)
        if other.key not in tried:
            tried.add(other.key)
            planned = _planned(task, others, other)
            if planned[1] < best[1]:
                schedule, best = other, planned
    return min(best, _planned(task, others, schedule, grow=False), key=lambda planned: planned[1])[0]


def _planned(task: Task, others: Sequence[IntArray], schedule: Schedule, *, grow: bool = True) -> Planned:
    plan, makespan_s = plan_and_end(task, "search", _follow(schedule, grow=grow))
    makespans = [makespan_s, *(simulate_plan(task.problem, plan, draw).makespan_s for draw in others)]
    return plan, sum(makespans) / len(makespans)


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
    """Free GPUs, all or half of them, to the LLM that ends last, then to the next, where it ends sooner with them."""
    gpus = outlook.task.problem.gpus
    for llm in sorted(wanted, key=lambda llm: -outlook.exact(llm, wanted[llm]).end_s):
        tp, dp = wanted[llm]
        room = (gpus - sum(size.gpus for size in wanted.values())) // tp
        larger = [Size(tp, dp + more) for more in sorted({room, (room + 1) // 2}) if more > 0]
        fitting = [size for size in larger if _fits(outlook, wanted | {llm: size})]
        best = min(fitting, key=lambda size: outlook.exact(llm, size).end_s, default=wanted[llm])
        if outlook.exact(llm, best).end_s < GROWTH * outlook.exact(llm, wanted[llm]).end_s:
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
        said.append(f"Nothing waits for GPUs, so {names} takes the free ones and ends sooner")
    return f"{'. '.join(said)}." if said else ""
