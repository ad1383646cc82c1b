"""An engine between two stages: written down when one ends, taken over when the next begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.prefixes import read_back, write_down
from samullm_tui.simulate.problem import CacheState, EngineState
from samullm_tui.simulate.queues import append
from samullm_tui.simulate.requests import blocks, enqueue, leave, settle
from samullm_tui.simulate.state import (
    ADMITTED,
    BLANK,
    BLOCK,
    BY_PRIORITY,
    CLOCK,
    COMPUTED,
    DECODED,
    DONE,
    ENGINE,
    FILLING,
    HELD,
    I32,
    I64,
    IDLE_FROM,
    LIMIT,
    LRU_NODES,
    MAX_LEN,
    NEXT,
    ORIGIN,
    PHASE,
    PREFIX,
    PROMPT,
    QUEUE,
    REFS,
    RUN_HEAD,
    RUN_TAIL,
    RUNNING,
    SCHEDULED,
    SEEN,
    SEGMENT,
    SETTLED,
    SHARED,
    SHARING,
    TOKENS,
    USABLE,
    USED,
    WAIT_COUNT,
    WAIT_HEAD,
    WAITING,
    WASTING,
    State,
    compiled,
)

__all__ = ["idle", "take_over", "written_down"]

NO_OPTIONS = np.empty((0, 7), np.int32)


def idle(clock_s: float) -> EngineState:
    """A running engine with nothing to do."""
    none = np.zeros(0, np.int64)
    return EngineState(clock_s, none, none, none, none, none, none, clock_s)


def take_over(s: State, e: int, state: EngineState, start_s: float, row_of: IntArray) -> None:
    """Engine e goes on where it was; a preempted request now dealt to another replica is left out."""
    s.clock[e, CLOCK] = max(start_s, state.clock_s)
    s.clock[e, SEEN] = state.seen_s
    cache = state.cache
    options = cache.options if cache else NO_OPTIONS
    restore(s, e, row_of, state.running, state.computed, state.phases, state.waiting, state.prompts, options)
    if cache:
        s.cache[e, :, REFS] = cache.refs
        s.eng[e, BLANK] = cache.blank
        s.eng[e, USED] = s.eng[e, USABLE] - cache.blank
        if len(cache.nodes):
            read_back(s, e, row_of, cache.nodes)
    elif s.eng[e, SHARING]:
        hold_shared(s, e, row_of[state.running], state.computed)


def hold_shared(s: State, e: int, running: IntArray, computed: IntArray) -> None:
    """What an engine has cached is not known: only the blocks that its running requests share, each of them once."""
    own = np.minimum(s.option[running, SHARED], s.req[running, ORIGIN] - 1)
    shares = np.where(s.option[running, PREFIX] >= 0, np.minimum(own, computed), 0)
    held = shares // s.eng[e, BLOCK]
    holders = np.flatnonzero(held)
    first = s.option[running[holders], PREFIX]
    ends = np.zeros(s.cache.shape[1] + 1, np.int64)
    np.add.at(ends, first, 1)
    np.add.at(ends, first + held[holders], -1)
    refs = np.cumsum(ends)[:-1]
    s.cache[e, :, REFS] = np.where(refs > 0, refs, -1)
    s.option[running, HELD] = held
    s.option[running, ADMITTED] = s.req[running, PROMPT]
    s.eng[e, USED] -= held.sum() - np.count_nonzero(refs)
    s.eng[e, BLANK] = s.eng[e, USABLE] - s.eng[e, USED]


@compiled
def restore(
    s: State,
    e: int,
    row_of: I64,
    running: I64,
    computed: I64,
    phases: I64,
    waiting: I64,
    prompts: I64,
    options: I32,
) -> None:
    """KV cache and preempted requests of a kept engine, as `export` read them.

    `options`: rows of those that run, then of the preempted ones, or none: what they hold of the prefix cache.
    """
    eng = s.eng[e]
    for i in range(running.size):
        r = row_of[running[i]]
        know(s, e, r, prompts[i])
        s.req[r, COMPUTED] = computed[i]
        s.req[r, PHASE] = FILLING
        append(s.req, eng, r, RUN_HEAD, RUN_TAIL)
        eng[RUNNING] += 1
        eng[USED] += blocks(computed[i], eng[BLOCK])
        if phases[i] >= DONE:
            leave(s, e, r, phases[i] == WASTING)
        elif computed[i] >= prompts[i] and s.req[r, TOKENS] == computed[i] + 1:
            settle(s, e, r)
    for i in range(waiting.size):
        r = row_of[waiting[i]]
        if s.req[r, ENGINE] == e:
            know(s, e, r, prompts[running.size + i])
            s.req[r, PHASE] = WAITING
            enqueue(s, e, r, False)
    for i in range(options.shape[0]):
        r = row_of[running[i] if i < running.size else waiting[i - running.size]]
        if s.req[r, ENGINE] == e:
            s.option[r, HELD] = options[i, HELD]
            s.option[r, IDLE_FROM] = options[i, IDLE_FROM]
            s.option[r, ADMITTED] = options[i, ADMITTED]


@compiled
def know(s: State, e: int, r: int, prompt: int) -> None:
    """A request that the engine has admitted before, should it be preempted."""
    s.req[r, PROMPT] = prompt
    s.req[r, LIMIT] = min(s.req[r, LIMIT], s.eng[e, MAX_LEN])
    s.times[r, SCHEDULED] = s.clock[e, CLOCK]


def written_down(s: State, served: IntArray, assigned: Sequence[IntArray]) -> list[EngineState]:
    """Every engine as it stands. Row i of the state is request served[i]; `assigned` are the unfinished requests of each."""
    rows = np.empty(int(s.eng[:, [RUNNING, WAIT_COUNT]].sum()), np.int64)
    computed, phases = np.empty_like(rows), np.empty_like(rows)
    ends = np.empty((len(assigned), 2), np.int64)
    export(s, rows, computed, phases, ends)
    rows = rows[: ends[-1, 1]].copy()
    computed, phases = computed[: len(rows)].copy(), phases[: len(rows)].copy()
    requests, prompts = served[rows], s.req[rows, PROMPT].astype(np.int64)
    options = s.option[rows] if len(s.option) else NO_OPTIONS
    clocks, sharing = s.clock.tolist(), s.eng[:, SHARING].tolist()
    states, begin = [], 0
    for e, (middle, end) in enumerate(ends.tolist()):
        states.append(
            EngineState(
                clock_s=clocks[e][CLOCK],
                running=requests[begin:middle],
                computed=computed[begin:middle],
                waiting=requests[middle:end],
                prompts=prompts[begin:end],
                assigned=assigned[e],
                phases=phases[begin:middle],
                seen_s=clocks[e][SEEN],
                cache=cache_of(s, e, served, options[begin:end]) if sharing[e] else None,
            )
        )
        begin = end
    return states


def cache_of(s: State, e: int, served: IntArray, options: I32) -> CacheState:
    nodes = np.empty((int(s.eng[e, LRU_NODES]), 3), np.int64)
    count = write_down(s, e, served, nodes) if len(nodes) else 0
    return CacheState(int(s.eng[e, BLANK]), s.cache[e, :, REFS].copy(), nodes[:count].copy(), options)


@compiled
def export(s: State, rows: I64, computed: I64, phases: I64, ends: I64) -> None:
    """Reads who runs on each engine, with its tokens in the KV cache, then who was preempted, into arrays that are long
    enough.

    ends [E, 2] is where both end. All others in the queue stand behind the preempted, in the order of their arrival.
    """
    i = 0
    for e in range(ends.shape[0]):
        eng = s.eng[e]
        r = eng[RUN_HEAD]
        while r >= 0:
            rows[i] = r
            computed[i] = s.req[r, COMPUTED]
            phases[i] = s.req[r, PHASE]
            if s.req[r, PHASE] == SETTLED:
                computed[i] += eng[DECODED]
            i += 1
            r = s.req[r, NEXT]
        ends[e, 0] = i
        r = eng[WAIT_HEAD]
        for place in range(eng[WAIT_COUNT]):
            if eng[BY_PRIORITY]:
                r = s.lists[QUEUE, eng[SEGMENT] + place]
            if not np.isnan(s.times[r, SCHEDULED]):
                rows[i] = r
                i += 1
            elif not eng[BY_PRIORITY]:
                break
            r = s.req[r, NEXT]
        ends[e, 1] = i
