"""What a run's state consists of. `journal.state` changes it; nothing else may.

Fields at their defaults are left out of the canonical form, so that a field added later does not change the
hash of journals that never knew it.
"""

from __future__ import annotations

import hashlib
from copy import copy
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct, field

from samullm_tui.domain.event import Answer, Decision, GpuSample, HostSample, Outcome, Proposed, RunEndStatus
from samullm_tui.domain.plan import Band, Candidate, Placement, Span

__all__ = [
    "GPU_HISTORY",
    "MAX_PROBLEMS",
    "THROUGHPUT_HISTORY",
    "LLMState",
    "NodeState",
    "ReplicaState",
    "RunState",
    "SeenProblem",
    "Status",
    "copy_state",
    "state_sha256",
]

Status = Literal[
    "planning", "waiting for approval", "running", "paused", "draining", "succeeded", "failed", "stopped"
]
"""The contract's words, without "interrupted": that a supervisor is gone is seen from outside the journal."""

GPU_HISTORY = 120
THROUGHPUT_HISTORY = 240
MAX_PROBLEMS = 50


class NodeState(Struct, omit_defaults=True):
    """A node of the application graph, and what its finished requests took and gave."""

    llm: str = ""
    data: str = ""
    sources: tuple[str, ...] = ()
    requests: int = 0
    finished: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0


class LLMState(Struct, omit_defaults=True):
    """Sums over the nodes of an LLM. `retried` counts attempts that did not end in a result."""

    requests: int = 0
    finished: int = 0
    failed: int = 0
    retried: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0


class ReplicaState(Struct, omit_defaults=True):
    """An engine, as of its latest start. Times in seconds of the run; `cause` of a stop or a failure."""

    llm: str
    gpus: tuple[int, ...]
    status: Literal["loading", "serving", "stopped", "failed"]
    started_s: float
    attempt: int = 1
    ready_s: float | None = None
    ended_s: float | None = None
    load_s: float | None = None
    kv_blocks: int | None = None
    running: int = 0
    waiting: int = 0
    kv_usage: float | None = None
    output_tokens_per_s: float = 0.0
    finished: int = 0
    output_tokens: int = 0
    cause: str = ""
    gave_up: bool = False


class SeenProblem(Struct, frozen=True):
    """Something that went wrong. `where` names a replica, a GPU, or a node and a request."""

    at_s: float
    kind: Literal["engine", "gpu", "request", "retry", "run"]
    where: str
    cause: str


class RunState(Struct, omit_defaults=True):
    """The state of a run. Times are seconds on the run's own clock, as `at_s` of the events.

    events, at_s            how many events were folded, and the time of the last one
    nodes, llms             by name, in the order of the application
    replicas                by Replica.name, in the order of their first start; ended ones stay
    spans                   the actual Gantt chart, in the order of the starts
    plan, approved_rank     the candidate in force (None when the journal does not hold it), and the approved one's rank
    former_plans            (at_s, candidate): those in force before, until then; oldest first, the approved one first
    replans                 how many decisions replaced the rest of the plan
    quarantined             GPUs that get no engine any more, and why
    stage                   index of the plan's stage, -1 before its first; `stages`: when each began, of all plans
    gpus, gpu_utilization   latest sample by index; its history, a fraction, oldest first, at most 120
    throughput              (at_s, output tokens per second of all engines), oldest first, at most 240
    decisions, forecasts    (at_s, …), oldest first, all of them; the end that is forecast, on the run's clock
    proposal                the one that waits for an answer; `answers` to earlier ones, by number
    outcomes                of the switches, by the number of their decision
    problems                oldest first, the last 50
    """

    run: str = ""
    application: str = ""
    application_sha256: str = ""
    cluster: str = ""
    gpu_count: int = 0
    gpu_kind: str = "gpu"
    engine: str = ""
    seed: int = 0
    version: str = ""
    created_unix_s: float = 0.0

    status: Status = "planning"
    events: int = 0
    at_s: float = 0.0
    epoch: int = 0
    pid: int = 0
    planned: bool = False
    approved: bool = False
    approved_by: str = ""
    approved_rank: int = 0
    paused: bool = False
    draining: bool = False
    ended: RunEndStatus | None = None
    cause: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    started_s: float | None = None
    ended_s: float | None = None

    planning_s: float = 0.0
    lower_bound_s: float = 0.0
    samples: int = 0
    candidates: tuple[Candidate, ...] = ()
    plan: Candidate | None = None
    former_plans: list[tuple[float, Candidate]] = field(default_factory=list)
    replans: int = 0
    stage: int = -1
    placements: tuple[Placement, ...] = ()
    until: tuple[str, ...] = ()
    stages: list[tuple[float, int]] = field(default_factory=list)

    nodes: dict[str, NodeState] = field(default_factory=dict)
    llms: dict[str, LLMState] = field(default_factory=dict)
    replicas: dict[str, ReplicaState] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    quarantined: dict[int, str] = field(default_factory=dict)

    finished: int = 0
    errors: int = 0
    retries: int = 0
    late_answers: int = 0
    output_tokens: int = 0

    gpus: dict[int, GpuSample] = field(default_factory=dict)
    gpu_utilization: dict[int, list[float | None]] = field(default_factory=dict)
    host: HostSample | None = None
    throughput: list[tuple[float, float]] = field(default_factory=list)

    decisions: list[tuple[float, Decision]] = field(default_factory=list)
    forecasts: list[tuple[float, Band]] = field(default_factory=list)
    proposal: Proposed | None = None
    answers: dict[int, Answer] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    problems: list[SeenProblem] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return sum(node.requests for node in self.nodes.values())

    @property
    def forecast(self) -> Band | None:
        """The makespan as last expected: the latest forecast, else the plan's."""
        if self.forecasts:
            return self.forecasts[-1][1]
        return self.plan.makespan_s if self.plan else None

    @property
    def approved_plan(self) -> Candidate | None:
        """What the operator approved, whatever was made of it since."""
        return self.former_plans[0][1] if self.former_plans else self.plan

    @property
    def makespan_s(self) -> float | None:
        """From the first engine's start to the run's end, or to the last event while it goes on."""
        if self.started_s is None:
            return None
        return (self.at_s if self.ended_s is None else self.ended_s) - self.started_s


DECISIONS_LATER: dict[str, object] = {"number": 0, "margin": "", "gain_s": None}
"""Fields of decisions that early journals do not know. Decisions were hashed with their defaults from the beginning."""

T = TypeVar("T")


def _copied(value: T) -> T:
    """A copy as deep as the state is mutable: containers and mutable structs. Lists hold only frozen things."""
    if isinstance(value, dict):
        return type(value)((key, _copied(item)) for key, item in value.items())
    if isinstance(value, list):
        return copy(value)
    if isinstance(value, Struct) and not value.__struct_config__.frozen:
        return copy(value)
    return value


def copy_state(state: RunState) -> RunState:
    """An independent copy: events applied to one do not show in the other."""
    return RunState(*(_copied(getattr(state, name)) for name in RunState.__struct_fields__))


def state_sha256(state: RunState) -> str:
    """Hash of the state in canonical form: JSON, keys and fields sorted, shortest exact floats, no defaults."""
    plain = msgspec.to_builtins(state, str_keys=True, order="sorted")
    for _, decision in plain.get("decisions", ()):
        for name, default in DECISIONS_LATER.items():
            if decision[name] == default:
                del decision[name]
    return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()
