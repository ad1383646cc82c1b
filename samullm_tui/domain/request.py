"""All requests of an application as flat arrays: no Python object for each, so that a million fit.

Imports NumPy; the console must not import this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["IntArray", "RequestTable"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RequestTable:
    """`n` requests in node order (sources before consumers, a chain's steps in order).

    ids            unique within a node
    records        record id each request belongs to
    llm_names, node_names   what `llm` and `node` index
    llm, node      [n] index of the LLM and of the node
    prompt_tokens  [n] tokens of template and record, without the upstream outputs
    max_tokens     [n] cap on output tokens (the LLM's context is a further cap)
    known_tokens   [n] output tokens when the data says so, else -1
    group          [n] requests of one group stay on one replica (the steps of a chain): a small integer
    parent_start   [n + 1], parents [m]: request i waits for the outputs of parents[parent_start[i]:parent_start[i + 1]]
    fed            [m] 1 when that parent's output is part of the prompt (and so adds its tokens)
    prefix         [n] requests of one LLM with one number have prompts that begin alike, -1 for none; None: not known
    prefix_tokens  [n] how many of the prompt's tokens are of that beginning
    """

    ids: Sequence[str]
    records: Sequence[str]
    llm_names: tuple[str, ...]
    node_names: tuple[str, ...]
    llm: IntArray
    node: IntArray
    prompt_tokens: IntArray
    max_tokens: IntArray
    known_tokens: IntArray
    group: IntArray
    parent_start: IntArray
    parents: IntArray
    fed: IntArray
    prefix: IntArray | None = None
    prefix_tokens: IntArray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def parents_of(self, index: int) -> IntArray:
        return self.parents[self.parent_start[index] : self.parent_start[index + 1]]

    def indices_of_node(self, name: str) -> IntArray:
        return np.flatnonzero(self.node == self.node_names.index(name))
