"""Planning time and quality: the four applications, all planners against the best plan and the lower bound.

All makespans are simulated. `--all` adds the largest combinations, which take minutes.
"""

from __future__ import annotations

import resource
import sys
import time
from itertools import pairwise
from statistics import median

from benchmarks.processor import processor_s
from benchmarks.scaled import APPLICATIONS, scaled, shipped
from benchmarks.table import print_table
from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.errors import PlacementError
from samullm_tui.domain.plan import Forecast
from samullm_tui.forecast.plans import make_forecast
from samullm_tui.locations import APPS
from samullm_tui.workload.application_file import load_application
from samullm_tui.workload.requests import Workload, build_requests

PRESET = "a100-80g"
GPUS = (2, 4, 8, 16)
SIZES = (1_000, 10_000, 100_000)
DRAWS = 20
"""Of the growth tables."""
PLANNERS = ("search", "greedy", "min-heuristic", "max-heuristic")
Cells = dict[tuple[str, int, int], float | None]
"""(application, requests, GPUs) → seconds of planning, None where an LLM does not fit."""


def main() -> None:
    selftest = build_requests(load_application(APPS / "selftest.toml"))
    make_forecast(selftest, cluster_from_preset(f"{PRESET}:8"), seed=0, samples=1)  # compiles
    rows = [_row(app, shipped(app), 8, None)[0] for app in APPLICATIONS]
    _print("as shipped", rows)
    everything = "--all" in sys.argv
    seconds: Cells = {}
    for requests in SIZES:
        gpus = [n for n in GPUS if requests < SIZES[-1] or n == 8 or everything]
        rows = [_cell(app, requests, n, seconds) for app in APPLICATIONS for n in gpus]
        _print(f"about {requests:,} requests, {DRAWS} draws", rows)
    _growth(seconds)
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    own_mb, fork_mb = (resource.getrusage(who).ru_maxrss / 1024 for who in whose)
    print(
        f"\npeak memory, all of the above: {own_mb:.0f} MB; of the largest fork, shared memory too: {fork_mb:.0f} MB"
    )


def _cell(app: str, requests: int, gpus: int, seconds: Cells) -> tuple[str, ...]:
    row, seconds[app, requests, gpus] = _row(app, scaled(app, requests), gpus, DRAWS)
    return row


def _row(
    app: str, workload: Workload, gpus: int, samples: int | None
) -> tuple[tuple[str, ...], float | None]:
    head = (app, f"{len(workload.table):,}", str(gpus))
    began_s = processor_s()
    try:
        forecast = make_forecast(workload, cluster_from_preset(f"{PRESET}:{gpus}"), seed=0, samples=samples)
    except PlacementError as error:
        names = ", ".join(problem.place.removeprefix("LLM ") for problem in error.problems)
        return (*head, *("–",) * 6, f"{names} does not fit", *("–",) * len(PLANNERS)), None
    return (*head, *_figures(forecast, processor_s() - began_s)), forecast.planning_s


def _figures(forecast: Forecast, processor_s: float) -> tuple[str, ...]:
    best = forecast.candidates[0]
    p50_s = {c.plan.planner: c.makespan_s.p50 for c in forecast.candidates}
    return (
        f"{forecast.planning_s:.2f}",
        f"{processor_s:.2f}",
        str(forecast.samples),
        f"{best.makespan_s.p50:.0f}",
        f"{forecast.lower_bound_s:.0f}",
        f"{100 * best.gap:.0f} %",
        best.plan.planner,
        *(f"{p50_s[name] / best.makespan_s.p50:.2f}x" for name in PLANNERS),
    )


def _print(title: str, rows: list[tuple[str, ...]]) -> None:
    header = (
        "application",
        "requests",
        "GPUs",
        "plan s",
        "of CPU",
        "draws",
        "~best s",
        "bound s",
        "gap",
        "best plan",
    )
    ratios = tuple(f"{name}/best" for name in PLANNERS)
    print_table(f"planning on {PRESET}, {title} (makespans simulated)", (*header, *ratios), rows)


def _growth(seconds: Cells) -> None:
    """How planning time grows: medians over all pairs of neighbouring cells."""
    rows = []
    for small, large in pairwise(SIZES):
        ratios = _ratios(seconds, [((a, small, n), (a, large, n)) for a in APPLICATIONS for n in GPUS])
        rows.append((f"{small:,} to {large:,} requests", *ratios))
    for few, many in pairwise(GPUS):
        ratios = _ratios(seconds, [((a, k, few), (a, k, many)) for a in APPLICATIONS for k in SIZES])
        rows.append((f"{few} to {many} GPUs", *ratios))
    print_table("growth of planning time", ("from … to", "pairs", "median", "worst"), rows)


def _ratios(
    seconds: Cells, pairs: list[tuple[tuple[str, int, int], tuple[str, int, int]]]
) -> tuple[str, ...]:
    ratios = [after / before for a, b in pairs if (before := seconds.get(a)) and (after := seconds.get(b))]
    if not ratios:
        return "0", "–", "–"
    return str(len(ratios)), f"{median(ratios):.2f}x", f"{max(ratios):.2f}x"


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"all in {time.perf_counter() - started:.0f} s")
