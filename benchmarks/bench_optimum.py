"""The planners and the lower bound against the best plan of 200 random small cases, found by trying all plans.

2 to 4 LLMs on 2 to 4 GPUs; all makespans are simulated. `bound gap` is the best plan over the lower bound. Compared are
plans whose stages end whatever the lengths are, as all planners promise: nobody knows the lengths beforehand.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.table import print_table
from samullm_tui.domain.plan import Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.baselines import max_heuristic, min_heuristic
from samullm_tui.planner.bound import lower_bound
from samullm_tui.planner.greedy import greedy
from samullm_tui.planner.search import search
from samullm_tui.simulate.application import Problem, simulate_plan

CASES = 200
SAME = 1e-9
Planner = Callable[[Problem, IntArray], Plan]


def searched(problem: Problem, output_tokens: IntArray) -> Plan:
    return search(problem, output_tokens, np.random.default_rng(0))


PLANNERS: dict[str, Planner] = {
    "search": searched,
    "greedy": greedy,
    "min-heuristic": min_heuristic,
    "max-heuristic": max_heuristic,
}


def main() -> None:
    started = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(_excess, range(CASES), chunksize=4))
    solved = {seed: excess for seed, excess in enumerate(found) if excess}
    rows = [
        _row(name, {seed: excess[k] for seed, excess in solved.items()})
        for k, name in enumerate((*PLANNERS, "bound gap"))
    ]
    seconds = time.perf_counter() - started
    title = f"{len(solved)} of {CASES} random small cases against the best plan (simulated), {seconds:.0f} s"
    print_table(title, ("", "mean", "median", "worst", "equal", "worst cases"), rows)


def _excess(seed: int) -> tuple[float, ...]:
    """Of each planner over the best plan, and of that over the bound; empty when trying all takes too long."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "planner"))
    from exact import TooLarge, best_plan
    from small_cases import small_case

    case = small_case(seed)
    problem, lengths = case.problem, case.output_tokens
    plans = [planner(problem, lengths) for planner in PLANNERS.values()]
    try:
        best_s = best_plan(problem, lengths, plans, any_lengths=True).makespan_s
    except TooLarge:
        return ()
    makespans = [simulate_plan(problem, plan, lengths).makespan_s for plan in plans]
    return (
        *(makespan_s / best_s - 1 for makespan_s in makespans),
        best_s / lower_bound(problem, lengths) - 1,
    )


def _row(name: str, excess: dict[int, float]) -> tuple[str, ...]:
    values = np.array(list(excess.values()))
    worst = sorted(excess, key=lambda seed: -excess[seed])[:5]
    return (
        name,
        f"{np.mean(values):+.1%}",
        f"{np.median(values):+.1%}",
        f"{np.max(values):+.1%}",
        f"{np.mean(values < SAME):.0%}",
        ", ".join(f"{seed}: {excess[seed]:+.1%}" for seed in worst),
    )


if __name__ == "__main__":
    main()
