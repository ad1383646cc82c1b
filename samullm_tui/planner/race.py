"""A race of plans over draws of the output lengths: every plan on the first draws, then those that may still win.

Every figure is that of whole simulations of common draws. What is saved is further draws of plans that are clearly
slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.plan import Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.bound import lower_bound
from samullm_tui.simulate.application import Problem, simulate_plan

__all__ = ["TIE", "Effort", "Race", "Runner", "order", "race"]

Floats = npt.NDArray[np.float64]
Runner = Callable[[Callable[[int], Any], Iterable[int]], Iterable[Any]]
"""`map`, or one that does several calls at a time."""

TIE = 0.005
"""Makespans this close (relative) count as equal; the plan with fewer loads comes first."""
CONFIDENCE = 0.99
"""A plan gets no more draws when in this share of the resamples it is slower than the first, by more than a tie."""
LEAST = 6
"""Draws that every plan gets, unless a single one is worth a good part of the effort: then two."""
FIRST_SHARE = 0.15
"""The share of the effort that the first draws of all plans may take."""
ENOUGH = 64
"""Draws after which a plan that is clearly behind is left, however cheap they are."""
RESAMPLES = 400
FEW_BOUNDS, BOUND_DRAWS = 5, 21
"""Draws whose lower bound is computed, where it hardly differs between them and elsewhere: it takes as long as several
simulations."""
BOUND_PRECISE = 0.002
"""Enough of them: the standard error of their mean is below this share of it."""


class Effort(NamedTuple):
    """How many requests may be simulated, and the chance that tells whether more would decide anything."""

    requests: int
    rng: np.random.Generator


@dataclass
class Race:
    """What was simulated. `makespans_s[k]` and `loads[k]` are those of plan k, one for each draw from the first on."""

    problem: Problem
    plans: Sequence[Plan]
    draws: Sequence[IntArray]
    quantile: float
    makespans_s: list[list[float]] = field(init=False)
    loads: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.makespans_s = [[] for _ in self.plans]
        self.loads = [[] for _ in self.plans]

    @property
    def simulated(self) -> int:
        return sum(map(len, self.makespans_s))

    def values(self) -> list[float]:
        """The quantile of each plan's makespans over its own draws."""
        return [float(np.quantile(makespans, self.quantile)) for makespans in self.makespans_s]

    def ranking(self) -> list[int]:
        """Plans, best first."""
        return order(self.values(), [float(np.median(loads)) for loads in self.loads])

    def extend(self, plans: Iterable[int], count: int, run: Runner) -> None:
        """Simulates these plans on all of the first `count` draws that they lack. Draws are made as they are needed."""
        first = {k: len(self.makespans_s[k]) for k in plans if len(self.makespans_s[k]) < count}

        def one_draw(number: int) -> dict[int, tuple[float, int]]:
            lengths = self.draws[number]
            traces = {
                k: simulate_plan(self.problem, self.plans[k], lengths) for k in first if first[k] <= number
            }
            return {k: (trace.makespan_s, trace.loads) for k, trace in traces.items()}

        for found in run(one_draw, range(min(first.values(), default=count), count)):
            for k, (makespan_s, loads) in found.items():
                self.makespans_s[k].append(makespan_s)
                self.loads[k].append(loads)

    def bound_s(self, run: Runner) -> float:
        """The median makespan that no plan can beat, over draws of the first plan: those in the middle.

        A draw of long answers is long for every plan, so draws whose makespan is the median have a bound that is
        the median, but for what their bounds differ by among themselves. Where that is little, a few are enough.
        """
        makespans_s = self.makespans_s[self.ranking()[0]]
        ranks = np.argsort(np.argsort(makespans_s, kind="stable"))
        outwards = np.argsort(np.abs(2 * ranks - len(ranks) + 1), kind="stable")[:BOUND_DRAWS].tolist()

        def bounds_s(numbers: list[int]) -> list[float]:
            return list(run(lambda number: lower_bound(self.problem, self.draws[number]), numbers))

        found = bounds_s(outwards[:FEW_BOUNDS])
        if np.std(found) > BOUND_PRECISE * np.sqrt(len(found)) * np.mean(found):
            found += bounds_s(outwards[FEW_BOUNDS:])
        return min(float(np.median(found)), float(np.median(makespans_s)))

    def contenders(self, resamples: Resamples) -> list[int]:
        """The first plan and all that are not clearly behind it by more than a tie, on the draws that both have."""
        first = self.ranking()[0]
        return [k for k in range(len(self.plans)) if k == first or not self._behind(k, first, resamples)]

    def _behind(self, plan: int, first: int, resamples: Resamples) -> bool:
        values = self.values()
        both = min(len(self.makespans_s[plan]), len(self.makespans_s[first]))
        slow, fast = (resamples.quantiles(self.makespans_s[k][:both], self.quantile) for k in (plan, first))
        apart = values[plan] > (1 + TIE) * values[first] and slow[0] > (1 + TIE) * fast[0]
        return apart and float((slow > (1 + TIE) * fast).mean()) >= CONFIDENCE


class Resamples:
    """Bootstrap: draws taken at random again from those there are, the same ones for every plan, so that differences
    between plans are paired.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._chosen: dict[int, IntArray] = {}

    def quantiles(self, makespans_s: Sequence[float], quantile: float) -> Floats:
        """[1 + RESAMPLES] of all makespans, then of each resample."""
        count = len(makespans_s)
        if count not in self._chosen:
            self._chosen[count] = self._rng.integers(0, count, (RESAMPLES, count))
        values = np.array(makespans_s)
        found: Floats = np.quantile(np.vstack([values, values[self._chosen[count]]]), quantile, axis=1)
        return found


def race(
    problem: Problem,
    plans: Sequence[Plan],
    draws: Sequence[IntArray],
    quantile: float,
    *,
    effort: Effort | None = None,
    run: Runner = map,
) -> Race:
    """Different plans on `draws`. Without `effort` every plan gets every draw.

    With it at most about so many requests are simulated, up to FIRST_SHARE of them for the first draws of all plans, the
    others for plans that may still be the best. The plan that comes first, and those within a tie of it, always have
    the most draws.
    """
    some = Race(problem, plans, draws, quantile)
    open_plans: Sequence[int] = range(len(plans))
    budget = effort.requests // max(1, len(problem.table)) if effort else 0
    if effort is None:
        some.extend(open_plans, len(draws), run)
        return some
    resamples = Resamples(effort.rng)
    count = min(len(draws), ENOUGH, max(2, min(LEAST, budget), int(FIRST_SHARE * budget) // len(plans)))
    while True:
        some.extend(open_plans, count, run)
        open_plans = some.contenders(resamples)
        if any(len(some.makespans_s[k]) < count for k in open_plans):
            continue
        affordable = max(0, budget - some.simulated) // len(open_plans)
        undecided = count if len(open_plans) > 1 else len(draws)
        more = min(len(draws) - count, undecided, affordable)
        if more < 1:
            return some
        count += more


def order(values: Sequence[float], loads: Sequence[float]) -> list[int]:
    """Indices by value; those within TIE of the first of their group by loads."""
    rest = sorted(range(len(values)), key=lambda k: values[k])
    ordered: list[int] = []
    while rest:
        tied = [k for k in rest if values[k] <= (1 + TIE) * values[rest[0]]]
        ordered += sorted(tied, key=lambda k: (loads[k], values[k]))
        rest = rest[len(tied) :]
    return ordered
