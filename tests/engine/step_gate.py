"""An engine's step log as a pipe: while nobody reads it, the engine gets as far as a page of rows and no further."""

from __future__ import annotations

import asyncio
import fcntl
import os
import termios
from contextlib import suppress
from pathlib import Path

PAGE = 4096
"""The least that a pipe holds: some 130 steps."""
ROW = 64
"""No row is longer. With less room than that a step or two can end, no more."""


class StepGate:
    """The pipe at `path`, open until it is shut. To be made and shut within a running event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path, 0o600)
        # Open for writing too: it is there before the engine, and after it.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PAGE)
        asyncio.get_running_loop().add_reader(self._pipe, self.let_on)

    def shut(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pipe)

    def let_on(self) -> None:
        """For another page of steps."""
        with suppress(BlockingIOError):
            os.read(self._pipe, PAGE)

    @property
    def holds(self) -> bool:
        """Whether the engine is at the end of its page."""
        waiting = int.from_bytes(fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4)), "little")
        return PAGE - waiting < ROW

    def close(self) -> None:
        self.shut()
        os.close(self._pipe)
