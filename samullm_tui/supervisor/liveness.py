"""Whether a run has a living supervisor: a lock that dies with its holder, and a heartbeat on the boot clock.

Neither looks at the time of day, so that a changed clock changes no answer. A supervisor whose heart stands still (it
was stopped, or hangs) still holds the lock. It is fenced off by killing it: SIGKILL ends a stopped process too, so
that it cannot wake up and go on.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from samullm_tui.domain.errors import Problem, RunError

__all__ = ["Heart", "Heartbeat", "RunLock", "fence", "is_locked", "read_heartbeat"]

HEARTBEAT_S = 1.0
STALE_S = 30.0
"""An older heartbeat is that of a supervisor that hangs."""

HEARTBEAT_BYTES = 64
FENCED_S = 10.0
"""How long a killed process may take to let the lock go."""

TAKE_S = 2.0
"""How long to try for the lock: a reader that only looks holds it for an instant."""


class Heartbeat(Struct, frozen=True):
    """`boot_s`: seconds since the machine started, sleep included."""

    pid: int
    boot_s: float

    @property
    def age_s(self) -> float:
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - self.boot_s)

    @property
    def is_stale(self) -> bool:
        return self.age_s > STALE_S


class Heart:
    """Beats about once a second of the wall: by itself at first, then as long as an event loop turns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = threading.Event()
        self._beat()
        threading.Thread(target=self._work, name="heartbeat", daemon=True).start()

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on it beats only when `loop` turns."""
        self._loop = loop

    def stop(self) -> None:
        self._end.set()

    def _work(self) -> None:
        while not self._end.wait(HEARTBEAT_S):
            if self._loop is None:
                self._beat()
                continue
            try:
                self._loop.call_soon_threadsafe(self._beat)
            except RuntimeError:
                return  # the loop is closed

    def _beat(self) -> None:
        """In place, so that it needs no space. On a disk that takes nothing the heartbeat only grows old."""
        beat = msgspec.json.encode(Heartbeat(os.getpid(), time.clock_gettime(time.CLOCK_BOOTTIME)))
        with suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, beat.ljust(HEARTBEAT_BYTES), 0)
            finally:
                os.close(descriptor)


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


def read_heartbeat(path: Path) -> Heartbeat | None:
    """None: there is none, or it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Heartbeat)
    except (OSError, msgspec.DecodeError):
        return None


def fence(lock: Path, heartbeat: Path) -> bool:
    """Kills the supervisor that holds the lock though its heart stands still; False when there is none such.

    On True the lock is free, and that supervisor will never write again. Blocks for some seconds.
    Raises RunError when it cannot be killed.
    """
    before = read_heartbeat(heartbeat)
    if before is None or not before.is_stale:
        return False
    time.sleep(2 * HEARTBEAT_S)  # A machine that just woke up has old heartbeats for a moment.
    if read_heartbeat(heartbeat) != before:
        return False
    with suppress(ProcessLookupError, FileNotFoundError, PermissionError):
        process = os.pidfd_open(before.pid)
        try:
            if _has_open(before.pid, lock):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)
    deadline_s = time.monotonic() + FENCED_S
    while is_locked(lock):
        if time.monotonic() > deadline_s:
            wrong = f"its supervisor (process {before.pid}) hangs and cannot be killed"
            raise RunError(Problem(lock.parent.name, "", wrong))
        time.sleep(0.02)
    return True


def _has_open(pid: int, path: Path) -> bool:
    """Whether a process has this file open: its number could be another process's by now."""
    wanted = path.stat()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if os.path.samestat(descriptor.stat(), wanted):
                return True
    return False
