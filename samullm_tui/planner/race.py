"""A race of plans over draws of the output lengths: every plan on the first draws, then those that may still win.

Every figure is that of whole simulations of common draws. What is saved is further draws of plans that are clearly
slower.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.plan import Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.study import Figures, Study, bound_s, figures

__all__ = ["TIE", "Effort", "Race", "first_draws", "order", "race"]

Floats = npt.NDArray[np.float64]

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

    def draws(self, study: Study) -> int:
        """How often a plan may be simulated."""
        return self.requests // max(1, len(study.problem.table))


@dataclass
class Race:
    """What was simulated. `makespans_s[k]` and `loads[k]` are those of plan k, one for each draw from the first on."""

    study: Study
    plans: Sequence[Plan]
    quantile: float
    makespans_s: list[list[float]] = field(init=False)
    loads: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.makespans_s = [[] for _ in self.plans]
        self.loads = [[] for _ in self.plans]

    def add(self, plan: int, found: Iterable[Figures]) -> None:
        """The figures of this plan on its next draws."""
        for one in found:
            self.makespans_s[plan].append(one.makespan_s)
            self.loads[plan].append(one.loads)

    @property
    def simulated(self) -> int:
        return sum(map(len, self.makespans_s))

    def values(self) -> list[float]:
        """The quantile of each plan's makespans over its own draws."""
        return [float(np.quantile(makespans, self.quantile)) for makespans in self.makespans_s]

    def ranking(self) -> list[int]:
        """Plans, best first."""
        return order(self.values(), [float(np.median(loads)) for loads in self.loads])

    def extend(self, plans: Iterable[int], count: int) -> None:
        """Simulates these plans on all of the first `count` draws that they lack. Draws are made as they are needed."""
        first = {k: len(self.makespans_s[k]) for k in plans if len(self.makespans_s[k]) < count}
        numbers = range(min(first.values(), default=count), count)
        lacking = [[k for k in first if first[k] <= number] for number in numbers]
        jobs = [
            (number, [self.plans[k] for k in some]) for number, some in zip(numbers, lacking, strict=True)
        ]
        for some, found in zip(lacking, self.study.run(figures, jobs), strict=True):
            for k, one in zip(some, found, strict=True):
                self.add(k, [one])

    def bound_s(self) -> float:
        """The median makespan that no plan can beat, over draws of the first plan: those in the middle.

        A draw of long answers is long for every plan, so draws whose makespan is the median have a bound that is
        the median, but for what their bounds differ by among themselves. Where that is little, a few are enough.
        """
        makespans_s = self.makespans_s[self.ranking()[0]]
        ranks = np.argsort(np.argsort(makespans_s, kind="stable"))
        outwards = np.argsort(np.abs(2 * ranks - len(ranks) + 1), kind="stable")[:BOUND_DRAWS].tolist()

        def bounds_s(numbers: list[int]) -> list[float]:
            return self.study.run(bound_s, [(number,) for number in numbers])

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


def first_draws(study: Study, plans: int, effort: Effort | None) -> int:
    """The draws that each of so many plans gets before any is left."""
    if effort is None:
        return len(study.draws)
    budget = effort.draws(study)
    return min(len(study.draws), ENOUGH, max(2, min(LEAST, budget), int(FIRST_SHARE * budget) // plans))


def race(
    study: Study,
    plans: Sequence[Plan],
    quantile: float,
    *,
    effort: Effort | None = None,
    known: Mapping[Plan, Sequence[Figures]] | None = None,
) -> Race:
    """Different plans on the draws of `study`; `known` are their figures on the first ones, where somebody has them.

    Without `effort` every plan gets every draw. With it at most about so many requests are simulated, up to FIRST_SHARE
    of them for the first draws of all plans, the others for plans that may still be the best. The plan that comes first,
    and those within a tie of it, always have the most draws.
    """
    some = Race(study, plans, quantile)
    for k, plan in enumerate(plans):
        some.add(k, (known or {}).get(plan, ()))
    open_plans: Sequence[int] = range(len(plans))
    count = first_draws(study, len(plans), effort)
    if effort is None:
        some.extend(open_plans, count)
        return some
    resamples = Resamples(effort.rng)
    while True:
        some.extend(open_plans, count)
        open_plans = some.contenders(resamples)
        if any(len(some.makespans_s[k]) < count for k in open_plans):
            continue
        affordable = max(0, effort.draws(study) - some.simulated) // len(open_plans)
        undecided = count if len(open_plans) > 1 else len(study.draws)
        more = min(len(study.draws) - count, undecided, affordable)
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
