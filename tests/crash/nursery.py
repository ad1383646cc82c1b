"""Where supervisors are born to be killed: `python nursery.py`.

Loading a supervisor's modules takes seconds, forking a process that has them milliseconds. Reads one JSON object a
line, an Order, and answers each with one line, a Death, when that supervisor is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from faults import Fault, arm, cut_power
from msgspec import Struct

__all__ = ["Death", "Order"]

POLL_S = 0.0005


class Order(Struct, frozen=True):
    """A supervisor for the run in `folder`, with this fault."""

    folder: str
    fault: Fault


class Death(Struct, frozen=True):
    """How it ended: an exit status, or minus the signal."""

    status: int


def main() -> None:
    _load()
    for line in sys.stdin.buffer:
        death = _raise_one(msgspec.json.decode(line, type=Order))
        sys.stdout.buffer.write(msgspec.json.encode(death) + b"\n")
        sys.stdout.buffer.flush()


def _load() -> None:
    """Brings up everything that a supervisor imports or compiles when it needs it: a first run in this process.

    Here its supervisors plan in their own process, too: a planner's takes a second to start.
    """
    from crash_runs import make_application

    import samullm_tui.supervisor.supervise as module
    from samullm_tui.supervisor.planning import Planned, plan_here
    from samullm_tui.supervisor.process import supervise
    from samullm_tui.supervisor.spec import RunPaths, read_spec

    async def plan(paths: RunPaths) -> Planned:
        return plan_here(read_spec(paths))

    module.plan_in_process = plan
    with TemporaryDirectory() as folder:
        os.environ["SAMULLM_HOME"] = folder
        supervise(make_application(Path(folder), 1))
    del os.environ["SAMULLM_HOME"]


def _raise_one(order: Order) -> Death:
    pid = os.fork()
    if not pid:
        _live(order)
    deadline_s = time.monotonic() + (order.fault.kill_after_s or 1e9)
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            word = Path(order.folder) / "power-cut"
            if word.exists():
                cut_power(word, np.random.default_rng(order.fault.power_cut_seed))
            return Death(os.waitstatus_to_exitcode(status))
        if time.monotonic() >= deadline_s:
            os.kill(pid, signal.SIGKILL)
            deadline_s = float("inf")
        time.sleep(POLL_S)


def _live(order: Order) -> None:
    from samullm_tui.supervisor.process import supervise
    from samullm_tui.supervisor.spec import RunPaths

    paths = RunPaths(Path(order.folder))
    status = 1
    try:
        log = os.open(paths.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ["SAMULLM_HOME"] = str(paths.folder.parents[1])
        arm(order.fault, paths.folder)
        supervise(paths)
        status = 0
    except BaseException:  # noqa: BLE001  (whatever it is, the test shall see it in the log)
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
