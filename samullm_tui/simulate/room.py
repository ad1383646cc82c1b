"""Compiled: KV blocks for the next step of one engine, and who is preempted when too few are free."""

from __future__ import annotations

from samullm_tui.simulate.prefixes import give_away
from samullm_tui.simulate.queues import before
from samullm_tui.simulate.requests import preempt, settle, unsettle
from samullm_tui.simulate.state import (
    BLOCK,
    BY_PRIORITY,
    COMPUTED,
    DECODED,
    FILLING,
    LEAVING,
    NEXT,
    PHASE,
    RUN_HEAD,
    RUN_TAIL,
    SETTLED,
    SHARING,
    USABLE,
    USED,
    WASTERS,
    WASTING,
    State,
    compiled,
    inlined,
)

__all__ = ["make_room", "park", "take_blocks", "unpark", "victim"]


@inlined
def take_blocks(s: State, e: int, count: int) -> None:
    """`count` free blocks are in use from now on."""
    s.eng[e, USED] += count
    if s.eng[e, SHARING]:
        give_away(s.option, s.cache[e], s.lru[:, e], s.eng[e], count)


@compiled
def victim(s: State, e: int, r: int) -> tuple[int, int]:
    """(the running request to preempt so that r gets a block, 1 when a token of it is scheduled in this step)."""
    eng = s.eng[e]
    if not eng[BY_PRIORITY]:
        return eng[RUN_TAIL], 0
    worst, ahead = -1, 0
    served = True
    other = eng[RUN_HEAD]
    while other >= 0:
        served &= other != r
        if worst < 0 or before(worst, other, s.req, s.times, s.priority, True):
            worst = other
            ahead = int(served and (s.req[other, PHASE] == SETTLED or s.req[other, PHASE] == WASTING))
        other = s.req[other, NEXT]
    return worst, ahead


@inlined
def needs_block(s: State, e: int, r: int) -> bool:
    """Whether the next token of a running request does not fit into the blocks that it has."""
    if s.req[r, PHASE] == SETTLED:
        return bool((s.req[r, COMPUTED] + s.eng[e, DECODED]) % s.eng[e, BLOCK] == 0)
    return bool(s.req[r, PHASE] == WASTING and s.req[r, COMPUTED] % s.eng[e, BLOCK] == 0)


@compiled
def make_room(s: State, e: int, need: int) -> tuple[bool, int, int]:
    """The `need` blocks for the next token of every request when not so many are free: in running order, others are
    preempted until there is one.

    Returns (whether a request preempted itself, then the first request after it, and how many settled after it go
    without this step).
    """
    eng = s.eng[e]
    if eng[BY_PRIORITY]:
        ended, after, parked = make_room_in_order(s, e)
        return ended, after, parked
    while need > eng[USABLE] - eng[USED]:
        free = eng[USABLE] - eng[USED]
        take_blocks(s, e, free)  # for those that stand first
        last = eng[RUN_TAIL]
        lacks = needs_block(s, e, last)
        preempt(s, e, last, 0)
        need -= free + lacks
        if lacks and need == 0:
            return True, -1, 0
    take_blocks(s, e, need)
    return False, -1, 0


@compiled
def make_room_in_order(s: State, e: int) -> tuple[bool, int, int]:
    """`make_room` where any request may be the one to preempt: block by block."""
    eng = s.eng[e]
    r = eng[RUN_HEAD]
    while r >= 0:
        if needs_block(s, e, r):
            while eng[USED] == eng[USABLE]:
                last, ahead = victim(s, e, r)
                after = s.req[r, NEXT]
                preempt(s, e, last, ahead)
                if last == r:
                    return True, after, park(s, e, after)
            take_blocks(s, e, 1)
        r = s.req[r, NEXT]
    return False, -1, 0


@compiled
def park(s: State, e: int, r: int) -> int:
    """From r on the running requests are not scheduled in this step. Returns how many of them were settled."""
    parked = 0
    while r >= 0:
        if s.req[r, PHASE] == SETTLED:
            unsettle(s, e, r)
            parked += 1
        elif s.req[r, PHASE] == WASTING:
            s.req[r, PHASE] = LEAVING
            s.eng[e, WASTERS] -= 1
        r = s.req[r, NEXT]
    return parked


@compiled
def unpark(s: State, e: int, r: int, parked: int) -> None:
    """The first `parked` unfinished requests from r on go on decoding with the next step."""
    while parked > 0:
        if s.req[r, PHASE] == FILLING:
            settle(s, e, r)
            parked -= 1
        r = s.req[r, NEXT]
