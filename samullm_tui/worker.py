"""A worker process: it ends with the process it works for, and answers with one line of JSON on stdout."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

import msgspec

from samullm_tui.domain.errors import SamullmError

__all__ = ["answer", "end_with"]

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def answer(work: Callable[[], object]) -> int:
    """Prints what `work` returns; `{"problems": [...]}` when it raises one of our errors. Returns the exit status."""
    status = 0
    try:
        result = work()
    except SamullmError as error:
        result, status = {"problems": error.problems}, error.exit_status
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    sys.stdout.flush()
    return status


def end_with(parent: int) -> None:
    """From now on the kernel kills this process when the process `parent`, or the thread of it that started this one,
    is gone.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # It was gone before.
