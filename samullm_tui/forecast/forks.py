"""Several simulations at a time, in processes forked from this one.

Half of the time that a simulation takes it holds Python's lock, so threads would wait for each other. A fork has all
that its parent has at that moment: what to call is not sent to it, only what comes of it is sent back.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

from samullm_tui.planner.race import Runner
from samullm_tui.worker import end_with

__all__ = ["in_forks"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST_BYTES, MOST_BYTES = 32 << 20, 1 << 30
"""The largest array that is kept so (glibc allows no more), and how much is kept."""

_call: Callable[[int], Any]
"""What the forks are made for: they find it here."""


def in_forks(processes: int, few: int) -> Runner:
    """A `map` that does its calls in so many processes, all of them when it is called.

    Without forks are done: up to `few` calls, which are over before forks would be there; those of a process with
    further threads, which might hold a lock that a fork would wait for; and those whose forks were killed.
    """

    def run(call: Callable[[int], Any], items: Iterable[int]) -> list[Any]:
        numbers = list(items)
        if processes > 1 and len(numbers) > few and sys.platform == "linux" and threading.active_count() == 1:
            try:
                return _forked(call, numbers, processes)
            except (BrokenProcessPool, OSError):
                pass  # No memory for another process. One is enough.
        return [call(number) for number in numbers]

    return run


def _forked(call: Callable[[int], Any], numbers: list[int], processes: int) -> list[Any]:
    global _call  # noqa: PLW0603  # closures cannot be sent
    _call = call
    forks = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, forks, _begin, (os.getpid(),)) as pool:
        return list(pool.map(_called, numbers))


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent has it too, and ends its forks.
    end_with(parent)
    gc.disable()  # A collection writes to all objects, and would copy the memory that is shared.
    keep_memory()


def keep_memory() -> None:
    """What is freed is used again by this process: taking an array's memory anew from the system takes longer than
    writing it. Does nothing without glibc.
    """
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
        mallopt(M_TRIM_THRESHOLD, MOST_BYTES)


def _called(number: int) -> Any:
    return _call(number)
