"""What a run's journal says to the supervisor that takes the run over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from samullm_tui.domain.errors import Problem, RunError
from samullm_tui.domain.event import AnyEvent, EngineReady, RequestFailed, RequestFinished
from samullm_tui.domain.request import RequestTable
from samullm_tui.journal.reader import read_events
from samullm_tui.journal.requests import Committed, Key, committed
from samullm_tui.journal.state import RunState, apply
from samullm_tui.supervisor.asking import breaks_the_run
from samullm_tui.supervisor.ledger import Finish
from samullm_tui.supervisor.outputs import row_end
from samullm_tui.supervisor.spec import RunPaths

__all__ = ["History", "Indices", "indices_of", "read_history"]


@dataclass
class History:
    """The fold of a journal, and of each request that ended where its row stands.

    `finished`: how each request got its output; `loads`: of each engine that became ready, in order; `broken`: the first cause that makes the run `failed`.
    """

    state: RunState = field(default_factory=RunState)
    rows: Committed = field(default_factory=lambda: Committed({}, {}))
    finished: dict[Key, Finish] = field(default_factory=dict)
    loads: list[EngineReady] = field(default_factory=list)
    broken: str = ""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do: all requests ended."""
        return (
            self.state.ended is not None
            and len(self.rows.outputs) + len(self.rows.errors) >= self.state.requests
        )

    def outputs_end(self, paths: RunPaths) -> int:
        """Where the last committed output ends. Raises JournalError."""
        return _end(self.rows.outputs, lambda offset: row_end(paths.outputs, offset))

    def errors_end(self, paths: RunPaths) -> int:
        """Where the last committed error row ends. Raises JournalError."""
        return _end(self.rows.errors, lambda offset: row_end(paths.errors, offset))


@dataclass(frozen=True)
class Indices:
    """A history in terms of a request table: finished requests with their rows, and failed ones."""

    done: dict[int, Finish]
    offsets: dict[int, int]
    failed: list[int]


def read_history(paths: RunPaths) -> History:
    """Raises RecordingError when the journal is damaged."""
    history = History()
    history.rows = committed(_followed(history, read_events(paths.journal)))
    return history


def indices_of(history: History, table: RequestTable) -> Indices:
    """Raises RunError when the journal has requests that the application does not have (any more)."""
    if not history.rows.outputs and not history.rows.errors:
        return Indices({}, {}, [])
    names = [table.node_names[node] for node in table.node.tolist()]
    known = {key: index for index, key in enumerate(zip(names, table.ids, strict=True))}
    for node, id_ in (*history.rows.outputs, *history.rows.errors):
        if (node, id_) not in known:
            raise RunError(Problem("", f"node {node}", f"the application has no request {id_!r} any more"))
    return Indices(
        done={known[key]: history.finished[key] for key in history.rows.outputs},
        offsets={known[key]: offset for key, offset in history.rows.outputs.items()},
        failed=[known[key] for key in history.rows.errors],
    )


def _followed(history: History, events: Iterator[AnyEvent]) -> Iterator[AnyEvent]:
    for event in events:
        apply(history.state, event)
        if isinstance(event, RequestFinished):
            cut = event.finish_reason == "length"
            history.finished.setdefault((event.node, event.id), Finish(event.output_tokens, event.at_s, cut))
        elif isinstance(event, EngineReady):
            history.loads.append(event)
        elif isinstance(event, RequestFailed) and breaks_the_run(event.cause):
            history.broken = history.broken or event.cause
        yield event


def _end(offsets: dict[Key, int], end_of: Callable[[int], int]) -> int:
    return end_of(max(offsets.values())) if offsets else 0
