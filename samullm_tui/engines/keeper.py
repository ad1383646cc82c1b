"""The keeper: a small process beside each engine that lets none of the engine's processes outlive its owner.

It is forked twice and has a session of its own, so that nothing that ends the owner, its terminal or its process group
reaches it. It holds the reading end of a pipe whose only writing end is the owner's: end-of-file there means that the
owner closed it or died, by whatever means. As child subreaper it adopts every process below it whose parent ends,
those that changed their session too, and so finds them all. Standard library only: it starts in tens of milliseconds.

Reads one JSON line from the pipe: a Spec. Writes JSON lines to the report pipe:
{"event": "started", "pid"} or {"event": "refused", "cause"}; {"event": "exited", "status"} (negative: the signal);
and last {"event": "gone", "left": [pids that would not die]}.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import sys
from typing import TypedDict

from samullm_tui.engines.processes import descendants, end_all, marked, shared_memory, unlink

__all__ = ["Spec", "main"]

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Spec(TypedDict):
    """What to run: `env` is the whole environment, `log` the file that output is appended to.

    `scratch`, when not empty, is a folder that is removed with all in it when every process is gone.
    """

    argv: list[str]
    env: dict[str, str]
    log: str
    cookie: str
    grace_s: float
    scratch: str


def main() -> None:
    """Arguments: the package's folder, the file descriptor to read from, and the one to report to."""
    life, report = int(sys.argv[2]), int(sys.argv[3])
    for descriptor in (life, report):
        os.set_inheritable(descriptor, False)
    _leave_the_owner()
    wake = _notice_signals()
    line = _read_line(life)
    if line:
        _keep(json.loads(line), life, report, wake)


def _leave_the_owner() -> None:
    """Two forks and a new session: no terminal, no controlling process, init as parent."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _notice_signals() -> int:
    """A descriptor that gets one byte, the number, for every signal. Handlers, unlike SIG_IGN, end at exec."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable


def _read_line(descriptor: int) -> bytes:
    """Up to the first newline; empty when the owner is gone before it."""
    read = b""
    while not read.endswith(b"\n"):
        part = os.read(descriptor, 65536)
        if not part:
            return b""
        read += part
    return read


def _keep(spec: Spec, life: int, report: int, wake: int) -> None:
    try:
        root = _spawn(spec)
    except OSError as error:
        _tell(report, event="refused", cause=f"{spec['argv'][0]}: {error.strerror}")
        _remove_scratch(spec)
        return
    _tell(report, event="started", pid=root)
    status = _wait(root, life, wake)
    if status is not None:
        _tell(report, event="exited", status=status)

    def left() -> list[int]:
        return sorted({*descendants(os.getpid()), *marked(spec["cookie"])})

    shared = shared_memory(left())
    end_all(left, spec["grace_s"])
    unlink(shared)
    _remove_scratch(spec)
    if status is None:
        _tell(report, event="exited", status=_reap().get(root))
    _tell(report, event="gone", left=left())


def _spawn(spec: Spec) -> int:
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawnp(
        spec["argv"][0],
        spec["argv"],
        spec["env"],
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, spec["log"], append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGPIPE],
    )


def _wait(root: int, life: int, wake: int) -> int | None:
    """Until the root process exits (its status), or the owner lets go or a SIGTERM comes (None)."""
    poll = select.poll()
    poll.register(life, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        numbers = os.read(wake, 4096) if wake in ready else b""
        exited = _reap()
        if root in exited:
            return exited[root]
        if life in ready or signal.SIGTERM in numbers:
            return None


def _reap() -> dict[int, int]:
    """Exit statuses of the children that ended, those adopted too."""
    exited: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return exited
        if pid == 0:
            return exited
        exited[pid] = os.waitstatus_to_exitcode(status)


def _remove_scratch(spec: Spec) -> None:
    if spec["scratch"]:
        shutil.rmtree(spec["scratch"], ignore_errors=True)


def _tell(report: int, **message: object) -> None:
    try:
        os.write(report, json.dumps(message).encode() + b"\n")
    except BrokenPipeError:
        return  # The owner is gone: nobody is left to tell.
