"""Compiled moves of one request: arrive, settle, be preempted, finish, be taken out."""

from __future__ import annotations

import numpy as np

from samullm_tui.simulate.arrivals import add_arrival, drop_arrival, first_arrival
from samullm_tui.simulate.endings import add_ending, drop_ending, first_ending
from samullm_tui.simulate.prefixes import cached_tokens, free_cached
from samullm_tui.simulate.queues import append, heap_push, heap_remove, prepend, unlink
from samullm_tui.simulate.state import (
    ASYNC,
    BLOCK,
    BLOCKED,
    BY_PRIORITY,
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
    IDLE,
    LEAVE_HEAD,
    LEAVE_TAIL,
    LEAVERS,
    LEAVING,
    LEFT,
    LIMIT,
    LLM,
    MAX_LEN,
    ORIGIN,
    OUTSIDE,
    OWNER,
    PENDING,
    PENDING_COUNT,
    PHASE,
    POS,
    PREEMPTIONS,
    PROMPT,
    QUEUE,
    REACH,
    READY,
    REFUSALS,
    REFUSED,
    RUN_HEAD,
    RUN_TAIL,
    RUNNING,
    SEEN,
    SEGMENT,
    SETTLED,
    SETTLED_COUNT,
    SHARING,
    STOP_AT_FINISH,
    STOPS,
    TOKENS,
    USABLE,
    USED,
    WAIT_COUNT,
    WAIT_HEAD,
    WAIT_TAIL,
    WAITING,
    WASTERS,
    WASTING,
    State,
    compiled,
    inlined,
)

__all__ = [
    "arrive",
    "arrive_all",
    "blocks",
    "dequeue",
    "enqueue",
    "finish_settled",
    "leave",
    "let_go",
    "preempt",
    "queue_head",
    "settle",
    "take_arrivals",
    "take_out",
    "token",
    "unsettle",
]


@compiled
def blocks(tokens: int, block: int) -> int:
    """KV blocks that hold `tokens` tokens."""
    return (tokens + block - 1) // block


@compiled
def arrive(s: State, r: int) -> None:
    """The request is ready at times[r, READY] and joins the arrivals of its engine."""
    s.req[r, PHASE] = PENDING
    add_arrival(s, s.req[r, ENGINE], r)


@inlined
def enqueue(s: State, e: int, r: int, front: bool) -> None:
    """Into the queue of its engine: by priority and arrival, else at the end or the front."""
    eng = s.eng[e]
    if eng[BY_PRIORITY]:
        heap_push(s.lists[QUEUE, eng[SEGMENT] :], eng[WAIT_COUNT], r, s.req, s.times, s.priority, True)
    elif front:
        prepend(s.req, eng, r, WAIT_HEAD, WAIT_TAIL)
    else:
        append(s.req, eng, r, WAIT_HEAD, WAIT_TAIL)
    eng[WAIT_COUNT] += 1


@inlined
def dequeue(s: State, e: int, r: int) -> None:
    eng = s.eng[e]
    if eng[BY_PRIORITY]:
        heap_remove(s.lists[QUEUE, eng[SEGMENT] :], eng[WAIT_COUNT], r, s.req, s.times, s.priority, True)
    else:
        unlink(s.req, eng, r, WAIT_HEAD, WAIT_TAIL)
    eng[WAIT_COUNT] -= 1


@inlined
def queue_head(s: State, e: int) -> int:
    """The request to admit next, of at least one."""
    eng = s.eng[e]
    return int(s.lists[QUEUE, eng[SEGMENT]] if eng[BY_PRIORITY] else eng[WAIT_HEAD])


@compiled
def take_arrivals(s: State, e: int) -> None:
    """Queues what has arrived in time for the next step. What can never run is refused: it ends without a token."""
    eng = s.eng[e]
    now = s.clock[e, CLOCK]
    seen_s = s.clock[e, SEEN] if eng[ASYNC] else now
    while eng[PENDING_COUNT] > 0:
        r = first_arrival(s, e)
        if s.times[r, READY] > seen_s:
            return
        drop_arrival(s, e, r)
        limit = min(s.req[r, LIMIT], eng[MAX_LEN])
        too_large = blocks(limit - 1, eng[BLOCK]) > eng[USABLE]
        if s.req[r, PROMPT] >= limit or too_large:
            finish(s, e, r, now)
            if too_large:
                s.req[r, PHASE] = REFUSED
                s.misc[REFUSALS] += 1
            continue
        s.req[r, LIMIT] = limit
        s.req[r, PHASE] = WAITING
        enqueue(s, e, r, False)


@inlined
def settle(s: State, e: int, r: int) -> None:
    """From now on r only decodes."""
    eng = s.eng[e]
    base = s.req[r, COMPUTED] - eng[DECODED]
    eng[CONTEXT] += s.req[r, COMPUTED]
    s.req[r, COMPUTED] = base
    s.req[r, PHASE] = SETTLED
    s.hist[e, base % eng[BLOCK]] += 1
    add_ending(s.req, s.endings[e], s.crowds[e], r, s.req[r, LIMIT] - 1 - base)
    eng[SETTLED_COUNT] += 1


@inlined
def unsettle(s: State, e: int, r: int) -> None:
    """Writes down how far a settled request is."""
    eng = s.eng[e]
    base = s.req[r, COMPUTED]
    drop_ending(s.req, s.endings[e], s.crowds[e], r, s.req[r, LIMIT] - 1 - base)
    s.hist[e, base % eng[BLOCK]] -= 1
    s.req[r, COMPUTED] = base + eng[DECODED]
    s.req[r, TOKENS] = s.req[r, COMPUTED] + 1
    s.req[r, PHASE] = FILLING
    eng[CONTEXT] -= s.req[r, COMPUTED]
    eng[SETTLED_COUNT] -= 1


@inlined
def leave_running(s: State, e: int, r: int, computed: int, known: int, keep: bool) -> None:
    """Takes r, which is not settled, off the running list and frees the blocks of its `computed` tokens.

    `known` and `keep` as in `free_cached`.
    """
    eng = s.eng[e]
    if eng[SHARING]:
        free_cached(s.option, s.cache[e], s.lru[:, e], eng, r, computed, known, keep)
    else:
        eng[USED] -= blocks(computed, eng[BLOCK])
    eng[RUNNING] -= 1
    unlink(s.req, eng, r, RUN_HEAD, RUN_TAIL)


@compiled
def preempt(s: State, e: int, r: int, ahead: int) -> None:
    """Back to the queue, to be computed again as one prompt of all its tokens; a leaving request just goes.

    `ahead` is 1 when a token of r was scheduled in this very step.
    """
    eng = s.eng[e]
    eng[PREEMPTIONS] += 1
    if s.req[r, PHASE] == SETTLED:
        unsettle(s, e, r)
    computed = s.req[r, COMPUTED] + ahead
    known = cached_tokens(s.option, eng, r, computed) if eng[SHARING] else computed
    if s.req[r, PHASE] >= DONE:
        leave_queue(s, e, r)
        leave_running(s, e, r, computed, known, False)
        return
    leave_running(s, e, r, computed, known, True)
    s.req[r, COMPUTED] = 0
    s.req[r, PHASE] = WAITING
    enqueue(s, e, r, True)


@compiled
def take_out(s: State, r: int) -> None:
    """The request leaves its engine unfinished, with the tokens it has."""
    e = s.req[r, ENGINE]
    eng = s.eng[e]
    phase = s.req[r, PHASE]
    if phase == PENDING:
        drop_arrival(s, e, r)
    elif phase == WAITING:
        dequeue(s, e, r)
        if eng[SHARING] and s.option[r, IDLE] >= 0:
            s.lru[s.option[r, IDLE], e, OWNER] = -1
            s.option[r, IDLE] = -1
    elif FILLING <= phase <= SETTLED:
        if phase == SETTLED:
            unsettle(s, e, r)
        leave_running(s, e, r, s.req[r, COMPUTED], s.req[r, COMPUTED], False)
    s.req[r, PHASE] = OUTSIDE


@inlined
def token(s: State, e: int, r: int, now: float) -> None:
    """A request whose tokens are all computed gets one more, and finishes or goes on decoding."""
    s.req[r, TOKENS] += 1
    if np.isnan(s.times[r, FIRST]):
        s.times[r, FIRST] = now
    if s.req[r, TOKENS] >= s.req[r, LIMIT]:
        end(s, e, r, now)
    else:
        settle(s, e, r)


@inlined
def finish_settled(s: State, e: int, now: float) -> None:
    """Finishes the settled requests whose last token this was, in running order."""
    eng = s.eng[e]
    r = first_ending(s.endings[e], eng[DECODED])
    while r >= 0:
        unsettle(s, e, r)
        end(s, e, r, now)
        r = first_ending(s.endings[e], eng[DECODED])


@inlined
def end(s: State, e: int, r: int, now: float) -> None:
    """R has its last token. It goes at once, or after the next step is scheduled."""
    if s.eng[e, ASYNC]:
        finish(s, e, r, now)
        linger(s, e, r)
    else:
        leave_running(s, e, r, s.req[r, COMPUTED], s.req[r, COMPUTED], False)
        finish(s, e, r, now)


@compiled
def linger(s: State, e: int, r: int) -> None:
    """A limit is foreseen; a stop is not, and costs a slot in the step that is scheduled without knowing it."""
    eng = s.eng[e]
    leave(s, e, r, bool(s.option[r, STOPS] and s.req[r, LIMIT] < eng[MAX_LEN]))


@compiled
def leave(s: State, e: int, r: int, wasting: bool) -> None:
    """R has finished and keeps its place until the next step is scheduled; `wasting`: with a slot in it."""
    eng = s.eng[e]
    s.req[r, PHASE] = WASTING if wasting else LEAVING
    s.req[r, POS] = -1
    if eng[LEAVE_TAIL] >= 0:
        s.req[eng[LEAVE_TAIL], POS] = r
    else:
        eng[LEAVE_HEAD] = r
    eng[LEAVE_TAIL] = r
    eng[LEAVERS] += 1
    eng[WASTERS] += wasting


@compiled
def leave_queue(s: State, e: int, r: int) -> None:
    """Takes r out of those that are leaving; POS is the next of them."""
    eng = s.eng[e]
    previous, other = -1, eng[LEAVE_HEAD]
    while other != r:
        previous, other = other, s.req[other, POS]
    if previous >= 0:
        s.req[previous, POS] = s.req[r, POS]
    else:
        eng[LEAVE_HEAD] = s.req[r, POS]
    if eng[LEAVE_TAIL] == r:
        eng[LEAVE_TAIL] = previous
    eng[LEAVERS] -= 1
    eng[WASTERS] -= s.req[r, PHASE] == WASTING
    s.req[r, PHASE] = DONE


@compiled
def let_go(s: State, e: int) -> None:
    """The step is scheduled, and only then known who had finished before: what is leaving goes, in running order."""
    eng = s.eng[e]
    while eng[LEAVE_HEAD] >= 0:
        r = eng[LEAVE_HEAD]
        wasted = s.req[r, PHASE] == WASTING
        leave_queue(s, e, r)
        leave_running(s, e, r, s.req[r, COMPUTED] + wasted, s.req[r, COMPUTED], False)


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
