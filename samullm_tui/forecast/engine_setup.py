"""How vLLM would set up an engine of an LLM: what it may have at once, how many KV blocks it gets, or what is missing."""

from __future__ import annotations

from pathlib import Path

from samullm_tui.domain import errors
from samullm_tui.domain.application import LLM
from samullm_tui.domain.cluster import Cluster
from samullm_tui.forecast.checkpoint import quantisation
from samullm_tui.latency.memory import (
    BF16,
    DEFAULT_UTILIZATION,
    Precision,
    kv_blocks,
    kv_bytes_per_gpu_token,
    lacking_bytes,
    precision_of,
)
from samullm_tui.latency.profile import Profile, default_limits
from samullm_tui.latency.roofline import Shape
from samullm_tui.simulate.config import EngineConfig

__all__ = ["does_not_fit", "engine_config", "precision_for"]

GIB = 1024**3

SCHEDULED_AS_VLLM = True
"""Whether forecasts and simulated engines take vLLM 0.32's own defaults: prefix caching everywhere, asynchronous
scheduling on GPUs. Else both are off, whatever an application says.
"""


def precision_for(llm: LLM) -> Precision:
    """The bytes that its engines store, from its engine arguments, else its checkpoint. Raises PlacementError."""
    method, bits = quantisation(Path(llm.checkpoint)) if llm.checkpoint.startswith("/") else (None, None)
    given = {
        name: value for name in ("dtype", "kv_cache_dtype") if isinstance(value := llm.engine.get(name), str)
    }
    quantization = llm.engine.get("quantization", method)
    try:
        return precision_of(
            **given, quantization=quantization if isinstance(quantization, str) else None, bits=bits
        )
    except errors.PlacementError as error:
        found = [errors.Problem("", f"LLM {llm.name}: {p.place}", p.wrong, p.right) for p in error.problems]
        raise errors.PlacementError(found) from None


def engine_config(
    llm: LLM, shape: Shape, profile: Profile, cluster: Cluster, context: int
) -> EngineConfig | None:
    """None when one request of `context` tokens does not fit in its KV cache."""
    block_size = _whole(llm, "block_size") or profile.block_size
    batched_tokens = _whole(llm, "max_num_batched_tokens") or profile.max_num_batched_tokens
    blocks = _whole(llm, "num_gpu_blocks_override") or _blocks(
        llm, shape, profile, cluster, block_size, batched_tokens
    )
    if (blocks - 1) * block_size < context:
        return None
    return EngineConfig(
        max_num_seqs=_whole(llm, "max_num_seqs") or profile.max_num_seqs,
        max_num_batched_tokens=batched_tokens,
        kv_blocks=blocks,
        block_size=block_size,
        max_model_len=context,
        async_scheduling=SCHEDULED_AS_VLLM and _flag(llm, "async_scheduling", cluster.gpu.kind == "gpu"),
        prefix_caching=SCHEDULED_AS_VLLM and _flag(llm, "enable_prefix_caching", True),
        scheduling_policy="priority" if llm.engine.get("scheduling_policy") == "priority" else "fcfs",
    )


def does_not_fit(llm: LLM, shape: Shape, cluster: Cluster, sizes: list[int], context: int) -> errors.Problem:
    """What lacks at the largest tp."""
    place = f"LLM {llm.name}"
    if not sizes:
        island = max(map(len, cluster.islands))
        asked = ", ".join(map(str, llm.tp)) or "1"
        right = f"a power of two up to {island} that divides its {shape.heads} heads"
        return errors.Problem("", place, f"no tp of {asked} is possible on {cluster.title}", right)
    tp = max(sizes)
    lacking = lacking_bytes(
        shape,
        cluster.gpu,
        tp,
        context=context,
        utilization=_utilization(llm),
        batched_tokens=_whole(llm, "max_num_batched_tokens")
        or default_limits(cluster.gpu).max_num_batched_tokens,
        precision=precision_for(llm),
    )
    gib = max(lacking / GIB, 0.1)
    wrong = f"does not fit: at tp {tp} each {cluster.gpu.name} lacks {gib:.1f} GiB for weights and {context:,} tokens"
    right = "a smaller context, more GPUs in an island, or GPUs with more memory"
    return errors.Problem("", place, wrong, right)


def _blocks(
    llm: LLM, shape: Shape, profile: Profile, cluster: Cluster, block_size: int, batched_tokens: int
) -> int:
    """KV blocks: the profile's, or computed where it has none or the application changes what they depend on."""
    precision = precision_for(llm)
    kv_bytes = _whole(llm, "kv_cache_memory_bytes")
    if kv_bytes:
        return int(kv_bytes // (kv_bytes_per_gpu_token(shape, profile.tp, precision) * block_size))
    same = precision == BF16 and block_size == profile.block_size
    same &= batched_tokens == profile.max_num_batched_tokens and "gpu_memory_utilization" not in llm.engine
    if profile.kv_blocks and same:
        return profile.kv_blocks
    return kv_blocks(
        shape,
        cluster.gpu,
        profile.tp,
        block_size=block_size,
        utilization=_utilization(llm),
        batched_tokens=batched_tokens,
        precision=precision,
    )


def _utilization(llm: LLM) -> float:
    given = llm.engine.get("gpu_memory_utilization")
    return float(given) if isinstance(given, int | float) else DEFAULT_UTILIZATION


def _flag(llm: LLM, name: str, default: bool) -> bool:
    """The engine argument, when the application gives it."""
    value = llm.engine.get(name)
    return value if isinstance(value, bool) else default


def _whole(llm: LLM, name: str) -> int | None:
    """The engine argument, when the application gives it as a whole number from 1 up."""
    value = llm.engine.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else None
