"""A small run with every kind of event, and a strategy for any event at all."""

from __future__ import annotations

import types
import typing
from typing import Any, Literal, get_args, get_origin

from hypothesis import strategies as st
from msgspec import Struct

from samullm_tui.domain import event as events
from samullm_tui.domain.event import (
    Alternative,
    AnyEvent,
    Approved,
    ControlReceived,
    Decided,
    Decision,
    EngineFailed,
    EngineReady,
    EngineSample,
    EngineStarting,
    EngineStopped,
    ForecastChanged,
    GpuQuarantined,
    GpuSample,
    HostSample,
    LateAnswerDropped,
    NodeInfo,
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
from samullm_tui.domain.plan import Band, Candidate, Placement, Plan, PlannedStage, Replica, Span, Stage

A0, A1 = Replica("small", (0,)), Replica("small", (1,))
B01 = Replica("large", (0, 1))
GIB = 1024**3

FIRST = Stage((Placement("small", 1, 2, (0, 1)),), ("small",), "the summaries come first")
SECOND = Stage((Placement("large", 2, 1, (0, 1)),), ("large",))
CANDIDATE = Candidate(
    rank=1,
    plan=Plan(planner="greedy", stages=(FIRST, SECOND)),
    makespan_s=Band(60.0, 55.0, 60.0, 66.5),
    gap=0.04,
    gpu_hours=0.033,
    loads=3,
    stages=(PlannedStage(0.0, 30.0, FIRST, (False,)), PlannedStage(30.0, 60.0, SECOND, (False,))),
    spans=(Span("small", (0,), 0.0, 5.0, 30.0), Span("large", (0, 1), 30.0, 40.0, 60.0)),
    explanation=("nothing runs beside the summaries",),
)
REST = Candidate(
    rank=1,
    plan=Plan(planner="search", stages=(SECOND,)),
    makespan_s=Band(59.0, 57.0, 58.5, 63.0),
    gap=0.0,
    gpu_hours=0.02,
    loads=1,
    stages=(PlannedStage(28.5, 58.5, SECOND, (False,)),),
    spans=(Span("large", (0, 1), 28.5, 38.5, 58.5),),
    explanation=(),
)


def created(run: str = "example") -> RunCreated:
    return RunCreated(
        at_s=0.0,
        run=run,
        application="chain-summary",
        application_sha256="00ff",
        cluster="a100-80g:2",
        gpus=2,
        gpu_kind="gpu",
        engine="simulated",
        seed=7,
        created_unix_s=1_700_000_000.25,
        nodes=(NodeInfo("summary", "small", 3, "books", ()), NodeInfo("judge", "large", 2, "books", ("summary",))),
        llms=("small", "large"),
        version="0.1.0",
    )  # fmt: skip


def finished(at_s: float, node: str, id: str, replica: Replica, offset: int) -> RequestFinished:  # noqa: A002
    return RequestFinished(
        at_s=at_s,
        node=node,
        id=id,
        llm=replica.llm,
        replica=replica.name,
        prompt_tokens=100,
        output_tokens=20,
        finish_reason="stop",
        sent_s=at_s - 1.5,
        offset=offset,
    )


def sampled(at_s: float, *engines: EngineSample) -> Sampled:
    gpus = tuple(
        GpuSample(k, 0.5 + 0.25 * k, 40 * GIB, 80 * GIB, 310.5, 61.0, simulated=True) for k in range(2)
    )
    return Sampled(at_s=at_s, gpus=gpus, engines=engines, host=HostSample(0.125, GIB, 16 * GIB, 200 * GIB))


def beginning() -> list[AnyEvent]:
    return [
        created(),
        SupervisorStarted(at_s=0.0, epoch=1, pid=4242, unix_s=1_700_000_000.5),
        PlanningFinished(at_s=1.5, planning_s=1.25, lower_bound_s=50.0, samples=20, candidates=(CANDIDATE,)),
        Approved(at_s=2.0, rank=1, by="operator"),
        StageStarted(at_s=2.0, index=0, placements=FIRST.placements, until=FIRST.until),
        EngineStarting(at_s=2.0, replica=A0, attempt=1),
        EngineStarting(at_s=2.0, replica=A1, attempt=1),
        EngineReady(at_s=7.0, replica=A0, load_s=5.0, kv_blocks=1000),
    ]


def small_run() -> list[AnyEvent]:
    """Every kind of event at least once: an engine fails, a supervisor is replaced, all five requests end."""
    stay, move = Alternative("stay", 70.0), Alternative("large on 0,1", 58.5, 10.0)
    switch = Decision(
        "switch",
        "large on 0,1",
        "small is done",
        (stay, move),
        1,
        number=1,
        margin="10 s or 3 %",
        gain_s=11.5,
    )
    return [
        *beginning(),
        EngineFailed(at_s=8.0, replica=A1, cause="CUDA out of memory ␛[31m", gave_up=False),
        GpuQuarantined(at_s=8.5, gpu=1, cause="30.0 of its 80.0 GiB are in use"),
        EngineStarting(at_s=9.0, replica=A1, attempt=2),
        EngineReady(at_s=14.0, replica=A1, load_s=5.0),
        sampled(15.0, EngineSample(A0.name, "small", 1, 0, 0.25, 40.0), EngineSample(A1.name, "small", 1, 1, None, 2.5)),
        finished(16.0, "summary", "1", A0, 0),
        RequestRetried(at_s=16.5, node="summary", id="2", replica=A1.name, cause="the engine went away"),
        LateAnswerDropped(at_s=16.75, node="summary", id="2", replica=A1.name),
        ControlReceived(at_s=17.0, command="pause", by="console"),
        SupervisorStarted(at_s=20.0, epoch=2, pid=4343, unix_s=1_700_000_100.0),
        EngineStarting(at_s=20.0, replica=A0, attempt=1),
        EngineReady(at_s=25.0, replica=A0, load_s=5.0),
        finished(26.0, "summary", "2", A0, 180),
        RequestFailed(at_s=27.0, node="summary", id="3", llm="small", cause="prompt too long", offset=0),
        Proposed(at_s=27.5, number=1, decision=switch, deadline_s=57.5),
        ProposalAnswered(at_s=28.0, number=1, answer="accepted", by="operator"),
        Decided(at_s=28.0, decision=switch),
        ForecastChanged(at_s=28.0, makespan_s=Band(69.0, 67.0, 68.5, 73.0)),
        Replanned(at_s=28.0, number=1, plan=REST, by="rescheduler"),
        EngineStopped(at_s=28.5, replica=A0, reason="the stage ended"),
        StageStarted(at_s=29.0, index=0, placements=SECOND.placements, until=SECOND.until),
        EngineStarting(at_s=29.0, replica=B01, attempt=1),
        EngineReady(at_s=39.0, replica=B01, load_s=10.0, kv_blocks=400),
        sampled(40.0, EngineSample(B01.name, "large", 2, 0, 0.75, 0.1)),
        finished(50.0, "judge", "1", B01, 360),
        finished(55.5, "judge", "2", B01, 540),
        Outcome(at_s=56.0, number=1, predicted_s=58.5, ended_s=56.0, stay_s=70.0, final=True),
        RunEnded(at_s=56.0, status="succeeded", counts={"outputs": 4, "errors": 1}),
    ]  # fmt: skip


# --- any event: values are drawn by the types of the fields ---

NAMES = st.sampled_from(["small", "large", "small.0", "large.0-1", "summary", "judge", "1", "2", "␛[0m"])
NUMBERS: dict[type, st.SearchStrategy[Any]] = {
    str: NAMES,
    int: st.integers(0, 3),
    float: st.floats(0, 1e6),
    bool: st.booleans(),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    origin, args = get_origin(kind), get_args(kind)
    if kind in NUMBERS:
        return NUMBERS[kind]
    if kind is types.NoneType:
        return st.none()
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=3)
    if origin in {types.UnionType, typing.Union}:
        return st.one_of(*map(values, args))
    assert issubclass(kind, Struct), kind
    return structs(kind)


def structs(kind: type[Struct]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    fields = {name: st.deferred(lambda hint=hints[name]: values(hint)) for name in kind.__struct_fields__}
    return st.fixed_dictionaries(fields).map(lambda drawn: kind(**drawn))


EVENTS: st.SearchStrategy[list[AnyEvent]] = st.lists(
    st.one_of(*(structs(kind) for kind in get_args(events.AnyEvent))), max_size=30
)
