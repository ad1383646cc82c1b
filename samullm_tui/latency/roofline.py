"""What an LLM costs that nobody has measured: latency, memory and start time from its shape and the GPU's rates.

An estimate, and to be shown as one. Its form is a roofline: a step reads every weight once (or, of a mixture, the
experts it touches), computes 2 FLOPs per active parameter and token, and reads the KV cache of what it decodes.
How far engines stay from the peak rates is calibrated in `EAGER`, `GRAPHS` and `CPU` below.
"""

from __future__ import annotations

import math

from msgspec import Struct

from samullm_tui.domain.cluster import GpuType
from samullm_tui.latency.model import COEFFICIENTS, TOKEN_BREAKS, IterationLatency
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
    """How an engine's step departs from the peak rates of its GPU.

    layer_launch_s     host and kernel-launch seconds per layer and step at tp 1
    layer_collective_s (first, per doubling): further seconds per layer at tp 2, and for each doubling after
    per_sequence_s     sampling and input preparation per sequence
    weight_efficiency, kv_efficiency, grouped_kv_efficiency
                       achieved share of the memory bandwidth; the last where query heads share KV heads
    compute_factor     (tp 1, tp 2, per doubling): seconds per token over the seconds at peak FLOP/s; the collectives
                       of tp, which grow with tokens too, are inside
    attention_factor   seconds of prefill attention over the seconds at peak FLOP/s
    """

    layer_launch_s: float
    layer_collective_s: tuple[float, float]
    per_sequence_s: float
    weight_efficiency: float
    kv_efficiency: float
    grouped_kv_efficiency: float
    compute_factor: tuple[float, float, float]
    attention_factor: float


# Regression of the coefficients fitted to the SamuLLM authors' published A100 iterations (31 dense (LLM, tp) pairs and
# Mixtral; vLLM 0.3, eager mode): constants to 3 ms, token slopes to 10 %, KV reads at 0.85 to 1.05 of the bandwidth.
EAGER = Rates(
    layer_launch_s=143e-6,
    layer_collective_s=(143e-6, 40e-6),
    per_sequence_s=75e-6,
    weight_efficiency=0.90,
    kv_efficiency=0.93,
    grouped_kv_efficiency=0.35,
    compute_factor=(1.3, 1.7, 0.2),
    attention_factor=2.0,
)

# Regression on the 93 measured times per output token of Qwen3-32B on H100 (aiconfigurator, vLLM 0.12, CUDA graphs,
# tp 2 to 8; tp 1 extrapolated).
GRAPHS = Rates(
    layer_launch_s=40e-6,
    layer_collective_s=(20e-6, 7e-6),
    per_sequence_s=45e-6,
    weight_efficiency=0.90,
    kv_efficiency=0.95,
    grouped_kv_efficiency=0.90,
    compute_factor=(1.15, 1.35, 0.35),
    attention_factor=2.3,
)

# The tiny Llama on the CPU build (vLLM 0.32, two cores): launches are all there is.
CPU = Rates(
    layer_launch_s=700e-6,
    layer_collective_s=(700e-6, 700e-6),
    per_sequence_s=40e-6,
    weight_efficiency=0.5,
    kv_efficiency=0.5,
    grouped_kv_efficiency=0.5,
    compute_factor=(2.0, 2.0, 0.0),
    attention_factor=2.0,
)

LOW_BATCH_SHARE = 0.75
LOW_BATCH_TOKENS = 128
"""Up to 128 tokens a step is still bound by memory and a further token costs about 3/4 of what it costs beyond."""

ACTIVATION_BYTES_PER_HIDDEN = 24
LOGIT_BYTES_PER_VOCAB = 16_000
ENGINE_BYTES = 0.7e9
COLLECTIVE_BYTES = 0.9e9
USABLE_SHARE = 0.99
CPU_KV_BYTES = 64 * 1024**2
"""Engines on the CPU are always started with this KV cache: by default one would take nearly all of the memory."""

LOAD_S = (25.6, 48.7, 42.9)
LOAD_S_PER_BYTE = 0.071e-9
CPU_LOAD_S = 25.0


def rates_of(gpu: GpuType) -> Rates:
    """EAGER on A100, so that an estimate stands beside LLMs measured there on equal terms; GRAPHS elsewhere."""
    if gpu.kind == "cpu":
        return CPU
    return EAGER if gpu.name.startswith("A100") else GRAPHS


def roofline(shape: Shape, gpu: GpuType, tp: int) -> IterationLatency:
    """Estimated iteration latency of `shape` on `tp` GPUs, at 2 bytes per parameter."""
    rates = rates_of(gpu)
    read_s = 1 / (gpu.bandwidth_bytes_per_s * tp)
    flop_s = 1 / (gpu.flops_per_s * tp)
    experts_bytes = 2 * expert_params(shape)
    always_read = weight_bytes(shape) - shape.experts * experts_bytes
    token_s = flops_per_token(shape) * flop_s * _compute_factor(rates, tp)
    attention_flops = 4.0 * shape.layers * shape.heads * shape.head_dim
    values = dict.fromkeys(COEFFICIENTS, 0.0)
    values["constant_s"] = shape.layers * _layer_s(rates, tp) + always_read * read_s / rates.weight_efficiency
    values["per_sequence_s"] = rates.per_sequence_s
    values["per_token_s"] = LOW_BATCH_SHARE * token_s
    values[f"per_token_above_{LOW_BATCH_TOKENS}_s"] = (1 - LOW_BATCH_SHARE) * token_s
    values["per_prefill_context_s"] = attention_flops * flop_s * rates.attention_factor
    values["per_decode_context_s"] = _kv_read_s(shape, gpu, tp, rates)
    values["per_distinct_expert_s"] = experts_bytes * read_s / rates.weight_efficiency
    return IterationLatency(tuple(values.values()), shape.experts, shape.experts_per_token)


def _layer_s(rates: Rates, tp: int) -> float:
    first, doubling = rates.layer_collective_s
    return rates.layer_launch_s + (first + doubling * (math.log2(tp) - 1) if tp > 1 else 0.0)


def _compute_factor(rates: Rates, tp: int) -> float:
    single, pair, doubling = rates.compute_factor
    return single if tp == 1 else pair + doubling * (math.log2(tp) - 1)


def _kv_read_s(shape: Shape, gpu: GpuType, tp: int, rates: Rates) -> float:
    """Seconds to read the KV cache of one context token. Each GPU holds at least one KV head."""
    per_gpu = kv_bytes_per_token(shape) / min(tp, shape.kv_heads)
    grouped = shape.kv_heads < shape.heads
    efficiency = rates.grouped_kv_efficiency if grouped else rates.kv_efficiency
    return per_gpu / (gpu.bandwidth_bytes_per_s * efficiency)


def rescaled(
    measured: IterationLatency, known: IterationLatency, wanted: IterationLatency
) -> IterationLatency:
    """`measured` moved to another tp or GPU: each coefficient times the ratio of its roofline estimates.

    `known` is the estimate where it was measured, `wanted` where it is needed. Pieces of the token slope move
    together, with the slope of a large batch.
    """
    slope = _token_slope(wanted) / _token_slope(known)
    moved = []
    for name, value, before, after in zip(
        COEFFICIENTS, measured.coefficients, known.coefficients, wanted.coefficients, strict=True
    ):
        ratio = slope if name.startswith("per_token") else after / before if before else 1.0
        moved.append(value * ratio)
    return IterationLatency(tuple(moved), measured.experts, measured.experts_per_token)


def _token_slope(latency: IterationLatency) -> float:
    """Seconds of one more token beyond the last break."""
    first = COEFFICIENTS.index("per_token_s")
    return sum(latency.coefficients[first : first + 1 + len(TOKEN_BREAKS)])


def kv_blocks(
    shape: Shape,
    gpu: GpuType,
    tp: int,
    *,
    block_size: int,
    utilization: float,
    dtype_bytes: int = 2,
    batched_tokens: int = 2048,
) -> int:
    """KV-cache blocks an engine gets; 0 or less: the LLM does not fit.

    The budget is `utilization` of the memory, less weights, activations of a step of `batched_tokens`, logits, and
    what runtime and collectives hold. The last four are calibrated on the authors' A100-80GB engines and meet those within 2 %.
    On the CPU the KV cache has the fixed size that engines are started with.
    """
    block_bytes = kv_bytes_per_token(shape, dtype_bytes) / min(tp, shape.kv_heads) * block_size
    weights = weight_bytes(shape, dtype_bytes) / tp
    if gpu.kind == "cpu":
        return int(CPU_KV_BYTES // block_bytes) if weights + CPU_KV_BYTES < gpu.memory_bytes else 0
    held = (
        ENGINE_BYTES
        + COLLECTIVE_BYTES * math.log2(tp)
        + ACTIVATION_BYTES_PER_HIDDEN * shape.hidden * batched_tokens
        + LOGIT_BYTES_PER_VOCAB * shape.vocab
    )
    return math.floor((utilization * USABLE_SHARE * gpu.memory_bytes - weights - held) / block_bytes)


def load_estimate_s(shape: Shape, gpu: GpuType, tp: int) -> float:
    """Seconds to start an engine: regression on the authors' 46 A100 engine starts (tp 1, 2, 4; median error 14 %).

    The process, its workers and their collectives take most of it, reading weights from a page cache little.
    """
    if gpu.kind == "cpu":
        return CPU_LOAD_S
    constant = LOAD_S[min(tp.bit_length() - 1, len(LOAD_S) - 1)]
    return constant + LOAD_S_PER_BYTE * weight_bytes(shape) / tp
