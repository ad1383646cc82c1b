"""The schedule written down plainly, one step at a time: what the compiled kernels are compared with."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from samullm_tui.latency.model import IterationLatency
from samullm_tui.simulate.config import EngineConfig


@dataclass(eq=False)
class Request:
    index: int
    arrival_s: float
    prompt: int
    output: int
    tokens: int = 0
    computed: int = 0
    blocks: int = 0
    scheduled_s: float | None = None
    first_token_s: float | None = None
    finish_s: float | None = None

    def __post_init__(self) -> None:
        self.tokens = self.prompt


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
    """FCFS, synchronous, chunked prefill, whole prompts reserved, preemption by recompute."""

    config: EngineConfig
    latency: IterationLatency
    requests: Sequence[Request]
    now: float = 0.0
    running: list[Request] = field(default_factory=list)
    waiting: deque[Request] = field(default_factory=deque)
    rows: list[Row] = field(default_factory=list)
    preemptions: int = 0

    def run(self) -> None:
        coming = deque(sorted(self.requests, key=lambda r: (r.arrival_s, r.index)))
        while coming or self.waiting or self.running:
            if not self.waiting and not self.running:
                self.now = max(self.now, coming[0].arrival_s)
            while coming and coming[0].arrival_s <= self.now:
                self.waiting.append(coming.popleft())
            self.step()

    def free(self) -> int:
        return self.config.kv_blocks - 1 - sum(r.blocks for r in self.running)

    def missing(self, request: Request, tokens: int) -> int:
        """Blocks to add so that the request holds `tokens` tokens."""
        return -(-tokens // self.config.block_size) - request.blocks

    def schedule(self) -> tuple[list[tuple[Request, int]], bool]:
        """(requests of this step with the tokens each computes, whether something was preempted)."""
        budget = self.config.max_num_batched_tokens
        scheduled: list[tuple[Request, int]] = []
        preempted = False
        place = 0
        while place < len(self.running) and budget > 0:
            request = self.running[place]
            room = self.config.max_model_len - request.computed - 1
            count = min(request.tokens - request.computed, budget, room)
            stopped = False
            while self.missing(request, request.computed + count) > self.free():
                victim = self.running.pop()
                victim.blocks = victim.computed = 0
                self.waiting.appendleft(victim)
                self.preemptions += 1
                preempted = True
                if victim is request:
                    stopped = True
                    break
            if stopped:
                break
            request.blocks += self.missing(request, request.computed + count)
            scheduled.append((request, count))
            budget -= count
            place += 1
        while not preempted and self.waiting and budget > 0 and len(self.running) < self.config.max_num_seqs:
            request = self.waiting[0]
            if self.missing(request, request.tokens) > self.free():
                break
            self.waiting.popleft()
            count = min(request.tokens, budget)
            request.blocks = self.missing(request, count)
            self.running.append(request)
            scheduled.append((request, count))
            budget -= count
            if request.scheduled_s is None:
                request.scheduled_s = self.now
        return scheduled, preempted

    def step(self) -> None:
        scheduled, _ = self.schedule()
        assert scheduled, "the engine is stuck"
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
                sum(r.blocks for r in self.running),
            )
        )
        self.now += seconds
        for request, _ in scheduled:
            if request.computed == request.tokens:
                self.add_token(request)

    def add_token(self, request: Request) -> None:
        request.tokens += 1
        if request.first_token_s is None:
            request.first_token_s = self.now
        if request.tokens in {request.prompt + request.output, self.config.max_model_len}:
            request.finish_s = self.now
            self.running.remove(request)
