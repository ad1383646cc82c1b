"""Appending to a journal, durably, without waiting for the disk at every event.

`append` only frames the event and queues it. A thread writes what gathered within `group_s` or up to `group_events`
events (one write, one fdatasync) and then acknowledges all of it. An event is durable once it is acknowledged;
a crash may lose later ones, never earlier ones, and never leaves a gap.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from samullm_tui.domain.errors import JournalError, Problem
from samullm_tui.domain.event import AnyEvent
from samullm_tui.journal.codec import encode
from samullm_tui.journal.file import JournalFile, TakenOverError, disk_problem
from samullm_tui.journal.framing import MAX_PAYLOAD_BYTES, frame
from samullm_tui.journal.segments import closed_file, closed_segments, compress, is_compressed

__all__ = ["JournalWriter"]

SEGMENT_BYTES = 64 * 1024**2

OnError = Callable[[JournalError], None]


class JournalWriter:
    """The one writer of a journal (the caller sees to that, by a lock on the run). A segment is closed when it is full.

    Opening creates the file (0600) or cuts a torn tail off it: `recovered` holds the bytes that were cut.
    Raises JournalError when it cannot be opened, is no journal, or is damaged before its tail.

    When a write fails, nothing is lost or reordered: all events that are not acknowledged stay in memory, and
    `retry()` writes them. `flush()` and `committed()` raise until then. `on_error` is told at once, in the writer's
    thread (it must not raise), and `append` goes on queueing; without an `on_error` nobody would have heard, so `append` raises instead.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_error: OnError | None = None,
        group_s: float = 0.05,
        group_events: int = 256,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._file = JournalFile(path)
        self.path = path
        self.recovered: bytes = self._file.cut
        self._on_error = on_error
        self._group_s = group_s
        self._group_events = group_events
        self._segment_bytes = segment_bytes
        self._state = threading.Condition()
        self._writing = threading.Lock()
        self._pending: list[bytes] = []
        self._acknowledged = self._file.frames
        self._hurry = 0
        self._error: JournalError | None = None
        self._closing = False
        self._ended = False
        self._waiters: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._compressing: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()
        for first in closed_segments(path):
            self._compress(closed_file(path, first))

    @property
    def next_sequence(self) -> int:
        """The number that the next event gets: events in the file and in memory, from 0."""
        with self._state:
            return self._acknowledged + len(self._pending)

    @property
    def durable(self) -> int:
        """How many events are acknowledged."""
        with self._state:
            return self._acknowledged

    @property
    def error(self) -> JournalError | None:
        """Why nothing can be written now; None when all is well."""
        with self._state:
            return self._error

    def append(self, event: AnyEvent) -> int:
        """Queues `event`; its number in the journal, from 0. See the class about failed writes."""
        payload = encode(event)
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise self._failure(f"an event of {len(payload)} bytes", f"at most {MAX_PAYLOAD_BYTES} bytes")
        line = frame(payload)
        with self._state:
            if self._closing or self._ended:
                raise self._failure("an event came after the journal's end")
            if self._error and self._on_error is None:
                raise self._error
            self._pending.append(line)
            if len(self._pending) in (1, self._group_events):
                self._state.notify_all()
            return self._acknowledged + len(self._pending) - 1

    def flush(self) -> None:
        """Blocks until everything appended so far is durable. Raises JournalError when it cannot be written."""
        with self._state:
            target = self._acknowledged + len(self._pending)
            self._hurry = max(self._hurry, target)
            self._state.notify_all()
            self._state.wait_for(lambda: self._acknowledged >= target or self._error or self._ended)
            if self._acknowledged < target:
                raise self._error or self._failure("the journal has ended")

    async def committed(self) -> None:
        """Waits, without hurrying the group, until everything appended so far is durable. Raises JournalError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._state:
            target = self._acknowledged + len(self._pending)
            if self._acknowledged >= target:
                return
            if self._error:
                raise self._error
            self._waiters.append((target, loop, future))
        await future

    def retry(self) -> None:
        """After a failed write: writes, in the caller's thread, all that waits. Raises JournalError if it fails again."""
        with self._state:
            if self._closing:
                raise self._failure("the journal has ended")
        self._write_pending()
        with self._state:
            if self._error:
                raise self._error

    def close(self) -> None:
        """Writes what waits and closes the file. Raises JournalError if it could not be written."""
        with self._state:
            if self._closing:
                return
            self._closing = True
            self._state.notify_all()
        self._thread.join()
        if self._pending:
            self._write_pending()
        self._file.close()
        for compressing in self._compressing:
            compressing.join()
        if self._error:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        try:
            while self._group_ready():
                self._write_pending()
                error = self.error
                if error and self._on_error:
                    self._on_error(error)
        finally:
            # However this thread ends, nobody may wait for it for ever.
            with self._state:
                self._ended = True
                if self._pending and not self._error:
                    self._fail(self._failure("the journal's writer thread ended"))
                self._state.notify_all()

    def _group_ready(self) -> bool:
        """Waits for a group to write. False when there will be none."""
        with self._state:
            self._state.wait_for(lambda: self._closing or (self._pending and not self._error))
            deadline = time.monotonic() + self._group_s
            while not self._group_full() and (left := deadline - time.monotonic()) > 0:
                self._state.wait(left)
            return bool(self._pending) and not self._error

    def _group_full(self) -> bool:
        return self._closing or len(self._pending) >= self._group_events or self._hurry > self._acknowledged

    def _write_pending(self) -> None:
        with self._writing:
            with self._state:
                group = self._pending[:]
            try:
                self._file.write(b"".join(group), len(group))
            except OSError as error:
                problem = disk_problem(self._file.path, f"byte {self._file.good_bytes}", error)
                with self._state:
                    self._fail(JournalError(problem))
                return
            except TakenOverError as error:
                with self._state:
                    self._fail(error)
                return
            with self._state:
                self._error = None
                del self._pending[: len(group)]
                self._acknowledged += len(group)
                self._tell_waiters()
                self._state.notify_all()
            if self._file.good_bytes >= self._segment_bytes:
                closed = self._file.rotate()
                if closed:
                    self._compress(closed)

    def _compress(self, closed: Path) -> None:
        """Beside the writing. What is not done when the process ends is done by the next writer."""
        if not is_compressed(closed):
            self._compressing.append(threading.Thread(target=_try_to_compress, args=(closed,), daemon=True))
            self._compressing[-1].start()

    def _fail(self, error: JournalError) -> None:
        self._error = error
        self._tell_waiters()
        self._state.notify_all()

    def _tell_waiters(self) -> None:
        """Resolves the waiters whose events are durable, or all of them with the error."""
        waiters, self._waiters = self._waiters, []
        for target, loop, future in waiters:
            if self._acknowledged < target and not self._error:
                self._waiters.append((target, loop, future))
                continue
            error = self._error if self._acknowledged < target else None
            with suppress(RuntimeError):  # its loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_resolve, future, error)

    def _failure(self, wrong: str, right: str = "") -> JournalError:
        return JournalError(Problem(str(self._file.path), f"byte {self._file.good_bytes}", wrong, right))


def _try_to_compress(closed: Path) -> None:
    with suppress(OSError):  # no room: it is whole as it is
        compress(closed)


def _resolve(future: asyncio.Future[None], error: JournalError | None) -> None:
    if future.done():
        return
    if error:
        future.set_exception(error)
    else:
        future.set_result(None)
