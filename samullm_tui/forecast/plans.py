"""Planning an application on a cluster: all planners, ranked over draws of the output lengths."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from samullm_tui.domain.cluster import Cluster
from samullm_tui.domain.plan import Forecast, Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.forecast.problem import ForecastInputs, build_problem
from samullm_tui.lengths.draw import draw
from samullm_tui.planner.baselines import max_heuristic, min_heuristic
from samullm_tui.planner.greedy import greedy
from samullm_tui.planner.outlook import Task
from samullm_tui.planner.rank import median_bound, rank
from samullm_tui.planner.search import search
from samullm_tui.workload.requests import Workload

__all__ = ["draws_of", "make_forecast", "samples_for"]

SAMPLES, LARGE_SAMPLES = 20, 8
JUDGES = 4
LARGE_REQUESTS = 20_000
"""From so many requests on, fewer draws say as much: the makespan hardly differs between them."""


def make_forecast(
    workload: Workload, cluster: Cluster, *, seed: int, samples: int | None = None, quantile: float = 0.5
) -> Forecast:
    """Candidates of all planners, best first by the `quantile` of their makespan over `samples` draws.

    Without `samples` their number follows from the number of requests. The same seed gives the same forecast,
    `planning_s` aside. Raises ApplicationError and PlacementError.
    """
    started = time.perf_counter()
    inputs = build_problem(workload, cluster)
    samples = samples or samples_for(workload)
    planning, *ranking = draws_of(inputs, seed, 1 + samples)
    plans = _plans(inputs, planning, seed)
    bound_s = median_bound(inputs.problem, ranking)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        candidates = rank(inputs.problem, plans, ranking, quantile, bound_s, pool.map)
    table = workload.table
    counts = np.bincount(table.node, minlength=len(table.node_names))
    return Forecast(
        application=workload.application.name,
        cluster=cluster.name,
        planning_s=time.perf_counter() - started,
        lower_bound_s=bound_s,
        samples=samples,
        seed=seed,
        quantile=quantile,
        requests={name: int(count) for name, count in zip(table.node_names, counts, strict=True)},
        estimated=inputs.estimated,
        candidates=candidates,
    )


def _plans(inputs: ForecastInputs, planning: IntArray, seed: int) -> list[Plan]:
    """One plan of each planner. The search judges on further draws where the application is small."""
    problem, task = inputs.problem, Task(inputs.problem, planning)
    others = draws_of(inputs, (seed, 1), JUDGES if len(planning) < LARGE_REQUESTS else 0)
    found = search(problem, planning, np.random.default_rng(seed), task, others=others)
    return [found, *(planner(problem, planning, task) for planner in (greedy, min_heuristic, max_heuristic))]


def samples_for(workload: Workload) -> int:
    """How many draws to rank by when nobody said: fewer where each takes long and varies little."""
    return SAMPLES if len(workload.table) < LARGE_REQUESTS else LARGE_SAMPLES


def draws_of(inputs: ForecastInputs, seed: int | tuple[int, ...], count: int) -> list[IntArray]:
    """`count` draws of all output lengths. The first `k` of them are the same for every count from k up.

    Plans are made with the first and compared on the others, so that none is judged by what it was made from.
    """
    streams = np.random.SeedSequence(seed).spawn(count)
    return [
        draw(inputs.problem.table, inputs.dists, inputs.context, np.random.default_rng(stream))
        for stream in streams
    ]
