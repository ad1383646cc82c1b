"""An engine that is a model of one: the exact schedule and the iteration latency, on the time of the event loop.

On a ScaledLoop it runs as fast as wanted. It answers with lengths, never with texts.
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass
from itertools import count

import numpy as np

from samullm_tui.domain.errors import EngineError, EngineStartError, InputError, Problem
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.protocol import (
    Begun,
    Completion,
    EngineStats,
    GenerateRequest,
    PartialAnswerError,
    RequestRefusedError,
    Started,
)
from samullm_tui.latency.model import IterationLatency
from samullm_tui.simulate.engine import EngineConfig, EngineSimulation, Finished, Snapshot

__all__ = ["SimulatedEngine"]


@dataclass(slots=True)
class _Job:
    key: int
    answer: asyncio.Future[Completion]
    completion: Completion
    begun: Begun
    finish_s: float | None = None
    """When it finishes, once the simulation has passed that point."""


class SimulatedEngine:
    """Keeps the engine protocol. Between two finishes nothing happens: it computes the next one and sleeps until then.

    Whatever comes in meanwhile (a request, a cancellation) takes the simulation back to before that look-ahead, on to
    the present, and looks ahead again.
    """

    def __init__(
        self,
        replica: Replica,
        config: EngineConfig,
        latency: IterationLatency,
        load_s: float,
        *,
        max_in_flight: int | None = None,
    ) -> None:
        """`max_in_flight` is twice `config.max_num_seqs` when not given: the next requests stand ready."""
        self._replica = replica
        self._config = config
        self._load_s = load_s
        self._max_in_flight = max_in_flight or 2 * config.max_num_seqs
        self._simulation = EngineSimulation(config, latency, capacity=self._max_in_flight)
        self._jobs: dict[int, _Job] = {}
        self._serial = count()
        self._due: list[tuple[float, int]] = []
        self._before_look_ahead: Snapshot | None = None
        self._timer: asyncio.Handle | None = None
        self._output_tokens_total = 0
        self._ended: str | None = None
        self._end = asyncio.Event()
        self._failed = asyncio.Event()

    @property
    def replica(self) -> Replica:
        return self._replica

    @property
    def max_in_flight(self) -> int:
        return self._max_in_flight

    async def start(self) -> Started:
        try:
            async with asyncio.timeout(self._load_s):
                await self._end.wait()
        except TimeoutError:
            return Started(self._load_s, self._config.kv_blocks)
        raise EngineStartError(Problem(self._replica.name, "", self._ended or "stopped"))

    async def generate(self, request: GenerateRequest) -> Completion:
        self._check_alive()
        begun = request.begun or Begun(output_tokens=0, pieces=0)
        completion = self._completion(request, begun)
        serial = next(self._serial)
        self._settle()
        now_s = asyncio.get_running_loop().time()
        try:
            self._simulation.submit(
                serial,
                completion.prompt_tokens,
                completion.output_tokens,
                now_s,
                begun.output_tokens,
                stops=completion.finish_reason == "stop",
                prefix=request.prefix,
                prefix_tokens=request.prefix_tokens,
            )
        except InputError as error:
            raise RequestRefusedError(error.problems) from None
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        job = self._jobs[serial] = _Job(request.key, answer, completion, begun)
        self._output_tokens_total -= begun.output_tokens  # another engine's
        self._look_ahead_soon()
        try:
            return await job.answer
        finally:
            self._forget(serial)

    async def stats(self) -> EngineStats:
        self._check_alive()
        self._settle()
        self._look_ahead_soon()
        simulation = self._simulation
        serials, tokens = simulation.unfinished()
        keys = (self._jobs[serial].key for serial in serials.tolist())
        return EngineStats(
            running=simulation.running,
            waiting=simulation.waiting,
            kv_usage=simulation.kv_usage,
            preemptions_total=simulation.preemptions,
            output_tokens_total=self._output_tokens_total + int(tokens.sum()),
            steps_total=simulation.iterations,
            prefill_tokens_total=simulation.prefilled,
            generated=dict(zip(keys, tokens.tolist(), strict=True)),
        )

    async def stop(self) -> None:
        """The step under way is finished, as in a simulated plan: what it ends is answered."""
        if self._ended is None and self._jobs:
            self._settle()
            self._hand_out()
        self._end_with("the engine was stopped")

    def fail(self, cause: str) -> None:
        """The engine dies now, of `cause`, as a real one would by itself."""
        if self._ended is None:
            self._end_with(cause)
            self._failed.set()

    def _hand_out(self) -> None:
        """Ends generations: with the answer where that is certain, else with the tokens, where some were added."""
        for job in self._jobs.values():
            if job.finish_s is not None and not job.answer.done():
                job.answer.set_result(job.completion)
        for serial, tokens in zip(*map(np.ndarray.tolist, self._simulation.unfinished()), strict=True):
            job = self._jobs[serial]
            if tokens > job.begun.output_tokens and not job.answer.done():
                begun = Begun(output_tokens=tokens, pieces=job.begun.pieces + 1)
                problem = Problem(self._replica.name, "", "the engine was stopped")
                job.answer.set_exception(PartialAnswerError(problem, begun))

    async def failed(self) -> str:
        await self._failed.wait()
        return self._ended or ""

    def _check_alive(self) -> None:
        if self._ended is not None:
            raise EngineError(Problem(self._replica.name, "", self._ended))

    def _completion(self, request: GenerateRequest, begun: Begun) -> Completion:
        """What the answer will be. Raises RequestRefusedError when no engine of this context would take it."""
        room = self._config.max_model_len - request.prompt_tokens
        wanted = request.sampling.get("max_tokens")
        cap = min(wanted, room) if isinstance(wanted, int) else room
        if room < 1 or cap < 1 or request.output_tokens is None:
            wrong = (
                "its output length is not known" if request.output_tokens is None else "no room for one token"
            )
            context = f"{request.prompt_tokens} prompt tokens in a context of {self._config.max_model_len}"
            raise RequestRefusedError(Problem(self._replica.name, "", f"{wrong} ({context})"))
        return Completion(
            text="",
            token_ids=None,
            finish_reason="length" if request.output_tokens >= cap else "stop",
            prompt_tokens=request.prompt_tokens,
            output_tokens=max(1, min(request.output_tokens, cap)),
            pieces=begun.pieces + 1,
        )

    def _settle(self) -> None:
        """Takes the simulation to the present, however far it had looked ahead."""
        if self._before_look_ahead is not None:
            self._simulation.restore(self._before_look_ahead)
            self._before_look_ahead = None
        self._note(self._simulation.advance(asyncio.get_running_loop().time()))

    def _note(self, finished: Finished) -> None:
        """Finishes that are certain, though those of the step under way still lie ahead."""
        for serial, finish_s in zip(finished.keys.tolist(), finished.finish_s.tolist(), strict=True):
            self._jobs[serial].finish_s = finish_s
            heapq.heappush(self._due, (finish_s, serial))
            self._output_tokens_total += self._jobs[serial].completion.output_tokens

    def _look_ahead_soon(self) -> None:
        """Once for all that comes in at this moment."""
        self._set_timer(asyncio.get_running_loop().call_soon(self._look_ahead))

    def _set_timer(self, timer: asyncio.Handle | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    def _look_ahead(self) -> None:
        """Finds when the next request finishes, and wakes up then."""
        before = self._simulation.snapshot()
        finished = self._simulation.advance(stop_at_finish=True)
        next_s = [float(finished.finish_s[0])] if len(finished) else []
        if self._due:
            next_s.append(self._due[0][0])
        if not next_s:
            self._set_timer(None)
            return
        self._before_look_ahead = before
        wake = asyncio.get_running_loop().call_at(min(next_s), self._deliver, finished)
        self._set_timer(wake)

    def _deliver(self, finished: Finished) -> None:
        """The time of the look-ahead has come: what it found is certain now."""
        now_s = asyncio.get_running_loop().time()
        if len(finished) and finished.finish_s[0] <= now_s:
            self._before_look_ahead = None
            self._note(finished)
        while self._due and self._due[0][0] <= now_s:
            _, serial = heapq.heappop(self._due)
            job = self._jobs.get(serial)
            if job is not None and not job.answer.done():
                job.answer.set_result(job.completion)
        if self._before_look_ahead is not None:
            self._settle()
        self._look_ahead_soon()

    def _forget(self, serial: int) -> None:
        """The answer was taken, or nobody waits for it any more."""
        job = self._jobs[serial]
        if job.finish_s is None and self._ended is None:
            self._settle()
            if job.finish_s is None:
                self._simulation.remove(serial)
                self._output_tokens_total += job.begun.output_tokens
            self._look_ahead_soon()
        del self._jobs[serial]

    def _end_with(self, cause: str) -> None:
        if self._ended is not None:
            return
        self._ended = cause
        self._end.set()
        self._set_timer(None)
        error = EngineError(Problem(self._replica.name, "", cause))
        for job in self._jobs.values():
            if not job.answer.done():
                job.answer.set_exception(error)
