"""The engines of a run as the simulator goes on from: which requests each has, and what of them is in its KV cache.

An engine tells how many requests run and wait; which of them it is follows from the order in which they were sent. Of a
prompt that is not computed yet nothing is known: it counts as not begun. Prefixes that nobody holds count as forgotten.
"""

from __future__ import annotations

import numpy as np

from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.options import SharedBlocks
from samullm_tui.simulate.problem import EngineState
from samullm_tui.simulate.state import FILLING

__all__ = ["engine_state"]


def engine_state(
    clock_s: float,
    assigned: IntArray,
    running: IntArray,
    tokens: IntArray,
    prompts: IntArray,
    config: EngineConfig,
    shared: SharedBlocks | None,
) -> EngineState:
    """An engine that starts no step before `clock_s` and has the `assigned` requests.

    Of these `running` [k] have begun, in this order, each with at least one of its output `tokens` [k] and a prompt of
    `prompts` [k]. What does not fit into the KV cache has been preempted.
    """
    computed = prompts + tokens - 1
    stays = np.cumsum(_blocks(running, computed, prompts, config, shared)) <= config.usable_blocks
    inside, out = np.flatnonzero(stays), np.flatnonzero(~stays)
    return EngineState(
        clock_s=clock_s,
        running=running[inside],
        computed=computed[inside],
        waiting=running[out],
        prompts=prompts[np.concatenate([inside, out])],
        assigned=assigned,
        phases=np.full(len(inside), FILLING, np.int64),
        seen_s=clock_s,
    )


def _blocks(
    running: IntArray,
    computed: IntArray,
    prompts: IntArray,
    config: EngineConfig,
    shared: SharedBlocks | None,
) -> IntArray:
    """[k] KV blocks that each request takes beside those before it: of what it shares only what is more."""
    blocks = -(-computed // config.block_size)
    if not config.prefix_caching or shared is None:
        return blocks
    shares = np.minimum(np.minimum(shared.tokens[running], prompts - 1), computed) // config.block_size
    had: dict[int, int] = {}
    for k, (first, held) in enumerate(zip(shared.first[running].tolist(), shares.tolist(), strict=True)):
        if first >= 0:
            blocks[k] -= min(held, had.get(first, 0))
            had[first] = max(held, had.get(first, 0))
    return blocks
