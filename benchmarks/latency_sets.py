"""Our forecast against each measured set: what `bench_latency` prints, computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec import structs

from benchmarks.make_catalog import cpu_iterations, read_rows
from benchmarks.measured_steps import (
    ServingPoint,
    layer_profile,
    longest_over_mean,
    serving_points,
    splitwise_steps,
    steady_loop,
    vllm_run,
)
from samullm_tui.catalog.profiles import estimated_profile, unlimited
from samullm_tui.catalog.shapes import shape_of
from samullm_tui.domain.cluster import PRESETS
from samullm_tui.latency.experts import of_one_token, of_text
from samullm_tui.latency.fit import Fit, fit, fitted, predicted_s
from samullm_tui.latency.layers import fit_layers
from samullm_tui.latency.measurements import Iterations
from samullm_tui.latency.memory import MEASURED_UTILIZATION, kv_blocks
from samullm_tui.latency.model import IterationLatency, typical
from samullm_tui.latency.roofline import EAGER, GRAPHS, Rates, Shape, load_estimate_s, roofline
from samullm_tui.latency.sharing import Measured, Timed, calibrated_rates, rates_from_times
from samullm_tui.simulate.engine import EngineConfig, simulate_requests

__all__ = [
    "A100",
    "MIXTRAL",
    "PRIOR",
    "Fits",
    "Row",
    "Steps",
    "accuracy",
    "fits_of",
    "latencies",
    "shape_named",
]

FloatArray = npt.NDArray[np.float64]
Steps = Mapping[tuple[str, int], Iterations]
Fits = Mapping[tuple[str, int], Fit]

A100, H100 = PRESETS["a100-80g"], PRESETS["h100-80g"]
MIXTRAL = "Mixtral-8x7B-v0.1"
PRIOR = structs.replace(GRAPHS, shared_kv_factor=EAGER.shared_kv_factor)
"""Of another GPU and engine, but for how query heads share a cache: that is of this engine, by an LLM in no set here."""
SPLITS = 20
ENGINE_SEQS = 256


@dataclass(frozen=True)
class Row:
    """One line. Errors are shares of the measured time; `others` is what a peer or the authors reach there."""

    measured_set: str
    what: str
    points: str
    error: str
    bias: str = ""
    others: str = ""


def fits_of(steps: Steps) -> Fits:
    return {key: fit(rows, rng=np.random.default_rng(0)) for key, rows in steps.items()}


def accuracy(measured: Path, steps: Steps, fits: Fits) -> Iterator[Row]:
    """Every line, set by set. `steps` are the SamuLLM authors', `fits` those of `fits_of`."""
    yield from authors(steps, fits)
    yield from left_out(steps, fits)
    yield from memory_and_starts(measured)
    yield from splitwise(measured)
    yield from estimated_70b(measured)
    yield from closed_loops(measured)
    yield from whole_run(measured)
    yield from cpu(measured)


def shape_named(name: str) -> Shape:
    shape = shape_of(name)
    assert shape
    return unlimited(shape)


def _share(value: float) -> str:
    return f"{value:.1%}"


def _over(values: Sequence[float]) -> str:
    return f"{np.median(values):.1%}, worst {max(values):.1%}"


def _signed(value: float) -> str:
    return f"{value:+.1%}"


# The SamuLLM authors' A100 steps


def authors(steps: Steps, fits: Fits) -> Iterator[Row]:
    name = "SamuLLM authors, A100"
    dense = {key: result for key, result in fits.items() if key[0] != MIXTRAL}
    held = {key: steps[key][_held_out(result)] for key, result in fits.items()}
    points = f"{sum(result.held_out_rows for result in dense.values()):,}"
    within = sum(result.median_ape <= 0.03 for result in dense.values())
    total_s = sum(float(held[key].latency_s.sum()) for key in dense)
    predicted = sum(float(predicted_s(dense[key].latency, held[key]).sum()) for key in dense)
    biases = [abs(result.bias) for result in dense.values()]
    yield Row(
        name,
        f"typical step, {len(dense)} dense (LLM, tp); {within} within 3 %",
        points,
        _over([result.median_ape for result in dense.values()]),
        f"{_signed(predicted / total_s - 1)}, worst pair {max(biases):.1%}",
    )
    few = {key: held[key][held[key].num_seqs <= ENGINE_SEQS] for key in dense}
    expected = [result.expected_median_ape for result in dense.values()]
    yield Row(name, "the same, expected stalls in every step", points, _over(expected))
    yield Row(
        name,
        f"the same, steps of up to {ENGINE_SEQS} sequences",
        f"{sum(map(len, few.values())):,}",
        _over([_median_error(result.latency, few[key]) for key, result in dense.items()]),
    )
    yield Row(name, "one step on two LLMs of one shape (repeatability)", *_repeatability(steps))
    mixtral = fits[MIXTRAL, 2]
    yield Row(
        name,
        "typical step, Mixtral-8x7B tp 2",
        f"{mixtral.held_out_rows:,}",
        f"{mixtral.median_ape:.1%} (with expected stalls {mixtral.expected_median_ape:.1%})",
        _signed(mixtral.bias),
    )


def _held_out(result: Fit) -> npt.NDArray[np.int64]:
    """The rows that `fit` kept out with this seed."""
    return np.random.default_rng(0).permutation(result.rows)[: result.held_out_rows]


def _median_error(latency: IterationLatency, rows: Iterations) -> float:
    return float(np.median(np.abs(predicted_s(latency, rows) / rows.latency_s - 1)))


def _repeatability(steps: Steps) -> tuple[str, str]:
    """Median difference of equal steps, one LLM's scaled to the other's, over √2: the noise of one measurement."""
    same = [
        ("Llama-2-13b-hf", "vicuna-13b-v1.5"),
        ("alpaca-13b", "baize-v2-13b"),
        ("dolly-v2-12b", "oasst-sft-4-pythia-12b-epoch-3.5"),
        ("Llama-2-7b-hf", "Llama-2-7b-chat-hf"),
    ]
    noise, points = [], 0
    for one, other in same:
        for tp in (1, 2, 4):
            if (one, tp) in steps and (other, tp) in steps:
                a, b = (_by_content(steps[llm, tp]) for llm in (one, other))
                ratio = np.array([a[step] / b[step] for step in a.keys() & b.keys()])
                noise.append(float(np.median(np.abs(ratio / np.median(ratio) - 1)) / np.sqrt(2)))
                points += len(ratio)
    return f"{points:,}", _over(noise)


def _by_content(rows: Iterations) -> dict[tuple[float, ...], float]:
    content = (
        rows.num_seqs,
        rows.prefill_tokens,
        rows.prefill_context,
        rows.decode_seqs,
        rows.decode_context,
    )
    return dict(zip(map(tuple, np.stack(content, 1).tolist()), rows.latency_s.tolist(), strict=True))


def left_out(steps: Steps, fits: Fits) -> Iterator[Row]:
    """LLMs predicted from their shape, by rates of the others, near PRIOR."""
    name = "SamuLLM authors, A100"
    rates = {
        shape: calibrated_rates([m for m in latencies(fits) if m[0] != shape], A100, PRIOR)
        for shape in {shape_named(llm) for llm, _tp in steps}
    }
    dense = {key: rows for key, rows in steps.items() if key[0] != MIXTRAL}
    points, errors = _estimated(dense, rates)
    yield Row(name, "typical step of a dense LLM whose shape was left out", points, _over(errors))
    points, errors = _estimated({(MIXTRAL, 2): steps[MIXTRAL, 2]}, rates)
    yield Row(name, "Mixtral left out (there is no other mixture)", points, _share(errors[0]))
    for single in ("Llama-2-7b-chat-hf", "Llama-2-13b-hf"):
        mine = calibrated_rates(latencies(fits, single), A100, PRIOR)
        rest = {key: rows for key, rows in dense.items() if shape_named(key[0]) != shape_named(single)}
        points, errors = _estimated(rest, dict.fromkeys(rates, mine))
        yield Row(name, f"all dense LLMs of other shapes from {single} alone", points, _over(errors))
    points, errors = _estimated(dense, dict.fromkeys(rates, PRIOR))
    yield Row(name, "the same prior, nothing calibrated", points, _over(errors))


def latencies(fits: Fits, only: str = "") -> list[Measured]:
    """What was measured on A100, a mixture moved from one repeated token to text."""
    return [
        (shape, tp, of_text(result.latency, roofline(shape, A100, tp)))
        for (llm, tp), result in fits.items()
        for shape in [shape_named(llm)]
        if only in ("", llm)
    ]


def _estimated(steps: Steps, rates: Mapping[Shape, Rates]) -> tuple[str, list[float]]:
    """How many steps, and the median error at each (LLM, tp) of the roofline with its rates."""
    errors = [
        _median_error(
            of_one_token(typical(roofline(shape_named(llm), A100, tp, rates[shape_named(llm)]))), rows
        )
        for (llm, tp), rows in steps.items()
    ]
    return f"{sum(map(len, steps.values())):,}", errors


def memory_and_starts(measured: Path) -> Iterator[Row]:
    folder = measured / "samullm-authors"
    blocks = []
    for row in read_rows(folder / "kv_blocks_a100_80g.csv"):
        shape = shape_of(row["model"])
        assert shape
        estimate = kv_blocks(
            shape,
            A100,
            int(row["tp"]),
            block_size=int(row["block_tokens"]),
            utilization=MEASURED_UTILIZATION,
            batched_tokens=max(shape.context, 2560),
        )
        blocks.append(abs(estimate / int(row["kv_blocks"]) - 1))
    yield Row(
        "SamuLLM authors, A100",
        "KV blocks of an engine (margins fitted to them)",
        f"{len(blocks)}",
        _over(blocks),
    )
    starts = [
        abs(load_estimate_s(shape_named(row["model"]), A100, int(row["tp"])) / float(row["init_s"]) - 1)
        for row in read_rows(folder / "engine_init_seconds_a100.csv")
    ]
    yield Row("SamuLLM authors, A100", "engine start (fitted to them)", f"{len(starts)}", _over(starts))


# Llama-2-70B of another study


def splitwise(measured: Path) -> Iterator[Row]:
    sets = splitwise_steps(measured)
    for kind in ("prompt", "token"):
        for hardware in ("a100-80gb", "h100-80gb", "h100-80gb-pcap"):
            mine = {key: value for key, value in sets.items() if (key[0], key[2]) == (hardware, kind)}
            errors = [error for rows, configs in mine.values() for error in _halves(rows, configs)]
            inside = [
                np.abs(predicted_s(fitted(r, stalls=False), r) / r.latency_s - 1) for r, _ in mine.values()
            ]
            points = sum(len(rows) for rows, _ in mine.values())
            yield Row(
                "Splitwise, Llama-2-70B",
                f"{kind} time, {hardware}, tp 2 to 8; fitted to half of the configurations",
                f"{points}",
                f"{np.median(np.concatenate(errors)):.1%} (all fitted: {np.median(np.concatenate(inside)):.1%})",
            )


def estimated_70b(measured: Path) -> Iterator[Row]:
    """The catalog's estimate, from LLMs of the SamuLLM authors and vLLM 0.3: nothing of this study is in it."""
    sets = splitwise_steps(measured)
    shape = shape_of("Llama-2-70b-hf")
    assert shape
    for kind in ("prompt", "token"):
        errors = []
        for tp in (2, 4, 8):
            rows = sets["a100-80gb", tp, kind][0]
            profile = estimated_profile("Llama-2-70b-hf", shape, A100, tp)
            assert profile
            errors.append(predicted_s(typical(profile.iteration), rows) / rows.latency_s - 1)
        signed = np.concatenate(errors)
        yield Row(
            "Splitwise, Llama-2-70B",
            f"{kind} time, a100-80gb, tp 2 to 8; estimated from its shape",
            f"{len(signed)}",
            _share(float(np.median(np.abs(signed)))),
            _signed(float(np.median(signed))),
        )


def _halves(rows: Iterations, configs: Sequence[tuple[float, ...]]) -> list[FloatArray]:
    """Errors on the half of the configurations that the fit has not seen, for several splits."""
    distinct = sorted(set(configs))
    number = np.array([distinct.index(config) for config in configs])
    errors = []
    for seed in range(SPLITS):
        seen = np.random.default_rng(seed).permutation(len(distinct))[: len(distinct) // 2]
        mine = np.isin(number, seen)
        latency = fitted(rows[mine], stalls=False)
        errors.append(np.abs(predicted_s(latency, rows[~mine]) / rows[~mine].latency_s - 1))
    return errors


# Closed loops on H100


def closed_loops(measured: Path) -> Iterator[Row]:
    points = serving_points(measured)
    shape = shape_named("Qwen3-32B")
    workloads = sorted({point.workload for point in points})
    splits = []
    for seed in range(SPLITS):
        seen = np.random.default_rng(seed).permutation(len(workloads))[: len(workloads) // 2]
        train = {workloads[i] for i in seen}
        known = [point for point in points if point.workload in train]
        unseen = [point for point in points if point.workload not in train]
        splits.append(_loop_errors(shape, known, unseen))
    peers = [abs(p.peer_s / p.tpot_s - 1) for p in points if p.peer_s]
    mean = np.mean([np.abs(errors).mean() for errors in splits])
    worst = max(np.abs(errors).mean() for errors in splits)
    yield Row(
        "aiconfigurator, Qwen3-32B, H100",
        "time per output token, tp 2 to 8; fitted to half of the workloads (mean error)",
        f"{len(points)}",
        f"{mean:.1%}, worst of {SPLITS} splits {worst:.1%}",
        _signed(float(np.mean([errors.mean() for errors in splits]))),
        f"{np.mean(peers):.1%} on {len(peers)} (13.9% with 2 in FP8)",
    )
    for tp in (2, 4, 8):
        known = [point for point in points if point.tp != tp]
        errors = _loop_errors(shape, known, [point for point in points if point.tp == tp])
        yield Row(
            "aiconfigurator, Qwen3-32B, H100",
            f"tp {tp} from the two others (mean error)",
            f"{len(errors)}",
            _share(float(np.abs(errors).mean())),
            _signed(float(errors.mean())),
        )


def _loop_errors(shape: Shape, known: Sequence[ServingPoint], unseen: Sequence[ServingPoint]) -> FloatArray:
    """Signed errors on `unseen` of rates fitted to `known`, near those of another GPU's engines."""
    rates = rates_from_times(_loops(shape, known), H100, EAGER)
    errors = []
    for timed in _loops(shape, unseen):
        latency = typical(roofline(shape, H100, timed.tp, rates))
        errors.append(timed.shares @ predicted_s(latency, timed.steps) / timed.seconds - 1)
    return np.concatenate(errors)


def _loops(shape: Shape, points: Sequence[ServingPoint]) -> list[Timed]:
    sizes = sorted({point.tp for point in points})
    return [steady_loop(shape, [point for point in points if point.tp == tp]) for tp in sizes]


# Whole runs


def whole_run(measured: Path) -> Iterator[Row]:
    """vLLM 0.19, 300 requests as they arrived, lengths known; no figure of the run went into the forecast."""
    run, name = vllm_run(measured), "LLMServingSim, vLLM 0.19"
    shape = shape_named("Llama-3.1-8B")
    longest, context = longest_over_mean(run, 128), int((run.prompt + run.output).max())
    result = fit_layers(
        layer_profile(measured), shape.layers, context=context, longest=longest, rng=np.random.default_rng(0)
    )
    gpu = PRESETS["rtxpro6000-96g"]
    blocks = kv_blocks(shape, gpu, 1, block_size=16, utilization=MEASURED_UTILIZATION)
    config = EngineConfig(
        max_num_seqs=128, max_num_batched_tokens=2048, kv_blocks=blocks, block_size=16, max_model_len=131_072
    )
    trace = simulate_requests(config, result.latency, run.arrival_s, run.prompt, run.output)
    yield Row(
        name,
        "steps composed of layers, fitted",
        f"{result.held_out_rows:,}",
        _share(result.median_ape),
        _signed(result.bias),
    )
    pairs = {
        "makespan": (trace.makespan_s, run.finish_s.max(), ""),
        "mean time to first token": (
            (trace.first_token_s - run.arrival_s).mean(),
            (run.first_token_s - run.arrival_s).mean(),
            "-4.0%",
        ),
        "mean time per output token": (
            ((trace.finish_s - trace.first_token_s) / (run.output - 1)).mean(),
            ((run.finish_s - run.first_token_s) / (run.output - 1)).mean(),
            "-1.0%",
        ),
        "mean latency of a request": (
            (trace.finish_s - run.arrival_s).mean(),
            (run.finish_s - run.arrival_s).mean(),
            "-1.8%",
        ),
    }
    for what, (simulated, true, peer) in pairs.items():
        signed = float(simulated / true - 1)
        yield Row(name, f"{what}, simulated", "300", f"{abs(signed):.1%}", _signed(signed), peer)


def cpu(measured: Path) -> Iterator[Row]:
    """Steps of the tiny Llama; then each run's makespan from a fit to the other run."""
    result = fit(cpu_iterations(measured), rng=np.random.default_rng(0))
    name = "vLLM 0.32 on two CPU cores"
    yield Row(
        name,
        "typical step, tiny Llama",
        f"{result.held_out_rows}",
        _share(result.median_ape),
        _signed(result.bias),
    )
    for seed in (0, 1):
        other = fitted(cpu_iterations(measured, f"s64_t512_seed{1 - seed}"))
        rows = list(read_rows(measured / "vllm-cpu" / f"s64_t512_seed{seed}_requests.csv"))
        prompt, output = (
            np.array([int(row[column]) for row in rows]) for column in ("prompt_tokens", "output_tokens")
        )
        config = EngineConfig(64, 512, 8192, 128, 8192)
        trace = simulate_requests(config, other, np.zeros(len(rows)), prompt, output)
        true_s = float(cpu_iterations(measured, f"s64_t512_seed{seed}").latency_s.sum())
        signed = trace.makespan_s / true_s - 1
        what = f"makespan of run {seed} from a fit to run {1 - seed}, simulated"
        yield Row(name, what, f"{len(rows)}", f"{abs(signed):.1%}", _signed(signed))
