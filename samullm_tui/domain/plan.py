"""A plan: stages in order, each a set of placements; and what simulating it said."""

from __future__ import annotations

from msgspec import Struct

__all__ = [
    "Band",
    "Candidate",
    "Forecast",
    "GpuTime",
    "Placement",
    "Plan",
    "PlannedStage",
    "Replica",
    "Span",
    "Stage",
    "faster_draws",
]


class Replica(Struct, frozen=True):
    """One engine of a placement: which LLM, on which GPUs (their number is its tp)."""

    llm: str
    gpus: tuple[int, ...]

    @property
    def tp(self) -> int:
        return len(self.gpus)

    @property
    def name(self) -> str:
        """Unique while it runs: an LLM never has two engines on one GPU."""
        return f"{self.llm}.{'-'.join(map(str, self.gpus))}"


class Placement(Struct, frozen=True):
    """`dp` engines of `llm`, each on `tp` GPUs: engine k has gpus[k·tp : (k+1)·tp]."""

    llm: str
    tp: int
    dp: int
    gpus: tuple[int, ...]

    @property
    def replicas(self) -> tuple[Replica, ...]:
        return tuple(Replica(self.llm, self.gpus[k * self.tp : (k + 1) * self.tp]) for k in range(self.dp))


class Stage(Struct, frozen=True):
    """Placements that run together until every LLM in `until` has finished all its requests.

    A replica with the same LLM and GPUs in the next stage is kept: it goes on without a load.
    The last stage ends when everything is finished, whatever its `until`.
    """

    placements: tuple[Placement, ...]
    until: tuple[str, ...]
    why: str = ""

    @property
    def replicas(self) -> tuple[Replica, ...]:
        return tuple(r for placement in self.placements for r in placement.replicas)


class Plan(Struct, frozen=True, kw_only=True):
    """Stages in order. `planner` names who made it."""

    planner: str
    stages: tuple[Stage, ...]


class Band(Struct, frozen=True):
    """A quantity over sampled output lengths, in seconds."""

    mean: float
    p10: float
    p50: float
    p90: float


class Span(Struct, frozen=True):
    """One engine's life for a Gantt chart: loading from start_s to ready_s, serving until end_s.

    `ready_s` and `end_s` are None while that has not happened.
    """

    llm: str
    gpus: tuple[int, ...]
    start_s: float
    ready_s: float | None
    end_s: float | None


class GpuTime(Struct, frozen=True):
    """Where GPU-seconds go; together all that the cluster has in that time.

    computing  engines work on requests
    loading    engines start
    waiting    engines stand still until a source's outputs come
    idle       engines have no request left
    empty      no engine has the GPU
    """

    computing: float = 0.0
    loading: float = 0.0
    waiting: float = 0.0
    idle: float = 0.0
    empty: float = 0.0

    @property
    def total(self) -> float:
        return self.computing + self.loading + self.waiting + self.idle + self.empty

    def __add__(self, other: GpuTime) -> GpuTime:
        return GpuTime(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))


class PlannedStage(Struct, frozen=True, omit_defaults=True):
    """A stage with its simulated times (in the draw whose makespan is the median)."""

    start_s: float
    end_s: float
    stage: Stage
    kept: tuple[bool, ...]
    """For each placement of the stage: whether all its replicas were running before."""
    gpu_time: GpuTime = GpuTime()


class Candidate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One plan with its simulated makespan. All figures are simulated.

    `makespans_s` has one entry for each draw of the lengths that it was simulated on, the same draws for all
    candidates of a forecast as far as they go.
    """

    rank: int
    plan: Plan
    makespan_s: Band
    gap: float
    gpu_hours: float
    loads: int
    stages: tuple[PlannedStage, ...]
    spans: tuple[Span, ...]
    explanation: tuple[str, ...]
    makespans_s: tuple[float, ...] = ()

    @property
    def draws(self) -> int:
        return len(self.makespans_s)


def faster_draws(one: Candidate, other: Candidate) -> tuple[int, int]:
    """(draws in which `one` is faster than `other`, draws that both were simulated on)."""
    pairs = list(zip(one.makespans_s, other.makespans_s, strict=False))
    return sum(a < b for a, b in pairs), len(pairs)


class Forecast(Struct, frozen=True, kw_only=True):
    """What planning an application on a cluster gave: candidates, best first.

    application_sha256  of the application's file as it was planned
    samples             draws of the lengths that the best candidate was simulated on
    estimated           LLMs whose latency or lengths were never measured, with what was used instead
    pins                what the operator prescribed, in words
    notes               what else the reader should know
    """

    application: str
    application_sha256: str
    cluster: str
    planning_s: float
    lower_bound_s: float
    samples: int
    seed: int
    quantile: float
    requests: dict[str, int]
    estimated: dict[str, str]
    candidates: tuple[Candidate, ...]
    pins: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
