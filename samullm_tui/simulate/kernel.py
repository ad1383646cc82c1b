"""The compiled schedule of one engine: vLLM's scheduler with chunked prefill and preemption by recompute.

`step` is one engine step. `jump` does many steps at once when all that happens in them is that every running request
decodes. `advance` goes on with either until a time. All counts are those of stepping one by one.
"""

from __future__ import annotations

import numpy as np

from samullm_tui.latency.model import DECODE_CONTEXT, iteration_s
from samullm_tui.simulate.arrivals import next_arrival_s
from samullm_tui.simulate.endings import steps_to_ending
from samullm_tui.simulate.prefixes import adopt, found, publish
from samullm_tui.simulate.queues import append
from samullm_tui.simulate.requests import (
    blocks,
    dequeue,
    finish_settled,
    let_go,
    preempt,
    queue_head,
    take_arrivals,
    token,
)
from samullm_tui.simulate.room import make_room, take_blocks, unpark, victim
from samullm_tui.simulate.state import (
    ADMITTED,
    ASYNC,
    BLOCK,
    BUDGET,
    BUSY,
    BY_PRIORITY,
    CLOCK,
    COMPUTED,
    CONTEXT,
    DECODED,
    F64,
    FILLING,
    HAND_BACK,
    I64,
    ITERATIONS,
    LEAVE_HEAD,
    LEAVERS,
    LOGGED,
    LOGGING,
    MAX_SEQS,
    NEXT,
    PHASE,
    POS,
    PREEMPTIONS,
    PREFILLED,
    PROMPT,
    RUN_HEAD,
    RUN_TAIL,
    RUNNING,
    SCHEDULED,
    SEEN,
    SETTLED_COUNT,
    SHARING,
    TOKENS,
    USABLE,
    USED,
    WAIT_COUNT,
    WASTERS,
    WASTING,
    State,
    compiled,
    inlined,
)

__all__ = ["advance", "next_action_s"]


@compiled
def crossing(hist: I64, eng: I64, ahead: int) -> int:
    """Settled requests that need a new block in the step that is `ahead` steps away."""
    return int(hist[-(eng[DECODED] + ahead) % eng[BLOCK]])


@compiled
def wasted(s: State, e: int) -> tuple[int, int, int]:
    """(requests that have stopped and still get a slot, their context, the new blocks that they take)."""
    eng = s.eng[e]
    count, context, need = 0, 0, 0
    r = eng[LEAVE_HEAD]
    while r >= 0:
        if s.req[r, PHASE] == WASTING:
            count += 1
            context += s.req[r, COMPUTED] + 1
            need += s.req[r, COMPUTED] % eng[BLOCK] == 0
        r = s.req[r, POS]
    return count, context, need


@inlined
def missing(s: State, e: int, r: int) -> tuple[int, int, int]:
    """(free blocks that the whole of waiting request r takes, blocks of it that others hold or left, that it left)."""
    eng = s.eng[e]
    need = blocks(s.req[r, TOKENS], eng[BLOCK])
    if not eng[SHARING]:
        return need, 0, 0
    shared, own, idle = found(s.req, s.option, s.cache[e], s.lru[:, e], eng, r)
    return need - shared - own + idle, shared, own


@inlined
def admit(s: State, e: int, budget: int) -> tuple[int, int, float, int, int]:
    """Takes requests from the queue while there are budget, places and blocks.

    The head is admitted only if its whole present length fits into the free blocks; else it blocks the rest.
    Returns (the first admitted request or -1, prefill tokens, prefill context, decodes, their context).
    """
    eng = s.eng[e]
    now = s.clock[e, CLOCK]
    first, taken, context, decodes, decode_context = -1, 0, 0.0, 0, 0
    while eng[WAIT_COUNT] > 0 and taken + decodes < budget and eng[RUNNING] < eng[MAX_SEQS]:
        r = queue_head(s, e)
        need, shared, own = missing(s, e, r)
        if need > eng[USABLE] - eng[USED]:
            break
        dequeue(s, e, r)
        append(s.req, eng, r, RUN_HEAD, RUN_TAIL)
        eng[RUNNING] += 1
        before = (shared + own) * eng[BLOCK]
        chunk = min(s.req[r, TOKENS] - before, budget - taken - decodes)
        if chunk == 1 and before >= s.req[r, PROMPT]:
            decodes += 1
            decode_context += before + 1
        else:
            taken += chunk
            context += chunk * (before + 0.5 * (chunk + 1))
        s.req[r, COMPUTED] = before + chunk
        s.req[r, PHASE] = FILLING
        if eng[SHARING]:
            adopt(s.option, s.cache[e], s.lru[:, e], eng, r, shared, own)
            s.option[r, ADMITTED] = s.req[r, TOKENS]
        take_blocks(s, e, blocks(before + chunk, eng[BLOCK]) - shared - own)
        if eng[SHARING]:
            publish(s.req, s.option, s.cache[e], eng, r)
        if np.isnan(s.times[r, SCHEDULED]):
            s.times[r, SCHEDULED] = now
        if first < 0:
            first = r
    return first, taken, context, decodes, decode_context


@compiled
def fill(s: State, e: int, budget: int) -> tuple[int, int, float, int]:
    """The next chunk of the one running request whose prompt is not yet computed: it stands last.

    Returns (the request or -1, prefill tokens, prefill context, decodes): a chunk of one token past the prompt
    counts as a decode. Without room for the chunk requests are preempted, most often itself.
    """
    eng = s.eng[e]
    r = eng[RUN_TAIL]
    before = s.req[r, COMPUTED]
    chunk = min(s.req[r, TOKENS] - before, budget)
    need = blocks(before + chunk, eng[BLOCK]) - blocks(before, eng[BLOCK])
    while need > eng[USABLE] - eng[USED]:
        last, ahead = victim(s, e, r)
        preempt(s, e, last, ahead)
        if last == r:
            return -1, 0, 0.0, 0
    take_blocks(s, e, need)
    s.req[r, COMPUTED] += chunk
    if eng[SHARING]:
        publish(s.req, s.option, s.cache[e], eng, r)
    if chunk == 1 and before >= s.req[r, PROMPT]:
        return r, 0, 0.0, 1
    return r, chunk, chunk * (before + 0.5 * (chunk + 1)), 0


@inlined
def step(s: State, e: int) -> None:
    """One engine step, with something running or waiting."""
    eng = s.eng[e]
    preemptions = eng[PREEMPTIONS]
    need = crossing(s.hist[e], eng, 0)
    ended, after, parked = False, -1, 0
    if eng[WASTERS]:
        need += wasted(s, e)[2]
    if need <= eng[USABLE] - eng[USED]:
        take_blocks(s, e, need)
    else:
        ended, after, parked = make_room(s, e, need)
    fresh, prefill_tokens, prefill_context, decodes = -1, 0, 0.0, 0
    if not ended and eng[RUNNING] > eng[SETTLED_COUNT] + eng[LEAVERS]:
        budget = eng[BUDGET] - eng[SETTLED_COUNT] - eng[WASTERS]
        fresh, prefill_tokens, prefill_context, decodes = fill(s, e, budget)
    settled = eng[SETTLED_COUNT]
    decode_context = eng[CONTEXT] + settled
    if decodes:
        decode_context += s.req[fresh, COMPUTED]
    decodes += settled
    if eng[WASTERS]:
        wasting, context, _ = wasted(s, e)
        decodes += wasting
        decode_context += context
    if eng[PREEMPTIONS] == preemptions:
        budget = eng[BUDGET] - decodes - prefill_tokens
        admitted, chunks, chunks_context, short, short_context = admit(s, e, budget)
        prefill_tokens += chunks
        prefill_context += chunks_context
        decodes += short
        decode_context += short_context
        fresh = admitted if fresh < 0 else fresh
    seqs = settled + eng[WASTERS] if ended else eng[RUNNING] - eng[LEAVERS] + eng[WASTERS]
    if seqs:
        end_step(
            s,
            e,
            settled,
            seqs,
            fresh,
            prefill_tokens,
            prefill_context,
            decodes,
            decode_context,
            after,
            parked,
        )
    else:
        skip_step(s, e, after, parked)


@inlined
def end_step(
    s: State,
    e: int,
    settled: int,
    seqs: int,
    fresh: int,
    prefill_tokens: int,
    prefill_context: float,
    decodes: int,
    decode_context: int,
    after: int,
    parked: int,
) -> None:
    """The step takes its time; then every request whose tokens are all computed gets one token.

    `fresh` is the first running request that is not settled; those after it are not either.
    """
    eng = s.eng[e]
    seconds = iteration_s(s.latency[e], seqs, prefill_tokens, prefill_context, decodes, float(decode_context))
    if s.misc[LOGGING]:
        context = eng[CONTEXT] + settled
        if eng[WASTERS]:
            context += wasted(s, e)[1]
        r = fresh
        while r >= 0:
            context += s.req[r, COMPUTED]
            r = s.req[r, NEXT]
        log_step(s.log, s.misc, eng, s.clock[e, CLOCK], seconds, seqs, prefill_tokens, decodes, context)
    s.clock[e, SEEN] = s.clock[e, CLOCK]
    s.clock[e, CLOCK] += seconds
    s.clock[e, BUSY] += seconds
    eng[ITERATIONS] += 1
    eng[PREFILLED] += prefill_tokens
    eng[DECODED] += 1
    eng[CONTEXT] += settled
    if eng[LEAVERS]:
        let_go(s, e)
    if parked:
        unpark(s, e, after, parked)
    now = s.clock[e, CLOCK]
    finish_settled(s, e, now)
    r = fresh
    while r >= 0:
        following = s.req[r, NEXT]
        if s.req[r, COMPUTED] == s.req[r, TOKENS]:
            token(s, e, r, now)
        r = following


@compiled
def skip_step(s: State, e: int, after: int, parked: int) -> None:
    """Nothing could be scheduled: no time passes, no step counts, and what is leaving goes."""
    s.clock[e, SEEN] = s.clock[e, CLOCK]
    unpark(s, e, after, parked)
    let_go(s, e)


@compiled
def log_step(
    log: F64,
    misc: I64,
    eng: I64,
    start_s: float,
    seconds: float,
    seqs: int,
    prefill_tokens: int,
    decodes: int,
    context: int,
) -> None:
    row = log[misc[LOGGED]]
    row[0] = start_s
    row[1] = seconds
    row[2] = seqs
    row[3] = prefill_tokens
    row[4] = decodes
    row[5] = context
    row[6] = eng[USED]
    misc[LOGGED] += 1


@compiled
def elapsed_s(first_s: float, growth_s: float, steps: int) -> float:
    """Seconds of `steps` steps of which the first takes first_s and each later one growth_s more."""
    return steps * first_s + growth_s * (0.5 * steps * (steps - 1))


@compiled
def steps_until(clock_s: float, limit_s: float, first_s: float, growth_s: float, most: int) -> int:
    """The steps that start before limit_s, at least one, at most `most`."""
    if clock_s + elapsed_s(first_s, growth_s, most - 1) < limit_s:
        return most
    low, high = 1, most  # low steps start before the limit; high do not, or are not known to
    while high - low > 1:
        middle = (low + high) // 2
        if clock_s + elapsed_s(first_s, growth_s, middle - 1) < limit_s:
            low = middle
        else:
            high = middle
    return low


@compiled
def steps_with_blocks(hist: I64, eng: I64, steps: int) -> tuple[int, int]:
    """How many of the next `steps` decode steps find free blocks, and the blocks that these take."""
    block = eng[BLOCK]
    free = eng[USABLE] - eng[USED]
    whole = steps // block
    place = -eng[DECODED] % block
    if eng[SETTLED_COUNT] * (whole + 1) <= free:
        taken = eng[SETTLED_COUNT] * whole
        for _ in range(steps - whole * block):
            taken += hist[place]
            place = place - 1 if place > 0 else block - 1
        return steps, taken
    taken = 0
    for ahead in range(steps):
        if taken + hist[place] > free:
            return ahead, taken
        taken += hist[place]
        place = place - 1 if place > 0 else block - 1
    return steps, taken


@inlined
def jump_limit_s(s: State, e: int) -> float:
    """An arrival at this time could change the step after it; -inf: not even the next step is a pure decode.

    Until then, and as long as nothing finishes, steps are pure decodes of all that runs.
    """
    eng = s.eng[e]
    full = eng[RUNNING] == eng[MAX_SEQS] or eng[RUNNING] == eng[BUDGET]
    if eng[RUNNING] == 0 or eng[RUNNING] > eng[SETTLED_COUNT]:
        return -np.inf
    if full:
        return np.inf
    if eng[WAIT_COUNT] > 0:
        need = missing(s, e, queue_head(s, e))[0]
        fits = need <= eng[USABLE] - eng[USED] - crossing(s.hist[e], eng, 0)
        if fits or not eng[BY_PRIORITY]:
            return -np.inf if fits else np.inf
    return float(next_arrival_s(s, e))


@inlined
def jump(s: State, e: int, until_s: float) -> bool:
    """Many decode steps at once, up to the first finish. False: the next step is not of that kind."""
    eng = s.eng[e]
    limit_s = jump_limit_s(s, e)
    if limit_s == -np.inf or crossing(s.hist[e], eng, 0) > eng[USABLE] - eng[USED]:
        return False
    count = eng[RUNNING]
    most = steps_to_ending(s.endings[e], s.crowds[e], eng[DECODED])
    if s.misc[LOGGING]:
        most = min(most, s.log.shape[0] - s.misc[LOGGED])
    context = eng[CONTEXT] + count
    first_s = iteration_s(s.latency[e], count, 0, 0.0, count, float(context))
    growth_s = s.latency[e, DECODE_CONTEXT] * count
    start_s = s.clock[e, CLOCK]
    if eng[ASYNC] and limit_s < np.inf:
        # A step sees what has arrived when the one before it starts: one more step is as it would have been.
        seen = steps_until(start_s, limit_s, first_s, growth_s, most) + 1 if start_s < limit_s else 1
        most = min(most, seen)
        limit_s = np.inf
    limit_s = min(limit_s, until_s)
    steps, taken = steps_with_blocks(s.hist[e], eng, steps_until(start_s, limit_s, first_s, growth_s, most))
    if s.misc[LOGGING]:
        log_jump(s, e, steps, first_s, growth_s)
    else:
        take_blocks(s, e, taken)
    seconds = elapsed_s(first_s, growth_s, steps)
    s.clock[e, SEEN] = start_s + elapsed_s(first_s, growth_s, steps - 1)
    s.clock[e, CLOCK] = start_s + seconds
    s.clock[e, BUSY] += seconds
    eng[ITERATIONS] += steps
    eng[DECODED] += steps
    eng[CONTEXT] += count * steps
    finish_settled(s, e, s.clock[e, CLOCK])
    return True


@compiled
def log_jump(s: State, e: int, steps: int, first_s: float, growth_s: float) -> None:
    """One row for each step of a jump; takes the blocks of each on the way."""
    eng = s.eng[e]
    count = eng[RUNNING]
    for ahead in range(steps):
        take_blocks(s, e, crossing(s.hist[e], eng, ahead))
        start_s = s.clock[e, CLOCK] + elapsed_s(first_s, growth_s, ahead)
        log_step(
            s.log,
            s.misc,
            eng,
            start_s,
            first_s + growth_s * ahead,
            count,
            0,
            count,
            eng[CONTEXT] + count * (ahead + 1),
        )


@compiled
def advance(s: State, e: int, until_s: float) -> None:
    """Lets engine e work: it starts no step at or after until_s. Stops early when `HAND_BACK` is set."""
    eng = s.eng[e]
    s.misc[HAND_BACK] = 0
    while s.misc[HAND_BACK] == 0:
        start_s = next_action_s(s, e)
        if start_s >= until_s:
            return
        s.clock[e, CLOCK] = start_s
        if eng[RUNNING] == 0 and eng[WAIT_COUNT] == 0:
            s.clock[e, SEEN] = start_s
        take_arrivals(s, e)
        if eng[RUNNING] == 0 and eng[WAIT_COUNT] == 0:
            continue
        if not jump(s, e, until_s):
            step(s, e)
        if s.misc[LOGGING] and s.misc[LOGGED] == s.log.shape[0]:
            return


@inlined
def next_action_s(s: State, e: int) -> float:
    """When the engine may start its next step; inf when it has nothing to do."""
    if s.eng[e, RUNNING] > 0 or s.eng[e, WAIT_COUNT] > 0:
        return float(s.clock[e, CLOCK])
    return float(max(s.clock[e, CLOCK], next_arrival_s(s, e)))
