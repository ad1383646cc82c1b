"""Priorities for an application: the longest remaining way to its end goes first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from msgspec import structs

from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.graph import compiled
from samullm_tui.simulate.problem import LLMModel, Problem

__all__ = ["longest_first"]

PROMPT_WEIGHT = 0.05
"""An output token costs a whole step, a prompt token a small part of one."""


def longest_first(problem: Problem, expected_tokens: npt.NDArray[np.float64]) -> Problem:
    """The same problem on engines that go by priority, the request with the most left to do behind it first.

    expected_tokens [n] are output tokens as expected before anything ran. Whether this shortens a plan has to be
    simulated: where engines are full of chains it does by a few percent, and where a consumer on other GPUs lives on
    the short chains it makes it wait.
    """
    table = problem.table
    left = expected_tokens + PROMPT_WEIGHT * table.prompt_tokens
    add_what_follows(left, table.parent_start, table.parents, np.zeros(len(table)))
    return replace(
        problem, llms=tuple(by_priority(model) for model in problem.llms), priority=-left.astype(np.int64)
    )


def by_priority(model: LLMModel) -> LLMModel:
    shapes = tuple(
        structs.replace(shape, config=structs.replace(shape.config, scheduling_policy="priority"))
        for shape in model.shapes
    )
    return structs.replace(model, shapes=shapes)


@compiled
def add_what_follows(
    left: npt.NDArray[np.float64], start: IntArray, parents: IntArray, behind: npt.NDArray[np.float64]
) -> None:
    """To each request the longest way behind it. Parents stand before their children; behind [n] begins as zeros."""
    for r in range(left.size - 1, -1, -1):
        left[r] += behind[r]
        for i in range(start[r], start[r + 1]):
            behind[parents[i]] = max(behind[parents[i]], left[r])
