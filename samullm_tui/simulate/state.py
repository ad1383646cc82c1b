"""The arrays that the compiled kernels work on: n requests and E engines, no object for either.

Columns of `req` [n, 15], one row for each request, and of `eng` [E, 35], one row for each engine, are named below.

A request that only decodes is *settled*. All settled requests of an engine advance together by one token a step, so
nothing is written for them: `eng[e, DECODED]` counts those steps (D), a settled request keeps base = computed − D in
COMPUTED, its finish is known (the value of D at which it gets its last token), and `hist[e, base mod block]` counts
the settled requests that need a new block whenever D ≡ −base. A step costs as much as what changes in it.

Under asynchronous scheduling a finished request is *leaving*: until the next step is scheduled it keeps its place in
the running list and its blocks. LEAVING computes nothing in that step; WASTING, which stopped by itself, one token.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from samullm_tui.latency.model import IterationLatency
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.graph import Links, compiled, inlined, no_links

__all__ = ["LOG_COLUMNS", "State", "allocate", "compiled", "inlined", "make_state", "outside"]

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
F64 = npt.NDArray[np.float64]

# Columns of req. LIMIT is the number of tokens a request ends with; BLOCKED its unfinished parents;
# ORDER breaks ties; ORIGIN are the tokens of its prompt without any output of its own. PREV and NEXT are its neighbours
# among those that are to arrive, wait or run; AHEAD and BEHIND those that end in the same step; POS its place in a heap,
# or the next of those that are leaving.
(
    PROMPT,
    LIMIT,
    TOKENS,
    COMPUTED,
    PHASE,
    PREV,
    NEXT,
    POS,
    ENGINE,
    BLOCKED,
    ORDER,
    LLM,
    ORIGIN,
    AHEAD,
    BEHIND,
) = range(15)

# Values of PHASE. OUTSIDE: not known to an engine yet. FILLING: running, its prompt not yet computed.
# From DONE on it has finished.
OUTSIDE, PENDING, WAITING, FILLING, SETTLED, DONE, REFUSED, LEAVING, WASTING = range(9)

# Columns of times [n, 4], seconds.
READY, SCHEDULED, FIRST, FINISH = range(4)

# Columns of option [n, 7], which has no rows when every engine is plain. STOPS: it ends by itself, not by a limit.
# PREFIX: slot of the first block that it shares, or -1; SHARED: tokens that it shares; HELD: shared blocks it holds,
# from the first; IDLE: the node of the blocks of its own that are cached while it waits, or -1; IDLE_FROM: the index
# of the first of these; ADMITTED: tokens it had when it was admitted last.
STOPS, PREFIX, SHARED, HELD, IDLE, IDLE_FROM, ADMITTED = range(7)

# Columns of cache [E, slots, 2]: requests that hold the shared block (-1: not cached); its node while nobody does.
REFS, NODE = range(2)

# Columns of lru [nodes, E, 5], the cached blocks that nobody holds, least recently used first. A node is `COUNT`
# blocks of the waiting request OWNER (or of nobody: -1), the last block first; or one shared block, of slot SLOT.
# LRU_NODES of them have been in use: those beyond are not written. Those in use no more are a list from LRU_SPARE on.
AFTER, BEFORE, COUNT, OWNER, SLOT = range(5)

# Columns of eng. PENDING_COUNT are to arrive, LATE_COUNT of them in a heap; SEGMENT is where the engine's heaps begin;
# LEAVERS are leaving, WASTERS of them for one more slot; BLANK are the free blocks with nothing in them, which are taken
# first; PREFILLED counts prompt tokens computed.
(
    MAX_SEQS,
    BUDGET,
    USABLE,
    BLOCK,
    MAX_LEN,
    RUNNING,
    SETTLED_COUNT,
    RUN_HEAD,
    RUN_TAIL,
    WAIT_COUNT,
    WAIT_HEAD,
    WAIT_TAIL,
    PENDING_COUNT,
    COME_HEAD,
    COME_TAIL,
    LATE_COUNT,
    SEGMENT,
    DECODED,
    CONTEXT,
    USED,
    PREEMPTIONS,
    ITERATIONS,
    ASYNC,
    BY_PRIORITY,
    SHARING,
    LEAVERS,
    WASTERS,
    LEAVE_HEAD,
    LEAVE_TAIL,
    BLANK,
    LRU_HEAD,
    LRU_TAIL,
    LRU_SPARE,
    LRU_NODES,
    PREFILLED,
) = range(35)

# Columns of clock [E, 3], seconds: when the next step may start; how long steps took together; until when arrivals
# are seen by the next schedule of an asynchronous engine.
CLOCK, BUSY, SEEN = range(3)

# Columns of misc: finished requests so far, rows logged, whether to log, whether to stop at a finish, whether the
# engine has to hand back because the feeds between engines changed, and requests larger than their KV cache.
FINISHED, LOGGED, LOGGING, STOP_AT_FINISH, HAND_BACK, REFUSALS = range(6)

# Rows of lists, columns of llm, parts of feeds.
ARRIVALS, FINISHES, QUEUE = range(3)
LEFT, END = range(2)
EDGES, REACH = range(2)

GROUP = 64
"""Steps whose endings are counted together; they are kept for a power of two of steps, this at least."""

LOG_COLUMNS = (
    "start_s",
    "duration_s",
    "num_seqs",
    "prefill_tokens",
    "decode_seqs",
    "context_tokens",
    "kv_blocks",
)


class State(NamedTuple):
    """Everything that kernels read and write.

    lists     [2 or 3, n] ARRIVALS: heaps, one segment for each engine; FINISHES: finished requests, in order;
              QUEUE: heaps like ARRIVALS, the waiting requests of engines that go by priority
    endings   [E, steps, 2] and crowds [E, steps / GROUP]: settled requests by the step in which they end
    children  request i feeds children[child_start[i]:child_start[i + 1]]: 2 × request, plus 1 when its output is
              part of that request's prompt
    priority  [n] the lowest goes first; no entries when no engine goes by priority
    llm       [L, 2] unfinished requests of each LLM and the last finish of each
    feeds     [2, E, E] EDGES: unfinished requests of one engine that feed a request of another; REACH: whether one
              engine feeds another, over others too
    """

    req: I32
    times: F64
    eng: I64
    clock: F64
    latency: F64
    lists: I64
    endings: I32
    crowds: I64
    hist: I64
    misc: I64
    log: F64
    child_start: I64
    children: I64
    llm: F64
    feeds: I64
    option: I32
    priority: I64
    cache: I64
    lru: I64


@lru_cache(256)
def engine_row(config: EngineConfig) -> I64:
    """The row of `eng` of such an engine before its first request; one for all who ask, not to be written to."""
    row = np.zeros(35, np.int64)
    row[[RUN_HEAD, RUN_TAIL, WAIT_HEAD, WAIT_TAIL, COME_HEAD, COME_TAIL]] = -1
    row[[LEAVE_HEAD, LEAVE_TAIL, LRU_HEAD, LRU_TAIL, LRU_SPARE]] = -1
    row[MAX_SEQS] = config.max_num_seqs
    row[BUDGET] = config.max_num_batched_tokens
    row[USABLE] = config.usable_blocks
    row[BLOCK] = config.block_size
    row[MAX_LEN] = config.max_model_len
    row[ASYNC] = config.async_scheduling
    row[BY_PRIORITY] = config.scheduling_policy == "priority"
    row[SHARING] = config.prefix_caching
    row[BLANK] = config.usable_blocks
    row.flags.writeable = False
    return row


@compiled
def outside(s: State, r: int) -> None:
    """Writes request r as it is before an engine knows it."""
    s.req[r] = 0
    s.req[r, PREV] = s.req[r, NEXT] = s.req[r, POS] = s.req[r, ENGINE] = -1
    s.req[r, ORDER] = r
    s.times[r] = np.nan
    if s.option.shape[0]:
        s.option[r] = 0
        s.option[r, PREFIX] = s.option[r, IDLE] = -1


@compiled
def put_outside(s: State) -> None:
    for r in range(s.req.shape[0]):
        outside(s, r)


def make_state(
    n: int,
    engines: Sequence[tuple[EngineConfig, IterationLatency]],
    *,
    longest: int | None = None,
    log_rows: int = 0,
    slots: int = 0,
) -> State:
    """Room for n requests of one LLM on these engines, which feed nobody; all requests outside. See `allocate`."""
    state = allocate(n, engines, longest=longest, log_rows=log_rows, slots=slots)
    put_outside(state)
    return state


def allocate(
    n: int,
    engines: Sequence[tuple[EngineConfig, IterationLatency]],
    *,
    llms: int = 1,
    links: Links | None = None,
    longest: int | None = None,
    log_rows: int = 0,
    slots: int = 0,
) -> State:
    """Room for n requests on these engines, with `slots` shared blocks; nothing of the requests is written yet.

    `longest`: no request has more output tokens; without it as many as the context has.
    """
    count = len(engines)
    links = links or no_links(n)
    longest = longest or max(config.max_model_len for config, _ in engines)
    steps = max(GROUP, 1 << longest.bit_length())
    block = max(config.block_size for config, _ in engines)
    plain = all(config.plain for config, _ in engines)
    queue = any(config.scheduling_policy == "priority" for config, _ in engines)
    nodes = max(config.usable_blocks if config.prefix_caching else 0 for config, _ in engines)
    state = State(
        req=np.empty((n, 15), np.int32),
        times=np.empty((n, 4)),
        eng=np.empty((count, 35), np.int64),
        clock=np.zeros((count, 3)),
        latency=np.zeros((count, engines[0][1].vector().size)),
        lists=np.empty((3 if queue else 2, n), np.int64),
        endings=np.full((count, steps, 2), -1, np.int32),
        crowds=np.zeros((count, steps // GROUP), np.int64),
        hist=np.zeros((count, block), np.int64),
        misc=np.zeros(6, np.int64),
        log=np.zeros((log_rows, len(LOG_COLUMNS))),
        child_start=links.start,
        children=links.children,
        llm=np.zeros((llms, 2)),
        feeds=np.zeros((2, count, count), np.int64),
        option=np.empty((0 if plain else n, 7), np.int32),
        priority=np.zeros(n if queue else 0, np.int64),
        cache=np.full((count, slots if nodes else 0, 2), -1, np.int64),
        lru=np.empty((nodes, count, 5), np.int64),
    )
    for e, (config, latency) in enumerate(engines):
        state.eng[e] = engine_row(config)
        state.latency[e] = latency.vector()
    return state
