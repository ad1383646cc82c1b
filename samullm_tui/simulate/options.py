"""What only some engines look at: which requests share a prefix, which stop by themselves, which go first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.state import I64, PREFIX, SHARED, STOPS, State, compiled

__all__ = ["SharedBlocks", "set_options", "share"]

NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class SharedBlocks:
    """Blocks that requests have in common, as slots of one table.

    first   [n] slot of the first block of the request's prefix, -1 when it shares nothing
    tokens  [n] tokens of its prompt that it shares
    slots   how many slots there are
    """

    first: IntArray
    tokens: IntArray
    slots: int


def share(
    prefix: IntArray | None, prefix_tokens: IntArray | None, prompt_tokens: IntArray, block_size: int
) -> SharedBlocks | None:
    """A slot for every whole block that a prefix has in its longest request. None when nothing is shared."""
    if prefix is None or prefix_tokens is None:
        return None
    tokens = np.minimum(prefix_tokens, prompt_tokens - 1)
    shares = (prefix >= 0) & (tokens >= block_size)
    if not shares.any():
        return None
    _, which = np.unique(prefix[shares], return_inverse=True)
    blocks = np.zeros(int(which.max()) + 1, np.int64)
    np.maximum.at(blocks, which, tokens[shares] // block_size)
    first = np.full(len(prefix), -1, np.int64)
    first[shares] = (np.cumsum(blocks) - blocks)[which]
    return SharedBlocks(first, tokens, int(blocks.sum()))


def set_options(
    s: State,
    served: IntArray,
    output_tokens: IntArray,
    max_tokens: IntArray | None,
    shared: SharedBlocks | None,
    priority: IntArray | None,
) -> None:
    """Writes them into the state of engines of which at least one is not plain; else there is nothing to write.

    Row i of the state is request served[i]; everything else is of all requests.
    """
    if not len(s.option):
        return
    most = NONE if max_tokens is None else max_tokens
    first, tokens = (shared.first, shared.tokens) if shared else (NONE, NONE)
    write(s, served, output_tokens, most, first, tokens, NONE if priority is None else priority)


@compiled
def write(s: State, served: I64, output: I64, most: I64, first: I64, tokens: I64, priority: I64) -> None:
    """What there is none of has no entries."""
    for row in range(served.size):
        r = served[row]
        if most.size:
            s.option[row, STOPS] = output[r] < most[r]
        if first.size:
            s.option[row, PREFIX] = first[r]
            s.option[row, SHARED] = tokens[r]
        if priority.size and s.priority.size:
            s.priority[row] = priority[r]
