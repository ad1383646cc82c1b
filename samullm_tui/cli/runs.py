"""run, runs, stop, resume, export: what is running, and what came of it."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from samullm_tui.cli.output import print_json, print_table, say, seconds
from samullm_tui.domain.errors import InputError, Problem
from samullm_tui.domain.event import (
    AnyEvent,
    Approved,
    ControlReceived,
    Decided,
    EngineFailed,
    EngineReady,
    EngineStarting,
    PlanningFinished,
    RequestFailed,
    RequestRetried,
)
from samullm_tui.domain.plan import Plan
from samullm_tui.forecast.plan_file import check_plan, read_plan
from samullm_tui.supervisor.client import ControlClient
from samullm_tui.supervisor.export import export_rows
from samullm_tui.supervisor.launch import create_run, follow, spawn_supervisor
from samullm_tui.supervisor.machine import Machine, choose_machine
from samullm_tui.supervisor.runs import RunResult, list_runs, result, run_summary
from samullm_tui.workload.application_file import load_application

__all__ = ["export", "resume", "run", "runs", "start_and_follow", "stop"]

INTERRUPTED = 130
ERRORS_SHOWN = 10


def run(arguments: Namespace) -> int:
    machine = choose_machine(arguments.cluster, arguments.engine)
    for note in machine.notes:
        say(note)
    if not (arguments.yes or arguments.detach or sys.stdin.isatty()):
        raise InputError(
            Problem("", "", "nobody is there to approve a plan", "give --yes, or --detach and attach later")
        )
    name = create_run(
        arguments.application,
        machine.cluster,
        machine.engine,
        speed=arguments.speed,
        seed=arguments.seed,
        plan=_plan(arguments),
        approved=arguments.yes,
        samples=arguments.samples,
        quantile=arguments.quantile,
        allow_outside=arguments.allow_outside,
    )
    spawn_supervisor(name)
    say(f"run {name}")
    if arguments.detach:
        return _report(result(name), as_json=arguments.json, done=True)
    return _follow_and_report(name, as_json=arguments.json, ask=not arguments.yes)


def _plan(arguments: Namespace) -> Plan | None:
    """The plan file that was given, when it is one for the application. `create_run` checks its placements."""
    if arguments.plan is None:
        return None
    application = load_application(arguments.application, allow_outside=arguments.allow_outside)
    return check_plan(read_plan(arguments.plan), str(arguments.plan), application=application.name, wrong=[])


def start_and_follow(application: Path, machine: Machine, *, approve: bool) -> RunResult:
    """Runs an application to its end and says how it came out."""
    name = create_run(application, machine.cluster, machine.engine, approved=approve)
    spawn_supervisor(name)
    Follower(name, ask=not approve).to_the_end()
    return result(name)


def resume(arguments: Namespace) -> int:
    spawn_supervisor(arguments.run)
    return _follow_and_report(arguments.run, as_json=arguments.json, ask=False)


def stop(arguments: Namespace) -> int:
    """Drains: what is in flight finishes. Returns when the run has ended."""
    ControlClient(arguments.run).drain()
    return _follow_and_report(arguments.run, as_json=arguments.json, ask=False, done=("stopped", "succeeded"))


def _follow_and_report(name: str, *, as_json: bool, ask: bool, done: tuple[str, ...] = ("succeeded",)) -> int:
    follower = Follower(name, ask=ask)
    follower.to_the_end()
    outcome = result(name)
    status = _report(outcome, as_json=as_json, done=outcome.status in done)
    return INTERRUPTED if follower.interrupts else status


def _report(outcome: RunResult, *, as_json: bool, done: bool) -> int:
    if as_json:
        print_json(outcome)
    else:
        took = f" in {seconds(outcome.makespan_s)}" if outcome.makespan_s else ""
        forecast = (
            f" (forecast ~{seconds(outcome.predicted_makespan_s)})" if outcome.predicted_makespan_s else ""
        )
        print(f"{outcome.run}: {outcome.status}{took}{forecast}")
        print(f"{outcome.outputs:,} outputs, {outcome.errors:,} errors, of {outcome.requests:,} requests")
        print(outcome.directory)
    return 0 if done else 1


class Follower:
    """Tells on stderr what a run does, until it ends. The first Ctrl-C drains the run, the second stops it now."""

    def __init__(self, name: str, *, ask: bool) -> None:
        self._name = name
        self._ask = ask
        self._seen = 0
        self._errors = 0
        self.interrupts = 0

    def to_the_end(self) -> None:
        while True:
            try:
                for event in self._events():
                    self._tell(event)
                if self._errors > ERRORS_SHOWN:
                    say(
                        f"and {self._errors - ERRORS_SHOWN:,} errors more, all of them in errors.jsonl of the run"
                    )
                return
            except KeyboardInterrupt:
                self._interrupted()

    def _events(self) -> Iterator[AnyEvent]:
        for index, event in enumerate(follow(self._name)):
            if index >= self._seen:
                self._seen = index + 1
                yield event

    def _tell(self, event: AnyEvent) -> None:
        self._errors += isinstance(event, RequestFailed)
        if isinstance(event, RequestFailed) and self._errors > ERRORS_SHOWN:
            return
        line = _line(event)
        if line:
            say(f"{seconds(event.at_s):>8}  {line}")
        if isinstance(event, PlanningFinished) and self._ask:
            self._ask_for_approval(event)

    def _ask_for_approval(self, event: PlanningFinished) -> None:
        rows = [
            (
                f"{c.rank} {c.plan.planner}",
                f"~{seconds(c.makespan_s.p50)}",
                f"{seconds(c.makespan_s.p10)} to {seconds(c.makespan_s.p90)}",
                f"{c.gpu_hours:.2f}",
                str(c.loads),
            )
            for c in event.candidates
        ]
        print_table(("plan (simulated)", "p50", "p10 to p90", "GPU·h", "loads"), rows, file=sys.stderr)
        self._ask = False
        known = {str(candidate.rank) for candidate in event.candidates}
        say(f"type the number of the plan to start ({', '.join(sorted(known))}), anything else to give up:")
        answer = sys.stdin.readline().strip()
        client = ControlClient(self._name)
        if answer in known:
            client.approve(int(answer), by="command line")
        else:
            client.stop()

    def _interrupted(self) -> None:
        self.interrupts += 1
        client = ControlClient(self._name)
        if self.interrupts == 1:
            say("finishing what is in flight, then stopping (Ctrl-C again stops now)")
            client.drain()
        else:
            client.stop()


def _line(event: AnyEvent) -> str:
    """An event in words, empty for those that come by the thousand."""
    match event:
        case PlanningFinished():
            best = event.candidates[0]
            return f"planned: {best.plan.planner} ~{seconds(best.makespan_s.p50)} (simulated)"
        case Approved():
            return f"plan {event.rank} approved by {event.by}"
        case EngineStarting():
            return f"{event.replica.name} is loading"
        case EngineReady():
            return f"{event.replica.name} is ready after {seconds(event.load_s)}"
        case EngineFailed():
            return f"{event.replica.name} failed: {event.cause}"
        case Decided():
            return f"{event.decision.kind}: {event.decision.what}"
        case RequestRetried():
            return f"{event.node} {event.id} again: {event.cause}"
        case RequestFailed():
            return f"{event.node} {event.id} has no output: {event.cause}"
        case ControlReceived():
            return f"{event.command} asked by {event.by}"
        case _:
            return ""


def runs(arguments: Namespace) -> int:
    found = list_runs()
    if arguments.json:
        print_json({"runs": found})
        return 0
    if not found:
        print("no runs yet: samullm-tui run apps/chain-summary.toml --engine simulated --speed max --yes")
        return 0
    rows = [
        (r.run, r.application, r.status, f"{r.outputs:,}", f"{r.errors:,}", f"{r.requests:,}") for r in found
    ]
    print_table(("run", "application", "status", "outputs", "errors", "requests"), rows)
    return 0


def export(arguments: Namespace) -> int:
    rows = export_rows(arguments.run)
    output: Path = arguments.output
    beside = output.with_name(f".{output.name}.part")
    try:
        with beside.open("wb") as file:
            count = _write_rows(rows, file)
        beside.replace(output)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InputError(Problem(str(output), "", f"cannot be written: {error.strerror}")) from error
    summary = run_summary(arguments.run)
    if arguments.json:
        print_json({"run": summary.run, "outputs": count, "file": str(output)})
    else:
        print(f"{count:,} outputs of {summary.run} ({summary.status}) in {output}")
    return 0


def _write_rows(rows: Iterator[dict[str, object]], file: BinaryIO) -> int:
    count = 0
    for row in rows:
        file.write(msgspec.json.encode(row) + b"\n")
        count += 1
    return count
