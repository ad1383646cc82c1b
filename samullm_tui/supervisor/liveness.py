"""Whether a run has a living supervisor: a lock that dies with its holder, and a heartbeat on the boot clock.

Neither looks at the time of day, so that a changed clock changes no answer.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from samullm_tui.domain.errors import Problem, RunError
from samullm_tui.supervisor.spec import write_private

__all__ = ["Heartbeat", "RunLock", "is_locked", "read_heartbeat", "write_heartbeat"]

TAKE_S = 2.0
"""How long to try for the lock: a reader that only looks holds it for an instant."""


class Heartbeat(Struct, frozen=True):
    """`boot_s`: seconds since the machine started, sleep included."""

    pid: int
    boot_s: float

    @property
    def age_s(self) -> float:
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - self.boot_s)


class RunLock:
    """The lock of a run, held until the process (and every fork of it that kept the file open) is gone."""

    def __init__(self, path: Path) -> None:
        """Takes the lock. Raises RunError when another supervisor holds it."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + TAKE_S
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(self._descriptor)
                    raise RunError(Problem(path.parent.name, "", "another supervisor has this run")) from None
                time.sleep(0.02)

    def release(self) -> None:
        os.close(self._descriptor)


def is_locked(path: Path) -> bool:
    """Whether a supervisor holds the lock of a run."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def write_heartbeat(path: Path) -> None:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    write_private(path, msgspec.json.encode(Heartbeat(os.getpid(), now)))


def read_heartbeat(path: Path) -> Heartbeat | None:
    """None: there is none, or it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Heartbeat)
    except (OSError, msgspec.DecodeError):
        return None
