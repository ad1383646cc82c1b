"""Step times that others measured, read from ../shared/data for benchmarks and tests."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.make_catalog import read_rows
from samullm_tui.domain.cluster import PRESETS
from samullm_tui.latency.layers import LayerProfile, parse_layers
from samullm_tui.latency.measurements import Iterations
from samullm_tui.latency.memory import MEASURED_UTILIZATION, kv_blocks
from samullm_tui.latency.shape import Shape
from samullm_tui.latency.sharing import Timed

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Point = tuple[float, ...]


# Closed loops on H100


@dataclass(frozen=True)
class ServingPoint:
    """One measured point: `users` requests at a time, each of so many prompt and output tokens."""

    prompt: float
    output: float
    users: float
    tp: int
    tpot_s: float
    peer_s: float | None

    @property
    def workload(self) -> Point:
        return (self.prompt, self.output, self.users)


def serving_points(measured: Path) -> list[ServingPoint]:
    """The bfloat16 points of Qwen3-32B on H100 (those in FP8, three, are of other weights)."""
    folder = measured / "aiconfigurator"
    peer = {
        row["id"]: float(row["tpot_aic"])
        for row in read_rows(folder / "aiconfigurator_pred_vs_silicon_h100_qwen3-32b.csv")
    }
    return [
        ServingPoint(
            prompt=float(row["isl"]),
            output=float(row["osl"]),
            users=float(row["concurrency"]),
            tp=int(float(row["tp_size"])),
            tpot_s=float(row["silicon_tpot_ms"]) / 1e3,
            peer_s=peer[row["id"]] / 1e3 if row["id"] in peer else None,
        )
        for row in read_rows(folder / "silicon_vllm_h100_qwen3-32b.csv")
        if row["precision"] != "fp8"
    ]


def steady_loop(shape: Shape, points: Sequence[ServingPoint]) -> Timed:
    """The mean step of each closed loop, all points of one tp.

    As many prompts start in a step as requests end in it: users over output tokens. Less than one: that share of the
    steps has a prompt. More users than the KV cache holds wait and do not count.
    """
    tp, gpu = points[0].tp, PRESETS["h100-80g"]
    blocks = kv_blocks(shape, gpu, tp, block_size=16, utilization=MEASURED_UTILIZATION, batched_tokens=8192)
    steps: list[Point] = []
    shares = np.zeros((len(points), 2 * len(points)))
    for i, point in enumerate(points):
        context = point.prompt + point.output / 2
        users = min(point.users, (blocks - 1) * 16 / context)
        starts = users / point.output
        prompts = max(starts, 1.0)
        tokens = prompts * point.prompt
        steps.append((users, 0, 0, users, users * context, 1))
        steps.append((users + prompts, tokens, tokens * point.prompt / 2, users, users * context, 1))
        shares[i, 2 * i : 2 * i + 2] = max(1 - starts, 0.0), min(starts, 1.0)
    seconds = np.array([point.tpot_s for point in points])
    return Timed(shape, tp, Iterations(*np.array(steps).T), shares, seconds)


# Llama-2-70B, prompts and tokens apart


def splitwise_steps(measured: Path) -> dict[tuple[str, int, str], tuple[Iterations, list[Point]]]:
    """(hardware, tp, "prompt" or "token") → the steps, and the configuration of each."""
    found: dict[tuple[str, int, str], list[tuple[Point, Point]]] = defaultdict(list)
    for row in read_rows(measured / "splitwise" / "perf_model_llama2-70b.csv.gz"):
        batch, prompt, output = (float(row[name]) for name in ("batch_size", "prompt_size", "token_size"))
        place = row["hardware"], int(row["tensor_parallel"])
        config = (batch, prompt, output)
        tokens = batch * prompt
        prompt_s, token_s = (float(row[name]) / 1e3 for name in ("prompt_time", "token_time"))
        found[*place, "prompt"].append(((batch, tokens, tokens * prompt / 2, 0, 0, prompt_s), config))
        decode = (batch, 0, 0, batch, batch * (prompt + output / 2), token_s)
        found[*place, "token"].append((decode, config))
    return {
        key: (Iterations(*np.array([step for step, _ in rows]).T), [config for _, config in rows])
        for key, rows in found.items()
    }


# A real vLLM 0.19 run and the layer profile of its GPU


@dataclass(frozen=True)
class MeasuredRun:
    """Requests and when they really were where; seconds from the first arrival."""

    arrival_s: FloatArray
    prompt: IntArray
    output: IntArray
    first_token_s: FloatArray
    finish_s: FloatArray


def vllm_run(measured: Path) -> MeasuredRun:
    file = measured / "llmservingsim/runs/RTXPRO6000/Llama-3.1-8B/requests.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "request_id"}
    start = columns["queued_ts"].min()
    return MeasuredRun(
        columns["queued_ts"] - start,
        columns["input_toks"].astype(np.int64),
        columns["output_toks"].astype(np.int64),
        columns["first_token_ts"] - start,
        columns["last_token_ts"] - start,
    )


def layer_profile(measured: Path) -> LayerProfile:
    """Llama-3.1-8B on one RTX PRO 6000, with the skew that its meta.yaml states for tp 1."""
    folder = measured / "llmservingsim/profile/RTXPRO6000/Llama-3.1-8B"
    texts = [(folder / "tp1" / f"{name}.csv").read_text() for name in ("dense", "attention", "per_sequence")]
    skew = re.search(r"alpha_default: ([\d.]+)", (folder / "meta.yaml").read_text())
    assert skew
    return replace(parse_layers(*texts), skew=float(skew[1]))


def longest_over_mean(run: MeasuredRun, seqs: int) -> float:
    """Of `seqs` requests decoding at one moment the longest context over the mean, from the request list alone.

    Moments are drawn: a request as often as it has output tokens, at any of them.
    """
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(run.output), (1000, seqs), p=run.output / run.output.sum())
    contexts = run.prompt[chosen] + rng.random(chosen.shape) * run.output[chosen]
    return float((contexts.max(axis=1) / contexts.mean(axis=1)).mean())
