"""The self-test application on the CPU engine: profiled, forecast and run, again and again.

Takes about a quarter of an hour on a quiet machine with two cores (three profiles of two to three minutes, then runs of
one), so that it does nothing unless told how many runs: `python -m benchmarks.bench_selftest --runs 5`.
Everything measured is real; forecasts are simulated, each made before its run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.table import print_table
from samullm_tui.engines.installed import installed_vllm
from samullm_tui.locations import APPS

CLUSTER = "cpu:2"
CHECKPOINTS = ("tiny:llama", "tiny:qwen3", "tiny:gpt2")
APP = str(APPS / "selftest.toml")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=0, help="how often to run the application")
    parser.add_argument("--seconds", default="45", help="of load for each profile")
    arguments = parser.parse_args()
    if arguments.runs < 1 or installed_vllm() is None:
        print("\nself-test, forecast against real runs: takes minutes and real engines (--runs 5)")
        return
    with tempfile.TemporaryDirectory(prefix="samullm-bench-") as home:
        before = forecast_s(home)
        profiles = [
            samullm(home, "profile", one, "--cluster", CLUSTER, "--seconds", arguments.seconds)
            for one in CHECKPOINTS
        ]
        print_profiles(profiles)
        runs = [
            samullm(home, "run", APP, "--engine", "vllm", "--cluster", CLUSTER, "--yes")
            for _ in range(arguments.runs)
        ]
    print_runs(runs, before)


def samullm(home: str, *arguments: str) -> Any:
    """The JSON object that a verb prints; its messages go where ours go."""
    command = [sys.executable, "-m", "samullm_tui", *arguments, "--json"]
    environment = {**os.environ, "SAMULLM_HOME": home}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def forecast_s(home: str) -> float:
    """Before anything is profiled: from the catalog alone."""
    found = samullm(home, "plan", APP, "--engine", "vllm", "--cluster", CLUSTER)
    return float(found["candidates"][0]["makespan_s"]["p50"])


def print_profiles(profiles: list[Any]) -> None:
    rows = [
        (
            p["checkpoint"],
            " ".join(f"{seconds:.1f}" for one in p["measured"]["starts_s"] for seconds in one),
            f"{p['load_s']:.1f}",
            str(p["kv_blocks"]),
            f"{p['measured']['rows']:,}",
            f"{p['median_ape']:.0%}",
            f"{p['bias']:+.0%}",
            f"{p['measured_in_s']:.0f}",
        )
        for p in profiles
    ]
    header = ("checkpoint", "starts s", "load_s", "KV blocks", "steps", "median error", "bias", "took s")
    print_table(f"profiles on {CLUSTER}, one more engine beside (measured)", header, rows)


def print_runs(runs: list[Any], before_s: float) -> None:
    errors = [run["predicted_makespan_s"] / run["makespan_s"] - 1 for run in runs]
    unprofiled = [before_s / run["makespan_s"] - 1 for run in runs]
    rows = [
        (
            run["status"],
            f"{run['outputs']}/{run['requests']}",
            f"{run['makespan_s']:.1f}",
            f"{run['predicted_makespan_s']:.1f}",
            f"{error:+.1%}",
            f"{old:+.1%}",
        )
        for run, error, old in zip(runs, errors, unprofiled, strict=True)
    ]
    header = ("run", "outputs", "measured s", "forecast ~s", "error", "without a profile")
    print_table(f"selftest on {CLUSTER}: real runs against the forecast (simulated)", header, rows)
    typical, old = statistics.median(map(abs, errors)), statistics.median(map(abs, unprofiled))
    load = os.getloadavg()[0]
    print(
        f"median |error| {typical:.1%}; without profiles {old:.1%}; load of this machine at the end {load:.1f}"
    )


if __name__ == "__main__":
    main()
