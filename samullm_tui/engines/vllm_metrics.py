"""What a vLLM server counts, out of the text of its `/metrics` (Prometheus, several hundred lines)."""

from __future__ import annotations

import re

from samullm_tui.engines.protocol import EngineStats

__all__ = ["kv_blocks_of", "stats_of"]

GAUGES = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "kv_usage",
    "vllm:num_preemptions_total": "preemptions",
    "vllm:generation_tokens_total": "output_tokens",
    "vllm:iteration_tokens_total_count": "steps",
    "vllm:iteration_tokens_total_sum": "step_tokens",
}
LINE = re.compile(rf"^({'|'.join(GAUGES)})(?:\{{[^}}]*\}})? (\S+)", re.MULTILINE)
BLOCKS = re.compile(r'^vllm:cache_config_info\{.*?num_gpu_blocks="(\d+)"', re.MULTILINE)


def stats_of(metrics: str) -> EngineStats:
    """The engine's counts. What is not in the text counts 0 (`kv_usage`: None).

    A step's tokens are the prompt tokens that it computes and the output tokens that it makes.
    """
    found = {GAUGES[name]: float(value) for name, value in LINE.findall(metrics)}
    output_tokens = int(found.get("output_tokens", 0))
    return EngineStats(
        running=int(found.get("running", 0)),
        waiting=int(found.get("waiting", 0)),
        kv_usage=found.get("kv_usage"),
        preemptions_total=int(found.get("preemptions", 0)),
        output_tokens_total=output_tokens,
        steps_total=int(found.get("steps", 0)),
        prefill_tokens_total=max(0, int(found.get("step_tokens", 0)) - output_tokens),
    )


def kv_blocks_of(metrics: str) -> int | None:
    """KV blocks, the reserved one included. None when the engine does not say (it may with a delay)."""
    found = BLOCKS.search(metrics)
    return int(found[1]) if found else None
