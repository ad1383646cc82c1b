"""One engine is put to sleep and woken: `python -m benchmarks.gpu.sleeping FOLDER LEVEL [gpu|cpu]`.

Prints one JSON object: seconds to sleep and to wake, the GPU's memory in use before and during the sleep, whether
the outputs after it are those before. Level 1 keeps the weights in the host's memory, level 2 reads them again.
A CPU engine goes through the same states, and frees nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from typing import Any

from benchmarks.gpu.engines import CPU_ENGINE, used_bytes
from samullm_tui.engines.installed import Device

__all__ = ["sleep_and_wake"]

PROMPTS, PROMPT_TOKENS, OUTPUT_TOKENS = 16, 64, 32
SETTLE_S = 1.0
"""The driver tells of freed memory a moment later."""


def sleep_and_wake(folder: str, level: int, device: Device = "gpu") -> dict[str, object]:
    vllm = import_module("vllm")
    # vLLM refuses the mode where it cannot free memory; the states are there all the same.
    engine = {"enable_sleep_mode": True, "enforce_eager": True} if device == "gpu" else CPU_ENGINE
    llm = vllm.LLM(folder, max_model_len=1024, **engine)
    before = _outputs(vllm, llm)
    awake = used_bytes() if device == "gpu" else None
    began_s = time.monotonic()
    llm.sleep(level=level)
    slept_s = time.monotonic() - began_s
    time.sleep(SETTLE_S)
    asleep = used_bytes() if device == "gpu" else None
    began_s = time.monotonic()
    if level == 1:
        llm.wake_up()
    else:
        # Level 2 forgets the weights: room for them first, then the weights, then the KV cache.
        llm.wake_up(tags=["weights"])
        llm.collective_rpc("reload_weights")
        llm.wake_up(tags=["kv_cache"])
    woke_s = time.monotonic() - began_s
    return {
        "sleep_s": slept_s,
        "wake_s": woke_s,
        "used_awake": awake,
        "used_asleep": asleep,
        "same_outputs": _outputs(vllm, llm) == before,
    }


def _outputs(vllm: Any, llm: Any) -> list[list[int]]:
    """Greedy tokens of prompts that are always the same."""
    sampling = vllm.SamplingParams(temperature=0.0, max_tokens=OUTPUT_TOKENS, ignore_eos=True)
    prompts = [
        {"prompt_token_ids": [2 + (7 * row + column) % 500 for column in range(PROMPT_TOKENS)]}
        for row in range(PROMPTS)
    ]
    return [list(one.outputs[0].token_ids) for one in llm.generate(prompts, sampling, use_tqdm=False)]


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    on: Device = "cpu" if sys.argv[3:] == ["cpu"] else "gpu"
    print(json.dumps(sleep_and_wake(sys.argv[1], int(sys.argv[2]), on)))
