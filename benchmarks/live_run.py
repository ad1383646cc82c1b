"""A made-up run of 9 LLMs on 8 GPUs as its journal grows: what the console's budgets are measured on."""

from __future__ import annotations

import numpy as np

from samullm_tui.domain.event import (
    AnyEvent,
    Approved,
    Decided,
    Decision,
    EngineReady,
    EngineSample,
    EngineStarting,
    GpuSample,
    HostSample,
    NodeInfo,
    PlanningFinished,
    RequestFinished,
    RunCreated,
    Sampled,
    StageStarted,
    SupervisorStarted,
)
from samullm_tui.domain.plan import Band, Candidate, Placement, Plan, PlannedStage, Span, Stage

__all__ = ["DECISION_EVERY_S", "GPUS", "LLMS", "REQUESTS", "RUN", "opening", "second"]

RUN = "live"
GPUS = 8
LLMS = tuple(f"llm-{k}-{7 + 6 * (k % 3)}b" for k in range(9))
REQUESTS = 900_000
DECISION_EVERY_S = 10
GIB = 1024**3
END_S = 7_200.0
LOAD_S = 40.0

PLACEMENTS = tuple(Placement(llm, 1, 1, (gpu,)) for gpu, llm in enumerate(LLMS[:GPUS]))
LAST = Placement(LLMS[-1], 2, 4, tuple(range(GPUS)))


def _candidate() -> Candidate:
    """Eight LLMs side by side, the ninth after them."""
    stages = (Stage(PLACEMENTS, LLMS[:GPUS]), Stage((LAST,), (LLMS[-1],)))
    half = END_S / 2
    spans = [Span(placement.llm, placement.gpus, 0.0, LOAD_S, half) for placement in PLACEMENTS]
    spans += [Span(replica.llm, replica.gpus, half, half + LOAD_S, END_S) for replica in LAST.replicas]
    return Candidate(
        rank=1,
        plan=Plan(planner="benchmark", stages=stages),
        makespan_s=Band(END_S, 0.9 * END_S, END_S, 1.1 * END_S),
        gap=0.0,
        gpu_hours=GPUS * END_S / 3600,
        loads=12,
        stages=(
            PlannedStage(0.0, half, stages[0], (False,) * GPUS),
            PlannedStage(half, END_S, stages[1], (False,)),
        ),
        spans=tuple(spans),
        explanation=(),
    )


def opening() -> list[AnyEvent]:
    """Created, planned, approved, its first eight engines loaded: the journal up to `LOAD_S`."""
    replicas = [replica for placement in PLACEMENTS for replica in placement.replicas]
    return [
        RunCreated(
            at_s=0.0,
            run=RUN,
            application="benchmark",
            application_sha256="0" * 64,
            cluster="a100-80g:8",
            gpus=GPUS,
            gpu_kind="gpu",
            engine="simulated",
            seed=0,
            created_unix_s=1.7e9,
            nodes=tuple(NodeInfo(llm, llm, REQUESTS // len(LLMS), "data", ()) for llm in LLMS),
            llms=LLMS,
            version="0.1.0",
        ),
        SupervisorStarted(at_s=0.0, epoch=1, pid=1, unix_s=1.7e9),
        PlanningFinished(
            at_s=1.0, planning_s=1.0, lower_bound_s=0.9 * END_S, samples=20, candidates=(_candidate(),)
        ),
        Approved(at_s=1.0, rank=1, by="benchmark"),
        StageStarted(at_s=1.0, index=0, placements=PLACEMENTS, until=LLMS[:GPUS]),
        *[EngineStarting(at_s=1.0, replica=replica, attempt=1) for replica in replicas],
        *[
            EngineReady(at_s=LOAD_S, replica=replica, load_s=LOAD_S - 1, kv_blocks=4096)
            for replica in replicas
        ],
    ]


def second(number: int, finished: int) -> list[AnyEvent]:
    """The events of one second of the run, the first is 1: a sample, `finished` requests, now and then a decision."""
    rng = np.random.default_rng(number)
    at_s = LOAD_S + number
    events: list[AnyEvent] = [_sample(at_s, rng)]
    if number % DECISION_EVERY_S == 0:
        what = f"the plan stays: decision {number // DECISION_EVERY_S}"
        events.append(Decided(at_s=at_s, decision=Decision("keep", what, "lengths as expected")))
    for k in range(finished):
        placement = PLACEMENTS[k % GPUS]
        events.append(
            RequestFinished(
                at_s=at_s,
                node=placement.llm,
                id=f"{number}-{k}",
                llm=placement.llm,
                replica=placement.replicas[0].name,
                prompt_tokens=512,
                output_tokens=int(rng.integers(1, 512)),
                finish_reason="stop",
                sent_s=at_s - 5.0,
                offset=0,
            )
        )
    return events


def _sample(at_s: float, rng: np.random.Generator) -> Sampled:
    """Everything that is measured moves a little, as it does on real GPUs."""
    return Sampled(
        at_s=at_s,
        gpus=tuple(_gpu(index, rng) for index in range(GPUS)),
        engines=tuple(_engine(placement, rng) for placement in PLACEMENTS),
        host=HostSample(0.1, 200 * GIB, 1000 * GIB, 900 * GIB),
    )


def _gpu(index: int, rng: np.random.Generator) -> GpuSample:
    used = int((70 + rng.uniform(0, 2)) * GIB)
    return GpuSample(
        index, rng.uniform(0.9, 1.0), used, 80 * GIB, rng.uniform(350, 400), 60 + rng.uniform(0, 6)
    )


def _engine(placement: Placement, rng: np.random.Generator) -> EngineSample:
    running, waiting = (int(count) for count in rng.integers((200, 0), (256, 90)))
    name = placement.replicas[0].name
    return EngineSample(
        name, placement.llm, running, waiting, rng.uniform(0.6, 0.9), rng.uniform(2_000, 3_000)
    )
