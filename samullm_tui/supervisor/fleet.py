"""The engines of a run: each is started, watched, and stopped by a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from samullm_tui.domain.errors import EngineError, EngineMissingError, InputError, SamullmError
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.protocol import Engine, Started

__all__ = ["Fleet", "FleetListener", "MakeEngine"]

MakeEngine = Callable[[Replica], Engine]


class FleetListener(Protocol):
    """Who is told what becomes of the engines. Each engine: ready at most once, then stopped or lost and failed."""

    def engine_ready(self, replica: Replica, engine: Engine, started: Started) -> None: ...

    def engine_lost(self, replica: Replica, cause: str) -> None:
        """It answers no more. Its processes may still be there."""

    def engine_failed(self, replica: Replica, cause: str, *, hopeless: bool) -> None:
        """It is gone. `hopeless`: another start would fail as well."""

    def engine_stopped(self, replica: Replica, reason: str) -> None:
        """It is gone, as it was asked to be."""


class Fleet:
    """Must be used inside of `tasks`, whose first unexpected error ends the run."""

    def __init__(self, make: MakeEngine, listener: FleetListener, tasks: asyncio.TaskGroup) -> None:
        self._make = make
        self._listener = listener
        self._tasks = tasks
        self._engines: dict[str, Engine] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}

    def engine(self, replica: str) -> Engine:
        return self._engines[replica]

    def start(self, replica: Replica) -> None:
        assert replica.name not in self._lives, f"{replica.name} runs already"
        self._lives[replica.name] = self._tasks.create_task(self._live(replica))

    def stop(self, replica: Replica, reason: str) -> None:
        self._tasks.create_task(self._end(replica, reason))

    async def stop_all(self) -> None:
        """For the end after an unexpected error: nothing of the fleet is left on return."""
        await asyncio.gather(*(engine.stop() for engine in list(self._engines.values())))

    async def _live(self, replica: Replica) -> None:
        hopeless = False
        try:
            engine = self._engines[replica.name] = self._make(replica)
            started = await engine.start()
            self._listener.engine_ready(replica, engine, started)
            cause = await engine.failed()
        except (EngineMissingError, InputError) as error:
            cause, hopeless = _line(error), True
        except EngineError as error:
            cause = _line(error)
        self._listener.engine_lost(replica, cause)
        if replica.name in self._engines:
            await self._engines.pop(replica.name).stop()
        del self._lives[replica.name]
        self._listener.engine_failed(replica, cause, hopeless=hopeless)

    async def _end(self, replica: Replica, reason: str) -> None:
        life = self._lives[replica.name]
        life.cancel()
        await asyncio.wait({life})
        if replica.name in self._engines:
            await self._engines.pop(replica.name).stop()
        del self._lives[replica.name]
        self._listener.engine_stopped(replica, reason)


def _line(error: SamullmError) -> str:
    return " ".join(str(error).split())
