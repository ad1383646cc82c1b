"""The simulated schedule against vLLM itself: asynchronous, with common prefixes, with priorities."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samullm_tui.engines.installed import installed_vllm
from samullm_tui.engines.tiny import resolve_checkpoint
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.engine import EngineTrace, simulate_requests

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(installed_vllm() is None, reason="vLLM is not installed (make install-engine)"),
    pytest.mark.timeout(300),
]

HERE = Path(__file__).parent
CASES = 240
# Powers of two: sums of such seconds are exact in binary.
COSTS = {
    "constant_s": 1 / 16,
    "per_sequence_s": 1 / 256,
    "per_token_s": 1 / 512,
    "per_token_above_64_s": 1 / 1024,
    "per_token_above_512_s": 1 / 1024,
    "per_prefill_context_s": 1 / 65536,
    "per_decode_context_s": 1 / 32768,
}
LATENCY = IterationLatency(tuple(COSTS.get(name, 0.0) for name in COEFFICIENTS))


def ask(script: str, question: dict[str, Any]) -> Any:
    """What the script answers, in a process of its own: vLLM's hundreds of megabytes do not stay here."""
    done = subprocess.run(
        [sys.executable, str(HERE / script)],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def draw(seed: int) -> dict[str, Any]:
    """A small engine with a tight cache and requests for it; the seed's bits are the options."""
    rng = random.Random(seed)
    block, usable = rng.choice([1, 2, 4, 8]), rng.randint(3, 40)
    longest = min(usable * block + 1, rng.choice([12, 40, 90]))
    n, spread = rng.randint(1, 24), rng.choice([0, 3, 40])
    prompt = [rng.randint(1, longest - 1) for _ in range(n)]
    output = [rng.randint(1, 60) for _ in range(n)]
    return {
        "config": {
            "max_num_seqs": rng.randint(1, 9),
            "max_num_batched_tokens": rng.choice([1, 2, 5, 8, 16, 40, 200]),
            "kv_blocks": usable + 1,
            "block_size": block,
            "max_model_len": longest,
            "async_scheduling": bool(seed & 1),
            "prefix_caching": bool(seed & 2),
            "scheduling_policy": "priority" if seed & 4 else "fcfs",
        },
        "latency": list(LATENCY.coefficients),
        "arrival_s": [rng.randint(0, spread * 8) / 8 for _ in range(n)],
        "prompt": prompt,
        "output": output,
        "max_tokens": [o + rng.choice([0, 0, 1, 7]) for o in output],
        "prefix": [rng.randint(-1, 2) for _ in range(n)],
        # A prompt that ends with a whole shared block has a second copy of it: see simulate/prefixes.py.
        "shared": [rng.randint(0, (p - 1) // block * block) for p in prompt],
        "priority": [rng.randint(0, 3) for _ in range(n)],
    }


def simulate(case: dict[str, Any]) -> EngineTrace:
    column = {name: np.array(case[name], np.int64) for name in case if isinstance(case[name], list)}
    return simulate_requests(
        EngineConfig(**case["config"]),
        LATENCY,
        np.array(case["arrival_s"], np.float64),
        column["prompt"],
        column["output"],
        max_tokens=column["max_tokens"],
        prefix=column["prefix"],
        prefix_tokens=column["shared"],
        priority=column["priority"],
        log_iterations=True,
    )


def test_every_step_equals_that_of_vllms_own_schedulers() -> None:
    """All eight combinations of the options; only the model is replaced, by made-up tokens and seconds."""
    cases = [draw(seed) for seed in range(CASES)]
    question = {"checkpoint": resolve_checkpoint("tiny:llama"), "cases": cases}
    preemptions = [0] * 8
    for seed, (case, answer) in enumerate(zip(cases, ask("vllm_schedule.py", question), strict=True)):
        trace = simulate(case)
        assert trace.log is not None
        names = trace.log.dtype.names[1:]
        for step, row in enumerate(answer["rows"]):
            assert [trace.log[name][step] for name in names] == row, (seed, step, case)
        assert trace.iterations == len(answer["rows"]), (seed, case)
        # What the log of steps says of the same steps, asynchronous ones included: sequences, prompt tokens, decodes.
        counts = [[row[2], row[3], row[4]] for row in answer["rows"]]
        assert [[row[0], row[1], row[3]] for row in answer["logged"]] == counts, (seed, case)
        assert trace.finish_s.tolist() == answer["finish_s"], (seed, case)
        assert trace.preemptions == answer["preemptions"], (seed, case)
        preemptions[seed % 8] += trace.preemptions
    assert min(preemptions) > 0


def test_every_step_equals_that_of_a_real_engine_with_prefixes_and_priorities() -> None:
    """30 requests on one engine with 25 blocks: three beginnings in common, three priorities."""
    rng = random.Random(5)
    heads = [[rng.randint(5, 400) for _ in range(200)] for _ in range(3)]
    prefix = [rng.randint(-1, 2) for _ in range(30)]
    shared = [rng.choice([64, 130, 200]) if k >= 0 else 0 for k in prefix]
    tails = [[rng.randint(5, 400) for _ in range(rng.randint(3, 90))] for _ in range(30)]
    prompts = [
        (heads[k][:tokens] if k >= 0 else []) + tail
        for k, tokens, tail in zip(prefix, shared, tails, strict=True)
    ]
    case = {
        "config": {
            "max_num_seqs": 8,
            "max_num_batched_tokens": 256,
            "kv_blocks": 26,
            "block_size": 32,
            "max_model_len": 512,
            "prefix_caching": True,
            "scheduling_policy": "priority",
        },
        "arrival_s": [0.0] * 30,
        "prompt": [len(ids) for ids in prompts],
        "output": [rng.randint(20, 150) for _ in range(30)],
        "prefix": prefix,
        "shared": shared,
        "priority": [rng.randint(0, 2) for _ in range(30)],
    }
    case["max_tokens"] = case["output"]
    answer = ask("vllm_run.py", {"checkpoint": resolve_checkpoint("tiny:llama"), "prompts": prompts, **case})
    assert answer["asynchronous"] is False  # vLLM's CPU platform turns it off
    trace = simulate(case)
    assert trace.log is not None
    names = ("num_seqs", "prefill_tokens", "decode_seqs", "context_tokens", "kv_blocks")
    assert [[int(trace.log[name][k]) for name in names] for k in range(trace.iterations)] == answer["rows"]
    assert trace.preemptions > 0
    assert trace.log["prefill_tokens"].sum() < sum(case["prompt"])  # the cache was of use
