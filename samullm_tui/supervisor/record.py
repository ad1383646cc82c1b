"""What a run leaves behind: its events, and the rows that they point at, written in the order they came.

A thread does all the writing, so that a slow disk never holds up the event loop. Rows go first (one write and one
fdatasync for all that gathered), then the events, into the journal. So a journal never points at a row that is not on
the disk, and a row without an event is no result: the next supervisor cuts it off.

When the disk is full, nothing is dropped: the thread tells of the trouble, and tries again until it is over.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec

from samullm_tui.domain.errors import JournalError, Problem
from samullm_tui.domain.event import AnyEvent, RequestFailed, RequestFinished
from samullm_tui.journal.file import TakenOverError
from samullm_tui.journal.writer import JournalWriter
from samullm_tui.supervisor.outputs import ErrorRow, OutputRow, RowFile
from samullm_tui.supervisor.spec import RunPaths

__all__ = ["Record"]

GATHER_S = 0.05
GATHER_ITEMS = 256
LIMIT_ITEMS = 20_000
RETRY_S = 1.0

OnTrouble = Callable[[str], None]
Item = tuple[OutputRow | ErrorRow | None, AnyEvent | None, "Ticket | None"]


class Ticket:
    """Somebody waits until everything before it is durable."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()

    def resolve(self, failure: BaseException | None = None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._set, failure)

    def _set(self, failure: BaseException | None) -> None:
        if self.future.done():
            return
        if failure:
            self.future.set_exception(failure)
        else:
            self.future.set_result(None)


class Record:
    """The one writer of a run's journal and rows (the run's lock sees to that)."""

    def __init__(self, paths: RunPaths, outputs_end: int, errors_end: int, on_trouble: OnTrouble) -> None:
        """`outputs_end`, `errors_end`: where the rows end that the journal knows of.

        `on_trouble` is told, in the writing thread, why nothing can be written now, and "" when that is over.
        Raises JournalError.
        """
        self._outputs = RowFile(paths.outputs, outputs_end)
        self._errors = RowFile(paths.errors, errors_end)
        self._journal = JournalWriter(paths.journal, on_error=lambda error: self._tell(str(error)))
        self._on_trouble = on_trouble
        self._trouble = ""
        self._state = threading.Condition()
        self._items: deque[Item] = deque()
        self._closing = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="record", daemon=True)
        self._thread.start()

    def emit(self, event: AnyEvent) -> None:
        self._put((None, event, None))

    def output(self, row: OutputRow, event: RequestFinished) -> None:
        """`event.offset` is filled in when the row is written."""
        self._put((row, event, None))

    def error(self, row: ErrorRow, event: RequestFailed) -> None:
        """`event.offset` is filled in when the row is written."""
        self._put((row, event, None))

    async def committed(self) -> None:
        """Waits until everything so far is durable: for ever, while nothing can be written."""
        ticket = Ticket()
        self._put((None, None, ticket))
        await ticket.future

    def close(self) -> None:
        """Writes what is left. Raises JournalError when that cannot be done."""
        with self._state:
            self._closing = True
            self._state.notify_all()
        self._thread.join()
        self._outputs.close()
        self._errors.close()
        self._journal.close()
        if self._failure:
            raise JournalError(
                Problem("", "", f"the run could not be recorded: {self._failure}")
            ) from self._failure

    def _put(self, item: Item) -> None:
        with self._state:
            if self._failure:
                raise JournalError(Problem("", "", "the run is not recorded any more")) from self._failure
            # A simulated run at full speed is faster than a disk: it waits here.
            self._state.wait_for(lambda: len(self._items) < LIMIT_ITEMS or self._trouble or self._failure)
            self._items.append(item)
            self._state.notify_all()

    def _work(self) -> None:
        try:
            while batch := self._gather():
                self._write(batch)
        except BaseException as error:  # noqa: BLE001  (kept, and raised to whoever writes or closes)
            with self._state:
                self._failure = error
                waiting = [ticket for _, _, ticket in self._items if ticket]
                self._state.notify_all()
            for ticket in waiting:
                ticket.resolve(error)
            self._on_trouble(f"the run could not be recorded: {error}")

    def _gather(self) -> list[Item]:
        """What came within a moment; an empty list after the last."""
        with self._state:
            while not self._items and not self._closing:
                if not self._state.wait(RETRY_S) and self._trouble:
                    break
            deadline = time.monotonic() + GATHER_S
            while self._may_wait() and (left := deadline - time.monotonic()) > 0:
                self._state.wait(left)
            batch = list(self._items)
            self._items.clear()
            self._state.notify_all()
        return batch if batch or self._closing else [(None, None, None)]

    def _may_wait(self) -> bool:
        """Nobody waits for this batch and it is small."""
        items = self._items
        return bool(items) and not self._closing and len(items) < GATHER_ITEMS and items[-1][2] is None

    def _write(self, batch: list[Item]) -> None:
        offsets = self._write_rows(batch)
        for (row, event, ticket), offset in zip(batch, offsets, strict=True):
            if event is not None:
                self._journal.append(
                    msgspec.structs.replace(event, offset=offset) if row is not None else event
                )
            if ticket is not None:
                self._insist(self._flush_journal)
                ticket.resolve()
        if self._journal.error:
            self._insist(self._flush_journal)

    def _flush_journal(self) -> None:
        if self._journal.error:
            self._journal.retry()
        self._journal.flush()

    def _write_rows(self, batch: list[Item]) -> list[int]:
        """Writes the rows of a batch; for each item the offset of its row."""
        offsets = [0] * len(batch)
        for file, kind in ((self._outputs, OutputRow), (self._errors, ErrorRow)):
            lines: list[bytes] = []
            end = file.end
            for place, (row, _, _) in enumerate(batch):
                if isinstance(row, kind):
                    lines.append(msgspec.json.encode(row) + b"\n")
                    offsets[place] = end
                    end += len(lines[-1])
            if lines:
                self._insist(partial(file.append, lines))
        return offsets

    def _insist(self, write: Callable[[], None]) -> None:
        """Does it until it succeeds; once only when the run is closing."""
        while True:
            try:
                write()
            except TakenOverError:
                raise
            except JournalError as error:
                if self._closing:
                    raise
                self._tell(str(error))
                time.sleep(RETRY_S)
            else:
                self._tell(str(self._journal.error or ""))
                return

    def _tell(self, trouble: str) -> None:
        with self._state:
            changed, self._trouble = trouble != self._trouble, trouble
            self._state.notify_all()
        if changed:
            self._on_trouble(trouble)
