"""Why a run took longer or shorter than predicted, by simulating its plan again with what was observed.

One kind of observation after another is put in, and each accounts for what it changes:

    predicted   the approved plan's median over draws of the expected lengths
    + lengths   the plan with the observed output lengths
    + latency   and with the observed pace of each LLM's steps
    + loads     and with the observed load times
    + dispatch  what is left to the actual makespan: when requests were sent, failures, pauses, re-plans

The parts depend on this order where two observations act on the same seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from samullm_tui.domain.plan import Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.domain.run_report import ErrorPart, PlanCompared, ShapeSeen, TokensSeen
from samullm_tui.hindsight.observed import Observed
from samullm_tui.hindsight.pace import Shape, paces_of, with_loads, with_paces
from samullm_tui.lengths.draw import cap
from samullm_tui.planner.baselines import max_heuristic, min_heuristic
from samullm_tui.planner.bound import lower_bound
from samullm_tui.simulate.application import Problem, simulate_plan

__all__ = ["Split", "lengths_of_run", "split"]

BASELINES = ("min-heuristic", "max-heuristic")


@dataclass(frozen=True)
class Split:
    """`plan`, `others` and `lower_bound_s` are with all that was observed."""

    parts: tuple[ErrorPart, ...]
    plan: PlanCompared
    others: tuple[PlanCompared, ...]
    lower_bound_s: float
    tokens: tuple[TokensSeen, ...]
    shapes: tuple[ShapeSeen, ...]


def split(
    problem: Problem,
    context: IntArray,
    plan: Plan,
    candidates: Sequence[Plan],
    observed: Observed,
    predicted_s: float,
    actual_s: float,
) -> Split:
    """`problem` is the one that was planned for, `context` [LLMs] the most tokens of a request. Baselines are those
    among `candidates`, else planned on the expected lengths. Raises PlanError when the plan cannot be simulated.
    """
    lengths = lengths_of_run(problem, context, observed)
    paces, load_s = paces_of(problem, observed), _loads(observed)
    paced = with_paces(problem, paces)
    whole = with_loads(paced, load_s)
    ends = [simulate_plan(one, plan, lengths).makespan_s for one in (problem, paced, whole)]
    steps = [predicted_s, *ends, actual_s]
    others = _baselines(problem, plan, candidates)
    compared = [PlanCompared(p.planner, simulate_plan(whole, p, lengths).makespan_s) for p in others]
    return Split(
        parts=(
            ErrorPart("lengths", steps[1] - steps[0]),
            ErrorPart("latency", steps[2] - steps[1]),
            ErrorPart("loads", steps[3] - steps[2]),
            ErrorPart("dispatch", steps[4] - steps[3]),
        ),
        plan=PlanCompared(plan.planner, ends[-1]),
        others=tuple(sorted(compared, key=lambda one: one.makespan_s)),
        lower_bound_s=lower_bound(whole, lengths),
        tokens=_tokens(problem, observed),
        shapes=_shapes(problem, paces, load_s),
    )


def lengths_of_run(problem: Problem, context: IntArray, observed: Observed) -> IntArray:
    """[n] observed output tokens; of requests without an answer what was expected of them."""
    lengths = np.where(observed.answered, observed.output_tokens, problem.expected_tokens)
    return cap(problem.table, np.asarray(lengths, np.int64), context)


def _loads(observed: Observed) -> dict[Shape, float]:
    """The median load of each shape that was started."""
    seen: dict[Shape, list[float]] = {}
    for replica, load_s in observed.loads:
        seen.setdefault((replica.llm, replica.tp), []).append(load_s)
    return {shape: median(times) for shape, times in seen.items()}


def _baselines(problem: Problem, plan: Plan, candidates: Sequence[Plan]) -> list[Plan]:
    given = {one.planner: one for one in candidates}
    make = {"min-heuristic": min_heuristic, "max-heuristic": max_heuristic}
    return [
        given[name] if name in given else make[name](problem, problem.expected_tokens)
        for name in BASELINES
        if name != plan.planner
    ]


def _tokens(problem: Problem, observed: Observed) -> tuple[TokensSeen, ...]:
    table, answered = problem.table, observed.answered
    found = []
    for number, name in enumerate(table.llm_names):
        mine = table.llm == number
        seen = mine & answered
        found.append(
            TokensSeen(
                llm=name,
                answers=int(seen.sum()),
                requests=int(mine.sum()),
                expected_tokens=int(problem.expected_tokens[seen].sum()),
                tokens=int(observed.output_tokens[seen].sum()),
            )
        )
    return tuple(found)


def _shapes(
    problem: Problem, paces: Mapping[Shape, float], load_s: Mapping[Shape, float]
) -> tuple[ShapeSeen, ...]:
    seen = {**load_s, **paces}
    return tuple(
        ShapeSeen(
            llm=model.name,
            tp=shape.tp,
            pace=paces.get((model.name, shape.tp)),
            planned_load_s=shape.load_s,
            load_s=load_s.get((model.name, shape.tp)),
        )
        for model in problem.llms
        for shape in model.shapes
        if (model.name, shape.tp) in seen
    )
