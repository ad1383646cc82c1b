"""The shape of an LLM, and the arithmetic that needs nothing else. Light: no NumPy, no compiled code."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Shape", "expert_params", "flops_per_token", "kv_bytes_per_token", "weight_bytes"]


class Shape(Struct, frozen=True, kw_only=True):
    """The architecture of an LLM, as its published configuration states it.

    `intermediate` is that of one expert in a mixture. `params_b` counts all parameters in 10⁹. `experts` is 0 for
    a dense LLM. `context` is the longest request in tokens.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    context: int
    params_b: float
    experts: int = 0
    experts_per_token: int = 0
    family: str = "llama"


def weight_bytes(shape: Shape, dtype_bytes: int = 2) -> float:
    """Bytes of all weights, over all GPUs."""
    return shape.params_b * 1e9 * dtype_bytes


def kv_bytes_per_token(shape: Shape, dtype_bytes: int = 2) -> int:
    """Bytes of keys and values of one token, over all GPUs (tp up to `kv_heads`)."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * dtype_bytes


def expert_params(shape: Shape) -> float:
    """Parameters of one expert over all layers (three matrices each); 0 for a dense LLM."""
    return 3.0 * shape.layers * shape.hidden * shape.intermediate if shape.experts else 0.0


def flops_per_token(shape: Shape) -> float:
    """2 FLOPs per parameter that a token meets; attention over the context comes on top."""
    idle_experts = shape.experts - shape.experts_per_token
    return 2 * (shape.params_b * 1e9 - idle_experts * expert_params(shape))
