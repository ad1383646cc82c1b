"""What of its prompts an LLM may find in prefix caches; see `planner.bound` for why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.application import Problem

__all__ = ["Tokens", "tokens_of"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """What requests of one LLM, or of all, have engines compute. Each [k].

    prompts  tokens of the whole prompt
    outputs  tokens generated; 0 for a request that no engine serves
    shared   tokens of the prompt that may be found: whole blocks of a prefix, never all of it
    group    requests of one LLM with one number share their prefix, -1: with no other
    """

    prompts: IntArray
    outputs: IntArray
    shared: IntArray
    group: IntArray

    @property
    def own(self) -> IntArray:
        """Tokens of each prompt that no other request computes for it."""
        return self.prompts - self.shared

    @property
    def once(self) -> IntArray:
        """Prefixes that somebody computes for each group: the longest, with one of the requests that have it; else 0."""
        once = np.zeros_like(self.shared)
        order = np.argsort(-self.shared, kind="stable")
        groups, first = np.unique(self.group[order], return_index=True)
        longest = order[first[groups >= 0]]
        once[longest] = self.shared[longest]
        return once

    def of(self, which: IntArray) -> Tokens:
        return Tokens(self.prompts[which], self.outputs[which], self.shared[which], self.group[which])


def tokens_of(problem: Problem, prompts: IntArray, outputs: IntArray) -> Tokens:
    """All requests, with these tokens."""
    group, tokens = problem.prefix, problem.table.prefix_tokens
    shared = np.zeros(len(prompts), np.int64)
    if group is None or tokens is None:
        return Tokens(prompts, outputs, shared, np.full(len(prompts), -1, np.int64))
    found = np.minimum(tokens, prompts - 1)
    for index, llm in enumerate(problem.llms):
        mine = (problem.table.llm == index) & (group >= 0) & (outputs > 0)
        for size in {s.config.block_size for s in llm.shapes if s.config.prefix_caching}:
            shared[mine] = np.maximum(shared[mine], found[mine] // size * size)
    return Tokens(prompts, outputs, shared, np.where(shared > 0, group, -1))
