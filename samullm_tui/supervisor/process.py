"""The supervisor as a process: in a session of its own, owner of the run's lock, deaf to the terminal.

SIGTERM and SIGINT: the first drains, the second stops now. SIGHUP does nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from samullm_tui.domain.errors import Problem, RunError, SamullmError
from samullm_tui.supervisor.liveness import Heart, RunLock
from samullm_tui.supervisor.spec import RunPaths, RunSpec, read_spec

if TYPE_CHECKING:
    from samullm_tui.supervisor.history import History
    from samullm_tui.supervisor.supervise import Supervisor

__all__ = ["main", "supervise"]


def main(argv: list[str]) -> int:
    """Arguments: the run's folder. Returns in the caller's process as soon as the supervisor holds the lock.

    What goes wrong is printed; a run that ends `failed` is no error of the supervisor.
    """
    paths = RunPaths(Path(argv[0]).absolute())
    os.umask(0o077)
    try:
        lock = RunLock(paths.lock)
        if os.fork():
            # The lock is the child's now: it belongs to the open file that both have.
            return 0
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        supervise(paths)
        lock.release()
    except SamullmError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_status
    except OSError as error:
        print(Problem(str(paths.folder), "", str(error)), file=sys.stderr, flush=True)
        return 1
    return 0


def supervise(paths: RunPaths) -> None:
    """Supervises a run in this process, which holds its lock, until it ends. Raises SamullmError."""
    from samullm_tui.supervisor.history import read_history

    heart = Heart(paths.heartbeat)
    try:
        spec = read_spec(paths)
        history = read_history(paths)
        _check_may_go_on(spec, paths, history)
        with asyncio.Runner(loop_factory=lambda: _loop(spec)) as runner:
            heart.follow(runner.get_loop())
            runner.run(_run(spec, paths, history))
    finally:
        heart.stop()


def _loop(spec: RunSpec) -> asyncio.AbstractEventLoop:
    if spec.engine != "simulated":
        return asyncio.new_event_loop()
    from samullm_tui.engines.virtual_time import ScaledLoop

    return ScaledLoop(spec.rate)


def _check_may_go_on(spec: RunSpec, paths: RunPaths, history: History) -> None:
    """Refuses a run that is over, or whose application or data are not those that it began with.

    Raises RunError, ApplicationError.
    """
    from samullm_tui.supervisor.inputs import changes, read_inputs

    state = history.state
    if history.is_over:
        raise RunError(Problem(state.run, "", f"is over: it {state.status}, and all its requests ended"))
    changed = changes(read_inputs(paths), Path(spec.application), allow_outside=spec.allow_outside)
    if changed:
        raise RunError(changed)


async def _run(spec: RunSpec, paths: RunPaths, history: History) -> None:
    from samullm_tui.supervisor.control import ControlServer, open_socket
    from samullm_tui.supervisor.supervise import Supervisor

    supervisor = Supervisor(spec, paths, history)
    _listen_to_signals(supervisor)
    server = ControlServer(supervisor, open_socket(paths.socket))
    work = asyncio.create_task(supervisor.run())
    # The supervisor's first step opens the journal: no command may come before.
    await asyncio.sleep(0)
    await server.start()
    try:
        await work
    finally:
        await server.close()
        paths.socket.unlink(missing_ok=True)


def _listen_to_signals(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []

    async def obey(command: Literal["drain", "stop"], name: str) -> None:
        with suppress(RunError):  # it has ended meanwhile
            await supervisor.control(command, name)

    def receive(number: signal.Signals) -> None:
        tasks.append(loop.create_task(obey("stop" if tasks else "drain", number.name)))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, receive, number)
