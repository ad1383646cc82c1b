"""Planning time and quality: the four applications on 8 × A100-80GB, the other planners against the best plan.

All makespans are simulated.
"""

from __future__ import annotations

import time

from benchmarks.table import print_table
from samullm_tui.domain.cluster import Cluster, cluster_from_preset
from samullm_tui.forecast.plans import make_forecast
from samullm_tui.locations import APPS
from samullm_tui.workload.application_file import load_application
from samullm_tui.workload.requests import build_requests

CLUSTER = "a100-80g:8"


def main() -> None:
    cluster = cluster_from_preset(CLUSTER)
    make_forecast(
        build_requests(load_application(APPS / "selftest.toml")), cluster, seed=0, samples=1
    )  # compiles
    rows = [_row(app, cluster) for app in ("chain-summary", "ensembling", "routing", "mixed")]
    header = ("application", "requests", "load s", "plan s", "draws", "best plan", "~s", "bound s")
    ratios = ("greedy/best", "min-heuristic/best", "max-heuristic/best")
    print_table(f"planning on {CLUSTER} (makespans simulated)", (*header, *ratios), rows)


def _row(app: str, cluster: Cluster) -> tuple[str, ...]:
    started = time.perf_counter()
    workload = build_requests(load_application(APPS / f"{app}.toml"))
    load_s = time.perf_counter() - started
    forecast = make_forecast(workload, cluster, seed=0)
    best = forecast.candidates[0]
    p50_s = {c.plan.planner: c.makespan_s.p50 for c in forecast.candidates}
    ratios = [p50_s[name] / best.makespan_s.p50 for name in ("greedy", "min-heuristic", "max-heuristic")]
    return (
        app,
        f"{len(workload.table):,}",
        f"{load_s:.2f}",
        f"{forecast.planning_s:.2f}",
        str(forecast.samples),
        best.plan.planner,
        f"{best.makespan_s.p50:.0f}",
        f"{forecast.lower_bound_s:.0f}",
        *(f"{ratio:.2f}x" for ratio in ratios),
    )


if __name__ == "__main__":
    main()
