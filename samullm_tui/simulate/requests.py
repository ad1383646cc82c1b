"""Compiled moves of one request: arrive, settle, be preempted, finish, be taken out."""

from __future__ import annotations

import numpy as np

from samullm_tui.simulate.queues import append, heap_pop, heap_push, heap_remove, prepend, unlink
from samullm_tui.simulate.state import (
    ARRIVALS,
    BLOCK,
    BLOCKED,
    CLOCK,
    COMPUTED,
    CONTEXT,
    DECODED,
    DONE,
    EDGES,
    END,
    ENGINE,
    FILLING,
    FINISH,
    FINISHED,
    FINISHES,
    FIRST,
    HAND_BACK,
    I64,
    KEY,
    LEFT,
    LIMIT,
    LLM,
    MAX_LEN,
    ORIGIN,
    OUTSIDE,
    PENDING,
    PENDING_COUNT,
    PENDING_START,
    PHASE,
    PREEMPTIONS,
    PROMPT,
    REACH,
    READY,
    REFUSED,
    RUN_HEAD,
    RUN_TAIL,
    RUNNING,
    SETTLED,
    SETTLED_COUNT,
    STOP_AT_FINISH,
    TOKENS,
    USABLE,
    USED,
    WAIT_COUNT,
    WAIT_HEAD,
    WAIT_TAIL,
    WAITING,
    State,
    compiled,
    inlined,
)

__all__ = [
    "arrive",
    "blocks",
    "finish",
    "finish_settled",
    "preempt",
    "settle",
    "take_arrivals",
    "take_out",
    "token",
]


@compiled
def blocks(tokens: int, block: int) -> int:
    """KV blocks that hold `tokens` tokens."""
    return (tokens + block - 1) // block


@compiled
def arrive(s: State, r: int) -> None:
    """The request is ready at times[r, READY] and joins the arrivals of its engine."""
    e = s.req[r, ENGINE]
    s.times[r, KEY] = s.times[r, READY]
    s.req[r, PHASE] = PENDING
    heap_push(s.lists[ARRIVALS, s.eng[e, PENDING_START] :], s.eng[e, PENDING_COUNT], r, s.req, s.times)
    s.eng[e, PENDING_COUNT] += 1


@compiled
def take_arrivals(s: State, e: int) -> None:
    """Queues what has arrived by the engine's clock. What can never run is refused: it ends without a token."""
    eng = s.eng[e]
    now = s.clock[e, CLOCK]
    heap = s.lists[ARRIVALS, eng[PENDING_START] :]
    while eng[PENDING_COUNT] > 0 and s.times[heap[0], READY] <= now:
        r = heap_pop(heap, eng[PENDING_COUNT], s.req, s.times)
        eng[PENDING_COUNT] -= 1
        limit = min(s.req[r, LIMIT], eng[MAX_LEN])
        too_large = blocks(limit - 1, eng[BLOCK]) > eng[USABLE]
        if s.req[r, PROMPT] >= limit or too_large:
            finish(s, e, r, now)
            if too_large:
                s.req[r, PHASE] = REFUSED
            continue
        s.req[r, LIMIT] = limit
        s.req[r, PHASE] = WAITING
        append(s.req, eng, r, WAIT_HEAD, WAIT_TAIL)
        eng[WAIT_COUNT] += 1


@inlined
def settle(s: State, e: int, r: int) -> None:
    """From now on r only decodes."""
    eng = s.eng[e]
    base = s.req[r, COMPUTED] - eng[DECODED]
    eng[CONTEXT] += s.req[r, COMPUTED]
    s.req[r, COMPUTED] = base
    s.req[r, PHASE] = SETTLED
    s.hist[e, base % eng[BLOCK]] += 1
    s.times[r, KEY] = eng[DECODED] + s.req[r, LIMIT] - s.req[r, TOKENS]
    heap_push(s.ends[e], eng[SETTLED_COUNT], r, s.req, s.times)
    eng[SETTLED_COUNT] += 1


@inlined
def unsettle(s: State, e: int, r: int) -> None:
    """Writes down how far a settled request is. The caller has taken it out of the heap."""
    eng = s.eng[e]
    base = s.req[r, COMPUTED]
    s.hist[e, base % eng[BLOCK]] -= 1
    s.req[r, COMPUTED] = base + eng[DECODED]
    s.req[r, TOKENS] = s.req[r, COMPUTED] + 1
    s.req[r, PHASE] = FILLING
    eng[CONTEXT] -= s.req[r, COMPUTED]
    eng[SETTLED_COUNT] -= 1


@inlined
def leave_running(s: State, e: int, r: int) -> None:
    """Frees its blocks and takes it off the running list, its tokens written down."""
    eng = s.eng[e]
    if s.req[r, PHASE] == SETTLED:
        heap_remove(s.ends[e], eng[SETTLED_COUNT], r, s.req, s.times)
        unsettle(s, e, r)
    eng[USED] -= blocks(s.req[r, COMPUTED], eng[BLOCK])
    eng[RUNNING] -= 1
    unlink(s.req, eng, r, RUN_HEAD, RUN_TAIL)


@compiled
def preempt(s: State, e: int, r: int) -> None:
    """To the front of the queue, to be computed again as one prompt of all its tokens."""
    eng = s.eng[e]
    leave_running(s, e, r)
    s.req[r, COMPUTED] = 0
    s.req[r, PHASE] = WAITING
    prepend(s.req, eng, r, WAIT_HEAD, WAIT_TAIL)
    eng[WAIT_COUNT] += 1
    eng[PREEMPTIONS] += 1


@compiled
def take_out(s: State, r: int) -> None:
    """The request leaves its engine unfinished, with the tokens it has."""
    e = s.req[r, ENGINE]
    eng = s.eng[e]
    phase = s.req[r, PHASE]
    if phase == PENDING:
        heap_remove(s.lists[ARRIVALS, eng[PENDING_START] :], eng[PENDING_COUNT], r, s.req, s.times)
        eng[PENDING_COUNT] -= 1
    elif phase == WAITING:
        unlink(s.req, eng, r, WAIT_HEAD, WAIT_TAIL)
        eng[WAIT_COUNT] -= 1
    elif FILLING <= phase <= SETTLED:
        leave_running(s, e, r)
    s.req[r, PHASE] = OUTSIDE


@inlined
def token(s: State, e: int, r: int, now: float) -> None:
    """A request whose tokens are all computed gets one more, and finishes or goes on decoding."""
    s.req[r, TOKENS] += 1
    if np.isnan(s.times[r, FIRST]):
        s.times[r, FIRST] = now
    if s.req[r, TOKENS] >= s.req[r, LIMIT]:
        leave_running(s, e, r)
        finish(s, e, r, now)
    else:
        settle(s, e, r)


@inlined
def finish_settled(s: State, e: int, now: float) -> None:
    """Finishes the settled requests whose last token this was."""
    eng = s.eng[e]
    heap = s.ends[e]
    while eng[SETTLED_COUNT] > 0 and s.times[heap[0], KEY] == eng[DECODED]:
        r = heap[0]
        leave_running(s, e, r)
        finish(s, e, r, now)


@inlined
def finish(s: State, e: int, r: int, now: float) -> None:
    """Records the end of r and hands its output to the requests that it feeds."""
    s.req[r, PHASE] = DONE
    s.times[r, FINISH] = now
    s.lists[FINISHES, s.misc[FINISHED]] = r
    s.misc[FINISHED] += 1
    if s.misc[STOP_AT_FINISH]:
        s.misc[HAND_BACK] = 1
    llm = s.req[r, LLM]
    s.llm[llm, LEFT] -= 1
    s.llm[llm, END] = max(s.llm[llm, END], now)
    for i in range(s.child_start[r], s.child_start[r + 1]):
        feed(s, e, r, s.children[i], now)


@inlined
def feed(s: State, e: int, r: int, link: int, now: float) -> None:
    """`HAND_BACK` is set when another engine may now act earlier, or is no longer fed by this one."""
    child = link >> 1
    if link & 1:
        tokens = s.req[r, TOKENS] - s.req[r, ORIGIN]
        s.req[child, PROMPT] += tokens
        s.req[child, ORIGIN] += tokens
        s.req[child, TOKENS] += tokens
        s.req[child, LIMIT] += tokens
    s.req[child, BLOCKED] -= 1
    if np.isnan(s.times[child, READY]) or s.times[child, READY] < now:
        s.times[child, READY] = now
    other = s.req[child, ENGINE]
    if other < 0:
        return
    if other != e:
        s.feeds[EDGES, e, other] -= 1
        if s.feeds[EDGES, e, other] == 0 or (s.req[child, BLOCKED] == 0 and s.feeds[REACH, other, e]):
            s.misc[HAND_BACK] = 1
    if s.req[child, BLOCKED] == 0:
        arrive(s, child)


@compiled
def arrive_all(s: State, requests: I64, e: int) -> None:
    """Gives these requests to engine e; those that wait for no parent arrive."""
    for r in requests:
        s.req[r, ENGINE] = e
        if s.req[r, BLOCKED] == 0:
            arrive(s, r)
