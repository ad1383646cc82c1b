"""Sources without a machine behind them, and a recorded run made of events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from samullm_tui.console.reports import CheckReport
from samullm_tui.console.sources import Answer, Command, Place, Vitals
from samullm_tui.domain.application import LLM, Application, DataSet, Node
from samullm_tui.domain.errors import ApplicationError, ClusterError, Problem, RunError
from samullm_tui.domain.event import (
    Alternative,
    AnyEvent,
    Approved,
    Decided,
    Decision,
    EngineFailed,
    EngineReady,
    EngineSample,
    EngineStarting,
    EngineStopped,
    ForecastChanged,
    GpuSample,
    HostSample,
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
from samullm_tui.domain.length_report import LengthReport, RunLengths, SeenLengths
from samullm_tui.domain.plan import Band, Forecast, Replica, Span
from samullm_tui.domain.run_report import ErrorPart, PlanCompared, RunReport, ShapeSeen, TokensSeen
from samullm_tui.journal.timeline import Timeline
from samullm_tui.journal.writer import JournalWriter
from samullm_tui.supervisor.runs import RunSummary

FIXTURES = Path(__file__).parent / "fixtures"
GIB = 1024**3
FORECAST = msgspec.json.decode((FIXTURES / "forecast.json").read_bytes(), type=Forecast)
LENGTHS = msgspec.json.decode((FIXTURES / "lengths.json").read_bytes(), type=LengthReport)
RUN = "1121-chain-summary-a3f0"
REPORT = RunReport(
    run=RUN,
    predicted_s=424.0,
    actual_s=438.0,
    parts=(
        ErrorPart("lengths", 21.0),
        ErrorPart("latency", -9.5),
        ErrorPart("loads", 3.0),
        ErrorPart("dispatch", -0.5),
    ),
    tokens=(
        TokensSeen(llm="vicuna-13b", answers=1473, requests=1473, expected_tokens=300_000, tokens=333_000),
        TokensSeen(llm="Llama-2-70b", answers=399, requests=400, expected_tokens=158_800, tokens=155_047),
    ),
    shapes=(
        ShapeSeen(llm="vicuna-13b", tp=1, pace=1.02, planned_load_s=30.0, load_s=31.0),
        ShapeSeen(llm="Llama-2-70b", tp=2, pace=0.94, planned_load_s=62.0, load_s=65.0),
    ),
    plan=PlanCompared("greedy", 438.5),
    others=(PlanCompared("min-heuristic", 480.0), PlanCompared("max-heuristic", 520.0)),
    lower_bound_s=401.0,
    notes=("1 requests were sent again: that is in dispatch",),
)

APPLICATION = Application(
    name="chain-summary",
    title="folds over each book's chunks, then judges each summary ×4",
    file="/apps/chain-summary.toml",
    sha256="0" * 64,
    llms=(
        LLM(name="vicuna-13b", checkpoint="lmsys/vicuna-13b-v1.5", lengths="vicuna-13b-v1.5", context=4096),
        LLM(
            name="Llama-2-70b",
            checkpoint="meta-llama/Llama-2-70b-chat-hf",
            lengths="x",
            context=4096,
            tp=(2, 4),
        ),
    ),
    data=(DataSet(name="books", synthetic={"records": 100}),),
    nodes=(
        Node(name="summarise", llm="vicuna-13b", data="books", prompt="{item}", chain="chunks"),
        Node(
            name="judge", llm="Llama-2-70b", data="books", prompt="{summarise}", sources=("summarise",), n=4
        ),
    ),
)
SEEN = RunLengths(
    report=LENGTHS,
    seen=tuple(
        SeenLengths(
            llm=row.llm,
            answers=1194,
            running=96,
            requests=1473,
            mean=231.0,
            p50=160.0,
            p90=548.0,
            p99=900.0,
            max=2010.0,
            cut_share=0.001,
            judged=1100,
            judged_mean=238.0,
            expected_mean=214.4,
            ks=0.07 if k == 0 else 0.02,
            drift=k == 0,
            cdf=tuple(value**1.2 for value in row.cdf),
        )
        for k, row in enumerate(LENGTHS.llms)
    ),
    simulated=True,
)
PROBLEMS = (
    Problem(
        "/apps/broken.toml",
        "nodes.judge.llm",
        "there is no LLM 'Llama-2-7b'",
        "one of vicuna-13b, Llama-2-70b",
    ),
    Problem("/apps/broken.toml", "llms.vicuna-13b.context", "-5 is out of range", "at least 1"),
)
PLACE = Place("a100-80g:8", "8 × A100-80GB", "simulated", 8, present=False, notes=("engine: simulated",))


def summary(run: str, status: str, outputs: int, errors: int = 0) -> RunSummary:
    alive = status in {"running", "paused", "draining", "planning", "waiting for approval"}
    return RunSummary(
        run=run,
        application="chain-summary",
        status=status,  # type: ignore[arg-type]
        pid=4711 if alive else None,
        heartbeat_age_s=0.4 if alive else None,
        requests=1873,
        outputs=outputs,
        errors=errors,
        directory=f"/runs/{run}",
    )


RUNS = (
    summary(RUN, "running", 1200, 1),
    summary("1120-ensembling-77c1", "succeeded", 1873),
    summary("1119-mixed-01bd", "interrupted", 811, 2),
    summary("1118-routing-9e4a", "failed", 1790, 83),
)


class FakeTail:
    """Gives all events at the first poll, then what was added."""

    def __init__(self, events: Sequence[AnyEvent]) -> None:
        self.events = list(events)

    def poll(self, max_bytes: int = -1) -> list[AnyEvent]:
        events, self.events = self.events, []
        return events


class FakeSources:
    """Everything outside of the console, from memory. `calls` notes what it was asked to do."""

    def __init__(self, folder: Path, events: Sequence[AnyEvent] = ()) -> None:
        self.folder_of_tests = folder
        self.tail_of_run = FakeTail(events)
        self.calls: list[tuple[object, ...]] = []
        self.app = APPLICATION
        self.forecast_result: Forecast = FORECAST
        self.listed: list[RunSummary] = list(RUNS)
        self.vitals_of_run = Vitals(alive=True)
        self.place_of_run = PLACE
        self.gpus: tuple[GpuSample, ...] = ()
        self.planning_may_end = asyncio.Event()
        self.planning_may_end.set()
        self.cancelled = False
        self.refuse: RunError | None = None
        self.place_error: ClusterError | None = None
        self.theme = ""
        self.report_of_run = REPORT

    def place(self) -> Place:
        if self.place_error:
            raise self.place_error
        return self.place_of_run

    def applications(self) -> Sequence[Path]:
        return [Path("/apps/broken.toml"), Path("/apps/chain-summary.toml")]

    def recordings(self) -> Sequence[Path]:
        return sorted(self.folder_of_tests.glob("*.jsonl"))

    def runs(self) -> Sequence[RunSummary]:
        return list(self.listed)

    def load(self, path: Path) -> Application:
        if path.stem == "broken":
            raise ApplicationError(PROBLEMS)
        return self.app

    def timeline(self, path: Path) -> Timeline:
        return Timeline(path)

    def tail(self, run: str) -> FakeTail:
        return self.tail_of_run

    def vitals(self, run: str) -> Vitals:
        return self.vitals_of_run

    def folder(self, run: str) -> Path:
        return self.folder_of_tests / "recorded-run.jsonl"

    async def check(self, path: Path) -> CheckReport:
        return CheckReport(application=self.app.name, requests=self.forecast_result.requests)

    async def forecast(self, path: Path, pins: Sequence[str] = (), draws: int | None = None) -> Forecast:
        if pins:
            self.calls.append(("forecast", *pins, draws))
        try:
            await self.planning_may_end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if pins and self.refuse:
            raise self.refuse
        if not pins:
            return self.forecast_result
        # The second best plan stands for the best that keeps the pins.
        return replace(self.forecast_result, candidates=self.forecast_result.candidates[1:])

    async def lengths(self, path: Path) -> LengthReport:
        return LENGTHS

    async def report(self, path: Path) -> RunReport:
        self.calls.append(("report", path.name))
        await self.planning_may_end.wait()
        if self.refuse:
            raise self.refuse
        return self.report_of_run

    async def run_lengths(self, path: Path, until_s: float | None = None) -> RunLengths:
        self.calls.append(("lengths", path.name, until_s))
        if self.refuse:
            raise self.refuse
        return SEEN

    def export(self, name: str, text: str) -> Path:
        (self.folder_of_tests / name).write_text(text)
        return Path("/here") / name

    def gpus_now(self) -> Sequence[GpuSample]:
        return self.gpus

    async def launch(self, application: Path, forecast: Forecast, rank: int) -> str:
        self.calls.append(("launch", application.name, rank))
        if self.refuse:
            raise self.refuse
        return RUN

    def resume(self, run: str) -> None:
        self.calls.append(("resume", run))

    def control(self, run: str, command: Command) -> str:
        self.calls.append(("control", run, command))
        if self.refuse:
            raise self.refuse
        return {"pause": "paused", "drain": "draining", "stop": "draining"}.get(command, "running")

    def replan(self, run: str) -> str:
        self.calls.append(("replan", run))
        if self.refuse:
            raise self.refuse
        return "a decision is on its way"

    def answer(self, run: str, number: int, answer: Answer) -> str:
        self.calls.append(("answer", run, number, answer))
        if self.refuse:
            raise self.refuse
        return "running"

    def approve(self, run: str, rank: int) -> str:
        self.calls.append(("approve", run, rank))
        return "running"

    def saved_theme(self) -> str:
        return self.theme

    def save_theme(self, name: str) -> None:
        self.theme = name


# A recorded run


def beginning(kind: str = "gpu", engine: str = "simulated") -> list[AnyEvent]:
    """Created, planned, not approved."""
    nodes = (
        NodeInfo("summarise", "vicuna-13b", 1473, "books", ()),
        NodeInfo("judge", "Llama-2-70b", 400, "books", ("summarise",)),
    )
    return [
        RunCreated(
            at_s=0.0,
            run=RUN,
            application="chain-summary",
            application_sha256="0" * 64,
            cluster="a100-80g:8",
            gpus=8,
            gpu_kind=kind,  # type: ignore[arg-type]
            engine=engine,  # type: ignore[arg-type]
            seed=0,
            created_unix_s=1.7e9,
            nodes=nodes,
            llms=("vicuna-13b", "Llama-2-70b"),
            version="0.1.0",
        ),
        SupervisorStarted(at_s=0.0, epoch=1, pid=4711, unix_s=1.7e9),
        PlanningFinished(
            at_s=1.3, planning_s=1.3, lower_bound_s=286.0, samples=20, candidates=FORECAST.candidates
        ),
    ]


def middle() -> list[AnyEvent]:
    """Approved, in the second minute of its first stage, with some trouble behind it."""
    plan = FORECAST.candidates[0]
    replicas = plan.plan.stages[0].replicas
    events: list[AnyEvent] = [
        Approved(at_s=2.0, rank=1, by="console"),
        StageStarted(at_s=2.0, index=0, placements=plan.plan.stages[0].placements, until=("vicuna-13b",)),
        Decided(
            at_s=2.0,
            decision=Decision(
                "start", "stage 1 of 2: vicuna-13b tp1 ×6, Llama-2-70b tp2 ×1", "plan 1 approved"
            ),
        ),
        *[EngineStarting(at_s=2.0, replica=replica, attempt=1) for replica in replicas],
    ]
    for replica in replicas:
        load_s = 30.0 if replica.llm == "vicuna-13b" else 62.0
        events.append(EngineReady(at_s=2.0 + load_s, replica=replica, load_s=load_s, kv_blocks=3727))
    events += [sample(at_s, replicas) for at_s in range(3, 90, 3)]
    events += [done(i, 40.0 + i * 0.1) for i in range(400)]
    events += trouble(replicas[1])
    return sorted(events, key=lambda event: event.at_s)


def sample(at_s: float, replicas: Sequence[Replica]) -> Sampled:
    serving = [r for r in replicas if at_s > (32 if r.llm == "vicuna-13b" else 64)]
    engines = [EngineSample(r.name, r.llm, 16, 0, 0.6, 400.0 + 10 * (at_s % 7)) for r in serving]
    busy = {gpu for replica in serving for gpu in replica.gpus}
    gpus = [
        GpuSample(gpu, 0.94 if gpu in busy else 0.0, (71 if gpu in busy else 12) * GIB, 80 * GIB, 388.0, 64.0)
        for gpu in range(8)
    ]
    host = HostSample(0.12, 200 * GIB, 1000 * GIB, 900 * GIB)
    return Sampled(at_s=float(at_s), gpus=tuple(gpus), engines=tuple(engines), host=host)


def done(i: int, at_s: float) -> RequestFinished:
    return RequestFinished(
        at_s=at_s,
        node="summarise",
        id=f"book-{i}",
        llm="vicuna-13b",
        replica=f"vicuna-13b.{2 + i % 6}",
        prompt_tokens=2048,
        output_tokens=200,
        finish_reason="stop",
        sent_s=at_s - 5.0,
        offset=i * 100,
    )


def trouble(replica: Replica) -> list[AnyEvent]:
    compared = (
        Alternative("stay", 451.0, None),
        Alternative("Llama-2-70b tp2 ×1 → ×2 on GPU 2–3", 420.0, 46.0),
        Alternative("Llama-2-70b tp2 → tp4", None, None),
    )
    saw = "vicuna-13b runs 9 % slower than planned; 1,020 lengths seen, 11 % longer than expected"
    keep = Decision("keep", "the plan stays: the best change saves 3s and costs 46s", saw, compared, 0)
    switch = Decision("switch", "Llama-2-70b tp2 ×1 → ×2 on GPU 2–3: saves 31s", saw, compared, 1)
    return [
        Decided(at_s=70.0, decision=keep),
        ForecastChanged(at_s=70.1, makespan_s=Band(460.0, 450.0, 461.0, 480.0)),
        EngineFailed(at_s=75.0, replica=replica, cause="CUDA out of memory", gave_up=False),
        RequestRetried(
            at_s=75.1, node="summarise", id="book-17", replica=replica.name, cause="its engine failed"
        ),
        EngineStarting(at_s=76.0, replica=replica, attempt=2),
        RequestFailed(
            at_s=80.0, node="summarise", id="book-9", llm="vicuna-13b", cause="prompt too long", offset=0
        ),
        Decided(at_s=85.0, decision=switch),
        ForecastChanged(at_s=85.1, makespan_s=Band(430.0, 420.0, 431.0, 445.0)),
    ]


def proposed(at_s: float = 88.0, deadline_s: float = 148.0) -> list[AnyEvent]:
    """The rescheduler asks whether it may switch."""
    decision = Decision(
        "switch",
        "Llama-2-70b tp2 ×1 → ×3 on GPU 2–7: saves 1m 02s, costs 62s of loading",
        "vicuna-13b has finished; Llama-2-70b: 282 requests left, residual mean 371 tokens (prior 402)",
        (
            Alternative("stay", 493.0, 0.0),
            Alternative("Llama-2-70b tp2 ×1 → ×3 on GPU 2–7", 431.0, 62.0),
            Alternative("Llama-2-70b tp2 ×1 → tp4 ×2 on GPU 0–7, everything else as it is", 470.0, 81.0),
        ),
        1,
        number=1,
        margin="over 10 s, and sooner in 80 % of the draws",
        gain_s=62.0,
    )
    return [Proposed(at_s=at_s, number=1, decision=decision, deadline_s=deadline_s)]


def switched(at_s: float = 95.0) -> list[AnyEvent]:
    """The operator accepted, the rest of the plan is another, and what came of it."""
    (asked,) = proposed()
    assert isinstance(asked, Proposed)
    plan = replace(
        FORECAST.candidates[1],
        makespan_s=Band(431.0, 420.0, 431.0, 445.0),
        spans=tuple(Span("Llama-2-70b", (gpu, gpu + 1), at_s, at_s + 62.0, 431.0) for gpu in (2, 4, 6)),
    )
    return [
        ProposalAnswered(at_s=at_s, number=1, answer="accepted", by="console"),
        Decided(at_s=at_s, decision=asked.decision),
        Replanned(at_s=at_s, number=1, plan=plan, by="console"),
        Outcome(at_s=at_s + 60.0, number=1, predicted_s=431.0, ended_s=440.0, stay_s=493.0),
    ]


def ending() -> list[AnyEvent]:
    plan = FORECAST.candidates[0]
    stopped = [
        EngineStopped(at_s=440.0, replica=r, reason="the run ended") for r in plan.plan.stages[0].replicas
    ]
    finish = Decision("finish", "the run ends", "all 1,873 requests ended, 1 of them in an error")
    return [
        *stopped,
        Decided(at_s=440.0, decision=finish),
        RunEnded(at_s=440.0, status="succeeded", counts={}),
    ]


def write_journal(path: Path, events: Sequence[AnyEvent]) -> Path:
    with JournalWriter(path) as journal:
        for event in events:
            journal.append(event)
    return path
