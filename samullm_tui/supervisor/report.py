"""What a run taught, in a process of its own: it simulates for seconds, and must be killable at once.

`python -m samullm_tui.supervisor.report report|lengths RUN_DIR|RECORDING` prints a RunReport or a RunLengths as JSON;
with status 2 `{"problems": [...]}` instead.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from samullm_tui.domain.cluster import Cluster, cluster_from_preset
from samullm_tui.domain.errors import InputError, Problem, SamullmError
from samullm_tui.domain.event import AnyEvent
from samullm_tui.domain.length_report import LengthReport, RunLengths
from samullm_tui.domain.run_report import RunReport
from samullm_tui.forecast.lengths import length_report
from samullm_tui.forecast.problem import build_problem, read_workload
from samullm_tui.hindsight.lengths import lengths_seen
from samullm_tui.hindsight.observed import observe
from samullm_tui.hindsight.split import split
from samullm_tui.journal.reader import read_events
from samullm_tui.journal.run_state import RunState
from samullm_tui.journal.state import fold
from samullm_tui.supervisor.inputs import changes, read_inputs
from samullm_tui.supervisor.spec import RunPaths, read_spec
from samullm_tui.worker import answer
from samullm_tui.workload.application_file import load_application
from samullm_tui.workload.library import list_applications
from samullm_tui.workload.requests import Workload

__all__ = ["lengths_of_run", "main", "report_of"]


@dataclass(frozen=True)
class _Run:
    """A run or a recording, and what it was asked to do."""

    name: str
    events: list[AnyEvent]
    state: RunState
    application: Path
    allow_outside: bool
    cluster: Cluster


def report_of(path: Path) -> RunReport:
    """Of the run in the folder `path`, or of a recording. Raises InputError when it has not succeeded, when its
    application is not here as it was, and RecordingError for what is no journal.
    """
    run = _read(path)
    state = run.state
    approved = next((c for c in state.candidates if c.rank == state.approved_rank), None)
    actual_s = state.makespan_s
    if state.ended != "succeeded" or approved is None or actual_s is None:
        wrong = f"it is {state.ended or state.status}: its makespan says nothing about the forecast"
        raise InputError(Problem(run.name, "", wrong, "a run that has succeeded"))
    inputs = build_problem(_workload(run), run.cluster)
    predicted_s = approved.makespan_s.p50
    found = split(
        inputs.problem,
        inputs.context,
        approved.plan,
        [candidate.plan for candidate in state.candidates],
        observe(inputs.problem.table, run.events),
        predicted_s,
        actual_s,
    )
    return RunReport(
        run=state.run,
        predicted_s=predicted_s,
        actual_s=actual_s,
        parts=found.parts,
        tokens=found.tokens,
        shapes=found.shapes,
        plan=found.plan,
        others=found.others,
        lower_bound_s=found.lower_bound_s,
        notes=tuple(_notes(state)),
    )


def lengths_of_run(path: Path, until_s: float | None = None) -> RunLengths:
    """The answers of the run in the folder `path`, or of a recording (up to `until_s` of its clock), against what was
    expected of them. Raises as `report_of` does; the run may still go on.
    """
    run = _read(path, until_s)
    workload = _workload(run)
    inputs = build_problem(workload, run.cluster)
    state = run.state
    report = length_report(workload.application)
    points = {row.llm: row.cdf_tokens for row in report.llms}
    in_flight: Counter[str] = Counter()
    for replica in state.replicas.values():
        in_flight[replica.llm] += replica.running
    seen = lengths_seen(
        inputs.problem,
        inputs.dists,
        observe(inputs.problem.table, run.events),
        None if state.ended else state.at_s,
        in_flight,
        [points[name] for name in inputs.problem.table.llm_names],
    )
    by_name = {row.llm: row for row in seen}
    used = tuple(row for row in report.llms if row.llm in by_name)
    return RunLengths(
        report=LengthReport(application=report.application, llms=used),
        seen=tuple(by_name[row.llm] for row in used),
        simulated=state.engine == "simulated",
    )


def _notes(state: RunState) -> list[str]:
    """What else the actual makespan holds."""
    notes = []
    if state.replans:
        times = "once" if state.replans == 1 else f"{state.replans} times"
        notes.append(
            f"re-planned {times}: what that changed is in dispatch, the plan simulated is the approved one"
        )
    if state.epoch > 1:
        notes.append(f"{state.epoch} supervisors: the time between them is in dispatch")
    failed = sum(replica.status == "failed" for replica in state.replicas.values())
    if failed or state.retries:
        notes.append(f"{state.retries:,} requests were sent again: that is in dispatch")
    if state.errors:
        notes.append(f"{state.errors:,} requests ended in an error: simulated with their expected lengths")
    return notes


def _read(path: Path, until_s: float | None = None) -> _Run:
    events = [event for event in read_events(path) if until_s is None or event.at_s <= until_s]
    state = fold(events)
    name = state.run or path.name
    paths = RunPaths(path)
    if path.is_dir() and paths.spec.is_file():
        spec = read_spec(paths)
        application = Path(spec.application)
        changed = changes(read_inputs(paths), application, allow_outside=spec.allow_outside)
        if changed:
            raise InputError(changed)
        return _Run(name, events, state, application, spec.allow_outside, spec.cluster)
    return _Run(name, events, state, _application(path, state), False, cluster_from_preset(state.cluster))


def _application(recording: Path, state: RunState) -> Path:
    """The application as it was then: one of those that ship, or one beside the recording or in this folder."""
    beside, here = list_applications(recording.parent), list_applications(Path.cwd())
    for path in (*list_applications(), *beside, *here):
        try:
            if load_application(path).sha256 == state.application_sha256:
                return path
        except SamullmError:
            continue
    wrong = f"the application {state.application!r} is not here as it was when this was recorded"
    raise InputError(Problem(recording.name, "", wrong, "the same file beside it, or in this folder"))


def _workload(run: _Run) -> Workload:
    return read_workload(run.application, allow_outside=run.allow_outside)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m samullm_tui.supervisor.report")
    parser.add_argument("verb", choices=("report", "lengths"))
    parser.add_argument("path", type=Path)
    parser.add_argument("--until", type=float, help="seconds on the run's clock")
    arguments = parser.parse_args(argv)
    if arguments.verb == "report":
        return answer(lambda: report_of(arguments.path))
    return answer(lambda: lengths_of_run(arguments.path, arguments.until))


if __name__ == "__main__":
    sys.exit(main())
