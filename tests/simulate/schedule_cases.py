"""Cases for the simulator's tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from msgspec.structs import replace
from reference import Request

from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.simulate.config import EngineConfig

# Powers of two: sums of such seconds are exact in binary, so that times can be compared with ==.
COSTS = {
    "constant_s": 1 / 16,
    "per_sequence_s": 1 / 256,
    "per_token_s": 1 / 512,
    "per_token_above_64_s": 1 / 1024,
    "per_token_above_512_s": 1 / 1024,
    "per_prefill_context_s": 1 / 65536,
    "per_decode_context_s": 1 / 32768,
}
EXACT = IterationLatency(tuple(COSTS.get(name, 0.0) for name in COEFFICIENTS))


@dataclass
class Case:
    config: EngineConfig
    arrival_s: list[float]
    prompt: list[int]
    output: list[int]
    max_tokens: list[int] | None = None
    prefix: list[int] | None = None
    shared: list[int] | None = None
    priority: list[int] | None = None

    @property
    def options(self) -> dict[str, np.ndarray | None]:
        """What `simulate_requests` takes by name."""
        columns = {
            "max_tokens": self.max_tokens,
            "prefix": self.prefix,
            "prefix_tokens": self.shared,
            "priority": self.priority,
        }
        return {name: None if c is None else np.array(c, np.int64) for name, c in columns.items()}

    @property
    def requests(self) -> list[Request]:
        n = len(self.prompt)
        rows = zip(
            self.arrival_s,
            self.prompt,
            self.output,
            self.max_tokens or [None] * n,
            self.prefix or [-1] * n,
            self.shared or [0] * n,
            self.priority or [0] * n,
            strict=True,
        )
        return [Request(i, *row) for i, row in enumerate(rows)]


def case(**changes: int) -> Case:
    settings = {
        "max_num_seqs": 8,
        "max_num_batched_tokens": 32,
        "kv_blocks": 20,
        "block_size": 4,
        "max_model_len": 60,
    }
    return Case(EngineConfig(**settings | changes), [0.0], [10], [5])


@st.composite
def draw_case(draw: st.DrawFn) -> Case:
    """Small engines: tight KV caches that force preemptions, budgets that cut prompts, arrivals over time."""
    block = draw(st.sampled_from([1, 2, 4, 8]))
    usable = draw(st.integers(3, 40))
    most = min(usable * block + 1, draw(st.sampled_from([12, 40, 90])))
    config = EngineConfig(
        max_num_seqs=draw(st.integers(1, 9)),
        max_num_batched_tokens=draw(st.sampled_from([1, 2, 5, 8, 16, 40, 200])),
        kv_blocks=usable + 1,
        block_size=block,
        max_model_len=most,
    )
    count = draw(st.integers(1, 16))
    spread = draw(st.sampled_from([0, 3, 40]))
    arrival = [draw(st.integers(0, spread * 8)) / 8 for _ in range(count)]
    prompt = [draw(st.integers(1, most - 1)) for _ in range(count)]
    output = [draw(st.integers(1, 60)) for _ in range(count)]
    return Case(config, arrival, prompt, output)


@st.composite
def draw_options(draw: st.DrawFn, *, shared: bool = True) -> Case:
    """`draw_case` with any of the options, for engines that are asynchronous, cache prefixes or go by priority."""
    c = draw(draw_case())
    n, block = len(c.prompt), c.config.block_size
    c.config = replace(
        c.config,
        async_scheduling=draw(st.booleans()),
        prefix_caching=draw(st.booleans()),
        scheduling_policy=draw(st.sampled_from(["fcfs", "priority"])),
    )
    if draw(st.booleans()):
        c.max_tokens = [output + draw(st.sampled_from([0, 0, 1, 7])) for output in c.output]
    if shared and draw(st.booleans()):
        c.prefix = [draw(st.integers(-1, 2)) for _ in range(n)]
        # A prompt that ends with a whole shared block has a second copy of it: see simulate/prefixes.py.
        c.shared = [draw(st.integers(0, (p - 1) // block * block)) for p in c.prompt]
    if draw(st.booleans()):
        c.priority = [draw(st.integers(0, 3)) for _ in range(n)]
    return c
