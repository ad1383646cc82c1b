"""An engine whose behaviour is drawn from a seed, and a bench to run a plan on such engines in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

import msgspec
import numpy as np

from samullm_tui.domain.errors import EngineError, EngineStartError, Problem
from samullm_tui.domain.event import AnyEvent, RequestFailed, RequestFinished
from samullm_tui.domain.plan import Band, Candidate, Placement, Plan, Replica, Stage
from samullm_tui.domain.request import RequestTable
from samullm_tui.engines.protocol import (
    Begun,
    Completion,
    EngineStats,
    GenerateRequest,
    PartialAnswerError,
    RequestRefusedError,
    Started,
)
from samullm_tui.engines.virtual_time import run_scaled
from samullm_tui.supervisor.actions import End
from samullm_tui.supervisor.gpu_gate import GpuGate
from samullm_tui.supervisor.ledger import Ledger
from samullm_tui.supervisor.outputs import ErrorRow, OutputRow
from samullm_tui.supervisor.perform import Runner
from samullm_tui.supervisor.reschedule import Rescheduler
from samullm_tui.supervisor.running import RunningState
from samullm_tui.supervisor.texts import Texts


@dataclass(frozen=True)
class Script:
    """Chances from 0 to 1 of each start, each request, and each second of an engine's life.

    `poison`: requests that kill the engine they come to. `fails_first`: a dying engine fails what it has in flight,
    and is seen to be dead a second later; else it is just gone. `hands_back`: chance that an engine that is stopped gives
    a request back with one token more.
    """

    seed: int = 0
    start_fails: float = 0.0
    attempt_fails: float = 0.0
    refuses: float = 0.0
    dies_within_s: float = inf
    ignores_cancelling: float = 0.0
    hands_back: float = 0.0
    max_in_flight: int = 3
    load_s: float = 5.0
    request_s: float = 2.0
    poison: frozenset[int] = frozenset()
    fails_first: bool = False


class World:
    """Knows which engines hold which GPUs, and sees to it that none is held twice."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.rng = np.random.default_rng(script.seed)
        self.holders: dict[int, str] = {}
        self.starts: Counter[str] = Counter()
        self.started_s: list[tuple[str, float]] = []
        self.most_in_flight = 0
        self.served: list[tuple[str, int]] = []
        self.died_with: list[int] = []
        self.handed_back: dict[str, int] = {}
        self.gone_on: list[tuple[str, int]] = []

    def make(self, replica: Replica) -> ScriptedEngine:
        return ScriptedEngine(self, replica)

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)


class ScriptedEngine:
    def __init__(self, world: World, replica: Replica) -> None:
        self.world = world
        self.replica = replica
        self.max_in_flight = world.script.max_in_flight
        self.in_flight = 0
        self.dead: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ending = asyncio.Event()
        self.is_stopping = False

    async def start(self) -> Started:
        world = self.world
        world.starts[self.replica.name] += 1
        world.started_s.append((self.replica.name, asyncio.get_running_loop().time()))
        for gpu in self.replica.gpus:
            assert gpu not in world.holders, f"GPU {gpu} is held by {world.holders[gpu]}"
            world.holders[gpu] = self.replica.name
        await asyncio.sleep(world.script.load_s * world.rng.uniform(0.5, 1.5))
        if world.chance(world.script.start_fails):
            raise EngineStartError(Problem("", self.replica.name, "out of memory"))
        if world.script.dies_within_s < inf:
            delay = world.rng.uniform(0, world.script.dies_within_s)
            asyncio.get_running_loop().call_later(delay, self._die)
        return Started(world.script.load_s, 100)

    async def generate(self, request: GenerateRequest) -> Completion:
        world = self.world
        begun = request.begun.output_tokens if request.begun else 0
        if begun:
            world.gone_on.append((request.prompt, begun))
        self.in_flight += 1
        world.most_in_flight = max(world.most_in_flight, self.in_flight)
        try:
            world.served.append((self.replica.name, request.prompt_tokens))
            if world.chance(world.script.refuses):
                raise RequestRefusedError(Problem("", "", "prompt too long"))
            if int(request.prompt.partition("(")[0]) in world.script.poison:
                self._begin_to_die()
            if await self._work():
                raise self._cut_short(request.prompt, begun)
        finally:
            self.in_flight -= 1
        if self.dead.done() or world.chance(world.script.attempt_fails):
            raise EngineError(Problem("", self.replica.name, "connection closed"))
        tokens = request.output_tokens or 1
        return Completion(
            text=f"out {request.prompt}",
            token_ids=None,
            finish_reason="stop",
            prompt_tokens=request.prompt_tokens,
            output_tokens=tokens,
            pieces=1 + (request.begun.pieces if request.begun else 0),
        )

    def _cut_short(self, prompt: str, begun: int) -> EngineError:
        if not self.is_stopping:
            return EngineError(Problem("", self.replica.name, "status 500"))
        problem = Problem("", self.replica.name, "stopped")
        if not self.world.chance(self.world.script.hands_back):
            return EngineError(problem)
        self.world.handed_back[prompt] = begun + 1
        return PartialAnswerError(problem, Begun(output_tokens=begun + 1, token_ids=(7,) * (begun + 1)))

    async def _work(self) -> bool:
        """Whether the engine ended before."""
        script = self.world.script
        try:
            async with asyncio.timeout(script.request_s * self.world.rng.uniform(0, 2)):
                await self.ending.wait()
            return True
        except TimeoutError:
            return False
        except asyncio.CancelledError:
            # An answer that was under way when the attempt was given up.
            if not self.world.chance(script.ignores_cancelling):
                raise
            return False

    async def stats(self) -> EngineStats:
        return EngineStats(running=min(self.in_flight, 1), waiting=max(0, self.in_flight - 1))

    async def stop(self) -> None:
        self.is_stopping = True
        ignores = self.world.script.ignores_cancelling
        if not (ignores and self.world.chance(ignores)):
            self.ending.set()
        await asyncio.sleep(self.world.rng.uniform(0, 1))
        for gpu in self.replica.gpus:
            if self.world.holders.get(gpu) == self.replica.name:
                del self.world.holders[gpu]

    async def failed(self) -> str:
        return await asyncio.shield(self.dead)

    def _begin_to_die(self) -> None:
        self.world.died_with.append(self.in_flight)
        if self.world.script.fails_first:
            self.ending.set()
            asyncio.get_running_loop().call_later(1.0, self._die)
        else:
            self._die()

    def _die(self) -> None:
        if not self.dead.done():
            self.dead.set_result("killed by the script")


@dataclass
class Tape:
    """A recorder that keeps everything."""

    events: list[AnyEvent] = field(default_factory=list)
    outputs: list[OutputRow] = field(default_factory=list)
    errors: list[ErrorRow] = field(default_factory=list)

    def emit(self, event: AnyEvent) -> None:
        self.events.append(event)

    def output(self, row: OutputRow, event: RequestFinished) -> None:
        self.outputs.append(row)
        self.events.append(event)

    def error(self, row: ErrorRow, event: RequestFailed) -> None:
        self.errors.append(row)
        self.events.append(event)

    def of(self, kind: type) -> list[AnyEvent]:
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class Outcome:
    end: End
    tape: Tape
    world: World
    state: RunningState
    texts: Texts


def table_of(
    llms: Sequence[str], requests: Sequence[tuple[str, Sequence[int]]], group: Sequence[int] = ()
) -> RequestTable:
    """`requests`: for each its LLM and the requests it takes the outputs of. A node for each LLM."""
    parents = [parent for _, sources in requests for parent in sources]
    starts = np.cumsum([0, *(len(sources) for _, sources in requests)])
    llm = np.array([llms.index(name) for name, _ in requests], dtype=np.int64)
    full = np.ones(len(requests), dtype=np.int64)
    return RequestTable(
        ids=[str(k) for k in range(len(requests))],
        records=[str(k) for k in range(len(requests))],
        llm_names=tuple(llms),
        node_names=tuple(f"node-{name}" for name in llms),
        llm=llm,
        node=llm,
        prompt_tokens=10 * full,
        max_tokens=100 * full,
        known_tokens=-full,
        group=np.array(group, dtype=np.int64) if group else -full,
        parent_start=starts.astype(np.int64),
        parents=np.array(parents, dtype=np.int64),
        fed=np.ones(len(parents), dtype=np.int64),
    )


def candidate_of(*stages: tuple[Sequence[Placement], Sequence[str]]) -> Candidate:
    made = tuple(Stage(tuple(placements), tuple(until)) for placements, until in stages)
    return Candidate(
        rank=1,
        plan=Plan(planner="test", stages=made),
        makespan_s=Band(100.0, 90.0, 100.0, 110.0),
        gap=0.1,
        gpu_hours=1.0,
        loads=1,
        stages=(),
        spans=(),
        explanation=(),
    )


def state_of(table: RequestTable, candidate: Candidate) -> RunningState:
    return RunningState(candidate, Ledger(table, np.full(len(table), 5, dtype=np.int64), {}, []))


def run_bench(
    state: RunningState,
    script: Script,
    *,
    gate: GpuGate | None = None,
    then: Callable[[Runner, Tape], None] | None = None,
    check: Callable[[RunningState], None] | None = None,
    rescheduler: Callable[[RunningState, Tape], Rescheduler] | None = None,
) -> Outcome:
    """Runs to the end in virtual time. `then` is called as soon as the run begins, `check` at each event."""
    tape = CheckedTape(state, check or (lambda _: None))
    world = World(script)

    def request(index: int, key: int, prompt_tokens: int, output_of: Callable[[int], str]) -> GenerateRequest:
        prompt = "+".join(output_of(int(parent)) for parent in state.ledger.table.parents_of(index))
        return GenerateRequest(
            key=key, prompt=f"{index}({prompt})", prompt_tokens=prompt_tokens, output_tokens=3
        )

    async def main() -> Outcome:
        loop = asyncio.get_running_loop()
        texts = Texts(state.ledger, None, {})  # type: ignore[arg-type]  # nothing was committed before
        runner = Runner(
            state,
            make_engine=world.make,
            make_request=request,
            texts=texts,
            recorder=tape,
            clock=loop.time,
            rng=np.random.default_rng(1),
            gate=gate,
            rescheduler=rescheduler(state, tape) if rescheduler else None,
        )
        if then:
            then(runner, tape)
        return Outcome(await runner.run(), tape, world, state, texts)

    return run_scaled(main(), inf)


class CheckedTape(Tape):
    def __init__(self, state: RunningState, check: Callable[[RunningState], None]) -> None:
        super().__init__()
        self._state, self._check = state, check

    def emit(self, event: AnyEvent) -> None:
        super().emit(event)
        self._check(self._state)
        assert len(self.events) < 10_000, "the run goes round in circles"


def encoded(events: Sequence[AnyEvent]) -> bytes:
    return msgspec.json.encode(events)
