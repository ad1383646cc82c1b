"""The critical path through the requests, one pass in table order; see `planner.bound` for why."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from samullm_tui.domain.request import IntArray, RequestTable

__all__ = ["depth", "finishes", "leads_to", "own_paths", "paths"]

Floats = npt.NDArray[np.float64]


def _finishes_loop(
    llm: IntArray,
    parent_start: IntArray,
    parents: IntArray,
    alone_s: Floats,
    best_s: Floats,
    load_s: Floats,
    switch_s: Floats,
    known_s: Floats,
) -> Floats:
    count, shapes = alone_s.shape
    latest = np.zeros(count)
    on_one = np.zeros((count, shapes))
    on_any = np.zeros(count)
    switched = np.zeros(count)
    for r in range(count):
        if not np.isnan(known_s[r]):
            latest[r] = known_s[r]
            continue
        ready_s, before = 0.0, -1
        for i in range(parent_start[r], parent_start[r + 1]):
            p = parents[i]
            ready_s = max(ready_s, latest[p])
            if llm[p] == llm[r] and (before < 0 or latest[p] > latest[before]):
                before = p
        if before < 0:
            on_any[r] = max(ready_s, load_s[llm[r]].min()) + best_s[r]
            switched[r] = on_any[r] + switch_s[llm[r]]
        else:
            on_any[r] = max(ready_s, on_any[before]) + best_s[r]
            after_s = min(switched[before], on_any[before] + switch_s[llm[r]])
            switched[r] = max(ready_s, after_s) + best_s[r]
        latest[r] = switched[r]
        for s in range(shapes):
            earliest_s = load_s[llm[r], s] if before < 0 else on_one[before, s]
            on_one[r, s] = max(ready_s, earliest_s) + alone_s[r, s]
            latest[r] = min(latest[r], on_one[r, s])
    return latest


_finishes = njit(cache=True)(_finishes_loop)


def finishes(
    table: RequestTable,
    alone_s: Floats,
    best_s: Floats,
    load_s: Floats,
    switch_s: Floats,
    known_s: Floats | None = None,
) -> Floats:
    """[n] seconds before which no plan finishes each request.

    alone_s [n, shapes] seconds alone in an engine of each shape, inf for a shape that its LLM does not have; best_s [n]
    with the best shape for each step; load_s [LLMs, shapes]; switch_s [LLMs] what changing an LLM's shape takes;
    known_s [n] finishes that are known (of all requests of an LLM or of none), else NaN.
    """
    known_s = np.full(len(table), np.nan) if known_s is None else known_s
    found: Floats = _finishes(
        table.llm, table.parent_start, table.parents, alone_s, best_s, load_s, switch_s, known_s
    )
    return found


def _paths_loop(llm: IntArray, parent_start: IntArray, parents: IntArray, llms: int) -> IntArray:
    goes_on = np.zeros(len(llm), np.bool_)
    paths = np.zeros(llms, np.int64)
    for r in range(len(llm)):
        follows = False
        for i in range(parent_start[r], parent_start[r + 1]):
            p = parents[i]
            if llm[p] == llm[r] and not goes_on[p]:
                goes_on[p] = True
                follows = True
                break
        if not follows:
            paths[llm[r]] += 1
    return paths


_paths = njit(cache=True)(_paths_loop)


def paths(table: RequestTable) -> IntArray:
    """[LLMs] a number of paths that cover all requests of the LLM: no more of them can run at a time."""
    found: IntArray = _paths(table.llm, table.parent_start, table.parents, len(table.llm_names))
    return found


def _own_paths_loop(
    llm: IntArray, parent_start: IntArray, parents: IntArray, takes: Floats, llms: int
) -> Floats:
    ends = takes.copy()
    longest = np.zeros((llms, takes.shape[1]))
    for r in range(len(llm)):
        for k in range(takes.shape[1]):
            before = 0.0
            for i in range(parent_start[r], parent_start[r + 1]):
                if llm[parents[i]] == llm[r]:
                    before = max(before, ends[parents[i], k])
            ends[r, k] += before
            longest[llm[r], k] = max(longest[llm[r], k], ends[r, k])
    return longest


_own_paths = njit(cache=True)(_own_paths_loop)


def own_paths(table: RequestTable, takes: Floats) -> Floats:
    """[LLMs, k] the longest path of requests of one LLM that wait for each other, by each column of `takes` [n, k]."""
    found: Floats = _own_paths(table.llm, table.parent_start, table.parents, takes, len(table.llm_names))
    return found


def _depth_loop(parent_start: IntArray, parents: IntArray) -> int:
    depth = np.ones(len(parent_start) - 1, np.int64)
    for r in range(len(depth)):
        for i in range(parent_start[r], parent_start[r + 1]):
            depth[r] = max(depth[r], depth[parents[i]] + 1)
    return int(depth.max())


_depth = njit(cache=True)(_depth_loop)


def depth(table: RequestTable) -> int:
    """The most requests that wait for each other."""
    return int(_depth(table.parent_start, table.parents))


def _leads_loop(llm: IntArray, parent_start: IntArray, parents: IntArray) -> IntArray:
    leads = 1 << llm
    for r in range(len(llm) - 1, -1, -1):
        for i in range(parent_start[r], parent_start[r + 1]):
            leads[parents[i]] |= leads[r]
    return leads


_leads = njit(cache=True)(_leads_loop)


def leads_to(table: RequestTable) -> IntArray:
    """[n] the LLMs of the request and of all that follow it, LLM l as bit l."""
    found: IntArray = _leads(table.llm, table.parent_start, table.parents)
    return found
