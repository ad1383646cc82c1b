"""Cases for the simulator's tests."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from samullm_tui.latency.model import IterationLatency
from samullm_tui.simulate.config import EngineConfig

# Powers of two: sums of such seconds are exact in binary, so that times can be compared with ==.
EXACT = IterationLatency(
    (1 / 16, 1 / 256, 1 / 512, 1 / 1024, 0.0, 0.0, 1 / 1024, 0.0, 1 / 65536, 1 / 32768, *[0.0] * 6)
)


@dataclass
class Case:
    config: EngineConfig
    arrival_s: list[float]
    prompt: list[int]
    output: list[int]


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
