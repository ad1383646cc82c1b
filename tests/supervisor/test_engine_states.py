"""What an engine is taken to have in its KV cache when a run is looked at in its middle."""

from __future__ import annotations

import numpy as np

from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.options import SharedBlocks
from samullm_tui.simulate.problem import EngineState
from samullm_tui.supervisor.engine_states import engine_state

CONFIG = EngineConfig(64, 2048, 101, 16, 4096)
CACHING = EngineConfig(64, 2048, 101, 16, 4096, prefix_caching=True)


def state_of(
    count: int, tokens: int, prompt: int, config: EngineConfig, shared: SharedBlocks | None = None
) -> EngineState:
    """`count` requests run, each with so many tokens and such a prompt."""
    running: IntArray = np.arange(count)
    full = np.full(count, 1)
    return engine_state(7.0, running, running, full * tokens, full * prompt, config, shared)


def test_a_request_has_its_prompt_and_all_tokens_but_the_last_in_the_cache() -> None:
    state = state_of(3, 5, 20, CONFIG)
    assert state.computed.tolist() == [24] * 3
    assert state.prompts.tolist() == [20] * 3
    assert (state.clock_s, state.running.tolist(), state.waiting.tolist()) == (7.0, [0, 1, 2], [])


def test_what_does_not_fit_has_been_preempted() -> None:
    state = state_of(12, 1, 160, CONFIG)  # ten blocks each, of a hundred
    assert state.running.tolist() == list(range(10))
    assert state.waiting.tolist() == [10, 11]
    assert len(state.prompts) == 12


def test_blocks_that_requests_share_count_once() -> None:
    shared = SharedBlocks(np.zeros(12, np.int64), np.full(12, 128), 8)
    assert len(state_of(12, 1, 160, CACHING, shared).running) == 12
    assert len(state_of(12, 1, 160, CACHING, None).running) == 10
    assert len(state_of(12, 1, 160, CONFIG, shared).running) == 10
