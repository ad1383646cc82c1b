"""One output length for every request of an application."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit

from samullm_tui.domain.request import IntArray, RequestTable
from samullm_tui.lengths.distribution import LengthDistribution

__all__ = ["cap", "draw"]


def draw(
    table: RequestTable,
    distributions: Mapping[str, LengthDistribution],
    context: IntArray,
    rng: np.random.Generator,
) -> IntArray:
    """[n] output tokens of each request of `table`, at least 1.

    Drawn from the distribution of its LLM (`distributions` by LLM name), or what the data says where it says so;
    then capped by its max_tokens and by what its prompt leaves of `context` ([len(table.llm_names)] tokens of a
    request, prompt and output together), outputs of its parents included where they are fed into the prompt.
    Raises KeyError where a length must be drawn for an LLM without a distribution.
    """
    lengths = table.known_tokens.copy()
    for index, name in enumerate(table.llm_names):
        wanted = np.flatnonzero((table.llm == index) & (table.known_tokens < 0))
        if len(wanted):
            lengths[wanted] = distributions[name].sample(len(wanted), rng)
    return cap(table, lengths, context)


def cap(table: RequestTable, lengths: IntArray, context: IntArray) -> IntArray:
    """[n] `lengths` after the caps of `draw`."""
    room = np.minimum(table.max_tokens, context[table.llm] - table.prompt_tokens)
    if not table.fed.any():
        return np.asarray(np.maximum(1, np.minimum(lengths, room)), dtype=np.int64)
    left = context[table.llm] - table.prompt_tokens
    fed_parents = np.where(table.fed != 0, table.parents, -1)
    capped: IntArray = _cap_fed(lengths, table.max_tokens, left, table.parent_start, fed_parents)
    return capped


def _cap_fed_loop(
    lengths: IntArray, max_tokens: IntArray, left: IntArray, start: IntArray, fed_parents: IntArray
) -> IntArray:
    """Caps in table order: parents stand before their children, so their outputs are settled when they are fed.

    `fed_parents` is -1 where a parent's output is not part of the prompt.
    """
    capped = np.empty_like(lengths)
    for i in range(len(lengths)):
        room = left[i]
        for parent in fed_parents[start[i] : start[i + 1]]:
            if parent >= 0:
                room -= capped[parent]
        capped[i] = max(1, min(lengths[i], max_tokens[i], room))
    return capped


_cap_fed = njit(cache=True)(_cap_fed_loop)
