"""Compiled queues over request rows: binary heaps that know where each member stands, and linked lists."""

from __future__ import annotations

from samullm_tui.simulate.state import F64, I64, KEY, NEXT, ORDER, POS, PREV, TIE, compiled

__all__ = ["append", "heap_pop", "heap_push", "heap_remove", "prepend", "unlink"]


@compiled
def before(a: int, b: int, req: I64, times: F64) -> bool:
    """Lower key first, then lower tie, then in the order of the requests."""
    if times[a, KEY] != times[b, KEY]:
        return bool(times[a, KEY] < times[b, KEY])
    if times[a, TIE] != times[b, TIE]:
        return bool(times[a, TIE] < times[b, TIE])
    return bool(req[a, ORDER] < req[b, ORDER])


@compiled
def sift_up(heap: I64, place: int, req: I64, times: F64) -> int:
    """Moves the member at `place` towards the root; returns where it stands then."""
    item = heap[place]
    while place > 0:
        parent = (place - 1) >> 1
        if not before(item, heap[parent], req, times):
            break
        heap[place] = heap[parent]
        req[heap[place], POS] = place
        place = parent
    heap[place] = item
    req[item, POS] = place
    return place


@compiled
def sift_down(heap: I64, count: int, place: int, req: I64, times: F64) -> None:
    item = heap[place]
    while True:
        child = 2 * place + 1
        if child >= count:
            break
        if child + 1 < count and before(heap[child + 1], heap[child], req, times):
            child += 1
        if not before(heap[child], item, req, times):
            break
        heap[place] = heap[child]
        req[heap[place], POS] = place
        place = child
    heap[place] = item
    req[item, POS] = place


@compiled
def heap_push(heap: I64, count: int, item: int, req: I64, times: F64) -> None:
    """`count` is the number of members before."""
    heap[count] = item
    sift_up(heap, count, req, times)


@compiled
def heap_remove(heap: I64, count: int, item: int, req: I64, times: F64) -> None:
    """`count` is the number of members before."""
    place = req[item, POS]
    last = heap[count - 1]
    req[item, POS] = -1
    if last != item:
        heap[place] = last
        if sift_up(heap, place, req, times) == place:
            sift_down(heap, count - 1, place, req, times)


@compiled
def heap_pop(heap: I64, count: int, req: I64, times: F64) -> int:
    top = heap[0]
    heap_remove(heap, count, top, req, times)
    return int(top)


@compiled
def append(req: I64, eng: I64, r: int, head: int, tail: int) -> None:
    """Puts r at the end of the list whose ends are columns `head` and `tail` of the engine."""
    last = eng[tail]
    req[r, PREV] = last
    req[r, NEXT] = -1
    if last >= 0:
        req[last, NEXT] = r
    else:
        eng[head] = r
    eng[tail] = r


@compiled
def prepend(req: I64, eng: I64, r: int, head: int, tail: int) -> None:
    first = eng[head]
    req[r, NEXT] = first
    req[r, PREV] = -1
    if first >= 0:
        req[first, PREV] = r
    else:
        eng[tail] = r
    eng[head] = r


@compiled
def unlink(req: I64, eng: I64, r: int, head: int, tail: int) -> None:
    prev = req[r, PREV]
    after = req[r, NEXT]
    if prev >= 0:
        req[prev, NEXT] = after
    else:
        eng[head] = after
    if after >= 0:
        req[after, PREV] = prev
    else:
        eng[tail] = prev
    req[r, PREV] = -1
    req[r, NEXT] = -1
