"""Compiled: the engines of one stage together.

An engine may start a step only when no engine that can still feed it is behind. The engine that may act first always
may, so there is no deadlock; an engine that nobody feeds any more runs in one go.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samullm_tui.simulate.kernel import advance, next_action_s
from samullm_tui.simulate.requests import arrive
from samullm_tui.simulate.state import (
    BLOCKED,
    COMPUTED,
    DECODED,
    DONE,
    EDGES,
    END,
    ENGINE,
    F64,
    FINISH,
    HAND_BACK,
    I64,
    LEFT,
    LIMIT,
    LLM,
    ORIGIN,
    OUTSIDE,
    PHASE,
    PROMPT,
    REACH,
    READY,
    SEGMENT,
    SETTLED,
    TOKENS,
    State,
    compiled,
    outside,
)

__all__ = ["arrivals", "collect", "link_served", "number", "place", "serve", "split"]

Bools = npt.NDArray[np.bool_]


@compiled
def number(engine_of: I64, served: I64, row_of: I64) -> int:
    """The rows of requests that have an engine, in order, and back: -1 for others. Returns how many they are."""
    count = 0
    for r in range(engine_of.size):
        row_of[r] = -1
        if engine_of[r] >= 0:
            row_of[r] = count
            served[count] = r
            count += 1
    return count


@compiled
def place(
    s: State,
    served: I64,
    engine_of: I64,
    llm: I64,
    prompt: I64,
    output: I64,
    start: I64,
    parents: I64,
    fed: I64,
    done: Bools,
    generated: I64,
    finish_s: F64,
) -> None:
    """Writes every request that is served as it stands: prompt with what its parents gave, tokens it has, its engine;
    and where the heaps of each engine begin.

    Row i of the state is request served[i]; all other arrays are of the whole application.
    """
    for row in range(served.size):
        r = served[row]
        outside(s, row)
        origin = prompt[r]
        blocked = 0
        ready_s = 0.0
        for i in range(start[r], start[r + 1]):
            p = parents[i]
            if not done[p]:
                blocked += 1
                if engine_of[p] >= 0 and engine_of[p] != engine_of[r]:
                    s.feeds[EDGES, engine_of[p], engine_of[r]] += 1
                continue
            ready_s = max(ready_s, finish_s[p])
            if fed[i]:
                origin += generated[p]
        s.req[row, LLM] = llm[r]
        s.req[row, ORIGIN] = origin
        s.req[row, PROMPT] = origin + generated[r]
        s.req[row, TOKENS] = origin + generated[r]
        s.req[row, LIMIT] = origin + output[r]
        s.req[row, BLOCKED] = blocked
        s.req[row, ENGINE] = engine_of[r]
        s.times[row, READY] = ready_s
        s.times[row, FINISH] = finish_s[r]
        if engine_of[r] + 1 < s.eng.shape[0]:
            s.eng[engine_of[r] + 1, SEGMENT] += 1
    for e in range(1, s.eng.shape[0]):
        s.eng[e, SEGMENT] += s.eng[e - 1, SEGMENT]


@compiled
def link_served(
    served: I64, row_of: I64, start: I64, children: I64, child_start: I64, served_children: I64
) -> None:
    """The links between the requests that are served, by their rows; `served_children` is long enough for all."""
    count = 0
    for row in range(served.size):
        child_start[row] = count
        for i in range(start[served[row]], start[served[row] + 1]):
            child = row_of[children[i] >> 1]
            if child >= 0:
                served_children[count] = 2 * child + (children[i] & 1)
                count += 1
    child_start[served.size] = count


@compiled
def arrivals(s: State) -> None:
    """Lets those arrive that wait for no parent."""
    for r in range(s.req.shape[0]):
        if s.req[r, ENGINE] >= 0 and s.req[r, PHASE] == OUTSIDE and s.req[r, BLOCKED] == 0:
            arrive(s, r)


@compiled
def collect(
    s: State, served: I64, done: Bools, generated: I64, finish_s: F64, engine_of: I64, counts: I64
) -> None:
    """Writes down how far every request that was served is, and on which engine it goes on.

    engine_of [rows] is -1 where a request does not; counts [E + 1] those of each engine, in places 1 to E.
    """
    for row in range(served.size):
        r = served[row]
        phase = s.req[row, PHASE]
        if phase >= DONE:
            engine_of[row] = -1
            done[r] = True
            finish_s[r] = s.times[row, FINISH]
        else:
            engine_of[row] = s.req[row, ENGINE]
            counts[s.req[row, ENGINE] + 1] += 1
        tokens = s.req[row, TOKENS]
        if phase == SETTLED:
            tokens = s.req[row, COMPUTED] + s.eng[s.req[row, ENGINE], DECODED] + 1
        generated[r] = tokens - s.req[row, ORIGIN]


@compiled
def split(served: I64, engine_of: I64, starts: I64, requests: I64) -> None:
    """The requests of each engine, one engine's behind the other's. `starts` [E] is where each begins, then ends."""
    for row in range(engine_of.size):
        e = engine_of[row]
        if e >= 0:
            requests[starts[e]] = served[row]
            starts[e] += 1


@compiled
def reach(s: State) -> None:
    """Who feeds whom over any number of others."""
    edges = s.feeds[EDGES]
    reached = s.feeds[REACH]
    count = edges.shape[0]
    for a in range(count):
        for b in range(count):
            reached[a, b] = edges[a, b] > 0
    for over in range(count):
        for a in range(count):
            if reached[a, over]:
                for b in range(count):
                    reached[a, b] |= reached[over, b]


@compiled
def unfinished(s: State, e: int, engine_llm: I64, targets: I64) -> bool:
    """Whether the stage waits for the LLM of this engine."""
    return bool(targets[engine_llm[e]] and s.llm[engine_llm[e], LEFT] > 0)


@compiled
def needed(s: State, e: int, engine_llm: I64, targets: I64) -> int:
    """2: its own LLM is waited for, or it feeds one that is. 1: it feeds one over others. 0: the end needs it not."""
    if unfinished(s, e, engine_llm, targets):
        return 2
    found = 0
    for f in range(s.eng.shape[0]):
        if s.feeds[REACH, e, f] and unfinished(s, f, engine_llm, targets):
            if s.feeds[EDGES, e, f]:
                return 2
            found = 1
    return found


@compiled
def feeders_s(s: State, e: int, act: F64) -> float:
    """The earliest that an engine which can feed e may act."""
    bound = np.inf
    for f in range(act.size):
        if f != e and s.feeds[REACH, f, e]:
            bound = min(bound, act[f])
    return bound


@compiled
def first_needed(s: State, engine_llm: I64, targets: I64, act: F64) -> tuple[int, float]:
    """(the engine that acts first among those that the end needs, or -1; the latest time at which it may act).

    One that feeds targets over others alone could start a step after the end, so it does not run ahead of the rest.
    """
    first, others_s = -1, np.inf
    for e in range(act.size):
        if act[e] == np.inf or not needed(s, e, engine_llm, targets):
            continue
        if first < 0 or act[e] < act[first]:
            others_s = np.inf if first < 0 else act[first]
            first = e
        else:
            others_s = min(others_s, act[e])
    if first < 0:
        return -1, np.inf
    bound_s = feeders_s(s, first, act)
    return first, bound_s if needed(s, first, engine_llm, targets) == 2 else min(bound_s, others_s)


@compiled
def first_before(s: State, act: F64, end_s: float) -> tuple[int, float]:
    """(the engine that acts first, or -1 when that is not before end_s; the latest time at which it may act)."""
    first = 0
    for e in range(1, act.size):
        if act[e] < act[first]:
            first = e
    if act[first] >= end_s:
        return -1, end_s
    return first, feeders_s(s, first, act)


@compiled
def last_finish_s(s: State, which: I64) -> float:
    """The last finish of the LLMs marked in `which`; inf when one of them has unfinished requests."""
    last_s = 0.0
    for llm in range(which.size):
        if which[llm]:
            last_s = max(last_s, np.inf if s.llm[llm, LEFT] > 0 else s.llm[llm, END])
    return last_s


@compiled
def serve(s: State, engine_llm: I64, targets: I64, act: F64) -> float:
    """One stage. Returns when the last target finished, or -1 when one never does.

    Until then only engines work that the end needs; then the others do what they did meanwhile. Every engine then
    stands at its first step end at or after that time, or has nothing to do. act [E] is scratch.
    """
    reach(s)
    while True:
        for e in range(act.size):
            act[e] = next_action_s(s, e)
        end_s = last_finish_s(s, targets)
        if end_s == np.inf:
            first, bound_s = first_needed(s, engine_llm, targets, act)
            if first < 0:
                return -1.0
        else:
            first, bound_s = first_before(s, act, end_s)
            if first < 0:
                return float(end_s)
        advance(s, first, min(end_s, np.nextafter(bound_s, np.inf)))
        if s.misc[HAND_BACK]:
            reach(s)
