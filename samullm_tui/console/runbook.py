"""The runs of this machine, looked at again and again: of each journal only what is new is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from samullm_tui.domain.errors import JournalError, RecordingError
from samullm_tui.journal.reader import JournalTail
from samullm_tui.journal.run_state import RunState
from samullm_tui.journal.state import fold
from samullm_tui.locations import runs_dir
from samullm_tui.supervisor.liveness import is_locked, read_heartbeat
from samullm_tui.supervisor.runs import RunSummary
from samullm_tui.supervisor.spec import RunPaths

__all__ = ["RunBook"]


class RunBook:
    """Summaries of all runs. Not for two threads at once."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[JournalTail, RunState]] = {}

    def summaries(self) -> list[RunSummary]:
        """All runs, latest first. Folders that are no runs, and runs whose journal cannot be read, are left out."""
        folders = {spec.parent for spec in runs_dir().glob("*/spec.json")}
        self._known = {folder: entry for folder, entry in self._known.items() if folder in folders}
        found = [entry for folder in folders if (entry := self._look(folder))]
        return [summary for _, summary in _latest_first(found)]

    def _look(self, folder: Path) -> tuple[float, RunSummary] | None:
        paths = RunPaths(folder)
        tail, state = self._known.setdefault(folder, (JournalTail(folder), RunState()))
        try:
            # The lock is looked at first: a run that ends in between is then not "interrupted".
            alive = is_locked(paths.lock)
            fold(tail.poll(), state)
        except (JournalError, RecordingError):
            return None
        return state.created_unix_s, _summary(paths, state, alive=alive)


def _latest_first(found: Iterable[tuple[float, RunSummary]]) -> list[tuple[float, RunSummary]]:
    return sorted(found, key=lambda entry: (entry[0], entry[1].run), reverse=True)


def _summary(paths: RunPaths, state: RunState, *, alive: bool) -> RunSummary:
    heartbeat = read_heartbeat(paths.heartbeat) if alive else None
    return RunSummary(
        run=paths.run,
        application=state.application,
        status=state.status if alive or state.ended else "interrupted",
        pid=heartbeat.pid if heartbeat else None,
        heartbeat_age_s=heartbeat.age_s if heartbeat else None,
        requests=state.requests,
        outputs=state.finished,
        errors=state.errors,
        directory=str(paths.folder),
    )
