"""What a run's journal says to the supervisor that takes the run over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.errors import Problem, RunError
from samullm_tui.domain.event import AnyEvent, EngineReady, RequestFailed
from samullm_tui.domain.request import IntArray, RequestTable
from samullm_tui.journal.reader import read_events
from samullm_tui.journal.requests import Committed, committed
from samullm_tui.journal.state import RunState, apply
from samullm_tui.supervisor.asking import breaks_the_run
from samullm_tui.supervisor.ledger import Finish
from samullm_tui.supervisor.outputs import row_end
from samullm_tui.supervisor.spec import RunPaths

__all__ = ["History", "Indices", "indices_of", "read_history"]


@dataclass
class History:
    """The fold of a journal, and of each request that ended where its row stands.

    `loads`: of each engine that became ready, in order; `broken`: the first cause that makes the run `failed`.
    """

    state: RunState = field(default_factory=RunState)
    rows: Committed = field(default_factory=Committed)
    loads: list[EngineReady] = field(default_factory=list)
    broken: str = ""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do: all requests ended."""
        return self.state.ended is not None and len(self.rows) >= self.state.requests

    def outputs_end(self, paths: RunPaths) -> int:
        """Where the last committed output ends. Raises JournalError."""
        return max((row_end(paths.outputs, last) for last in self._last(failed=False)), default=0)

    def errors_end(self, paths: RunPaths) -> int:
        """Where the last committed error row ends. Raises JournalError."""
        return max((row_end(paths.errors, last) for last in self._last(failed=True)), default=0)

    def _last(self, *, failed: bool) -> list[int]:
        """The offset of the last row in its file; empty when it has none."""
        offsets, tokens = _columns(self.rows)
        ours = offsets[(tokens < 0) == failed]
        return [int(ours.max())] if len(ours) else []

    def forget_rows(self) -> None:
        """They may be many, and are needed once."""
        self.rows = Committed()


@dataclass(frozen=True)
class Indices:
    """A history in terms of a request table.

    done     finished requests and how they got their outputs
    offsets  of those whose output somebody may still need, where the row stands
    failed   requests with an error row
    """

    done: Iterable[tuple[int, Finish]]
    offsets: dict[int, int]
    failed: list[int]


def read_history(paths: RunPaths) -> History:
    """Raises RecordingError when the journal is damaged."""
    history = History()
    history.rows = committed(_followed(history, read_events(paths.journal)))
    return history


def indices_of(history: History, table: RequestTable) -> Indices:
    """Raises RunError when the journal has requests that the application does not have (any more)."""
    index = _index_of_each(history.rows, table)
    offsets, tokens = _columns(history.rows)
    done, failed = tokens >= 0, index[tokens < 0]
    needed = done & _is_needed(table, index)[index]
    return Indices(
        done=_finishes(index, history.rows),
        offsets=dict(zip(index[needed].tolist(), offsets[needed].tolist(), strict=True)),
        failed=failed.tolist(),
    )


def _finishes(index: IntArray, rows: Committed) -> Iterator[tuple[int, Finish]]:
    """One at a time: a million of them need not be in memory at once."""
    for k, tokens, at_s, cut in zip(index.tolist(), rows.tokens, rows.at_s, rows.cut, strict=True):
        if tokens >= 0:
            yield k, Finish(tokens, at_s, bool(cut))


def _index_of_each(rows: Committed, table: RequestTable) -> IntArray:
    """By number the index in the table. Raises RunError."""
    index = np.full(len(rows), -1, dtype=np.int64)
    of_node = [rows.numbers.get(name, {}) for name in table.node_names]
    for k, (node, name) in enumerate(zip(table.node.tolist(), table.ids, strict=True)):
        number = of_node[node].get(name)
        if number is not None:
            index[number] = k
    if (index < 0).any():
        node, name = next(key for key, number in rows.ends() if index[number] < 0)
        raise RunError(Problem("", f"node {node}", f"the application has no request {name!r} any more"))
    return index


def _is_needed(table: RequestTable, ended: IntArray) -> npt.NDArray[np.bool_]:
    """[n] whether a request that has not ended waits for this one."""
    is_open = np.ones(len(table), dtype=np.bool_)
    is_open[ended] = False
    needed = np.zeros(len(table), dtype=np.bool_)
    needed[table.parents[np.repeat(is_open, np.diff(table.parent_start))]] = True
    return needed


def _columns(rows: Committed) -> tuple[IntArray, IntArray]:
    """(offsets, tokens) by number."""
    return np.array(rows.offsets, dtype=np.int64), np.array(rows.tokens, dtype=np.int64)


def _followed(history: History, events: Iterator[AnyEvent]) -> Iterator[AnyEvent]:
    for event in events:
        apply(history.state, event)
        if isinstance(event, EngineReady):
            history.loads.append(event)
        elif isinstance(event, RequestFailed) and breaks_the_run(event.cause):
            history.broken = history.broken or event.cause
        yield event
