"""How much of the cluster LLMs need before a time, and the first time at which that is enough; see `planner.bound`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from samullm_tui.planner.bound_charges import LONGEST, Work, charges, mixed_work, resumed_tokens, totals
from samullm_tui.planner.bound_prefixes import Tokens
from samullm_tui.planner.bound_sharing import MOST_LLMS, least_gpus
from samullm_tui.simulate.application import ShapeModel

__all__ = ["Demand", "demand_of", "first_that", "fit", "share"]

Floats = npt.NDArray[np.float64]
CLOSE = 1e-9
PRECISION = 1e-4
"""Relative width at which the search for the smallest possible makespan stops, at its lower end."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one LLM needs of the cluster.

    tp, load_s   of each shape
    work_gpu_s   least work when all of it is done in that shape, on any number of engines
    once_gpu_s   the same on a single engine that is started once
    mixed_gpu_s  least work when each token is computed in the shape that is best for it
    """

    tp: tuple[int, ...]
    load_s: tuple[float, ...]
    work_gpu_s: tuple[float, ...]
    once_gpu_s: tuple[float, ...]
    mixed_gpu_s: float

    def area(self, makespan_s: float, over_s: float, discount_s: float) -> float:
        """Least GPU-seconds of work and loads before `makespan_s`, each load `discount_s` shorter; inf: impossible.

        An engine computes from the end of its load, and up to `over_s` longer than the makespan.
        """
        least, loads, rate = np.inf, [], np.inf
        for tp, load_s, work, once in zip(
            self.tp, self.load_s, self.work_gpu_s, self.once_gpu_s, strict=True
        ):
            each_s = makespan_s + over_s - load_s
            if each_s <= 0:
                continue
            start = tp * max(load_s - discount_s, 0.0)
            more = work + max(2, ceil(work / (tp * each_s) - CLOSE)) * start
            least = min(least, more, once + start if once <= tp * each_s * (1 + CLOSE) else np.inf)
            loads.append(start)
            rate = min(rate, start / (tp * each_s))
        if len(loads) > 1:
            mixed_loads = max(sum(sorted(loads)[:2]), rate * self.mixed_gpu_s)
            least = min(least, self.mixed_gpu_s + mixed_loads)
        return least


def demand_of(
    shapes: tuple[ShapeModel, ...], width: int, longest: int, tokens: Tokens, moves: int
) -> tuple[Demand, Work]:
    """The demand of an LLM, and the least work of each of its requests; see `bound_charges.resumed_tokens` for `moves`."""
    tps, loads = tuple(shape.tp for shape in shapes), tuple(shape.load_s for shape in shapes)
    if len(tokens.prompts) == 0:
        none = (0.0,) * len(shapes)
        return Demand(tps, loads, none, none, 0.0), Work(np.zeros(0), np.zeros(0), 0.0, 0.0)
    longest_end = int((tokens.prompts + tokens.outputs).max())
    valid = [charges(shape, width, int(tokens.own.min()), longest_end) for shape in shapes]
    costs = [v @ totals(s, width, tokens, longest, moves) for s, v in zip(shapes, valid, strict=True)]
    works = tuple(tp * float(cost.max()) for tp, cost in zip(tps, costs, strict=True))
    resumed = max(resumed_tokens(shape, width, tokens, moves) for shape in shapes)
    mixed: list[Work] = []
    for on_path in (False, True):
        fitting = [
            np.where((v[:, LONGEST] > 0) == on_path, c, -1.0) for v, c in zip(valid, costs, strict=True)
        ]
        chosen = np.array([v[int(cost.argmax())] for v, cost in zip(valid, fitting, strict=True)])
        mixed.append(mixed_work(np.array(tps), chosen, tokens, resumed))
    best = max(one.all(tokens, longest) for one in mixed)
    return Demand(tps, loads, works, works, min(best, *works)), mixed[0]


def first_that(fits: Callable[[float], bool], least_s: float) -> float:
    """The first makespan from `least_s` on that fits (to PRECISION, at the lower end)."""
    if fits(least_s):
        return least_s
    low = high = max(least_s, 1e-9)
    while not fits(high):
        low, high = high, 2 * high
    while high - low > PRECISION * high:
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return low


def fit(
    demands: Iterable[Demand],
    gpus: int,
    makespan_s: float,
    over_s: float,
    *,
    held: tuple[int, float] = (0, 0.0),
) -> bool:
    """Whether all that the LLMs need fits on so many GPUs before `makespan_s`. `held`: GPUs that something else
    has from time 0 on, and its GPU-seconds on them.
    """
    some = list(demands)
    taken, taken_gpu_s = held
    for discount_s in {over_s, max(over_s, min(min(d.load_s) for d in some))}:
        if discount_s <= makespan_s:
            area = sum(d.area(makespan_s, over_s, discount_s) for d in some)
            if area + taken_gpu_s + (gpus - taken) * discount_s > gpus * makespan_s:
                return False
    return True


def share(demands: Iterable[Demand], gpus: int, makespan_s: float, over_s: float) -> bool:
    """As `fit`, with each GPU in one group of LLMs that share GPUs. True where that is too much to try."""
    ordered = sorted(demands, key=lambda d: min(d.load_s))
    load_s = np.array([min(d.load_s) for d in ordered])
    if len(ordered) > MOST_LLMS or load_s[0] < over_s:
        return True
    area = np.array([[d.area(makespan_s, over_s, discount_s) for d in ordered] for discount_s in load_s])
    return least_gpus(area, load_s, over_s, makespan_s) <= gpus
