"""A whole recording in memory, with the state after any of its events: what the replay screen moves along."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from samullm_tui.domain.errors import Problem, RecordingError
from samullm_tui.domain.event import AnyEvent, Decided, RunCreated
from samullm_tui.journal.reader import RIGHT, journal_file, read_events
from samullm_tui.journal.run_state import RunState, copy_state
from samullm_tui.journal.state import apply, fold

__all__ = ["Timeline"]

SNAPSHOTS = 256
MIN_STRIDE = 128


class Timeline:
    """The events of the recording at `path` (journal file, run folder or `.zst`), numbered from 0.

    Loading folds the whole recording once and keeps a copy of the state every so many events, so that a seek
    applies few of them. Raises RecordingError when `path` is no recording or holds no event.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: Sequence[AnyEvent] = tuple(read_events(path))
        if not self.events or not isinstance(self.events[0], RunCreated):
            wrong = "it does not begin with the creation of a run" if self.events else "it holds no event"
            raise RecordingError(Problem(str(journal_file(path)), "line 1", wrong, RIGHT))
        self._times = tuple(accumulate((event.at_s for event in self.events), max))
        self._stride = max(MIN_STRIDE, len(self.events) // SNAPSHOTS)
        self._snapshots: list[RunState] = []
        self.final = self._fold_all()
        self.decision_indices = tuple(k for k, event in enumerate(self.events) if isinstance(event, Decided))

    def _fold_all(self) -> RunState:
        state = RunState()
        for index, event in enumerate(self.events):
            if index % self._stride == 0:
                self._snapshots.append(copy_state(state))
            apply(state, event)
        return state

    def __len__(self) -> int:
        return len(self.events)

    @property
    def duration_s(self) -> float:
        """The time of the latest event, on the run's clock."""
        return self._times[-1]

    def at_s(self, index: int) -> float:
        """The time at which event `index` has happened (times never go back)."""
        return self._times[index] if index >= 0 else 0.0

    def index_at(self, at_s: float) -> int:
        """The last event that has happened by `at_s`; -1 when none has."""
        return bisect_right(self._times, at_s) - 1

    def state_at(self, index: int | None = None, *, at_s: float | None = None) -> RunState:
        """The state right after event `index`, or at the time `at_s`; -1 is before the first, too late is the end.

        Give one of the two. The state is the caller's to keep.
        """
        if (index is None) == (at_s is None):
            raise ValueError("either an index or a time")
        if at_s is not None:
            index = self.index_at(at_s)
        applied = min(max(index if index is not None else -1, -1) + 1, len(self.events))
        snapshot = min(applied // self._stride, len(self._snapshots) - 1)
        state = copy_state(self._snapshots[snapshot])
        return fold(self.events[snapshot * self._stride : applied], state)
