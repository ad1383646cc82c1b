"""Following a run on a terminal without the console: what it does, line by line, on stderr."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from samullm_tui.cli.output import print_table, say, seconds
from samullm_tui.domain.errors import RunError
from samullm_tui.domain.event import (
    AnyEvent,
    Approved,
    ControlReceived,
    Decided,
    Decision,
    EngineFailed,
    EngineReady,
    EngineStarting,
    ForecastChanged,
    GpuQuarantined,
    Outcome,
    PlanningFinished,
    ProposalAnswered,
    Proposed,
    Replanned,
    RequestFailed,
    RequestRetried,
)
from samullm_tui.supervisor.client import ControlClient
from samullm_tui.supervisor.launch import follow, spawn_supervisor

__all__ = ["Follower"]

ERRORS_SHOWN = 10


class Follower:
    """Tells on stderr what a run does, until it ends. The first Ctrl-C drains the run, the second stops it now.

    `ask`: asks for approval of a plan. `seen`: events that are old news. `interrupts` counts the Ctrl-C.
    """

    def __init__(self, name: str, *, ask: bool = False, seen: int = 0) -> None:
        self._name = name
        self._ask = ask
        self._seen = seen
        self._errors = 0
        self._unheeded = 0
        self._heeding = False
        self.interrupts = 0

    def spawn(self) -> None:
        """Starts the supervisor. A Ctrl-C meanwhile counts when it answers: else the run would go on unseen."""
        held: list[int] = []

        def hold(number: int, _: FrameType | None) -> None:
            held.append(number)

        before = signal.signal(signal.SIGINT, hold)
        try:
            spawn_supervisor(self._name)
        finally:
            signal.signal(signal.SIGINT, before)
        for _ in held:
            self._interrupted()

    def to_the_end(self) -> None:
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            while not self._told_all():
                self._heed()
        finally:
            signal.signal(signal.SIGINT, before)
        if self._errors > ERRORS_SHOWN:
            say(f"and {self._errors - ERRORS_SHOWN:,} errors more, all of them in errors.jsonl of the run")

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """Counts the Ctrl-C and ends whatever waits. Where Python drops the exception (in a finalizer), the next event
        finds it counted.
        """
        self._unheeded += 1
        if not self._heeding:
            raise KeyboardInterrupt

    def _told_all(self) -> bool:
        """Tells events until the run has ended; False when a Ctrl-C came before."""
        try:
            for event in self._events():
                self._tell(event)
                if self._unheeded:
                    return False
        except KeyboardInterrupt:
            return False
        return True

    def _heed(self) -> None:
        self._heeding = True
        while self._unheeded:
            self._unheeded -= 1
            self._interrupted()
        self._heeding = False

    def _events(self) -> Iterator[AnyEvent]:
        for index, event in enumerate(follow(self._name)):
            if index >= self._seen:
                self._seen = index + 1
                yield event

    def _tell(self, event: AnyEvent) -> None:
        self._errors += isinstance(event, RequestFailed)
        if isinstance(event, RequestFailed) and self._errors > ERRORS_SHOWN:
            return
        words = _WORDS.get(type(event))
        if words:
            say(f"{seconds(event.at_s):>8}  {words(event)}")
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
        try:
            if self.interrupts == 1:
                say("finishing what is in flight, then stopping (Ctrl-C again stops now)")
                ControlClient(self._name).drain()
            else:
                ControlClient(self._name).stop()
        except RunError as error:
            # It has ended meanwhile, or its supervisor is gone: following it says which.
            say(str(error))


def _decision(decision: Decision) -> str:
    number = f" {decision.number}" if decision.number else ""
    line = f"{decision.kind}{number}: {decision.what}"
    if not decision.number:
        return line
    ends = [a.ends_s for a in decision.alternatives[:1] + decision.alternatives[(decision.chosen or 0) :][:1]]
    stay = "cannot end" if not ends or ends[0] is None else f"~{seconds(ends[0])}"
    forecast = (
        f"ends ~{seconds(ends[1])} instead of {stay}" if decision.chosen and ends[1] else f"ends {stay}"
    )
    return f"{line}; {forecast} ({decision.saw})"


def _new_plan(event: Replanned) -> str:
    plan, ends = event.plan, event.plan.makespan_s
    count = len(plan.plan.stages)
    stages = f"{count} stage{'s' if count != 1 else ''} left"
    return (
        f"new plan ({plan.plan.planner}) by {event.by}: {stages}, ends ~{seconds(ends.p50)} "
        f"({seconds(ends.p10)} to {seconds(ends.p90)}, simulated)"
    )


def _outcome(event: Outcome) -> str:
    ends = "ended" if event.final else "is expected to end"
    stay = "" if event.stay_s is None else f", ~{seconds(event.stay_s)} without it"
    return (
        f"what came of switch {event.number}: the run {ends} at {seconds(event.ended_s)} "
        f"(~{seconds(event.predicted_s)} was predicted{stay})"
    )


_WORDS: dict[type, Callable[[Any], str]] = {
    PlanningFinished: lambda e: (
        f"planned: {e.candidates[0].plan.planner} ~{seconds(e.candidates[0].makespan_s.p50)} (simulated)"
    ),
    Approved: lambda e: f"plan {e.rank} approved by {e.by}",
    EngineStarting: lambda e: f"{e.replica.name} is loading",
    EngineReady: lambda e: f"{e.replica.name} is ready after {seconds(e.load_s)}",
    EngineFailed: lambda e: f"{e.replica.name} failed: {e.cause}",
    GpuQuarantined: lambda e: f"GPU {e.gpu} gets no engine any more: {e.cause}",
    Decided: lambda e: _decision(e.decision),
    Proposed: lambda e: (
        f"proposal {e.number}: {e.decision.what}; the plan stays unless it is accepted by {seconds(e.deadline_s)}"
    ),
    ProposalAnswered: lambda e: f"proposal {e.number} {e.answer} by {e.by}",
    Replanned: _new_plan,
    Outcome: _outcome,
    ForecastChanged: lambda e: (
        f"forecast ~{seconds(e.makespan_s.p50)} ({seconds(e.makespan_s.p10)} to {seconds(e.makespan_s.p90)})"
    ),
    RequestRetried: lambda e: f"{e.node} {e.id} again: {e.cause}",
    RequestFailed: lambda e: f"{e.node} {e.id} has no output: {e.cause}",
    ControlReceived: lambda e: f"{e.command} asked by {e.by}",
}
"""An event in words. Those that come by the thousand have none."""
