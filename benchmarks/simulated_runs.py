"""Runs on simulated engines in virtual time whose true lengths and speeds are given, looked at while they go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import numpy as np
from msgspec import structs

from samullm_tui.domain.event import AnyEvent, RequestFailed, RequestFinished
from samullm_tui.domain.plan import Band, Candidate, Plan, Replica
from samullm_tui.domain.request import IntArray
from samullm_tui.engines.protocol import Engine, EngineStats, GenerateRequest
from samullm_tui.engines.simulated import SimulatedEngine
from samullm_tui.engines.virtual_time import run_scaled
from samullm_tui.lengths.distribution import LengthDistribution
from samullm_tui.simulate.problem import LLMModel, Problem
from samullm_tui.supervisor.job import rates_to_expect
from samullm_tui.supervisor.ledger import Ledger
from samullm_tui.supervisor.outputs import ErrorRow, OutputRow
from samullm_tui.supervisor.perform import Runner
from samullm_tui.supervisor.reschedule import Rescheduler
from samullm_tui.supervisor.running import RunningState
from samullm_tui.supervisor.texts import Texts

__all__ = ["Case", "Run", "candidate_of", "engine_stats", "run_case"]


@dataclass(frozen=True)
class Case:
    """An application as it is believed to be, and as it is.

    problem, dists, context   what planning knows: ForecastInputs
    lengths                   [n] the true output lengths, capped
    llms                      the true models, in the order of the problem's
    unlike                    by which share the engine on each GPU is slower than on the one before. Engines that are
                              quite alike finish at the same moments, and rounding decides who gets what
    """

    problem: Problem
    dists: Mapping[str, LengthDistribution]
    context: IntArray
    lengths: IntArray
    llms: tuple[LLMModel, ...]
    unlike: float = 0.0


Look = Callable[["Run"], Awaitable[None]]


@dataclass
class Run:
    """One run that goes on. `events` of everything that was recorded."""

    case: Case
    state: RunningState
    events: list[AnyEvent] = field(default_factory=list)
    runner: Runner = field(init=False)

    @property
    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def emit(self, event: AnyEvent) -> None:
        self.events.append(event)

    def output(self, row: OutputRow, event: RequestFinished) -> None:
        self.events.append(event)

    def error(self, row: ErrorRow, event: RequestFailed) -> None:
        self.events.append(event)


async def engine_stats(run: Run) -> dict[str, EngineStats]:
    return {engine.replica.name: await engine.stats() for engine in run.runner.engines()}


def candidate_of(plan: Plan) -> Candidate:
    """A plan of which nothing was simulated."""
    band = Band(0.0, 0.0, 0.0, 0.0)
    return Candidate(
        rank=1,
        plan=plan,
        makespan_s=band,
        gap=0.0,
        gpu_hours=0.0,
        loads=0,
        stages=(),
        spans=(),
        explanation=(),
    )


def run_case(
    case: Case,
    plan: Plan,
    look: Look | None = None,
    *,
    period_s: float = 1.0,
    make_rescheduler: Callable[[Run], Rescheduler] | None = None,
) -> float:
    """The makespan. `look` is called each `period_s` of the run's time, while it stands still."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        table = case.problem.table
        ledger = Ledger(table, case.problem.expected_tokens, (), [])
        recorder = Run(case, RunningState(candidate_of(plan), ledger))
        recorder.runner = Runner(
            recorder.state,
            make_engine=_make_engine(case),
            make_request=_make_request(case),
            texts=Texts(ledger, Path(), {}),
            recorder=recorder,
            clock=loop.time,
            rng=np.random.default_rng(0),
            rates=rates_to_expect(case.problem),
            rescheduler=make_rescheduler(recorder) if make_rescheduler else None,
        )
        looking = asyncio.create_task(_look_on(recorder, look, period_s)) if look else None
        try:
            await recorder.runner.run()
        finally:
            if looking:
                looking.cancel()
                await asyncio.wait({looking})
                if not looking.cancelled():
                    looking.result()
        finished = [event.at_s for event in recorder.events if isinstance(event, RequestFinished)]
        assert len(finished) == len(table), "every request has its output"
        return max(finished)

    return run_scaled(main(), inf)


async def _look_on(run: Run, look: Look, period_s: float) -> None:
    while True:
        await asyncio.sleep(period_s)
        await look(run)


def _make_engine(case: Case) -> Callable[[Replica], Engine]:
    def make(replica: Replica) -> Engine:
        shape = case.llms[case.problem.index(replica.llm)].shape(replica.tp)
        factor = 1 + case.unlike * replica.gpus[0]
        latency = structs.replace(
            shape.latency, coefficients=tuple(factor * one for one in shape.latency.coefficients)
        )
        return SimulatedEngine(replica, shape.config, latency, factor * shape.load_s)

    return make


def _make_request(case: Case) -> Callable[[int, int, int, Callable[[int], str]], GenerateRequest]:
    table, prefix = case.problem.table, case.problem.prefix

    def make(index: int, key: int, prompt_tokens: int, _: Callable[[int], str]) -> GenerateRequest:
        shared = -1 if prefix is None else int(prefix[index])
        return GenerateRequest(
            key=key,
            sampling={"max_tokens": int(table.max_tokens[index])},
            prompt_tokens=prompt_tokens,
            output_tokens=int(case.lengths[index]),
            prefix=shared,
            prefix_tokens=0 if shared < 0 or table.prefix_tokens is None else int(table.prefix_tokens[index]),
        )

    return make
