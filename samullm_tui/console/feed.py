"""A run as it grows: the tail of its journal, folded. Reads in a thread, is shown from the event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from samullm_tui.console.describe import LogLine, log_of
from samullm_tui.console.sources import Tail
from samullm_tui.journal.run_state import RunState, copy_state
from samullm_tui.journal.state import fold

__all__ = ["Moment", "RunFeed"]

CHUNK_BYTES = 2 * 1024**2


class Moment(Struct, frozen=True):
    """A copy of a run's state that nobody changes any more, and its log, the latest line last."""

    state: RunState
    log: Sequence[LogLine]


class RunFeed:
    """Follows one journal. `advance` belongs to one thread at a time; what it returns may be shown by another."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._state = RunState()
        self._log: deque[LogLine] = log_of(())

    def advance(self) -> Moment | None:
        """Reads what is new, at most CHUNK_BYTES of it. None when there was nothing. Raises SamullmError."""
        events = self._tail.poll(CHUNK_BYTES)
        if not events:
            return None
        fold(events, self._state)
        log_of(events, self._log)
        return Moment(copy_state(self._state), tuple(self._log))
