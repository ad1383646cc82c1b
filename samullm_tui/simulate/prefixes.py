"""Compiled prefix cache of one engine: which blocks can be found again, and in which order they are given away.

Blocks that nobody holds are given away in this order: blank ones, then cached ones, least recently used first. Blocks
freed together come last block first, so a chain of shared blocks is always cached from its first block on.

What is left out: two requests may hold a copy each of one block (a prompt that ends with the block: its last token is
computed again). Only the first copy can be found by others here; in vLLM the second can, once the first is gone.
"""

from __future__ import annotations

from samullm_tui.simulate.state import (
    ADMITTED,
    AFTER,
    ASYNC,
    BEFORE,
    BLANK,
    BLOCK,
    COMPUTED,
    COUNT,
    ENGINE,
    HELD,
    I32,
    I64,
    IDLE,
    IDLE_FROM,
    LRU_HEAD,
    LRU_NODES,
    LRU_SPARE,
    LRU_TAIL,
    NODE,
    ORIGIN,
    OWNER,
    PREFIX,
    REFS,
    SHARED,
    SLOT,
    TOKENS,
    USABLE,
    USED,
    State,
    compiled,
)

__all__ = [
    "adopt",
    "cached_tokens",
    "found",
    "free_cached",
    "give_away",
    "publish",
    "read_back",
    "write_down",
]


@compiled
def link(lru: I64, eng: I64, count: int, owner: int, slot: int) -> int:
    """Puts cached blocks at the end, most recently used. Returns their node.

    Blocks that nobody can find again are one node with those like them that they follow: -1 when there is nothing
    before them either, as they are then as good as blank.
    """
    last = eng[LRU_TAIL]
    if owner < 0 and slot < 0:
        if last < 0:
            eng[BLANK] += count
            return -1
        if lru[last, OWNER] < 0 and lru[last, SLOT] < 0:
            lru[last, COUNT] += count
            return int(last)
    node = eng[LRU_SPARE]
    if node >= 0:
        eng[LRU_SPARE] = lru[node, AFTER]
    else:
        node = eng[LRU_NODES]
        eng[LRU_NODES] += 1
    lru[node, BEFORE] = last
    lru[node, AFTER] = -1
    if last >= 0:
        lru[last, AFTER] = node
    else:
        eng[LRU_HEAD] = node
    eng[LRU_TAIL] = node
    lru[node, COUNT] = count
    lru[node, OWNER] = owner
    lru[node, SLOT] = slot
    return int(node)


@compiled
def unlink_node(lru: I64, eng: I64, node: int) -> None:
    before = lru[node, BEFORE]
    after = lru[node, AFTER]
    if before >= 0:
        lru[before, AFTER] = after
    else:
        eng[LRU_HEAD] = after
    if after >= 0:
        lru[after, BEFORE] = before
    else:
        eng[LRU_TAIL] = before
    lru[node, AFTER] = eng[LRU_SPARE]
    eng[LRU_SPARE] = node


@compiled
def give_away(option: I32, cache: I64, lru: I64, eng: I64, count: int) -> None:
    """`count` free blocks, as many as there are at least, for something new: what was cached in them is forgotten."""
    blank = min(count, eng[BLANK])
    eng[BLANK] -= blank
    count -= blank
    while count > 0:
        node = eng[LRU_HEAD]
        taken = min(count, lru[node, COUNT])
        lru[node, COUNT] -= taken
        count -= taken
        if lru[node, COUNT] > 0:
            continue
        if lru[node, SLOT] >= 0:
            cache[lru[node, SLOT], REFS] = -1
        if lru[node, OWNER] >= 0:
            option[lru[node, OWNER], IDLE] = -1
        unlink_node(lru, eng, node)


@compiled
def free_cached(
    option: I32, cache: I64, lru: I64, eng: I64, r: int, computed: int, known: int, keep: bool
) -> None:
    """Frees the blocks of `computed` tokens of r, of which the first `known` tokens are cached by whole blocks.

    With `keep` r waits to go on, and can find its own blocks again.
    """
    block = eng[BLOCK]
    held = option[r, HELD]
    full = known // block
    blank = (computed + block - 1) // block - full
    eng[BLANK] += blank
    eng[USED] -= blank
    if full > held:
        node = link(lru, eng, full - held, r if keep else -1, -1)
        eng[USED] -= full - held
        if keep:
            option[r, IDLE] = node
            option[r, IDLE_FROM] = held
    for index in range(held - 1, -1, -1):
        slot = option[r, PREFIX] + index
        cache[slot, REFS] -= 1
        if cache[slot, REFS] == 0:
            cache[slot, NODE] = link(lru, eng, 1, -1, slot)
            eng[USED] -= 1
    option[r, HELD] = 0


@compiled
def sharable(req: I32, option: I32, eng: I64, r: int) -> int:
    """Whole blocks of its prompt that r shares, but for one that its last token ends: that is computed again."""
    return int(min(option[r, SHARED], req[r, ORIGIN] - 1) // eng[BLOCK])


@compiled
def found(req: I32, option: I32, cache: I64, lru: I64, eng: I64, r: int) -> tuple[int, int, int]:
    """(shared blocks that r finds cached, blocks of its own after them, how many of both nobody holds)."""
    most = (req[r, TOKENS] - 1) // eng[BLOCK]
    shared = idle = 0
    if option[r, PREFIX] >= 0:
        limit = min(sharable(req, option, eng, r), most)
        while shared < limit and cache[option[r, PREFIX] + shared, REFS] >= 0:
            idle += cache[option[r, PREFIX] + shared, REFS] == 0
            shared += 1
    own = 0
    node = option[r, IDLE]
    if node >= 0 and shared >= option[r, IDLE_FROM]:
        own = max(0, min(option[r, IDLE_FROM] + lru[node, COUNT], most) - shared)
    return shared, own, idle + own


@compiled
def adopt(option: I32, cache: I64, lru: I64, eng: I64, r: int, shared: int, own: int) -> None:
    """R takes what it `found`; nothing of it can be given away from now on."""
    for slot in range(option[r, PREFIX], option[r, PREFIX] + shared):
        if cache[slot, REFS] == 0:
            unlink_node(lru, eng, cache[slot, NODE])
            eng[USED] += 1
        cache[slot, REFS] += 1
    option[r, HELD] = shared
    node = option[r, IDLE]
    if node >= 0:
        option[r, IDLE] = -1
        eng[USED] += own
        lru[node, COUNT] -= own
        lru[node, OWNER] = -1
        if lru[node, COUNT] == 0:
            unlink_node(lru, eng, node)


@compiled
def publish(req: I32, option: I32, cache: I64, eng: I64, r: int) -> None:
    """The whole blocks that r has computed of what it shares can be found by others, from the same step on."""
    if option[r, PREFIX] < 0:
        return
    limit = min(sharable(req, option, eng, r), req[r, COMPUTED] // eng[BLOCK])
    while option[r, HELD] < limit and cache[option[r, PREFIX] + option[r, HELD], REFS] < 0:
        cache[option[r, PREFIX] + option[r, HELD], REFS] = 1
        option[r, HELD] += 1


@compiled
def write_down(s: State, e: int, served: I64, nodes: I64) -> int:
    """Reads what is cached and nobody holds, least recently used first, into `nodes`: blocks, owner and slot.

    Row i of the state is request served[i]. Returns how many there are.
    """
    i = 0
    node = s.eng[e, LRU_HEAD]
    while node >= 0:
        nodes[i, 0] = s.lru[node, e, COUNT]
        owner = s.lru[node, e, OWNER]
        nodes[i, 1] = served[owner] if owner >= 0 else -1
        nodes[i, 2] = s.lru[node, e, SLOT]
        i += 1
        node = s.lru[node, e, AFTER]
    return i


@compiled
def read_back(s: State, e: int, row_of: I64, nodes: I64) -> None:
    """Caches again what `write_down` read, after `cache` and BLANK are as they were.

    What is of a request that is on another engine now can be found by nobody.
    """
    eng = s.eng[e]
    free = eng[BLANK]
    for i in range(nodes.shape[0]):
        owner = row_of[nodes[i, 1]] if nodes[i, 1] >= 0 else -1
        if owner >= 0 and s.req[owner, ENGINE] != e:
            owner = -1
        node = link(s.lru[:, e], eng, nodes[i, 0], owner, nodes[i, 2])
        free += nodes[i, 0]
        if owner >= 0:
            s.option[owner, IDLE] = node
        if nodes[i, 2] >= 0:
            s.cache[e, nodes[i, 2], NODE] = node
    eng[USED] = eng[USABLE] - free


@compiled
def cached_tokens(option: I32, eng: I64, r: int, computed: int) -> int:
    """How many of the computed tokens of r, which has not finished, are cached: under asynchronous scheduling the
    last token is not known yet, unless it is of the prompt.
    """
    if eng[ASYNC]:
        return int(max(min(computed, option[r, ADMITTED]), computed - 1))
    return computed
