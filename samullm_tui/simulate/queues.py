"""Compiled queues over request rows: binary heaps that know where each member stands, and linked lists."""

from __future__ import annotations

from samullm_tui.simulate.state import F64, I32, I64, NEXT, ORDER, POS, PREV, READY, compiled

__all__ = ["append", "before", "heap_push", "heap_remove", "prepend", "unlink"]


@compiled
def before(a: int, b: int, req: I32, times: F64, priority: I64, by_priority: bool) -> bool:
    """Lower priority first where that counts, then the earlier arrival, then in the order of the requests."""
    if by_priority and priority[a] != priority[b]:
        return bool(priority[a] < priority[b])
    if times[a, READY] != times[b, READY]:
        return bool(times[a, READY] < times[b, READY])
    return bool(req[a, ORDER] < req[b, ORDER])


@compiled
def sift_up(heap: I64, place: int, req: I32, times: F64, priority: I64, by_priority: bool) -> int:
    """Moves the member at `place` towards the root; returns where it stands then."""
    item = heap[place]
    while place > 0:
        parent = (place - 1) >> 1
        if not before(item, heap[parent], req, times, priority, by_priority):
            break
        heap[place] = heap[parent]
        req[heap[place], POS] = place
        place = parent
    heap[place] = item
    req[item, POS] = place
    return place


@compiled
def sift_down(
    heap: I64, count: int, place: int, req: I32, times: F64, priority: I64, by_priority: bool
) -> None:
    item = heap[place]
    while True:
        child = 2 * place + 1
        if child >= count:
            break
        if child + 1 < count and before(heap[child + 1], heap[child], req, times, priority, by_priority):
            child += 1
        if not before(heap[child], item, req, times, priority, by_priority):
            break
        heap[place] = heap[child]
        req[heap[place], POS] = place
        place = child
    heap[place] = item
    req[item, POS] = place


@compiled
def heap_push(
    heap: I64, count: int, item: int, req: I32, times: F64, priority: I64, by_priority: bool
) -> None:
    """`count` is the number of members before."""
    heap[count] = item
    sift_up(heap, count, req, times, priority, by_priority)


@compiled
def heap_remove(
    heap: I64, count: int, item: int, req: I32, times: F64, priority: I64, by_priority: bool
) -> None:
    """`count` is the number of members before."""
    place = req[item, POS]
    last = heap[count - 1]
    req[item, POS] = -1
    if last != item:
        heap[place] = last
        if sift_up(heap, place, req, times, priority, by_priority) == place:
            sift_down(heap, count - 1, place, req, times, priority, by_priority)


@compiled
def append(req: I32, ends: I64, r: int, head: int, tail: int, prev: int = PREV, after: int = NEXT) -> None:
    """Puts r at the end of the list whose first and last are ends[head] and ends[tail], columns `prev` and `after`
    of its members their neighbours.
    """
    last = ends[tail]
    req[r, prev] = last
    req[r, after] = -1
    if last >= 0:
        req[last, after] = r
    else:
        ends[head] = r
    ends[tail] = r


@compiled
def prepend(req: I32, ends: I64, r: int, head: int, tail: int) -> None:
    first = ends[head]
    req[r, NEXT] = first
    req[r, PREV] = -1
    if first >= 0:
        req[first, PREV] = r
    else:
        ends[tail] = r
    ends[head] = r


@compiled
def unlink(req: I32, ends: I64, r: int, head: int, tail: int, prev: int = PREV, after: int = NEXT) -> None:
    left = req[r, prev]
    right = req[r, after]
    if left >= 0:
        req[left, after] = right
    else:
        ends[head] = right
    if right >= 0:
        req[right, prev] = left
    else:
        ends[tail] = left
    req[r, prev] = -1
    req[r, after] = -1
