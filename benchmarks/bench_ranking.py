"""Ranking by a race against ranking by every draw: what is saved, and what it changes.

All makespans are simulated; seconds are of processor time.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.processor import processor_s
from benchmarks.table import print_table
from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.plan import Plan
from samullm_tui.forecast.plans import SAMPLES, draws_of, ranked
from samullm_tui.forecast.problem import ForecastInputs, build_problem
from samullm_tui.locations import APPS
from samullm_tui.planner.baselines import max_heuristic, min_heuristic
from samullm_tui.planner.outlook import Task
from samullm_tui.planner.rank import Ranking
from samullm_tui.workload.application_file import load_application
from samullm_tui.workload.requests import build_requests

CLUSTER = "a100-80g:8"


def main() -> None:
    header = (
        "application",
        "requests",
        "race s",
        "draws",
        "all s",
        "draws",
        "saved",
        "p50 race/all",
        "same first",
    )
    rows = [_row(app) for app in ("chain-summary", "routing", "ensembling")]
    print_table(f"ranking both baselines on {CLUSTER} (makespans simulated)", header, rows)


def _row(app: str) -> tuple[str, ...]:
    workload = build_requests(load_application(APPS / f"{app}.toml"))
    inputs = build_problem(workload, cluster_from_preset(CLUSTER))
    (lengths,) = draws_of(inputs, 0, 1)
    task = Task(inputs.problem, lengths)
    plans = [planner(inputs.problem, lengths, task) for planner in (min_heuristic, max_heuristic)]
    race_s, race = _timed(inputs, plans, None)
    all_s, exact = _timed(inputs, plans, SAMPLES)
    p50_s = [ranking.candidates[0].makespan_s.p50 for ranking in (race, exact)]
    names = {ranking.candidates[0].plan.planner for ranking in (race, exact)}
    return (
        app,
        f"{len(lengths):,}",
        f"{race_s:.2f}",
        " + ".join(str(c.draws) for c in race.candidates),
        f"{all_s:.2f}",
        " + ".join(str(c.draws) for c in exact.candidates),
        f"{all_s / race_s:.1f}x",
        f"{p50_s[0] / p50_s[1]:.4f}",
        "yes" if len(names) == 1 else "no",
    )


def _timed(inputs: ForecastInputs, plans: Sequence[Plan], samples: int | None) -> tuple[float, Ranking]:
    started = processor_s()
    ranking = ranked(inputs, plans, seed=0, samples=samples, quantile=0.5)
    return processor_s() - started, ranking


if __name__ == "__main__":
    main()
