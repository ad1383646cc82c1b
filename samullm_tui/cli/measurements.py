"""simulate and fit-latency: one engine, and the seconds of its iterations."""

from __future__ import annotations

import csv
import time
from argparse import Namespace
from pathlib import Path

import numpy as np

from samullm_tui.cli.output import print_json, print_table
from samullm_tui.domain.errors import InputError, Problem, ProfileError
from samullm_tui.latency.fit import Fit, fit
from samullm_tui.latency.measurements import parse_iterations
from samullm_tui.latency.profile import Profile, decode_profile, encode_profile
from samullm_tui.simulate.batch import memory_bytes
from samullm_tui.simulate.engine import EngineConfig, EngineTrace, simulate_requests
from samullm_tui.telemetry.host import available_bytes
from samullm_tui.workload.request_list import RequestList, read_request_list

__all__ = ["fit_latency", "simulate"]

GIB = 2**30
ROWS_AT_ONCE = 100_000
"""Written to a file in pieces, so that a row is a Python object for a moment only."""


def simulate(arguments: Namespace) -> int:
    profile = decode_profile(_read(arguments.latency), str(arguments.latency))
    requests = read_request_list(arguments.requests_file)
    config = _config(arguments, profile)
    _check_context(requests, config, str(arguments.requests_file))
    _check_memory(memory_bytes(len(requests), config, profile.iteration), requests, arguments.requests_file)
    few = slice(0, 1)
    _simulate(
        config, profile, requests, few, log=False
    )  # compiles, so that simulation_s is the simulation alone
    started = time.perf_counter()
    trace = _simulate(config, profile, requests, slice(None), log=False)
    simulation_s = time.perf_counter() - started
    if arguments.iterations:
        logged = _simulate(config, profile, requests, slice(None), log=True)
        _write_iterations(arguments.iterations, logged)
    if arguments.requests:
        _write_requests(arguments.requests, requests, trace)
    result = {
        "makespan_s": trace.makespan_s,
        "iterations": trace.iterations,
        "preemptions": trace.preemptions,
        "simulation_s": simulation_s,
        "output_tokens_per_s": int(requests.output_tokens.sum()) / trace.makespan_s
        if trace.makespan_s
        else 0.0,
    }
    if arguments.json:
        print_json(result)
    else:
        print_table(("simulated", "value"), [(key, f"{value:,.6g}") for key, value in result.items()])
    return 0


def _simulate(
    config: EngineConfig, profile: Profile, requests: RequestList, part: slice, *, log: bool
) -> EngineTrace:
    return simulate_requests(
        config,
        profile.iteration,
        requests.arrival_s[part],
        requests.prompt_tokens[part],
        requests.output_tokens[part],
        **{name: column[part] for name, column in requests.options.items()},
        log_iterations=log,
    )


def _config(arguments: Namespace, profile: Profile) -> EngineConfig:
    kv_blocks = arguments.kv_blocks or profile.kv_blocks
    if not kv_blocks:
        name = str(arguments.latency)
        raise ProfileError(
            Problem(name, "kv_blocks", "the profile does not say how many", "give --kv-blocks")
        )
    return EngineConfig(
        max_num_seqs=arguments.max_num_seqs or profile.max_num_seqs,
        max_num_batched_tokens=arguments.max_num_batched_tokens or profile.max_num_batched_tokens,
        kv_blocks=kv_blocks,
        block_size=arguments.block_size or profile.block_size,
        max_model_len=arguments.max_model_len
        or (kv_blocks - 1) * (arguments.block_size or profile.block_size),
        async_scheduling=arguments.async_scheduling,
        prefix_caching=arguments.prefix_caching,
        scheduling_policy=arguments.scheduling_policy,
    )


def _check_context(requests: RequestList, config: EngineConfig, name: str) -> None:
    total = requests.prompt_tokens + requests.output_tokens
    limit = min(config.max_model_len, (config.kv_blocks - 1) * config.block_size)
    long = np.flatnonzero(total > limit)
    if len(long):
        ids = ", ".join(requests.ids[i] for i in long[:5])
        wrong = f"{len(long)} requests are longer than {limit} tokens, prompt and output together (ids {ids})"
        raise InputError(Problem(name, "", wrong, "give a larger --max-model-len or --kv-blocks"))


def _check_memory(needed: int, requests: RequestList, file: Path) -> None:
    """Refuses what would fill the memory, before it does."""
    free = available_bytes()
    if needed > free:
        wrong = f"{len(requests):,} requests need {needed / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free"
        raise InputError(
            Problem(str(file), "", wrong, "fewer requests at a time, or a machine with more memory")
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            Problem(str(path), "", error.strerror or str(error), "a file that can be read")
        ) from error


def _write_iterations(path: Path, trace: EngineTrace) -> None:
    assert trace.log is not None
    names = trace.log.dtype.names or ()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for start in range(0, len(trace.log), ROWS_AT_ONCE):
            writer.writerows(trace.log[start : start + ROWS_AT_ONCE].tolist())


def _write_requests(path: Path, requests: RequestList, trace: EngineTrace) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "arrival_s", "scheduled_s", "first_token_s", "finish_s"))
        times = (requests.arrival_s, trace.scheduled_s, trace.first_token_s, trace.finish_s)
        for start in range(0, len(requests), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            columns = (column[part].tolist() for column in times)
            writer.writerows(zip(requests.ids[part], *columns, strict=True))


def fit_latency(arguments: Namespace) -> int:
    name = str(arguments.iterations_file)
    rows = parse_iterations(_read(arguments.iterations_file), name)
    result = fit(
        rows,
        experts=arguments.experts,
        experts_per_token=arguments.experts_per_token,
        rng=np.random.default_rng(arguments.seed),
    )
    arguments.output.write_bytes(encode_profile(_profile_of(result, name)))
    errors = {"median_ape": result.median_ape, "mape": result.mape, "bias": result.bias}
    if arguments.json:
        print_json(errors)
    else:
        rows_kept_out = f"on {result.held_out_rows:,} rows kept out of {result.rows:,}"
        print_table((rows_kept_out, ""), [(key, f"{value:+.2%}") for key, value in errors.items()])
    return 0


def _profile_of(result: Fit, source: str) -> Profile:
    """The fit as a profile; what it cannot know (KV blocks, start time) is left open."""
    return Profile(
        iteration=result.latency,
        source=f"fitted to {result.rows:,} iterations of {Path(source).name}",
        median_ape=result.median_ape,
        mape=result.mape,
        bias=result.bias,
    )
