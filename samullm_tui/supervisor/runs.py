"""The runs of this machine, and how they honestly stand."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct

from samullm_tui.domain.errors import JournalError, Problem, RecordingError
from samullm_tui.journal.reader import JournalTail, read_events
from samullm_tui.journal.state import RunState, Status, fold
from samullm_tui.locations import runs_dir
from samullm_tui.supervisor.liveness import is_locked, read_heartbeat
from samullm_tui.supervisor.spec import RunPaths, existing_run

__all__ = ["RunBook", "RunResult", "RunStatus", "RunSummary", "list_runs", "result", "run_summary"]

RunStatus = Status | Literal["interrupted"]
"""`interrupted`: no supervisor, or one that hangs, and not finished; it can be resumed."""


class RunSummary(Struct, frozen=True, kw_only=True):
    """One run as the contract's `runs` has it. `pid` and `heartbeat_age_s` are None without a supervisor."""

    run: str
    application: str
    status: RunStatus
    pid: int | None
    heartbeat_age_s: float | None
    requests: int
    outputs: int
    errors: int
    directory: str


class RunResult(Struct, frozen=True, kw_only=True):
    """How a run came out, as the contract's `run` has it. Times in seconds of the run's own clock.

    `predicted_makespan_s` is the median that the approved plan was simulated with. `replans` counts decisions that
    replaced the rest of the plan.
    """

    run: str
    status: RunStatus
    requests: int
    outputs: int
    errors: int
    makespan_s: float | None
    predicted_makespan_s: float | None
    replans: int
    directory: str


class RunBook:
    """All runs, looked at again and again: of each journal only what is new is read. Not for two threads at once."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[JournalTail, RunState]] = {}
        self.problems: tuple[Problem, ...] = ()
        """Runs whose journal could not be read when they were last looked at."""

    def summaries(self) -> list[RunSummary]:
        """All runs that can be read, latest first. Folders that are no runs are left out."""
        folders = {spec.parent for spec in runs_dir().glob("*/spec.json")}
        self._known = {folder: entry for folder, entry in self._known.items() if folder in folders}
        found: list[tuple[float, RunSummary]] = []
        problems: list[Problem] = []
        for folder in folders:
            try:
                found.append(self._look(folder))
            except (JournalError, RecordingError) as error:
                problems += error.problems
        self.problems = tuple(problems)
        return [summary for _, summary in sorted(found, key=lambda e: (e[0], e[1].run), reverse=True)]

    def _look(self, folder: Path) -> tuple[float, RunSummary]:
        """(when the run was created, how it stands)."""
        paths = RunPaths(folder)
        tail, state = self._known.setdefault(folder, (JournalTail(folder), RunState()))
        # The lock is looked at first: a run that ends in between is then not "interrupted".
        alive = is_locked(paths.lock)
        fold(tail.new(), state)
        return state.created_unix_s, _summary(paths, state, alive=alive)


def list_runs() -> list[RunSummary]:
    """All runs that can be read, latest first."""
    return RunBook().summaries()


def run_summary(run: str) -> RunSummary:
    """Raises RunNotFoundError, RecordingError."""
    paths = existing_run(run)
    # The lock is looked at first: a run that ends in between is then not "interrupted".
    alive = is_locked(paths.lock)
    return _summary(paths, _state(paths), alive=alive)


def result(run: str) -> RunResult:
    """Raises RunNotFoundError, RecordingError."""
    paths = existing_run(run)
    alive = is_locked(paths.lock)
    state = _state(paths)
    summary = _summary(paths, state, alive=alive)
    approved = state.approved_plan
    return RunResult(
        run=summary.run,
        status=summary.status,
        requests=summary.requests,
        outputs=summary.outputs,
        errors=summary.errors,
        makespan_s=state.makespan_s,
        predicted_makespan_s=approved.makespan_s.p50 if approved else None,
        replans=state.replans,
        directory=summary.directory,
    )


def _summary(paths: RunPaths, state: RunState, *, alive: bool) -> RunSummary:
    heartbeat = read_heartbeat(paths.heartbeat) if alive else None
    interrupted = not alive or (heartbeat is not None and heartbeat.is_stale)
    return RunSummary(
        run=paths.run,
        application=state.application,
        status="interrupted" if interrupted and not state.ended else state.status,
        pid=heartbeat.pid if heartbeat else None,
        heartbeat_age_s=heartbeat.age_s if heartbeat else None,
        requests=state.requests,
        outputs=state.finished,
        errors=state.errors,
        directory=str(paths.folder),
    )


def _state(paths: RunPaths) -> RunState:
    return fold(read_events(paths.journal))
