"""The events of a run. Its journal is a sequence of these, and its state is their fold.

`at_s` is seconds since the run began on the run's own clock (simulated seconds when the engines are simulated).
No event carries a prompt, an output, a key or a path of the machine.

Journals of every released version must fold to the same state for ever: fields are added with a default, kinds of
events are added, and neither is ever taken out or changed.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from samullm_tui.domain.plan import Band, Candidate, Placement, Replica

__all__ = [
    "Alternative",
    "Answer",
    "AnyEvent",
    "Approved",
    "ControlReceived",
    "Decided",
    "Decision",
    "EngineFailed",
    "EngineKind",
    "EngineReady",
    "EngineSample",
    "EngineStarting",
    "EngineStopped",
    "Event",
    "ForecastChanged",
    "GpuQuarantined",
    "GpuSample",
    "HostSample",
    "LateAnswerDropped",
    "NodeInfo",
    "Outcome",
    "PlanningFinished",
    "ProposalAnswered",
    "Proposed",
    "Replanned",
    "RequestFailed",
    "RequestFinished",
    "RequestRetried",
    "RunCreated",
    "RunEndStatus",
    "RunEnded",
    "Sampled",
    "StageStarted",
    "SupervisorStarted",
]

EngineKind = Literal["vllm", "simulated"]
RunEndStatus = Literal["succeeded", "failed", "stopped"]
Answer = Literal["accepted", "refused", "expired", "outdated"]
"""What became of a proposal. `expired`: nobody answered in time. `outdated`: the run had moved on, so it could not be
done any more.
"""


class NodeInfo(Struct, frozen=True):
    """A node of the application graph as the console draws it. `sources` names nodes; `data` a data set."""

    name: str
    llm: str
    requests: int
    data: str
    sources: tuple[str, ...]


class Event(Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Base of all events."""

    at_s: float


class RunCreated(Event, frozen=True):
    """The first event of every journal. `llms` in the order of their letters A, B, C and so on.

    `format` is that of the journal, `version` that of the program that wrote it.
    """

    run: str
    application: str
    application_sha256: str
    cluster: str
    gpus: int
    gpu_kind: Literal["gpu", "cpu"]
    engine: EngineKind
    seed: int
    created_unix_s: float
    nodes: tuple[NodeInfo, ...]
    llms: tuple[str, ...]
    version: str
    format: int = 1


class SupervisorStarted(Event, frozen=True):
    """A supervisor took the run over. `epoch` counts from 1; requests of earlier epochs in flight run again."""

    epoch: int
    pid: int
    unix_s: float


class PlanningFinished(Event, frozen=True):
    """What the planner proposed, best first, `lower_bound_s` included. Simulated figures."""

    planning_s: float
    lower_bound_s: float
    samples: int
    candidates: tuple[Candidate, ...]


class Approved(Event, frozen=True):
    """The operator approved the candidate of this rank."""

    rank: int
    by: str


class StageStarted(Event, frozen=True):
    """The run went on to stage `index` (from 0) of the plan in force."""

    index: int
    placements: tuple[Placement, ...]
    until: tuple[str, ...]


class EngineStarting(Event, frozen=True):
    replica: Replica
    attempt: int


class EngineReady(Event, frozen=True):
    """The engine generated its first token. `load_s` is the time since EngineStarting."""

    replica: Replica
    load_s: float
    kv_blocks: int | None = None


class EngineStopped(Event, frozen=True):
    """The engine was stopped on purpose and all its processes are gone."""

    replica: Replica
    reason: str


class EngineFailed(Event, frozen=True):
    """The engine died or did not start. `cause` is one sanitised line found in its log."""

    replica: Replica
    cause: str
    gave_up: bool


class GpuQuarantined(Event, frozen=True):
    """The GPU's memory stayed in use though no engine of this run was on it: none starts there any more."""

    gpu: int
    cause: str


class RequestFinished(Event, frozen=True):
    """One committed output. `offset` is where its row stands in the run's outputs file."""

    node: str
    id: str
    llm: str
    replica: str
    prompt_tokens: int
    output_tokens: int
    finish_reason: str
    sent_s: float
    offset: int


class RequestFailed(Event, frozen=True):
    """One committed error row. `offset` is where its row stands in the run's errors file."""

    node: str
    id: str
    llm: str
    cause: str
    offset: int


class RequestRetried(Event, frozen=True):
    """An attempt did not end in a result; the request waits again, to go on from `kept_tokens` of its output."""

    node: str
    id: str
    replica: str
    cause: str
    kept_tokens: int = 0


class LateAnswerDropped(Event, frozen=True):
    """An answer to an attempt that no longer counts."""

    node: str
    id: str
    replica: str


class GpuSample(Struct, frozen=True):
    """One GPU. None: not known. `utilization` is a fraction from 0 to 1.

    `simulated` figures come from a simulated engine, never from a device.
    """

    index: int
    utilization: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    simulated: bool = False


class HostSample(Struct, frozen=True):
    """The machine. `cpu_utilization` is a fraction from 0 to 1 over all its cores."""

    cpu_utilization: float
    memory_used_bytes: int
    memory_total_bytes: int
    disk_free_bytes: int


class EngineSample(Struct, frozen=True):
    """One engine as the dispatcher and the engine's own metrics see it. `kv_usage` is a fraction from 0 to 1."""

    replica: str
    llm: str
    running: int
    waiting: int
    kv_usage: float | None
    output_tokens_per_s: float


class Sampled(Event, frozen=True):
    """About once a second."""

    gpus: tuple[GpuSample, ...]
    engines: tuple[EngineSample, ...]
    host: HostSample | None = None


class Alternative(Struct, frozen=True):
    """One thing that could have been done, with its simulated end. None: not simulated."""

    what: str
    ends_s: float | None = None
    cost_s: float | None = None


class Decision(Struct, frozen=True):
    """Why the run went on as it did.

    `number` counts the decisions of the rescheduler from 1 (0: it is not one of them). Of those `alternatives[0]` is to
    stay with the plan in force; `ends_s` are medians on the run's clock. `margin`: what a gain must exceed, in words.
    `gain_s`: how much earlier the run should end by what was chosen, or, where it stays, by the best alternative.
    """

    kind: Literal["start", "keep", "switch", "finish"]
    what: str
    saw: str
    alternatives: tuple[Alternative, ...] = ()
    chosen: int | None = None
    number: int = 0
    margin: str = ""
    gain_s: float | None = None


class Decided(Event, frozen=True):
    decision: Decision


class Proposed(Event, frozen=True):
    """The rescheduler would switch and asks the operator; without an answer by `deadline_s` (run's clock) it stays."""

    number: int
    decision: Decision
    deadline_s: float


class ProposalAnswered(Event, frozen=True):
    """What became of proposal `number`. What is done then follows as a Decided of the same number."""

    number: int
    answer: Answer
    by: str


class Replanned(Event, frozen=True):
    """Decision `number` replaced the rest of the plan. `plan`: of what is left, its first stage is entered next.

    Its stages count from 0, its times are on the run's clock, and its makespan is when the run should end.
    """

    number: int
    plan: Candidate
    by: str


class Outcome(Event, frozen=True):
    """What came of the switch that was decision `number`; the latest one counts. Times on the run's clock.

    predicted_s  when the run was to end by it
    stay_s       when it was to end without it
    ended_s      when it ended (`final`), or is expected to end now (simulated)
    """

    number: int
    predicted_s: float
    ended_s: float
    stay_s: float | None = None
    final: bool = False


class ForecastChanged(Event, frozen=True):
    """The makespan as now expected (simulated)."""

    makespan_s: Band


class ControlReceived(Event, frozen=True):
    """A command through the control socket or a signal."""

    command: Literal["pause", "resume", "drain", "stop", "replan"]
    by: str


class RunEnded(Event, frozen=True):
    status: RunEndStatus
    cause: str = ""
    counts: dict[str, int] = field(default_factory=dict)


AnyEvent = (
    RunCreated
    | SupervisorStarted
    | PlanningFinished
    | Approved
    | StageStarted
    | EngineStarting
    | EngineReady
    | EngineStopped
    | EngineFailed
    | GpuQuarantined
    | RequestFinished
    | RequestFailed
    | RequestRetried
    | LateAnswerDropped
    | Sampled
    | Decided
    | Proposed
    | ProposalAnswered
    | Replanned
    | Outcome
    | ForecastChanged
    | ControlReceived
    | RunEnded
)
"""The union to decode journals with."""
