"""Runs an approved plan: decide, act, record, until the run ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

import numpy as np

from samullm_tui.domain.errors import EngineError
from samullm_tui.domain.event import (
    Decided,
    Decision,
    EngineFailed,
    EngineReady,
    EngineStarting,
    EngineStopped,
    GpuQuarantined,
    StageStarted,
)
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.protocol import Engine, EngineStats, Started
from samullm_tui.simulate.dealing import Rates
from samullm_tui.supervisor.actions import (
    Deal,
    End,
    EnterStage,
    GiveUp,
    MoveBack,
    Note,
    Send,
    StartEngine,
    Step,
    StopEngine,
)
from samullm_tui.supervisor.asking import GAVE_UP, KILLS, Asking, Clock, MakeRequest, Recorder
from samullm_tui.supervisor.decide import decide
from samullm_tui.supervisor.fleet import Fleet, MakeEngine
from samullm_tui.supervisor.gpu_gate import GpuGate
from samullm_tui.supervisor.in_flight import InFlight
from samullm_tui.supervisor.lanes import BY_TOKENS
from samullm_tui.supervisor.reschedule import Rescheduler
from samullm_tui.supervisor.running import EngineState, RunningState
from samullm_tui.supervisor.texts import Texts

__all__ = ["MAX_STARTS", "Runner"]

MAX_STARTS = 3
"""How often an engine is started without finishing a request before it is given up."""

BACK_OFF_S = 2.0


class Runner:
    """One run from its first stage to its end, on the running event loop. `rng` spreads restarts.

    `gate`: what keeps engines off GPUs that are in use; without one they may start anywhere. `rates`: what the work of a
    replica takes; without them all tokens take as long. `rescheduler`: what may replace the plan; without one it stays.
    """

    def __init__(
        self,
        state: RunningState,
        *,
        make_engine: MakeEngine,
        make_request: MakeRequest,
        texts: Texts,
        recorder: Recorder,
        clock: Clock,
        rng: np.random.Generator,
        gate: GpuGate | None = None,
        rates: Callable[[Replica], Rates] = lambda _: BY_TOKENS,
        rescheduler: Rescheduler | None = None,
    ) -> None:
        self.state = state
        self.rescheduler = rescheduler
        self.activity = asyncio.Event()
        """Set whenever an engine is given something to do."""
        self._parts = (make_engine, make_request, texts)
        self._gate = gate or GpuGate(None)
        self._rates = rates
        self._recorder = recorder
        self._clock = clock
        self._rng = rng
        self._woken = asyncio.Event()
        self._fleet: Fleet
        self._asking: Asking
        self._tasks: asyncio.TaskGroup

    async def run(self) -> End:
        """Returns how the run ended. No engine is left on return, nor when it raises."""
        make_engine, make_request, texts = self._parts
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._fleet = Fleet(make_engine, self._gate, self, tasks)
            self._asking = Asking(
                self.state,
                make_request=make_request,
                texts=texts,
                recorder=self._recorder,
                clock=self._clock,
                tasks=tasks,
                wake=self.wake,
            )
            try:
                return await self._until_the_end()
            finally:
                await self._fleet.stop_all()
                if self.rescheduler:
                    await self.rescheduler.close()

    def wake(self) -> None:
        """Something happened: decide again."""
        self._woken.set()

    def wish(self, wish: Literal["run", "pause", "drain", "stop"]) -> None:
        self.state.wish = wish
        self.wake()

    def trouble(self, text: str) -> None:
        """Why nothing can be recorded now, and "" when that is over."""
        self.state.trouble = text
        self.wake()

    def is_busy(self) -> bool:
        """Whether any engine loads or works."""
        return bool(self.state.ledger.in_flight) or any(
            e.status == "loading" for e in self.state.engines.values()
        )

    def engines(self) -> list[Engine]:
        """The serving engines."""
        return [self._fleet.engine(name) for name, e in self.state.engines.items() if e.status == "serving"]

    def output_tokens(self, replica: str) -> int:
        """Tokens of the requests that this replica finished."""
        return self._asking.output_tokens.get(replica, 0)

    def observe(self, replica: Replica, stats: EngineStats) -> None:
        """What a serving engine says of itself: from now on it may be given more or less at a time."""
        lane, engine = self.state.ledger.lanes.of.get(replica.name), self.state.engines.get(replica.name)
        if lane and lane.serving and engine and engine.in_flight:
            lane.capacity = engine.in_flight.after(len(lane.sent), stats)
            self.wake()

    async def _until_the_end(self) -> End:
        for request, source in self.state.ledger.orphans():
            self._asking.fail_dependent(request, source)
        if self.rescheduler:
            self.rescheduler.begin(self, self._tasks)
        while True:
            self._woken.clear()
            if self.rescheduler:
                self.rescheduler.look()
            for action in decide(self.state, self._clock()):
                if isinstance(action, End):
                    if self.rescheduler:
                        self.rescheduler.ended(whole=not self.state.ledger.open_requests)
                    return action
                self._perform(action)
            await self._woken.wait()

    def _perform(self, action: Step) -> None:
        match action:
            case Send(request, replica):
                self.activity.set()
                self._asking.send(request, self._fleet.engine(replica))
                return
            case Deal(request, replica):
                self.state.ledger.lanes.deal(request, replica)
            case EnterStage(index):
                self._enter(index)
            case Note(decision):
                self._recorder.emit(Decided(at_s=self._clock(), decision=decision))
            case StartEngine(replica):
                self._start(replica)
            case StopEngine(replica, reason):
                self._stop(replica, reason)
            case GiveUp(llm, cause):
                self._asking.fail_all(llm, f"{GAVE_UP} {cause}")
            case MoveBack(replica, requests):
                self._move_back(replica, requests)
        self.wake()

    def _enter(self, index: int) -> None:
        now_s = self._clock()
        state = self.state
        state.stage, state.is_fresh = index, False
        state.started_s = now_s if state.started_s is None else state.started_s
        stage = state.present
        self._recorder.emit(
            StageStarted(at_s=now_s, index=index, placements=stage.placements, until=stage.until)
        )

    def _start(self, replica: Replica) -> None:
        engine = self.state.engines.setdefault(replica.name, EngineState(replica))
        engine.status, engine.started_s = "loading", self._clock()
        engine.starts += 1
        self.state.ledger.lanes.open(replica.name, replica.llm, self._rates(replica))
        self.activity.set()
        self._recorder.emit(EngineStarting(at_s=self._clock(), replica=replica, attempt=engine.starts))
        self._fleet.start(replica)

    def _stop(self, replica: Replica, reason: str) -> None:
        """Nothing more goes to this engine; what it has comes back by itself, with its tokens, while it is stopped."""
        engine = self.state.engines[replica.name]
        engine.status, engine.fresh, engine.queued = "stopping", False, 0
        self.state.ledger.lanes.retire(replica.name)
        self._asking.stopping(replica.name)
        self._fleet.stop(replica, reason)

    def _close(self, replica: Replica, cause: str) -> None:
        """Nothing more goes to this engine, and what it has waits again."""
        engine = self.state.engines[replica.name]
        engine.status, engine.fresh, engine.queued = "stopping", False, 0
        lane = self.state.ledger.lanes.of.get(replica.name)
        if lane is not None:
            # Each goes to the head of its queue: the first sent last, so that it stands first again.
            for request in reversed(list(lane.sent)):
                self._asking.take_back(request, cause)
            self.state.ledger.lanes.close(replica.name)

    def _move_back(self, replica: str, requests: tuple[int, ...]) -> None:
        self.state.engines[replica].fresh = False
        for request in requests:
            self._asking.take_back(request)

    # --- what the engines tell (FleetListener) ---

    def engine_ready(self, replica: Replica, engine: Engine, started: Started) -> None:
        now_s = self._clock()
        self._recorder.emit(
            EngineReady(at_s=now_s, replica=replica, load_s=started.load_s, kv_blocks=started.kv_blocks)
        )
        state = self.state.engines[replica.name]
        state.status, state.ready_s = "serving", now_s
        self.state.watch.ready(replica, now_s, started.load_s)
        state.in_flight = InFlight(engine.max_in_flight)
        self.state.ledger.lanes.serve(replica.name, engine.max_in_flight)
        self._tasks.create_task(self._count_queued(replica))
        self.wake()

    def engine_waits(self, replica: Replica, why: str) -> None:
        what = f"{replica.name} waits for its GPUs"
        decision = Decision("keep", what, f"{why}, by nothing of this run")
        self._recorder.emit(Decided(at_s=self._clock(), decision=decision))

    def gpu_taken(self, gpu: int, cause: str) -> None:
        self.state.quarantined[gpu] = cause
        self._recorder.emit(GpuQuarantined(at_s=self._clock(), gpu=gpu, cause=cause))

    def engine_lost(self, replica: Replica, cause: str) -> None:
        engine, ledger = self.state.engines[replica.name], self.state.ledger
        lane = ledger.lanes.of[replica.name]
        died_with = [*lane.sent, *(index for index in engine.casualties if index not in lane.sent)]
        for index, failures in engine.casualties.items():
            ledger.forgive(index, failures)
        engine.casualties.clear()
        self._close(replica, cause)
        verdict = ledger.engine_died(replica.llm, died_with)
        if verdict.groups or verdict.guilty is not None:
            engine.starts = 0  # That is progress: the next death tells more.
        if verdict.guilty is not None:
            deaths = ledger.suspects.deaths[verdict.guilty]
            self._asking.fail(
                verdict.guilty, f"{KILLS} {deaths} died with it, at last with it alone: {cause}"
            )
        self.wake()

    def engine_failed(self, replica: Replica, cause: str, *, hopeless: bool) -> None:
        engine = self.state.engines[replica.name]
        gave_up = hopeless or engine.starts >= MAX_STARTS or self.state.ledger.suspects.is_broken(replica.llm)
        engine.status, engine.cause = "gave up" if gave_up else "waiting", cause
        now_s = self._clock()
        self._recorder.emit(EngineFailed(at_s=now_s, replica=replica, cause=cause, gave_up=gave_up))
        if not gave_up:
            delay_s = BACK_OFF_S * 2 ** max(0, engine.starts - 1) * self._rng.uniform(0.75, 1.25)
            engine.retry_at_s = now_s + delay_s
            # A little later, so that rounding cannot make it come too early.
            asyncio.get_running_loop().call_later(delay_s + 0.001, self.wake)
        self.wake()

    async def answered(self, replica: Replica) -> None:
        await self._asking.answered(replica.name)

    def engine_stopped(self, replica: Replica, reason: str) -> None:
        self._close(replica, reason)
        del self.state.engines[replica.name]
        self._recorder.emit(EngineStopped(at_s=self._clock(), replica=replica, reason=reason))
        self.wake()

    async def _count_queued(self, replica: Replica) -> None:
        """Asks the other engines of the LLM how much of what they have they have not begun."""
        others = [e for e in self.engines() if e.replica.llm == replica.llm and e.replica != replica]
        for engine in others:
            try:
                waiting = (await engine.stats()).waiting
            except EngineError:
                waiting = 0
            if engine.replica.name in self.state.ledger.lanes.of:
                self.state.engines[engine.replica.name].queued = waiting
        if others and replica.name in self.state.ledger.lanes.of:
            self.state.engines[replica.name].fresh = True
            self.wake()
