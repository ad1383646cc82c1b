"""Records the runs on simulated engines that ship in recordings/ anew: `python -m benchmarks.make_recordings [NAME ...]`.

For when what is recorded or forecast has changed. The recording of a run on real engines is made by hand: its engine and
its supervisor are killed on the way.
"""

from __future__ import annotations

import os
import sys
import tempfile
from math import inf
from pathlib import Path

from msgspec import Struct

from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.event import RunEnded
from samullm_tui.forecast.plans import make_forecast
from samullm_tui.forecast.problem import read_workload
from samullm_tui.journal.compressed import SUFFIX, compress_into
from samullm_tui.locations import APPS, RECORDINGS
from samullm_tui.supervisor.client import ControlClient
from samullm_tui.supervisor.launch import create_run, follow, spawn_supervisor
from samullm_tui.supervisor.spec import RunPaths, existing_run

RATE = 4.0
"""Simulated seconds a second. Planning and rescheduling take real ones, and this many times as long in the recording."""

SMALLEST = 19
"""The strongest level of Zstandard that needs no more memory to read: who clones the repository gets it every time."""


class Recorded(Struct, frozen=True):
    """A run of the best plan, or of the one by that planner. The operator asks for a re-plan at `asked_s`."""

    application: Path
    cluster: str
    seed: int = 0
    planner: str = ""
    asked_s: float = inf


CHAIN = APPS / "chain-summary.toml"
RUNS = {
    "chain-summary": Recorded(CHAIN, "a100-80g:8"),
    "ensembling": Recorded(RECORDINGS / "ensembling.toml", "a100-80g:4"),
    "mixed": Recorded(RECORDINGS / "mixed.toml", "a100-80g:8"),
    "routing": Recorded(RECORDINGS / "routing.toml", "a100-80g:4"),
    # Not the best plan: the rescheduler has something to mend.
    "three-decisions": Recorded(CHAIN, "a100-80g:8", seed=1, planner="min-heuristic", asked_s=200.0),
}


def run_of(recorded: Recorded) -> RunPaths:
    """Plans, approves, and follows the run to its end."""
    cluster = cluster_from_preset(recorded.cluster)
    forecast = make_forecast(read_workload(recorded.application), cluster, seed=recorded.seed)
    plans = {candidate.plan.planner: candidate.rank for candidate in forecast.candidates}
    rank = plans[recorded.planner] if recorded.planner else 1
    run = create_run(
        recorded.application,
        cluster,
        "simulated",
        speed=RATE,
        seed=recorded.seed,
        forecast=forecast,
        approved=True,
        rank=rank,
    )
    spawn_supervisor(run)
    asked = False
    for event in follow(run):
        if event.at_s >= recorded.asked_s and not asked:
            asked = True
            ControlClient(existing_run(run)).replan(by="console")
        if isinstance(event, RunEnded) and event.status != "succeeded":
            raise SystemExit(f"{run} {event.status}: {event.cause}")
    return existing_run(run)


def main() -> None:
    for name in sys.argv[1:] or RUNS:
        with tempfile.TemporaryDirectory() as home:
            os.environ["SAMULLM_HOME"] = home
            journal = run_of(RUNS[name]).journal
            target = RECORDINGS / f"{name}.jsonl{SUFFIX}"
            with journal.open("rb") as source, target.open("wb") as file:
                compress_into(source, file, SMALLEST)
            print(f"{name}: {journal.stat().st_size:,} bytes in {target.stat().st_size:,}")


if __name__ == "__main__":
    main()
