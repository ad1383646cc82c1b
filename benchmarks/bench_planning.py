"""Planning time and quality: the four applications on 8 × A100-80GB, against the lower bound and the best baseline.

All makespans are simulated.
"""

from __future__ import annotations

import time

from benchmarks.table import print_table
from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.forecast.plans import make_forecast
from samullm_tui.locations import APPS
from samullm_tui.workload.application_file import load_application
from samullm_tui.workload.requests import build_requests

CLUSTER = "a100-80g:8"
SAMPLES = 20


def main() -> None:
    cluster = cluster_from_preset(CLUSTER)
    make_forecast(
        build_requests(load_application(APPS / "selftest.toml")), cluster, seed=0, samples=1
    )  # compiles
    rows = []
    for app in ("chain-summary", "ensembling", "routing", "mixed"):
        started = time.perf_counter()
        workload = build_requests(load_application(APPS / f"{app}.toml"))
        loaded_s = time.perf_counter() - started
        forecast = make_forecast(workload, cluster, seed=0, samples=SAMPLES)
        p50 = {c.plan.planner: c.makespan_s.p50 for c in forecast.candidates}
        baseline = min(p50["max-heuristic"], p50["min-heuristic"])
        rows.append(
            (
                app,
                f"{len(workload.table):,}",
                f"{loaded_s:.2f}",
                f"{forecast.planning_s:.2f}",
                f"{p50['greedy']:.0f}",
                f"{baseline / p50['greedy']:.2f}x",
                f"{p50['max-heuristic'] / p50['greedy']:.2f}x",
                f"+{p50['greedy'] / forecast.lower_bound_s - 1:.0%}",
            )
        )
    header = (
        "application",
        "requests",
        "load s",
        "plan s",
        "greedy ~s",
        "best baseline",
        "one at a time",
        "over the bound",
    )
    print_table(f"planning on {CLUSTER}, {SAMPLES} draws (makespans simulated)", header, rows)


if __name__ == "__main__":
    main()
