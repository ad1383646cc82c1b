"""Compiled: the requests that an engine is still to see, by their arrival.

They come almost in that order: those stand in a list. A heap holds the few that come late.
"""

from __future__ import annotations

import numpy as np

from samullm_tui.simulate.queues import append, before, heap_push, heap_remove, unlink
from samullm_tui.simulate.state import (
    ARRIVALS,
    COME_HEAD,
    COME_TAIL,
    LATE_COUNT,
    PENDING_COUNT,
    POS,
    READY,
    SEGMENT,
    State,
    compiled,
    inlined,
)

__all__ = ["add_arrival", "drop_arrival", "first_arrival", "next_arrival_s"]


@compiled
def add_arrival(s: State, e: int, r: int) -> None:
    """R arrives at times[r, READY]. It is in no list."""
    eng = s.eng[e]
    last = eng[COME_TAIL]
    if last >= 0 and before(r, last, s.req, s.times, s.priority, False):
        late = s.lists[ARRIVALS, eng[SEGMENT] :]
        heap_push(late, eng[LATE_COUNT], r, s.req, s.times, s.priority, False)
        eng[LATE_COUNT] += 1
    else:
        s.req[r, POS] = -1
        append(s.req, eng, r, COME_HEAD, COME_TAIL)
    eng[PENDING_COUNT] += 1


@inlined
def first_arrival(s: State, e: int) -> int:
    """The request that arrives first, of at least one."""
    eng = s.eng[e]
    r = eng[COME_HEAD]
    if eng[LATE_COUNT] == 0:
        return int(r)
    late = s.lists[ARRIVALS, eng[SEGMENT]]
    return int(late if r < 0 or before(late, r, s.req, s.times, s.priority, False) else r)


@inlined
def next_arrival_s(s: State, e: int) -> float:
    """When the first of them arrives; inf when there is none."""
    return float(s.times[first_arrival(s, e), READY]) if s.eng[e, PENDING_COUNT] > 0 else np.inf


@compiled
def drop_arrival(s: State, e: int, r: int) -> None:
    """R, which has been added, is seen or taken away."""
    eng = s.eng[e]
    if s.req[r, POS] < 0:
        unlink(s.req, eng, r, COME_HEAD, COME_TAIL)
    else:
        heap_remove(s.lists[ARRIVALS, eng[SEGMENT] :], eng[LATE_COUNT], r, s.req, s.times, s.priority, False)
        eng[LATE_COUNT] -= 1
    eng[PENDING_COUNT] -= 1
