"""The state of a run is the fold of its events: one small function for each kind of event, no clock, no files.

Any sequence of events folds: a journal may have been cut anywhere, and what it does not explain it leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from samullm_tui.domain.event import (
    AnyEvent,
    Approved,
    ControlReceived,
    Decided,
    EngineFailed,
    EngineReady,
    EngineSample,
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
from samullm_tui.domain.plan import Replica, Span
from samullm_tui.journal.run_state import (
    GPU_HISTORY,
    MAX_PROBLEMS,
    THROUGHPUT_HISTORY,
    LLMState,
    NodeState,
    ReplicaState,
    RunState,
    SeenProblem,
    Status,
    copy_state,
    state_sha256,
)

__all__ = [
    "LLMState",
    "NodeState",
    "ReplicaState",
    "RunState",
    "SeenProblem",
    "Status",
    "apply",
    "copy_state",
    "fold",
    "state_sha256",
]


def fold(events: Iterable[AnyEvent], state: RunState | None = None) -> RunState:
    """Applies `events` in order, to `state` when given (it is changed), else to a fresh one."""
    state = RunState() if state is None else state
    for event in events:
        apply(state, event)
    return state


def apply(state: RunState, event: AnyEvent) -> None:
    """Changes `state` by one event."""
    _APPLY[type(event)](state, event)
    state.events += 1
    state.at_s = event.at_s


# --- the run's life ---


def _status(state: RunState) -> Status:
    """The one place that knows the order of precedence of everything a run can be in."""
    if state.ended:
        return state.ended
    if state.draining:
        return "draining"
    if not state.approved:
        return "waiting for approval" if state.planned else "planning"
    return "paused" if state.paused else "running"


def _run_created(state: RunState, event: RunCreated) -> None:
    state.run = event.run
    state.application = event.application
    state.application_sha256 = event.application_sha256
    state.cluster = event.cluster
    state.gpu_count = event.gpus
    state.gpu_kind = event.gpu_kind
    state.engine = event.engine
    state.seed = event.seed
    state.version = event.version
    state.created_unix_s = event.created_unix_s
    for name in event.llms:
        _llm(state, name)
    for info in event.nodes:
        node = state.nodes.setdefault(info.name, NodeState())
        node.llm, node.data, node.sources = info.llm, info.data, info.sources
        node.requests += info.requests
        _llm(state, info.llm).requests += info.requests


def _supervisor_started(state: RunState, event: SupervisorStarted) -> None:
    """A new owner: the engines of the one before are gone, and a pause, drain, end or quarantine of before is over."""
    state.epoch, state.pid = event.epoch, event.pid
    for replica in state.replicas.values():
        _end_replica(replica, event.at_s, "stopped", "its supervisor is gone")
    _close_spans(state, event.at_s)
    state.quarantined = {}
    state.paused = state.draining = False
    state.ended, state.ended_s, state.cause = None, None, ""
    state.counts = {}
    state.status = _status(state)


def _planning_finished(state: RunState, event: PlanningFinished) -> None:
    state.planned = True
    state.planning_s = event.planning_s
    state.lower_bound_s = event.lower_bound_s
    state.samples = event.samples
    state.candidates = event.candidates
    state.status = _status(state)


def _approved(state: RunState, event: Approved) -> None:
    state.approved, state.approved_by, state.approved_rank = True, event.by, event.rank
    state.plan = next((c for c in state.candidates if c.rank == event.rank), None)
    state.status = _status(state)


def _control_received(state: RunState, event: ControlReceived) -> None:
    """`stop` shows as draining, too, until the run has ended."""
    if event.command in {"pause", "resume"}:
        state.paused = event.command == "pause"
    elif event.command in {"drain", "stop"}:
        state.draining = True
    state.status = _status(state)


def _run_ended(state: RunState, event: RunEnded) -> None:
    state.ended, state.ended_s, state.cause, state.counts = (
        event.status,
        event.at_s,
        event.cause,
        event.counts,
    )
    for replica in state.replicas.values():
        _end_replica(replica, event.at_s, "stopped", "the run ended")
    _close_spans(state, event.at_s)
    state.proposal = None
    if event.status == "failed":
        _problem(state, SeenProblem(event.at_s, "run", state.run, event.cause))
    state.status = _status(state)


def _stage_started(state: RunState, event: StageStarted) -> None:
    state.stage, state.placements, state.until = event.index, event.placements, event.until
    state.stages.append((event.at_s, event.index))


def _decided(state: RunState, event: Decided) -> None:
    state.decisions.append((event.at_s, event.decision))


def _proposed(state: RunState, event: Proposed) -> None:
    state.proposal = event


def _proposal_answered(state: RunState, event: ProposalAnswered) -> None:
    state.answers[event.number] = event.answer
    if state.proposal and state.proposal.number == event.number:
        state.proposal = None


def _replanned(state: RunState, event: Replanned) -> None:
    """Its first stage begins with the next StageStarted; until then the engines are those of the stage before."""
    if state.plan:
        state.former_plans.append((event.at_s, state.plan))
    state.plan, state.stage = event.plan, -1
    state.replans += 1
    state.forecasts.append((event.at_s, event.plan.makespan_s))


def _outcome(state: RunState, event: Outcome) -> None:
    state.outcomes[event.number] = event


def _forecast_changed(state: RunState, event: ForecastChanged) -> None:
    state.forecasts.append((event.at_s, event.makespan_s))


# --- engines ---


def _engine_starting(state: RunState, event: EngineStarting) -> None:
    replica = event.replica
    if state.started_s is None:
        state.started_s = event.at_s
    before = state.replicas.get(replica.name)
    fresh = ReplicaState(replica.llm, replica.gpus, "loading", event.at_s, event.attempt)
    if before:
        fresh.finished, fresh.output_tokens = before.finished, before.output_tokens
    state.replicas[replica.name] = fresh
    _close_span(state, replica, event.at_s)
    state.spans.append(Span(replica.llm, replica.gpus, event.at_s, None, None))


def _engine_ready(state: RunState, event: EngineReady) -> None:
    replica = state.replicas.get(event.replica.name)
    if replica and replica.status == "loading":
        replica.status, replica.ready_s = "serving", event.at_s
        replica.load_s, replica.kv_blocks = event.load_s, event.kv_blocks
    index = _open_span(state, event.replica)
    if index is not None:
        state.spans[index] = replace(state.spans[index], ready_s=event.at_s)


def _engine_stopped(state: RunState, event: EngineStopped) -> None:
    if replica := state.replicas.get(event.replica.name):
        _end_replica(replica, event.at_s, "stopped", event.reason)
    _close_span(state, event.replica, event.at_s)


def _engine_failed(state: RunState, event: EngineFailed) -> None:
    if replica := state.replicas.get(event.replica.name):
        _end_replica(replica, event.at_s, "failed", event.cause)
        replica.gave_up = event.gave_up
    _close_span(state, event.replica, event.at_s)
    _problem(state, SeenProblem(event.at_s, "engine", event.replica.name, event.cause))


def _gpu_quarantined(state: RunState, event: GpuQuarantined) -> None:
    state.quarantined[event.gpu] = event.cause
    _problem(state, SeenProblem(event.at_s, "gpu", f"GPU {event.gpu}", event.cause))


def _end_replica(replica: ReplicaState, at_s: float, status: str, cause: str) -> None:
    if replica.status not in {"loading", "serving"}:
        return
    replica.status = "failed" if status == "failed" else "stopped"
    replica.ended_s, replica.cause = at_s, cause
    replica.running = replica.waiting = 0
    replica.kv_usage, replica.output_tokens_per_s = None, 0.0


def _open_span(state: RunState, replica: Replica) -> int | None:
    for index in range(len(state.spans) - 1, -1, -1):
        span = state.spans[index]
        if span.llm == replica.llm and span.gpus == replica.gpus:
            return index if span.end_s is None else None
    return None


def _close_span(state: RunState, replica: Replica, at_s: float) -> None:
    index = _open_span(state, replica)
    if index is not None:
        state.spans[index] = replace(state.spans[index], end_s=at_s)


def _close_spans(state: RunState, at_s: float) -> None:
    state.spans = [replace(span, end_s=at_s) if span.end_s is None else span for span in state.spans]


# --- requests ---


def _llm(state: RunState, name: str) -> LLMState:
    llm = state.llms.get(name)
    if llm is None:
        llm = state.llms[name] = LLMState()
    return llm


def _node(state: RunState, name: str, llm: str) -> NodeState:
    node = state.nodes.get(name)
    if node is None:
        node = state.nodes[name] = NodeState(llm)
    return node


def _request_finished(state: RunState, event: RequestFinished) -> None:
    node, llm = _node(state, event.node, event.llm), _llm(state, event.llm)
    node.finished += 1
    node.prompt_tokens += event.prompt_tokens
    node.output_tokens += event.output_tokens
    llm.finished += 1
    llm.prompt_tokens += event.prompt_tokens
    llm.output_tokens += event.output_tokens
    state.finished += 1
    state.output_tokens += event.output_tokens
    if replica := state.replicas.get(event.replica):
        replica.finished += 1
        replica.output_tokens += event.output_tokens


def _request_failed(state: RunState, event: RequestFailed) -> None:
    _node(state, event.node, event.llm).failed += 1
    _llm(state, event.llm).failed += 1
    state.errors += 1
    _problem(state, SeenProblem(event.at_s, "request", f"{event.node} {event.id}", event.cause))


def _request_retried(state: RunState, event: RequestRetried) -> None:
    state.retries += 1
    if node := state.nodes.get(event.node):
        _llm(state, node.llm).retried += 1
    _problem(state, SeenProblem(event.at_s, "retry", f"{event.node} {event.id}", event.cause))


def _late_answer_dropped(state: RunState, event: LateAnswerDropped) -> None:  # noqa: ARG001
    state.late_answers += 1


def _problem(state: RunState, problem: SeenProblem) -> None:
    state.problems.append(problem)
    del state.problems[:-MAX_PROBLEMS]


# --- samples ---


def _sampled(state: RunState, event: Sampled) -> None:
    for gpu in event.gpus:
        state.gpus[gpu.index] = gpu
        history = state.gpu_utilization.setdefault(gpu.index, [])
        history.append(gpu.utilization)
        del history[:-GPU_HISTORY]
    if event.host:
        state.host = event.host
    for engine in event.engines:
        _engine_sampled(state, engine)
    state.throughput.append((event.at_s, sum(engine.output_tokens_per_s for engine in event.engines)))
    del state.throughput[:-THROUGHPUT_HISTORY]


def _engine_sampled(state: RunState, sample: EngineSample) -> None:
    replica = state.replicas.get(sample.replica)
    if replica and replica.status in {"loading", "serving"}:
        replica.running, replica.waiting = sample.running, sample.waiting
        replica.kv_usage, replica.output_tokens_per_s = sample.kv_usage, sample.output_tokens_per_s


_APPLY: dict[type, Callable[[RunState, Any], None]] = {
    RunCreated: _run_created,
    SupervisorStarted: _supervisor_started,
    PlanningFinished: _planning_finished,
    Approved: _approved,
    StageStarted: _stage_started,
    EngineStarting: _engine_starting,
    EngineReady: _engine_ready,
    EngineStopped: _engine_stopped,
    EngineFailed: _engine_failed,
    GpuQuarantined: _gpu_quarantined,
    RequestFinished: _request_finished,
    RequestFailed: _request_failed,
    RequestRetried: _request_retried,
    LateAnswerDropped: _late_answer_dropped,
    Sampled: _sampled,
    Decided: _decided,
    Proposed: _proposed,
    ProposalAnswered: _proposal_answered,
    Replanned: _replanned,
    Outcome: _outcome,
    ForecastChanged: _forecast_changed,
    ControlReceived: _control_received,
    RunEnded: _run_ended,
}
