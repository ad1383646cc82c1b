"""The compiled simulator with event jumps against a plain loop over the same steps, in one run.

The workload: requests whose lengths are drawn from the shipped tables (prompts log-normal, outputs of vicuna-13b).
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from benchmarks.table import print_table
from samullm_tui.catalog.lengths import distribution_of
from samullm_tui.catalog.profiles import profile_of
from samullm_tui.domain.cluster import PRESETS
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.lengths.distribution import LengthDistribution
from samullm_tui.simulate.engine import EngineConfig, EngineTrace, simulate_requests
from tests.simulate.reference import Reference, Request

REPEATS = 5
MEASURED = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def main() -> None:
    profile = profile_of("lmsys/vicuna-13b-v1.5", PRESETS["a100-80g"], 1)
    lengths = distribution_of("vicuna-13b-v1.5")
    assert profile is not None
    assert lengths is not None
    config = EngineConfig(256, 2048, profile.kv_blocks or 3727, 16, 4096)
    rows = [_row(count, config, profile.iteration, lengths) for count in (100, 1_000, 10_000)]
    header = ("requests", "steps", "simulator ms", "plain loop ms", "ratio", "same steps")
    print_table("one engine: compiled event jumps against a plain step loop", header, rows)
    _options(profile.iteration, config, lengths)
    _real_engine(profile.iteration)
    _vidur()


def _options(latency: IterationLatency, config: EngineConfig, lengths: LengthDistribution) -> None:
    """2,000 requests, of which half stop by themselves and all begin with one of ten texts of 160 tokens."""
    count = 2_000
    rng = np.random.default_rng(1)
    prompts = np.clip(rng.lognormal(5.0, 1.0, count), 1, 1800).astype(np.int64) + 160
    outputs = np.clip(lengths.sample(count, rng), 1, 2000)
    table = {
        "max_tokens": outputs + rng.integers(0, 2, count),
        "prefix": rng.integers(0, 10, count),
        "prefix_tokens": np.full(count, 160),
        "priority": rng.integers(0, 3, count),
    }
    choices: tuple[tuple[str, EngineConfig], ...] = (
        ("plain", config),
        ("asynchronous", replace(config, async_scheduling=True)),
        ("prefix caching", replace(config, prefix_caching=True)),
        ("priority", replace(config, scheduling_policy="priority")),
        (
            "all three",
            replace(config, async_scheduling=True, prefix_caching=True, scheduling_policy="priority"),
        ),
    )
    rows, plain_s = [], 0.0
    for name, chosen in choices:

        def jumps(chosen: EngineConfig = chosen) -> EngineTrace:
            return simulate_requests(chosen, latency, np.zeros(count), prompts, outputs, **table)

        trace = jumps()
        seconds = min(_timed(jumps) for _ in range(REPEATS))
        plain_s = plain_s or seconds
        figures = (f"{seconds * 1e3:.2f}", f"{seconds / plain_s:.2f}x", f"{trace.makespan_s:.1f}")
        rows.append((name, f"{trace.iterations:,}", f"{trace.preemptions:,}", *figures))
    header = ("schedule", "steps", "preemptions", "simulator ms", "to plain", "simulated makespan s")
    print_table(f"{count:,} requests with each option", header, rows)


def _real_engine(latency: IterationLatency) -> None:
    """Steps of the logged vLLM 0.32 runs that are simulated equal, by sequences, tokens, context and blocks."""
    rows = []
    for seed in (0, 1) if MEASURED.is_dir() else ():
        path = MEASURED / "vllm-cpu" / f"s64_t512_seed{seed}"
        requests = np.genfromtxt(f"{path}_requests.csv", delimiter=",", names=True)
        logged = np.genfromtxt(f"{path}_iterations.csv", delimiter=",", names=True)
        lengths = [requests[name].astype(np.int64) for name in ("prompt_tokens", "output_tokens")]
        config = EngineConfig(64, 512, 8192, 128, 4096)
        log = simulate_requests(config, latency, requests["arrival_s"], *lengths, log_iterations=True).log
        assert log is not None
        same = np.ones(min(len(log), len(logged)), np.bool_)
        for name in ("num_seqs", "prefill_tokens", "decode_seqs", "context_tokens", "kv_blocks"):
            same &= log[name][: len(same)] == logged[name][: len(same)]
        rows.append((f"seed {seed}", f"{len(logged):,}", f"{len(log):,}", f"{same.mean():.2%}"))
    if rows:
        print_table("real vLLM 0.32 (CPU) runs", ("run", "real steps", "simulated", "equal"), rows)
    else:
        print("\nreal vLLM 0.32 (CPU) runs: the measured data are not there")


def _vidur() -> None:
    """The 1,000 ShareGPT requests of a run of the Vidur simulator: its steps, and ours of today's vLLM.

    Vidur's scheduler is the older one, in which a step has prompts or decodes but not both, and the KV cache of its
    run is not told (here it is large enough). So only the numbers of steps and of tokens can be compared.
    """
    folder = MEASURED / "vidur" / "vidur_run"
    if not folder.is_dir():
        print("\nthe Vidur run: the data are not there")
        return
    with gzip.open(folder / "vidur_iterations_cap48.csv.gz", "rt") as file:
        theirs = np.genfromtxt(file, delimiter=",", names=True)
    requests = np.genfromtxt(folder / "sharegpt1000_t0.csv", delimiter=",", names=True)
    lengths = [requests[name].astype(np.int64) for name in ("num_prefill_tokens", "num_decode_tokens")]
    latency = IterationLatency((1.0,) + (0.0,) * (len(COEFFICIENTS) - 1))  # a step is a step
    config = EngineConfig(48, 4096, 100_000, 16, 8192)
    log = simulate_requests(config, latency, requests["arrived_at"], *lengths, log_iterations=True).log
    assert log is not None
    mixed = ((log["prefill_tokens"] > 0) & (log["decode_seqs"] > 0)).sum()
    theirs_mixed = ((theirs["n_prefill_reqs"] > 0) & (theirs["n_prefill_reqs"] < theirs["n_reqs"])).sum()
    ours_tokens = log["prefill_tokens"].sum() + log["decode_seqs"].sum()
    rows = [
        ("Vidur", f"{len(theirs):,}", f"{theirs['n_tokens'].sum():,.0f}", f"{theirs_mixed:,}"),
        ("here", f"{len(log):,}", f"{ours_tokens:,}", f"{mixed:,}"),
    ]
    header = ("simulator", "steps", "tokens computed", "steps with prompts and decodes")
    print_table("1,000 ShareGPT requests at once, 48 sequences, 4,096 tokens a step", header, rows)
    print(
        f"Vidur's simulated time for them: {theirs['iter_time_s'].sum():.1f} s; its own run time is not logged"
    )


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
