"""The request graph in the two forms that simulating needs: turned round, and cut into units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from samullm_tui.domain.request import IntArray, RequestTable

__all__ = ["Links", "compiled", "inlined", "links_of", "no_links", "prompts_of", "units_of"]

compiled = njit(cache=True, nogil=True, _nrt=False, error_model="numpy")
"""Kernels neither create nor keep arrays: counting references would take two thirds of their time.

Compiled code is cached by its own file alone: after a change in one of these modules delete their `__pycache__`.
"""

inlined = njit(cache=True, _nrt=False, error_model="numpy", forceinline=True)
"""For what runs in every step: handing over all the arrays of a state would cost as much as the work itself."""


@dataclass(frozen=True, slots=True)
class Links:
    """The request graph turned round: request i feeds children[start[i]:start[i + 1]].

    Each entry is 2 × request, plus 1 when the output is part of that request's prompt.
    """

    start: IntArray
    children: IntArray


def no_links(n: int) -> Links:
    return Links(np.zeros(n + 1, np.int64), np.zeros(0, np.int64))


def links_of(table: RequestTable) -> Links:
    """Children in table order."""
    children = np.repeat(np.arange(len(table)), np.diff(table.parent_start))
    order = np.argsort(table.parents, kind="stable")
    start = np.zeros(len(table) + 1, np.int64)
    np.cumsum(np.bincount(table.parents, minlength=len(table)), out=start[1:])
    return Links(start, (2 * children + (table.fed != 0))[order].astype(np.int64))


def prompts_of(table: RequestTable, output_tokens: IntArray) -> IntArray:
    """[n] tokens of the prompts when the requests have so many output tokens: those that are fed are part of them."""
    children = np.repeat(np.arange(len(table)), np.diff(table.parent_start))
    fed = np.bincount(children, output_tokens[table.parents] * table.fed, len(table)).astype(np.int64)
    prompts: IntArray = table.prompt_tokens + fed
    return prompts


def units_of(table: RequestTable, links: Links) -> IntArray:
    """For each request the number of its unit: requests with one number are served by one replica.

    A unit is a group on one LLM, or a request with those that follow it: a request whose only parent on the same LLM
    has no other consumer goes where that parent goes.
    """
    groups = int(table.group.max(initial=-1)) + 1
    unit = np.where(table.group >= 0, table.llm * groups + table.group, -1)
    follow(unit, table.llm, table.parent_start, table.parents, links.start, len(table.llm_names) * groups)
    return unit


@compiled
def follow(
    unit: IntArray,
    llm: IntArray,
    parent_start: IntArray,
    parents: IntArray,
    child_start: IntArray,
    first: int,
) -> None:
    """Fills in the units that are -1; what follows nothing is a unit of its own, numbered from `first`."""
    for r in range(unit.size):
        if unit[r] >= 0:
            continue
        unit[r] = first + r
        same = 0
        parent = -1
        for i in range(parent_start[r], parent_start[r + 1]):
            if llm[parents[i]] == llm[r]:
                same += 1
                parent = parents[i]
        if same == 1 and child_start[parent + 1] - child_start[parent] == 1:
            unit[r] = unit[parent]
