"""The compiled simulator with event jumps against a plain loop over the same steps, in one run.

The workload: requests whose lengths are drawn from the shipped tables (prompts log-normal, outputs of vicuna-13b).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks.table import print_table
from samullm_tui.catalog.lengths import distribution_of
from samullm_tui.catalog.profiles import profile_of
from samullm_tui.domain.cluster import PRESETS
from samullm_tui.latency.model import IterationLatency
from samullm_tui.lengths.distribution import LengthDistribution
from samullm_tui.simulate.engine import EngineConfig, EngineTrace, simulate_requests
from tests.simulate.reference import Reference, Request

REPEATS = 5


def main() -> None:
    profile = profile_of("lmsys/vicuna-13b-v1.5", PRESETS["a100-80g"], 1)
    lengths = distribution_of("vicuna-13b-v1.5")
    assert profile is not None
    assert lengths is not None
    config = EngineConfig(256, 2048, profile.kv_blocks or 3727, 16, 4096)
    rows = [_row(count, config, profile.iteration, lengths) for count in (100, 1_000, 10_000)]
    header = ("requests", "steps", "simulator ms", "plain loop ms", "ratio", "same steps")
    print_table("one engine: compiled event jumps against a plain step loop", header, rows)


def _row(
    count: int, config: EngineConfig, latency: IterationLatency, lengths: LengthDistribution
) -> tuple[str, ...]:
    rng = np.random.default_rng(0)
    prompts = np.clip(rng.lognormal(5.0, 1.0, count), 1, 2000).astype(np.int64)
    outputs = np.clip(lengths.sample(count, rng), 1, 2000)

    def jumps() -> EngineTrace:
        return simulate_requests(config, latency, np.zeros(count), prompts, outputs)

    trace = jumps()
    jumps_s = min(_timed(jumps) for _ in range(REPEATS))
    plain = Reference(
        config,
        latency,
        [Request(i, 0.0, int(p), int(o)) for i, (p, o) in enumerate(zip(prompts, outputs, strict=True))],
    )
    plain_s = _timed(plain.run)
    same = "yes" if len(plain.rows) == trace.iterations else "NO"
    figures = (f"{jumps_s * 1e3:.2f}", f"{plain_s * 1e3:.0f}", f"{plain_s / jumps_s:.0f}x")
    return (f"{count:,}", f"{trace.iterations:,}", *figures, same)


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
