"""run, runs, stop, resume, export: what is running, and what came of it."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from samullm_tui.cli.following import Follower
from samullm_tui.cli.output import print_json, print_table, say, seconds
from samullm_tui.domain.errors import InputError, Problem
from samullm_tui.domain.plan import Plan
from samullm_tui.forecast.plan_file import check_plan, read_plan
from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor.client import ControlClient
from samullm_tui.supervisor.export import batch_rows, export_rows
from samullm_tui.supervisor.launch import create_run
from samullm_tui.supervisor.machine import Machine, choose_machine
from samullm_tui.supervisor.runs import RunBook, RunResult, result, run_summary
from samullm_tui.supervisor.spec import existing_run
from samullm_tui.workload.application_file import load_application

__all__ = ["export", "resume", "run", "runs", "start_and_follow", "stop"]

INTERRUPTED = 130


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
        replan=arguments.replan,
        replan_wait_s=arguments.replan_wait,
    )
    follower = Follower(name, ask=not arguments.yes)
    follower.spawn()
    say(f"run {name}")
    if arguments.detach and not follower.interrupts:
        return _report(result(name), as_json=arguments.json, done=True)
    return _follow_and_report(follower, name, as_json=arguments.json)


def _plan(arguments: Namespace) -> Plan | None:
    """The plan file that was given, when it is one for the application. `create_run` checks its placements."""
    if arguments.plan is None:
        return None
    application = load_application(arguments.application, allow_outside=arguments.allow_outside)
    return check_plan(read_plan(arguments.plan), str(arguments.plan), application=application.name, wrong=[])


def start_and_follow(application: Path, machine: Machine, *, approve: bool) -> RunResult:
    """Runs an application to its end and says how it came out."""
    name = create_run(application, machine.cluster, machine.engine, approved=approve)
    follower = Follower(name, ask=not approve)
    follower.spawn()
    follower.to_the_end()
    return result(name)


def resume(arguments: Namespace) -> int:
    follower = Follower(arguments.run, seen=_events_so_far(arguments.run))
    follower.spawn()
    return _follow_and_report(follower, arguments.run, as_json=arguments.json)


def stop(arguments: Namespace) -> int:
    """Drains: what is in flight finishes. Returns when the run has ended."""
    follower = Follower(arguments.run, seen=_events_so_far(arguments.run))
    ControlClient(arguments.run).drain()
    return _follow_and_report(follower, arguments.run, as_json=arguments.json, done=("stopped", "succeeded"))


def _events_so_far(name: str) -> int:
    return sum(1 for _ in read_events(existing_run(name).journal))


def _follow_and_report(
    follower: Follower, name: str, *, as_json: bool, done: tuple[str, ...] = ("succeeded",)
) -> int:
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


def runs(arguments: Namespace) -> int:
    book = RunBook()
    found = book.summaries()
    for problem in book.problems:
        say(str(problem))
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
    node: str | None = arguments.batch
    rows = export_rows(arguments.run) if node is None else batch_rows(arguments.run, node)
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
