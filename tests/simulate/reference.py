"""The schedule written down plainly, one step at a time: what the compiled kernels are compared with."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from itertools import islice

from samullm_tui.latency.model import IterationLatency
from samullm_tui.simulate.config import EngineConfig


@dataclass(eq=False)
class Request:
    """`prefix` names the beginning that its prompt shares with others, `shared` tokens of it."""

    index: int
    arrival_s: float
    prompt: int
    output: int
    max_tokens: int | None = None
    prefix: int = -1
    shared: int = 0
    priority: int = 0
    tokens: int = 0
    computed: int = 0
    admitted: int = 0
    preemptions: int = 0
    blocks: list[int] = field(default_factory=list)
    scheduled_s: float | None = None
    first_token_s: float | None = None
    finish_s: float | None = None

    def __post_init__(self) -> None:
        self.tokens = self.prompt

    @property
    def rank(self) -> tuple[int, float, int]:
        return (self.priority, self.arrival_s, self.index)


class Pool:
    """KV blocks one by one: who holds them, what is cached in them, in which order free ones are given away."""

    def __init__(self, config: EngineConfig) -> None:
        self.size = config.block_size
        self.caching = config.prefix_caching
        self.free = deque(range(config.kv_blocks - 1))
        self.holders = [0] * len(self.free)
        self.content: dict[int, object] = {}
        self.copies: dict[object, list[int]] = {}

    def name(self, request: Request, index: int) -> object:
        """What the block holds: tokens that others have too, or only this request."""
        shared = min(request.shared, request.prompt) if request.prefix >= 0 else 0
        own = (index + 1) * self.size > shared
        return (request.index if own else None, None if own else request.prefix, index)

    def cached(self, request: Request) -> list[int]:
        """Blocks from the first on that need not be computed: the last token always is."""
        found: list[int] = []
        if self.caching:
            for index in range((request.tokens - 1) // self.size):
                copies = self.copies.get(self.name(request, index))
                if not copies:
                    break
                found.append(copies[0])
        return found

    def missing(self, request: Request, tokens: int) -> int:
        """Blocks to add so that the request holds `tokens` tokens."""
        return -(-tokens // self.size) - len(request.blocks)

    def hold(self, request: Request, blocks: list[int]) -> None:
        for block in blocks:
            if self.holders[block] == 0:
                self.free.remove(block)  # a new block stands first
            self.holders[block] += 1
        request.blocks += blocks

    def give(self, request: Request, count: int) -> None:
        blocks = list(islice(self.free, count))
        for block in blocks:
            if block in self.content:
                self.copies[self.content.pop(block)].remove(block)
        self.hold(request, blocks)

    def cache(self, request: Request, tokens: int) -> None:
        """Whole blocks of its first `tokens` tokens can be found from now on."""
        if self.caching:
            for index, block in enumerate(request.blocks[: tokens // self.size]):
                if block not in self.content:
                    self.content[block] = self.name(request, index)
                    self.copies.setdefault(self.content[block], []).append(block)

    def release(self, request: Request) -> None:
        """Its last block first. Blank blocks are given away before all others."""
        blank = []
        for block in reversed(request.blocks):
            self.holders[block] -= 1
            if self.holders[block] == 0:
                (self.free if block in self.content else blank).append(block)
        self.free.extendleft(reversed(blank))
        request.blocks = []


@dataclass
class Row:
    """One step, with the columns of the contract."""

    start_s: float
    duration_s: float
    num_seqs: int
    prefill_tokens: int
    decode_seqs: int
    context_tokens: int
    kv_blocks: int


@dataclass
class Reference:
    """vLLM's schedule: chunked prefill, whole prompts reserved, preemption by recompute, and the options."""

    config: EngineConfig
    latency: IterationLatency
    requests: Sequence[Request]
    now: float = 0.0
    seen: float = 0.0
    running: list[Request] = field(default_factory=list)
    waiting: deque[Request] = field(default_factory=deque)
    rows: list[Row] = field(default_factory=list)
    work: list[list[tuple[Request, int, int]]] = field(default_factory=list)
    preemptions: int = 0
    leaving: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = Pool(self.config)

    def run(self) -> None:
        coming = deque(sorted(self.requests, key=lambda r: (r.arrival_s, r.index)))
        while coming or self.waiting or self.running:
            if not self.waiting and not self.running:
                self.seen = self.now = max(self.now, coming[0].arrival_s)
            while coming and coming[0].arrival_s <= self.sight():
                self.waiting.append(coming.popleft())
            self.step()

    def sight(self) -> float:
        """What had arrived by then is known to the next schedule."""
        return self.seen if self.config.async_scheduling else self.now

    def by_priority(self) -> bool:
        return self.config.scheduling_policy == "priority"

    def stops_unforeseen(self, request: Request) -> bool:
        ends = request.prompt + request.output
        early = request.max_tokens is not None and request.output < request.max_tokens
        return early and ends < self.config.max_model_len

    def preempt(self, scheduled: list[tuple[Request, int]]) -> tuple[Request, int]:
        """The last by priority, or in running order, and its place; what was scheduled of it in this step is not."""
        victim = max(self.running, key=lambda r: r.rank) if self.by_priority() else self.running[-1]
        index = self.running.index(victim)
        del self.running[index]
        for entry in [entry for entry in scheduled if entry[0] is victim]:
            scheduled.remove(entry)
        self.pool.release(victim)
        victim.computed = 0
        self.preemptions += 1
        victim.preemptions += 1
        if victim in self.leaving:
            self.leaving.remove(victim)
        else:
            self.waiting.appendleft(victim)
        return victim, index

    def schedule_running(self) -> tuple[list[tuple[Request, int]], bool]:
        """(running requests with the tokens each computes, whether something was preempted)."""
        scheduled: list[tuple[Request, int]] = []
        preempted = self.preemptions
        place, budget = 0, self.config.max_num_batched_tokens
        while place < len(self.running):
            request = self.running[place]
            place += 1
            room = self.config.max_model_len - request.computed - 1
            count = min(request.tokens - request.computed, budget, room)
            if request in self.leaving:
                count = 1 if self.stops_unforeseen(request) else 0
            if count <= 0:
                continue
            need = self.pool.missing(request, request.computed + count)
            while need > len(self.pool.free):
                victim, index = self.preempt(scheduled)
                budget = self.config.max_num_batched_tokens - sum(n for _, n in scheduled)
                place -= index < place
                if victim is request:
                    return scheduled, True
            self.pool.give(request, need)
            scheduled.append((request, count))
            budget -= count
            self.cache(request, request.computed + count)
        return scheduled, self.preemptions > preempted

    def cache(self, request: Request, computed: int) -> None:
        """Asynchronous: the token before is not known yet, unless it is of the prompt."""
        late = self.config.async_scheduling and computed > request.admitted
        self.pool.cache(request, computed - late)

    def schedule(self) -> list[tuple[Request, int]]:
        scheduled, preempted = self.schedule_running()
        budget = self.config.max_num_batched_tokens - sum(n for _, n in scheduled)
        while not preempted and self.waiting and budget > 0 and len(self.running) < self.config.max_num_seqs:
            request = min(self.waiting, key=lambda r: r.rank) if self.by_priority() else self.waiting[0]
            cached = self.pool.cached(request)
            idle = sum(self.pool.holders[block] == 0 for block in cached)
            need = self.pool.missing(request, request.tokens) - len(cached)
            if need + idle > len(self.pool.free):
                break
            self.waiting.remove(request)
            self.pool.hold(request, cached)
            request.computed = len(cached) * self.config.block_size
            request.admitted = request.tokens
            count = min(request.tokens - request.computed, budget)
            self.pool.give(request, self.pool.missing(request, request.computed + count))
            self.running.append(request)
            scheduled.append((request, count))
            self.cache(request, request.computed + count)
            budget -= count
            if request.scheduled_s is None:
                request.scheduled_s = self.now
        return scheduled

    def step(self) -> None:
        preemptions, leaving = self.preemptions, len(self.leaving)
        scheduled = self.schedule()
        assert scheduled or leaving or self.preemptions > preemptions, "the engine is stuck"
        self.seen = self.now
        if scheduled:
            self.account(scheduled)
        self.let_go()
        for request, _ in scheduled:
            if request.computed == request.tokens and request.finish_s is None:
                self.add_token(request)

    def account(self, scheduled: list[tuple[Request, int]]) -> None:
        self.work.append([(r, r.computed, n) for r, n in scheduled])
        prefills = [(r, n) for r, n in scheduled if n > 1 or r.computed < r.prompt]
        decodes = [(r, n) for r, n in scheduled if not (n > 1 or r.computed < r.prompt)]
        prefill_context = sum(n * (r.computed + (n + 1) / 2) for r, n in prefills)
        seconds = self.latency.seconds(
            len(scheduled),
            sum(n for _, n in prefills),
            prefill_context,
            len(decodes),
            sum(r.computed + 1 for r, _ in decodes),
        )
        for request, count in scheduled:
            request.computed += count
        self.rows.append(
            Row(
                self.now,
                seconds,
                len(scheduled),
                sum(n for _, n in prefills),
                len(decodes),
                sum(r.computed for r, _ in scheduled),
                self.config.kv_blocks - 1 - len(self.pool.free),
            )
        )
        self.now += seconds

    def let_go(self) -> None:
        """Only now it is known who had finished before this step."""
        for request in self.leaving:
            self.pool.cache(request, min(request.computed, request.tokens - 1))
            self.pool.release(request)
            self.running.remove(request)
        self.leaving = []
        if self.config.async_scheduling and self.pool.caching:
            for request in self.running:
                self.pool.cache(request, max(min(request.computed, request.admitted), request.computed - 1))

    def go_on(self, now: float, assigned: Set[int]) -> None:
        """In the next stage: preempted requests that others serve now are gone, and all that has not begun comes anew."""
        self.now = max(now, self.now)
        gone = {r.index for r in self.waiting if r.index not in assigned}
        self.waiting = deque(r for r in self.waiting if r.scheduled_s is not None and r.index in assigned)
        for block, name in self.pool.content.items():
            if isinstance(name, tuple) and name[0] in gone:  # not found again, should they come back
                self.pool.copies[name].remove(block)
                self.pool.content[block] = block
                self.pool.copies[block] = [block]

    def add_token(self, request: Request) -> None:
        request.tokens += 1
        if request.first_token_s is None:
            request.first_token_s = self.now
        if request.tokens in {request.prompt + request.output, self.config.max_model_len}:
            request.finish_s = self.now
            if self.config.async_scheduling:
                self.leaving.append(request)
            else:
                self.pool.release(request)
                self.running.remove(request)
