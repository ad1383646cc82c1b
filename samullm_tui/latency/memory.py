"""What fits on a GPU: weights, KV cache, activations, and how much is missing. Arithmetic on the LLM's shape.

The margins for runtime, activations and logits are calibrated on the SamuLLM authors' A100-80GB engines (vLLM 0.3,
90 % of the memory) and meet the KV blocks of all 34 within 1.5 %.
"""

from __future__ import annotations

import math

from msgspec import Struct

from samullm_tui.domain.cluster import GpuType
from samullm_tui.domain.errors import PlacementError, Problem
from samullm_tui.latency.shape import Shape, kv_bytes_per_token

__all__ = [
    "BF16",
    "CPU_KV_BYTES",
    "DEFAULT_UTILIZATION",
    "MEASURED_UTILIZATION",
    "Precision",
    "kv_blocks",
    "kv_budget_bytes",
    "lacking_bytes",
    "precision_of",
    "stored_weight_bytes",
]

ACTIVATION_BYTES_PER_HIDDEN = 24
LOGIT_BYTES_PER_VOCAB = 16_000
ENGINE_BYTES = 0.7e9
COLLECTIVE_BYTES = 0.9e9
USABLE_SHARE = 0.99
CPU_KV_BYTES = 64 * 1024**2
"""Engines on the CPU are always started with this KV cache: by default one would take nearly all of the memory."""

DEFAULT_UTILIZATION = 0.92
"""Share of a GPU's memory that vLLM takes when it is not told (`gpu_memory_utilization`, 0.32)."""
MEASURED_UTILIZATION = 0.9
"""That of the engines whose KV blocks the SamuLLM authors published."""


class Precision(Struct, frozen=True):
    """Bytes that an engine stores. The defaults are those of a bfloat16 or float16 checkpoint.

    weight      per parameter of the layers (scales and zero points of a quantised one inside)
    embedding   per parameter of the embeddings and the output head, which quantisation leaves alone
    kv          per element of keys and values
    compute     per element of activations, over 2 bytes the margins grow in proportion
    """

    weight: float = 2.0
    embedding: float = 2.0
    kv: float = 2.0
    compute: float = 2.0


BF16 = Precision()

DTYPES = {"auto": 2.0, "half": 2.0, "float16": 2.0, "bfloat16": 2.0, "float": 4.0, "float32": 4.0}
# A group of 128 four-bit weights shares a 16-bit scale and a four-bit zero point; an FP8 matrix has one scale.
FOUR_BITS = (4 + 20 / 128) / 8
QUANTISED = {
    "awq": FOUR_BITS,
    "awq_marlin": FOUR_BITS,
    "gptq": FOUR_BITS,
    "gptq_marlin": FOUR_BITS,
    "bitsandbytes": FOUR_BITS,
    "mxfp4": (4 + 8 / 32) / 8,
    "fp8": 1.0,
    "fbgemm_fp8": 1.0,
    "modelopt": 1.0,
    "int8": 1.0,
}


def precision_of(
    *,
    dtype: str = "auto",
    quantization: str | None = None,
    kv_cache_dtype: str = "auto",
    bits: int | None = None,
) -> Precision:
    """The bytes under the engine arguments of these names; `bits` per weight when the checkpoint says them.

    `auto` is a checkpoint of 2 bytes; a cache of `auto` follows dtype. Raises PlacementError for an unknown name.
    """
    compute = _known(DTYPES, dtype, "dtype")
    weight = compute if quantization is None else _known(QUANTISED, quantization, "quantization")
    if quantization is not None and bits is not None:
        weight = bits / 8 + (weight - 0.5 if weight == FOUR_BITS else 0.0)
    if kv_cache_dtype.startswith("fp8"):
        kv = 1.0
    else:
        kv = compute if kv_cache_dtype == "auto" else _known(DTYPES, kv_cache_dtype, "kv_cache_dtype")
    return Precision(weight, compute, kv, compute)


def _known(table: dict[str, float], name: str, argument: str) -> float:
    if name not in table:
        right = f"one of {', '.join(table)}"
        raise PlacementError(Problem("", argument, f"the memory under {name!r} is not known", right))
    return table[name]


def stored_weight_bytes(shape: Shape, precision: Precision = BF16) -> float:
    """Bytes of all weights, over all GPUs. Embeddings and output head are counted as two matrices."""
    params = shape.params_b * 1e9
    embeddings = min(2.0 * shape.vocab * shape.hidden, params)
    return (params - embeddings) * precision.weight + embeddings * precision.embedding


def kv_bytes_per_gpu_token(shape: Shape, tp: int, precision: Precision = BF16) -> float:
    """Bytes of keys and values of one token on each GPU, which holds at least one KV head."""
    return kv_bytes_per_token(shape, 1) * precision.kv / min(tp, shape.kv_heads)


def kv_budget_bytes(
    shape: Shape,
    gpu: GpuType,
    tp: int,
    *,
    utilization: float = DEFAULT_UTILIZATION,
    batched_tokens: int = 2048,
    precision: Precision = BF16,
) -> float:
    """Bytes of each GPU that are left for the KV cache; below 0: what lacks for the weights alone.

    `utilization` of the memory, less weights, activations of a step of `batched_tokens`, logits, and what runtime
    and collectives hold. On the CPU the KV cache has the fixed size that engines are started with.
    """
    weights = stored_weight_bytes(shape, precision) / tp
    if gpu.kind == "cpu":
        spare = gpu.memory_bytes - weights - CPU_KV_BYTES
        return float(CPU_KV_BYTES) if spare > 0 else spare
    activations = (
        ACTIVATION_BYTES_PER_HIDDEN * shape.hidden * batched_tokens + LOGIT_BYTES_PER_VOCAB * shape.vocab
    ) * (precision.compute / 2)
    held = ENGINE_BYTES + COLLECTIVE_BYTES * math.log2(tp) + activations
    return utilization * USABLE_SHARE * gpu.memory_bytes - weights - held


def kv_blocks(
    shape: Shape,
    gpu: GpuType,
    tp: int,
    *,
    block_size: int,
    utilization: float = DEFAULT_UTILIZATION,
    batched_tokens: int = 2048,
    precision: Precision = BF16,
) -> int:
    """KV-cache blocks an engine gets; 0 or less: the LLM does not fit."""
    budget = kv_budget_bytes(
        shape, gpu, tp, utilization=utilization, batched_tokens=batched_tokens, precision=precision
    )
    return math.floor(budget / (kv_bytes_per_gpu_token(shape, tp, precision) * block_size))


def lacking_bytes(
    shape: Shape,
    gpu: GpuType,
    tp: int,
    *,
    context: int,
    block_size: int = 16,
    utilization: float = DEFAULT_UTILIZATION,
    batched_tokens: int = 2048,
    precision: Precision = BF16,
) -> float:
    """Bytes that each GPU lacks for the weights and one request of `context` tokens; 0 when that fits.

    One block is the engine's own.
    """
    budget = kv_budget_bytes(
        shape, gpu, tp, utilization=utilization, batched_tokens=batched_tokens, precision=precision
    )
    blocks = -(-context // block_size) + 1
    return max(0.0, blocks * block_size * kv_bytes_per_gpu_token(shape, tp, precision) - budget)
