"""The compiled simulator with event jumps against a plain loop over the same steps, in one run.

The workload: requests whose lengths are drawn from the shipped tables (prompts log-normal, outputs of vicuna-13b).
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.table import print_table
from samullm_tui.catalog.lengths import distribution_of
from samullm_tui.catalog.profiles import profile_of
from samullm_tui.domain.cluster import PRESETS
from samullm_tui.simulate.engine import EngineConfig, simulate_requests
from tests.simulate.reference import Reference, Request

REPEATS = 5


def main() -> None:
    profile = profile_of("lmsys/vicuna-13b-v1.5", PRESETS["a100-80g"], 1)
    lengths = distribution_of("vicuna-13b-v1.5")
    assert profile is not None
    assert lengths is not None
    config = EngineConfig(256, 2048, profile.kv_blocks or 3727, 16, 4096)
    rows = []
    for count in (100, 1_000, 10_000):
        rng = np.random.default_rng(0)
        prompts = np.clip(rng.lognormal(5.0, 1.0, count), 1, 2000).astype(np.int64)
        outputs = np.clip(lengths.sample(count, rng), 1, 2000)
        arrival = np.zeros(count)
        trace = simulate_requests(config, profile.iteration, arrival, prompts, outputs)
        fast_s = min(
            _timed(lambda: simulate_requests(config, profile.iteration, arrival, prompts, outputs))
            for _ in range(REPEATS)
        )  # noqa: B023
        requests = [
            Request(i, 0.0, int(p), int(o)) for i, (p, o) in enumerate(zip(prompts, outputs, strict=True))
        ]
        plain = Reference(config, profile.iteration, requests)
        plain_s = _timed(plain.run)
        same = "yes" if len(plain.rows) == trace.iterations else "NO"
        rows.append(
            (
                f"{count:,}",
                f"{trace.iterations:,}",
                f"{fast_s * 1e3:.2f}",
                f"{plain_s * 1e3:.0f}",
                f"{plain_s / fast_s:.0f}x",
                same,
            )
        )
    header = ("requests", "steps", "simulator ms", "plain loop ms", "ratio", "same steps")
    print_table("one engine: compiled event jumps against a plain step loop", header, rows)


def _timed(call: object) -> float:
    assert callable(call)
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
