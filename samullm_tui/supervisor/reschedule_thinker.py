"""Who thinks about the plan of a run: a process of its own, or for simulations in bulk this one."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from samullm_tui.domain.errors import Problem, RunError
from samullm_tui.domain.request import RequestTable
from samullm_tui.planner.reschedule import REQUESTS, Situation, Verdict, forecast_rest, reconsider
from samullm_tui.supervisor.reschedule_wire import Question, Reply, ask, receive

__all__ = ["Thinker", "ThinkingHere", "ThinkingProcess"]

LIMIT_S, FIRST_LIMIT_S = 60.0, 300.0
"""Of the wall: a process that thinks for longer hangs. Its first answer may have to wait for code to be compiled."""


class Thinker(Protocol):
    """Both questions raise RunError when there is no answer; another one may be asked then all the same."""

    async def reconsider(self, situation: Situation, seed: Sequence[int]) -> Verdict: ...

    async def forecast(self, situation: Situation) -> tuple[float, ...]:
        """Ends of the plan in force, one for each draw."""

    async def close(self) -> None:
        """Nothing of it is left on return."""


class ThinkingHere:
    """In this process, which stands still meanwhile. `requests`: effort of a decision, as `reconsider` has it."""

    def __init__(self, requests: int = REQUESTS) -> None:
        self._requests = requests

    async def reconsider(self, situation: Situation, seed: Sequence[int]) -> Verdict:
        return reconsider(situation, np.random.default_rng(tuple(seed)), requests=self._requests)

    async def forecast(self, situation: Situation) -> tuple[float, ...]:
        return forecast_rest(situation)

    async def close(self) -> None:
        pass


class ThinkingProcess:
    """In a worker process: started by the first question, ended by `close` or with this process, whatever ends it.

    A thread of its own talks to it, so that the event loop goes on; simulated time waits for it.
    """

    def __init__(
        self, limit_s: float = LIMIT_S, first_limit_s: float = FIRST_LIMIT_S, command: Sequence[str] = ()
    ) -> None:
        """`command`: of the worker, which gets the number of its socket and of this process."""
        self._limits_s = first_limit_s, limit_s
        self._has_answered = False
        self._command = tuple(command) or (
            *(sys.executable, "-m", "samullm_tui.supervisor.reschedule_worker"),
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="thinker")
        self._process: subprocess.Popen[bytes] | None = None
        self._peer: socket.socket
        self._table: RequestTable | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def reconsider(self, situation: Situation, seed: Sequence[int]) -> Verdict:
        verdict: Verdict = await self._ask(Question("reconsider", situation, tuple(seed)))
        return verdict

    async def forecast(self, situation: Situation) -> tuple[float, ...]:
        ends_s: tuple[float, ...] = await self._ask(Question("forecast", situation))
        return ends_s

    async def close(self) -> None:
        self._closed = True
        self._kill()
        await asyncio.to_thread(self._thread.shutdown)

    async def _ask(self, question: Question) -> Any:
        reply = await asyncio.get_running_loop().run_in_executor(self._thread, self._talk, question)
        if reply.failure:
            raise _failure(reply.failure)
        return reply.answer

    def _talk(self, question: Question) -> Reply:
        """In the thread. Raises RunError, and leaves no process then."""
        limit_s = self._limits_s[self._has_answered]
        until_s = time.monotonic() + limit_s
        try:
            if self._process is None:
                self._start()
            self._peer.settimeout(limit_s)
            table = question.situation.problem.table
            if table is not self._table:
                ask(self._peer, table)
                self._table = table
            ask(self._peer, question, table)
            reply: Reply = receive(self._peer, until_s=until_s)
        except TimeoutError:
            self._kill()
            raise _failure(f"no answer after {limit_s:.0f} s") from None
        except (EOFError, OSError) as error:
            status = self._kill()
            raise _failure(f"its process ended with status {status}") from error
        self._has_answered = True
        return reply

    def _start(self) -> None:
        """In the thread: the worker dies with the thread that started it, and that lives as long as this object."""
        self._peer, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [*self._command, str(number), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=(number,),
            )
        self._table = None
        if self._closed:  # it was too late to be killed by `close`
            raise EOFError

    def _kill(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        status = process.wait()
        self._peer.close()
        return status


def _failure(wrong: str) -> RunError:
    return RunError(Problem("rescheduler", "", wrong))
