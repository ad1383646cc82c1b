"""What an LLM costs that nobody has measured: latency and start time from its shape and the GPU's rates.

An estimate, and to be shown as one. Its form is a roofline: a step reads every weight once (or, of a mixture, the
experts it touches), computes 2 FLOPs per active parameter and token, and reads the KV cache of what it decodes.
How far engines stay from the peak rates is in `Rates`: `EAGER`, `GRAPHS` and `CPU` below, or calibrated on LLMs that
were measured (`sharing.py`). The estimate is linear in every field of the rates.
"""

from __future__ import annotations

import math

from msgspec import Struct

from samullm_tui.domain.cluster import GpuType
from samullm_tui.latency.memory import BF16, Precision, kv_blocks, kv_bytes_per_gpu_token, stored_weight_bytes
from samullm_tui.latency.model import (
    COEFFICIENTS,
    DECODE_CONTEXT,
    TILE_TOKENS,
    TOKEN_BREAKS,
    IterationLatency,
)
from samullm_tui.latency.shape import (
    Shape,
    expert_params,
    flops_per_token,
    kv_bytes_per_token,
    weight_bytes,
)

__all__ = [
    "CPU",
    "EAGER",
    "GRAPHS",
    "Rates",
    "Shape",
    "flops_per_token",
    "kv_blocks",
    "kv_bytes_per_token",
    "load_estimate_s",
    "rates_of",
    "rescaled",
    "roofline",
    "weight_bytes",
]


class Rates(Struct, frozen=True, kw_only=True):
    """How an engine's step departs from the peak rates of its GPU. A factor is seconds over those at the peak rate.

    layer_launch_s        host and kernel-launch seconds per layer and step at tp 1
    layer_collective_s    further seconds per layer at tp 2
    layer_doubling_s      and for each doubling of tp after
    prefill_layer_s       further seconds per layer of a step with prompt tokens
    per_sequence_s        sampling and input preparation per sequence
    prefill_sequence_s    further seconds per sequence whose prompt is computed
    stall_s               expected stalls per squared sequence
    weight_factor, expert_factor   reading weights, and those of the experts that a step touches
    kv_factor             reading the KV cache
    shared_kv_factor      further, for each query head beyond the first that shares a KV head
    mixed_kv_factor       further, in a step with prompt tokens (0 where no such steps were measured)
    token_factor          computing a token outside experts
    tile_factor           computing a tile of tokens there, over the arithmetic of all its tokens
    expert_token_factor, expert_tile_factor   the same in the experts that a token meets
    token_collective_factor, token_doubling_factor
                          further seconds per token at tp 2, and for each doubling after, over its arithmetic
    attention_factor      prefill attention
    """

    layer_launch_s: float
    layer_collective_s: float
    layer_doubling_s: float
    prefill_layer_s: float
    per_sequence_s: float
    prefill_sequence_s: float
    stall_s: float
    weight_factor: float
    expert_factor: float
    kv_factor: float
    shared_kv_factor: float
    mixed_kv_factor: float
    token_factor: float
    tile_factor: float
    expert_token_factor: float
    expert_tile_factor: float
    token_collective_factor: float
    token_doubling_factor: float
    attention_factor: float


# Computing in experts, by one kernel for all of them: kernel times published for another mixture (64 experts of 1,408, six
# a token, A100, vllm-project/vllm pull request 40542). The time of a token is the slope from 64 to 1,024 tokens (698 to
# 1,022 µs), that with its tiles the slope to 4,096 (2,919 µs), each over 0.333 µs at the peak rate.
EXPERT_TOKEN_FACTOR = 1.02
EXPERT_TILE_FACTOR = 0.84

# Regression of the coefficients fitted to the SamuLLM authors' published A100 iterations (31 dense (LLM, tp) pairs and
# Mixtral; vLLM 0.3, eager mode): constants to 3 ms, token slopes to 10 %, KV reads at 0.85 to 1.05 of the bandwidth.
# That engine reads a cache again for each query head that shares it (from the L2 cache): in the authors' log of
# chatglm3-6b, 32 query heads on 2 KV heads, decodes read theirs in 6.1 (420 sequences) and 7.1 (105) times the
# bandwidth's time. The reading of experts is taken to be that of other weights.
EAGER = Rates(
    layer_launch_s=143e-6,
    layer_collective_s=143e-6,
    layer_doubling_s=40e-6,
    prefill_layer_s=50e-6,
    per_sequence_s=75e-6,
    prefill_sequence_s=20e-6,
    stall_s=3e-8,
    weight_factor=1.11,
    expert_factor=1.11,
    kv_factor=1.08,
    shared_kv_factor=0.36,
    mixed_kv_factor=0.0,
    token_factor=0.98,
    tile_factor=0.32,
    expert_token_factor=EXPERT_TOKEN_FACTOR,
    expert_tile_factor=EXPERT_TILE_FACTOR,
    token_collective_factor=0.4,
    token_doubling_factor=0.2,
    attention_factor=2.0,
)

# Regression on the 93 measured times per output token of Qwen3-32B on H100 (aiconfigurator, vLLM 0.12, CUDA graphs,
# tp 2 to 8; tp 1 extrapolated). Every step there had prompt tokens: what they add to a step is in the launches. Its
# attention kernels read a cache once for all query heads that share it.
GRAPHS = Rates(
    layer_launch_s=40e-6,
    layer_collective_s=20e-6,
    layer_doubling_s=7e-6,
    prefill_layer_s=0.0,
    per_sequence_s=45e-6,
    prefill_sequence_s=0.0,
    stall_s=0.0,
    weight_factor=1.11,
    expert_factor=1.11,
    kv_factor=1.11,
    shared_kv_factor=0.0,
    mixed_kv_factor=0.0,
    token_factor=0.86,
    tile_factor=0.29,
    expert_token_factor=EXPERT_TOKEN_FACTOR,
    expert_tile_factor=EXPERT_TILE_FACTOR,
    token_collective_factor=0.2,
    token_doubling_factor=0.35,
    attention_factor=2.3,
)

# The tiny Llama on the CPU build (vLLM 0.32, two cores): launches are all there is.
CPU = Rates(
    layer_launch_s=700e-6,
    layer_collective_s=700e-6,
    layer_doubling_s=700e-6,
    prefill_layer_s=0.0,
    per_sequence_s=40e-6,
    prefill_sequence_s=0.0,
    stall_s=0.0,
    weight_factor=2.0,
    expert_factor=2.0,
    kv_factor=2.0,
    shared_kv_factor=0.0,
    mixed_kv_factor=0.0,
    token_factor=1.5,
    tile_factor=0.5,
    expert_token_factor=1.5,
    expert_tile_factor=0.5,
    token_collective_factor=0.0,
    token_doubling_factor=0.0,
    attention_factor=2.0,
)

LOAD_S = (25.6, 48.7, 42.9)
LOAD_S_PER_BYTE = 0.071e-9
CPU_LOAD_S = 25.0


def rates_of(gpu: GpuType) -> Rates:
    """EAGER on A100, so that an estimate stands beside LLMs measured there on equal terms; GRAPHS elsewhere."""
    if gpu.kind == "cpu":
        return CPU
    return EAGER if gpu.name.startswith("A100") else GRAPHS


def roofline(
    shape: Shape, gpu: GpuType, tp: int, rates: Rates | None = None, precision: Precision = BF16
) -> IterationLatency:
    """Estimated iteration latency of `shape` on `tp` GPUs, with `rates_of(gpu)` where no rates are given.

    A quantised checkpoint reads fewer bytes; its arithmetic is taken to be that of the plain one.
    """
    rates = rates or rates_of(gpu)
    doublings = max(math.log2(tp) - 1, 0.0)
    read_s = 1 / (gpu.bandwidth_bytes_per_s * tp)
    flop_s = 1 / (gpu.flops_per_s * tp)
    experts_bytes = expert_params(shape) * precision.weight
    always_read = max(stored_weight_bytes(shape, precision) - shape.experts * experts_bytes, 0.0)
    token_s = flops_per_token(shape) * flop_s
    in_experts_s = 2 * shape.experts_per_token * expert_params(shape) * flop_s
    collective_s = rates.layer_collective_s + rates.layer_doubling_s * doublings if tp > 1 else 0.0
    token_collective = (
        rates.token_collective_factor + rates.token_doubling_factor * doublings if tp > 1 else 0.0
    )
    sharing_heads = shape.heads / max(shape.kv_heads, tp)
    kv_factor = rates.kv_factor + (sharing_heads - 1) * rates.shared_kv_factor
    kv_s = kv_bytes_per_gpu_token(shape, tp, precision) / gpu.bandwidth_bytes_per_s
    values = dict.fromkeys(COEFFICIENTS, 0.0) | {
        "constant_s": shape.layers * (rates.layer_launch_s + collective_s)
        + always_read * read_s * rates.weight_factor,
        "per_sequence_s": rates.per_sequence_s,
        "per_token_s": (token_s - in_experts_s) * rates.token_factor
        + in_experts_s * rates.expert_token_factor
        + token_s * token_collective,
        "per_further_tile_s": TILE_TOKENS
        * ((token_s - in_experts_s) * rates.tile_factor + in_experts_s * rates.expert_tile_factor),
        "per_prefill_context_s": 4.0
        * shape.layers
        * shape.heads
        * shape.head_dim
        * flop_s
        * rates.attention_factor,
        "per_decode_context_s": kv_s * kv_factor,
        "per_distinct_expert_s": experts_bytes * read_s * rates.expert_factor,
        "prefill_step_s": shape.layers * rates.prefill_layer_s,
        "per_prefill_sequence_s": rates.prefill_sequence_s,
        "per_mixed_decode_context_s": kv_s * rates.mixed_kv_factor,
        "stall_per_squared_sequence_s": rates.stall_s,
    }
    return IterationLatency(tuple(values.values()), shape.experts, shape.experts_per_token)


def rescaled(
    measured: IterationLatency, known: IterationLatency, wanted: IterationLatency
) -> IterationLatency:
    """`measured` moved to another tp or GPU: each coefficient times the ratio of its roofline estimates.

    `known` is the estimate where it was measured, `wanted` where it is needed. Pieces of the token slope and tiles
    move together, with the slope of a large batch, and both costs of decode context with that of decodes alone.
    """
    slope = _token_slope(wanted) / _token_slope(known)
    reading = wanted.coefficients[DECODE_CONTEXT] / known.coefficients[DECODE_CONTEXT]
    moved = []
    for name, value, before, after in zip(
        COEFFICIENTS, measured.coefficients, known.coefficients, wanted.coefficients, strict=True
    ):
        together = name.startswith("per_token") or name == "per_further_tile_s"
        ratio = slope if together else after / before if before else 1.0
        if name == "per_mixed_decode_context_s":
            ratio = reading
        moved.append(value * ratio)
    return IterationLatency(tuple(moved), measured.experts, measured.experts_per_token)


def _token_slope(latency: IterationLatency) -> float:
    """Seconds of one more token beyond the last break, its share of a tile inside."""
    first = COEFFICIENTS.index("per_token_s")
    tile_s = latency.coefficients[COEFFICIENTS.index("per_further_tile_s")]
    return sum(latency.coefficients[first : first + 1 + len(TOKEN_BREAKS)]) + tile_s / TILE_TOKENS


def load_estimate_s(shape: Shape, gpu: GpuType, tp: int) -> float:
    """Seconds to start an engine: regression on the authors' 46 A100 engine starts (tp 1, 2, 4; median error 14 %).

    The process, its workers and their collectives take most of it, reading weights from a page cache little.
    """
    if gpu.kind == "cpu":
        return CPU_LOAD_S
    constant = LOAD_S[min(tp.bit_length() - 1, len(LOAD_S) - 1)]
    return constant + LOAD_S_PER_BYTE * weight_bytes(shape) / tp
