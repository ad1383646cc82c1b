"""vLLM's own scheduler classes, driven with made-up tokens and seconds: a process of its own, JSON in and JSON out.

The loop is that of vLLM's engine core (`step`, or `step_with_batch_queue` with room for two steps when scheduling is
asynchronous); only the model is replaced. Each case has the fields of `EngineConfig`, of the requests and the
coefficients of a latency; each answer has one row for each step that computed something, and what `step_log` logged.
"""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from typing import Any

STOP = 1

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}

import torch  # noqa: E402
from vllm.engine.arg_utils import EngineArgs  # noqa: E402
from vllm.sampling_params import SamplingParams  # noqa: E402
from vllm.utils.hashing import sha256  # noqa: E402
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash  # noqa: E402
from vllm.v1.core.sched.async_scheduler import AsyncScheduler  # noqa: E402
from vllm.v1.core.sched.scheduler import Scheduler  # noqa: E402
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec  # noqa: E402
from vllm.v1.outputs import ModelRunnerOutput  # noqa: E402
from vllm.v1.request import Request  # noqa: E402
from vllm.v1.structured_output import StructuredOutputManager  # noqa: E402

from samullm_tui.engines.step_log import StepLog, _attach  # noqa: E402
from samullm_tui.latency.model import IterationLatency  # noqa: E402


class Engine:
    """One case."""

    def __init__(self, vllm_config: Any, case: dict[str, Any]) -> None:
        self.case = case
        self.config = config = case["config"]
        self.latency = IterationLatency(tuple(case["latency"]))
        vllm_config.model_config.max_model_len = config["max_model_len"]
        scheduler, cache = vllm_config.scheduler_config, vllm_config.cache_config
        scheduler.max_num_seqs = config["max_num_seqs"]
        scheduler.max_num_batched_tokens = config["max_num_batched_tokens"]
        scheduler.max_num_scheduled_tokens = None
        scheduler.policy = config["scheduling_policy"]
        scheduler.async_scheduling = config["async_scheduling"]
        cache.block_size = config["block_size"]
        cache.num_gpu_blocks = config["kv_blocks"]
        cache.enable_prefix_caching = config["prefix_caching"]
        spec = FullAttentionSpec(
            block_size=config["block_size"], num_kv_heads=1, head_size=32, dtype=torch.float32
        )
        kv = KVCacheConfig(config["kv_blocks"], [], [KVCacheGroupSpec(["layer"], spec)])
        kind = AsyncScheduler if config["async_scheduling"] else Scheduler
        self.scheduler = kind(vllm_config, kv, StructuredOutputManager(vllm_config), config["block_size"])
        self.logged: list[str] = []
        _attach(self.scheduler, StepLog(self.logged.append))
        self.hasher = get_request_block_hasher(config["block_size"], sha256)
        self.coming = deque(sorted(range(len(case["prompt"])), key=lambda i: (case["arrival_s"][i], i)))
        self.sampled = [0] * len(case["prompt"])
        self.finish_s: dict[int, float] = {}
        self.rows: list[list[float]] = []
        self.busy_until = self.now = 0.0
        self.preemptions = 0

    def request(self, index: int) -> Request:
        """Prompts of one prefix begin with its tokens; all others are of this request alone."""
        case = self.case
        prompt, prefix, shared = (case[name][index] for name in ("prompt", "prefix", "shared"))
        head = shared if prefix >= 0 else 0
        tokens = [10 + prefix] * head + [1000 + index] * (prompt - head)
        params = SamplingParams(max_tokens=case["max_tokens"][index], stop_token_ids=[STOP])
        params.update_from_generation_config({}, None)
        # Requests are created one after the other: those that arrive together still have an order.
        arrival = case["arrival_s"][index] + 1e-9 * index
        hasher = self.hasher if self.config["prefix_caching"] else None
        return Request(
            f"{index:05d}",
            tokens,
            params,
            None,
            arrival_time=arrival,
            priority=case["priority"][index],
            block_hasher=hasher,
        )

    def arrivals(self) -> None:
        while self.coming and self.case["arrival_s"][self.coming[0]] <= self.now:
            self.scheduler.add_request(self.request(self.coming.popleft()))

    def schedule(self) -> tuple[Any, ModelRunnerOutput, float]:
        """Schedules and 'computes' one step: (its schedule, its output, when it ends)."""
        scheduler = self.scheduler
        before = {key: r.num_computed_tokens for key, r in scheduler.requests.items()}
        preempted = {key: r.num_preemptions for key, r in scheduler.requests.items()}
        output = scheduler.schedule()
        self.preemptions += sum(r.num_preemptions - preempted[key] for key, r in scheduler.requests.items())
        ids = list(output.num_scheduled_tokens)
        tokens = [self.sample(key) for key in ids]
        start_s = max(self.now, self.busy_until)
        if ids:
            self.busy_until = start_s + self.account(output.num_scheduled_tokens, before, start_s)
        result = ModelRunnerOutput(ids, {key: i for i, key in enumerate(ids)}, tokens)
        return output, result, self.busy_until if ids else start_s

    def sample(self, key: str) -> list[int]:
        request, index = self.scheduler.requests[key], int(key)
        if request.is_prefill_chunk:
            return []
        self.sampled[index] += 1
        if self.sampled[index] == self.case["output"][index] < self.case["max_tokens"][index]:
            return [STOP]
        return [100_000 + 1000 * index + self.sampled[index]]

    def account(self, scheduled: dict[str, int], before: dict[str, int], start_s: float) -> float:
        """Writes down the step; its seconds."""
        prefill_tokens = decodes = context = decode_context = 0
        prefill_context = 0.0
        for key, count in scheduled.items():
            request = self.scheduler.requests[key]
            after = request.num_computed_tokens
            computed = after - count
            assert computed >= before[key]
            context += after
            if count > 1 or computed < request.num_prompt_tokens:
                prefill_tokens += count
                prefill_context += count * (computed + (count + 1) / 2)
            else:
                decodes += 1
                decode_context += after
        seconds = self.latency.seconds(
            len(scheduled), prefill_tokens, prefill_context, decodes, decode_context
        )
        pool = self.scheduler.kv_cache_manager.block_pool
        used = pool.num_gpu_blocks - 1 - pool.get_num_free_blocks()
        self.rows.append([start_s, seconds, len(scheduled), prefill_tokens, decodes, context, used])
        return seconds

    def update(self, output: Any, result: ModelRunnerOutput) -> None:
        for outputs in self.scheduler.update_from_output(output, result).values():
            for done in outputs.outputs:
                if done.finish_reason is not None:
                    self.finish_s[int(done.request_id)] = self.now

    def run(self) -> dict[str, Any]:
        depth = 2 if self.config["async_scheduling"] else 1
        queue: deque[tuple[Any, ModelRunnerOutput, float]] = deque()
        while True:
            self.arrivals()
            if self.scheduler.has_requests():
                queue.append(self.schedule())
                computes = bool(queue[-1][0].num_scheduled_tokens)
                if len(queue) < depth and (computes or self.scheduler.has_requests()):
                    continue
            elif not queue:
                if not self.coming:
                    break
                self.now = max(self.now, self.case["arrival_s"][self.coming[0]])
                continue
            output, result, end_s = queue.popleft()
            self.now = max(self.now, end_s)
            self.update(output, result)
        finish_s = [self.finish_s[i] for i in range(len(self.finish_s))]
        logged = [list(map(float, line.split(",")[:5])) for line in self.logged]
        return {"rows": self.rows, "logged": logged, "finish_s": finish_s, "preemptions": self.preemptions}


def main() -> None:
    wanted = json.load(sys.stdin)
    init_none_hash(sha256)
    arguments = EngineArgs(
        wanted["checkpoint"], max_model_len=512, enforce_eager=True, kv_cache_memory_bytes=1 << 26
    )
    vllm_config = arguments.create_engine_config()
    json.dump([Engine(vllm_config, case).run() for case in wanted["cases"]], sys.stdout)


if __name__ == "__main__":
    main()
