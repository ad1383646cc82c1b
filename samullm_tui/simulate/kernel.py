"""The compiled schedule of one engine: vLLM's FCFS scheduler, synchronous, chunked prefill, preemption by recompute.

`step` is one engine step. `jump` does many steps at once when all that happens in them is that every running request
decodes. `advance` goes on with either until a time. All counts are those of stepping one by one.
"""

from __future__ import annotations

import numpy as np

from samullm_tui.latency.model import DECODE_CONTEXT, iteration_s
from samullm_tui.simulate.queues import append, unlink
from samullm_tui.simulate.requests import blocks, finish_settled, preempt, take_arrivals, token
from samullm_tui.simulate.state import (
    ARRIVALS,
    BLOCK,
    BUDGET,
    BUSY,
    CLOCK,
    COMPUTED,
    CONTEXT,
    DECODED,
    F64,
    FILLING,
    HAND_BACK,
    I64,
    ITERATIONS,
    KEY,
    LOGGED,
    LOGGING,
    MAX_SEQS,
    NEXT,
    PENDING_COUNT,
    PENDING_START,
    PHASE,
    PREEMPTIONS,
    PROMPT,
    READY,
    RUN_HEAD,
    RUN_TAIL,
    RUNNING,
    SCHEDULED,
    SETTLED,
    SETTLED_COUNT,
    TOKENS,
    USABLE,
    USED,
    WAIT_COUNT,
    WAIT_HEAD,
    WAIT_TAIL,
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
def make_room(s: State, e: int) -> bool:
    """Blocks for the settled requests when not all that are needed are free: in running order, the last of the
    running requests is preempted until there is one. Returns whether a request preempted itself.
    """
    eng = s.eng[e]
    r = eng[RUN_HEAD]
    while r >= 0:
        if s.req[r, PHASE] == SETTLED and (s.req[r, COMPUTED] + eng[DECODED]) % eng[BLOCK] == 0:
            while eng[USED] == eng[USABLE]:
                last = eng[RUN_TAIL]
                preempt(s, e, last)
                if last == r:
                    return True
            eng[USED] += 1
        r = s.req[r, NEXT]
    return False


@inlined
def admit(s: State, e: int, budget: int) -> tuple[int, int, float]:
    """Takes requests from the queue while there are budget, places and blocks.

    The head is admitted only if its whole present length fits into the free blocks; else it blocks the rest.
    Returns (the first admitted request or -1, prefill tokens, prefill context).
    """
    eng = s.eng[e]
    now = s.clock[e, CLOCK]
    first, taken, context = -1, 0, 0.0
    while eng[WAIT_COUNT] > 0 and taken < budget and eng[RUNNING] < eng[MAX_SEQS]:
        r = eng[WAIT_HEAD]
        if blocks(s.req[r, TOKENS], eng[BLOCK]) > eng[USABLE] - eng[USED]:
            break
        unlink(s.req, eng, r, WAIT_HEAD, WAIT_TAIL)
        eng[WAIT_COUNT] -= 1
        append(s.req, eng, r, RUN_HEAD, RUN_TAIL)
        eng[RUNNING] += 1
        chunk = min(s.req[r, TOKENS], budget - taken)
        taken += chunk
        context += 0.5 * chunk * (chunk + 1)
        s.req[r, COMPUTED] = chunk
        s.req[r, PHASE] = FILLING
        eng[USED] += blocks(chunk, eng[BLOCK])
        if np.isnan(s.times[r, SCHEDULED]):
            s.times[r, SCHEDULED] = now
        if first < 0:
            first = r
    return first, taken, context


@compiled
def fill(s: State, e: int, budget: int) -> tuple[int, int, float, int]:
    """The next chunk of the one running request whose prompt is not yet computed: it stands last.

    Returns (the request or -1, prefill tokens, prefill context, decodes): a chunk of one token past the prompt
    counts as a decode. Without room for the chunk the request preempts itself.
    """
    eng = s.eng[e]
    r = eng[RUN_TAIL]
    before = s.req[r, COMPUTED]
    chunk = min(s.req[r, TOKENS] - before, budget)
    need = blocks(before + chunk, eng[BLOCK]) - blocks(before, eng[BLOCK])
    if need > eng[USABLE] - eng[USED]:
        preempt(s, e, r)
        return -1, 0, 0.0, 0
    eng[USED] += need
    s.req[r, COMPUTED] += chunk
    if chunk == 1 and before >= s.req[r, PROMPT]:
        return r, 0, 0.0, 1
    return r, chunk, chunk * (before + 0.5 * (chunk + 1)), 0


@inlined
def step(s: State, e: int) -> None:
    """One engine step, with something running or waiting."""
    eng = s.eng[e]
    preemptions = eng[PREEMPTIONS]
    need = crossing(s.hist[e], eng, 0)
    ended = False
    if need <= eng[USABLE] - eng[USED]:
        eng[USED] += need
    else:
        ended = make_room(s, e)
    settled = eng[SETTLED_COUNT]
    budget = eng[BUDGET] - settled
    fresh, prefill_tokens, prefill_context, decodes = -1, 0, 0.0, 0
    decode_context = eng[CONTEXT] + settled
    if not ended and eng[RUNNING] > settled:
        fresh, prefill_tokens, prefill_context, decodes = fill(s, e, budget)
        budget -= prefill_tokens + decodes
        if decodes:
            decode_context += s.req[fresh, COMPUTED]
    if eng[PREEMPTIONS] == preemptions:
        admitted, chunks, context = admit(s, e, budget)
        prefill_tokens += chunks
        prefill_context += context
        if fresh < 0:
            fresh = admitted
    end_step(s, e, settled, fresh, prefill_tokens, prefill_context, settled + decodes, decode_context)


@inlined
def end_step(
    s: State,
    e: int,
    settled: int,
    fresh: int,
    prefill_tokens: int,
    prefill_context: float,
    decodes: int,
    decode_context: int,
) -> None:
    """The step takes its time; then every request whose tokens are all computed gets one token.

    `fresh` is the first running request that is not settled; those after it are not either.
    """
    eng = s.eng[e]
    seconds = iteration_s(
        s.latency[e], eng[RUNNING], prefill_tokens, prefill_context, decodes, float(decode_context)
    )
    if s.misc[LOGGING]:
        context = eng[CONTEXT] + settled
        r = fresh
        while r >= 0:
            context += s.req[r, COMPUTED]
            r = s.req[r, NEXT]
        log_step(s.log, s.misc, eng, s.clock[e, CLOCK], seconds, prefill_tokens, decodes, context)
    s.clock[e, CLOCK] += seconds
    s.clock[e, BUSY] += seconds
    eng[ITERATIONS] += 1
    eng[DECODED] += 1
    eng[CONTEXT] += settled
    now = s.clock[e, CLOCK]
    finish_settled(s, e, now)
    r = fresh
    while r >= 0:
        after = s.req[r, NEXT]
        if s.req[r, COMPUTED] == s.req[r, TOKENS]:
            token(s, e, r, now)
        r = after


@compiled
def log_step(
    log: F64,
    misc: I64,
    eng: I64,
    start_s: float,
    seconds: float,
    prefill_tokens: int,
    decodes: int,
    context: int,
) -> None:
    row = log[misc[LOGGED]]
    row[0] = start_s
    row[1] = seconds
    row[2] = eng[RUNNING]
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
    if eng[SETTLED_COUNT] * (whole + 1) <= free:
        taken = eng[SETTLED_COUNT] * whole
        for ahead in range(steps % block):
            taken += crossing(hist, eng, ahead)
        return steps, taken
    taken = 0
    for ahead in range(steps):
        need = crossing(hist, eng, ahead)
        if taken + need > free:
            return ahead, taken
        taken += need
    return steps, taken


@inlined
def jump_limit_s(s: State, e: int, until_s: float) -> float:
    """Steps that start before this time are pure decodes as long as nothing finishes; -inf: not even the next."""
    eng = s.eng[e]
    full = eng[RUNNING] == eng[MAX_SEQS] or eng[RUNNING] == eng[BUDGET]
    if eng[RUNNING] == 0 or eng[RUNNING] > eng[SETTLED_COUNT]:
        return -np.inf
    if full:
        return until_s
    if eng[WAIT_COUNT] > 0:
        need = blocks(s.req[eng[WAIT_HEAD], TOKENS], eng[BLOCK])
        return -np.inf if need <= eng[USABLE] - eng[USED] - crossing(s.hist[e], eng, 0) else until_s
    if eng[PENDING_COUNT] > 0:
        return float(min(until_s, s.times[s.lists[ARRIVALS, eng[PENDING_START]], READY]))
    return until_s


@inlined
def jump(s: State, e: int, until_s: float) -> bool:
    """Many decode steps at once, up to the first finish. False: the next step is not of that kind."""
    limit_s = jump_limit_s(s, e, until_s)
    if limit_s == -np.inf:
        return False
    eng = s.eng[e]
    count = eng[RUNNING]
    most = int(s.times[s.ends[e, 0], KEY]) - eng[DECODED]
    if s.misc[LOGGING]:
        most = min(most, s.log.shape[0] - s.misc[LOGGED])
    context = eng[CONTEXT] + count
    first_s = iteration_s(s.latency[e], count, 0, 0.0, count, float(context))
    growth_s = s.latency[e, DECODE_CONTEXT] * count
    start_s = s.clock[e, CLOCK]
    steps, taken = steps_with_blocks(s.hist[e], eng, steps_until(start_s, limit_s, first_s, growth_s, most))
    if steps == 0:
        return False
    if s.misc[LOGGING]:
        log_jump(s, e, steps, first_s, growth_s)
    else:
        eng[USED] += taken
    seconds = elapsed_s(first_s, growth_s, steps)
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
        eng[USED] += crossing(s.hist[e], eng, ahead)
        start_s = s.clock[e, CLOCK] + elapsed_s(first_s, growth_s, ahead)
        log_step(
            s.log,
            s.misc,
            eng,
            start_s,
            first_s + growth_s * ahead,
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
    if s.eng[e, PENDING_COUNT] > 0:
        return float(max(s.clock[e, CLOCK], s.times[s.lists[ARRIVALS, s.eng[e, PENDING_START]], READY]))
    return np.inf
