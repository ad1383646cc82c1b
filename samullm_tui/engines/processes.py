"""Processes as /proc shows them: who descends from whom, and who carries a run's cookie. Linux, standard library only."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

__all__ = ["COOKIE", "alive", "descendants", "end_all", "marked", "shared_memory", "sweep", "unlink"]

COOKIE = "SAMULLM_RUN"
"""The environment variable by which every process of an engine is known, after whatever became of its parents."""

SHARED = "/dev/shm/"  # noqa: S108  # a place to look at, not to write to
OWN_SHARED = tuple(SHARED + name for name in ("psm_", "sem.mp-", "nccl-"))
GRACE_S = 2.0
POLL_S = 0.05


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208  # the keeper starts fast without pathlib


def _parent_and_state(pid: int) -> tuple[int, str] | None:
    """From /proc/PID/stat; None when it is gone. The name in it may hold spaces and parentheses."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            state, parent = file.read().rpartition(b")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(parent), state.decode()


def alive(pid: int) -> bool:
    """Whether the process is there and not only waiting to be reaped."""
    found = _parent_and_state(pid)
    return found is not None and found[1] not in "ZX"


def descendants(ancestor: int) -> list[int]:
    """All living processes below `ancestor`, itself not included."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    dead = set()
    for pid in _pids():
        if found := _parent_and_state(pid):
            children[found[0]].append(pid)
            if found[1] in "ZX":
                dead.add(pid)
    below: list[int] = []
    queue = [ancestor]
    while queue:
        new = children[queue.pop()]
        below += new
        queue += new
    return [pid for pid in below if pid not in dead]


def _cookie(pid: int) -> str | None:
    """The cookie the process was started with; None: none, not ours to read, or gone."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            variables = file.read().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    key = f"{COOKIE}=".encode()
    return next((v[len(key) :].decode(errors="replace") for v in variables if v.startswith(key)), None)


def marked(prefix: str) -> list[int]:
    """Living processes whose cookie is `prefix` or goes on from it after a slash. Never this process or its ancestors."""
    spared = set(_ancestors())
    return [pid for pid in _pids() if pid not in spared and _carries(pid, prefix) and alive(pid)]


def _carries(pid: int, prefix: str) -> bool:
    cookie = _cookie(pid)
    return cookie is not None and (cookie == prefix or cookie.startswith(prefix.rstrip("/") + "/"))


def shared_memory(pids: Iterable[int]) -> set[str]:
    """Paths of the shared memory that the processes made among themselves and have mapped.

    Only what Python and NCCL make up names for: a checkpoint that somebody keeps in /dev/shm is not meant.
    """
    paths: set[str] = set()
    for pid in pids:
        try:
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                paths |= {line[line.index("/") :].rstrip("\n") for line in file if SHARED in line}
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return {path for path in paths if path.startswith(OWN_SHARED) and os.path.exists(path)}  # noqa: PTH110


def _ancestors() -> Iterator[int]:
    pid = os.getpid()
    while pid > 0:
        yield pid
        found = _parent_and_state(pid)
        pid = found[0] if found else 0


def end_all(find: Callable[[], list[int]], grace_s: float = GRACE_S, give_up_s: float = 30.0) -> set[int]:
    """Ends what `find` finds until it finds nothing: SIGTERM to each, SIGKILL to what is left after `grace_s`.

    Returns every process id it signalled. Returns as well when `give_up_s` after the first SIGKILL something is still
    there (a process inside a driver cannot be killed); `find` then still finds it.
    """
    signalled: set[int] = set()
    began_s = time.monotonic()
    while pids := find():
        waited_s = time.monotonic() - began_s
        if waited_s > grace_s + give_up_s:
            break
        for pid in pids:
            if waited_s >= grace_s:
                _send(pid, signal.SIGKILL)
            elif pid not in signalled:
                _send(pid, signal.SIGTERM)
            signalled.add(pid)
        time.sleep(POLL_S)
    return signalled


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def unlink(paths: Iterable[str]) -> None:
    """Removes files that may be gone already."""
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108


def sweep(prefix: str, grace_s: float = GRACE_S) -> list[int]:
    """Ends every process of this user whose cookie begins with `prefix`: what a crashed run left. Returns their ids."""
    shared = shared_memory(marked(prefix))
    ended = end_all(lambda: marked(prefix), grace_s)
    unlink(shared)
    return sorted(ended)
