"""A recording with the state after any of its events: what the replay screen moves along, while it is still read.

Events are kept in blocks, compressed, with the state before each: a seek unpacks one block and applies less than that,
and a million events take about as much memory as the recording.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from samullm_tui.domain.errors import Problem, RecordingError
from samullm_tui.domain.event import (
    AnyEvent,
    Decided,
    EngineFailed,
    GpuQuarantined,
    RequestFailed,
    RunCreated,
)
from samullm_tui.journal.compressed import zstd
from samullm_tui.journal.reader import RIGHT, journal_file, read_events
from samullm_tui.journal.run_state import RunState, copy_state
from samullm_tui.journal.state import fold

__all__ = ["BLOCK_EVENTS", "Timeline"]

BLOCK_EVENTS = 1024
ERRORS = (EngineFailed, GpuQuarantined, RequestFailed)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[list[AnyEvent]] = msgspec.json.Decoder(list[AnyEvent])


class Timeline:
    """The events of the recording at `path` (journal file, run folder or a compressed one), numbered from 0.

    It holds what `read` has come to; one thread may read while another moves along that. `is_whole`: nothing is left to
    read. `final`: the state after the last event so far, nobody's to change. `error_indices`: of what went wrong for good
    with an engine, a GPU or a request.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_whole = False
        self.decision_indices: list[int] = []
        self.error_indices: list[int] = []
        self._blocks: list[bytes] = []
        self._states = [RunState()]
        self._times = array("d")
        self._count = 0

    def read(self) -> Iterator[Sequence[AnyEvent]]:
        """Reads the recording, and yields its events, at most BLOCK_EVENTS at a time.

        Raises RecordingError when `path` is no recording, holds no event or is damaged.
        """
        events = read_events(self.path)
        while block := tuple(islice(events, BLOCK_EVENTS)):
            self._add(block)
            yield block
        if not self._count:
            raise self._error("it holds no event")
        self.is_whole = True

    def whole(self) -> Timeline:
        """Itself, when all of it is read. Raises as `read`."""
        for _ in self.read():
            pass
        return self

    def _add(self, block: Sequence[AnyEvent]) -> None:
        first = self._count
        if not first and not isinstance(block[0], RunCreated):
            raise self._error("it does not begin with the creation of a run")
        latest = self.duration_s
        for event in block:
            latest = max(latest, event.at_s)
            self._times.append(latest)
        self._blocks.append(zstd.compress(_encoder.encode(block)))
        self._states.append(fold(block, copy_state(self._states[-1])))
        self.decision_indices += [first + k for k, event in enumerate(block) if isinstance(event, Decided)]
        self.error_indices += [first + k for k, event in enumerate(block) if isinstance(event, ERRORS)]
        # Last: who moves along meanwhile goes by it.
        self._count = first + len(block)

    def _error(self, wrong: str) -> RecordingError:
        return RecordingError(Problem(str(journal_file(self.path)), "line 1", wrong, RIGHT))

    def __len__(self) -> int:
        return self._count

    @property
    def final(self) -> RunState:
        return self._states[-1]

    @property
    def duration_s(self) -> float:
        """The time of the latest event, on the run's clock."""
        return self.at_s(self._count - 1)

    def at_s(self, index: int) -> float:
        """The time at which event `index` has happened (times never go back)."""
        return self._times[index] if index >= 0 else 0.0

    def index_at(self, at_s: float) -> int:
        """The last event that has happened by `at_s`; -1 when none has."""
        return bisect_right(self._times, at_s, 0, self._count) - 1

    def state_at(self, index: int | None = None, *, at_s: float | None = None) -> RunState:
        """The state right after event `index`, or at the time `at_s`; -1 is before the first, too late is the end.

        Give one of the two. The state is the caller's to keep.
        """
        if (index is None) == (at_s is None):
            raise ValueError("either an index or a time")
        if at_s is not None:
            index = self.index_at(at_s)
        applied = min(max(index if index is not None else -1, -1) + 1, self._count)
        block, within = divmod(applied, BLOCK_EVENTS)
        state = copy_state(self._states[block])
        return fold(self._unpack(block)[:within], state) if within else state

    def _unpack(self, block: int) -> list[AnyEvent]:
        return _decoder.decode(zstd.decompress(self._blocks[block]))
