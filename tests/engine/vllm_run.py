"""A real engine in this process, with a scheduler that writes down every step: JSON in and JSON out."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}

from vllm import LLM, SamplingParams
from vllm.v1.core.sched.scheduler import Scheduler

ROWS: list[list[int]] = []


class Logging(Scheduler):
    """Sequences, prompt tokens, decodes, computed tokens and blocks in use, of each step that computes something."""

    def schedule(self, *arguments: Any, **named: Any) -> Any:
        output = super().schedule(*arguments, **named)
        counts = output.num_scheduled_tokens
        requests = [self.requests[key] for key in counts]
        before = [r.num_computed_tokens - n for r, n in zip(requests, counts.values(), strict=True)]
        decodes = [
            n == 1 and done >= r.num_prompt_tokens
            for r, n, done in zip(requests, counts.values(), before, strict=True)
        ]
        pool = self.kv_cache_manager.block_pool
        used = pool.num_gpu_blocks - 1 - pool.get_num_free_blocks()
        context = sum(r.num_computed_tokens for r in requests)
        if counts:
            ROWS.append([len(counts), sum(counts.values()) - sum(decodes), sum(decodes), context, used])
        return output


def main() -> None:
    case = json.load(sys.stdin)
    config = case["config"]
    llm = LLM(
        case["checkpoint"],
        enforce_eager=True,
        max_model_len=config["max_model_len"],
        max_num_seqs=config["max_num_seqs"],
        max_num_batched_tokens=config["max_num_batched_tokens"],
        num_gpu_blocks_override=config["kv_blocks"],
        block_size=config["block_size"],
        kv_cache_memory_bytes=64 << 20,
        enable_prefix_caching=config["prefix_caching"],
        scheduling_policy=config["scheduling_policy"],
        async_scheduling=True,  # what a CPU makes of it is part of the answer
        scheduler_cls=Logging,
    )
    params = [SamplingParams(max_tokens=n, ignore_eos=True, temperature=0) for n in case["output"]]
    prompts = [{"prompt_token_ids": ids} for ids in case["prompts"]]
    outputs = llm.generate(prompts, params, use_tqdm=False, priority=case["priority"])
    assert [len(o.outputs[0].token_ids) for o in outputs] == case["output"]
    asynchronous = llm.llm_engine.vllm_config.scheduler_config.async_scheduling
    json.dump({"rows": ROWS, "asynchronous": asynchronous}, sys.stdout)


if __name__ == "__main__":
    main()
