"""The engines of a run: each is started, watched, and stopped by a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from samullm_tui.domain.errors import EngineError, EngineMissingError, InputError, SamullmError
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.protocol import Engine, Started
from samullm_tui.supervisor.gpu_gate import GpuGate, GpuTakenError

__all__ = ["Fleet", "FleetListener", "MakeEngine"]

MakeEngine = Callable[[Replica], Engine]
Cause = tuple[str, bool]
"""Why an engine is lost, and whether another start would fail as well."""


class FleetListener(Protocol):
    """Who is told what becomes of the engines. Each engine: ready at most once, then stopped or lost and failed."""

    def engine_ready(self, replica: Replica, engine: Engine, started: Started) -> None: ...

    def engine_waits(self, replica: Replica, why: str) -> None:
        """It cannot start yet: a GPU of it is in use."""

    def gpu_taken(self, gpu: int, cause: str) -> None:
        """A GPU stayed in use for too long. The engine that waited for it is lost next."""

    def engine_lost(self, replica: Replica, cause: str) -> None:
        """It answers no more. Its processes may still be there."""

    def engine_failed(self, replica: Replica, cause: str, *, hopeless: bool) -> None:
        """It is gone. `hopeless`: another start would fail as well."""

    async def answered(self, replica: Replica) -> None:
        """It is gone, as it was asked to be. Returns when what it was asked for has come back."""

    def engine_stopped(self, replica: Replica, reason: str) -> None:
        """It is gone, as it was asked to be."""


class Fleet:
    """Must be used inside of `tasks`, whose first unexpected error ends the run."""

    def __init__(
        self, make: MakeEngine, gate: GpuGate, listener: FleetListener, tasks: asyncio.TaskGroup
    ) -> None:
        self._make = make
        self._gate = gate
        self._listener = listener
        self._tasks = tasks
        self._engines: dict[str, Engine] = {}
        self._halts: dict[str, asyncio.Future[str]] = {}

    def engine(self, replica: str) -> Engine:
        return self._engines[replica]

    def start(self, replica: Replica) -> None:
        assert replica.name not in self._halts, f"{replica.name} runs already"
        halt = self._halts[replica.name] = asyncio.get_running_loop().create_future()
        self._tasks.create_task(self._live(replica, halt))

    def stop(self, replica: Replica, reason: str) -> None:
        """Of an engine that was not told to be lost."""
        self._halts[replica.name].set_result(reason)

    async def stop_all(self) -> None:
        """For the end after an unexpected error: nothing of the fleet is left on return."""
        await asyncio.gather(*(engine.stop() for engine in list(self._engines.values())))

    async def _live(self, replica: Replica, halt: asyncio.Future[str]) -> None:
        """From the start of an engine until nothing is left of it. An engine that dies as it is stopped was stopped."""
        serving = asyncio.create_task(self._serve(replica))
        try:
            either: set[asyncio.Future[Any]] = {serving, halt}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            serving.cancel()
            await asyncio.wait({serving})
        cause, hopeless = ("", False) if serving.cancelled() else serving.result()
        if not halt.done():
            self._listener.engine_lost(replica, cause)
        if replica.name in self._engines:
            await self._engines[replica.name].stop()
            del self._engines[replica.name]
        del self._halts[replica.name]
        if halt.done():
            await self._listener.answered(replica)
            self._listener.engine_stopped(replica, halt.result())
        else:
            self._listener.engine_failed(replica, cause, hopeless=hopeless)

    async def _serve(self, replica: Replica) -> Cause:
        """Until the engine is lost."""
        try:
            await self._gate.until_free(replica, lambda why: self._listener.engine_waits(replica, why))
            engine = self._engines[replica.name] = self._make(replica)
            started = await engine.start()
            self._listener.engine_ready(replica, engine, started)
            return await engine.failed(), False
        except GpuTakenError as error:
            self._listener.gpu_taken(error.gpu, error.cause)
            return _line(error), True
        except (EngineMissingError, InputError) as error:
            return _line(error), True
        except EngineError as error:
            return _line(error), False


def _line(error: SamullmError) -> str:
    return " ".join(str(error).split())
