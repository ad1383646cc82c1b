"""Several simulations at a time, in processes forked from this one.

A simulation holds Python's lock for a good part of its time, so threads would wait for each other. A fork has all that
its parent has at that moment: the study is not sent to it, only which of it to simulate.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from samullm_tui.planner.study import Study
from samullm_tui.worker import end_with

__all__ = ["forked"]

T = TypeVar("T")
CHUNK_REQUESTS = 20_000
"""Requests that are simulated in some milliseconds: so many are worth sending a job for."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST_BYTES, MOST_BYTES = 32 << 20, 1 << 30
"""The largest array whose memory is kept (glibc allows no more), and how much is kept."""
_study: Study
"""In a fork: what it simulates."""


@contextmanager
def forked(study: Study, processes: int) -> Iterator[Study]:
    """The same study, whose calls are made in so many processes. They are forked when the first is made.

    Without forks it does for one process, and for one with further threads, which might hold a lock that a fork would
    wait for for ever.
    """
    if processes < 2 or sys.platform != "linux" or threading.active_count() > 1:
        yield study
        return
    forks = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(processes, forks, _begin, (os.getpid(), study)) as pool:
            yield Forked(study.problem, study.draws, pool)
    finally:
        # A pool whose last fork was refused forgets the others, and the exit would wait for them.
        for lost in multiprocessing.active_children():
            lost.kill()


@dataclass(frozen=True)
class Forked(Study):
    """Calls whose forks were killed or refused, for want of memory or processes, are made here."""

    pool: ProcessPoolExecutor

    def run(self, call: Callable[..., T], jobs: Sequence[tuple[Any, ...]]) -> list[T]:
        chunk = max(1, CHUNK_REQUESTS // max(1, len(self.problem.table)))
        with suppress(BrokenProcessPool, OSError):
            return list(self.pool.map(_called, [call] * len(jobs), jobs, chunksize=chunk))
        return super().run(call, jobs)

    def begin(self, call: Callable[..., T], *job: Any) -> Callable[[], T]:
        with suppress(BrokenProcessPool, OSError):
            begun = self.pool.submit(_called, call, job)

            def result() -> T:
                with suppress(BrokenProcessPool):
                    return begun.result()
                return call(self, *job)

            return result
        return super().begin(call, *job)


def _begin(parent: int, study: Study) -> None:
    global _study  # noqa: PLW0603  # the calls find it here
    _study = study
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent has it too, and ends its forks.
    end_with(parent)
    gc.disable()  # A collection writes to all objects, and would copy the memory that is shared.
    _keep_memory()


def _called(call: Callable[..., T], job: tuple[Any, ...]) -> T:
    return call(_study, *job)


def _keep_memory() -> None:
    """What is freed is used again by this process: taking an array's memory anew from the system takes longer than
    writing it. Does nothing without glibc.
    """
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
        mallopt(M_TRIM_THRESHOLD, MOST_BYTES)
