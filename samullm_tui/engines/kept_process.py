"""The owner's end of a keeper: start a process that cannot outlive this one, learn of its exit, end it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from samullm_tui.domain.errors import EngineError, EngineStartError, Problem
from samullm_tui.engines.keeper import Spec
from samullm_tui.engines.processes import GRACE_S, marked, sweep

__all__ = ["KeptProcess"]

PACKAGE_PARENT = Path(__file__).resolve().parents[2]
# -I and -S: nothing of the user's environment and no site-packages, so that it starts at once.
BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from samullm_tui.engines.keeper import main; main()"
KEEPER_DEADLINE_S = 60.0


class KeptProcess:
    """A process and all below it, ended by `stop`, by its own exit, or by the death of this process."""

    def __init__(self, spec: Spec) -> None:
        self.pid: int | None = None
        self._cookie = spec["cookie"]
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[str] = loop.create_future()
        self._exited: asyncio.Future[int | None] = loop.create_future()
        self._gone: asyncio.Future[list[int]] = loop.create_future()
        launcher, life, report = _boot_keeper()
        self._life: int | None = life
        self._watcher = asyncio.create_task(self._follow(launcher, report))
        os.write(life, json.dumps(spec).encode() + b"\n")

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        cookie: str,
        *,
        grace_s: float = GRACE_S,
        scratch: Path | None = None,
    ) -> KeptProcess:
        """Runs `argv` with exactly `env`; its output goes to the end of `log`. Raises EngineStartError.

        `scratch` is a folder that is removed when all processes are gone.

        When it raises, or is cancelled, nothing is left running.
        """
        spec: Spec = {
            "argv": list(argv),
            "env": dict(env),
            "log": str(log),
            "cookie": cookie,
            "grace_s": grace_s,
            "scratch": "" if scratch is None else str(scratch),
        }
        process = cls(spec)
        try:
            cause = await asyncio.shield(process._started)
        except asyncio.CancelledError:
            await process.stop()
            raise
        if cause:
            await process.stop()
            raise EngineStartError(Problem(cookie, "", cause))
        return process

    async def _follow(self, launcher: subprocess.Popen[bytes], report: int) -> None:
        """Reads what the keeper reports until it ends."""
        reader = asyncio.StreamReader()
        pipe = os.fdopen(report, "rb", buffering=0)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        await asyncio.to_thread(launcher.wait)
        async for line in reader:
            message = json.loads(line)
            match message["event"]:
                case "started":
                    self.pid = message["pid"]
                    self._started.set_result("")
                case "refused":
                    self._started.set_result(message["cause"])
                case "exited":
                    self._exited.set_result(message["status"])
                case "gone":
                    self._gone.set_result(message["left"])
        if not self._gone.done():
            await self._replace_keeper()

    async def _replace_keeper(self) -> None:
        """The keeper ended before its work was done: what it kept is found by its cookie."""
        if not self._started.done():
            self._started.set_result("the keeper of the engine ended before the engine started")
        await asyncio.to_thread(sweep, self._cookie)
        if not self._exited.done():
            self._exited.set_result(None)
        self._gone.set_result(await asyncio.to_thread(marked, self._cookie))

    def let_go(self) -> None:
        """Tells the keeper to end everything, without waiting for it."""
        if self._life is not None:
            os.close(self._life)
            self._life = None

    async def exited(self) -> int | None:
        """Waits for the process itself: its exit status, negative for a signal, None when that is not known."""
        return await asyncio.shield(self._exited)

    async def gone(self) -> None:
        """Waits until no process is left. Raises EngineError when some would not die."""
        left = await asyncio.shield(self._gone)
        if left:
            raise EngineError(Problem(self._cookie, "", f"processes {left} cannot be killed"))

    async def stop(self) -> None:
        """Ends the process and all below it: SIGTERM, a grace, SIGKILL. Returns when all are gone."""
        self.let_go()
        try:
            async with asyncio.timeout(KEEPER_DEADLINE_S):
                await self.gone()
        except TimeoutError:
            await asyncio.to_thread(sweep, self._cookie)


def _boot_keeper() -> tuple[subprocess.Popen[bytes], int, int]:
    """Starts a keeper: the process it forks itself out of, where to write to it, where to read its reports."""
    life_read, life = os.pipe()
    report, report_write = os.pipe()
    none = subprocess.DEVNULL
    try:
        launcher = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", BOOT, str(PACKAGE_PARENT), str(life_read), str(report_write)],
            pass_fds=(life_read, report_write),
            stdin=none,
            stdout=none,
            stderr=none,
        )
    finally:
        os.close(life_read)
        os.close(report_write)
    return launcher, life, report
