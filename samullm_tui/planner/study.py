"""What plans are compared on, and the simulations that a comparison is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from samullm_tui.domain.errors import PlanError
from samullm_tui.domain.plan import Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.bound import lower_bound
from samullm_tui.simulate.application import PlanTrace, Problem, simulate_plan

__all__ = ["Figures", "Study", "bound_s", "figures", "makespan_s", "trace"]

T = TypeVar("T")


class Figures(NamedTuple):
    """What is kept of a plan on one draw."""

    makespan_s: float
    loads: int


@dataclass(frozen=True)
class Study:
    """A problem and draws of its output lengths; `draws` may be a sequence that makes each when it is asked for.

    Here a call is made when its result is wanted. Others make several at a time, elsewhere: `call` is a function of a
    module, and jobs and results can be pickled.
    """

    problem: Problem
    draws: Sequence[IntArray]

    def run(self, call: Callable[..., T], jobs: Sequence[tuple[Any, ...]]) -> list[T]:
        """call(self, *job) of every job, in their order."""
        return [call(self, *job) for job in jobs]

    def begin(self, call: Callable[..., T], *job: Any) -> Callable[[], T]:
        """Gives call(self, *job), which others begin at once."""
        return lambda: call(self, *job)


def figures(study: Study, number: int, plans: Sequence[Plan]) -> list[Figures]:
    """Of each plan on draw `number`."""
    lengths = study.draws[number]
    traces = (simulate_plan(study.problem, plan, lengths) for plan in plans)
    return [Figures(trace.makespan_s, trace.loads) for trace in traces]


def trace(study: Study, number: int, plan: Plan) -> PlanTrace:
    return simulate_plan(study.problem, plan, study.draws[number])


def makespan_s(study: Study, number: int, plan: Plan) -> float:
    """Infinite for a plan that never ends: the KV cache of an engine is too small for a request."""
    try:
        return simulate_plan(study.problem, plan, study.draws[number]).makespan_s
    except PlanError:
        return float("inf")


def bound_s(study: Study, number: int) -> float:
    return lower_bound(study.problem, study.draws[number])
