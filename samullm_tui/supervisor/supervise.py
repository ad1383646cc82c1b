"""One run under one supervisor: plans it, waits for approval, runs it, ends it. All that it does is recorded."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Literal

import numpy as np

from samullm_tui.domain.errors import InputError, Problem, RunError
from samullm_tui.domain.event import (
    AnyEvent,
    Approved,
    ControlReceived,
    ForecastChanged,
    PlanningFinished,
    RequestFailed,
    RequestFinished,
    RunEnded,
    RunEndStatus,
    SupervisorStarted,
)
from samullm_tui.engines.processes import sweep
from samullm_tui.journal.state import apply
from samullm_tui.supervisor.actions import End
from samullm_tui.supervisor.belief import situation
from samullm_tui.supervisor.control import Status
from samullm_tui.supervisor.gpu_gate import GpuGate
from samullm_tui.supervisor.history import History, indices_of
from samullm_tui.supervisor.job import Job, load_job
from samullm_tui.supervisor.ledger import Ledger
from samullm_tui.supervisor.outputs import ErrorRow, OutputRow
from samullm_tui.supervisor.perform import Runner
from samullm_tui.supervisor.planning import plan_in_process, planned_before
from samullm_tui.supervisor.record import Record
from samullm_tui.supervisor.reschedule import Rescheduler
from samullm_tui.supervisor.reschedule_past import past_of
from samullm_tui.supervisor.reschedule_thinker import Thinker, ThinkingProcess
from samullm_tui.supervisor.running import RunningState
from samullm_tui.supervisor.sampling import Sampler
from samullm_tui.supervisor.spec import RunPaths, RunSpec
from samullm_tui.supervisor.texts import Texts
from samullm_tui.telemetry.gpu import GpuSampler

__all__ = ["Supervisor"]

BELIEF = 1
"""Which stream of a run's seed the lengths are drawn from that decisions are made with."""


class RunClock:
    """The run's own clock: it counts while the run has a stage, on the event loop's time, and stands still while it
    is planned, waits for approval, or has no supervisor.
    """

    def __init__(self, at_s: float) -> None:
        self._at_s = at_s
        self._began_s: float | None = None

    def start(self) -> None:
        self._began_s = asyncio.get_running_loop().time()

    def __call__(self) -> float:
        if self._began_s is None:
            return self._at_s
        return self._at_s + asyncio.get_running_loop().time() - self._began_s


class Supervisor:
    """Takes a run over from where `history` ends. The caller holds the run's lock.

    `thinker`: makes who thinks about the plan while it runs.
    """

    def __init__(
        self,
        spec: RunSpec,
        paths: RunPaths,
        history: History,
        thinker: Callable[[], Thinker] = ThinkingProcess,
    ) -> None:
        self._spec = spec
        self._thinker = thinker
        self._paths = paths
        self._history = history
        self._state = history.state
        """The fold of everything recorded, by this supervisor as well."""
        self._epoch = history.state.epoch + 1
        self._clock = RunClock(history.state.at_s)
        self._wish: Literal["run", "pause", "drain", "stop"] = "run"
        self._trouble = ""
        self._approved = asyncio.Event()
        self._ending = asyncio.Event()
        self._abandoned = asyncio.Event()
        self._runner: Runner | None = None
        self._record: Record

    async def run(self) -> RunEndStatus:
        """Returns how the run ended; no engine is left. Raises JournalError when it could not be recorded."""
        history, paths = self._history, self._paths
        loop = asyncio.get_running_loop()
        self._record = Record(
            paths,
            history.outputs_end(paths),
            history.errors_end(paths),
            on_trouble=partial(_in_loop, loop, self._have_trouble),
        )
        self.emit(
            SupervisorStarted(at_s=self._clock(), epoch=self._epoch, pid=os.getpid(), unix_s=time.time())
        )
        try:
            end = await self._until_the_end()
        except (InputError, RunError) as error:
            end = End("failed", str(error))
        counts = {
            "requests": self._state.requests,
            "outputs": self._state.finished,
            "errors": self._state.errors,
        }
        self.emit(RunEnded(at_s=self._clock(), status=end.status, cause=end.cause, counts=counts))
        await self._until_recorded()
        await asyncio.to_thread(self._record.close)
        return end.status

    async def _until_recorded(self) -> None:
        """A disk that is full at the end is waited for as at any other time, unless the run is to stop now."""
        if self._wish == "stop":
            return
        recorded = asyncio.create_task(self._record.committed())
        abandoned = asyncio.create_task(self._abandoned.wait())
        await asyncio.wait({recorded, abandoned}, return_when=asyncio.FIRST_COMPLETED)
        recorded.cancel()
        abandoned.cancel()
        await asyncio.wait({recorded, abandoned})

    async def _until_the_end(self) -> End:
        prepare = asyncio.create_task(self._prepare())
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({prepare, ending}, return_when=asyncio.FIRST_COMPLETED)
            if prepare.done():
                return await self._run(prepare.result())
            return End("stopped", "")
        finally:
            prepare.cancel()
            ending.cancel()
            await asyncio.wait({prepare, ending})

    async def _prepare(self) -> Job:
        """Until the run is planned and approved."""
        await asyncio.to_thread(sweep, self._paths.run)
        job = await asyncio.to_thread(load_job, self._spec, self._paths, self._epoch)
        if not self._state.planned:
            await self._plan()
        if not self._state.approved and self._spec.approved:
            self.emit(Approved(at_s=self._clock(), rank=self._spec.rank, by="approved beforehand"))
        elif not self._state.approved:
            await self._approved.wait()
        return job

    async def _plan(self) -> None:
        known = self._spec.forecast
        planned = planned_before(known) if known else await plan_in_process(self._paths)
        if planned.problems:
            raise InputError(planned.problems)
        self.emit(
            PlanningFinished(
                at_s=self._clock(),
                planning_s=planned.planning_s,
                lower_bound_s=planned.lower_bound_s,
                samples=planned.samples,
                candidates=planned.candidates,
            )
        )

    async def _run(self, job: Job) -> End:
        gpus = GpuSampler() if self._spec.engine == "vllm" else None
        try:
            return await self._run_sampled(job, gpus)
        finally:
            if gpus:
                gpus.close()

    async def _run_sampled(self, job: Job, gpus: GpuSampler | None) -> End:
        gate = GpuGate(gpus.latest if gpus and self._spec.cluster.gpu.kind == "gpu" else None)
        runner = self._runner = self._make_runner(job, gate)
        self._clock.start()
        if not runner.state.resumed:
            makespan = runner.state.candidate.makespan_s
            self.emit(ForecastChanged(at_s=self._clock(), makespan_s=makespan))
        sampler = Sampler(
            runner,
            self._spec.cluster,
            recorder=self,
            clock=self._clock,
            footprint=job.footprint,
            gpus=gpus,
            folder=self._paths.folder,
        )
        async with asyncio.TaskGroup() as tasks:
            sampling = tasks.create_task(sampler.run())
            end = await runner.run()
            sampling.cancel()
        return end

    def _make_runner(self, job: Job, gate: GpuGate) -> Runner:
        before = self._state
        candidate = before.plan
        if candidate is None:
            raise RunError(Problem(before.run, "", "the approved plan is not in its journal"))
        indices = indices_of(self._history, job.workload.table)
        ledger = Ledger(job.workload.table, job.inputs.problem.expected_tokens, indices.done, indices.failed)
        self._history.forget_rows()
        state = RunningState(
            candidate=candidate,
            ledger=ledger,
            begin=max(0, before.stage),
            resumed=bool(before.stages),
            started_s=before.stages[0][0] if before.stages else None,
            replans=before.replans,
            replanned_s=before.former_plans[-1][0] if before.former_plans else -math.inf,
            wish=self._wish,
            trouble=self._trouble,
            errors={name: llm.failed for name, llm in before.llms.items()},
            broken=self._history.broken,
        )
        for ready in self._history.loads:
            state.watch.loaded(ready.replica, ready.load_s)
        return Runner(
            state,
            make_engine=job.make_engine,
            make_request=job.make_request,
            texts=Texts(ledger, self._paths.outputs, indices.offsets),
            recorder=self,
            clock=self._clock,
            rng=np.random.default_rng([self._spec.seed, self._epoch]),
            gate=gate,
            rates=job.rates,
            rescheduler=self._make_rescheduler(job, state),
        )

    def _make_rescheduler(self, job: Job, state: RunningState) -> Rescheduler | None:
        spec, inputs = self._spec, job.inputs
        if spec.replan == "off":
            return None
        rng = np.random.default_rng([spec.seed, self._epoch, BELIEF])
        return Rescheduler(
            state,
            mode=spec.replan,
            wait_s=spec.replan_wait_s,
            seed=(spec.seed, self._epoch),
            past=past_of(self._state),
            load_s={
                (llm.name, shape.tp): shape.load_s for llm in inputs.problem.llms for shape in llm.shapes
            },
            believe=lambda stats, now_s: situation(inputs, state, stats, now_s, rng),
            thinker=self._thinker(),
            recorder=self,
            clock=self._clock,
        )

    def _have_trouble(self, trouble: str) -> None:
        self._trouble = trouble
        if self._runner:
            self._runner.trouble(trouble)

    # --- what is recorded (Recorder) ---

    def emit(self, event: AnyEvent) -> None:
        apply(self._state, event)
        self._record.emit(event)

    def output(self, row: OutputRow, event: RequestFinished) -> None:
        apply(self._state, event)
        self._record.output(row, event)

    def error(self, row: ErrorRow, event: RequestFailed) -> None:
        apply(self._state, event)
        self._record.error(row, event)

    # --- what the operator says (Controlled) ---

    def status(self) -> Status:
        state = self._state
        return Status(
            run=self._paths.run,
            status=state.status,
            pid=os.getpid(),
            epoch=self._epoch,
            at_s=self._clock(),
            requests=state.requests,
            outputs=state.finished,
            errors=state.errors,
            trouble=self._trouble,
        )

    async def approve(self, rank: int, by: str) -> None:
        if self._state.status != "waiting for approval":
            raise self._refusal(f"cannot be approved: it is {self._state.status}")
        ranks = [candidate.rank for candidate in self._state.candidates]
        if rank not in ranks:
            raise self._refusal(f"has no plan {rank}: plans are {', '.join(map(str, ranks))}")
        self.emit(Approved(at_s=self._clock(), rank=rank, by=by))
        await self._record.committed()
        self._approved.set()

    async def control(self, command: Literal["pause", "resume", "drain", "stop"], by: str) -> None:
        if command == "stop" and self._state.ended and self._trouble:
            self._abandoned.set()
            return
        self._check(command)
        self.emit(ControlReceived(at_s=self._clock(), command=command, by=by))
        if self._wish != "stop":
            self._wish = "run" if command == "resume" else command
        if self._runner:
            self._runner.wish(self._wish)
        elif self._wish in {"drain", "stop"}:
            self._ending.set()
        await self._record.committed()

    async def replan(self, by: str) -> str:
        rescheduler = self._rescheduler()
        if self._state.status != "running":
            raise self._refusal(f"cannot be replanned: it is {self._state.status}")
        self.emit(ControlReceived(at_s=self._clock(), command="replan", by=by))
        said = rescheduler.ask_for_decision(by)
        await self._record.committed()
        return said

    async def answer(self, number: int, by: str, *, accept: bool) -> None:
        refusal = self._rescheduler().answer(number, by, accept=accept)
        await self._record.committed()
        if refusal:
            raise self._refusal(refusal)

    def _rescheduler(self) -> Rescheduler:
        """Raises RunError where there is none."""
        if self._spec.replan == "off":
            raise self._refusal("is run with --replan off: its plan stays")
        if self._runner is None or self._runner.rescheduler is None:
            raise self._refusal(f"cannot be replanned: it is {self._state.status}")
        return self._runner.rescheduler

    def _check(self, command: str) -> None:
        """Raises RunError when the command makes no sense now."""
        needed = {"pause": "running", "resume": "paused"}.get(command)
        if self._state.ended or (needed and self._state.status != needed):
            raise self._refusal(f"cannot {command}: it is {self._state.status}")

    def _refusal(self, wrong: str) -> RunError:
        return RunError(Problem(self._paths.run, "", wrong))


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[str], None], text: str) -> None:
    """Calls from another thread."""
    with suppress(RuntimeError):  # the loop is closed: the run is over
        loop.call_soon_threadsafe(call, text)
