"""What a worker process answers: its result, or what is wrong with what it was asked, as one line of JSON on stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec

from samullm_tui.domain.errors import SamullmError

__all__ = ["answer"]


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
