"""The runs of this machine, and how they honestly stand."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from samullm_tui.domain.errors import RecordingError
from samullm_tui.journal.reader import read_events
from samullm_tui.journal.state import RunState, Status, fold
from samullm_tui.locations import runs_dir
from samullm_tui.supervisor.liveness import is_locked, read_heartbeat
from samullm_tui.supervisor.spec import RunPaths, existing_run

__all__ = ["RunResult", "RunStatus", "RunSummary", "list_runs", "result", "run_summary"]

RunStatus = Status | Literal["interrupted"]
"""`interrupted`: no supervisor, not finished; it can be resumed."""


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
    left the plan.
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


def list_runs() -> list[RunSummary]:
    """All runs, latest first. Folders that are no runs, and runs whose journal cannot be read, are left out."""
    runs = []
    for spec in runs_dir().glob("*/spec.json"):
        paths = RunPaths(spec.parent)
        try:
            alive, state = is_locked(paths.lock), _state(paths)
        except RecordingError:
            continue
        runs.append((state.created_unix_s, _summary(paths, alive, state)))
    return [summary for _, summary in sorted(runs, key=lambda run: run[0], reverse=True)]


def run_summary(run: str) -> RunSummary:
    """Raises RunNotFoundError, RecordingError."""
    paths = existing_run(run)
    # The lock is looked at first: a run that ends in between is then not "interrupted".
    alive = is_locked(paths.lock)
    return _summary(paths, alive, _state(paths))


def result(run: str) -> RunResult:
    """Raises RunNotFoundError, RecordingError."""
    paths = existing_run(run)
    alive = is_locked(paths.lock)
    state = _state(paths)
    summary = _summary(paths, alive, state)
    return RunResult(
        run=summary.run,
        status=summary.status,
        requests=summary.requests,
        outputs=summary.outputs,
        errors=summary.errors,
        makespan_s=state.makespan_s,
        predicted_makespan_s=state.plan.makespan_s.p50 if state.plan else None,
        replans=state.replans,
        directory=summary.directory,
    )


def _summary(paths: RunPaths, alive: bool, state: RunState) -> RunSummary:
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


def _state(paths: RunPaths) -> RunState:
    return fold(read_events(paths.journal))
