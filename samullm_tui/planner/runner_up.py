"""What else could have been done at a stage: the same plan with one decision taken otherwise, simulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from typing import NamedTuple

from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.planner.shapes import free_group
from samullm_tui.planner.study import Study, makespan_s
from samullm_tui.planner.validity import valid
from samullm_tui.planner.words import sized
from samullm_tui.simulate.application import Problem

__all__ = ["RunnerUp", "runner_ups", "variants"]

REQUESTS = 400_000
"""At most so many requests are simulated for all stages together."""
MOST = 3
"""Alternatives that are simulated for one stage."""


class RunnerUp(NamedTuple):
    """The best of the alternatives tried at a stage (counted from 0), in words, and the makespan that it leads to."""

    stage: int
    what: str
    makespan_s: float
    tried: int


def runner_ups(study: Study, plan: Plan, number: int, requests: int = REQUESTS) -> dict[int, RunnerUp]:
    """By stage, on draw `number`. Stages in which nothing new starts have none, nor those that `requests` does not reach."""
    problem = study.problem
    each = [list(islice(variants(problem, plan, stage), MOST)) for stage in range(len(plan.stages))]
    in_turn = chain.from_iterable(zip_longest(*([(k, *v) for v in some] for k, some in enumerate(each))))
    tried = list(islice((one for one in in_turn if one), max(0, requests // max(1, len(problem.table)))))
    makespans_s = study.run(makespan_s, [(number, other) for _, _, other in tried])
    found: dict[int, RunnerUp] = {}
    for (stage, what, _), ends_s in zip(tried, makespans_s, strict=True):
        before = found.get(stage)
        if before is not None and before.makespan_s <= ends_s:
            found[stage] = before._replace(tried=before.tried + 1)
        elif ends_s < float("inf"):
            found[stage] = RunnerUp(stage, what, ends_s, before.tried + 1 if before else 1)
    return found


def variants(problem: Problem, plan: Plan, stage: int) -> Iterator[tuple[str, Plan]]:
    """Valid plans that differ in one decision of this stage, and how they differ."""
    before = plan.stages[stage - 1].replicas if stage else ()
    new = [p for p in plan.stages[stage].placements if not set(p.replicas) <= set(before)]
    kinds = (_swapped(plan, stage, new), _resized(problem, plan, stage, new))
    for one in chain.from_iterable(zip_longest(*kinds)):
        if one is not None and not valid(problem, one[1]):
            yield one


def _swapped(plan: Plan, stage: int, new: Sequence[Placement]) -> Iterator[tuple[str, Plan]]:
    """A later LLM in the place of one that starts here, and the other way round."""
    first: dict[str, int] = {}
    for number, one in enumerate(plan.stages):
        for placement in one.placements:
            first.setdefault(placement.llm, number)
    later = [llm for llm, number in first.items() if number > stage]
    starting = [placement.llm for placement in new if first[placement.llm] == stage]
    for other in later:
        for llm in reversed(starting):
            names = {llm: other, other: llm}
            yield f"{other} here and {llm} later", _renamed(plan, names)


def _renamed(plan: Plan, names: dict[str, str]) -> Plan:
    stages = tuple(
        Stage(
            tuple(Placement(names.get(p.llm, p.llm), p.tp, p.dp, p.gpus) for p in stage.placements),
            tuple(names.get(llm, llm) for llm in stage.until),
        )
        for stage in plan.stages
    )
    return Plan(planner=plan.planner, stages=stages)


def _resized(
    problem: Problem, plan: Plan, stage: int, new: Sequence[Placement]
) -> Iterator[tuple[str, Plan]]:
    """A new placement with an engine more or less, or with another tp on the same GPUs, for as long as it stays."""
    for placement in new:
        last = stage
        while last + 1 < len(plan.stages) and placement in plan.stages[last + 1].placements:
            last += 1
        for other in _sizes(problem, plan, placement, range(stage, last + 1)):
            stages = [
                Stage(tuple(other if p == placement else p for p in one.placements), one.until)
                if stage <= number <= last
                else one
                for number, one in enumerate(plan.stages)
            ]
            what = f"{sized(other)} instead of {_size(placement)}"
            yield what, Plan(planner=plan.planner, stages=tuple(stages))


def _size(placement: Placement) -> str:
    return f"tp{placement.tp} ×{placement.dp}"


def _sizes(problem: Problem, plan: Plan, placement: Placement, stages: range) -> Iterator[Placement]:
    llm, tp, dp, gpus = placement.llm, placement.tp, placement.dp, placement.gpus
    if dp > 1:
        yield Placement(llm, tp, dp - 1, gpus[:-tp])
    taken = {gpu for number in stages for p in plan.stages[number].placements for gpu in p.gpus}
    more = free_group(problem, tp, taken)
    if more is not None:
        yield Placement(llm, tp, dp + 1, (*gpus, *more))
    if dp % 2 == 0:
        yield Placement(llm, 2 * tp, dp // 2, tuple(sorted(gpus)))
    if tp % 2 == 0:
        yield Placement(llm, tp // 2, 2 * dp, gpus)
