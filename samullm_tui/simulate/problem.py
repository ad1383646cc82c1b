"""What a plan is simulated for, and what simulating gives: plain data."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from samullm_tui.domain.errors import PlanError
from samullm_tui.domain.errors import Problem as Wrong
from samullm_tui.domain.pin import Pin
from samullm_tui.domain.plan import Replica, Span
from samullm_tui.domain.request import IntArray, RequestTable
from samullm_tui.latency.model import IterationLatency
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.graph import Links, links_of, prompts_of, units_of
from samullm_tui.simulate.options import SharedBlocks, share
from samullm_tui.simulate.state import DONE
from samullm_tui.simulate.work import EngineWork

__all__ = [
    "Beginning",
    "CacheState",
    "EngineState",
    "LLMModel",
    "PlanTrace",
    "Problem",
    "Progress",
    "ShapeModel",
    "StageTrace",
]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

KEPT = 16
"""Draws whose shared blocks are remembered."""
GUESS = 256
"""Output tokens of requests of which nothing is known: only how many they are makes a difference then."""


class ShapeModel(Struct, frozen=True):
    """An LLM at one tensor-parallel size: what a step costs, how long a start takes, how it is set up."""

    tp: int
    latency: IterationLatency
    load_s: float
    config: EngineConfig


class LLMModel(Struct, frozen=True):
    """An LLM in all its valid shapes."""

    name: str
    shapes: tuple[ShapeModel, ...]
    flops_per_token: float

    def shape(self, tp: int) -> ShapeModel:
        """Raises PlanError when the LLM has no shape of this size."""
        for shape in self.shapes:
            if shape.tp == tp:
                return shape
        sizes = ", ".join(str(shape.tp) for shape in self.shapes)
        raise PlanError(Wrong("", self.name, f"cannot run at tp {tp}", f"possible: {sizes or 'none'}"))


@dataclass(frozen=True)
class Problem:
    """All requests, the models of their LLMs (in the order of `table.llm_names`), and the GPUs.

    pins      what planners must respect, by LLM; a simulation has no use for them
    priority  [n] the lowest goes first, on engines that go by priority; None: all the same
    expected  [n] output tokens to expect of each request before anything runs; None: not known
    """

    table: RequestTable
    llms: tuple[LLMModel, ...]
    gpus: int
    islands: tuple[tuple[int, ...], ...]
    pins: Mapping[str, Pin] = field(default_factory=dict)
    priority: IntArray | None = None
    expected: IntArray | None = None

    @cached_property
    def links(self) -> Links:
        return links_of(self.table)

    @cached_property
    def units(self) -> IntArray:
        """For each request the number of its unit, from 0: requests with one number are served by one replica."""
        _, units = np.unique(units_of(self.table, self.links), return_inverse=True)
        return np.asarray(units, np.int64)

    @cached_property
    def chained(self) -> BoolArray:
        """[n] whether others are of the same unit."""
        return np.asarray(np.bincount(self.units)[self.units] > 1)

    @cached_property
    def expected_tokens(self) -> IntArray:
        """[n] `expected`; without it what the data says, and everywhere else the same."""
        if self.expected is not None:
            return self.expected
        table = self.table
        return np.where(table.known_tokens >= 0, table.known_tokens, np.minimum(table.max_tokens, GUESS))

    @cached_property
    def expected_prompts(self) -> IntArray:
        """[n] prompt tokens to expect, with the outputs that are fed."""
        return prompts_of(self.table, self.expected_tokens)

    @cached_property
    def prefix(self) -> IntArray | None:
        """[n] as the table's, -1 also for a prefix that one request alone has. None: no two requests share one."""
        given = self.table.prefix
        if given is None or self.table.prefix_tokens is None or not (given >= 0).any():
            return None
        _, which, times = np.unique(
            np.column_stack([self.table.llm, given]), axis=0, return_inverse=True, return_counts=True
        )
        shared = (given >= 0) & (times[which.reshape(-1)] > 1)
        return np.where(shared, given, -1) if shared.any() else None

    def shared(self, output_tokens: IntArray) -> SharedBlocks | None:
        """The blocks that requests have in common; what is fed to a prompt is part of it.

        The last few are kept, so that all stages of a plan, and plans on the same lengths, have them once.
        """
        table = self.table
        if self.prefix is None or table.prefix_tokens is None:
            return None
        block_size = min(shape.config.block_size for model in self.llms for shape in model.shapes)
        for lengths, size, blocks in tuple(self._shared):
            if lengths is output_tokens and size == block_size:
                return blocks
        blocks = share(self.prefix, table.prefix_tokens, prompts_of(table, output_tokens), block_size)
        self._shared.append((output_tokens, block_size, blocks))
        return blocks

    @cached_property
    def _shared(self) -> deque[tuple[IntArray, int, SharedBlocks | None]]:
        """(the lengths, the block size, what is shared): no more than are simulated at a time."""
        return deque(maxlen=KEPT)

    @cached_property
    def requests_of(self) -> tuple[IntArray, ...]:
        """The requests of each LLM, in the order of the table."""
        return tuple(np.flatnonzero(self.table.llm == llm) for llm in range(len(self.llms)))

    def with_llms(self, llms: tuple[LLMModel, ...]) -> Problem:
        """The same requests with other models of their LLMs. What was worked out of the requests is taken over."""
        other = replace(self, llms=llms)
        of_requests = {name: value for name, value in vars(self).items() if name not in vars(other)}
        vars(other).update(of_requests)
        return other

    def index(self, llm: str) -> int:
        """Raises PlanError for an LLM that the application does not have."""
        if llm not in self.table.llm_names:
            known = ", ".join(self.table.llm_names)
            raise PlanError(Wrong("", llm, "is no LLM of the application", f"one of {known}"))
        return self.table.llm_names.index(llm)


class CacheState(NamedTuple):
    """The prefix cache of a running engine between two stages.

    blank    free blocks with nothing in them
    refs     [slots] requests that hold each shared block, -1 where it is not cached
    nodes    [k, 3] what is cached and nobody holds, least recently used first: blocks, the preempted request that they
             are of or -1, the slot or -1
    options  [running + waiting, 7] the rows of `simulate.state`
    """

    blank: int
    refs: IntArray
    nodes: IntArray
    options: npt.NDArray[np.int32]


class EngineState(NamedTuple):
    """A running engine between two stages. It starts no step before `clock_s`.

    running   requests in their order, with `computed` tokens of each in the KV cache
    waiting   preempted requests, which stand first in the queue, in its order
    prompts   tokens of the prompts of running and waiting, as this engine got them
    assigned  unfinished requests dealt to it, those above included
    phases    `simulate.state`'s phase of each that runs: an asynchronous engine has finished ones among them
    seen_s    until when arrivals are seen by the next schedule of an asynchronous engine
    cache     of an engine with prefix caching; None there: not known but for what the running requests share
    """

    clock_s: float
    running: IntArray
    computed: IntArray
    waiting: IntArray
    prompts: IntArray
    assigned: IntArray
    phases: IntArray
    seen_s: float
    cache: CacheState | None = None

    @property
    def leaving(self) -> IntArray:
        """Requests that have finished and only keep their place for one more schedule."""
        return self.running[self.phases >= DONE]


@dataclass(frozen=True)
class Progress:
    """How far an application is. Arrays are indexed by request.

    done        whether it is finished
    generated   output tokens it has so far
    finish_s    when it finished, NaN before
    engines     state of the replicas that run now, so that a kept one goes on where it was
    unfinished  requests of each LLM that are not done, where somebody has counted them
    """

    done: BoolArray
    generated: IntArray
    finish_s: FloatArray
    engines: Mapping[Replica, EngineState] = field(default_factory=dict)
    unfinished: IntArray | None = None

    @classmethod
    def fresh(cls, problem: Problem) -> Progress:
        n = len(problem.table)
        return cls(np.zeros(n, np.bool_), np.zeros(n, np.int64), np.full(n, np.nan))

    def copy(self) -> Progress:
        """Own arrays; engine states are never changed and are shared."""
        arrays = (self.done.copy(), self.generated.copy(), self.finish_s.copy())
        return Progress(*arrays, dict(self.engines))

    @property
    def finished(self) -> bool:
        return bool(self.done.all())

    @property
    def refused(self) -> int:
        """Requests whose prompt left no room in the context: they end at once, without a token."""
        return int(np.count_nonzero(self.done & (self.generated == 0)))

    def left(self, problem: Problem) -> IntArray:
        """Unfinished requests of each LLM."""
        if self.unfinished is not None:
            return self.unfinished
        return np.bincount(problem.table.llm[~self.done], minlength=len(problem.llms)).astype(np.int64)


@dataclass(frozen=True)
class Beginning:
    """Where a simulation begins: how far everything is, which replicas serve or load, and the time."""

    progress: Progress
    running: frozenset[Replica] = frozenset()
    at_s: float = 0.0

    @classmethod
    def fresh(cls, problem: Problem) -> Beginning:
        """Nothing done and nothing running."""
        return cls(Progress.fresh(problem))

    def copy(self) -> Beginning:
        """With arrays of its own."""
        return replace(self, progress=self.progress.copy())


@dataclass(frozen=True)
class StageTrace:
    """One stage simulated. `progress` is what holds at its end.

    llm_finish_s  LLMs whose last request finished in this stage, and when
    gpu_busy_s    GPU-seconds of loads and steps
    replicas      what runs at the end: the next stage's `warm`
    work          what each engine did; empty when the stage did not take place
    """

    start_s: float
    end_s: float
    progress: Progress
    spans: tuple[Span, ...]
    llm_finish_s: dict[str, float]
    loads: int
    gpu_busy_s: float
    replicas: frozenset[Replica]
    work: tuple[EngineWork, ...] = ()


@dataclass(frozen=True)
class PlanTrace:
    """A whole plan simulated. `stage_times`, `kept` and `work` have one entry for each stage of the plan.

    kept  for each stage, for each of its placements: whether all its replicas were running before
    """

    makespan_s: float
    stage_times: tuple[tuple[float, float], ...]
    spans: tuple[Span, ...]
    loads: int
    gpu_busy_s: float
    finish_s: FloatArray
    kept: tuple[tuple[bool, ...], ...]
    refused: int
    work: tuple[tuple[EngineWork, ...], ...]
