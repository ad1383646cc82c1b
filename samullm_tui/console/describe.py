"""Events as lines of a log. What repeats by the thousand (finished requests, samples) is left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

from samullm_tui.console.layout.duration import clock, duration
from samullm_tui.domain.event import (
    AnyEvent,
    Approved,
    ControlReceived,
    Decided,
    EngineFailed,
    EngineReady,
    EngineStarting,
    EngineStopped,
    ForecastChanged,
    GpuQuarantined,
    LateAnswerDropped,
    Outcome,
    PlanningFinished,
    ProposalAnswered,
    Proposed,
    Replanned,
    RequestFailed,
    RequestFinished,
    RequestRetried,
    RunCreated,
    RunEnded,
    Sampled,
    StageStarted,
    SupervisorStarted,
)

__all__ = ["KEPT", "LogLine", "describe", "log_of"]

KEPT = 200_000
"""Lines of a log; beyond them the earliest go."""
SILENT = (RequestFinished, Sampled)
"""What repeats by the thousand."""


class LogLine(Struct, frozen=True):
    """One thing that happened, `at_s` of the run's clock."""

    at_s: float
    text: str
    style: str = ""


def log_of(events: Iterable[AnyEvent], log: deque[LogLine] | None = None) -> deque[LogLine]:
    """The last KEPT lines of `log` and `events`."""
    log = deque(maxlen=KEPT) if log is None else log
    log.extend(line for event in events if (line := describe(event)))
    return log


def describe(event: AnyEvent) -> LogLine | None:
    """The line of one event; None for those that are not worth one."""
    if isinstance(event, SILENT):
        return None
    said = _life(event) or _decision(event) or _engine(event) or _request(event)
    return LogLine(event.at_s, *said) if said else None


def _life(event: AnyEvent) -> tuple[str, str] | None:
    match event:
        case RunCreated():
            return (
                f"created: {event.application} on {event.cluster}, {event.engine} engines, seed {event.seed}",
                "dim",
            )
        case SupervisorStarted():
            return f"supervisor {event.pid} took over (epoch {event.epoch})", "dim"
        case PlanningFinished():
            best = event.candidates[0].makespan_s.p50 if event.candidates else None
            return (
                f"planned in {duration(event.planning_s)}: {len(event.candidates)} plans, best ~{duration(best)}",
                "",
            )
        case Approved():
            return f"plan {event.rank} approved by {event.by}", ""
        case StageStarted():
            return f"stage {event.index + 1} began", ""
        case ForecastChanged():
            return f"forecast now ~{duration(event.makespan_s.p50)}", "dim"
        case ControlReceived():
            return f"{event.command} asked for by {event.by}", "warning"
        case RunEnded():
            because = f": {event.cause}" if event.cause else ""
            return f"{event.status}{because}", "good" if event.status == "succeeded" else "bad"
        case _:
            return None


def _decision(event: AnyEvent) -> tuple[str, str] | None:
    match event:
        case Decided():
            return f"{event.decision.kind}: {event.decision.what}", "accent"
        case Proposed():
            return (
                f"proposed: {event.decision.what}; stays unless accepted by {clock(event.deadline_s)}",
                "accent",
            )
        case ProposalAnswered():
            return f"proposal {event.number} {event.answer} ({event.by})", ""
        case Replanned():
            stages = len(event.plan.plan.stages)
            return f"re-planned: {stages} more stages, ends ~{duration(event.plan.makespan_s.p50)}", "accent"
        case Outcome():
            ends = f"ended {duration(event.ended_s)}" if event.final else f"ends ~{duration(event.ended_s)}"
            return f"came of decision {event.number}: {ends}, predicted ~{duration(event.predicted_s)}", ""
        case _:
            return None


def _engine(event: AnyEvent) -> tuple[str, str] | None:
    match event:
        case EngineStarting():
            again = f", attempt {event.attempt}" if event.attempt > 1 else ""
            return f"{event.replica.name} starts{again}", "dim"
        case EngineReady():
            blocks = f", {event.kv_blocks:,} KV blocks" if event.kv_blocks else ""
            return f"{event.replica.name} ready after {duration(event.load_s)}{blocks}", ""
        case EngineStopped():
            return f"{event.replica.name} stopped: {event.reason}", "dim"
        case EngineFailed():
            end = "; given up" if event.gave_up else ""
            return f"{event.replica.name} failed: {event.cause}{end}", "bad"
        case GpuQuarantined():
            return f"GPU {event.gpu} gets no engine any more: {event.cause}", "bad"
        case _:
            return None


def _request(event: AnyEvent) -> tuple[str, str] | None:
    match event:
        case RequestFailed():
            return f"{event.node} {event.id} is an error: {event.cause}", "bad"
        case RequestRetried():
            return f"{event.node} {event.id} waits again ({event.replica}): {event.cause}", "warning"
        case LateAnswerDropped():
            return f"{event.node} {event.id}: a late answer of {event.replica} was dropped", "dim"
        case _:
            return None
