"""The tokens that engines really compute, whatever the plan: what the lower bound counts."""

from __future__ import annotations

import numpy as np

from samullm_tui.domain.request import IntArray, RequestTable
from samullm_tui.simulate.application import Problem, ShapeModel

__all__ = ["computed_tokens", "upstream_tokens"]


def upstream_tokens(table: RequestTable, output_tokens: IntArray) -> IntArray:
    """[n] tokens that the outputs of fed parents add to each request's prompt."""
    added = np.zeros(len(table), dtype=np.int64)
    children = np.repeat(np.arange(len(table)), np.diff(table.parent_start))
    np.add.at(added, children, output_tokens[table.parents] * table.fed)
    return added


def computed_tokens(problem: Problem, output_tokens: IntArray) -> tuple[IntArray, IntArray]:
    """[n] prompt tokens and output tokens that engines compute.

    An engine stops at max_model_len and refuses what has no room there or in its KV cache. Requests whose output
    depends on the shape that serves them, and all that take it, count as if they were free: output 0.
    """
    table = problem.table
    outputs = output_tokens.copy()
    while True:
        prompts = table.prompt_tokens + upstream_tokens(table, outputs)
        least, most = _served_outputs(problem, prompts, output_tokens)
        if np.array_equal(least, outputs):
            break
        outputs = least
    free = least != most
    children = np.repeat(np.arange(len(table)), np.diff(table.parent_start))
    while not free[children[free[table.parents]]].all():
        free[children[free[table.parents]]] = True
    return prompts, np.where(free, 0, outputs)


def _served_outputs(problem: Problem, prompts: IntArray, outputs: IntArray) -> tuple[IntArray, IntArray]:
    """[n] output tokens in the shape that gives least, and in the one that gives most."""
    least, most = np.zeros_like(outputs), np.zeros_like(outputs)
    for index, llm in enumerate(problem.llms):
        mine = np.flatnonzero(problem.table.llm == index)
        if len(mine):
            served = [_served(shape, prompts[mine], outputs[mine]) for shape in llm.shapes]
            least[mine], most[mine] = np.min(served, axis=0), np.max(served, axis=0)
    return least, most


def _served(shape: ShapeModel, prompts: IntArray, outputs: IntArray) -> IntArray:
    """[k] output tokens of requests in one shape; 0 where it refuses them."""
    ends = np.minimum(prompts + outputs, shape.config.max_model_len)
    room = shape.config.usable_blocks * shape.config.block_size + 1
    refused = (prompts >= ends) | (ends > room)
    return np.where(refused, 0, ends - prompts)
